/* Reading a Hugging Face folder (writing is in folder_save.c).
 *
 *     config.json
 *     model.safetensors                        the weights in one file, or
 *     model.safetensors.index.json             {"weight_map": {"tensor": "name of its shard", ...}}
 *     model-00001-of-00002.safetensors ...     in shards
 *
 * The folder is as untrusted as its files. A shard's name is a plain file name; what it leads to, links
 * resolved, lies inside the folder, so that no file outside of it is ever opened (the Hub's cache, where
 * `snapshots/X/` holds links into `blobs/`, counts as one folder). The index and the shards must say the
 * same: every tensor of the map stands in the shard that the map names, and no shard holds another.
 *
 * A GGUF file opened as a folder has the first and the last of these in memory, and its tensors give their values when they
 * are asked for (gguf_source.c), so that neither memory nor disk holds a second copy of the weights. */
#include "formats/folder.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "core/strbuf.h"
#include "formats/gguf_source.h"
#include "formats/printable.h"
#include "formats/safetensors.h"
#include "formats/tokenizer_files.h"

#define SHARDS_MAX 1024
#define SINGLE_NAME "model.safetensors"
#define INDEX_NAME "model.safetensors.index.json"

/* An index has one string a tensor. */
static const hn_json_limits index_limits = {.bytes = (size_t)16 << 20, .depth = 8, .nodes = 1000000};

typedef struct shard {
    const char *name; /* borrowed from the index, or SINGLE_NAME */
    hn_safetensors *file;
} shard;

struct hn_folder {
    char *path;
    char *weights; /* SINGLE_NAME or INDEX_NAME, with the folder */
    json_t *config;
    json_t *index; /* NULL: one file; owns the shards' names */
    shard *shards;
    size_t shard_count;
    hn_named_tensor *tensors; /* of all shards, by name */
    size_t count;
    hnp_gguf_source *gguf; /* NULL: a folder; else it has the tensors, and there are no shards */
    hn_tensor_source source;
    char *tokenizer, *tokenizer_config; /* of a GGUF file */
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const hn_named_tensor *)a)->name, ((const hn_named_tensor *)b)->name);
}

static int by_shard_name(const void *a, const void *b)
{
    return strcmp(((const shard *)a)->name, ((const shard *)b)->name);
}

static hn_status check_folder(const char *path, hn_error *error)
{
    if (access(path, F_OK)) return hn_fail_errno(error, "%s: cannot open this model folder", path);
    if (hn_path_is_folder(path)) return HN_OK;
    return hn_fail(error, HN_ERR_IO, "%s: expected a model folder (config.json and %s) or a file whose name ends in .gguf, got another file", path,
                   SINGLE_NAME);
}

static hn_status load_json(json_t **out, const hn_folder *self, const char *name, hn_json_limits limits,
                           hn_error *error)
{
    char *real = NULL;
    hn_status status = hn_path_inside(&real, self->path, name, NULL, error);
    if (status == HN_OK) status = hn_json_load(out, real, limits, error);
    if (status == HN_OK && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        status = hn_fail(error, HN_ERR_FORMAT, "%s: expected a JSON object", real);
    }
    hn_free(real);
    return status;
}

static hn_status check_shard_name(const char *tensor, const json_t *value, const char *file, hn_error *error)
{
    const char *name = json_string_value(value);
    hnp_printable shown = hnp_printable_make(tensor);
    if (!name)
        return hn_fail(error, HN_ERR_FORMAT, "%s: weight_map[\"%s\"]: expected the name of a file", file,
                       shown.text);
    size_t length = strlen(name);
    const size_t suffix = strlen(".safetensors");
    if (length == json_string_length(value) && length > suffix && length <= NAME_MAX && name[0] != '.' &&
        !strchr(name, '/') && !strcmp(name + length - suffix, ".safetensors"))
        return HN_OK;
    hnp_printable got = hnp_printable_make(name);
    return hn_fail(
        error, HN_ERR_FORMAT,
        "%s: weight_map[\"%s\"]: expected the plain name of a .safetensors file in this folder, got \"%s\"",
        file, shown.text, got.text);
}

