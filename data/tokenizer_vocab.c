/* vocab.txt: the original form of BERT's tokenizers, a token a line, its id the line's number from 0. What
 * else there is to know stands in tokenizer_config.json, or is BERT's default: [CLS] A [SEP] B [SEP], lower
 * case. A token that stands on two lines has the later id, as in the reference.
 *
 * Only tokenizers that are BERT's by another name are read this way; a class that treats text otherwise is
 * refused. */
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "data/tokenizer_stages.h"

#define FILE_LIMIT ((size_t)64 << 20)

typedef struct vocab_config {
    hnp_config file;
    const char *unknown, *sep, *pad, *cls, *mask;
} vocab_config;

static const char *const classes[] = {"Bert",     "DistilBert", "Electra",    "MobileBert",
                                      "ConvBert", "LayoutLM",   "SqueezeBert"};

static hn_status check_class(const hnp_config *config, hn_error *error)
{
    const char *name = NULL;
    if (hn_json_get_string(&name, config->root, "tokenizer_class", config->path, error)) return error->status;
    if (!name || !strcmp(name, "PreTrainedTokenizerFast")) return HN_OK;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        size_t length = strlen(classes[i]);
        if (strncmp(name, classes[i], length)) continue;
        if (!strcmp(name + length, "Tokenizer") || !strcmp(name + length, "TokenizerFast")) return HN_OK;
    }
    return hn_fail(
        error, HN_ERR_UNSUPPORTED,
        "%s: tokenizer_class: a vocab.txt is read as BERT's, and \"%.60s\" is not one of BERT's kind; give a "
        "tokenizer.json",
        config->path, name);
}

/* A list of added tokens without their flags, as older programs left it. */
static hn_status check_old_list(const hnp_config *config, const char *folder, hn_error *error)
{
    char *path = hn_path_join(folder, "added_tokens.json");
    hn_status status = HN_OK;
    if (!path) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    if (hn_path_exists(path) && !json_object_get(config->root, "added_tokens_decoder"))
        status = hn_fail(
            error, HN_ERR_UNSUPPORTED,
            "%s: not read; give a tokenizer.json, or added_tokens_decoder in tokenizer_config.json", path);
    hn_free(path);
    return status;
}

hn_status hnp_config_special(const char **token, const hnp_config *config, const char *key, hn_error *error)
{
    const json_t *value = json_object_get(config->root, key);
    if (!json_is_object(value)) return hn_json_get_string(token, config->root, key, config->path, error);
    return hn_json_get_string(token, value, "content", config->path, error);
}

hn_status hnp_config_open(hnp_config *config, const char *folder, hn_error *error)
{
    config->path = hn_path_join(folder, "tokenizer_config.json");
    if (!config->path) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    if (!hn_path_exists(config->path)) return HN_OK;
    char *real = NULL;
    hn_json_limits limits = HN_JSON_LIMITS_SMALL;
    limits.large = true;
    hn_status status = hn_path_inside(&real, folder, "tokenizer_config.json", NULL, error);
    if (!status) status = hn_json_load(&config->root, real, limits, error);
    hn_free(real);
    if (!status && !json_is_object(config->root))
        status = hn_fail(error, HN_ERR_FORMAT, "%s: an object expected", config->path);
    return status ? status : check_old_list(config, folder, error);
}

void hnp_config_close(hnp_config *config)
{
    json_decref(config->root);
    hn_free(config->path);
}

static hn_status read_config(vocab_config *config, hnp_bert_settings *bert, hn_error *error)
{
    const hnp_config *file = &config->file;
    bert->clean = bert->chinese = bert->lower = bert->strip = true;
    if (check_class(file, error) ||
        hn_json_get_bool(&bert->lower, file->root, "do_lower_case", file->path, error) ||
        hn_json_get_bool(&bert->chinese, file->root, "tokenize_chinese_chars", file->path, error))
        return error->status;
    bert->strip = bert->lower; /* what null and nothing mean */
    if (hn_json_get_bool(&bert->strip, file->root, "strip_accents", file->path, error) ||
        hnp_config_special(&config->unknown, file, "unk_token", error) ||
        hnp_config_special(&config->sep, file, "sep_token", error) ||
        hnp_config_special(&config->pad, file, "pad_token", error) ||
        hnp_config_special(&config->cls, file, "cls_token", error) ||
        hnp_config_special(&config->mask, file, "mask_token", error))
        return error->status;
    return HN_OK;
}

/* Names a line's token by the line's number. Lines end in \n, \r\n or \r. */
static hn_status read_lines(hn_tokenizer *tokenizer, char *text, size_t size, const char *path,
                            hn_error *error)
{
    size_t valid = hnp_utf8_valid(text, size);
    if (valid < size || memchr(text, '\0', size))
        return hn_fail(error, HN_ERR_FORMAT, "%s: UTF-8 text without NUL expected", path);
    int64_t line = 0;
    for (size_t at = 0; at < size; line++) {
        size_t end = at + strcspn(text + at, "\r\n"), next = end + 1;
        if (text[end] == '\r' && text[next] == '\n') next++;
        text[end] = '\0';
        if (hnp_tokenizer_name(tokenizer, line, text + at, path, error)) return error->status;
        at = next;
    }
    return hnp_tokenizer_index(tokenizer, error);
}

