/* Where the elements of what trains lie when they are shared out among processes: the layout behind ZeRO-1 (Rajbhandari et al. 2020, "ZeRO:
 * Memory Optimizations Toward Training Trillion Parameter Models", section 5.1). Every trained parameter has the same place in the arrays of
 * values, of bf16 copies and of gradients, and the places are cut into buckets, each of which is cut into `parts` equal parts:
 *
 *     | group 0, 1: matrices  pad | group 2: matrices   pad | ... | all vectors  pad | what is frozen (values alone)
 *     |<------ bucket 0 --------->|<------ bucket 1 ------->|     |<- the last one ->|
 *     | part 0 | part 1 | ... | P-1 | part 0 | ...
 *
 * So a sum over processes whose result is shared out, and the gathering of new values, work on one run of memory a bucket and in place;
 * a process keeps moments of its own parts alone. The layout depends on model, freezing and `parts`, not on how many processes there are. */
#ifndef HONE_TRAIN_ZERO_H
#define HONE_TRAIN_ZERO_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "models/model.h"
#include "train/freeze.h"

#define HNP_ZERO_ALIGN 64 /* elements: parts begin and end at multiples of it */

typedef struct hnp_bucket {
    int64_t first, count; /* elements; count is a multiple of HNP_ZERO_ALIGN * parts */
    int lowest, highest;  /* groups of its parameters. Backward is through with it when it is through with `lowest`, and forward needs it
                           * from `lowest` on */
    bool narrow;          /* products read its bf16 copies */
    int64_t thaw;         /* the step from which on any of it trains */
} hnp_bucket;

/* Elements [element, element + count) of a parameter. */
typedef struct hnp_run {
    int param, bucket;
    int64_t element, count; /* element: a multiple of 32 */
    int64_t at;             /* place of the first among all that this process keeps; where that is everything, its place among the gradients */
} hnp_run;

typedef struct hnp_zero {
    int parts;
    hnp_bucket *bucket;
    int buckets;
    /* Elements from the start of the arrays of values, bf16 copies and gradients, [parameters]; -1: it has no place there. And their lengths. */
    int64_t *value, *copy, *gradient;
    int64_t values, copies, gradients;
    /* Of the parts that hnp_zero_own was told of: */
    hnp_run *run;
    int64_t runs, kept; /* kept: elements, with padding */
} hnp_zero;

/* The layout that a model has by itself, for one process that keeps everything: one bucket. */
hn_status hnp_zero_init_whole(hnp_zero *zero, const hn_param *params, int count, const hn_freeze_plan *plan, hn_error *error);

/* `params` as hn_model_params lists them; places for hn_model_lay_out. */
hn_status hnp_zero_init(hnp_zero *zero, const hn_param *params, int count, const hn_freeze_plan *plan, bool narrow, int parts, hn_error *error);
void hnp_zero_close(hnp_zero *zero);
/* Lists the runs of the `share`-th of `shares` equal shares of every bucket; shares divides parts. */
hn_status hnp_zero_own(hnp_zero *zero, const hn_param *params, int count, int share, int shares, hn_error *error);

#endif
