/* One optimizer step: the batch, or each of its parts (reduce.h), is cut into slices that fit memory, gradients of the slices add up, and the
 * loss is divided once, by the number of targets (examples, or tokens) of the whole batch. So a batch in slices and a batch at once are the same sum.
 *
 * A step is enqueued and not waited for: what the host gives goes through pinned memory that is not written again before it
 * was read (core/staging.h), and what the step came to is read when the next one is on its way:
 *
 *     host      enqueue 0 | enqueue 1 | read 0 | enqueue 2 | read 1 | ...
 *     device            step 0         | step 1          | step 2 ...
 *
 * The launches of a slice go to the device as one graph where there was a slice of the same sizes before (graphs.h).
 * Weights and moments change at its end alone, in the optimizer, which waits for a save that still reads them (saving.c).
 *
 * Whoever needs to know where the run stands (a line of metrics, an evaluation, a checkpoint) reads what is left first. */
#include <stdio.h>
#include "train/internal.h"

typedef struct slice {
    hn_trainer *trainer;
    hn_forward forward;
} slice;

/* Forward, loss and backward of the batch that was uploaded last. Nothing else may be enqueued here: it becomes a graph. */
static void enqueue_slice(void *context)
{
    const slice *s = context;
    hn_trainer *trainer = s->trainer;
    hn_runner *runner = &trainer->runner;
    const hn_batch *batch = &runner->batch.batch;
    hn_target_loss out = {.loss = &trainer->reduce.part->loss, .count = &trainer->reduce.part->count};
    hn_model_forward(runner->model, &runner->ctx, batch, &s->forward);
    hn_model_loss(runner->model, &runner->ctx, &out, batch, (float)trainer->config->train.label_smoothing,
                  &trainer->optimizer.values->loss_scale, true);
    hn_model_backward(runner->model, &runner->ctx, batch, &s->forward);
}

/* The batch of these examples in the backend's memory. */
static hn_status upload(hn_trainer *trainer, const uint32_t *examples, int32_t count, hn_error *error)
{
    hn_batch *batch = &trainer->buffer.batch;
    hn_status status = hn_dataset_fill(trainer->job->train, &trainer->buffer, examples, count, error);
    if (status != HN_OK) return status;
    if (trainer->rounds) hnp_batch_round(batch, hn_model_get_config(trainer->runner.model));
    return hn_device_batch_upload(&trainer->runner.batch, batch, error);
}

static hn_status run_slice(hn_trainer *trainer, const uint32_t *examples, int32_t count, hn_error *error)
{
    hn_runner *runner = &trainer->runner;
    slice s = {.trainer = trainer,
               .forward = {.training = true,
                           .plan = {.trainable = trainer->optimizer.trainable},
                           .seed = (uint64_t)trainer->config->train.seed,
                           .step = &trainer->optimizer.values->control.step}};
    hn_status status = upload(trainer, examples, count, error);
    if (status != HN_OK) return status;
    hn_tensor trunk = {0};
    bool cached = false;
    if (trainer->cache) {
        trunk = hn_trunk_cache_view(trainer->cache, &trainer->trunk, &trainer->buffer.batch);
        cached = hn_trunk_cache_get(trainer->cache, &trunk, examples, count);
        const char *note = hn_trunk_cache_note(trainer->cache);
        if (note) trainer->options->notice(note);
        if (cached) s.forward.trunk_output = &trunk;
        else s.forward.trunk_keep = &trunk;
    }
    hnp_graph_key key = {.batch = runner->batch.batch, .trunk = trunk.data, .trunk_read = cached};
    hnp_graphs_run(&trainer->graphs, &key, enqueue_slice, &s, &runner->step_error);
    if (runner->step_error.status == HN_OK && trainer->cache && !cached)
        hn_trunk_cache_put(trainer->cache, &trunk, examples, count);
    return HN_OK;
}

/* What the host says of the step after progress.step. */
static hn_status begin(hn_trainer *trainer, const uint32_t *examples, int32_t count, hn_error *error)
{
    int64_t step = trainer->progress.step;
    hn_draw draw = {.seed = (uint64_t)trainer->config->train.seed, .step = (uint32_t)step};
    float scale = 1.0f / (float)hn_dataset_targets(trainer->job->train, examples, count, &draw);
    trainer->buffer.draw = draw;
    if (trainer->config->train.spike_action != HN_SPIKE_WARN) trainer->optimizer.limits = hn_spikes_limits(&trainer->spikes, step);
    const hn_rank_word word = {.stop = trainer->options->stop && *trainer->options->stop};
    hn_status status = hnp_reduce_say(&trainer->reduce, &word, error);
    return status != HN_OK ? status : hn_optimizer_begin(&trainer->optimizer, &trainer->runner.ctx, step, hn_schedule_rate(&trainer->schedule, step), scale, error);
}