/* A token that comes again later has only the later id. */
static void drop_repeated(hn_tokenizer *tokenizer)
{
    for (size_t i = 0; i < tokenizer->size; i++) {
        char *text = tokenizer->names[i].text;
        if (hnp_trie_find(&tokenizer->trie, text, strlen(text)) == (int32_t)i) continue;
        hn_free(text);
        tokenizer->names[i].text = NULL;
        tokenizer->vocabulary--;
    }
}

static hn_status read_vocabulary(hn_tokenizer *tokenizer, const char *folder, const char *unknown,
                                 hn_error *error)
{
    char *text = NULL, *real = NULL, *path = hn_path_join(folder, "vocab.txt");
    size_t size;
    hn_status status;
    if (!path) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    if (!hn_path_exists(path))
        status =
            hn_fail(error, HN_ERR_IO,
                    "%s: neither tokenizer.json nor vocab.json with merges.txt nor vocab.txt there", folder);
    else
        status = hn_path_inside(&real, folder, "vocab.txt", NULL, error);
    if (!status) status = hn_file_read(&text, &size, real, FILE_LIMIT, error);
    if (!status) status = read_lines(tokenizer, text, size, path, error);
    if (!status) drop_repeated(tokenizer);
    if (!status) status = hnp_wordpiece_init(tokenizer, "##", unknown, 100, path, error);
    hn_free(text);
    hn_free(real);
    hn_free(path);
    return status;
}

typedef struct numbered {
    int64_t id;
    const json_t *item;
} numbered;

static int by_id(const void *left, const void *right)
{
    const numbered *a = left, *b = right;
    return (a->id > b->id) - (a->id < b->id);
}

/* "added_tokens_decoder": {"100": {"content": "[UNK]", ...}, ...} */
hn_status hnp_config_added(hn_tokenizer *tokenizer, const hnp_config *config, hn_error *error)
{
    json_t *object = json_object_get(config->root, "added_tokens_decoder"), *item;
    const char *key;
    size_t count = 0;
    hn_status status = HN_OK;
    numbered *list = hn_calloc(json_object_size(object) + 1, sizeof *list);
    if (!list) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", config->path);
    json_object_foreach(object, key, item)
    {
        char *end;
        long long id = strtoll(key, &end, 10);
        if (*end || end == key || id < 0 || id >= HNP_MAX_ID) {
            status =
                hn_fail(error, HN_ERR_FORMAT, "%s: added_tokens_decoder: id %d to %d expected, got \"%.60s\"",
                        config->path, 0, HNP_MAX_ID - 1, key);
            goto out;
        }
        list[count++] = (numbered){id, item};
    }
    qsort(list, count, sizeof *list, by_id);
    for (size_t i = 0; !status && i < count; i++)
        status = hnp_added_read(tokenizer, list[i].item, (int32_t)list[i].id, config->path, error);
out:
    hn_free(list);
    return status;
}

/* The special tokens are found in texts like any added token. One that the vocabulary lacks is not used, or
 * an error. */
static hn_status add_special(const vocab_config *config, hn_tokenizer *tokenizer, hn_error *error)
{
    const char *tokens[] = {config->unknown, config->sep, config->cls, config->pad, config->mask};
    for (size_t i = 0; i < 5; i++) {
        int32_t id = hn_tokenizer_id(tokenizer, tokens[i]);
        if (id < 0 && i < 3)
            return hn_fail(error, HN_ERR_FORMAT, "%s: the vocabulary beside it lacks \"%.60s\"",
                           config->file.path, tokens[i]);
        if (id < 0 || tokenizer->names[id].added) continue;
        hnp_added_token token = {.content = tokens[i], .id = id, .special = true};
        if (hnp_added_add(tokenizer, token, config->file.path, error)) return error->status;
    }
    return hnp_template_bert(tokenizer, hn_tokenizer_id(tokenizer, config->cls),
                             hn_tokenizer_id(tokenizer, config->sep), error);
}

hn_status hnp_vocab_open(hn_tokenizer **out, const char *folder, hn_error *error)
{
    hn_tokenizer *tokenizer = NULL;
    vocab_config config = {
        .unknown = "[UNK]", .sep = "[SEP]", .pad = "[PAD]", .cls = "[CLS]", .mask = "[MASK]"};
    hn_status status = hnp_tokenizer_new(&tokenizer, error);
    if (!status) status = hnp_config_open(&config.file, folder, error);
    if (!status) status = read_config(&config, &tokenizer->normalizers->bert, error);
    if (!status) status = read_vocabulary(tokenizer, folder, config.unknown, error);
    if (!status) status = hnp_config_added(tokenizer, &config.file, error);
    if (!status) status = add_special(&config, tokenizer, error);
    if (!status) status = hnp_wordpiece_decoder(tokenizer, "##", true, error);
    if (!status) {
        hnp_bert_init(tokenizer, &tokenizer->normalizers[tokenizer->normalizer_count++]);
        tokenizer->splitters[tokenizer->splitter_count++].apply = hnp_bert_split;
        status = hnp_tokenizer_finish(tokenizer, config.file.path, error);
    }
    hnp_config_close(&config.file);
    if (status)
        hn_tokenizer_free(tokenizer);
    else
        *out = tokenizer;
    return status;
}
