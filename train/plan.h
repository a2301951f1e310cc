/* `hone plan`: what a run will take, before it takes it. The sizes are those of the arenas that the run allocates, counted by
 * the code that lays them out. */
#ifndef HONE_TRAIN_PLAN_H
#define HONE_TRAIN_PLAN_H

#include <stdint.h>

#include "core/error.h"
#include "core/strbuf.h"
#include "train/job.h"

#define HN_PLAN_ROWS 7
/* MiB that a process takes beside its arenas: the program, its libraries, what oneDNN compiles. The token caches, which are mapped, come
 * on top. */
#define HN_PLAN_BASE 24

typedef struct hn_plan_row {
    const char *name;
    size_t bytes; /* SIZE_MAX: more than can be counted */
} hn_plan_row;

typedef struct hn_plan {
    hn_plan_row rows[HN_PLAN_ROWS]; /* the arenas, then what sample answers take */
    size_t total;      /* bytes of all rows */
    size_t available;  /* bytes free on this machine now, 0: unknown */
    int64_t parameters, trained; /* counts */
    int64_t steps, steps_per_epoch, tokens; /* tokens: of all steps together, about */
} hn_plan;

hn_status hn_plan_make(hn_plan *plan, hn_job *job, hn_error *error);
/* A table for people. */
void hn_plan_print(const hn_plan *plan, const hn_job *job, hn_strbuf *out);

#endif
