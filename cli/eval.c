/* hone eval */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/model.h"
#include "core/json.h"
#include "eval/evaluator.h"
#include "train/job.h"

/* What the metrics are means of. */
static const char *counted(const hn_metrics *metrics)
{
    return metrics->labels == HN_METRICS_TOKENS ? "targets" : "examples";
}

static hn_status print_table(const char *set, const hn_metrics *metrics, const hn_labels *labels, hn_error *error)
{
    (void)error;
    printf("%s: %lld %s, loss %.4f", set, (long long)metrics->count, counted(metrics), hn_metrics_loss(metrics));
    for (int m = HN_METRIC_LOSS + 1; m < HN_METRIC_COUNT; m++)
        if (hn_metric_fits((hn_metric)m, metrics->labels))
            printf(", %s %.4f", hn_metric_name((hn_metric)m), hn_metrics_value(metrics, (hn_metric)m));
    printf("\n");
    if (metrics->labels <= 1) return HN_OK;
    printf("\n%-20s %9s %9s %9s %9s   predicted as\n", "label", "precision", "recall", "f1", "examples");
    for (int k = 0; k < metrics->labels; k++) {
        hn_class_metrics one = hn_metrics_class(metrics, k);
        printf("%-20s %9.4f %9.4f %9.4f %9lld  ", hn_labels_name(labels, k), one.precision, one.recall, one.f1,
               (long long)one.support);
        for (int j = 0; j < metrics->labels; j++) printf(" %7lld", (long long)metrics->confusion[(int64_t)k * metrics->labels + j]);
        printf("\n");
    }
    return HN_OK;
}

/* A NaN (a rank correlation that was not kept, weights that are broken) is null in JSON. */
static void put_number(hn_strbuf *out, const char *name, double value)
{
    if (isfinite(value)) hn_strbuf_printf(out, ", \"%s\": %.9g", name, value);
    else hn_strbuf_printf(out, ", \"%s\": null", name);
}

static hn_status print_json(const char *set, const hn_metrics *metrics, const hn_labels *labels, hn_error *error)
{
    hn_strbuf out;
    hn_status status = HN_OK;
    hn_strbuf_init(&out);
    hn_strbuf_puts(&out, "{\"set\": ");
    hn_json_quote(&out, set, strlen(set));
    hn_strbuf_printf(&out, ", \"%s\": %lld", counted(metrics), (long long)metrics->count);
    put_number(&out, "loss", hn_metrics_loss(metrics));
    for (int m = HN_METRIC_LOSS + 1; m < HN_METRIC_COUNT; m++)
        if (hn_metric_fits((hn_metric)m, metrics->labels))
            put_number(&out, hn_metric_name((hn_metric)m), hn_metrics_value(metrics, (hn_metric)m));
    if (metrics->labels > 1) {
        hn_strbuf_puts(&out, ", \"classes\": ");
        hn_metrics_describe_classes(metrics, labels, &out);
        hn_strbuf_puts(&out, ", \"confusion\": ");
        hn_metrics_describe_confusion(metrics, &out);
    }
    hn_strbuf_puts(&out, "}\n");
    if (out.failed) status = hn_fail(error, HN_ERR_MEMORY, "out of memory for the metrics of %s", set);
    else fputs(out.text, stdout);
    hn_strbuf_close(&out);
    return status;
}

hn_status hn_cli_metrics(const char *set, const hn_metrics *metrics, const hn_labels *labels, bool json, hn_error *error)
{
    return (json ? print_json : print_table)(set, metrics, labels, error);
}

static int task_of(const hn_cli_model *model, const hn_cli_config *config)
{
    if (model->source->config.head == HN_HEAD_TAGS) return HN_TASK_TAG;
    if (model->labels) return HN_TASK_CLASSIFY;
    if (model->source->config.head == HN_HEAD_MASKED) return HN_TASK_MLM;
    return config->train.task.kind == HN_TASK_SFT ? HN_TASK_SFT : HN_TASK_LM;
}

/* Every named dev set in turn; the model is started for the longest of them. */
static hn_status evaluate(const char *path, const hn_cli_config *config, bool json, hn_error *error)
{
    hn_cli_model model;
    hn_data_sets sets = {0};
    hn_metrics metrics = {0};
    if (!config->data.dev.count) return hn_fail(error, HN_ERR_USAGE, "data.dev: expected a file, got nothing");
    hn_status status = hn_cli_model_open(&model, path, config, error);
    if (status == HN_OK) status = hn_data_sets_open(&sets, &config->data.dev, "dev", error);
    for (size_t i = 0; status == HN_OK && i < sets.count; i++) {
        hn_dataset *dataset = NULL;
        hn_template *chat = NULL;
        int kind = task_of(&model, config);
        status = hn_job_chat(&chat, kind, model.source, &config->data, error);
        hn_dataset_options options = hn_job_data(kind, model.source, model.labels, chat);
        if (status == HN_OK)
            status = hn_dataset_open(&dataset, &config->data, &sets.items[i].files, model.source->tokenizer, &options, error);
        if (status == HN_OK) status = hn_cli_model_start(&model, config, hn_dataset_longest(dataset), error);
        if (status == HN_OK)
            status = hn_metrics_init(&metrics, model.labels ? model.source->label_count : HN_METRICS_TOKENS,
                                     hn_dataset_count(dataset), error);
        if (status == HN_OK)
            status = hn_evaluate(&model.runner, &model.buffer, dataset, &metrics, NULL, NULL, NULL, &hn_cli_stop, error);
        if (status == HN_OK) status = hn_cli_metrics(sets.items[i].name, &metrics, model.labels, json, error);
        hn_metrics_close(&metrics);
        hn_dataset_free(dataset);
        hn_template_free(chat);
        hn_cli_model_stop(&model);
    }
    hn_data_sets_close(&sets);
    hn_cli_model_close(&model);
    return status;
}

int hn_verb_eval(int argc, char **argv)
{
    static const char *const flags[] = {"--json", "--each", NULL};
    hn_arguments arguments;
    hn_cli_config config;
    hn_error error = {0};
    hn_cli_tables(&config);
    hn_status status = hn_cli_arguments(&arguments, argc, argv, 1, 1, flags, &error);
    if (status == HN_OK)
        status = hn_cli_model_config(&config, arguments.words[0], arguments.overrides, arguments.override_count, &error);
    bool json = arguments.found[0], each = arguments.found[1], choices = config.eval.choices.files.count > 0,
         zero_shot = config.eval.zero_shot.files.count > 0;
    if (status == HN_OK && each && !choices && !zero_shot)
        status = hn_fail(&error, HN_ERR_USAGE, "--each: expected choices.files or zero_shot.files, rows to print a line for, got nothing");
    if (status == HN_OK && choices && zero_shot)
        status = hn_fail(&error, HN_ERR_USAGE, "zero_shot.files: expected it alone, got choices.files too");
    if (status == HN_OK && zero_shot) status = hn_cli_zero_shot(arguments.words[0], &config, json, each, &error);
    else if (status == HN_OK && choices) status = hn_cli_choices(arguments.words[0], &config, json, each, &error);
    else if (status == HN_OK) status = evaluate(arguments.words[0], &config, json, &error);
    hn_cli_config_close(&config);
    return status == HN_OK ? HN_EXIT_DONE : hn_cli_fail(&error);
}
