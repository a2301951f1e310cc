/* See export.h. A checkpoint holds what was trained: the model is loaded from model.path first, then the weights of the groups that
 * were stepped are read over it. */
#include "train/export.h"

#include <stdio.h>

#include "checkpoints/checkpoint.h"
#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "train/internal.h"

/* Steps that each group was trained for, as the checkpoint's state says them (hn_free). */
static hn_status read_applied(int64_t **out, const hn_model *model, const json_t *state, hn_error *error)
{
    const char *where = "checkpoint state: groups";
    const json_t *groups = json_object_get(state, "groups");
    size_t count = (size_t)hn_model_group_count(model);
    if (json_array_size(groups) != count)
        return hn_fail(error, HN_ERR_MISMATCH, "%s: expected %zu, got %zu", where, count, json_array_size(groups));
    int64_t *applied = hn_calloc(count, sizeof *applied);
    hn_status status = applied ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "out of memory for %zu groups", count);
    for (size_t g = 0; g < count && status == HN_OK; g++)
        status = hn_json_get_int(&applied[g], json_array_get(groups, g), "applied", 0, INT64_MAX, where, error);
    if (status == HN_OK) *out = applied;
    else hn_free(applied);
    return status;
}

/* The weights of the newest good checkpoint of `folder`, over those that the model has. */
static hn_status load_weights(hn_backend *backend, hn_model *model, const char *folder, int64_t *step, hn_strbuf *passed_over, hn_error *error)
{
    hn_checkpoint *checkpoint = NULL;
    int64_t *applied = NULL;
    hn_named_tensor *tensors = NULL;
    size_t count;
    hn_status status = hn_checkpoint_open_newest(&checkpoint, folder, INT64_MAX, NULL, passed_over, error);
    if (status == HN_OK && !checkpoint) status = hn_fail(error, HN_ERR_FORMAT, "%s: no checkpoint that verifies", folder);
    if (status == HN_OK) *step = hn_checkpoint_step(checkpoint);
    if (status == HN_OK) status = read_applied(&applied, model, hn_checkpoint_state(checkpoint), error);
    if (status == HN_OK) status = hnp_list_tensors(model, NULL, applied, &tensors, &count, error);
    if (status == HN_OK) status = hnp_read_tensors(backend, checkpoint, tensors, count, error);
    hn_checkpoint_free(checkpoint);
    hn_free(applied);
    hn_free(tensors);
    return status;
}

hn_status hn_export(hn_job *job, const char *run, const char *path, const hn_export_options *options, int64_t *step,
                    hn_strbuf *passed_over, hn_error *error)
{
    hn_runner runner;
    hn_runner_options sizes = {.precision = HN_F32, .device = HN_DEVICE_CPU};
    uint64_t seed = (uint64_t)job->config->train.seed;
    hn_strbuf initialised, ignored;
    char *folder = hn_path_join(run, "checkpoints");
    hn_export_kind kind = options->merge ? HN_EXPORT_MERGED : hnp_publish_kind(job);
    hn_strbuf_init(&initialised);
    hn_strbuf_init(&ignored);
    hn_status status = hn_runner_init(&runner, &job->model, &sizes, error);
    if (status == HN_OK && !folder) status = hn_fail(error, HN_ERR_MEMORY, "out of memory for the path of %s", run);
    if (status == HN_OK) status = hn_runner_alloc(&runner, error);
    if (status == HN_OK)
        status = job->config->model.init == HN_START_SCRATCH
                     ? hn_runner_initialise(&runner, seed, error)
                     : hn_runner_load(&runner, job->source, seed, &initialised, &ignored, error);
    if (status == HN_OK) status = load_weights(&runner.backend, runner.model, folder, step, passed_over, error);
    if (status == HN_OK) status = hnp_publish(job, runner.model, path, kind, options->type, error);
    hn_runner_close(&runner);
    hn_strbuf_close(&initialised);
    hn_strbuf_close(&ignored);
    hn_free(folder);
    return status;
}
