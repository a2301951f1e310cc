/* What a model's files say of conversations (template.h): tokenizer_config.json, special_tokens_map.json and
 * chat_template.jinja, which wins over the text in tokenizer_config.json as it does for transformers. */
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "data/template.h"
#include "data/tokenizer_stages.h"

#define JINJA_LIMIT ((size_t)1 << 20)

static hn_status no_memory(const char *folder, hn_error *error)
{
    return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
}

/* The path of a file in the folder (hn_free), or *path = NULL where there is none; a link out of it is an
 * error. */
static hn_status find_file(char **path, const char *folder, const char *name, hn_error *error)
{
    *path = NULL;
    char *plain = hn_path_join(folder, name);
    if (!plain) return no_memory(folder, error);
    hn_status status = hn_path_exists(plain) ? hn_path_inside(path, folder, name, NULL, error) : HN_OK;
    hn_free(plain);
    return status;
}

/* A list of named templates: the one named "default". */
static const json_t *default_of(const json_t *list)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name && !strcmp(name, "default")) return json_object_get(item, "template");
    }
    return NULL;
}

static hn_status take(char **out, const char *text, const char *folder, hn_error *error)
{
    if (*out || !text) return HN_OK;
    *out = hn_strdup(text);
    return *out ? HN_OK : no_memory(folder, error);
}

static hn_status read_tokens(hn_chat_source *out, const char *folder, const char *name, hn_error *error)
{
    hnp_config config = {0};
    const char *bos = NULL, *eos = NULL;
    hn_status status = find_file(&config.path, folder, name, error);
    if (status || !config.path) return status;
    status = hn_json_load(&config.root, config.path, HN_JSON_LIMITS_SMALL, error);
    if (!status) status = hnp_config_special(&bos, &config, "bos_token", error);
    if (!status) status = hnp_config_special(&eos, &config, "eos_token", error);
    if (!status) status = take(&out->bos, bos, folder, error);
    if (!status) status = take(&out->eos, eos, folder, error);
    if (!status) {
        const json_t *chat = json_object_get(config.root, "chat_template");
        if (json_is_array(chat)) chat = default_of(chat);
        status = take(&out->chat, json_string_value(chat), folder, error);
    }
    json_decref(config.root);
    hn_free(config.path);
    return status;
}

hn_status hn_chat_source_open(hn_chat_source *out, const char *folder, hn_error *error)
{
    hn_chat_source source = {0};
    char *path = NULL;
    size_t size;
    hn_status status = find_file(&path, folder, "chat_template.jinja", error);
    if (!status && path) status = hn_file_read(&source.chat, &size, path, JINJA_LIMIT, error);
    hn_free(path);
    if (!status) status = read_tokens(&source, folder, "tokenizer_config.json", error);
    if (!status) status = read_tokens(&source, folder, "special_tokens_map.json", error);
    if (status)
        hn_chat_source_close(&source);
    else
        *out = source;
    return status;
}

void hn_chat_source_close(hn_chat_source *source)
{
    hn_free(source->chat);
    hn_free(source->bos);
    hn_free(source->eos);
    *source = (hn_chat_source){0};
}
