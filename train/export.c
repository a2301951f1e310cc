/* See export.h. The checkpoint's weights are read into a model's masters; its moments are read past, into memory that is given
 * back at once. */
#include "train/export.h"

#include <stdio.h>

#include "checkpoints/checkpoint.h"
#include "core/file.h"
#include "core/mem.h"
#include "train/internal.h"

/* The weights of the newest good checkpoint of `folder`, into the model. */
static hn_status load_weights(hn_model *model, const char *folder, int64_t *step, hn_strbuf *passed_over, hn_error *error)
{
    json_t *state = NULL;
    hn_named_tensor *tensors = NULL;
    size_t count;
    hn_status status = hn_checkpoint_find(folder, step, &state, passed_over, error);
    json_decref(state);
    if (status == HN_OK && *step < 0)
        status = hn_fail(error, HN_ERR_FORMAT, "%s: no checkpoint that verifies", folder);
    if (status == HN_OK) status = hnp_list_tensors(model, NULL, false, &tensors, &count, error);
    if (status == HN_OK) status = hn_checkpoint_load_some(folder, *step, tensors, count, error);
    hn_free(tensors);
    return status;
}

hn_status hn_export(hn_job *job, const char *run, const char *path, int64_t *step, hn_strbuf *passed_over, hn_error *error)
{
    hn_runner runner;
    hn_runner_options options = {.precision = HN_F32};
    char *folder = hn_path_join(run, "checkpoints");
    hn_status status = hn_runner_init(&runner, &job->model, &options, error);
    if (status == HN_OK && !folder) status = hn_fail(error, HN_ERR_MEMORY, "out of memory for the path of %s", run);
    if (status == HN_OK) status = hn_runner_alloc(&runner, error);
    if (status == HN_OK) status = load_weights(runner.model, folder, step, passed_over, error);
    if (status == HN_OK) status = hnp_publish(job, runner.model, path, error);
    hn_runner_close(&runner);
    hn_free(folder);
    return status;
}
