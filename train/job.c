/* See job.h. Everything that can be wrong with model, labels and data is found here, before memory is taken. */
#include "train/job.h"

#include <math.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "eval/metrics.h"

static bool predicts_tokens(int kind)
{
    return kind == HN_TASK_LM || kind == HN_TASK_SFT || kind == HN_TASK_MLM;
}

hn_dataset_options hn_job_data(int kind, const hn_source *source, const hn_labels *labels, const hn_template *chat)
{
    static const hn_data_task tasks[] = {[HN_TASK_CLASSIFY] = HN_DATA_SEQUENCE, [HN_TASK_REGRESS] = HN_DATA_SEQUENCE,
                                         [HN_TASK_LM] = HN_DATA_TEXT, [HN_TASK_SFT] = HN_DATA_INSTRUCT,
                                         [HN_TASK_MLM] = HN_DATA_MASKED, [HN_TASK_TAG] = HN_DATA_TAGS};
    return (hn_dataset_options){.task = tasks[kind], .labels = labels, .chat = chat, .end_token = source->end_token};
}

hn_status hn_job_chat(hn_template **out, int kind, const hn_source *source, const hn_data_config *data, hn_error *error)
{
    hn_template_options options;
    *out = NULL;
    if (kind != HN_TASK_SFT) return HN_OK;
    hn_status status = hn_data_template(&options, data, error);
    return status == HN_OK ? hn_source_template(out, &options, source, error) : status;
}

int hn_job_measured(const hn_job *job)
{
    return predicts_tokens(job->config->task.kind) ? HN_METRICS_TOKENS : job->model.labels;
}

/* The metric that the best checkpoint goes by is one of the task's. */
static hn_status check_metric(const hn_job *job, hn_error *error)
{
    static const char *const tasks[] = {[HN_METRICS_TOKENS] = "tokens", "numbers", "classes"};
    hn_metric metric = (hn_metric)job->config->eval.metric;
    int measured = hn_job_measured(job);
    hn_strbuf fitting;
    if (hn_metric_fits(metric, measured)) return HN_OK;
    hn_strbuf_init(&fitting);
    for (int m = 0; m < HN_METRIC_COUNT; m++)
        if (hn_metric_fits((hn_metric)m, measured))
            hn_strbuf_printf(&fitting, "%s%s", fitting.length ? ", " : "", hn_metric_name((hn_metric)m));
    hn_status status = hn_fail(error, HN_ERR_USAGE, "eval.metric: \"%s\" does not fit a task of %s; expected one of %s",
                               hn_metric_name(metric), tasks[measured > 2 ? 2 : measured], fitting.failed ? "its own" : fitting.text);
    hn_strbuf_close(&fitting);
    return status;
}

static hn_status open_labels(hn_job *job, hn_error *error)
{
    const hn_source *source = job->source;
    const hn_train_config *config = job->config;
    hn_labels_options options = {
        .names = config->task.labels.items,
        .count = (int32_t)config->task.labels.count,
        .model_names = (const char *const *)source->labels,
        .model_count = source->label_count,
        .map = &job->data->label_map,
        .regression = config->task.kind == HN_TASK_REGRESS,
    };
    hn_status status = hn_labels_open(&job->labels, &options, error);
    if (status != HN_OK) return status;
    job->model.head = options.regression ? HN_HEAD_REGRESS : HN_HEAD_CLASSIFY;
    job->model.labels = hn_labels_count(job->labels);
    if (source->label_count && source->label_count != job->model.labels)
        return hn_fail(error, HN_ERR_MISMATCH, "task.labels: %d labels, but the head of %s has %d outputs", job->model.labels,
                       source->path, source->label_count);
    return HN_OK;
}

/* New adapters by the config; without, those that the model has go on. */
static hn_status add_adapters(hn_job *job, hn_error *error)
{
    const hn_train_config *config = job->config;
    if (config->model.init == HN_START_SCRATCH && (config->lora.r || config->lora.adapter))
        return hn_fail(error, HN_ERR_USAGE, "lora: adapters are for a pretrained model; expected model.init=pretrained");
    if (config->lora.adapter && strcmp(config->lora.adapter, job->source->adapter_path))
        return hn_fail(error, HN_ERR_USAGE, "lora.adapter: model.path is an adapter itself (%s); expected the base to put %s on",
                       job->source->adapter_path, config->lora.adapter);
    if (!config->lora.r) return HN_OK;
    if (job->source->adapter)
        return hn_fail(error, HN_ERR_USAGE, "lora.r: %s is an adapter of its own settings; expected 0 to go on with it, or a model that "
                       "it was merged into", job->source->adapter_path);
    job->model.lora = (hn_lora_config){.rank = (int)config->lora.r,
                                       .alpha = (float)config->lora.alpha,
                                       .dropout = (float)config->lora.dropout,
                                       .rank_stabilised = config->lora.rslora,
                                       .targets = config->lora.targets.items,
                                       .target_count = (int)config->lora.targets.count,
                                       .saved = config->lora.modules_to_save.items,
                                       .saved_count = (int)config->lora.modules_to_save.count};
    return HN_OK;
}

