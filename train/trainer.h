/* The training loop: fine-tunes a model as the config says, from the start or from where the run folder stopped.
 *
 * A run folder: config.json (resolved), metrics.jsonl, checkpoints/step-N/, best/ and final/ (Hugging Face folders). */
#ifndef HONE_TRAIN_TRAINER_H
#define HONE_TRAIN_TRAINER_H

#include <stdbool.h>
#include <stdio.h>

#include "core/config.h"
#include "core/error.h"
#include "train/job.h"
#include "train/ranks.h"

typedef struct hn_train_options {
    const hn_key_table *tables; /* of the resolved config: to tell what differs on resume */
    size_t table_count;
    const json_t *resolved;
    const volatile int *stop;   /* set by a signal handler: save and return HN_ERR_INTERRUPTED */
    hn_ranks *ranks;            /* that this process trains with; NULL: alone */
    bool live, colour;          /* of the terminal on stderr */
    bool counting;              /* only sizes are wanted (train/plan.h) */
    /* A line for people that is no event of the run: what was passed over, resumed, initialised. */
    void (*notice)(const char *text);
} hn_train_options;

typedef struct hn_train_result {
    int64_t step;      /* steps done */
    bool was_finished; /* nothing was left to do */
    char reason[32];   /* why it ended */
    bool any_best;
    double best;       /* of eval.metric, at best_step */
    int64_t best_step;
} hn_train_result;

hn_status hn_train(hn_job *job, const hn_train_options *options, hn_train_result *result, hn_error *error);

#endif
