/* Tokenizers: text to ids and back, equal to Hugging Face's `tokenizers` on every input: WordPiece (BERT),
 * byte-level BPE (GPT-2, RoBERTa, Llama 3, Qwen), BPE with byte fallback (Llama 2, Mistral), Unigram (T5,
 * XLM-R), from tokenizer.json, from vocab.txt, or from vocab.json with merges.txt. Padding and truncation
 * settings inside tokenizer.json are not obeyed: hone never pads, and truncation is the caller's. */
#ifndef HONE_DATA_TOKENIZER_H
#define HONE_DATA_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/digest.h"
#include "core/error.h"
#include "core/strbuf.h"

typedef struct hn_tokenizer hn_tokenizer;

/* From a Hugging Face folder: tokenizer.json when it is there, else vocab.json with merges.txt (GPT-2,
 * RoBERTa), else vocab.txt (BERT), with tokenizer_config.json. */
hn_status hn_tokenizer_open(hn_tokenizer **out, const char *folder, hn_error *error);
/* From the bytes of a tokenizer.json; `name` is what errors call it. */
hn_status hn_tokenizer_open_json(hn_tokenizer **out, const char *text, size_t length, const char *name,
                                 hn_error *error);
void hn_tokenizer_free(hn_tokenizer *tokenizer);

int32_t hn_tokenizer_vocabulary(const hn_tokenizer *tokenizer); /* largest id + 1 */
hn_digest hn_tokenizer_digest(const hn_tokenizer *tokenizer);   /* of everything that decides ids */
const char *hn_tokenizer_token(const hn_tokenizer *tokenizer, int32_t id); /* NULL: no such id */
int32_t hn_tokenizer_id(const hn_tokenizer *tokenizer, const char *token); /* -1: none */
/* The ids that the post-processor puts before a text, by number from 0; -1: no more. */
int32_t hn_tokenizer_lead(const hn_tokenizer *tokenizer, size_t number);
/* Bytes of the longest special added token that a text begins with, and its id; 0: with none. */
size_t hn_tokenizer_special_at(const hn_tokenizer *tokenizer, const char *text, size_t length, int32_t *id);

/* Grown by encode, kept between calls. One per thread. */
typedef struct hn_encoding {
    int32_t *ids, *types; /* [count] token ids, segment ids */
    int32_t count;
    size_t capacity;
    void *scratch; /* the tokenizer's own buffers */
} hn_encoding;
void hn_encoding_init(hn_encoding *encoding);
void hn_encoding_close(hn_encoding *encoding);

/* Encodes a text, or a pair when `pair` is not NULL, with the special tokens of the post-processor when
 * `special`; at most max_tokens ids (0: no limit) by longest-first truncation as Hugging Face does it.
 * Special tokens are not truncated away as long as they fit by themselves; below that nothing but the first
 * max_tokens of them is left (where Hugging Face gives up truncating). Thread-safe: the tokenizer is only
 * read. Fails only when memory runs out, or when a regular expression of the tokenizer's file takes too many
 * steps (HN_ERR_UNSUPPORTED). Invalid UTF-8 becomes U+FFFD. */
hn_status hn_tokenizer_encode(const hn_tokenizer *tokenizer, hn_encoding *out, const char *text,
                              size_t length, const char *pair, size_t pair_length, bool special,
                              int32_t max_tokens, hn_error *error);
/* A pair with special tokens of which only the first text is cut, as Hugging Face's "only_first" does it. HN_ERR_USAGE too where
 * `pair` with the special tokens has more than max_tokens (> 0). */
hn_status hn_tokenizer_encode_beside(const hn_tokenizer *tokenizer, hn_encoding *out, const char *text, size_t length,
                                     const char *pair, size_t pair_length, int32_t max_tokens, hn_error *error);
/* Where a part of a sequence stands: at its beginning (the post-processor's tokens aside), behind a special token, or
 * going on where other text ended. */
typedef enum hn_part_place { HN_PART_FIRST, HN_PART_BEHIND_TOKEN, HN_PART_JOINED } hn_part_place;
/* Ids of a text that is part of a sequence, without the post-processor's, types 0. A text that spells a special token, or
 * one of `barred`[count], is nothing but text: such an id never comes out. A tokenizer that puts a blank before texts puts
 * it as `place` says: before a joined part never. Errors as those of encode; HN_ERR_UNSUPPORTED too where the text
 * cannot be written without such a token. */
hn_status hn_tokenizer_encode_part(const hn_tokenizer *tokenizer, hn_encoding *out, const char *text, size_t length,
                                   hn_part_place place, const int32_t *barred, size_t count, hn_error *error);
/* Text of ids, as Hugging Face's decode with skip_special_tokens and its clean-up. Unknown ids are an error.
 */
hn_status hn_tokenizer_decode(const hn_tokenizer *tokenizer, hn_strbuf *out, const int32_t *ids, size_t count,
                              bool skip_special, hn_error *error);

#endif
