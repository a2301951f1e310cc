/* See peft.h. adapter_config.json holds every field of PEFT's LoraConfig, most of them for variants of the method. A field that
 * is read here has its place in `hn_peft_config`; one that says nothing about what the adapter computes is passed over by name; any
 * other must be empty (null, false, "none", no elements), as a variant in it would make other numbers of the same tensors. */
#include "formats/peft.h"

#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "formats/printable.h"

#define CONFIG_NAME "adapter_config.json"
#define WEIGHTS_NAME "adapter_model.safetensors"
#define RANK_MAX 65536
#define NAMES_MAX 8192 /* of modules: more than the linear layers of any model that is read */

struct hn_peft {
    json_t *root;
    hn_peft_config config;
    const char **lists; /* of config */
    char *weights;
    hn_safetensors *file;
};

static const char *const read_fields[] = {"peft_type",      "base_model_name_or_path", "task_type",  "r",
                                          "lora_alpha",     "lora_dropout",            "use_rslora", "fan_in_fan_out",
                                          "target_modules", "modules_to_save",         "init_lora_weights"};
/* What does not change what an adapter computes, or only beside a field that must be empty. */
static const char *const passed_over[] = {"auto_mapping", "inference_mode", "peft_version",    "revision",
                                          "runtime_config", "megatron_core", "qalora_group_size"};

/* A field as a message has it. */
static hn_json_shown shown(const json_t *value)
{
    return value ? hn_json_show(value) : (hn_json_shown){"nothing"};
}

static bool is_one_of(const char *name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(name, names[i])) return true;
    return false;
}

static bool is_empty(const json_t *value)
{
    const char *text = json_string_value(value);
    return json_is_null(value) || json_is_false(value) || (json_is_object(value) && !json_object_size(value)) ||
           (json_is_array(value) && !json_array_size(value)) || (text && (!strcmp(text, "none") || !*text));
}

static hn_status check_fields(const json_t *root, const char *where, hn_error *error)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)root, key, value)
    {
        if (is_one_of(key, read_fields, sizeof read_fields / sizeof *read_fields) ||
            is_one_of(key, passed_over, sizeof passed_over / sizeof *passed_over) || is_empty(value))
            continue;
        hnp_printable name = hnp_printable_make(key);
        return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: \"%s\": hone lacks this variant of LoRA; expected it to be empty, got %s", where,
                       name.text, shown(value).text);
    }
    return HN_OK;
}

/* Initialisations that leave the base as it is; the others (PiSSA, OLoRA, ...) change it, and their adapters are for that one. */
static hn_status check_init(const json_t *root, const char *where, hn_error *error)
{
    static const char *const fine[] = {"gaussian", "eva", "orthogonal"};
    const json_t *value = json_object_get(root, "init_lora_weights");
    const char *text = json_string_value(value);
    if (!value || json_is_null(value) || json_is_boolean(value) || (text && is_one_of(text, fine, 3))) return HN_OK;
    return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: \"init_lora_weights\": expected a way that leaves the base's weights as they are "
                   "(true, false, gaussian, eva, orthogonal), got %s", where, shown(value).text);
}

/* Strings of a list, or one string, appended to `lists`; "score" twice is once. */
static hn_status get_names(const char *const **out, int *count, const char **lists, const json_t *root, const char *key,
                           const char *where, hn_error *error)
{
    const json_t *value = json_object_get(root, key);
    size_t size = json_is_array(value) ? json_array_size(value) : 1;
    *out = lists;
    *count = 0;
    if (!value || json_is_null(value)) return HN_OK;
    if (size > NAMES_MAX)
        return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: \"%s\": expected at most %d names of modules, got %zu", where, key, NAMES_MAX, size);
    for (size_t i = 0; i < size; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
        const char *text = json_string_value(item);
        if (!text || !*text || strlen(text) != json_string_length(item))
            return hn_fail(error, HN_ERR_FORMAT, "%s: \"%s\": expected names of modules, got %s", where, key,
                           shown(item).text);
        bool known = false;
        for (int k = 0; k < *count; k++) known |= !strcmp(lists[k], text);
        if (!known) lists[(*count)++] = text;
    }
    return HN_OK;
}

