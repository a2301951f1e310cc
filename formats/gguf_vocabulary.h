/* A GGUF file's tokens, checked, with look-up by text. Inside formats/ only. */
#ifndef HONE_FORMATS_GGUF_VOCABULARY_H
#define HONE_FORMATS_GGUF_VOCABULARY_H

#include "formats/gguf_internal.h"

/* tokenizer.ggml.token_type */
enum {
    HNP_TOKEN_NORMAL = 1,
    HNP_TOKEN_UNKNOWN = 2,
    HNP_TOKEN_CONTROL = 3,
    HNP_TOKEN_USER = 4,
    HNP_TOKEN_UNUSED = 5,
    HNP_TOKEN_BYTE = 6
};

typedef struct hnp_gguf_vocabulary {
    const hn_gguf *file;
    hn_gguf_text *tokens;
    int64_t *types;   /* NULL: all normal */
    uint32_t *sorted; /* ids by text */
    size_t count;
} hnp_gguf_vocabulary;

/* Tokens of a model: different texts, none over 1024 bytes, no more than the embedding has rows. On failure
 * too the caller closes. */
hn_status hnp_gguf_vocabulary_open(hnp_gguf_vocabulary *out, const hnp_gguf_model *model, hn_error *error);
void hnp_gguf_vocabulary_close(hnp_gguf_vocabulary *vocabulary);
int64_t hnp_gguf_vocabulary_find(const hnp_gguf_vocabulary *vocabulary, const char *text,
                                 size_t length); /* or -1 */
int64_t hnp_gguf_vocabulary_type(const hnp_gguf_vocabulary *vocabulary, size_t id);

/* "merges": [...] as "left right" strings, from tokenizer.ggml.merges. */
hn_status hnp_gguf_merges_write(hn_strbuf *out, const hnp_gguf_vocabulary *vocabulary, hn_error *error);
/* The same from tokenizer.ggml.scores, which SentencePiece has in their place. */
hn_status hnp_gguf_merges_from_scores(hn_strbuf *out, const hnp_gguf_vocabulary *vocabulary, hn_error *error);

#endif
