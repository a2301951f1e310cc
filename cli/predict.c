/* hone predict */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/model.h"
#include "core/json.h"
#include "core/mem.h"
#include "eval/evaluator.h"

/* Softmax in place, in double. */
static void softmax(double *p, const float *logits, int labels)
{
    double largest = logits[0], sum = 0;
    for (int k = 1; k < labels; k++)
        if (logits[k] > largest) largest = logits[k];
    for (int k = 0; k < labels; k++) sum += p[k] = exp((double)logits[k] - largest);
    for (int k = 0; k < labels; k++) p[k] /= sum;
}

typedef struct printer {
    const hn_labels *labels;
    double *probabilities;
    hn_strbuf line;
} printer;

static void print_classes(printer *out, const float *logits, int labels)
{
    int best = 0;
    softmax(out->probabilities, logits, labels);
    for (int k = 1; k < labels; k++)
        if (out->probabilities[k] > out->probabilities[best]) best = k;
    hn_strbuf_puts(&out->line, "{\"label\": ");
    const char *name = hn_labels_name(out->labels, best);
    hn_json_quote(&out->line, name, strlen(name));
    hn_strbuf_puts(&out->line, ", \"probabilities\": {");
    for (int k = 0; k < labels; k++) {
        name = hn_labels_name(out->labels, k);
        if (k) hn_strbuf_puts(&out->line, ", ");
        hn_json_quote(&out->line, name, strlen(name));
        hn_strbuf_printf(&out->line, ": %.6f", out->probabilities[k]);
    }
    hn_strbuf_puts(&out->line, "}}\n");
}

/* The outputs of an example are numbers: NaN and Inf have no probabilities, and no place in JSON. */
static hn_status check_row(const float *logits, int labels, uint32_t example, hn_error *error)
{
    for (int k = 0; k < labels; k++)
        if (!isfinite(logits[k]))
            return hn_fail(error, HN_ERR_NUMERIC, "data.predict: example %u: expected finite outputs of the model, got %g: its "
                           "weights are broken or overflow in train.precision", example, (double)logits[k]);
    return HN_OK;
}

/* The tags of a row's words, at their first tokens: {"tags": ["B-PER", "O"]}. */
static hn_status print_tags(printer *out, const float *logits, int labels, const hn_batch *batch, int32_t row, hn_error *error)
{
    const char *between = "{\"tags\": [";
    for (int32_t t = batch->cu_seqlens[row]; t < batch->cu_seqlens[row + 1]; t++) {
        const float *at = logits + (int64_t)t * labels;
        int best = 0;
        if (batch->target[t] == HN_NO_TARGET) continue;
        hn_status status = check_row(at, labels, batch->example[row], error);
        if (status != HN_OK) return status;
        for (int k = 1; k < labels; k++)
            if (at[k] > at[best]) best = k;
        const char *name = hn_labels_name(out->labels, best);
        hn_strbuf_puts(&out->line, between);
        hn_json_quote(&out->line, name, strlen(name));
        between = ", ";
    }
    hn_strbuf_puts(&out->line, "]}\n");
    return HN_OK;
}

static hn_status print_batch(void *context, const float *logits, int labels, const hn_batch *batch, hn_error *error)
{
    printer *out = context;
    hn_strbuf_reset(&out->line);
    for (int32_t i = 0; i < batch->n; i++) {
        hn_status status = batch->target ? print_tags(out, logits, labels, batch, i, error)
                                         : check_row(logits + (int64_t)i * labels, labels, batch->example[i], error);
        if (status != HN_OK) return status;
        if (batch->target) continue;
        if (labels == 1) hn_strbuf_printf(&out->line, "{\"value\": %.6g}\n", (double)logits[i]);
        else print_classes(out, logits + (int64_t)i * labels, labels);
    }
    if (out->line.failed) return hn_fail(error, HN_ERR_MEMORY, "out of memory for predictions");
    if (fwrite(out->line.text, 1, out->line.length, stdout) != out->line.length || fflush(stdout))
        return hn_fail_errno(error, "standard output: cannot write");
    return HN_OK;
}

static hn_status predict(const char *path, const hn_cli_config *config, hn_error *error)
{
    hn_cli_model model;
    hn_dataset *dataset = NULL;
    hn_dataset_options options = {.task = HN_DATA_SEQUENCE};
    hn_metrics metrics = {0};
    printer out = {0};
    hn_strbuf_init(&out.line);
    if (!config->data.predict.count)
        return hn_fail(error, HN_ERR_USAGE, "data.predict: expected a file, or - for standard input, got nothing");
    hn_status status = hn_cli_model_open(&model, path, config, error);
    if (status == HN_OK && model.source->config.head == HN_HEAD_TAGS) options.task = HN_DATA_TAGS;
    if (status == HN_OK && !model.labels)
        status = hn_fail(error, HN_ERR_MISMATCH, "%s: predicts tokens; expected an encoder with a classification head",
                         model.source->path);
    if (status == HN_OK)
        status = hn_dataset_open(&dataset, &config->data, &config->data.predict, model.source->tokenizer, &options, error);
    if (status == HN_OK && hn_dataset_count(dataset) == 0) goto out;
    if (status == HN_OK) status = hn_cli_model_start(&model, config, hn_dataset_longest(dataset), error);
    if (status == HN_OK) {
        int labels = model.source->label_count;
        out.labels = model.labels;
        out.probabilities = hn_calloc((size_t)labels, sizeof *out.probabilities);
        if (!out.probabilities) status = hn_fail(error, HN_ERR_MEMORY, "out of memory for predictions");
        if (status == HN_OK) status = hn_metrics_init(&metrics, labels, 0, error);
    }
    if (status == HN_OK)
        status = hn_evaluate(&model.runner, &model.buffer, dataset, &metrics, print_batch, &out, NULL, &hn_cli_stop, error);
out:
    hn_metrics_close(&metrics);
    hn_free(out.probabilities);
    hn_strbuf_close(&out.line);
    hn_dataset_free(dataset);
    hn_cli_model_close(&model);
    return status;
}

int hn_verb_predict(int argc, char **argv)
{
    hn_arguments arguments;
    hn_cli_config config;
    hn_error error = {0};
    hn_cli_tables(&config);
    hn_status status = hn_cli_arguments(&arguments, argc, argv, 1, 1, NULL, &error);
    if (status == HN_OK)
        status = hn_cli_model_config(&config, arguments.words[0], arguments.overrides, arguments.override_count, &error);
    if (status == HN_OK) status = predict(arguments.words[0], &config, &error);
    hn_cli_config_close(&config);
    return status == HN_OK ? HN_EXIT_DONE : hn_cli_fail(&error);
}
