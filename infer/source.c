/* See source.h. Whether a checkpoint has a head is read off its tensors, not off its config: transformers writes num_labels for
 * plain encoders too. */
#include "infer/source.h"

#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"

#define LABELS_MAX 65536

hn_status hn_source_resolve(char **out, const char *path, hn_error *error)
{
    static const char *const places[] = {"best", "final"};
    hn_status status = HN_OK;
    char *checkpoints = hn_path_join(path, "checkpoints"), *found = NULL;
    if (!checkpoints) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the path of %s", path);
    bool run = hn_path_is_folder(checkpoints);
    for (int i = 0; run && !found && i < 2; i++) {
        found = hn_path_join(path, places[i]);
        if (found && !hn_path_is_folder(found)) {
            hn_free(found);
            found = NULL;
        }
    }
    if (run && !found)
        status = hn_fail(error, HN_ERR_FORMAT, "%s: a run folder with neither best/ nor final/: nothing was evaluated or "
                         "finished yet; export a checkpoint with `hone export %s DIR`", path, path);
    if (!run) found = hn_strdup(path);
    if (status == HN_OK && !found) status = hn_fail(error, HN_ERR_MEMORY, "out of memory for the path of %s", path);
    if (status == HN_OK) *out = found;
    hn_free(checkpoints);
    return status;
}

/* Outputs of a sequence-classification head among the tensors; *outputs stays as it is when there is none. */
static hn_status head_outputs(int *outputs, const hn_named_tensor *tensors, size_t count, const char *where, hn_error *error)
{
    static const char *const names[] = {"classifier.weight", "classifier.out_proj.weight", HN_PEFT_PREFIX "classifier.weight",
                                        HN_PEFT_PREFIX "classifier.out_proj.weight"};
    for (size_t i = 0; i < count; i++)
        for (int n = 0; n < 4; n++)
            if (!strcmp(tensors[i].name, names[n]) && tensors[i].tensor.rank == 2) {
                int64_t rows = tensors[i].tensor.shape[0];
                if (rows < 1 || rows > LABELS_MAX)
                    return hn_fail(error, HN_ERR_FORMAT, "%s: tensor %s: expected 1 to %d rows, one a label, got %lld", where,
                                   names[n], LABELS_MAX, (long long)rows);
                *outputs = (int)rows;
            }
    return HN_OK;
}

/* Fills labels from id2label when it names every output and not all names are the generic LABEL_k. */
static hn_status read_labels(hn_source *source, hn_error *error)
{
    const json_t *names = json_object_get(hn_source_config(source), "id2label");
    bool generic = true;
    if (!source->label_count || !json_is_object(names)) return HN_OK;
    if (json_object_size(names) != (size_t)source->label_count)
        return hn_fail(error, HN_ERR_FORMAT, "%s/config.json: id2label: expected %d labels, as classifier.weight has rows, "
                       "got %zu", source->path, source->label_count, json_object_size(names));
    source->labels = hn_calloc((size_t)source->label_count, sizeof *source->labels);
    if (!source->labels) return hn_fail(error, HN_ERR_MEMORY, "out of memory for label names");
    for (int k = 0; k < source->label_count; k++) {
        char key[16], plain[32];
        snprintf(key, sizeof key, "%d", k);
        snprintf(plain, sizeof plain, "LABEL_%d", k);
        const char *name = json_string_value(json_object_get(names, key));
        if (!name)
            return hn_fail(error, HN_ERR_FORMAT, "%s/config.json: id2label: expected a name for \"%s\", got none",
                           source->path, key);
        generic &= !strcmp(name, plain);
        source->labels[k] = hn_strdup(name);
        if (!source->labels[k]) return hn_fail(error, HN_ERR_MEMORY, "out of memory for label names");
    }
    if (generic) {
        for (int k = 0; k < source->label_count; k++) hn_free(source->labels[k]);
        hn_free(source->labels);
        source->labels = NULL;
    }
    return HN_OK;
}

