/* See plan.h. */
#include "train/plan.h"

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

hn_status hn_plan_make(hn_plan *plan, hn_job *job, hn_error *error)
{
    hn_trainer trainer;
    const hn_train_options options = {.counting = true};
    hn_status status = hnp_trainer_init(&trainer, job, &options, error);
    if (status == HN_OK) {
        *plan = (hn_plan){.available = trainer.runner.backend.memory_available(&trainer.runner.backend),
                          .parameters = count_parameters(trainer.runner.model, false),
                          .trained = count_parameters(trainer.runner.model, true),
                          .steps = job->total_steps,
                          .steps_per_epoch = job->epoch_batches[0]};
        hnp_trainer_memory(&trainer, plan->rows);
        for (int i = 0; i < HN_PLAN_ROWS; i++) {
            plan->total += plan->rows[i].bytes;
            if (plan->rows[i].bytes == SIZE_MAX)
                status = hn_fail(error, HN_ERR_MEMORY, "%s: the sizes of this model and batch overflow 64 bits", plan->rows[i].name);
        }
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
    hn_strbuf_printf(out, "\n\nparameters     %10lld, of which %lld train\n", (long long)plan->parameters,
                     (long long)plan->trained);
    hn_strbuf_printf(out, "examples       %10lld, %lld tokens, longest %d\n", (long long)hn_dataset_count(job->train),
                     (long long)hn_dataset_tokens(job->train), hn_dataset_longest(job->train));
    hn_strbuf_printf(out, "steps          %10lld, %lld in the first epoch, about %lld tokens in all\n", (long long)plan->steps,
                     (long long)plan->steps_per_epoch, (long long)plan->tokens);
}