/* The model with the task's head, and labels where it has any. */
static hn_status open_task(hn_job *job, hn_error *error)
{
    const hn_source *source = job->source;
    int kind = job->config->task.kind;
    bool tokens = predicts_tokens(kind), decoder = source->config.head == HN_HEAD_LM;
    job->model = source->config;
    if (decoder != (tokens && kind != HN_TASK_MLM))
        return hn_fail(error, HN_ERR_UNSUPPORTED, "task.kind: %s is %s; expected %s", source->path,
                       decoder ? "a decoder, which predicts the next token" : "an encoder, which reads whole texts",
                       decoder ? "lm or sft, or an encoder" : "classify, regress, mlm or tag, or a decoder");
    hn_status status = kind == HN_TASK_MLM ? hn_source_masked(&job->model, source, error) : HN_OK;
    if (status == HN_OK && !tokens) status = open_labels(job, error);
    if (status == HN_OK && kind == HN_TASK_TAG && job->model.labels < 2)
        status = hn_fail(error, HN_ERR_USAGE, "task.labels: expected two tags or more, got %d", job->model.labels);
    if (status == HN_OK && kind == HN_TASK_TAG) hn_model_config_head(&job->model, HN_HEAD_TAGS, job->model.labels);
    if (status == HN_OK) status = hn_job_chat(&job->chat, kind, source, job->data, error);
    if (status == HN_OK) status = add_adapters(job, error);
    return status == HN_OK ? check_metric(job, error) : status;
}

static hn_status check_lengths(const hn_job *job, const hn_dataset *dataset, const char *what, hn_error *error)
{
    int32_t longest = hn_dataset_longest(dataset);
    int64_t positions = job->model.positions - job->model.position_offset;
    if (longest > positions)
        return hn_fail(error, HN_ERR_USAGE, "data.max_tokens: %s has an example of %d tokens, and %s has %lld positions; "
                       "expected a value up to that", what, longest, job->source->path, (long long)positions);
    if (longest > job->config->train.batch_tokens)
        return hn_fail(error, HN_ERR_USAGE, "train.batch_tokens: expected at least %d, as %s has an example of so many tokens, "
                       "got %lld (or set data.max_tokens)", longest, what, (long long)job->config->train.batch_tokens);
    return HN_OK;
}

static hn_status open_dataset(hn_dataset **out, const hn_job *job, const hn_list *files, const char *cache, hn_error *error)
{
    hn_dataset_options options = hn_job_data(job->config->task.kind, job->source, job->labels, job->chat);
    options.cache_folder = cache;
    options.pulse = job->pulse;
    return hn_dataset_open(out, job->data, files, job->source->tokenizer, &options, error);
}

static hn_status open_dev(hn_job *job, const char *cache, hn_error *error)
{
    hn_data_sets sets;
    hn_status status = hn_data_sets_open(&sets, &job->data->dev, "dev", error);
    if (status != HN_OK) return status;
    job->dev = hn_calloc(sets.count, sizeof *job->dev);
    if (!job->dev) status = hn_fail(error, HN_ERR_MEMORY, "out of memory for the dev sets");
    for (size_t i = 0; status == HN_OK && i < sets.count; i++) {
        hn_dev_set *dev = &job->dev[job->dev_count++];
        dev->name = hn_strdup(sets.items[i].name);
        if (!dev->name) status = hn_fail(error, HN_ERR_MEMORY, "out of memory for the dev sets");
        if (status == HN_OK) status = open_dataset(&dev->dataset, job, &sets.items[i].files, cache, error);
        if (status == HN_OK) status = check_lengths(job, dev->dataset, dev->name, error);
    }
    hn_data_sets_close(&sets);
    return status;
}

hn_order_options hn_job_order(const hn_job *job, int64_t epoch)
{
    return (hn_order_options){.seed = (uint64_t)job->config->train.seed,
                              .epoch = epoch,
                              .batch_tokens = (int32_t)job->config->train.batch_tokens,
                              .batch_examples = (int32_t)job->config->train.batch_examples,
                              .window = (int32_t)job->data->window,
                              .shuffle = job->data->shuffle};
}