static hn_status get_modules(hn_peft_config *out, const char **lists, const json_t *root, const char *where, hn_error *error)
{
    const char *text = json_string_value(json_object_get(root, "target_modules"));
    if (text && strcmp(text, "all-linear"))
        return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: \"target_modules\": expected a list of names, or \"all-linear\"; patterns are not "
                       "read, got %s", where, shown(json_object_get(root, "target_modules")).text);
    hn_status status = get_names(&out->targets, &out->target_count, lists, root, "target_modules", where, error);
    if (status == HN_OK)
        status = get_names(&out->saved, &out->saved_count, lists + out->target_count, root, "modules_to_save", where, error);
    if (status == HN_OK && !out->target_count)
        status = hn_fail(error, HN_ERR_FORMAT, "%s: \"target_modules\": expected names of modules, got none", where);
    return status;
}

hn_status hn_peft_config_read(hn_peft_config *out, const char ***lists, const json_t *root, const char *where, hn_error *error)
{
    const char *type = NULL;
    int64_t rank = 0;
    hn_peft_config config = {.alpha = 8};
    hn_status status = hn_json_get_string(&type, root, "peft_type", where, error);
    if (status == HN_OK && (!type || strcmp(type, "LORA")))
        return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: \"peft_type\": expected \"LORA\", got %s", where,
                       shown(json_object_get(root, "peft_type")).text);
    if (status == HN_OK) status = check_fields(root, where, error);
    if (status == HN_OK) status = check_init(root, where, error);
    if (status == HN_OK) status = hn_json_get_string(&config.base, root, "base_model_name_or_path", where, error);
    if (status == HN_OK) status = hn_json_get_string(&config.task_type, root, "task_type", where, error);
    if (status == HN_OK) status = hn_json_get_int(&rank, root, "r", 1, RANK_MAX, where, error);
    if (status == HN_OK && !rank) status = hn_fail(error, HN_ERR_FORMAT, "%s: \"r\": expected the rank, got none", where);
    if (status == HN_OK) status = hn_json_get_double(&config.alpha, root, "lora_alpha", -1e6, 1e6, where, error);
    if (status == HN_OK) status = hn_json_get_double(&config.dropout, root, "lora_dropout", 0, 0.999, where, error);
    if (status == HN_OK) status = hn_json_get_bool(&config.rank_stabilised, root, "use_rslora", where, error);
    if (status == HN_OK) status = hn_json_get_bool(&config.turned, root, "fan_in_fan_out", where, error);
    if (status != HN_OK) return status;
    config.rank = (int)rank;
    const json_t *targets = json_object_get(root, "target_modules"), *saved = json_object_get(root, "modules_to_save");
    size_t most = json_array_size(targets) + json_array_size(saved) + 2;
    const char **names = hn_calloc(most, sizeof *names);
    if (!names) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for %zu names", where, most);
    status = get_modules(&config, names, root, where, error);
    if (status != HN_OK) {
        hn_free(names);
        return status;
    }
    *lists = names;
    *out = config;
    return HN_OK;
}

static bool holds(const char *folder, const char *name)
{
    char *path = hn_path_join(folder, name);
    bool found = path && hn_path_exists(path);
    hn_free(path);
    return found;
}

bool hn_peft_is_folder(const char *path)
{
    return holds(path, CONFIG_NAME) && !holds(path, "model.safetensors") && !holds(path, "model.safetensors.index.json");
}

/* The real path of one of the folder's files, which must not lead out of it. */
static hn_status find(char **out, const char *folder, const char *name, hn_error *error)
{
    if (!holds(folder, name) && holds(folder, "adapter_model.bin"))
        return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: holds adapter_model.bin, a pickle, which can run code when it is read: expected "
                       WEIGHTS_NAME " (save_pretrained(..., safe_serialization=True))", folder);
    return hn_path_inside(out, folder, name, NULL, error);
}

