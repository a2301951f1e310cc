/* Tokens and merges of a GGUF file.
 *
 * A file of SentencePiece's kind has no merges, but a score for every token: of all neighbours that together
 * are a token, the pair whose token scores highest is joined first. A list of merges does the same when it
 * holds, for every token, each of its parts in two that are tokens themselves, in order of the token's score.
 * Among the splits of one token the order decides nothing but where two of them stand in one text; it is the
 * one of transformers: higher scores of the left part, then of the right one, then the shorter left part. */
#include "formats/gguf_vocabulary.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/mem.h"

#define TOKENS_MAX 4194304
#define TOKEN_BYTES_MAX 1024
#define SCORED_BYTES_MAX ((size_t)4 << 20) /* each byte is a place to split at; Llama 2 has 0.2 MiB */
#define MERGES_BYTES_MAX ((size_t)64 << 20)

static int compare(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t shorter = a_length < b_length ? a_length : b_length;
    int order = shorter ? memcmp(a, b, shorter) : 0;
    return order ? order : (a_length > b_length) - (a_length < b_length);
}

static int by_text(const void *a, const void *b, void *tokens)
{
    const hn_gguf_text *x = (const hn_gguf_text *)tokens + *(const uint32_t *)a;
    const hn_gguf_text *y = (const hn_gguf_text *)tokens + *(const uint32_t *)b;
    return compare(x->text, x->length, y->text, y->length);
}

