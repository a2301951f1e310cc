/* tokenizer.json, Hugging Face's description of a tokenizer: which stages it is made of, and their settings.
 * Read here is what BERT's family asks for; anything else is refused with its place in the file, because a
 * stage that is left out changes ids without a sound. "padding" and "truncation" are passed over on purpose
 * (tokenizer.h).
 *
 * Order matters: the model's tokens come first, since added tokens and templates name them. */
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "core/mem.h"
#include "data/tokenizer_stages.h"

#define NODES ((size_t)8 << 20)
#define BYTES ((size_t)64 << 20)
#define MAX_TYPE 255

typedef struct reader {
    hn_tokenizer *tokenizer;
    const char *name; /* of the file */
    hn_error *error;
} reader;

/* The place of a member, "FILE: path", for messages. */
typedef struct place {
    char text[512];
} place;

static place at(const reader *from, const char *path)
{
    place here;
    snprintf(here.text, sizeof here.text, "%.300s: %.200s", from->name, path);
    return here;
}

static place at_item(const reader *from, const char *path, size_t index)
{
    place here;
    snprintf(here.text, sizeof here.text, "%.300s: %.180s[%zu]", from->name, path, index);
    return here;
}

static hn_status refuse(const reader *from, const char *path, const char *got, const char *known)
{
    return hn_fail(from->error, HN_ERR_UNSUPPORTED, "%s: %s: hone reads %s, got \"%.60s\"", from->name, path,
                   known, got);
}

/* The "type" of a stage; NULL for a stage that is null or missing. */
static hn_status stage_type(const char **type, const json_t *stage, const reader *from, const char *path)
{
    *type = NULL;
    if (!stage || json_is_null(stage)) return HN_OK;
    place here = at(from, path);
    if (!json_is_object(stage))
        return hn_fail(from->error, HN_ERR_FORMAT, "%s: an object or null expected", here.text);
    if (hn_json_get_string(type, stage, "type", here.text, from->error)) return from->error->status;
    if (!*type) return hn_fail(from->error, HN_ERR_FORMAT, "%s.type: missing", here.text);
    return HN_OK;
}

static hn_status read_normalizer(const reader *from, const json_t *root)
{
    const json_t *stage = json_object_get(root, "normalizer");
    hnp_bert_settings *bert = &from->tokenizer->bert;
    const char *type;
    if (stage_type(&type, stage, from, "normalizer")) return from->error->status;
    if (!type) return HN_OK;
    if (strcmp(type, "BertNormalizer"))
        return refuse(from, "normalizer.type", type, "\"BertNormalizer\" or null");
    place here = at(from, "normalizer");
    bert->clean = bert->chinese = bert->lower = true;
    if (hn_json_get_bool(&bert->clean, stage, "clean_text", here.text, from->error) ||
        hn_json_get_bool(&bert->chinese, stage, "handle_chinese_chars", here.text, from->error) ||
        hn_json_get_bool(&bert->lower, stage, "lowercase", here.text, from->error))
        return from->error->status;
    bert->strip = bert->lower; /* what null means */
    if (hn_json_get_bool(&bert->strip, stage, "strip_accents", here.text, from->error))
        return from->error->status;
    hnp_bert_init(from->tokenizer);
    return HN_OK;
}

static hn_status read_pre_tokenizer(const reader *from, const json_t *root)
{
    const char *type;
    if (stage_type(&type, json_object_get(root, "pre_tokenizer"), from, "pre_tokenizer"))
        return from->error->status;
    if (!type) return HN_OK;
    if (strcmp(type, "BertPreTokenizer"))
        return refuse(from, "pre_tokenizer.type", type, "\"BertPreTokenizer\" or null");
    from->tokenizer->split = hnp_bert_split;
    return HN_OK;
}

static hn_status read_vocabulary(const reader *from, const json_t *model)
{
    json_t *vocabulary = json_object_get(model, "vocab"), *value;
    const char *token;
    place here = at(from, "model.vocab");
    if (!json_is_object(vocabulary))
        return hn_fail(from->error, HN_ERR_FORMAT, "%s: an object of ids expected", here.text);
    json_object_foreach(vocabulary, token, value)
    {
        if (!json_is_integer(value))
            return hn_fail(from->error, HN_ERR_FORMAT, "%s: id of \"%.60s\": an integer expected", here.text,
                           token);
        if (hnp_tokenizer_name(from->tokenizer, json_integer_value(value), token, here.text, from->error))
            return from->error->status;
    }
    return hnp_tokenizer_index(from->tokenizer, from->error);
}

static hn_status read_model(const reader *from, const json_t *root)
{
    const json_t *model = json_object_get(root, "model");
    const char *type = NULL, *prefix = "##", *unknown = "[UNK]";
    int64_t max_chars = 100;
    place here = at(from, "model");
    if (!json_is_object(model))
        return hn_fail(from->error, HN_ERR_FORMAT, "%s: an object expected", here.text);
    if (hn_json_get_string(&type, model, "type", here.text, from->error)) return from->error->status;
    /* Files of 2020 name no type; a WordPiece model is known by its settings. */
    if (!type) type = json_object_get(model, "max_input_chars_per_word") ? "WordPiece" : "";
    if (strcmp(type, "WordPiece")) return refuse(from, "model.type", type, "\"WordPiece\"");
    if (hn_json_get_string(&prefix, model, "continuing_subword_prefix", here.text, from->error) ||
        hn_json_get_string(&unknown, model, "unk_token", here.text, from->error) ||
        hn_json_get_int(&max_chars, model, "max_input_chars_per_word", 0, HNP_MAX_WORD, here.text,
                        from->error) ||
        read_vocabulary(from, model))
        return from->error->status;
    return hnp_wordpiece_init(from->tokenizer, prefix, unknown, max_chars, here.text, from->error);
}

