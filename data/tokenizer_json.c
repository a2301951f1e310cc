/* tokenizer.json, Hugging Face's description of a tokenizer: which stages it is made of, and their settings.
 * What hone lacks is refused with its place in the file, because a stage that is left out changes ids without
 * a sound. "padding" and "truncation" are passed over on purpose (tokenizer.h).
 *
 * Order matters: the model's tokens come first, since added tokens and templates name them; the model is
 * finished when the splitters are known.
 *
 * Here: the whole, added tokens, the post-processor. The model is read in tokenizer_json_model.c; normalizer,
 * pre-tokenizer and decoder, which are lists of steps, in tokenizer_json_stages.c. */
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "core/mem.h"
#include "data/tokenizer_json.h"

#define NODES ((size_t)8 << 20)
#define BYTES ((size_t)64 << 20)
#define MAX_TYPE 255

hnp_place hnp_json_at(const hnp_reader *from, const char *path)
{
    hnp_place here;
    snprintf(here.text, sizeof here.text, "%.300s: %.200s", from->name, path);
    return here;
}

hnp_place hnp_json_at_item(const hnp_reader *from, const char *path, size_t index)
{
    hnp_place here;
    snprintf(here.text, sizeof here.text, "%.300s: %.180s[%zu]", from->name, path, index);
    return here;
}

hn_status hnp_json_refuse(const hnp_reader *from, const char *path, const char *got, const char *known)
{
    return hn_fail(from->error, HN_ERR_UNSUPPORTED, "%s: %s: hone reads %s, got \"%.60s\"", from->name, path,
                   known, got);
}

hn_status hnp_json_type(const char **type, const json_t *stage, const hnp_reader *from, const char *path)
{
    *type = NULL;
    if (!stage || json_is_null(stage)) return HN_OK;
    hnp_place here = hnp_json_at(from, path);
    if (!json_is_object(stage))
        return hn_fail(from->error, HN_ERR_FORMAT, "%s: an object or null expected", here.text);
    if (hn_json_get_string(type, stage, "type", here.text, from->error)) return from->error->status;
    if (!*type) return hn_fail(from->error, HN_ERR_FORMAT, "%s.type: missing", here.text);
    return HN_OK;
}

hn_status hnp_json_steps(const hnp_reader *from, const json_t *stage, const char *path, const char *key,
                         hnp_step_reader *read)
{
    const char *type;
    char where[200];
    if (hnp_json_type(&type, stage, from, path)) return from->error->status;
    if (!type) return HN_OK;
    if (strcmp(type, "Sequence")) return read(from, stage, type, path);
    const json_t *list = json_object_get(stage, key);
    if (!json_is_array(list))
        return hn_fail(from->error, HN_ERR_FORMAT, "%s: %s.%s: an array expected", from->name, path, key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        snprintf(where, sizeof where, "%.120s.%.20s[%zu]", path, key, i);
        if (hnp_json_steps(from, json_array_get(list, i), where, key, read)) return from->error->status;
    }
    return HN_OK;
}

static hn_status read_added_token(const hnp_reader *from, const json_t *item, size_t index)
{
    int64_t id = -1;
    hnp_place here = hnp_json_at_item(from, "added_tokens", index);
    if (!json_is_object(item))
        return hn_fail(from->error, HN_ERR_FORMAT, "%s: an object expected", here.text);
    if (hn_json_get_int(&id, item, "id", 0, HNP_MAX_ID - 1, here.text, from->error))
        return from->error->status;
    if (id < 0) return hn_fail(from->error, HN_ERR_FORMAT, "%s.id: missing", here.text);
    return hnp_added_read(from->tokenizer, item, (int32_t)id, here.text, from->error);
}