/* The distinct shards of the index, in order of name. */
static hn_status list_shards(hn_folder *self, const json_t *map, const char *file, hn_error *error)
{
    const char *tensor;
    json_t *value;
    size_t count = 0;
    shard *all = hn_calloc(json_object_size(map) + 1, sizeof *all);
    if (!all) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", file);
    self->shards = all;
    json_object_foreach((json_t *)map, tensor, value)
    {
        hn_status status = check_shard_name(tensor, value, file, error);
        if (status != HN_OK) return status;
        all[count++].name = json_string_value(value);
    }
    qsort(all, count, sizeof *all, by_shard_name);
    for (size_t i = 0; i < count; i++)
        if (!i || strcmp(all[i].name, all[i - 1].name)) all[self->shard_count++] = all[i];
    if (!count || self->shard_count > SHARDS_MAX)
        return hn_fail(error, HN_ERR_FORMAT, "%s: weight_map: expected 1 to %d different files, got %zu",
                       file, SHARDS_MAX, self->shard_count);
    return HN_OK;
}

/* What the index says of a shard's tensors against what the shard holds. */
static hn_status check_shard(const shard *one, const json_t *map, const char *file, hn_error *error)
{
    size_t count;
    const hn_named_tensor *tensors = hn_safetensors_tensors(one->file, &count);
    for (size_t i = 0; i < count; i++) {
        const char *said = json_string_value(json_object_get(map, tensors[i].name));
        if (said && !strcmp(said, one->name)) continue;
        hnp_printable name = hnp_printable_make(tensors[i].name);
        if (!said)
            return hn_fail(error, HN_ERR_FORMAT, "%s: weight_map lacks tensor \"%s\", which stands in %s",
                           file, name.text, one->name);
        return hn_fail(error, HN_ERR_FORMAT,
                       "%s: weight_map[\"%s\"]: says %s, but %s holds it (in two shards, or misplaced)", file,
                       name.text, said, one->name);
    }
    return HN_OK;
}

static hn_status check_index(const hn_folder *self, const json_t *map, const char *file, hn_error *error)
{
    const char *tensor;
    json_t *value;
    for (size_t i = 0; i < self->shard_count; i++) {
        hn_status status = check_shard(&self->shards[i], map, file, error);
        if (status != HN_OK) return status;
    }
    json_object_foreach((json_t *)map, tensor, value)
    {
        shard key = {.name = json_string_value(value)};
        const shard *one = bsearch(&key, self->shards, self->shard_count, sizeof key, by_shard_name);
        if (hn_safetensors_find(one->file, tensor)) continue;
        hnp_printable name = hnp_printable_make(tensor);
        return hn_fail(error, HN_ERR_FORMAT, "%s: weight_map[\"%s\"]: %s does not hold this tensor", file,
                       name.text, one->name);
    }
    return HN_OK;
}

static hn_status open_shards(hn_folder *self, const char *said_by, hn_error *error)
{
    for (size_t i = 0; i < self->shard_count; i++) {
        char *real = NULL;
        hn_status status = hn_path_inside(&real, self->path, self->shards[i].name, said_by, error);
        if (status == HN_OK) status = hn_safetensors_open(&self->shards[i].file, real, error);
        hn_free(real);
        if (status != HN_OK) return status;
    }
    return HN_OK;
}

static hn_status open_indexed(hn_folder *self, hn_error *error)
{
    hn_status status = load_json(&self->index, self, INDEX_NAME, index_limits, error);
    if (status != HN_OK) return status;
    const json_t *map = json_object_get(self->index, "weight_map");
    const char *file = self->weights;
    if (!json_is_object(map))
        status = hn_fail(error, HN_ERR_FORMAT, "%s: weight_map: expected an object of tensor names to files",
                         file);
    if (status == HN_OK) status = list_shards(self, map, file, error);
    if (status == HN_OK) status = open_shards(self, file, error);
    if (status == HN_OK) status = check_index(self, map, file, error);
    return status;
}

static bool holds(const hn_folder *self, const char *name)
{
    char *path = hn_path_join(self->path, name);
    bool found = path && !access(path, F_OK);
    hn_free(path);
    return found;
}