/* Part p ends behind the first example up to which (p + 1) / parts of the tokens have come. */
void hn_job_cut(const hn_job *job, const uint32_t *examples, int32_t count, int32_t *end)
{
    int64_t total = 0, passed = 0;
    int32_t at = 0;
    for (int32_t i = 0; i < count; i++) total += hn_dataset_length(job->train, examples[i]);
    for (int p = 0; p < job->parts; p++) {
        while (at < count && passed * job->parts < (p + 1) * total) passed += hn_dataset_length(job->train, examples[at++]);
        end[p] = at;
    }
}

int32_t hn_job_slice(const hn_job *job, const uint32_t *examples, int32_t count)
{
    int64_t slice = job->config->train.slice_tokens, tokens = 0;
    if (!slice) return count;
    for (int32_t i = 0; i < count; i++) {
        tokens += hn_dataset_length(job->train, examples[i]);
        if (tokens > slice && i > 0) return i;
    }
    return count;
}

static void widen(hn_bounds *bounds, const hn_dataset *dataset, const uint32_t *examples, int32_t count)
{
    int32_t tokens = 0;
    for (int32_t i = 0; i < count; i++) tokens += hn_dataset_length(dataset, examples[i]);
    if (bounds->keys) {
        if (tokens > bounds->keys) bounds->keys = tokens;
        tokens = hn_dataset_shared_rows(dataset, examples, count);
    }
    if (tokens > bounds->tokens) bounds->tokens = tokens;
    if (count > bounds->examples) bounds->examples = count;
}

static hn_status widen_by_slices(hn_job *job, const hn_order *order, hn_error *error)
{
    int32_t count, slice, first, *end = hn_calloc((size_t)job->parts, sizeof *end);
    if (!end) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the parts of a batch");
    for (int64_t b = 0; b < hn_order_batches(order); b++) {
        const uint32_t *examples = hn_order_examples(order, b, &count);
        hn_job_cut(job, examples, count, end);
        first = 0;
        for (int p = 0; p < job->parts; p++)
            for (; first < end[p]; first += slice) {
                slice = hn_job_slice(job, examples + first, end[p] - first);
                widen(&job->training, job->train, examples + first, slice);
            }
    }
    hn_free(end);
    return HN_OK;
}

/* The batches of evaluation are cut by the keys' bounds; those found here are as large as the largest, so the evaluator, which
 * cuts by them, gets the same ones. */
static hn_status measure_evaluation(hn_job *job, hn_error *error)
{
    const hn_train_config *config = job->config;
    hn_order_options options = {.batch_examples = (int32_t)config->train.batch_examples};
    for (size_t i = 0; i < job->dev_count; i++) {
        const hn_dataset *dev = job->dev[i].dataset;
        hn_order *order = NULL;
        int32_t longest = hn_dataset_longest(dev), count;
        if (longest > job->evaluation.longest) job->evaluation.longest = longest;
        options.batch_tokens = (int32_t)(config->eval.batch_tokens ? config->eval.batch_tokens : config->train.batch_tokens);
        if (options.batch_tokens < longest) options.batch_tokens = longest;
        hn_status status = hn_order_open(&order, dev, &options, error);
        if (status != HN_OK) return status;
        for (int64_t b = 0; b < hn_order_batches(order); b++) {
            const uint32_t *examples = hn_order_examples(order, b, &count);
            widen(&job->evaluation, dev, examples, count);
        }
        hn_order_free(order);
    }
    return HN_OK;
}

/* With dropout a row that stands for many examples would have one mask for all of them, and a cache of the trunk is by examples. */
static bool shares_prefixes(const hn_job *job)
{
    const hn_train_config *config = job->config;
    return config->task.kind == HN_TASK_SFT && config->train.share_prefixes && !config->freeze.cache && !hn_model_config_drops(&job->model);
}

/* Packs every epoch up to the last step once, so that the number of steps and the largest slice are known before the first. Epochs
 * behind train.max_steps are left out. */
