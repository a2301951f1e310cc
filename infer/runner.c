/* See runner.h. */
#include "infer/runner.h"

#include <string.h>

#include "core/mem.h"

static int32_t larger(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

static hn_bounds both_bounds(const hn_runner_options *options)
{
    hn_bounds a = options->evaluation, b = options->training;
    return (hn_bounds){.tokens = larger(a.tokens, b.tokens),
                       .examples = larger(a.examples, b.examples),
                       .longest = larger(a.longest, b.longest),
                       .keys = larger(a.keys, b.keys)};
}

/* Everything but the activations, whose two layouts share one arena. */
static void place(hn_runner *runner)
{
    hn_model_place_parameters(runner->model, &runner->parameters);
    hn_device_batch_place(&runner->batch, &runner->batches, both_bounds(&runner->options));
    runner->loss = hn_arena_take(&runner->batches, sizeof *runner->loss);
    runner->count = hn_arena_take(&runner->batches, sizeof *runner->count);
    runner->correct = hn_arena_take(&runner->batches, sizeof *runner->correct);
    runner->ctx.workspace_size = hn_model_workspace(runner->model, both_bounds(&runner->options));
    runner->ctx.workspace = hn_arena_take(&runner->workspace, runner->ctx.workspace_size);
}

static void freeze(hn_model *model)
{
    for (int g = 0; g < hn_model_group_count(model); g++) hn_model_freeze(model, g);
}

hn_status hn_runner_init(hn_runner *runner, const hn_model_config *config, const hn_runner_options *options,
                         hn_error *error)
{
    *runner = (hn_runner){.options = *options};
    hn_ops_cpu_threads(options->threads);
    hn_status status = options->counting ? hn_device_count(&runner->backend, &runner->ops, options->device, error)
                                         : hn_device_open(&runner->backend, &runner->ops, options->device, &runner->device_note, error);
    if (status != HN_OK) return status;
    runner->ctx = (hn_ops_context){.backend = &runner->backend};
    status = hn_model_open(&runner->model, config, options->precision, &runner->backend, runner->ops, error);
    if (status != HN_OK) return status;
    if (options->frozen) freeze(runner->model);
    hn_arena_init(&runner->parameters, "parameters", &runner->backend);
    hn_arena_init(&runner->batches, "batch", &runner->backend);
    hn_arena_init(&runner->activations, "activations", &runner->backend);
    hn_arena_init(&runner->workspace, "workspace", &runner->backend);
    runner->parameters.streamed = true;
    hn_runner_plan(runner, 0, 0, HN_RECOMPUTE_NONE);
    return HN_OK;
}

void hn_runner_plan(hn_runner *runner, int lowest, int highest, hn_recompute recompute)
{
    runner->recompute = recompute;
    hn_arena_rewind(&runner->parameters, 0);
    hn_arena_rewind(&runner->batches, 0);
    hn_arena_rewind(&runner->workspace, 0);
    place(runner);
    hn_runner_use(runner, false, 0);
    size_t largest = runner->activations.used;
    for (int first = lowest; first <= highest; first++) {
        hn_runner_use(runner, true, first);
        if (runner->activations.used > largest) largest = runner->activations.used;
    }
    runner->activations.used = largest;
}

hn_status hn_runner_alloc(hn_runner *runner, hn_error *error)
{
    hn_arena *arenas[] = {&runner->parameters, &runner->batches, &runner->activations, &runner->workspace};
    for (int i = 0; i < 4; i++) {
        hn_status status = hn_arena_alloc(arenas[i], error);
        if (status != HN_OK) return status;
    }
    place(runner);
    runner->ctx.error = &runner->step_error;
    const hn_model_config *config = hn_model_get_config(runner->model);
    hn_bounds bounds = both_bounds(&runner->options);
    int32_t rows = config->head == HN_HEAD_TAGS ? bounds.tokens : bounds.examples;
    runner->logits = hn_malloc((size_t)rows * (size_t)config->labels * sizeof *runner->logits);
    if (!runner->logits) return hn_fail(error, HN_ERR_MEMORY, "out of memory for logits");
    hn_status status = hn_device_batch_alloc(&runner->batch, &runner->backend, error);
    if (status != HN_OK) return status;
    return runner->ops->open(&runner->ctx, error);
}

static hn_status refresh_copy(hn_runner *runner, hn_error *error)
{
    hn_model_refresh_copy(runner->model, &runner->ctx);
    if (runner->step_error.status != HN_OK)
        return hn_fail(error, runner->step_error.status, "%s", runner->step_error.message);
    return HN_OK;
}

/* Takes the names out that the adapter's file has. */
static hn_status drop_found(hn_strbuf *names, const hn_peft *adapter, hn_error *error)
{
    size_t count, prefix = strlen(HN_PEFT_PREFIX);
    const hn_named_tensor *tensors = hn_peft_tensors(adapter, &count);
    hn_strbuf left;
    hn_strbuf_init(&left);
    for (const char *at = names->length ? names->text : ""; *at;) {
        size_t length = strcspn(at, "\n");
        bool found = false;
        for (size_t i = 0; i < count; i++)
            found |= strlen(tensors[i].name) == prefix + length && !strncmp(tensors[i].name + prefix, at, length);
        if (!found) hn_strbuf_printf(&left, "%.*s\n", (int)length, at);
        at += length + 1;
    }
    hn_strbuf_close(names);
    *names = left;
    return left.failed ? hn_fail(error, HN_ERR_MEMORY, "out of memory for names of parameters") : HN_OK;
}

hn_status hn_runner_load(hn_runner *runner, const hn_source *source, uint64_t seed, hn_strbuf *initialised,
                         hn_strbuf *ignored, hn_error *error)
{
    size_t count;
    const hn_named_tensor *tensors = hn_folder_tensors(source->folder, &count);
    hn_status status = hn_model_load(runner->model, tensors, count, hn_folder_source(source->folder),
                                     hn_folder_weights(source->folder), seed, initialised, ignored, error);
    if (status == HN_OK) status = hn_folder_intact(source->folder, error);
    hn_folder_idle(source->folder);
    if (status == HN_OK && source->adapter) {
        tensors = hn_peft_tensors(source->adapter, &count);
        status = hn_model_load_adapter(runner->model, tensors, count, hn_peft_weights(source->adapter), error);
        if (status == HN_OK) status = hn_peft_intact(source->adapter, error);
        if (status == HN_OK) status = drop_found(initialised, source->adapter, error);
    }
    return status == HN_OK ? refresh_copy(runner, error) : status;
}

hn_status hn_runner_initialise(hn_runner *runner, uint64_t seed, hn_error *error)
{
    hn_status status = hn_model_init(runner->model, seed, error);
    return status == HN_OK ? refresh_copy(runner, error) : status;
}

void hn_runner_use(hn_runner *runner, bool training, int first)
{
    hn_bounds bounds = training ? runner->options.training : runner->options.evaluation;
    hn_arena_rewind(&runner->activations, 0);
    if (bounds.tokens > 0)
        hn_model_place_activations(runner->model, &runner->activations, bounds, training, first, runner->recompute);
}

void hn_runner_close(hn_runner *runner)
{
    if (runner->ctx.state) runner->ops->close(&runner->ctx);
    hn_device_batch_close(&runner->batch);
    hn_free(runner->logits);
    hn_model_free(runner->model);
    hn_arena_close(&runner->workspace);
    hn_arena_close(&runner->activations);
    hn_arena_close(&runner->batches);
    hn_arena_close(&runner->parameters);
    if (runner->backend.close) runner->backend.close(&runner->backend);
    *runner = (hn_runner){0};
}