/* The head of an encoder's checkpoint, if it has one. */
static hn_status read_head(hn_source *source, const json_t *root, const char *where, hn_error *error)
{
    size_t count;
    const hn_named_tensor *tensors = hn_folder_tensors(source->folder, &count);
    hn_status status = head_outputs(&source->label_count, tensors, count, hn_folder_weights(source->folder), error);
    if (status == HN_OK && source->adapter) {
        tensors = hn_peft_tensors(source->adapter, &count);
        status = head_outputs(&source->label_count, tensors, count, hn_peft_weights(source->adapter), error);
    }
    if (status != HN_OK) return status;
    const char *problem = json_string_value(json_object_get(root, "problem_type"));
    bool regression = problem ? !strcmp(problem, "regression") : source->label_count == 1;
    if (regression && source->label_count > 1)
        return hn_fail(error, HN_ERR_MISMATCH, "%s: \"problem_type\": a regression has one output, the head of %s has %d rows",
                       where, hn_folder_weights(source->folder), source->label_count);
    source->config.head = regression ? HN_HEAD_REGRESS : HN_HEAD_CLASSIFY;
    source->config.labels = source->label_count;
    return read_labels(source, error);
}

/* The tokenizer of an open folder. That of a GGUF file is made in memory. */
static hn_status open_tokenizer(hn_tokenizer **out, const hn_folder *folder, hn_error *error)
{
    char *text = NULL;
    size_t size;
    if (!hn_folder_source(folder)) return hn_tokenizer_open(out, hn_folder_path(folder), error);
    hn_status status = hn_folder_read(&text, &size, folder, "tokenizer.json", SIZE_MAX, error);
    if (status == HN_OK) status = hn_tokenizer_open_json(out, text, size, hn_folder_path(folder), error);
    hn_free(text);
    return status;
}

/* What ends a text, for a model of language. Some files name a token that their tokenizer lacks. */
static int32_t find_end_token(const json_t *root, const hn_tokenizer *tokenizer)
{
    const json_t *ids = json_object_get(root, "eos_token_id");
    if (json_is_array(ids)) ids = json_array_get(ids, 0);
    json_int_t id = json_is_integer(ids) ? json_integer_value(ids) : -1;
    return id >= 0 && id < hn_tokenizer_vocabulary(tokenizer) ? (int32_t)id : -1;
}

/* The adapter in a folder, which becomes source->adapter_path, and the config.json that may stand beside it. */
static hn_status open_adapter(hn_source *source, char *folder, hn_error *error)
{
    source->adapter_path = folder;
    if (!folder) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the path of an adapter");
    char *config = hn_path_join(folder, "config.json");
    hn_status status = config ? hn_peft_open(&source->adapter, folder, error)
                              : hn_fail(error, HN_ERR_MEMORY, "out of memory for the path of %s", folder);
    if (status == HN_OK && hn_path_exists(config)) status = hn_json_load(&source->own_config, config, HN_JSON_LIMITS_SMALL, error);
    hn_free(config);
    return status;
}

/* What a path stands for: folders of the base and of the adapter, which may be given apart. */
static hn_status resolve(hn_source *source, const char *path, const char *adapter, hn_error *error)
{
    char *found = NULL;
    hn_status status = hn_source_resolve(&found, path, error);
    if (status == HN_OK && !hn_peft_is_folder(found)) {
        source->path = found;
        return adapter ? open_adapter(source, hn_strdup(adapter), error) : HN_OK;
    }
    if (status == HN_OK) status = open_adapter(source, found, error);
    if (status != HN_OK) return status;
    const char *base = hn_peft_get_config(source->adapter)->base;
    if (!base || !hn_path_exists(base))
        return hn_fail(error, HN_ERR_FORMAT, "%s/adapter_config.json: \"base_model_name_or_path\": expected a folder on this machine, "
                       "got \"%.200s\"; name the base as the MODEL and the adapter by lora.adapter=%s", found, base ? base : "", found);
    return hn_source_resolve(&source->path, base, error);
}