static hn_status read_added_tokens(const hnp_reader *from, const json_t *root)
{
    const json_t *list = json_object_get(root, "added_tokens");
    if (!list || json_is_null(list)) return HN_OK;
    if (!json_is_array(list))
        return hn_fail(from->error, HN_ERR_FORMAT, "%s: added_tokens: an array expected", from->name);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (read_added_token(from, json_array_get(list, i), i)) return from->error->status;
    return HN_OK;
}

/* An id that some token has. */
static hn_status read_id(int32_t *id, const hnp_reader *from, const json_t *value, const char *where)
{
    json_int_t number = json_is_integer(value) ? json_integer_value(value) : -1;
    if (number < 0 || number >= HNP_MAX_ID || !hn_tokenizer_token(from->tokenizer, (int32_t)number))
        return hn_fail(from->error, HN_ERR_FORMAT, "%s: the id of a token expected, got %lld", where,
                       (long long)number);
    *id = (int32_t)number;
    return HN_OK;
}

/* {"SpecialToken": {"id": "[CLS]", "type_id": 0}} stands for all ids of that name in `special`. */
static hn_status read_special_piece(const hnp_reader *from, hnp_template *out, const char *name, int32_t type,
                                    const json_t *special, const char *where)
{
    const json_t *ids = json_object_get(json_object_get(special, name), "ids");
    int32_t id = 0;
    if (!json_array_size(ids))
        return hn_fail(from->error, HN_ERR_FORMAT,
                       "%s: \"%.60s\" has no ids in post_processor.special_tokens", where, name);
    for (size_t i = 0; i < json_array_size(ids); i++)
        if (read_id(&id, from, json_array_get(ids, i), where) || hnp_template_add(out, id, type, from->error))
            return from->error->status;
    return HN_OK;
}

static hn_status read_piece(const hnp_reader *from, hnp_template *out, const json_t *item,
                            const json_t *special, const char *where)
{
    const json_t *sequence = json_object_get(item, "Sequence");
    const json_t *body = sequence ? sequence : json_object_get(item, "SpecialToken");
    const char *id = NULL;
    int64_t type = -1;
    if (!json_is_object(body))
        return hn_fail(from->error, HN_ERR_FORMAT, "%s: a \"Sequence\" or a \"SpecialToken\" expected",
                       where);
    if (hn_json_get_string(&id, body, "id", where, from->error) ||
        hn_json_get_int(&type, body, "type_id", 0, MAX_TYPE, where, from->error))
        return from->error->status;
    if (!id || type < 0)
        return hn_fail(from->error, HN_ERR_FORMAT, "%s: \"id\" and \"type_id\" expected", where);
    if (!sequence) return read_special_piece(from, out, id, (int32_t)type, special, where);
    if (strcmp(id, "A") && strcmp(id, "B"))
        return hn_fail(from->error, HN_ERR_FORMAT, "%s: sequence \"A\" or \"B\" expected, got \"%.60s\"",
                       where, id);
    return hnp_template_add(out, *id == 'A' ? HNP_PIECE_A : HNP_PIECE_B, (int32_t)type, from->error);
}

/* A template with A once, and B once when it is for a pair and never otherwise. */
static hn_status read_template(const hnp_reader *from, hnp_template *out, const json_t *stage,
                               const char *where, const char *key)
{
    const json_t *list = json_object_get(stage, key);
    char path[200];
    size_t found[2] = {0};
    snprintf(path, sizeof path, "%.120s.%s", where, key);
    if (!json_is_array(list))
        return hn_fail(from->error, HN_ERR_FORMAT, "%s: %s: an array expected", from->name, path);
    for (size_t i = 0; i < json_array_size(list); i++) {
        hnp_place here = hnp_json_at_item(from, path, i);
        if (read_piece(from, out, json_array_get(list, i), json_object_get(stage, "special_tokens"),
                       here.text))
            return from->error->status;
    }
    for (size_t i = 0; i < out->count; i++) {
        found[0] += out->pieces[i].id == HNP_PIECE_A;
        found[1] += out->pieces[i].id == HNP_PIECE_B;
    }
    size_t pair = out == &from->tokenizer->both;
    if (found[0] == 1 && found[1] == pair) return HN_OK;
    return hn_fail(from->error, HN_ERR_UNSUPPORTED, "%s: %s: A once and B %s expected, got %zu and %zu",
                   from->name, path, pair ? "once" : "never", found[0], found[1]);
}