static hn_status open_parts(hn_peft *self, const char *path, hn_error *error)
{
    char *config = NULL;
    hn_status status = find(&config, path, CONFIG_NAME, error);
    if (status == HN_OK) status = hn_json_load(&self->root, config, HN_JSON_LIMITS_SMALL, error);
    if (status == HN_OK && !json_is_object(self->root))
        status = hn_fail(error, HN_ERR_FORMAT, "%s: expected a JSON object", config);
    if (status == HN_OK) status = hn_peft_config_read(&self->config, &self->lists, self->root, config, error);
    if (status == HN_OK) status = find(&self->weights, path, WEIGHTS_NAME, error);
    if (status == HN_OK) status = hn_safetensors_open(&self->file, self->weights, error);
    hn_free(config);
    return status;
}

hn_status hn_peft_open(hn_peft **out, const char *path, hn_error *error)
{
    hn_peft *self = hn_calloc(1, sizeof *self);
    if (!self) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", path);
    hn_status status = open_parts(self, path, error);
    if (status == HN_OK) *out = self;
    else hn_peft_free(self);
    return status;
}

void hn_peft_free(hn_peft *peft)
{
    if (!peft) return;
    hn_safetensors_free(peft->file);
    json_decref(peft->root);
    hn_free(peft->lists);
    hn_free(peft->weights);
    hn_free(peft);
}

const hn_peft_config *hn_peft_get_config(const hn_peft *peft)
{
    return &peft->config;
}

const char *hn_peft_weights(const hn_peft *peft)
{
    return peft->weights;
}

const hn_named_tensor *hn_peft_tensors(const hn_peft *peft, size_t *count)
{
    return hn_safetensors_tensors(peft->file, count);
}

hn_status hn_peft_intact(const hn_peft *peft, hn_error *error)
{
    return hn_safetensors_intact(peft->file, error);
}

/* NULL: out of memory. */
static json_t *names_to_json(const char *const *names, int count)
{
    json_t *list = json_array();
    for (int i = 0; list && i < count; i++)
        if (json_array_append_new(list, json_string(names[i]))) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

static json_t *config_to_json(const hn_peft_config *config)
{
    bool all = config->target_count == 1 && !strcmp(config->targets[0], "all-linear");
    return json_pack("{s:s, s:s?, s:s?, s:i, s:f, s:f, s:b, s:b, s:s, s:b, s:b, s:o, s:o}", "peft_type", "LORA",
                     "base_model_name_or_path", config->base, "task_type", config->task_type, "r", config->rank, "lora_alpha",
                     config->alpha, "lora_dropout", config->dropout, "use_rslora", config->rank_stabilised, "fan_in_fan_out",
                     config->turned, "bias", "none", "inference_mode", 1, "init_lora_weights", 1, "target_modules",
                     all ? json_string("all-linear") : names_to_json(config->targets, config->target_count), "modules_to_save",
                     config->saved_count ? names_to_json(config->saved, config->saved_count) : json_null());
}

hn_status hn_peft_save(const char *path, const hn_peft_config *config, const json_t *model, const hn_named_tensor *tensors,
                       size_t count, const hn_tensor_source *source, const hn_folder *tokenizer_from, hn_error *error)
{
    hn_strbuf text;
    json_t *root = config_to_json(config);
    hn_strbuf_init(&text);
    if (root) hn_json_write(&text, root, 2);
    hn_strbuf_putc(&text, '\n');
    hn_folder_file extra = {CONFIG_NAME, text.text};
    hn_status status = root && !text.failed
                           ? hn_folder_save_weights(path, WEIGHTS_NAME, model, tensors, count, source, HN_F32, tokenizer_from,
                                                    &extra, 1, error)
                           : hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for " CONFIG_NAME, path);
    hn_strbuf_close(&text);
    json_decref(root);
    return status;
}
