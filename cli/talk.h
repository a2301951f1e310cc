/* A language model, ready to answer: what generate and chat share. */
#ifndef HONE_CLI_TALK_H
#define HONE_CLI_TALK_H

#include "cli/cli.h"
#include "cli/options.h"
#include "data/template.h"
#include "infer/generate.h"
#include "infer/source.h"

/* The options of both verbs. */
typedef struct hn_talk_options {
    hn_sampling sampling;
    int32_t max_tokens, context;
    hn_option_texts stops;
    const char *system, *tmpl; /* NULL: not given */
    bool sampled; /* an option was given that only sampling has */
} hn_talk_options;

enum { HN_TALK_OPTIONS = 11 };
/* Sets the defaults and fills the first HN_TALK_OPTIONS entries of a table. */
void hn_talk_options_init(hn_talk_options *options, hn_option table[HN_TALK_OPTIONS]);
/* What the table cannot check. */
hn_status hn_talk_options_check(const hn_talk_options *options, hn_error *error);

typedef struct hn_talk {
    hn_source *source;
    hn_template *tmpl; /* NULL: not asked for */
    hn_runner runner;
    hn_generator *generator;
    int32_t *stop_ids; /* the template's and the model's */
    size_t stop_id_count;
    int32_t positions; /* of the model */
} hn_talk;

/* Opens MODEL, which must be a language model, and with `conversation` the template: the one that the options or the config name, else
 * the model's own. */
hn_status hn_talk_open(hn_talk *out, const char *path, const hn_cli_config *config, const hn_talk_options *options,
                       bool conversation, hn_error *error);
/* Allocates, and loads the weights. `capacity` tokens at most the positions. */
hn_status hn_talk_start(hn_talk *talk, const hn_cli_config *config, int32_t sequences, int32_t capacity, hn_error *error);
/* The options as hn_generate takes them; views of both. */
hn_generate_options hn_talk_generate_options(const hn_talk *talk, const hn_talk_options *options);
void hn_talk_close(hn_talk *talk);
/* A line on stderr: how many tokens, how fast. */
void hn_talk_print_rate(const hn_generate_stats *stats);

#endif
