/* The config section that evaluation owns: choices (multiple choice). */
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
} hn_eval_config;

extern const hn_key hn_eval_keys[];
extern const size_t hn_eval_key_count;

#endif