static hn_status open_weights(hn_folder *self, hn_error *error)
{
    bool indexed = !holds(self, SINGLE_NAME) && holds(self, INDEX_NAME);
    self->weights = hn_path_join(self->path, indexed ? INDEX_NAME : SINGLE_NAME);
    if (!self->weights) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", self->path);
    if (indexed) return open_indexed(self, error);
    if (!holds(self, SINGLE_NAME) && holds(self, "pytorch_model.bin"))
        return hn_fail(error, HN_ERR_UNSUPPORTED,
                       "%s: holds pytorch_model.bin, a pickle, which can run code when it is read: expected "
                       "%s (save the "
                       "model once with transformers: save_pretrained(..., safe_serialization=True))",
                       self->path, SINGLE_NAME);
    self->shards = hn_calloc(1, sizeof *self->shards);
    if (!self->shards) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", self->path);
    self->shards[0].name = SINGLE_NAME;
    self->shard_count = 1;
    return open_shards(self, NULL, error);
}

static hn_status gather(hn_folder *self, hn_error *error)
{
    size_t total = 0, count;
    for (size_t i = 0; i < self->shard_count; i++) {
        hn_safetensors_tensors(self->shards[i].file, &count);
        total += count;
    }
    self->tensors = hn_reallocarray(NULL, total, sizeof *self->tensors);
    if (!self->tensors)
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for %zu tensors", self->path, total);
    for (size_t i = 0; i < self->shard_count; i++) {
        const hn_named_tensor *tensors = hn_safetensors_tensors(self->shards[i].file, &count);
        if (count) memcpy(self->tensors + self->count, tensors, count * sizeof *tensors);
        self->count += count;
    }
    qsort(self->tensors, self->count, sizeof *self->tensors, by_name);
    return HN_OK;
}

static hn_status open_bare(hn_folder *self, hn_error *error)
{
    hn_status status = check_folder(self->path, error);
    if (status == HN_OK) status = load_json(&self->config, self, "config.json", HN_JSON_LIMITS_SMALL, error);
    if (status == HN_OK) status = hnp_tokenizer_files_check(self->path, error);
    return status;
}

static hn_status open_folder(hn_folder *self, hn_error *error)
{
    hn_status status = open_bare(self, error);
    if (status == HN_OK) status = open_weights(self, error);
    return status == HN_OK ? gather(self, error) : status;
}

static hn_status open_gguf(hn_folder *self, hn_error *error)
{
    hn_strbuf tokenizer, config;
    hn_strbuf_init(&tokenizer);
    hn_strbuf_init(&config);
    hn_status status = hnp_gguf_source_open(&self->gguf, self->path, error);
    if (status == HN_OK) status = hnp_gguf_config(&self->config, &self->gguf->model, HN_F32, error);
    if (status == HN_OK) status = hnp_gguf_tokenizer(&tokenizer, &config, &self->gguf->model, error);
    if (status == HN_OK) {
        self->source = (hn_tensor_source){hnp_gguf_source_fill, self->gguf};
        self->tokenizer = hn_strbuf_take(&tokenizer);
        self->tokenizer_config = hn_strbuf_take(&config);
        self->weights = hn_strdup(self->path);
        if (!self->tokenizer || !self->tokenizer_config || !self->weights)
            status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", self->path);
    }
    hn_strbuf_close(&tokenizer);
    hn_strbuf_close(&config);
    return status;
}

bool hn_folder_is_gguf(const char *path)
{
    size_t length = strlen(path), suffix = strlen(".gguf");
    return length > suffix && !strcasecmp(path + length - suffix, ".gguf") && !hn_path_is_folder(path);
}

static hn_status open_any(hn_folder **out, const char *path, hn_status (*open)(hn_folder *, hn_error *), hn_error *error)
{
    hn_folder *self = hn_calloc(1, sizeof *self);
    if (!self || !(self->path = hn_strdup(path))) {
        hn_free(self);
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", path);
    }
    hn_status status = (hn_folder_is_gguf(path) ? open_gguf : open)(self, error);
    if (status == HN_OK)
        *out = self;
    else
        hn_folder_free(self);
    return status;
}