static hn_status open_parts(hn_source *source, const char *path, const char *adapter, bool bare, hn_error *error)
{
    hn_status status = resolve(source, path, adapter, error);
    if (status == HN_OK) status = (bare ? hn_folder_open_bare : hn_folder_open)(&source->folder, source->path, error);
    if (status != HN_OK) return status;
    char where[512];
    snprintf(where, sizeof where, "%s%s", source->path, hn_folder_source(source->folder) ? "" : "/config.json");
    const json_t *root = hn_source_config(source);
    status = hn_model_config_read(&source->config, root, where, error);
    if (status == HN_OK && source->config.head != HN_HEAD_LM) status = read_head(source, root, where, error);
    if (status == HN_OK) status = open_tokenizer(&source->tokenizer, source->folder, error);
    if (status != HN_OK) return status;
    if (source->adapter) source->config.lora = hn_lora_of_peft(hn_peft_get_config(source->adapter));
    source->config.lora.where = source->adapter_path;
    if (hn_tokenizer_vocabulary(source->tokenizer) > source->config.vocabulary)
        return hn_fail(error, HN_ERR_MISMATCH, "%s: \"vocab_size\": expected at least %d, as the tokenizer has tokens, got %d",
                       where, hn_tokenizer_vocabulary(source->tokenizer), source->config.vocabulary);
    source->end_token = find_end_token(root, source->tokenizer);
    return HN_OK;
}

hn_status hn_source_open_tokenizer(hn_tokenizer **out, const char *path, hn_error *error)
{
    char *found = NULL;
    hn_folder *folder = NULL;
    hn_status status = hn_source_resolve(&found, path, error);
    if (status == HN_OK && !hn_folder_is_gguf(found)) {
        status = hn_tokenizer_open(out, found, error);
    } else if (status == HN_OK) {
        status = hn_folder_open(&folder, found, error);
        if (status == HN_OK) status = open_tokenizer(out, folder, error);
    }
    hn_folder_free(folder);
    hn_free(found);
    return status;
}

const json_t *hn_source_config(const hn_source *source)
{
    return source->own_config ? source->own_config : hn_folder_config(source->folder);
}

hn_status hn_source_digest(hn_digest *out, const hn_source *source, hn_error *error)
{
    hn_status status = hn_folder_digest(out, source->folder, error);
    if (status != HN_OK || !source->adapter) return status;
    size_t count;
    const hn_named_tensor *tensors = hn_peft_tensors(source->adapter, &count);
    hn_hasher *hasher = hn_hasher_open();
    if (!hasher) return hn_fail(error, HN_ERR_MEMORY, "out of memory for a digest");
    hn_hasher_add(hasher, out, sizeof *out);
    for (size_t i = 0; i < count; i++) {
        hn_hasher_add_text(hasher, tensors[i].name);
        hn_hasher_add(hasher, tensors[i].tensor.data, hn_tensor_bytes(&tensors[i].tensor));
    }
    *out = hn_hasher_digest(hasher);
    hn_hasher_free(hasher);
    return HN_OK;
}

static hn_status open_source(hn_source **out, const char *path, const char *adapter, bool bare, hn_error *error)
{
    hn_source *source = hn_calloc(1, sizeof *source);
    if (!source) return hn_fail(error, HN_ERR_MEMORY, "out of memory to open %s", path);
    hn_status status = open_parts(source, path, adapter, bare, error);
    if (status == HN_OK) *out = source;
    else hn_source_free(source);
    return status;
}

hn_status hn_source_open(hn_source **out, const char *path, hn_error *error)
{
    return open_source(out, path, NULL, false, error);
}

hn_status hn_source_open_with(hn_source **out, const char *path, const char *adapter, hn_error *error)
{
    return open_source(out, path, adapter, false, error);
}

hn_status hn_source_open_bare(hn_source **out, const char *path, hn_error *error)
{
    return open_source(out, path, NULL, true, error);
}

hn_status hn_source_masked(hn_model_config *out, const hn_source *source, hn_error *error)
{
    bool tied = true;
    hn_status status = hn_json_get_bool(&tied, hn_folder_config(source->folder), "tie_word_embeddings", source->path, error);
    if (status == HN_OK && !tied)
        status = hn_fail(error, HN_ERR_UNSUPPORTED, "%s/config.json: \"tie_word_embeddings\": expected true for hidden tokens, got "
                         "false", source->path);
    *out = source->config;
    hn_model_config_head(out, HN_HEAD_MASKED, 0);
    return status;
}

void hn_source_free(hn_source *source)
{
    if (!source) return;
    for (int k = 0; source->labels && k < source->label_count; k++) hn_free(source->labels[k]);
    hn_free(source->labels);
    hn_tokenizer_free(source->tokenizer);
    hn_folder_free(source->folder);
    hn_peft_free(source->adapter);
    json_decref(source->own_config);
    hn_free(source->adapter_path);
    hn_free(source->path);
    hn_free(source);
}
