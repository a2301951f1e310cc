/* hone eval with zero_shot.files: labels that a model was never trained on, by inference */
#include <stdio.h>
#include <string.h>

#include "cli/model.h"
#include "core/json.h"
#include "eval/zero_shot.h"

typedef struct report {
    hn_zero_shot_report said;
    const hn_list *names;
    hn_metrics metrics;
    bool each;
    hn_strbuf line;
} report;

static void put_name(hn_strbuf *out, const char *before, const char *name)
{
    hn_strbuf_puts(out, before);
    hn_json_quote(out, name, strlen(name));
}

static void put_row(hn_strbuf *out, const hn_zero_shot_row *row, const hn_list *names)
{
    hn_strbuf_reset(out);
    put_name(out, "{\"file\": ", row->path);
    hn_strbuf_printf(out, ", \"line\": %lld", (long long)row->line);
    if (row->answer != HN_NO_TARGET) put_name(out, ", \"answer\": ", names->items[row->answer]);
    put_name(out, ", \"chosen\": ", names->items[row->chosen]);
    for (size_t k = 0; k < names->count; k++) {
        put_name(out, k ? ", " : ", \"scores\": {", names->items[k]);
        hn_strbuf_printf(out, ": %.6f", row->score[k]);
    }
    hn_strbuf_puts(out, "}}\n");
}

static hn_status add_row(void *context, const hn_zero_shot_row *row, hn_error *error)
{
    report *r = context;
    if (row->answer != HN_NO_TARGET) {
        hn_metrics_add_class(&r->metrics, row->margin, row->answer);
        hn_metrics_add_loss(&r->metrics, row->loss);
    }
    if (!r->each && r->said.labelled) return HN_OK;
    put_row(&r->line, row, r->names);
    if (r->line.failed) return hn_fail(error, HN_ERR_MEMORY, "out of memory for a line");
    if (fwrite(r->line.text, 1, r->line.length, stdout) != r->line.length) return hn_fail_errno(error, "standard output: cannot write");
    return HN_OK;
}

static hn_status check_model(const hn_source *source, hn_error *error)
{
    if (source->config.head == HN_HEAD_CLASSIFY && source->label_count <= 3) return HN_OK;
    if (source->config.head != HN_HEAD_CLASSIFY)
        return hn_fail(error, HN_ERR_USAGE, "zero_shot.files: expected a model that classifies pairs of texts (entailment, neutral, "
                       "contradiction), %s does not", source->path);
    return hn_fail(error, HN_ERR_USAGE, "zero_shot.files: expected a model of two or three classes (entailment, neutral, contradiction), %s has %d",
                   source->path, source->label_count);
}

static void say_counts(const hn_zero_shot_report *said, size_t labels, int32_t max_tokens)
{
    long long bad = (long long)hn_bad_rows_count(&said->bad);
    if (bad) fprintf(stderr, "hone: %lld bad rows were passed over\n", bad);
    if (said->unlabeled) fprintf(stderr, "hone: %lld rows have no label and do not count\n", (long long)said->unlabeled);
    if (said->cut)
        fprintf(stderr, "hone: texts were cut to %d tokens in %lld of %lld pairs\n", (int)max_tokens, (long long)said->cut,
                (long long)(said->rows * (int64_t)labels));
}

/* The open model over the files. */
static hn_status run(hn_cli_model *model, const hn_cli_config *config, const hn_labels *labels, report *r, hn_error *error)
{
    const hn_source *source = model->source;
    int32_t positions = (int32_t)(source->config.positions - source->config.position_offset), most = (int32_t)config->data.max_tokens;
    hn_zero_shot_options options = {.files = &config->eval.zero_shot.files, .format = (hn_data_format)config->data.format,
                                    .text = config->eval.zero_shot.text, .label = config->eval.zero_shot.label, .names = r->names,
                                    .labels = labels, .hypothesis = config->eval.zero_shot.hypothesis,
                                    .multi_label = config->eval.zero_shot.multi_label, .max_tokens = most < positions ? most : positions,
                                    .threads = (int)config->data.threads};
    r->said.bad.skip = config->data.on_bad_row != 0;
    hn_status status = hn_zero_shot_outputs(&options.entailment, &options.contradiction, model->labels, config->eval.zero_shot.entailment,
                                            config->eval.zero_shot.contradiction, options.multi_label, error);
    if (status == HN_OK) status = hn_cli_model_start(model, config, options.max_tokens, error);
    if (status == HN_OK && labels) status = hn_metrics_init(&r->metrics, hn_labels_count(labels), 0, error);
    if (status == HN_OK)
        status = hn_zero_shot_run(&model->runner, &model->buffer, source->tokenizer, &options, &r->said, add_row, r, &hn_cli_stop, error);
    if (status == HN_OK) say_counts(&r->said, r->names->count, options.max_tokens);
    return status;
}

hn_status hn_cli_zero_shot(const char *path, const hn_cli_config *config, bool json, bool each, hn_error *error)
{
    hn_cli_model model = {0};
    hn_labels *labels = NULL;
    report r = {.names = &config->eval.zero_shot.labels, .each = each};
    hn_strbuf_init(&r.line);
    hn_status status = hn_zero_shot_labels(&labels, r.names, &config->eval.zero_shot.label_map, config->eval.zero_shot.multi_label, error);
    if (status == HN_OK) status = hn_zero_shot_check_hypothesis(config->eval.zero_shot.hypothesis, error);
    if (status == HN_OK) status = hn_cli_model_open(&model, path, config, error);
    if (status == HN_OK) status = check_model(model.source, error);
    if (status == HN_OK) status = run(&model, config, labels, &r, error);
    if (status == HN_OK && r.said.labelled && (json || !each)) status = hn_cli_metrics("zero_shot", &r.metrics, labels, json, error);
    hn_metrics_close(&r.metrics);
    hn_strbuf_close(&r.line);
    hn_labels_free(labels);
    hn_cli_model_close(&model);
    return status;
}
