/* Multiple choice by likelihood: of a question's options the one whose tokens a language model finds most probable behind the prompt
 * (Brown et al. 2020; the questions of MMLU, Hendrycks et al. 2021).
 *
 *     hn_prompts_open (eval/prompts.h) -> hn_choices_open -> hn_choices_alloc -> hn_choices_run -> hn_choices_free */
#ifndef HONE_EVAL_MULTIPLE_CHOICE_H
#define HONE_EVAL_MULTIPLE_CHOICE_H

#include "eval/prompts.h"
#include "infer/runner.h"

/* What an option's sum of log-probabilities is divided by. */
typedef enum hn_choice_norm { HN_CHOICE_SUM, HN_CHOICE_PER_TOKEN, HN_CHOICE_PER_CHARACTER } hn_choice_norm;

typedef struct hn_choices_options {
    int kind;          /* hn_answer_kind, as the prompts were made */
    int normalize;     /* hn_choice_norm; characters are those of the option alone */
    int32_t tokens;    /* of one forward, unless a prompt has more */
    int32_t sequences; /* questions side by side; at least 1 */
    int32_t cached;    /* tokens whose keys and values are held, unless a prompt has more */
} hn_choices_options;

typedef struct hn_choice {
    const hn_question *question;
    const double *score; /* [option_count] */
    int32_t chosen;      /* of equal scores the first */
    int32_t shots;
} hn_choice;
typedef hn_status (*hn_choice_callback)(void *context, const hn_choice *choice, hn_error *error);

typedef struct hn_choices hn_choices;

/* What the runner must be opened for (hn_runner_options.evaluation), for prompts up to `longest` tokens. */
hn_bounds hn_choices_bounds(const hn_choices_options *options, int32_t longest);
/* Counts; borrows prompts and runner. The model is a language model. */
hn_status hn_choices_open(hn_choices **out, hn_runner *runner, const hn_prompts *prompts, const hn_choices_options *options,
                          hn_error *error);
hn_status hn_choices_alloc(hn_choices *choices, hn_error *error);
/* Calls `callback` for each prompt in order. *stop (may be NULL) ends it with HN_ERR_INTERRUPTED. */
hn_status hn_choices_run(hn_choices *choices, hn_choice_callback callback, void *context, const volatile int *stop,
                         hn_error *error);
void hn_choices_free(hn_choices *choices);

#endif
