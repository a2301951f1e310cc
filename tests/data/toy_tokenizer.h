/* A tokenizer small enough to reason about, for the tests of what is built on tokenizers: a word (between
 * spaces and line ends) of n letters is the id 10 + n, or its number when it is "#NUMBER"; "~" calls toy_event, "^" is refused; 1
 * before, 2 behind each text when it is to have special tokens; truncation from the end. It stands in for
 * data/tokenizer.c at link time. */
#ifndef HONE_TESTS_DATA_TOY_TOKENIZER_H
#define HONE_TESTS_DATA_TOY_TOKENIZER_H

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "data/tokenizer.h"

static bool toy_plain;          /* it has no special tokens */
static void (*toy_event)(void); /* something that happens while rows are encoded */

struct hn_tokenizer {
    int32_t vocabulary;
    uint64_t digest;
};

int32_t hn_tokenizer_vocabulary(const hn_tokenizer *tokenizer)
{
    return tokenizer->vocabulary;
}

const char *hn_tokenizer_token(const hn_tokenizer *tokenizer, int32_t id)
{
    (void)tokenizer;
    (void)id;
    return NULL;
}

hn_digest hn_tokenizer_digest(const hn_tokenizer *tokenizer)
{
    return (hn_digest){7, tokenizer->digest};
}

void hn_encoding_init(hn_encoding *encoding)
{
    *encoding = (hn_encoding){0};
}

void hn_encoding_close(hn_encoding *encoding)
{
    hn_free(encoding->ids);
    hn_free(encoding->types);
}

static bool toy_add(hn_encoding *out, int32_t id, int32_t type)
{
    size_t types = out->capacity, need = (size_t)out->count + 1;
    void *a = out->ids, *b = out->types;
    bool ok = hn_grow(&b, &types, need, 4);
    out->types = b;
    ok = ok && hn_grow(&a, &out->capacity, need, 4);
    out->ids = a;
    if (!ok) return false;
    out->ids[out->count] = id;
    out->types[out->count++] = type;
    return true;
}

static bool toy_space(char c)
{
    return c == ' ' || c == '\n';
}

static bool toy_text(hn_encoding *out, const char *text, size_t length, int32_t type, bool special)
{
    for (size_t i = 0; i < length;) {
        size_t end = i;
        while (end < length && !toy_space(text[end])) end++;
        int32_t id = text[i] == '#' ? (int32_t)strtol(text + i + 1, NULL, 10) : 10 + (int32_t)(end - i);
        if (text[i] == '~' && toy_event) toy_event();
        if (end > i && !toy_add(out, id, type)) return false;
        i = end + 1;
    }
    return !special || toy_add(out, 2, type);
}

/* What templates ask for; no test of these rows has any. */
int32_t hn_tokenizer_id(const hn_tokenizer *tokenizer, const char *token)
{
    (void)tokenizer, (void)token;
    abort();
}

int32_t hn_tokenizer_lead(const hn_tokenizer *tokenizer, size_t number)
{
    (void)tokenizer, (void)number;
    abort();
}

size_t hn_tokenizer_special_at(const hn_tokenizer *tokenizer, const char *text, size_t length, int32_t *id)
{
    (void)tokenizer, (void)text, (void)length, (void)id;
    abort();
}

hn_status hn_tokenizer_encode_part(const hn_tokenizer *tokenizer, hn_encoding *out, const char *text, size_t length,
                                   hn_part_place place, const int32_t *barred, size_t count, hn_error *error)
{
    (void)tokenizer, (void)out, (void)text, (void)length, (void)place, (void)barred, (void)count, (void)error;
    abort();
}

hn_status hn_tokenizer_encode_beside(const hn_tokenizer *tokenizer, hn_encoding *out, const char *text, size_t length,
                                     const char *pair, size_t pair_length, int32_t max_tokens, hn_error *error)
{
    (void)tokenizer, (void)out, (void)text, (void)length, (void)pair, (void)pair_length, (void)max_tokens, (void)error;
    abort();
}

hn_status hn_tokenizer_encode(const hn_tokenizer *tokenizer, hn_encoding *out, const char *text,
                              size_t length, const char *pair, size_t pair_length, bool special,
                              int32_t max_tokens, hn_error *error)
{
    (void)tokenizer;
    if (length && memchr(text, '^', length)) return hn_fail(error, HN_ERR_UNSUPPORTED, "toy tokenizer: a ^");
    out->count = 0;
    special &= !toy_plain;
    bool ok = (!special || toy_add(out, 1, 0)) && toy_text(out, text, length, 0, special) &&
              (!pair || toy_text(out, pair, pair_length, 1, special));
    if (max_tokens && out->count > max_tokens) out->count = max_tokens;
    return ok ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "toy tokenizer: out of memory");
}

#endif
