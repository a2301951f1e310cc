/* See evaluator.h. */
#include "eval/evaluator.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"

/* What a batch adds up to, on the host. */
typedef struct batch_sums {
    double loss;
    int64_t count, correct; /* of tokens */
} batch_sums;

/* A row with a target, as processes tell each other of it. */
typedef union row {
    struct {
        int32_t prediction, label;
    } class;
    struct {
        float prediction, value;
    } number;
} row;

/* A batch in that: behind it stand its rows. */
typedef struct note {
    batch_sums sums;
    int64_t rows;
} note;

/* The rows of a batch that have a target, to `visit` one by one. */
static void each_row(const float *logits, int labels, const hn_batch *batch, void (*visit)(void *context, const row *one), void *context)
{
    const int32_t *label = batch->target ? batch->target : batch->label;
    int32_t rows = batch->target ? batch->tokens : batch->n;
    for (int32_t i = 0; i < rows; i++, logits += labels) {
        if (labels > 1 && label[i] != HN_NO_TARGET)
            visit(context, &(row){.class = {hn_metrics_predict(logits, labels), label[i]}});
        else if (labels == 1 && !isnan(batch->value[i])) visit(context, &(row){.number = {*logits, batch->value[i]}});
    }
}

static void add_row(void *metrics, const row *one)
{
    if (((hn_metrics *)metrics)->labels > 1) hn_metrics_add_prediction(metrics, one->class.prediction, one->class.label);
    else hn_metrics_add_value(metrics, one->number.prediction, one->number.value);
}

static void count_row(void *rows, const row *one)
{
    (void)one;
    ++*(int64_t *)rows;
}

static void keep_row(void *notes, const row *one)
{
    hn_strbuf_add(notes, one, sizeof *one);
}

static void add_sums(hn_metrics *metrics, const batch_sums *sums)
{
    hn_metrics_add_loss(metrics, sums->loss);
    if (metrics->labels == HN_METRICS_TOKENS) hn_metrics_add_tokens(metrics, sums->count, sums->correct);
}

static void keep_batch(hn_strbuf *notes, const batch_sums *sums, const float *logits, int labels, const hn_batch *batch)
{
    note one = {.sums = *sums};
    if (logits) each_row(logits, labels, batch, count_row, &one.rows);
    hn_strbuf_add(notes, &one, sizeof one);
    if (logits) each_row(logits, labels, batch, keep_row, notes);
}

/* What all processes found, in their order and so in that of the batches. */
static hn_status add_notes(hn_metrics *metrics, const unsigned char *notes, size_t size, hn_error *error)
{
    const unsigned char *end = notes + size;
    while (notes < end) {
        note one = {.rows = -1};
        if ((size_t)(end - notes) >= sizeof one) memcpy(&one, notes, sizeof one);
        if (one.rows < 0 || (size_t)one.rows > ((size_t)(end - notes) - sizeof one) / sizeof(row))
            return hn_fail(error, HN_ERR_FORMAT, "evaluation: another process's results are damaged");
        add_sums(metrics, &one.sums);
        notes += sizeof one;
        for (int64_t i = 0; i < one.rows; i++, notes += sizeof(row)) {
            row each;
            memcpy(&each, notes, sizeof each);
            add_row(metrics, &each);
        }
    }
    return HN_OK;
}

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

/* One process's batches, all of the order or [first, end) of it; into `metrics`, or noted. */
typedef struct evaluation {
    hn_runner *runner;
    hn_batch_buffer *buffer;
    const hn_dataset *dataset;
    hn_metrics *metrics;
    hn_strbuf *notes; /* NULL: into metrics */
    hn_logits_callback callback;
    void *context;
} evaluation;

static hn_status evaluate_batch(const evaluation *e, const uint32_t *examples, int32_t count, hn_error *error)
{
    int labels = hn_model_get_config(e->runner->model)->labels;
    bool tokens = e->metrics->labels == HN_METRICS_TOKENS;
    batch_sums sums = {0};
    const hn_batch *batch = &e->buffer->batch;
    hn_status status = hn_dataset_fill(e->dataset, e->buffer, examples, count, error);
    if (status == HN_OK) status = run_batch(e->runner, batch, !tokens, &sums, error);
    if (status != HN_OK) return status;
    const float *logits = tokens ? NULL : e->runner->logits;
    if (e->notes) {
        keep_batch(e->notes, &sums, logits, labels, batch);
        return HN_OK;
    }
    add_sums(e->metrics, &sums);
    if (logits) each_row(logits, labels, batch, add_row, e->metrics);
    return e->callback ? e->callback(e->context, logits, labels, batch, error) : HN_OK;
}

static hn_status evaluate_batches(const evaluation *e, const hn_share *share, const volatile int *stop, hn_error *error)
{
    hn_bounds bounds = e->runner->options.evaluation;
    hn_order_options options = {.batch_tokens = bounds.keys ? bounds.keys : bounds.tokens,
                                .batch_examples = bounds.examples,
                                .shuffle = false};
    hn_order *order = NULL;
    hn_status status = hn_order_open(&order, e->dataset, &options, error);
    if (status != HN_OK) return status;
    int64_t batches = hn_order_batches(order), part = share ? share->part : 0, parts = share ? share->parts : 1;
    for (int64_t b = batches * part / parts; status == HN_OK && b < batches * (part + 1) / parts; b++) {
        int32_t count;
        const uint32_t *examples = hn_order_examples(order, b, &count);
        status = stop && *stop ? hn_fail(error, HN_ERR_INTERRUPTED, "stopped during an evaluation")
                               : evaluate_batch(e, examples, count, error);
    }
    hn_order_free(order);
    return status;
}

/* Tells the others of this process's batches, and adds up all. */
static hn_status add_all(hn_metrics *metrics, hn_strbuf *notes, const hn_share *share, hn_status status, hn_error *error)
{
    void *all = NULL;
    size_t size = 0;
    if (status == HN_OK && notes->failed) status = hn_fail(error, HN_ERR_MEMORY, "out of memory for the results of an evaluation");
    status = share->gather(share->context, status, notes->text, notes->length, &all, &size, error);
    if (status == HN_OK) status = add_notes(metrics, all, size, error);
    hn_free(all);
    return status;
}

hn_status hn_evaluate(hn_runner *runner, hn_batch_buffer *buffer, const hn_dataset *dataset, hn_metrics *metrics,
                      hn_logits_callback callback, void *context, const hn_share *share, const volatile int *stop, hn_error *error)
{
    hn_strbuf notes;
    evaluation e = {runner, buffer, dataset, metrics, share ? &notes : NULL, callback, context};
    HN_ASSERT(!callback || (metrics->labels != HN_METRICS_TOKENS && !share));
    hn_strbuf_init(&notes);
    hn_runner_use(runner, false, 0);
    buffer->draw = (hn_draw){0}; /* the same tokens are hidden each time */
    hn_status status = evaluate_batches(&e, share, stop, error);
    if (share) status = add_all(metrics, &notes, share, status, error);
    hn_strbuf_close(&notes);
    return status;
}