/* Loss and gradients of this process's parts of the batch, from zero. */
static hn_status accumulate(hn_trainer *trainer, const uint32_t *examples, int32_t count, hn_error *error)
{
    hn_runner *runner = &trainer->runner;
    hnp_reduce *reduce = &trainer->reduce;
    hn_status status = HN_OK;
    hn_job_cut(trainer->job, examples, count, reduce->end);
    int32_t first = reduce->first ? reduce->end[reduce->first - 1] : 0;
    for (int part = 0; part < reduce->mine && status == HN_OK; part++) {
        int32_t end = reduce->end[reduce->first + part];
        hnp_reduce_open_part(reduce, &runner->ctx);
        while (first < end && status == HN_OK && runner->step_error.status == HN_OK) {
            int32_t length = hn_job_slice(trainer->job, examples + first, end - first);
            status = run_slice(trainer, examples + first, length, error);
            first += length;
        }
        hnp_reduce_close_part(reduce, &runner->ctx, part);
    }
    return status;
}

/* The optimizer's part, and of a step that is checked all but its first computation. */
static hn_status finish(hn_trainer *trainer, bool checked, hn_error *error)
{
    hn_runner *runner = &trainer->runner;
    int64_t next = trainer->progress.step + 1;
    hn_status status = HN_OK;
    if (checked) status = hnp_replay_expect_all(trainer, error);
    hnp_world_enter(trainer, HN_ACTIVITY_WAIT, "the sum of gradients");
    if (status == HN_OK) status = hnp_reduce_finish(&trainer->reduce, &runner->ctx, error);
    if (status != HN_OK) return status;
    hnp_world_enter(trainer, HN_ACTIVITY_COMPUTE, "the optimizer");
    hn_optimizer_decide(&trainer->optimizer, &runner->ctx, trainer->reduce.total);
    hnp_saving_release(trainer);
    status = hn_optimizer_apply(&trainer->optimizer, &runner->ctx, error);
    hnp_world_enter(trainer, HN_ACTIVITY_WAIT, "the gathering of values");
    if (status == HN_OK) status = hnp_reduce_spread(&trainer->reduce, error);
    hnp_world_enter(trainer, HN_ACTIVITY_COMPUTE, "between steps");
    bool whole = trainer->reduce.of.ranks == 1; /* else the link has put a sum there */
    if (status == HN_OK && checked && whole) status = hnp_replay_expect_gradients(trainer, error);
    if (status == HN_OK && hnp_replay_due(trainer, next)) status = hnp_replay_note_state(trainer, next, error);
    return status;
}

static hn_status enqueue(hn_trainer *trainer, const uint32_t *examples, int32_t count, hn_error *error)
{
    bool checked = hnp_replay_due(trainer, trainer->progress.step);
    hnp_world_enter(trainer, HN_ACTIVITY_COMPUTE, "forward and backward");
    hn_status status = begin(trainer, examples, count, error);
    if (status == HN_OK && checked) status = hnp_replay_note_state(trainer, trainer->progress.step, error);
    if (status == HN_OK) status = accumulate(trainer, examples, count, error);
    if (status == HN_OK && checked) status = hnp_replay_note_gradients(trainer, error);
    if (status == HN_OK && checked) status = accumulate(trainer, examples, count, error);
    if (status == HN_OK && trainer->runner.step_error.status == HN_OK) status = finish(trainer, checked, error);
    return status;
}

hn_status hnp_trainer_rehearse(hn_trainer *trainer, const uint32_t *examples, int32_t count, hn_error *error)
{
    const hn_error *recorded = &trainer->runner.step_error;
    hn_status status = begin(trainer, examples, count, error);
    if (status == HN_OK) status = accumulate(trainer, examples, count, error);
    return recorded->status == HN_OK ? status : hn_fail(error, recorded->status, "%s", recorded->message);
}

hn_status hnp_trainer_step(hn_trainer *trainer, const uint32_t *examples, int32_t count, int64_t *tokens, hn_error *error)
{
    const hn_error *recorded = &trainer->runner.step_error;
    hn_backend *backend = &trainer->runner.backend;
    hn_error failure = {0};
    char name[32];
    *tokens = 0;
    for (int32_t i = 0; i < count; i++) *tokens += hn_dataset_length(trainer->job->train, examples[i]);
    snprintf(name, sizeof name, "step %lld", (long long)trainer->progress.step);
    backend->range(backend, name);
    hn_status status = enqueue(trainer, examples, count, &failure);
    backend->range(backend, NULL);
    if (recorded->status != HN_OK) failure = *recorded, status = recorded->status; /* it came first, and names the operation */
    if (status != HN_OK)
        return hn_fail(error, status, "step %lld: %s", (long long)trainer->progress.step, failure.message);
    trainer->pending++;
    return HN_OK;
}

hn_status hnp_trainer_collect(hn_trainer *trainer, hn_step_result *result, hn_error *error)
{
    const hn_adamw_outcome *outcome;
    hn_error failure = {0};
    int64_t step = trainer->progress.step - trainer->pending;
    const void *words = NULL;
    hn_status status = hn_optimizer_outcome(&trainer->optimizer, --trainer->pending, &outcome, &failure);
    if (status == HN_OK) status = hnp_reduce_hear(&trainer->reduce, trainer->pending, &words, &failure);
    for (int r = 0; words && r < trainer->reduce.of.ranks; r++) trainer->stopping_together |= hnp_reduce_word(&trainer->reduce, words, r)->stop != 0;
    if (status != HN_OK) return hn_fail(error, status, "step %lld: %s", (long long)step, failure.message);
    *result = (hn_step_result){.step = step + 1,
                               .loss_sum = outcome->loss,
                               .norm = outcome->norm,
                               .count = outcome->count,
                               .applied = !outcome->skipped};
    return HN_OK;
}
