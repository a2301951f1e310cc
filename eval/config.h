/* The config sections that evaluation owns: choices (multiple choice), zero_shot. */
#ifndef HONE_EVAL_CONFIG_H
#define HONE_EVAL_CONFIG_H

#include "core/config.h"

typedef struct hn_eval_config {
    struct {
        hn_list files, examples;
        int64_t shots, every;
        int answers;   /* hn_answer_kind */
        int normalize; /* hn_choice_norm */
        const char *heading, *prompt;
        const char *question, *options, *answer, *subject; /* names of fields */
    } choices;
    struct {
        hn_list files, labels;
        hn_map label_map;
        bool multi_label;
        const char *hypothesis, *entailment, *contradiction;
        const char *text, *label; /* names of fields */
    } zero_shot;
} hn_eval_config;

extern const hn_key hn_eval_keys[];
extern const size_t hn_eval_key_count;

#endif
