/* best/ and final/: Hugging Face folders of the run. Their config.json is the source's with the head, the labels and the type
 * of this run; best/ is swapped in one step, so that there is always a whole one. */
#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "formats/folder.h"
#include "train/internal.h"

/* id2label, label2id and problem_type into a copy of the source's config, for heads that have labels. */
static hn_status describe_head(const hn_job *job, json_t *root, hn_error *error)
{
    if (!job->labels) return HN_OK;
    bool regression = job->model.head == HN_HEAD_REGRESS, failed = false;
    json_t *names = json_object(), *numbers = json_object();
    for (int k = 0; k < job->model.labels; k++) {
        const char *name = regression ? "LABEL_0" : hn_labels_name(job->labels, k);
        char key[16];
        snprintf(key, sizeof key, "%d", k);
        failed |= json_object_set_new(names, key, json_string(name)) != 0;
        failed |= json_object_set_new(numbers, name, json_integer(k)) != 0;
    }
    failed |= json_object_set_new(root, "id2label", names) != 0;
    failed |= json_object_set_new(root, "label2id", numbers) != 0;
    failed |= json_object_set_new(root, "problem_type",
                                  json_string(regression ? "regression" : "single_label_classification")) != 0;
    return failed ? hn_fail(error, HN_ERR_MEMORY, "out of memory for config.json") : HN_OK;
}

hn_status hnp_publish(const hn_job *job, const hn_model *model, const char *path, hn_error *error)
{
    json_t *root = json_deep_copy(hn_folder_config(job->source->folder));
    hn_exported exported = {0};
    hn_status status = root ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "out of memory to write %s", path);
    if (status == HN_OK) status = hn_model_export_config(model, root, error);
    if (status == HN_OK) status = describe_head(job, root, error);
    if (status == HN_OK) status = hn_exported_init(&exported, model, error);
    if (status == HN_OK)
        status = hn_folder_save(path, root, exported.tensors, exported.count, HN_F32, job->source->folder, NULL, 0, error);
    hn_exported_close(&exported);
    json_decref(root);
    return status;
}

hn_status hnp_trainer_publish(hn_trainer *trainer, const char *name, hn_error *error)
{
    char *path = hn_path_join(trainer->config->output.dir, name);
    hn_status status = path ? hnp_publish(trainer->job, trainer->runner.model, path, error)
                            : hn_fail(error, HN_ERR_MEMORY, "out of memory for the path of %s", name);
    hn_free(path);
    return status;
}

hn_status hnp_trainer_publish_best_as(hn_trainer *trainer, const char *name, hn_error *error)
{
    char *from = hn_path_join(trainer->config->output.dir, "best"), *to = hn_path_join(trainer->config->output.dir, name);
    hn_status status = from && to ? hn_folder_copy(to, from, error)
                                  : hn_fail(error, HN_ERR_MEMORY, "out of memory for the path of %s", name);
    hn_free(from);
    hn_free(to);
    return status;
}
