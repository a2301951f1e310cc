/* What ends an answer of a language model, by its files. See source.h. */
#include <string.h>

#include "core/json.h"
#include "core/mem.h"
#include "infer/source.h"

enum { STOPS_MAX = 64 };

/* Those of a file behind those of a template. Ids that the tokenizer lacks end nothing: some files name one. */
static hn_status take_ids(int32_t **out, size_t *count, const json_t *value, const hn_source *source, const char *file,
                          const hn_template *tmpl, hn_error *error)
{
    size_t given = !value ? 0 : json_is_array(value) ? json_array_size(value) : 1, first = 0;
    const int32_t *stops = tmpl ? hn_template_stops(tmpl, &first) : NULL;
    int32_t *ids = hn_calloc(first + given + 1, sizeof *ids);
    hn_status status = ids ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for the stop tokens", source->path);
    if (status == HN_OK && first) memcpy(ids, stops, first * sizeof *ids);
    *count = first;
    for (size_t i = 0; status == HN_OK && i < given; i++) {
        const json_t *one = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(one) || given > STOPS_MAX)
            status = hn_fail(error, HN_ERR_FORMAT, "%s: %s: eos_token_id: expected an id or a list of at most %d ids", source->path,
                             file, STOPS_MAX);
        else if (json_integer_value(one) >= 0 && json_integer_value(one) < hn_tokenizer_vocabulary(source->tokenizer))
            ids[(*count)++] = (int32_t)json_integer_value(one);
    }
    if (status == HN_OK) *out = ids;
    else hn_free(ids);
    return status;
}

hn_status hn_source_stops(int32_t **out, size_t *count, const hn_source *source, const hn_template *tmpl, hn_error *error)
{
    static const char name[] = "generation_config.json";
    char *text = NULL;
    size_t size;
    json_t *root = NULL;
    const json_t *value;
    const char *file = name;
    hn_status status = hn_folder_read(&text, &size, source->folder, name, HN_JSON_LIMITS_SMALL.bytes, error);
    if (status == HN_OK && text) status = hn_json_parse(&root, text, size, name, HN_JSON_LIMITS_SMALL, error);
    if (status == HN_OK) {
        value = json_object_get(root, "eos_token_id");
        if (!value || json_is_null(value)) {
            file = "config.json";
            value = json_object_get(hn_folder_config(source->folder), "eos_token_id");
        }
        status = take_ids(out, count, json_is_null(value) ? NULL : value, source, file, tmpl, error);
    }
    json_decref(root);
    hn_free(text);
    return status;
}
