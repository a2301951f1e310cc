/* See plan.h. */
#include "train/plan.h"

#include <string.h>

#include "train/internal.h"

static int64_t count_parameters(const hn_model *model, bool trained)
{
    int params;
    const hn_param *param = hn_model_params(model, &params);
    int64_t count = 0;
    for (int p = 0; p < params; p++)
        if (!trained || !param[p].frozen) count += param[p].rows * param[p].columns;
    return count;
}

hn_recompute hn_plan_recompute(const size_t totals[HN_PLAN_RECOMPUTES], size_t available)
{
    int least = 0;
    for (int i = 0; i < HN_PLAN_RECOMPUTES; i++) {
        if (!available || totals[i] <= available) return (hn_recompute)i;
        if (totals[i] < totals[least]) least = i;
    }
    return (hn_recompute)least;
}

const char *hn_recompute_name(hn_recompute recompute)
{
    static const char *const names[HN_PLAN_RECOMPUTES] = {"none", "selective", "full"};
    return names[recompute];
}

void hn_plan_advise(hn_strbuf *out, const size_t totals[HN_PLAN_RECOMPUTES], hn_recompute now, size_t available)
{
    double mib = 1048576.0;
    hn_recompute best = hn_plan_recompute(totals, available);
    bool helps = totals[best] < totals[now], fits = totals[best] <= available;
    hn_strbuf_printf(out, "this run takes %.0f MiB", (double)totals[now] / mib);
    if (!helps && now != HN_RECOMPUTE_NONE) hn_strbuf_printf(out, ", even with train.recompute=%s,", hn_recompute_name(now));
    hn_strbuf_printf(out, " and %.0f MiB are free: ", (double)available / mib);
    if (helps)
        hn_strbuf_printf(out, "set train.recompute=%s, with which it takes %.0f MiB, %s ", hn_recompute_name(best),
                         (double)totals[best] / mib, fits ? "or" : "and");
    hn_strbuf_puts(out, HN_PLAN_KNOBS);
}

hn_status hn_plan_make(hn_plan *plan, hn_job *job, hn_error *error)
{
    hn_trainer trainer;
    const hn_train_options options = {.counting = true};
    hn_status status = hnp_trainer_init(&trainer, job, &options, error);
    if (status == HN_OK) {
        *plan = (hn_plan){.available = trainer.available,
                          .recompute = trainer.runner.recompute,
                          .parameters = count_parameters(trainer.runner.model, false),
                          .trained = count_parameters(trainer.runner.model, true),
                          .steps = job->total_steps,
                          .steps_per_epoch = job->epoch_batches[0]};
        plan->saving = hnp_saving_bytes(&trainer);
        plan->total = hnp_trainer_memory(&trainer, plan->rows);
        memcpy(plan->totals, trainer.totals, sizeof plan->totals);
        for (int i = 0; i < HN_PLAN_ROWS; i++)
            if (plan->rows[i].bytes == SIZE_MAX)
                status = hn_fail(error, HN_ERR_MEMORY, "%s: the sizes of this model and batch overflow 64 bits", plan->rows[i].name);
        plan->tokens = (int64_t)((double)hn_dataset_tokens(job->train) * (double)job->total_steps /
                                 (double)job->epoch_batches[0]);
    }
    hnp_trainer_close(&trainer);
    return status;
}

void hn_plan_print(const hn_plan *plan, const hn_job *job, hn_strbuf *out)
{
    double mib = 1048576.0;
    for (int i = 0; i < HN_PLAN_ROWS; i++)
        if (plan->rows[i].bytes) hn_strbuf_printf(out, "%-14s %10.1f MiB\n", plan->rows[i].name, (double)plan->rows[i].bytes / mib);
    hn_strbuf_printf(out, "%-14s %10.1f MiB", "all arenas", (double)plan->total / mib);
    if (plan->available) hn_strbuf_printf(out, "   (free on this machine: %.1f MiB)", (double)plan->available / mib);
    hn_strbuf_printf(out, "\n%-14s %10.1f MiB   (with about %d MiB for the program; mapped token caches come on top)", "peak",
                     (double)plan->total / mib + HN_PLAN_BASE, HN_PLAN_BASE);
    hn_strbuf_printf(out, "\n%-14s %10s      (all arenas", "recompute", hn_recompute_name(plan->recompute));
    for (int i = 0; i < HN_PLAN_RECOMPUTES; i++)
        hn_strbuf_printf(out, "%s with %s: %.1f MiB", i ? "," : "", hn_recompute_name((hn_recompute)i), (double)plan->totals[i] / mib);
    hn_strbuf_puts(out, ")");
    if (plan->saving) hn_strbuf_printf(out, "\n%-14s %10.1f MiB   (of the host's memory, pinned)", "checkpoints", (double)plan->saving / mib);
    if (plan->available && plan->total > plan->available) {
        hn_strbuf_puts(out, "\n\ndoes not fit: ");
        hn_plan_advise(out, plan->totals, plan->recompute, plan->available);
    }
    hn_strbuf_printf(out, "\n\nparameters     %10lld, of which %lld train\n", (long long)plan->parameters,
                     (long long)plan->trained);
    hn_strbuf_printf(out, "examples       %10lld, %lld tokens, longest %d\n", (long long)hn_dataset_count(job->train),
                     (long long)hn_dataset_tokens(job->train), hn_dataset_longest(job->train));
    hn_strbuf_printf(out, "steps          %10lld, %lld in the first epoch, about %lld tokens in all\n", (long long)plan->steps,
                     (long long)plan->steps_per_epoch, (long long)plan->tokens);
}
