/* best/ and final/: Hugging Face folders of the run, or PEFT folders of its adapters. Their config.json is the source's with the
 * head, the labels and the type of this run; best/ is swapped in one step, so that there is always a whole one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "formats/folder.h"
#include "formats/peft.h"
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
    if (job->model.head != HN_HEAD_TAGS)
        failed |= json_object_set_new(root, "problem_type",
                                      json_string(regression ? "regression" : "single_label_classification")) != 0;
    return failed ? hn_fail(error, HN_ERR_MEMORY, "out of memory for config.json") : HN_OK;
}

/* Takes out modules that stand in others of the list ("lm_head.dense" in "lm_head"), which PEFT wraps as a whole. */
static void drop_inner(char **list, int *count)
{
    for (int i = *count - 1; i >= 0; i--) {
        bool inner = false;
        for (int k = 0; k < *count; k++) {
            size_t length = strlen(list[k]);
            inner |= !strncmp(list[i], list[k], length) && list[i][length] == '.';
        }
        if (inner) memmove(list + i, list + i + 1, (size_t)(--*count - i) * sizeof *list);
    }
}

/* The modules of what trains beside the adapters, each once (the names' memory is one with the list; hn_free); PEFT knows a
 * "classifier" as a whole. */
static char **list_modules(const hn_model *model, bool adapters, int *count)
{
    enum { NAME = 192 };
    int params;
    const hn_param *param = hn_model_params(model, &params);
    size_t most = (size_t)params * HN_PARAM_SOURCES;
    char **list = hn_calloc(most, sizeof *list + NAME), *text = (char *)(list + most);
    *count = 0;
    for (int p = 0; list && p < params; p++)
        for (int s = 0; s < param[p].source_count; s++) {
            if (param[p].held || param[p].adapter != adapters) continue;
            const char *name = param[p].sources[s].name + (adapters ? strlen(HN_PEFT_PREFIX) : 0);
            snprintf(text, NAME, "%s", name);
            *strrchr(text, '.') = 0;
            if (adapters) *strrchr(text, '.') = 0; /* lora_A */
            if (!strncmp(text, "classifier.", strlen("classifier."))) text[strlen("classifier")] = 0;
            bool known = false;
            for (int i = 0; i < *count; i++) known |= !strcmp(list[i], text);
            if (known) continue;
            list[(*count)++] = text;
            text += NAME;
        }
    if (list) drop_inner(list, count);
    return list;
}

/* PEFT's name for the task, or NULL. */
static const char *task_type(hn_head head)
{
    switch (head) {
    case HN_HEAD_LM: return "CAUSAL_LM";
    case HN_HEAD_TAGS: return "TOKEN_CLS";
    case HN_HEAD_MASKED: return NULL;
    default: return "SEQ_CLS";
    }
}

static bool is_turned(const hn_model *model)
{
    int params;
    const hn_param *param = hn_model_params(model, &params);
    for (int p = 0; p < params; p++)
        if (param[p].sources[0].turned) return true;
    return false;
}

/* The adapters as PEFT's folder. */
static hn_status save_adapter(const hn_job *job, const hn_model *model, const char *path, const json_t *root,
                              hn_exported *exported, hn_error *error)
{
    const hn_lora_config *lora = &job->model.lora;
    const hn_tensor_source source = {hn_exported_fill, exported};
    int target_count, saved_count;
    char *base = realpath(job->source->path, NULL);
    char **targets = list_modules(model, true, &target_count), **saved = list_modules(model, false, &saved_count);
    hn_peft_config config = {.base = base ? base : job->source->path,
                             .task_type = task_type(job->model.head),
                             .rank = lora->rank,
                             .alpha = lora->alpha,
                             .dropout = lora->dropout,
                             .rank_stabilised = lora->rank_stabilised,
                             .turned = is_turned(model),
                             .targets = (const char *const *)targets,
                             .target_count = target_count,
                             .saved = (const char *const *)saved,
                             .saved_count = saved_count};
    hn_status status = targets && saved ? hn_peft_save(path, &config, root, exported->tensors, exported->count, &source,
                                                       job->source->folder, error)
                                        : hn_fail(error, HN_ERR_MEMORY, "out of memory for the names of modules");
    hn_free(targets);
    hn_free(saved);
    free(base);
    return status;
}

hn_status hnp_publish(const hn_job *job, const hn_model *model, const char *path, hn_export_kind kind, hn_dtype type,
                      hn_error *error)
{
    size_t count;
    const hn_named_tensor *base = hn_folder_tensors(job->source->folder, &count);
    json_t *root = json_deep_copy(hn_source_config(job->source));
    hn_exported exported = {0};
    const hn_tensor_source source = {hn_exported_fill, &exported};
    hn_status status = root ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "out of memory to write %s", path);
    if (status == HN_OK) status = hn_model_export_config(model, root, error);
    if (status == HN_OK) status = describe_head(job, root, error);
    if (status == HN_OK)
        status = hn_exported_init(&exported, model, kind, base, count, hn_folder_source(job->source->folder), error);
    if (status == HN_OK && kind == HN_EXPORT_ADAPTER) status = save_adapter(job, model, path, root, &exported, error);
    else if (status == HN_OK)
        status = hn_folder_save_from(path, root, exported.tensors, exported.count, &source, type, job->source->folder, NULL, 0,
                                     error);
    hn_folder_idle(job->source->folder);
    hn_exported_close(&exported);
    json_decref(root);
    return status;
}

hn_export_kind hnp_publish_kind(const hn_job *job)
{
    return job->model.lora.rank ? HN_EXPORT_ADAPTER : HN_EXPORT_WHOLE;
}

hn_status hnp_trainer_publish(hn_trainer *trainer, const char *name, hn_error *error)
{
    char *path = hn_path_join(trainer->config->output.dir, name);
    hn_status status = path ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "out of memory for the path of %s", name);
    hnp_world_enter(trainer, HN_ACTIVITY_DISK, name);
    status = hnp_world_agree(trainer, name, status, error);
    if (status == HN_OK) status = hnp_reduce_spread_masters(&trainer->reduce, error);
    if (status == HN_OK && hnp_world_first(trainer))
        status = hnp_publish(trainer->job, trainer->runner.model, path, hnp_publish_kind(trainer->job), HN_F32, error);
    hn_free(path);
    status = hnp_world_agree(trainer, name, status, error);
    hnp_world_enter(trainer, HN_ACTIVITY_COMPUTE, "between steps");
    return status;
}

hn_status hnp_trainer_publish_best_as(hn_trainer *trainer, const char *name, hn_error *error)
{
    char *from = hn_path_join(trainer->config->output.dir, "best"), *to = hn_path_join(trainer->config->output.dir, name);
    hn_status status = from && to ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "out of memory for the path of %s", name);
    hnp_world_enter(trainer, HN_ACTIVITY_DISK, name);
    if (status == HN_OK && hnp_world_first(trainer)) status = hn_folder_copy(to, from, error);
    hn_free(from);
    hn_free(to);
    return hnp_world_agree(trainer, name, status, error);
}
