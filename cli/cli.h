/* What the verbs share: arguments, the joined config tables, exit codes. Only cli/ prints to people and exits. */
#ifndef HONE_CLI_CLI_H
#define HONE_CLI_CLI_H

#include <stdbool.h>

#include "core/config.h"
#include "core/error.h"
#include "core/tensor.h"
#include "data/config.h"
#include "eval/config.h"
#include "train/config.h"

enum { HN_EXIT_DONE = 0, HN_EXIT_FAILED = 1, HN_EXIT_USAGE = 2, HN_EXIT_STOPPED = 75 };

typedef struct hn_verb {
    const char *name, *arguments, *summary, *help;
    int (*run)(int argc, char **argv); /* arguments after the verb's name */
} hn_verb;

extern const hn_verb hn_verbs[];
extern const int hn_verb_count;

int hn_verb_train(int argc, char **argv);
int hn_verb_eval(int argc, char **argv);
int hn_verb_predict(int argc, char **argv);
int hn_verb_generate(int argc, char **argv);
int hn_verb_chat(int argc, char **argv);
int hn_verb_tokenize(int argc, char **argv);
int hn_verb_data(int argc, char **argv);
int hn_verb_plan(int argc, char **argv);
int hn_verb_import(int argc, char **argv);
int hn_verb_export(int argc, char **argv);
int hn_verb_verify(int argc, char **argv);
int hn_verb_keys(int argc, char **argv);

/* The exit code of a status; fail also prints "hone: MESSAGE" on stderr. */
int hn_cli_code(const hn_error *error);
int hn_cli_fail(const hn_error *error);
/* A line on stderr. */
void hn_cli_notice(const char *text);
/* The words of a verb taken apart: at most `max` plain words, KEY=VALUE overrides, and the flags that the verb knows (a
 * NULL-terminated list of names; found[i] is set). Anything else is an error that names it. */
typedef struct hn_arguments {
    const char *words[4];
    int word_count;
    const char *const *overrides; /* borrowed from argv's storage */
    int override_count;
    bool found[8];
} hn_arguments;
hn_status hn_cli_arguments(hn_arguments *out, int argc, char **argv, int min, int max, const char *const *flags,
                           hn_error *error);

/* Takes "--type NAME" out of the words, for a verb that writes weights; *out stays as it is without. */
hn_status hn_cli_take_type(hn_dtype *out, int *argc, char **argv, hn_error *error);

enum { HN_CLI_TABLES = 3 };

/* The whole config: the sections of all rooms that have one, parsed. */
typedef struct hn_cli_config {
    hn_train_config train;
    hn_data_config data;
    hn_eval_config eval;
    hn_key_table tables[HN_CLI_TABLES];
    hn_config *config;
} hn_cli_config;

void hn_cli_tables(hn_cli_config *config);
hn_status hn_cli_config_load(hn_cli_config *out, const char *path, const char *const *overrides, int count, bool partial,
                             hn_error *error);
/* For verbs that take a MODEL: a run folder's own config is the base, so that fields and limits are those of training. */
hn_status hn_cli_model_config(hn_cli_config *out, const char *model, const char *const *overrides, int count,
                              hn_error *error);
void hn_cli_config_close(hn_cli_config *config);

/* Multiple choice with `model`: of hone eval when choices.files is given. each: a line a question. */
hn_status hn_cli_choices(const char *model, const hn_cli_config *config, bool json, bool each, hn_error *error);

/* Labels by inference: of hone eval when zero_shot.files is given. each: a line a text. */
hn_status hn_cli_zero_shot(const char *model, const hn_cli_config *config, bool json, bool each, hn_error *error);

/* Set by SIGINT, SIGTERM and SIGUSR1 once hn_cli_signals was called; a second SIGINT ends the process at once. SIGPIPE is
 * ignored from then on. */
extern volatile int hn_cli_stop;
void hn_cli_signals(void);
bool hn_cli_colour(int fd);

#endif
