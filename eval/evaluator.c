/* See evaluator.h. */
#include "eval/evaluator.h"

static void add_metrics(hn_metrics *metrics, const float *logits, int labels, const hn_batch *batch)
{
    for (int32_t t = 0; batch->target && t < batch->tokens; t++)
        hn_metrics_add_class(metrics, logits + (int64_t)t * labels, batch->target[t]);
    if (batch->target) return;
    for (int32_t i = 0; i < batch->n; i++) {
        if (labels > 1) hn_metrics_add_class(metrics, logits + (int64_t)i * labels, batch->label[i]);
        else hn_metrics_add_value(metrics, logits[i], batch->value[i]);
    }
}

/* What a batch adds up to, on the host. */
typedef struct batch_sums {
    double loss;
    int64_t count, correct; /* of tokens */
} batch_sums;

/* Forward and loss of one host batch; its sums, and the logits of whole sequences or tags, on the host. */
static hn_status run_batch(hn_runner *runner, const hn_batch *host, bool wants_logits, batch_sums *sums, hn_error *error)
{
    hn_backend *backend = &runner->backend;
    const hn_batch *batch = &runner->batch.batch;
    hn_forward forward = {.training = false};
    hn_status status = hn_device_batch_upload(&runner->batch, host, error);
    if (status != HN_OK) return status;
    runner->ops->zero(&runner->ctx, runner->loss, sizeof *runner->loss);
    runner->ops->zero(&runner->ctx, runner->count, sizeof *runner->count);
    runner->ops->zero(&runner->ctx, runner->correct, sizeof *runner->correct);
    hn_tensor logits = hn_model_forward(runner->model, &runner->ctx, batch, &forward);
    hn_target_loss out = {.loss = runner->loss, .count = runner->count, .correct = runner->correct};
    hn_model_loss(runner->model, &runner->ctx, &out, batch, 0, NULL, false);
    if (runner->step_error.status != HN_OK)
        return hn_fail(error, runner->step_error.status, "evaluation: %s", runner->step_error.message);
    if (wants_logits) backend->copy_out(backend, runner->logits, logits.data, hn_tensor_bytes(&logits));
    backend->copy_out(backend, &sums->loss, runner->loss, sizeof sums->loss);
    backend->copy_out(backend, &sums->count, runner->count, sizeof sums->count);
    backend->copy_out(backend, &sums->correct, runner->correct, sizeof sums->correct);
    return backend->synchronize(backend, error);
}

hn_status hn_evaluate(hn_runner *runner, hn_batch_buffer *buffer, const hn_dataset *dataset, hn_metrics *metrics,
                      hn_logits_callback callback, void *context, const volatile int *stop, hn_error *error)
{
    int labels = hn_model_get_config(runner->model)->labels;
    bool tokens = metrics->labels == HN_METRICS_TOKENS;
    HN_ASSERT(!tokens || !callback);
    hn_bounds bounds = runner->options.evaluation;
    hn_order_options options = {.batch_tokens = bounds.keys ? bounds.keys : bounds.tokens,
                                .batch_examples = bounds.examples,
                                .shuffle = false};
    hn_order *order = NULL;
    hn_runner_use(runner, false, 0);
    buffer->draw = (hn_draw){0}; /* the same tokens are hidden each time */
    hn_status status = hn_order_open(&order, dataset, &options, error);
    for (int64_t b = 0; status == HN_OK && b < hn_order_batches(order); b++) {
        int32_t count;
        const uint32_t *examples = hn_order_examples(order, b, &count);
        batch_sums sums = {0};
        if (stop && *stop) {
            status = hn_fail(error, HN_ERR_INTERRUPTED, "stopped during an evaluation");
            break;
        }
        status = hn_dataset_fill(dataset, buffer, examples, count, error);
        if (status == HN_OK) status = run_batch(runner, &buffer->batch, !tokens, &sums, error);
        if (status != HN_OK) break;
        hn_metrics_add_loss(metrics, sums.loss);
        if (tokens) hn_metrics_add_tokens(metrics, sums.count, sums.correct);
        else add_metrics(metrics, runner->logits, labels, &buffer->batch);
        if (callback) status = callback(context, runner->logits, labels, &buffer->batch, error);
    }
    hn_order_free(order);
    return status;
}