int64_t hnp_gguf_vocabulary_find(const hnp_gguf_vocabulary *vocabulary, const char *text, size_t length)
{
    size_t low = 0, high = vocabulary->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const hn_gguf_text *token = &vocabulary->tokens[vocabulary->sorted[middle]];
        int order = compare(text, length, token->text, token->length);
        if (order == 0) return vocabulary->sorted[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

int64_t hnp_gguf_vocabulary_type(const hnp_gguf_vocabulary *vocabulary, size_t id)
{
    return vocabulary->types ? vocabulary->types[id] : HNP_TOKEN_NORMAL;
}

static hn_status check_tokens(const hnp_gguf_vocabulary *self, const hnp_gguf_model *model, hn_error *error)
{
    const char *file = hn_gguf_path(self->file);
    if (self->count < 1 || self->count > TOKENS_MAX || (int64_t)self->count > model->vocabulary)
        return hn_fail(error, HN_ERR_FORMAT,
                       "%s: key tokenizer.ggml.tokens: expected 1 to %" PRId64
                       " tokens, as token_embd.weight has rows, got %zu",
                       file, model->vocabulary < TOKENS_MAX ? model->vocabulary : TOKENS_MAX, self->count);
    for (size_t i = 0; i < self->count; i++) {
        if (self->tokens[i].length > TOKEN_BYTES_MAX)
            return hn_fail(error, HN_ERR_FORMAT,
                           "%s: key tokenizer.ggml.tokens: token %zu: expected at most %d bytes, got %zu",
                           file, i, TOKEN_BYTES_MAX, self->tokens[i].length);
        int64_t type = hnp_gguf_vocabulary_type(self, i);
        if (type < HNP_TOKEN_NORMAL || type > HNP_TOKEN_BYTE)
            return hn_fail(error, HN_ERR_FORMAT,
                           "%s: key tokenizer.ggml.token_type: token %zu: expected 1 to 6, got %" PRId64,
                           file, i, type);
    }
    return HN_OK;
}

/* Ids in order of their texts; equal texts show as neighbours. */
static hn_status sort_tokens(hnp_gguf_vocabulary *self, hn_error *error)
{
    const char *file = hn_gguf_path(self->file);
    self->sorted = hn_reallocarray(NULL, self->count, sizeof *self->sorted);
    if (!self->sorted)
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for %zu tokens", file, self->count);
    for (size_t i = 0; i < self->count; i++) self->sorted[i] = (uint32_t)i;
    qsort_r(self->sorted, self->count, sizeof *self->sorted, by_text, self->tokens);
    for (size_t i = 1; i < self->count; i++)
        if (!by_text(&self->sorted[i - 1], &self->sorted[i], self->tokens))
            return hn_fail(error, HN_ERR_FORMAT,
                           "%s: key tokenizer.ggml.tokens: tokens %u and %u have the same text", file,
                           self->sorted[i - 1], self->sorted[i]);
    return HN_OK;
}

hn_status hnp_gguf_vocabulary_open(hnp_gguf_vocabulary *out, const hnp_gguf_model *model, hn_error *error)
{
    size_t types = 0;
    const hn_gguf *file = model->file;
    *out = (hnp_gguf_vocabulary){.file = file};
    hn_status status = hn_gguf_require(file, "tokenizer.ggml.tokens", error);
    if (status == HN_OK)
        status = hn_gguf_get_strings(&out->tokens, &out->count, file, "tokenizer.ggml.tokens", error);
    if (status == HN_OK)
        status = hn_gguf_get_ints(&out->types, &types, file, "tokenizer.ggml.token_type", error);
    if (status == HN_OK && out->types && types != out->count)
        status = hn_fail(error, HN_ERR_FORMAT,
                         "%s: key tokenizer.ggml.token_type: expected %zu, one a token, got %zu",
                         hn_gguf_path(file), out->count, types);
    if (status == HN_OK) status = check_tokens(out, model, error);
    return status == HN_OK ? sort_tokens(out, error) : status;
}

void hnp_gguf_vocabulary_close(hnp_gguf_vocabulary *vocabulary)
{
    hn_free(vocabulary->tokens);
    hn_free(vocabulary->types);
    hn_free(vocabulary->sorted);
}

static hn_status too_large(const hnp_gguf_vocabulary *vocabulary, hn_error *error)
{
    return hn_fail(error, HN_ERR_FORMAT, "%s: its merges take more than %zu MiB as a tokenizer.json",
                   hn_gguf_path(vocabulary->file), MERGES_BYTES_MAX >> 20);
}

/* "left right", which must be tokens, as what they make must be. */
static hn_status check_merge(const hnp_gguf_vocabulary *vocabulary, hn_gguf_text merge, size_t number,
                             hn_error *error)
{
    const char *space = memchr(merge.text, ' ', merge.length), *end = merge.text + merge.length;
    char joined[2 * TOKEN_BYTES_MAX];
    size_t left = space ? (size_t)(space - merge.text) : 0, right = space ? (size_t)(end - space) - 1 : 0;
    bool whole = left && right && !memchr(space + 1, ' ', right) && left + right <= sizeof joined;
    if (whole) {
        memcpy(joined, merge.text, left);
        memcpy(joined + left, space + 1, right);
    }
    if (whole && hnp_gguf_vocabulary_find(vocabulary, merge.text, left) >= 0 &&
        hnp_gguf_vocabulary_find(vocabulary, space + 1, right) >= 0 &&
        hnp_gguf_vocabulary_find(vocabulary, joined, left + right) >= 0)
        return HN_OK;
    return hn_fail(error, HN_ERR_FORMAT,
                   "%s: key tokenizer.ggml.merges: merge %zu: expected two tokens with a blank between that "
                   "make a third, got "
                   "\"%.*s\"",
                   hn_gguf_path(vocabulary->file), number, merge.length > 64 ? 64 : (int)merge.length,
                   merge.text);
}

hn_status hnp_gguf_merges_write(hn_strbuf *out, const hnp_gguf_vocabulary *vocabulary, hn_error *error)
{
    const char key[] = "tokenizer.ggml.merges";
    hn_gguf_text *merges = NULL;
    size_t count = 0, start = out->length;
    hn_status status = hn_gguf_require(vocabulary->file, key, error);
    if (status == HN_OK) status = hn_gguf_get_strings(&merges, &count, vocabulary->file, key, error);
    hn_strbuf_puts(out, "\"merges\": [");
    for (size_t i = 0; i < count && status == HN_OK; i++) {
        status = check_merge(vocabulary, merges[i], i, error);
        hn_strbuf_puts(out, i ? ",\n" : "\n");
        hn_json_quote(out, merges[i].text, merges[i].length);
        if (status == HN_OK && out->length - start > MERGES_BYTES_MAX) status = too_large(vocabulary, error);
    }
    hn_strbuf_puts(out, "\n]");
    hn_free(merges);
    return status;
}

/* Token `whole` in two. */
typedef struct split {
    uint32_t whole, left, right;
} split;

static int down(double a, double b)
{
    return (a < b) - (a > b);
}

static int up(uint32_t a, uint32_t b)
{
    return (a > b) - (a < b);
}

typedef struct ranking {
    const double *scores;
    const hn_gguf_text *tokens;
} ranking;

static int by_rank(const void *a, const void *b, void *context)
{
    const split *x = a, *y = b;
    const ranking *by = context;
    const double *scores = by->scores;
    int order = down(scores[x->whole], scores[y->whole]);
    if (!order) order = up(x->whole, y->whole);
    if (!order) order = down(scores[x->left], scores[y->left]);
    if (!order) order = down(scores[x->right], scores[y->right]);
    if (!order) order = up((uint32_t)by->tokens[x->left].length, (uint32_t)by->tokens[y->left].length);
    return order;
}

/* Every way to part a token at a character into two tokens. Tokens that no text is made of by joining have
 * none. */
static bool find_splits(split **splits, size_t *count, size_t *capacity,
                        const hnp_gguf_vocabulary *vocabulary, size_t id)
{
    hn_gguf_text token = vocabulary->tokens[id];
    int64_t type = hnp_gguf_vocabulary_type(vocabulary, id);
    if ((type != HNP_TOKEN_NORMAL && type != HNP_TOKEN_UNUSED) || memchr(token.text, ' ', token.length))
        return true;
    for (size_t at = 1; at < token.length; at++) {
        if (((unsigned char)token.text[at] & 0xc0) == 0x80) continue;
        int64_t left = hnp_gguf_vocabulary_find(vocabulary, token.text, at);
        if (left < 0) continue;
        int64_t right = hnp_gguf_vocabulary_find(vocabulary, token.text + at, token.length - at);
        if (right < 0) continue;
        if (!hn_grow((void **)splits, capacity, *count + 1, sizeof **splits)) return false;
        (*splits)[(*count)++] = (split){(uint32_t)id, (uint32_t)left, (uint32_t)right};
    }
    return true;
}

static hn_status check_scores(const double *scores, size_t count, const hnp_gguf_vocabulary *vocabulary,
                              hn_error *error)
{
    const char *file = hn_gguf_path(vocabulary->file);
    size_t bytes = 0;
    if (count != vocabulary->count)
        return hn_fail(error, HN_ERR_FORMAT,
                       "%s: key tokenizer.ggml.scores: expected %zu, one a token, got %zu", file,
                       vocabulary->count, count);
    for (size_t i = 0; i < count; i++) {
        bytes += vocabulary->tokens[i].length;
        if (!isfinite(scores[i]))
            return hn_fail(error, HN_ERR_FORMAT,
                           "%s: key tokenizer.ggml.scores: token %zu: expected a finite number, got %g", file,
                           i, scores[i]);
    }
    if (bytes <= SCORED_BYTES_MAX) return HN_OK;
    return hn_fail(error, HN_ERR_FORMAT,
                   "%s: key tokenizer.ggml.tokens: expected at most %zu bytes of text, got %zu", file,
                   SCORED_BYTES_MAX, bytes);
}

static hn_status write_splits(hn_strbuf *out, const split *splits, size_t count,
                              const hnp_gguf_vocabulary *vocabulary, hn_error *error)
{
    char merge[2 * TOKEN_BYTES_MAX + 1];
    size_t start = out->length;
    hn_strbuf_puts(out, "\"merges\": [");
    for (size_t i = 0; i < count; i++) {
        hn_gguf_text left = vocabulary->tokens[splits[i].left], right = vocabulary->tokens[splits[i].right];
        memcpy(merge, left.text, left.length);
        merge[left.length] = ' ';
        memcpy(merge + left.length + 1, right.text, right.length);
        hn_strbuf_puts(out, i ? ",\n" : "\n");
        hn_json_quote(out, merge, left.length + 1 + right.length);
        if (out->length - start > MERGES_BYTES_MAX) return too_large(vocabulary, error);
    }
    hn_strbuf_puts(out, "\n]");
    return HN_OK;
}

hn_status hnp_gguf_merges_from_scores(hn_strbuf *out, const hnp_gguf_vocabulary *vocabulary, hn_error *error)
{
    const char key[] = "tokenizer.ggml.scores";
    double *scores = NULL;
    split *splits = NULL;
    size_t scored = 0, count = 0, capacity = 0;
    bool room = true;
    hn_status status = hn_gguf_require(vocabulary->file, key, error);
    if (status == HN_OK) status = hn_gguf_get_doubles(&scores, &scored, vocabulary->file, key, error);
    if (status == HN_OK) status = check_scores(scores, scored, vocabulary, error);
    for (size_t i = 0; i < vocabulary->count && status == HN_OK && room; i++)
        room = find_splits(&splits, &count, &capacity, vocabulary, i);
    if (!room)
        status =
            hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for merges", hn_gguf_path(vocabulary->file));
    if (status == HN_OK) {
        ranking by = {scores, vocabulary->tokens};
        if (count) qsort_r(splits, count, sizeof *splits, by_rank, &by);
        status = write_splits(out, splits, count, vocabulary, error);
    }
    hn_free(scores);
    hn_free(splits);
    return status;
}
