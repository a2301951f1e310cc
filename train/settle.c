/* What steps came to: sums for the log, steps that were skipped for a NaN or Inf, and spikes (train/spikes.h). A step is read when the next
 * one is on its way, or before, when somebody has to know; what follows from it is the same either way. */
#include <math.h>
#include <stdio.h>

#include "train/internal.h"

static hn_status count_bad_step(hn_trainer *trainer, const hn_step_result *result, hn_error *error)
{
    hn_progress *p = &trainer->progress;
    char reason[128];
    p->skipped++;
    p->bad_in_a_row++;
    snprintf(reason, sizeof reason, "%s is %s; the step was skipped",
             isfinite(result->loss_sum) ? "the gradient's norm" : "the loss",
             isnan(isfinite(result->loss_sum) ? result->norm : result->loss_sum) ? "NaN" : "infinite");
    hn_status status = hnp_trainer_log_bad_step(trainer, result->step, reason, error);
    if (status == HN_OK && p->bad_in_a_row >= trainer->config->train.max_bad_steps)
        status = hn_fail(error, HN_ERR_NUMERIC,
                         "step %lld: %lld steps in a row had a loss or gradient that is NaN or infinite; the weights are those "
                         "before them. Expected causes: optim.lr (%g) too high, a checkpoint that overflows in %s, labels or "
                         "texts that are broken; try a smaller optim.lr or train.precision=fp32",
                         (long long)result->step, (long long)p->bad_in_a_row, trainer->config->optim.lr,
                         trainer->config->train.precision == HN_PRECISION_BF16 ? "bf16" : "fp32");
    return status;
}

static hn_status count_spike(hn_trainer *trainer, const hn_step_result *result, hn_spike_limits limits, hn_error *error)
{
    hn_progress *p = &trainer->progress;
    char reason[256];
    double loss = result->loss_sum / (double)result->count;
    bool by_loss = limits.loss > 0 && loss > limits.loss;
    p->spikes_in_a_row++;
    p->skipped += !result->applied;
    snprintf(reason, sizeof reason, "the %s is %.4g, beyond %.4g, which is %g MADs above the median of the last %lld steps%s",
             by_loss ? "loss" : "gradient's norm", by_loss ? loss : result->norm, by_loss ? limits.loss : limits.norm,
             trainer->spikes.threshold, (long long)trainer->spikes.window, result->applied ? "" : "; the step was skipped");
    return hnp_trainer_log_spike(trainer, result, reason, error);
}

static hn_status count(hn_trainer *trainer, const hn_step_result *result, hn_error *error)
{
    hn_progress *p = &trainer->progress;
    hn_status status = HN_OK;
    double loss = result->loss_sum / (double)result->count;
    hn_spike_limits limits = hn_spikes_limits(&trainer->spikes, result->step - 1);
    bool finite = isfinite(result->loss_sum) && isfinite(result->norm);
    bool judged_there = trainer->config->train.spike_action != HN_SPIKE_WARN; /* by the device, which rounds as it likes */
    bool spike = finite && (judged_there ? !result->applied : hn_spikes_beyond(limits, loss, result->norm));
    bool rolls_back = trainer->config->train.spike_action == HN_SPIKE_ROLL_BACK;
    hn_spikes_add(&trainer->spikes, result->step - 1, loss, result->norm);
    if (finite) p->bad_in_a_row = 0;
    else status = count_bad_step(trainer, result, error);
    if (spike) status = count_spike(trainer, result, limits, error);
    else p->spikes_in_a_row = rolls_back && !finite ? p->spikes_in_a_row + 1 : 0;
    /* The step behind this one may be under way already: it is made in any case, and then thrown away. */
    if (rolls_back && p->spikes_in_a_row >= trainer->config->train.spike_patience && !p->rollback_due) p->rollback_due = result->step + 1;
    if (result->applied) {
        p->window_loss += result->loss_sum;
        p->window_count += result->count;
        p->window_norm += result->norm;
        p->window_steps++;
    }
    return status;
}

hn_status hnp_trainer_settle(hn_trainer *trainer, int left, hn_error *error)
{
    hn_status status = HN_OK;
    while (trainer->pending > left && status == HN_OK) {
        hn_step_result result;
        status = hnp_trainer_collect(trainer, &result, error);
        if (status == HN_OK) status = count(trainer, &result, error);
    }
    return status;
}

hn_status hnp_trainer_roll_back(hn_trainer *trainer, hn_error *error)
{
    hn_progress *p = &trainer->progress;
    char text[256];
    int64_t step = -1;
    if (!p->rollback_due || p->rollback_due > p->step) return HN_OK;
    hn_status status = hnp_trainer_settle(trainer, 0, error);
    if (status != HN_OK) return status;
    if (p->rollbacks >= trainer->config->train.max_rollbacks)
        return hn_fail(error, HN_ERR_NUMERIC, "step %lld: spikes again after %lld rollbacks (train.max_rollbacks); expected causes: optim.lr (%g) "
                       "too high, data that are broken from here on, or train.spike_threshold (%g) too low", (long long)p->step,
                       (long long)p->rollbacks, trainer->config->optim.lr, trainer->config->train.spike_threshold);
    status = hnp_trainer_return(trainer, &step, error);
    if (status != HN_OK) return status;
    p->good = trainer->saving.safe = step;
    p->rollbacks++;
    p->rollback_due = p->spikes_in_a_row = p->bad_in_a_row = 0;
    int used = snprintf(text, sizeof text, "rollback %lld of at most %lld: ", (long long)p->rollbacks, (long long)trainer->config->train.max_rollbacks);
    if (step < 0)
        snprintf(text + used, sizeof text - (size_t)used, "no checkpoint from before the spikes is there; they were skipped, and the run goes on "
                 "with the weights that it has");
    else
        snprintf(text + used, sizeof text - (size_t)used, "weights and moments are those of step %lld again, and the batches from there to "
                 "here are left out", (long long)step);
    return hnp_trainer_warn(trainer, p->step, text, error);
}
