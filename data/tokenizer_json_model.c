/* The model of a tokenizer.json: WordPiece, BPE, Unigram; their vocabularies, merges and scores. */
#include <string.h>

#include "core/json.h"
#include "core/mem.h"
#include "data/tokenizer_json.h"

hn_status hnp_vocabulary_read(hn_tokenizer *tokenizer, json_t *vocabulary, const char *where, hn_error *error)
{
    const char *token;
    json_t *value;
    if (!json_is_object(vocabulary))
        return hn_fail(error, HN_ERR_FORMAT, "%s: an object of ids expected", where);
    json_object_foreach(vocabulary, token, value)
    {
        if (!json_is_integer(value))
            return hn_fail(error, HN_ERR_FORMAT, "%s: id of \"%.60s\": an integer expected", where, token);
        if (hnp_tokenizer_name(tokenizer, json_integer_value(value), token, where, error))
            return error->status;
    }
    return hnp_tokenizer_index(tokenizer, error);
}

static hn_status read_vocabulary(const hnp_reader *from, const json_t *model)
{
    hnp_place here = hnp_json_at(from, "model.vocab");
    return hnp_vocabulary_read(from->tokenizer, json_object_get(model, "vocab"), here.text, from->error);
}

static hn_status read_wordpiece(const hnp_reader *from, const json_t *model)
{
    const char *prefix = "##", *unknown = "[UNK]";
    int64_t max_chars = 100;
    hnp_place here = hnp_json_at(from, "model");
    if (hn_json_get_string(&prefix, model, "continuing_subword_prefix", here.text, from->error) ||
        hn_json_get_string(&unknown, model, "unk_token", here.text, from->error) ||
        hn_json_get_int(&max_chars, model, "max_input_chars_per_word", 0, HNP_MAX_WORD, here.text,
                        from->error) ||
        read_vocabulary(from, model))
        return from->error->status;
    return hnp_wordpiece_init(from->tokenizer, prefix, unknown, max_chars, here.text, from->error);
}

/* "left right", or ["left", "right"]. */
static hn_status read_merge(const hnp_reader *from, const json_t *item, size_t rank)
{
    hnp_span left = {0}, right = {0};
    if (json_is_string(item)) {
        const char *text = json_string_value(item), *blank = strchr(text, ' ');
        if (blank && !strchr(blank + 1, ' ')) {
            left = (hnp_span){text, (size_t)(blank - text), false};
            right = (hnp_span){blank + 1, json_string_length(item) - left.length - 1, false};
        }
    } else if (json_array_size(item) == 2) {
        const json_t *a = json_array_get(item, 0), *b = json_array_get(item, 1);
        left = (hnp_span){json_string_value(a), json_string_length(a), false};
        right = (hnp_span){json_string_value(b), json_string_length(b), false};
    }
    if (left.length && right.length)
        return hnp_bpe_merge(from->tokenizer, left, right, rank, hnp_json_at(from, "model.merges").text,
                             from->error);
    return hn_fail(from->error, HN_ERR_FORMAT, "%s: model.merges[%zu]: two tokens expected", from->name,
                   rank);
}

