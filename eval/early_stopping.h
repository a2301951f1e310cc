/* Early stopping (Prechelt, "Early Stopping - But When?", 1998: stop after `patience` evaluations without an improvement of
 * more than min_delta) and the record of the best evaluation. Plain state: what a checkpoint saves. */
#ifndef HONE_EVAL_EARLY_STOPPING_H
#define HONE_EVAL_EARLY_STOPPING_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"

typedef struct hn_early_stopping {
    bool lower_is_better;
    double min_delta;
    int64_t patience;     /* evaluations; 0: never stops */
    bool any;             /* an evaluation was seen */
    double best;          /* value */
    int64_t best_step;
    double reference;     /* what min_delta is counted from: the last improvement that was large enough */
    int64_t since;        /* evaluations since that */
} hn_early_stopping;

void hn_early_stopping_init(hn_early_stopping *state, bool lower_is_better, double min_delta, int64_t patience);
/* Records an evaluation. Returns true when it is the best so far (a NaN never is). */
bool hn_early_stopping_update(hn_early_stopping *state, double value, int64_t step);
bool hn_early_stopping_done(const hn_early_stopping *state);
/* Patience counts anew, as after an unfreezing; the best stays. */
void hn_early_stopping_restart(hn_early_stopping *state);

json_t *hn_early_stopping_save(const hn_early_stopping *state); /* new reference, NULL: out of memory */
hn_status hn_early_stopping_load(hn_early_stopping *state, const json_t *object, hn_error *error);

#endif
