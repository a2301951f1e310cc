/* Brings a trainer up: counts its memory, allocates, loads weights, and lays things out for the groups that train. */
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"
#include "train/internal.h"

/* Ranks of one machine share its cores, unless their launcher gave each its own. */
static int choose_threads(const hn_job *job, const hn_ranks *ranks)
{
    cpu_set_t own;
    int64_t asked = job->config->train.threads;
    if (asked || !ranks || sched_getaffinity(0, sizeof own, &own)) return (int)asked;
    int cores = CPU_COUNT(&own), share = cores / hn_ranks_local_size(ranks);
    if (cores < sysconf(_SC_NPROCESSORS_ONLN)) return cores;
    return share > 1 ? share : 1;
}

static hn_runner_options runner_options(const hn_job *job, const hn_ranks *ranks, bool counting)
{
    return (hn_runner_options){
        .precision = job->config->train.precision == HN_PRECISION_BF16 ? HN_BF16 : HN_F32,
        .threads = choose_threads(job, ranks),
        .device = (hn_device)job->config->train.device,
        .counting = counting,
        .evaluation = job->evaluation,
        .training = job->training,
    };
}

/* The activations for every lowest group that the plan has: from the lowest of its end to the lowest of its start. */
static void plan_activations(hn_trainer *trainer, hn_recompute recompute)
{
    const hn_freeze_plan *plan = &trainer->plan;
    int lowest = 0, highest = 0;
    while (!plan->ever[lowest]) lowest++;
    while (plan->thaw[highest] > 0) highest++;
    hn_runner_plan(&trainer->runner, lowest, highest, recompute);
}

/* Counts the run with each setting of train.recompute, and leaves it with its own. */
static void choose_recompute(hn_trainer *trainer)
{
    hn_backend *backend = &trainer->runner.backend;
    hn_plan_row rows[HN_PLAN_ROWS];
    int chosen = trainer->config->train.recompute;
    trainer->available = backend->memory_available(backend) / (size_t)hn_ranks_local_size(trainer->options->ranks);
    for (int i = 0; i < HN_PLAN_RECOMPUTES; i++) {
        plan_activations(trainer, (hn_recompute)i);
        trainer->totals[i] = hnp_trainer_memory(trainer, rows);
    }
    if (chosen == HN_RECOMPUTE_AUTO) chosen = (int)hn_plan_recompute(trainer->totals, trainer->available);
    plan_activations(trainer, (hn_recompute)chosen);
}

hn_status hnp_trainer_init(hn_trainer *trainer, hn_job *job, const hn_train_options *options, hn_error *error)
{
    const hn_train_config *config = job->config;
    *trainer = (hn_trainer){.job = job, .config = config, .options = options, .order_epoch = -1, .lock = {.fd = -1}};
    trainer->progress = (hn_progress){.logged = 0, .thawed = 0, .evaluated = 0};
    hn_metric metric = (hn_metric)config->eval.metric;
    bool lower = config->eval.direction == HN_DIRECTION_AUTO ? hn_metric_lower_is_better(metric)
                                                             : config->eval.direction == HN_DIRECTION_MIN;
    hn_early_stopping_init(&trainer->stopping, lower, config->eval.min_delta, config->eval.patience);
    hn_spikes_init(&trainer->spikes, (int)config->train.spike_window, config->train.spike_threshold);
    hn_schedule_init(&trainer->schedule, config, job->total_steps);
    hn_runner_options runner = runner_options(job, options->ranks, options->counting);
    hn_status status = hn_runner_init(&trainer->runner, &job->model, &runner, error);
    if (status != HN_OK) return status;
    trainer->rounds = !config->freeze.cache && hnp_batch_rounds(&trainer->runner.backend, &job->model);
    if (trainer->rounds) trainer->runner.options.training = hnp_batch_round_bounds(job->training, &job->model);
    status = hn_freeze_plan_init(&trainer->plan, config, trainer->runner.model, job->epoch_batches[0], job->total_steps,
                                 error);
    if (status != HN_OK) return status;
    for (int g = 0; g < trainer->plan.groups; g++)
        if (!trainer->plan.ever[g]) hn_model_freeze(trainer->runner.model, g);
    plan_activations(trainer, HN_RECOMPUTE_NONE);
    hnp_parts parts = {.parts = job->parts, .rank = hn_ranks_rank(options->ranks), .ranks = hn_ranks_size(options->ranks),
                       .tree = config->train.elastic};
    status = hnp_reduce_init(&trainer->reduce, &parts, trainer->runner.ops, &trainer->runner.backend, &trainer->gradients, trainer->runner.model,
                             &trainer->plan, trainer->runner.options.precision, error);
    if (status == HN_OK)
        status = hn_optimizer_init(&trainer->optimizer, config, &trainer->plan, trainer->runner.model, trainer->runner.ops,
                                   &trainer->runner.backend, &trainer->reduce.zero, error);
    if (status != HN_OK) return status;
    hn_arena_init(&trainer->gradients, "gradients", &trainer->runner.backend);
    hn_arena_init(&trainer->moments, "optimizer", &trainer->runner.backend);
    trainer->gradients.streamed = trainer->moments.streamed = true;
    hnp_trainer_place(trainer);
    status = hnp_answers_init(&trainer->answers, trainer, error);
    if (status == HN_OK) choose_recompute(trainer);
    return status;
}

void hnp_trainer_place(hn_trainer *trainer)
{
    hn_model_place_gradients(trainer->runner.model, &trainer->gradients, trainer->plan.ever);
    hnp_reduce_place(&trainer->reduce, &trainer->moments);
    hn_optimizer_place(&trainer->optimizer, &trainer->moments);
    if (trainer->config->freeze.cache)
        trainer->trunk = hn_arena_tensor(&trainer->moments, trainer->runner.options.precision,
                                         trainer->runner.options.training.tokens, trainer->job->model.hidden);
}

