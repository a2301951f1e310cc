/* AdamW over a model's trainable parameters: moments in an arena, one segment a parameter, step counts a group (an unfrozen
 * group starts its own bias correction). The arithmetic is the operation table's. */
#ifndef HONE_TRAIN_OPTIMIZER_H
#define HONE_TRAIN_OPTIMIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "models/model.h"
#include "train/config.h"
#include "train/freeze.h"

typedef struct hn_optimizer {
    const hn_train_config *config;
    const hn_freeze_plan *plan;
    hn_model *model;
    const hn_ops *ops;
    const hn_arena *gradients;
    hn_adamw_segment *segments; /* of the groups that train now */
    int64_t segment_count, chunks;
    void **m, **v;              /* [parameters] of type `moments`; NULL of what never trains */
    hn_dtype moments;
    int64_t *applied;           /* [groups] steps that changed the group */
    bool *trainable;            /* [groups] now */
    /* In the backend's memory: */
    hn_adamw_segment *listed; /* the segments */
    hn_adamw_step *step;
    float *correction1, *correction2, *group_lr; /* [groups] */
    double *norm_squared;
} hn_optimizer;

hn_status hn_optimizer_init(hn_optimizer *optimizer, const hn_train_config *config, const hn_freeze_plan *plan,
                            hn_model *model, const hn_ops *ops, const hn_arena *gradients, hn_error *error);
void hn_optimizer_close(hn_optimizer *optimizer);
/* Moments and step values; run on a counting arena, then on the real one. */
void hn_optimizer_place(hn_optimizer *optimizer, hn_arena *arena);
/* Makes the segments of the groups that train at `step`. Call at the start and at every thaw, after gradients are placed, with
 * no step under way. */
void hn_optimizer_select(hn_optimizer *optimizer, int64_t step);

void hn_optimizer_zero_gradients(hn_optimizer *optimizer, hn_ops_context *ctx);
/* Norm of the gradient (fp64), clipping, and AdamW. When the norm or `loss` is not finite nothing is changed and *norm is what
 * it is. */
hn_status hn_optimizer_step(hn_optimizer *optimizer, hn_ops_context *ctx, int64_t step, double rate, double loss,
                            double *norm, bool *applied, hn_error *error);

#endif
