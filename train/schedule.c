/* See schedule.h. */
#include "train/schedule.h"

#include <math.h>

void hn_schedule_init(hn_schedule *schedule, const hn_train_config *config, int64_t total_steps)
{
    double warmup = config->optim.warmup;
    int64_t steps = warmup < 1 ? (int64_t)ceil(warmup * (double)total_steps) : (int64_t)llround(warmup);
    *schedule = (hn_schedule){.kind = (hn_schedule_kind)config->optim.schedule,
                              .lr = config->optim.lr,
                              .final = config->optim.final,
                              .warmup = steps < total_steps ? steps : total_steps,
                              .total = total_steps,
                              .decay = (int64_t)ceil(config->optim.decay * (double)total_steps)};
}

/* Share of the way from step `from` to `total` that is gone, at most 1. */
static double way(int64_t step, int64_t from, int64_t total)
{
    return total > from ? fmin(1, (double)(step - from) / (double)(total - from)) : 1;
}

double hn_schedule_rate(const hn_schedule *schedule, int64_t step)
{
    double rest = 1 - schedule->final, u = way(step, schedule->warmup, schedule->total);
    if (step < schedule->warmup) return schedule->lr * (double)step / (double)schedule->warmup;
    switch (schedule->kind) {
    case HN_SCHEDULE_LINEAR: return schedule->lr * (1 - rest * u);
    case HN_SCHEDULE_COSINE: return schedule->lr * (1 - rest * 0.5 * (1 - cos(M_PI * u)));
    case HN_SCHEDULE_INVERSE_SQRT: {
        double base = (double)(schedule->warmup > 0 ? schedule->warmup : 1);
        return schedule->lr * sqrt(base / fmax(base, (double)step));
    }
    case HN_SCHEDULE_WSD: {
        int64_t start = schedule->total - schedule->decay;
        if (start < schedule->warmup) start = schedule->warmup;
        return step < start ? schedule->lr : schedule->lr * (1 - rest * way(step, start, schedule->total));
    }
    default: return schedule->lr;
    }
}