static hn_status count_steps(hn_job *job, hn_error *error)
{
    double epochs = job->config->train.epochs;
    int64_t max_steps = job->config->train.max_steps;
    int64_t count = (int64_t)ceil(epochs);
    job->epoch_batches = hn_calloc((size_t)count, sizeof *job->epoch_batches);
    job->training.longest = hn_dataset_longest(job->train);
    if (!job->epoch_batches) return hn_fail(error, HN_ERR_MEMORY, "out of memory for %lld epochs", (long long)count);
    for (int64_t e = 0; e < count && (!max_steps || job->total_steps < max_steps); e++) {
        hn_order *order = NULL;
        hn_order_options options = hn_job_order(job, e);
        hn_status status = hn_order_open(&order, job->train, &options, error);
        if (status != HN_OK) return status;
        int64_t batches = hn_order_batches(order);
        double share = fmin(1, epochs - (double)e);
        status = widen_by_slices(job, order, error);
        job->epoch_batches[job->epoch_count++] = batches;
        job->total_steps += (int64_t)ceil(share * (double)batches - 1e-9);
        hn_order_free(order);
        if (status != HN_OK) return status;
    }
    if (max_steps > 0 && job->total_steps > max_steps) job->total_steps = max_steps;
    return HN_OK;
}

static hn_status choose_parts(hn_job *job, int ranks, hn_error *error)
{
    int64_t parts = job->config->train.elastic ? job->config->train.elastic_parts : ranks;
    if (job->config->train.elastic && parts & (parts - 1))
        return hn_fail(error, HN_ERR_USAGE, "train.elastic_parts: expected a power of two, got %lld", (long long)parts);
    if (parts % ranks)
        return hn_fail(error, HN_ERR_USAGE, "train.elastic: expected 1, 2, 4 or another power of two of processes, up to train.elastic_parts (%lld), got "
                       "%d", (long long)parts, ranks);
    job->parts = (int)parts;
    return HN_OK;
}

/* A run folder inside a model's folder would hide the model: whoever opens it finds a run. */
static hn_status check_output(const char *dir, hn_error *error)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json"};
    hn_status status = HN_OK;
    for (int i = 0; i < 2 && status == HN_OK; i++) {
        char *path = hn_path_join(dir, names[i]);
        if (!path) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the path of %s", dir);
        if (hn_path_exists(path))
            status = hn_fail(error, HN_ERR_USAGE, "output.dir: %s is a model's folder (it holds %s); expected a folder of its own "
                             "for the run", dir, names[i]);
        hn_free(path);
    }
    return status;
}

static hn_status open_data(hn_job *job, hn_error *error)
{
    char *cache = NULL;
    hn_status status = check_output(job->config->output.dir, error);
    if (status == HN_OK) status = hn_data_cache_folder(&cache, job->data, job->config->output.dir, error);
    if (status == HN_OK) status = open_dataset(&job->train, job, &job->data->train, cache, error);
    if (status == HN_OK) status = check_lengths(job, job->train, "data.train", error);
    if (status == HN_OK) status = open_dev(job, cache, error);
    job->training.keys = job->evaluation.keys = shares_prefixes(job); /* widened from here */
    if (status == HN_OK) status = count_steps(job, error);
    if (status == HN_OK) status = measure_evaluation(job, error);
    if (status == HN_OK) status = hn_samples_open(&job->samples, job, error);
    if (status == HN_OK) status = hn_source_digest(&job->weights, job->source, error);
    hn_free(cache);
    return status;
}

hn_status hn_job_open(hn_job **out, const hn_train_config *config, const hn_data_config *data, hn_job_parts parts,
                      const hn_job_world *world, hn_error *error)
{
    hn_job *job = hn_calloc(1, sizeof *job);
    if (!job) return hn_fail(error, HN_ERR_MEMORY, "out of memory for a job");
    job->config = config;
    job->data = data;
    job->pulse = world ? world->pulse : NULL;
    hn_status status = choose_parts(job, world ? world->ranks : 1, error);
    if (status == HN_OK)
        status = config->model.init == HN_START_SCRATCH
                     ? hn_source_open_bare(&job->source, config->model.path, error)
                     : hn_source_open_with(&job->source, config->model.path, config->lora.adapter, error);
    if (status == HN_OK) status = open_task(job, error);
    if (status == HN_OK && parts == HN_JOB_ALL) status = open_data(job, error);
    if (status == HN_OK) *out = job;
    else hn_job_free(job);
    return status;
}

void hn_job_free(hn_job *job)
{
    if (!job) return;
    for (size_t i = 0; i < job->dev_count; i++) {
        hn_dataset_free(job->dev[i].dataset);
        hn_free(job->dev[i].name);
    }
    hn_samples_close(&job->samples);
    hn_free(job->dev);
    hn_free(job->epoch_batches);
    hn_dataset_free(job->train);
    hn_labels_free(job->labels);
    hn_template_free(job->chat);
    hn_source_free(job->source);
    hn_free(job);
}