/* What hone does not do, and what files that were saved with their defaults say of it. */
static hn_status refuse_options(const hnp_reader *from, const json_t *model)
{
    const char *const texts[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    hnp_place here = hnp_json_at(from, "model");
    double dropout = 0;
    if (hn_json_get_double(&dropout, model, "dropout", 0, 1, here.text, from->error))
        return from->error->status;
    if (dropout > 0)
        return hn_fail(from->error, HN_ERR_UNSUPPORTED, "%s.dropout: 0 or null expected, got %g", here.text,
                       dropout);
    for (size_t i = 0; i < 2; i++) {
        const char *text = "";
        if (hn_json_get_string(&text, model, texts[i], here.text, from->error)) return from->error->status;
        if (*text)
            return hn_fail(from->error, HN_ERR_UNSUPPORTED, "%s.%s: null or \"\" expected, got \"%.60s\"",
                           here.text, texts[i], text);
    }
    return HN_OK;
}

static hn_status read_bpe(const hnp_reader *from, const json_t *model)
{
    hnp_bpe_options options = {0};
    hnp_place here = hnp_json_at(from, "model");
    const json_t *merges = json_object_get(model, "merges");
    if (!json_is_array(merges))
        return hn_fail(from->error, HN_ERR_FORMAT, "%s.merges: an array expected", here.text);
    if (refuse_options(from, model) ||
        hn_json_get_string(&options.unknown, model, "unk_token", here.text, from->error) ||
        hn_json_get_bool(&options.fuse_unknown, model, "fuse_unk", here.text, from->error) ||
        hn_json_get_bool(&options.byte_fallback, model, "byte_fallback", here.text, from->error) ||
        hn_json_get_bool(&options.ignore_merges, model, "ignore_merges", here.text, from->error) ||
        read_vocabulary(from, model) ||
        hnp_bpe_init(from->tokenizer, options, json_array_size(merges), here.text, from->error))
        return from->error->status;
    for (size_t i = 0; i < json_array_size(merges); i++)
        if (read_merge(from, json_array_get(merges, i), i)) return from->error->status;
    return HN_OK;
}

/* [["<unk>", 0.0], ["a", -3.2], ...] */
static hn_status read_scores(const hnp_reader *from, double *scores, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i), *token = json_array_get(item, 0),
                     *score = json_array_get(item, 1);
        hnp_place here = hnp_json_at_item(from, "model.vocab", i);
        if (json_array_size(item) != 2 || !json_is_string(token) || !json_is_number(score) ||
            strlen(json_string_value(token)) != json_string_length(token))
            return hn_fail(from->error, HN_ERR_FORMAT, "%s: a token and its score expected", here.text);
        scores[i] = json_number_value(score);
        if (hnp_tokenizer_name(from->tokenizer, (int64_t)i, json_string_value(token), here.text, from->error))
            return from->error->status;
    }
    return hnp_tokenizer_index(from->tokenizer, from->error);
}

static hn_status read_unigram(const hnp_reader *from, const json_t *model)
{
    int64_t unknown = -1;
    bool byte_fallback = false;
    hnp_place here = hnp_json_at(from, "model");
    const json_t *list = json_object_get(model, "vocab");
    if (!json_array_size(list))
        return hn_fail(from->error, HN_ERR_FORMAT, "%s.vocab: an array of tokens and scores expected",
                       here.text);
    if (hn_json_get_int(&unknown, model, "unk_id", 0, HNP_MAX_ID - 1, here.text, from->error) ||
        hn_json_get_bool(&byte_fallback, model, "byte_fallback", here.text, from->error))
        return from->error->status;
    double *scores = hn_calloc(json_array_size(list), sizeof *scores);
    if (!scores) return hn_fail(from->error, HN_ERR_MEMORY, "%s: out of memory", here.text);
    if (read_scores(from, scores, list)) {
        hn_free(scores);
        return from->error->status;
    }
    return hnp_unigram_init(from->tokenizer, scores, unknown, byte_fallback, here.text, from->error);
}

hn_status hnp_json_model(const hnp_reader *from, const json_t *root)
{
    const json_t *model = json_object_get(root, "model");
    const char *type = NULL;
    hnp_place here = hnp_json_at(from, "model");
    if (!json_is_object(model))
        return hn_fail(from->error, HN_ERR_FORMAT, "%s: an object expected", here.text);
    if (hn_json_get_string(&type, model, "type", here.text, from->error)) return from->error->status;
    /* Files of 2020 name no type; a model is known by its settings. */
    if (!type)
        type = json_object_get(model, "max_input_chars_per_word") ? "WordPiece"
               : json_object_get(model, "merges")                 ? "BPE"
               : json_object_get(model, "unk_id")                 ? "Unigram"
                                                                  : "";
    if (!strcmp(type, "WordPiece")) return read_wordpiece(from, model);
    if (!strcmp(type, "BPE")) return read_bpe(from, model);
    if (!strcmp(type, "Unigram")) return read_unigram(from, model);
    return hnp_json_refuse(from, "model.type", type, "\"WordPiece\", \"BPE\" or \"Unigram\"");
}
