/* vocab.json and merges.txt: the original form of GPT-2's and RoBERTa's tokenizers, a byte-level BPE. What
 * else there is to know stands in tokenizer_config.json. Which of the two it is, its tokenizer_class says;
 * without one, RoBERTa's special tokens in the vocabulary do. Another class that ships the same files (Qwen2,
 * Bloom) splits text otherwise and is refused. */
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "data/tokenizer_stages.h"

#define FILE_LIMIT ((size_t)64 << 20)

/* What is read of a folder. */
typedef struct pieces {
    hnp_config config;
    json_t *vocabulary;
    char *merges;
    size_t size;
    char *vocabulary_path, *merges_path;
} pieces;

static hn_status read_file(char **path, char **real, const char *folder, const char *name, hn_error *error)
{
    *path = hn_path_join(folder, name);
    if (!*path) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    return hn_path_inside(real, folder, name, NULL, error);
}

static hn_status read_pieces(pieces *out, const char *folder, hn_error *error)
{
    char *real = NULL;
    hn_status status = hnp_config_open(&out->config, folder, error);
    if (!status) status = read_file(&out->vocabulary_path, &real, folder, "vocab.json", error);
    if (!status) status = hn_json_load(&out->vocabulary, real, HN_JSON_LIMITS_LARGE, error);
    hn_free(real);
    real = NULL;
    if (!status) status = read_file(&out->merges_path, &real, folder, "merges.txt", error);
    if (!status) status = hn_file_read(&out->merges, &out->size, real, FILE_LIMIT, error);
    hn_free(real);
    return status;
}

static void close_pieces(pieces *from)
{
    hnp_config_close(&from->config);
    json_decref(from->vocabulary);
    hn_free(from->merges);
    hn_free(from->vocabulary_path);
    hn_free(from->merges_path);
}

/* A line: "left right"; a first line "#version: 0.2" is none. Counts them when `tokenizer` is NULL. */
static hn_status each_merge(hn_tokenizer *tokenizer, size_t *count, const pieces *from, hn_error *error)
{
    *count = 0;
    for (size_t at = 0, next; at < from->size; at = next) {
        const char *line = from->merges + at, *end = memchr(line, '\n', from->size - at);
        size_t length = end ? (size_t)(end - line) : from->size - at;
        next = at + length + 1;
        if (length && line[length - 1] == '\r') length--;
        if (!length || (!at && length > 8 && !memcmp(line, "#version", 8))) continue;
        const char *blank = memchr(line, ' ', length);
        size_t left = blank ? (size_t)(blank - line) : 0;
        if (!left || left + 1 == length || memchr(blank + 1, ' ', length - left - 1))
            return hn_fail(error, HN_ERR_FORMAT, "%s: merge %zu: two tokens with a blank between expected",
                           from->merges_path, *count);
        hnp_span a = {line, left, false}, b = {blank + 1, length - left - 1, false};
        if (tokenizer && hnp_bpe_merge(tokenizer, a, b, *count, from->merges_path, error))
            return error->status;
        ++*count;
    }
    return HN_OK;
}

static hn_status read_model(hn_tokenizer *tokenizer, const pieces *from, hn_error *error)
{
    size_t count;
    hnp_bpe_options options = {0};
    if (hnp_vocabulary_read(tokenizer, from->vocabulary, from->vocabulary_path, error) ||
        each_merge(NULL, &count, from, error) ||
        hnp_bpe_init(tokenizer, options, count, from->vocabulary_path, error))
        return error->status;
    return each_merge(tokenizer, &count, from, error);
}