/* {"type": "BertProcessing", "sep": ["[SEP]", 102], "cls": ["[CLS]", 101]}; RobertaProcessing likewise. */
static hn_status read_pair_processing(const hnp_reader *from, const json_t *stage, bool roberta,
                                      const char *path)
{
    int32_t cls = 0, sep = 0;
    hnp_place here = hnp_json_at(from, path);
    if (read_id(&cls, from, json_array_get(json_object_get(stage, "cls"), 1), here.text) ||
        read_id(&sep, from, json_array_get(json_object_get(stage, "sep"), 1), here.text))
        return from->error->status;
    return roberta ? hnp_template_roberta(from->tokenizer, cls, sep, from->error)
                   : hnp_template_bert(from->tokenizer, cls, sep, from->error);
}

/* ByteLevel moves offsets, which hone has none of. Of the others there can be one. */
static hn_status read_processor(const hnp_reader *from, const json_t *stage, const char *type,
                                const char *path)
{
    hn_tokenizer *tokenizer = from->tokenizer;
    if (!strcmp(type, "ByteLevel")) return HN_OK;
    if (tokenizer->single.count)
        return hnp_json_refuse(from, path, type,
                               "one post-processor that adds tokens, and this is the second");
    if (!strcmp(type, "BertProcessing") || !strcmp(type, "RobertaProcessing"))
        return read_pair_processing(from, stage, *type == 'R', path);
    if (strcmp(type, "TemplateProcessing"))
        return hnp_json_refuse(
            from, path, type,
            "\"TemplateProcessing\", \"BertProcessing\", \"RobertaProcessing\", \"ByteLevel\", "
            "\"Sequence\" or null");
    if (read_template(from, &tokenizer->single, stage, path, "single")) return from->error->status;
    return read_template(from, &tokenizer->both, stage, path, "pair");
}

static hn_status read_post_processor(const hnp_reader *from, const json_t *root)
{
    const json_t *stage = json_object_get(root, "post_processor");
    if (hnp_json_steps(from, stage, "post_processor", "processors", read_processor))
        return from->error->status;
    return from->tokenizer->single.count ? HN_OK : hnp_template_plain(from->tokenizer, from->error);
}

hn_status hn_tokenizer_open_json(hn_tokenizer **out, const char *text, size_t length, const char *name,
                                 hn_error *error)
{
    json_t *root = NULL;
    hnp_reader from = {.name = name, .error = error};
    hn_json_limits limits = {.bytes = BYTES, .depth = 64, .nodes = NODES};
    hn_status status = hn_json_parse(&root, text, length, name, limits, error);
    if (!status && !json_is_object(root))
        status = hn_fail(error, HN_ERR_FORMAT, "%s: an object expected", name);
    if (!status) status = hnp_tokenizer_new(&from.tokenizer, error);
    if (!status) status = hnp_json_model(&from, root);
    if (!status) status = read_added_tokens(&from, root);
    if (!status) status = hnp_json_normalizer(&from, root);
    if (!status) status = hnp_json_pre_tokenizer(&from, root);
    if (!status) status = read_post_processor(&from, root);
    if (!status) status = hnp_json_decoder(&from, root);
    if (!status && from.tokenizer->model.bpe.merges) status = hnp_bpe_finish(from.tokenizer, name, error);
    if (!status) status = hnp_tokenizer_finish(from.tokenizer, name, error);
    json_decref(root);
    if (status)
        hn_tokenizer_free(from.tokenizer);
    else
        *out = from.tokenizer;
    return status;
}
