/* What trains when: a pure function of config and model, so that a resumed run has the same plan without any state.
 *
 * Groups (models/model.h) frozen by freeze.below or freeze.groups never train, unless freeze.unfreeze is set: then they thaw
 * top-down, one every interval (ULMFiT, Howard & Ruder 2018, section 3.3). With freeze.unfreeze alone all but the head (the highest
 * group with anything to train) start frozen. lr_decay gives every group a share of the rate of the group above it (the same paper's discriminative rates). */
#ifndef HONE_TRAIN_FREEZE_H
#define HONE_TRAIN_FREEZE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/strbuf.h"
#include "models/model.h"
#include "train/config.h"

#define HN_NEVER INT64_MAX

typedef struct hn_freeze_plan {
    int groups;
    int64_t *thaw;     /* [groups] first step that trains the group; 0: from the start, HN_NEVER: never */
    bool *ever;        /* [groups] trains at some step before `total`: has a place for gradients and moments */
    float *lr_scale;   /* [groups] */
    int64_t warmup;    /* steps over which a thawed group's rate rises */
} hn_freeze_plan;

hn_status hn_freeze_plan_init(hn_freeze_plan *plan, const hn_train_config *config, const hn_model *model,
                              int64_t steps_per_epoch, int64_t total_steps, hn_error *error);
void hn_freeze_plan_close(hn_freeze_plan *plan);

/* Sets trainable[g] for a step. Behind the last step nothing thaws any more. */
void hn_freeze_plan_at(const hn_freeze_plan *plan, int64_t step, bool *trainable);
/* The group that thaws just at this step, or -1. */
int hn_freeze_plan_thaws(const hn_freeze_plan *plan, int64_t step);
/* Factor of a group's rate: 1, or below during its own warm-up after a thaw. */
float hn_freeze_plan_warmup(const hn_freeze_plan *plan, int group, int64_t step);
/* One line for people: "trained from the start: head; layer.5 from step 200; ...; frozen: layer.4 to embeddings" */
void hn_freeze_plan_describe(const hn_freeze_plan *plan, const hn_model *model, hn_strbuf *out);

#endif