hn_status hn_folder_open(hn_folder **out, const char *path, hn_error *error)
{
    return open_any(out, path, open_folder, error);
}

hn_status hn_folder_open_bare(hn_folder **out, const char *path, hn_error *error)
{
    return open_any(out, path, open_bare, error);
}

void hn_folder_free(hn_folder *folder)
{
    if (!folder) return;
    for (size_t i = 0; i < folder->shard_count; i++) hn_safetensors_free(folder->shards[i].file);
    hn_free(folder->shards);
    hn_free(folder->tensors);
    json_decref(folder->config);
    json_decref(folder->index);
    hnp_gguf_source_free(folder->gguf);
    hn_free(folder->tokenizer);
    hn_free(folder->tokenizer_config);
    hn_free(folder->weights);
    hn_free(folder->path);
    hn_free(folder);
}

const char *hn_folder_path(const hn_folder *folder)
{
    return folder->path;
}

const char *hn_folder_weights(const hn_folder *folder)
{
    return folder->weights;
}

const json_t *hn_folder_config(const hn_folder *folder)
{
    return folder->config;
}

const hn_named_tensor *hn_folder_tensors(const hn_folder *folder, size_t *count)
{
    *count = folder->gguf ? folder->gguf->count : folder->count;
    return folder->gguf ? folder->gguf->named : folder->tensors;
}

const hn_tensor_source *hn_folder_source(const hn_folder *folder)
{
    return folder->gguf ? &folder->source : NULL;
}

hn_status hn_folder_digest(hn_digest *out, const hn_folder *folder, hn_error *error)
{
    size_t count;
    const hn_named_tensor *tensors = hn_folder_tensors(folder, &count);
    hn_hasher *hasher = hn_hasher_open();
    if (!hasher) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for a digest", folder->path);
    for (size_t i = 0; i < count; i++) {
        const hn_tensor *tensor = &tensors[i].tensor;
        const hn_gguf_tensor *packed = folder->gguf ? folder->gguf->tensors[i].from : NULL;
        hn_hasher_add_text(hasher, tensors[i].name);
        hn_hasher_add_text(hasher, packed ? hn_gguf_layout_of(packed->type).name : hn_dtype_name(tensor->dtype));
        hn_hasher_add(hasher, tensor->shape, sizeof tensor->shape);
        if (packed) hn_hasher_add(hasher, packed->data, packed->size);
        else hn_hasher_add(hasher, tensor->data, hn_tensor_bytes(tensor));
    }
    *out = hn_hasher_digest(hasher);
    hn_hasher_free(hasher);
    return HN_OK;
}

hn_status hn_folder_read(char **out, size_t *size, const hn_folder *folder, const char *name, size_t limit, hn_error *error)
{
    char *real = NULL;
    *out = NULL;
    *size = 0;
    if (folder->gguf) {
        const char *text = !strcmp(name, "tokenizer.json")          ? folder->tokenizer
                           : !strcmp(name, "tokenizer_config.json") ? folder->tokenizer_config
                                                                    : NULL;
        if (!text) return HN_OK;
        if (!(*out = hn_strdup(text))) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for %s", folder->path, name);
        *size = strlen(text);
        return HN_OK;
    }
    if (!holds(folder, name)) return HN_OK;
    hn_status status = hn_path_inside(&real, folder->path, name, NULL, error);
    if (status == HN_OK) status = hn_file_read(out, size, real, limit, error);
    hn_free(real);
    return status;
}

void hn_folder_idle(const hn_folder *folder)
{
    if (folder->gguf) hn_gguf_idle(folder->gguf->file);
    for (size_t i = 0; i < folder->shard_count; i++) hn_safetensors_idle(folder->shards[i].file);
}

hn_status hn_folder_intact(const hn_folder *folder, hn_error *error)
{
    hn_status status = folder->gguf ? hn_gguf_intact(folder->gguf->file, error) : HN_OK;
    for (size_t i = 0; i < folder->shard_count && status == HN_OK; i++)
        status = hn_safetensors_intact(folder->shards[i].file, error);
    return status;
}
