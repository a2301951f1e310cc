/* One optimizer step: the batch is cut into slices that fit memory, gradients of the slices add up, and the loss is divided
 * once, by the number of targets (examples, or tokens) of the whole batch. So a batch in slices and a batch at once are the same sum. */
#include "train/internal.h"

/* Forward, loss and backward of one slice. */
static hn_status run_slice(hn_trainer *trainer, const uint32_t *examples, int32_t count, hn_error *error)
{
    hn_runner *runner = &trainer->runner;
    hn_ops_context *ctx = &runner->ctx;
    const hn_batch *batch = &runner->batch.batch;
    hn_status status = hn_dataset_fill(trainer->job->train, &trainer->buffer, examples, count, error);
    if (status != HN_OK) return status;
    hn_device_batch_upload(&runner->batch, &runner->backend, &trainer->buffer.batch);
    hn_forward forward = {.training = true,
                          .plan = {.trainable = trainer->optimizer.trainable},
                          .seed = (uint64_t)trainer->config->train.seed,
                          .step = runner->step};
    hn_tensor trunk;
    bool cached = false;
    if (trainer->cache) {
        trunk = hn_trunk_cache_view(trainer->cache, &trainer->trunk, &trainer->buffer.batch);
        cached = hn_trunk_cache_get(trainer->cache, &trunk, examples, count, &runner->backend);
        if (cached) forward.trunk_output = &trunk;
        else forward.trunk_keep = &trunk;
    }
    hn_model_forward(runner->model, ctx, batch, &forward);
    hn_target_loss out = {.loss = runner->loss, .count = runner->count};
    hn_model_loss(runner->model, ctx, &out, batch, (float)trainer->config->train.label_smoothing, runner->scale, true);
    hn_model_backward(runner->model, ctx, batch, &forward);
    if (runner->step_error.status != HN_OK)
        return hn_fail(error, runner->step_error.status, "step %lld: %s", (long long)trainer->progress.step,
                       runner->step_error.message);
    if (trainer->cache && !cached) hn_trunk_cache_put(trainer->cache, &trunk, examples, count, &runner->backend);
    return HN_OK;
}

hn_status hnp_trainer_step(hn_trainer *trainer, const uint32_t *examples, int32_t count, hn_step_result *result,
                           hn_error *error)
{
    hn_runner *runner = &trainer->runner;
    hn_backend *backend = &runner->backend;
    uint32_t step = (uint32_t)trainer->progress.step;
    hn_draw draw = {.seed = (uint64_t)trainer->config->train.seed, .step = step};
    float scale = 1.0f / (float)hn_dataset_targets(trainer->job->train, examples, count, &draw);
    trainer->buffer.draw = draw;
    *result = (hn_step_result){0};
    backend->copy_in(backend, runner->step, &step, sizeof step);
    backend->copy_in(backend, runner->scale, &scale, sizeof scale);
    runner->ops->zero(&runner->ctx, runner->loss, sizeof *runner->loss);
    runner->ops->zero(&runner->ctx, runner->count, sizeof *runner->count);
    hn_optimizer_zero_gradients(&trainer->optimizer, &runner->ctx);
    hn_status status = HN_OK;
    for (int32_t first = 0; first < count && status == HN_OK;) {
        int32_t length = hn_job_slice(trainer->job, examples + first, count - first);
        status = run_slice(trainer, examples + first, length, error);
        result->tokens += trainer->buffer.batch.keys;
        first += length;
    }
    if (status != HN_OK) return status;
    backend->copy_out(backend, &result->loss_sum, runner->loss, sizeof result->loss_sum);
    backend->copy_out(backend, &result->count, runner->count, sizeof result->count);
    status = backend->synchronize(backend, error);
    if (status != HN_OK) return status;
    return hn_optimizer_step(&trainer->optimizer, &runner->ctx, trainer->progress.step,
                             hn_schedule_rate(&trainer->schedule, trainer->progress.step), result->loss_sum,
                             &result->norm, &result->applied, error);
}
