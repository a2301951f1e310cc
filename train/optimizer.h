/* AdamW over a model's trainable parameters, or what this process keeps of them: moments in an arena, one segment a run, step counts a group (an unfrozen
 * group starts its own bias correction). The arithmetic is the operation table's. */
#ifndef HONE_TRAIN_OPTIMIZER_H
#define HONE_TRAIN_OPTIMIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/staging.h"
#include "models/model.h"
#include "train/config.h"
#include "train/freeze.h"
#include "train/spikes.h"
#include "train/zero.h"

/* What the host says of one step; it goes from pinned memory to the backend's in one copy, with the groups' arrays behind it. */
typedef struct hn_step_values {
    hn_adamw_control control;
    float loss_scale; /* 1 / targets of the whole step */
} hn_step_values;

typedef struct hn_optimizer {
    const hn_train_config *config;
    const hn_freeze_plan *plan;
    hn_model *model;
    const hn_ops *ops;
    hn_backend *backend;
    hn_adamw_segment *segments; /* of the groups that train now */
    int64_t segment_count, chunks;
    const hnp_zero *zero;       /* what this process keeps */
    unsigned char *m, *v;       /* [zero->kept] of type `moments` */
    hn_dtype moments;
    int64_t *applied;           /* [groups] steps that changed the group, as hn_optimizer_fetch found them */
    bool *trainable;            /* [groups] now */
    hn_spike_limits limits;     /* the caller's, of the next step: one beyond them is not made */
    hn_staging values_staging, outcome_staging;
    /* In the backend's memory: */
    hn_adamw_segment *listed; /* the segments */
    hn_step_values *values;
    hn_adamw_groups groups;   /* arrays there; applied is the truth */
    hn_adamw_step *step;
    hn_adamw_outcome *outcome;
} hn_optimizer;

hn_status hn_optimizer_init(hn_optimizer *optimizer, const hn_train_config *config, const hn_freeze_plan *plan,
                            hn_model *model, const hn_ops *ops, hn_backend *backend, const hnp_zero *zero, hn_error *error);
/* Pinned memory; once the backend's is placed. */
hn_status hn_optimizer_alloc(hn_optimizer *optimizer, hn_error *error);
void hn_optimizer_close(hn_optimizer *optimizer);
/* Moments and step values; run on a counting arena, then on the real one. */
void hn_optimizer_place(hn_optimizer *optimizer, hn_arena *arena);
/* A parameter's moments `moments` (m or v), for one process that keeps everything; NULL of what never trains. */
void *hn_optimizer_moment(const hn_optimizer *optimizer, unsigned char *moments, int param);
/* Makes the segments of the groups that train at `step`. Call at the start and at every thaw, after gradients are placed, with
 * no step under way. */
void hn_optimizer_select(hn_optimizer *optimizer, int64_t step);

/* A step is enqueued by begin, the gradients' forward and backward, decide and apply; none of them waits for what it enqueues. begin waits when
 * it is two steps ahead. Outcomes are kept for the last two steps that were applied. */
hn_status hn_optimizer_begin(hn_optimizer *optimizer, hn_ops_context *ctx, int64_t step, double rate, float loss_scale,
                             hn_error *error);
/* The decision by the batch's loss, count and gradient (`sums`, in the backend's memory). When the norm or the loss is not finite, or beyond
 * `limits`, the step changes nothing. */
void hn_optimizer_decide(hn_optimizer *optimizer, hn_ops_context *ctx, const hn_sums *sums);
/* AdamW. */
hn_status hn_optimizer_apply(hn_optimizer *optimizer, hn_ops_context *ctx, hn_error *error);
/* Waits for the step that was applied `before` others: 0 for the last, 1 for the one before it. *out stays until the next step is
 * applied. */
hn_status hn_optimizer_outcome(hn_optimizer *optimizer, int before, const hn_adamw_outcome **out, hn_error *error);

/* `applied` from the backend, and to it. Waits. */
hn_status hn_optimizer_fetch(hn_optimizer *optimizer, hn_error *error);
hn_status hn_optimizer_restore(hn_optimizer *optimizer, hn_error *error);

#endif