static hn_status find_kind(bool *roberta, const hn_tokenizer *tokenizer, const hnp_config *config,
                           hn_error *error)
{
    const char *name = NULL;
    bool bos = false;
    if (hn_json_get_string(&name, config->root, "tokenizer_class", config->path, error) ||
        hn_json_get_bool(&bos, config->root, "add_bos_token", config->path, error))
        return error->status;
    *roberta = hn_tokenizer_id(tokenizer, "<s>") >= 0 && hn_tokenizer_id(tokenizer, "</s>") >= 0;
    if (name && !strncmp(name, "Roberta", 7))
        *roberta = true;
    else if (name && !strncmp(name, "GPT2", 4))
        *roberta = false;
    else if (name && strcmp(name, "PreTrainedTokenizerFast"))
        return hn_fail(
            error, HN_ERR_UNSUPPORTED,
            "%s: tokenizer_class: vocab.json and merges.txt are read as GPT-2's or RoBERTa's, and \"%.60s\" "
            "is neither; give a tokenizer.json",
            config->path, name);
    if (bos && !*roberta)
        return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: add_bos_token: not done here; give a tokenizer.json",
                       config->path);
    return HN_OK;
}

/* The special tokens are found in texts like any added token; those that the vocabulary lacks are not used.
 */
static hn_status add_special(hn_tokenizer *tokenizer, bool roberta, const hnp_config *config, hn_error *error)
{
    static const char *const keys[] = {"cls_token", "sep_token", "bos_token", "eos_token",
                                       "unk_token", "pad_token", "mask_token"};
    const char *ours[] = {"<s>", "</s>", "<s>", "</s>", "<unk>", "<pad>", "<mask>"};
    const char *theirs[] = {NULL, NULL, "<|endoftext|>", "<|endoftext|>", "<|endoftext|>", NULL, NULL};
    const char **tokens = roberta ? ours : theirs;
    for (size_t i = 0; i < 7; i++) {
        if (hnp_config_special(&tokens[i], config, keys[i], error)) return error->status;
        int32_t id = tokens[i] ? hn_tokenizer_id(tokenizer, tokens[i]) : -1;
        if (id < 0 && roberta && i < 2)
            return hn_fail(error, HN_ERR_FORMAT, "%s: %s: the vocabulary lacks \"%s\"", config->path, keys[i],
                           tokens[i]);
        if (id < 0 || tokenizer->names[id].added) continue;
        hnp_added_token token = {
            .content = tokens[i], .id = id, .special = true, .lstrip = roberta && i == 6};
        if (hnp_added_add(tokenizer, token, config->path, error)) return error->status;
    }
    return roberta ? hnp_template_roberta(tokenizer, hn_tokenizer_id(tokenizer, tokens[0]),
                                          hn_tokenizer_id(tokenizer, tokens[1]), error)
                   : hnp_template_plain(tokenizer, error);
}

hn_status hnp_merges_open(hn_tokenizer **out, const char *folder, hn_error *error)
{
    hn_tokenizer *tokenizer = NULL;
    pieces from = {0};
    bool roberta = false;
    hn_status status = read_pieces(&from, folder, error);
    if (!status) status = hnp_tokenizer_new(&tokenizer, error);
    if (!status) status = read_model(tokenizer, &from, error);
    if (!status) status = find_kind(&roberta, tokenizer, &from.config, error);
    if (!status) status = hnp_config_added(tokenizer, &from.config, error);
    if (!status) status = add_special(tokenizer, roberta, &from.config, error);
    if (!status) {
        hnp_splitter *step = &tokenizer->splitters[tokenizer->splitter_count++];
        step->apply = hnp_bytes_split;
        step->cut = step->map = true;
        tokenizer->decoders[tokenizer->decoder_count++].apply = hnp_bytes_decode;
        status =
            hn_json_get_bool(&step->prefix, from.config.root, "add_prefix_space", from.config.path, error);
        hn_hasher_add_text(tokenizer->hasher, step->prefix ? "ByteLevel, with a blank" : "ByteLevel");
    }
    if (!status) status = hnp_bpe_finish(tokenizer, from.vocabulary_path, error);
    if (!status) status = hnp_tokenizer_finish(tokenizer, from.config.path, error);
    close_pieces(&from);
    if (status)
        hn_tokenizer_free(tokenizer);
    else
        *out = tokenizer;
    return status;
}
