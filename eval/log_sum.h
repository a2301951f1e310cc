/* Shared inside eval/: scores against each other. */
#ifndef HONE_EVAL_LOG_SUM_H
#define HONE_EVAL_LOG_SUM_H

#include <math.h>
#include <stdint.h>

/* log(sum(exp)) of `count` scores, at least one. */
static inline double hnp_log_sum(const float *score, int64_t count)
{
    double largest = score[0], sum = 0;
    for (int64_t i = 1; i < count; i++)
        if (score[i] > largest) largest = score[i];
    for (int64_t i = 0; i < count; i++) sum += exp(score[i] - largest);
    return largest + log(sum);
}

#endif
