/* What a model's files say of conversations (template.h). */
#include <string.h>

#include "core/json.h"
#include "core/mem.h"
#include "data/template.h"
#include "data/tokenizer_stages.h"

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

static hn_status take(char **out, const char *text, const char *path, hn_error *error)
{
    if (*out || !text) return HN_OK;
    *out = hn_strdup(text);
    return *out ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", path);
}

/* What one file says and no file before it said. */
static hn_status read_file(hn_chat_source *out, const char *text, const char *where, const char *name,
                           hn_error *error)
{
    char path[512];
    const char *bos = NULL, *eos = NULL;
    hnp_config config = {.path = path};
    if (!text) return HN_OK;
    snprintf(path, sizeof path, "%.400s/%s", where, name);
    hn_json_limits limits = HN_JSON_LIMITS_SMALL;
    limits.large = true;
    hn_status status = hn_json_parse(&config.root, text, strlen(text), path, limits, error);
    if (!status) status = hnp_config_special(&bos, &config, "bos_token", error);
    if (!status) status = hnp_config_special(&eos, &config, "eos_token", error);
    if (!status) status = take(&out->bos, bos, path, error);
    if (!status) status = take(&out->eos, eos, path, error);
    if (!status) {
        const json_t *chat = json_object_get(config.root, "chat_template");
        if (json_is_array(chat)) chat = default_of(chat);
        status = take(&out->chat, json_string_value(chat), path, error);
    }
    json_decref(config.root);
    return status;
}

hn_status hn_chat_source_init(hn_chat_source *out, const hn_chat_files *files, const char *where,
                              hn_error *error)
{
    hn_chat_source source = {0};
    hn_status status = take(&source.chat, files->jinja, where, error);
    if (!status) status = read_file(&source, files->config, where, "tokenizer_config.json", error);
    if (!status) status = read_file(&source, files->tokens, where, "special_tokens_map.json", error);
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