static hn_status read_added_token(const reader *from, const json_t *item, size_t index)
{
    int64_t id = -1;
    place here = at_item(from, "added_tokens", index);
    if (!json_is_object(item))
        return hn_fail(from->error, HN_ERR_FORMAT, "%s: an object expected", here.text);
    if (hn_json_get_int(&id, item, "id", 0, HNP_MAX_ID - 1, here.text, from->error))
        return from->error->status;
    if (id < 0) return hn_fail(from->error, HN_ERR_FORMAT, "%s.id: missing", here.text);
    return hnp_added_read(from->tokenizer, item, (int32_t)id, here.text, from->error);
}

static hn_status read_added_tokens(const reader *from, const json_t *root)
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
static hn_status read_id(int32_t *id, const reader *from, const json_t *value, const char *where)
{
    json_int_t number = json_is_integer(value) ? json_integer_value(value) : -1;
    if (number < 0 || number >= HNP_MAX_ID || !hn_tokenizer_token(from->tokenizer, (int32_t)number))
        return hn_fail(from->error, HN_ERR_FORMAT, "%s: the id of a token expected, got %lld", where,
                       (long long)number);
    *id = (int32_t)number;
    return HN_OK;
}

/* {"SpecialToken": {"id": "[CLS]", "type_id": 0}} stands for all ids of that name in `special`. */
static hn_status read_special_piece(const reader *from, hnp_template *out, const char *name, int32_t type,
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

static hn_status read_piece(const reader *from, hnp_template *out, const json_t *item, const json_t *special,
                            const char *where)
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
static hn_status read_template(const reader *from, hnp_template *out, const json_t *stage, const char *key)
{
    const json_t *list = json_object_get(stage, key);
    char path[64];
    size_t found[2] = {0};
    snprintf(path, sizeof path, "post_processor.%s", key);
    if (!json_is_array(list))
        return hn_fail(from->error, HN_ERR_FORMAT, "%s: %s: an array expected", from->name, path);
    for (size_t i = 0; i < json_array_size(list); i++) {
        place here = at_item(from, path, i);
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

/* {"type": "BertProcessing", "sep": ["[SEP]", 102], "cls": ["[CLS]", 101]} */
static hn_status read_bert_processing(const reader *from, const json_t *stage)
{
    int32_t cls = 0, sep = 0;
    place here = at(from, "post_processor");
    if (read_id(&cls, from, json_array_get(json_object_get(stage, "cls"), 1), here.text) ||
        read_id(&sep, from, json_array_get(json_object_get(stage, "sep"), 1), here.text))
        return from->error->status;
    return hnp_template_bert(from->tokenizer, cls, sep, from->error);
}

static hn_status read_post_processor(const reader *from, const json_t *root)
{
    const json_t *stage = json_object_get(root, "post_processor");
    hn_tokenizer *tokenizer = from->tokenizer;
    const char *type;
    if (stage_type(&type, stage, from, "post_processor")) return from->error->status;
    if (!type) return hnp_template_plain(tokenizer, from->error);
    if (!strcmp(type, "BertProcessing")) return read_bert_processing(from, stage);
    if (strcmp(type, "TemplateProcessing"))
        return refuse(from, "post_processor.type", type,
                      "\"TemplateProcessing\", \"BertProcessing\" or null");
    if (read_template(from, &tokenizer->single, stage, "single")) return from->error->status;
    return read_template(from, &tokenizer->both, stage, "pair");
}

static hn_status read_decoder(const reader *from, const json_t *root)
{
    const json_t *stage = json_object_get(root, "decoder");
    const char *type, *prefix = "##";
    bool cleanup = true;
    if (stage_type(&type, stage, from, "decoder")) return from->error->status;
    if (!type) return HN_OK;
    if (strcmp(type, "WordPiece")) return refuse(from, "decoder.type", type, "\"WordPiece\" or null");
    place here = at(from, "decoder");
    if (hn_json_get_string(&prefix, stage, "prefix", here.text, from->error) ||
        hn_json_get_bool(&cleanup, stage, "cleanup", here.text, from->error))
        return from->error->status;
    return hnp_wordpiece_decoder(from->tokenizer, prefix, cleanup, from->error);
}

hn_status hn_tokenizer_open_json(hn_tokenizer **out, const char *text, size_t length, const char *name,
                                 hn_error *error)
{
    json_t *root = NULL;
    reader from = {.name = name, .error = error};
    hn_json_limits limits = {.bytes = BYTES, .depth = 64, .nodes = NODES};
    hn_status status = hn_json_parse(&root, text, length, name, limits, error);
    if (!status && !json_is_object(root))
        status = hn_fail(error, HN_ERR_FORMAT, "%s: an object expected", name);
    if (!status) status = hnp_tokenizer_new(&from.tokenizer, error);
    if (!status) status = read_model(&from, root);
    if (!status) status = read_added_tokens(&from, root);
    if (!status) status = read_normalizer(&from, root);
    if (!status) status = read_pre_tokenizer(&from, root);
    if (!status) status = read_post_processor(&from, root);
    if (!status) status = read_decoder(&from, root);
    if (!status) status = hnp_tokenizer_finish(from.tokenizer, error);
    json_decref(root);
    if (status)
        hn_tokenizer_free(from.tokenizer);
    else
        *out = from.tokenizer;
    return status;
}
