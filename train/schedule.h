/* Learning-rate schedules: a pure function of the step, so that resume needs no state.
 *
 *     linear        warm-up, then a straight line to final * lr at the last step
 *     cosine        warm-up, then half a cosine to final * lr (Loshchilov & Hutter 2017)
 *     constant      warm-up, then lr
 *     inverse_sqrt  warm-up, then lr * sqrt(warmup / step) (Vaswani et al. 2017, section 5.3)
 *     wsd           warm-up, lr, and over the last `decay` share a line to final * lr (Hu et al. 2024) */
#ifndef HONE_TRAIN_SCHEDULE_H
#define HONE_TRAIN_SCHEDULE_H

#include <stdint.h>

#include "train/config.h"

typedef struct hn_schedule {
    hn_schedule_kind kind;
    double lr, final;     /* peak; last rate as a share of it */
    int64_t warmup, total; /* steps */
    int64_t decay;         /* wsd: steps of the fall */
} hn_schedule;

void hn_schedule_init(hn_schedule *schedule, const hn_train_config *config, int64_t total_steps);
/* The rate of optimizer step `step` (0, 1, 2, ...). As in transformers, step 0 of a warm-up has rate 0, unless there is none. */
double hn_schedule_rate(const hn_schedule *schedule, int64_t step);

#endif
