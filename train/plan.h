/* `hone plan`: what a run will take, before it takes it. The sizes are those of the arenas that the run allocates, counted by
 * the code that lays them out. */
#ifndef HONE_TRAIN_PLAN_H
#define HONE_TRAIN_PLAN_H

#include <stdint.h>

#include "core/error.h"
#include "core/strbuf.h"
#include "models/model.h"
#include "train/job.h"

#define HN_PLAN_ROWS 9
#define HN_PLAN_RECOMPUTES 3 /* settings of hn_recompute */
/* MiB that a process takes beside its arenas: the program, its libraries, what oneDNN compiles. The token caches, which are mapped, come
 * on top. */
#define HN_PLAN_BASE 24

/* What makes a run smaller, for messages. */
#define HN_PLAN_KNOBS                                                                                                  \
    "lower train.slice_tokens, train.batch_tokens, train.batch_examples or data.max_tokens, set optim.moments=bf16, or " \
    "freeze layers (`hone plan` shows what takes how much)"

typedef struct hn_plan_row {
    const char *name;
    size_t bytes; /* SIZE_MAX: more than can be counted */
} hn_plan_row;

typedef struct hn_plan {
    hn_plan_row rows[HN_PLAN_ROWS]; /* the arenas, pinned memory for batches on their way, then what sample answers take */
    size_t total;      /* bytes of all rows */
    size_t totals[HN_PLAN_RECOMPUTES]; /* the same with each setting of train.recompute */
    hn_recompute recompute; /* of the run: the config's, or what auto chose */
    size_t available;  /* bytes free on this machine now, 0: unknown */
    size_t saving;     /* bytes of the host's memory that a GPU's checkpoints go through; not in the total */
    int64_t parameters, trained; /* counts */
    int64_t steps, steps_per_epoch, tokens; /* tokens: of all steps together, about */
} hn_plan;

/* The first setting of train.recompute whose total fits what is available (0: unknown, everything does), or the one that takes
 * least when none does. */
hn_recompute hn_plan_recompute(const size_t totals[HN_PLAN_RECOMPUTES], size_t available);
/* What to do about a run that takes more than is available: one line that names that setting, if it helps. */
void hn_plan_advise(hn_strbuf *out, const size_t totals[HN_PLAN_RECOMPUTES], hn_recompute now, size_t available);
const char *hn_recompute_name(hn_recompute recompute);

hn_status hn_plan_make(hn_plan *plan, hn_job *job, hn_error *error);
/* A table for people. */
void hn_plan_print(const hn_plan *plan, const hn_job *job, hn_strbuf *out);

#endif
