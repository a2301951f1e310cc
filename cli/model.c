/* See model.h. */
#include "cli/model.h"

#include <string.h>

/* A softmax over classes, or one number: what eval and predict know to read off a head. */
static hn_status check_head(const hn_source *source, hn_error *error)
{
    const char *problem = json_string_value(json_object_get(hn_source_config(source), "problem_type"));
    bool regression = source->config.head == HN_HEAD_REGRESS;
    if (source->config.head == HN_HEAD_LM) return HN_OK;
    if (!source->label_count)
        return hn_fail(error, HN_ERR_MISMATCH, "%s: this checkpoint has no classification head (no classifier.weight): fine-tune "
                       "it first", source->path);
    if ((problem && !strcmp(problem, "multi_label_classification")) || regression != (source->label_count == 1))
        return hn_fail(error, HN_ERR_UNSUPPORTED, "%s/config.json: problem_type: \"%s\" with %d outputs; expected "
                       "single_label_classification with two or more, or regression with one", source->path,
                       problem ? problem : "", source->label_count);
    return HN_OK;
}

hn_status hn_cli_model_open(hn_cli_model *out, const char *path, const hn_cli_config *config, hn_error *error)
{
    *out = (hn_cli_model){0};
    hn_status status = hn_source_open_with(&out->source, path, config->train.lora.adapter, error);
    if (status == HN_OK && config->train.task.kind == HN_TASK_MLM && out->source->config.head != HN_HEAD_LM)
        return hn_source_masked(&out->source->config, out->source, error);
    if (status == HN_OK) status = check_head(out->source, error);
    if (status != HN_OK || out->source->config.head == HN_HEAD_LM) return status;
    hn_labels_options options = {
        .names = config->train.task.labels.items,
        .count = (int32_t)config->train.task.labels.count,
        .model_names = (const char *const *)out->source->labels,
        .model_count = out->source->label_count,
        .map = &config->data.label_map,
        .regression = out->source->config.head == HN_HEAD_REGRESS,
    };
    if (!options.count && !options.model_names && !options.regression)
        return hn_fail(error, HN_ERR_USAGE, "task.labels: %s names no labels; give their %d names in order (task.labels=a,b,...)",
                       out->source->path, out->source->label_count);
    status = hn_labels_open(&out->labels, &options, error);
    if (config->train.task.kind == HN_TASK_TAG) hn_model_config_head(&out->source->config, HN_HEAD_TAGS, out->source->label_count);
    return status;
}

int32_t hn_cli_batch_tokens(const hn_cli_config *config)
{
    return (int32_t)(config->train.eval.batch_tokens ? config->train.eval.batch_tokens : config->train.train.batch_tokens);
}

hn_status hn_cli_model_start(hn_cli_model *model, const hn_cli_config *config, int32_t longest, hn_error *error)
{
    int32_t tokens = hn_cli_batch_tokens(config);
    int64_t positions = model->source->config.positions - model->source->config.position_offset;
    hn_bounds bounds = {.tokens = tokens > longest ? tokens : longest,
                        .examples = (int32_t)config->train.train.batch_examples,
                        .longest = longest};
    if (config->train.task.kind == HN_TASK_SFT) bounds.keys = bounds.tokens;
    if (longest > positions)
        return hn_fail(error, HN_ERR_USAGE, "data.max_tokens: an example has %d tokens, and %s has %lld positions", longest,
                       model->source->path, (long long)positions);
    return hn_cli_model_start_within(model, config, bounds, error);
}

hn_status hn_cli_model_start_within(hn_cli_model *model, const hn_cli_config *config, hn_bounds bounds, hn_error *error)
{
    hn_runner_options options = {
        .precision = config->train.train.precision == HN_PRECISION_BF16 ? HN_BF16 : HN_F32,
        .threads = (int)config->train.train.threads,
        .device = (hn_device)config->train.train.device,
        .frozen = true,
        .evaluation = bounds,
    };
    hn_strbuf initialised, ignored;
    hn_strbuf_init(&initialised);
    hn_strbuf_init(&ignored);
    hn_status status = hn_runner_init(&model->runner, &model->source->config, &options, error);
    if (status == HN_OK) status = hn_runner_alloc(&model->runner, error);
    if (status == HN_OK && model->runner.device_note.status != HN_OK) hn_cli_notice(model->runner.device_note.message);
    if (status == HN_OK) status = hn_runner_load(&model->runner, model->source, 0, &initialised, &ignored, error);
    if (status == HN_OK && initialised.length)
        status = hn_fail(error, HN_ERR_FORMAT, "%s: parameters are missing: %s", model->source->path, initialised.text);
    if (status == HN_OK)
        status = hn_batch_buffer_init_shared(&model->buffer, bounds.tokens, bounds.examples, bounds.keys, error);
    hn_strbuf_close(&initialised);
    hn_strbuf_close(&ignored);
    return status;
}

void hn_cli_model_stop(hn_cli_model *model)
{
    hn_batch_buffer_close(&model->buffer);
    hn_runner_close(&model->runner);
}

void hn_cli_model_close(hn_cli_model *model)
{
    hn_cli_model_stop(model);
    hn_labels_free(model->labels);
    hn_source_free(model->source);
    *model = (hn_cli_model){0};
}