size_t hnp_trainer_memory(const hn_trainer *trainer, hn_plan_row rows[HN_PLAN_ROWS])
{
    enum { ARENAS = HN_PLAN_ROWS - 2 };
    const hn_runner *runner = &trainer->runner;
    const hn_arena *arenas[ARENAS] = {&runner->parameters,  &trainer->gradients, &trainer->reduce.arena, &trainer->moments,
                                      &runner->activations, &runner->batches,    &runner->workspace};
    size_t total = 0;
    for (int i = 0; i < ARENAS; i++)
        rows[i] = (hn_plan_row){arenas[i]->name, arenas[i]->overflow ? SIZE_MAX : arenas[i]->used};
    rows[ARENAS] = (hn_plan_row){"transfers", runner->batches.overflow ? SIZE_MAX : 2 * runner->batches.used};
    rows[ARENAS + 1] = (hn_plan_row){"samples", hnp_answers_bytes(&trainer->answers)};
    for (int i = 0; i < HN_PLAN_ROWS; i++)
        if (!hn_size_add(total, rows[i].bytes, &total)) total = SIZE_MAX;
    return total;
}

/* A run that does not fit is refused before it takes memory, not killed for it in the middle. */
static hn_status check_memory(hn_trainer *trainer, hn_error *error)
{
    hn_strbuf text;
    double mib = 1048576.0;
    hn_recompute now = trainer->runner.recompute;
    hn_status status = HN_OK;
    hn_strbuf_init(&text);
    if (trainer->available && trainer->totals[now] > trainer->available) {
        hn_plan_advise(&text, trainer->totals, now, trainer->available);
        status = hn_fail(error, HN_ERR_MEMORY, "%s", text.failed ? "this run takes more memory than is free" : text.text);
    } else if (trainer->config->train.recompute == HN_RECOMPUTE_AUTO && now != HN_RECOMPUTE_NONE) {
        hn_strbuf_printf(&text, "train.recompute=auto: %s, with which this run takes %.0f MiB (%.0f with none; %.0f are free)",
                         hn_recompute_name(now), (double)trainer->totals[now] / mib,
                         (double)trainer->totals[HN_RECOMPUTE_NONE] / mib, (double)trainer->available / mib);
        if (!text.failed) trainer->options->notice(text.text);
    }
    hn_strbuf_close(&text);
    return status;
}

static hn_status alloc_all(hn_trainer *trainer, hn_error *error)
{
    hn_status status = hn_runner_alloc(&trainer->runner, error);
    if (status == HN_OK) status = hn_arena_alloc(&trainer->gradients, error);
    if (status == HN_OK) status = hn_arena_alloc(&trainer->reduce.arena, error);
    if (status == HN_OK) status = hn_arena_alloc(&trainer->moments, error);
    if (status == HN_OK) status = hnp_answers_alloc(&trainer->answers, error);
    if (status != HN_OK) return status;
    hnp_trainer_place(trainer);
    status = hnp_reduce_alloc(&trainer->reduce, error);
    return status == HN_OK ? hn_optimizer_alloc(&trainer->optimizer, error) : status;
}

hn_status hnp_trainer_alloc(hn_trainer *trainer, hn_error *error)
{
    hn_error refusal = {0};
    hn_status status = check_memory(trainer, error);
    if (status != HN_OK) return status;
    status = alloc_all(trainer, &refusal);
    if (status == HN_ERR_MEMORY) return hn_fail(error, status, "%s; set train.recompute, " HN_PLAN_KNOBS, refusal.message);
    if (status != HN_OK) return hn_fail(error, status, "%s", refusal.message);
    hnp_graphs_init(&trainer->graphs, &trainer->runner.backend, trainer->config->train.graphs && !trainer->config->train.profile,
                    trainer->options->notice);
    hn_bounds a = trainer->runner.options.training, b = trainer->runner.options.evaluation;
    return hn_batch_buffer_init_shared(&trainer->buffer, a.tokens > b.tokens ? a.tokens : b.tokens,
                                       a.examples > b.examples ? a.examples : b.examples, a.keys > b.keys ? a.keys : b.keys, error);
}

void hnp_trainer_select(hn_trainer *trainer)
{
    hnp_graphs_reset(&trainer->graphs);
    hn_optimizer_select(&trainer->optimizer, trainer->progress.step);
    hnp_reduce_select(&trainer->reduce, trainer->progress.step);
    hn_train_plan plan = {.trainable = trainer->optimizer.trainable};
    trainer->first = hn_train_plan_first(trainer->runner.model, &plan);
    hn_runner_use(&trainer->runner, true, trainer->first);
}

void hnp_trainer_close(hn_trainer *trainer)
{
    hnp_saving_close(&trainer->saving);
    hn_sinks_close(&trainer->sinks);
    hnp_graphs_close(&trainer->graphs);
    hn_trunk_cache_free(trainer->cache);
    hn_order_free(trainer->order);
    hn_batch_buffer_close(&trainer->buffer);
    hnp_replay_close(&trainer->replay);
    hn_optimizer_close(&trainer->optimizer);
    hnp_reduce_close(&trainer->reduce);
    hn_arena_close(&trainer->moments);
    hn_arena_close(&trainer->gradients);
    hn_freeze_plan_close(&trainer->plan);
    hnp_answers_close(&trainer->answers);
    hn_runner_close(&trainer->runner);
    hn_free(trainer->checkpoints);
    hn_lock_close(&trainer->lock);
}
