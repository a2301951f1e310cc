/* Code points as the tokenizers of the Hugging Face world see them. Shared inside data/. */
#ifndef HONE_DATA_UNICODE_H
#define HONE_DATA_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HNP_POINTS 0x110000
#define HNP_REPLACEMENT 0xFFFDu

enum {
    HNP_CONTROL = 1,      /* clean_text drops it */
    HNP_SPACE = 2,        /* white space */
    HNP_PUNCTUATION = 4,  /* BertPreTokenizer sets it apart */
    HNP_CHINESE = 8,      /* handle_chinese_chars sets it apart */
    HNP_MARK = 16,        /* strip_accents drops it, after canonical decomposition */
    HNP_MOVING = 32,      /* canonical decomposition takes it apart or reorders it */
    HNP_WORD = 64,        /* may not touch an added token that must be a single word; \w of Whitespace */
    HNP_LETTER = 128,     /* \p{L} of a split pattern */
    HNP_NUMBER = 256,     /* \p{N} of a split pattern */
    HNP_DIGIT = 512,      /* Digits sets it apart */
    HNP_ACCENT = 1024,    /* StripAccents drops it */
    HNP_COMPATIBLE = 2048 /* compatibility decomposition takes it apart */
};

/* Flags of every code point, HNP_POINTS of them (hn_free); NULL: out of memory. */
uint16_t *hnp_unicode_flags(void);

/* Lower case as Rust's char::to_lowercase: one or two code points. */
size_t hnp_unicode_lower(uint32_t out[2], uint32_t point);

/* Decomposition of a code point that has HNP_MOVING (canonical) or HNP_COMPATIBLE: up to HNP_DECOMPOSED code
 * points. */
#define HNP_DECOMPOSED 20
size_t hnp_unicode_decompose(uint32_t out[HNP_DECOMPOSED], uint32_t point, bool compatible);
int hnp_unicode_class(uint32_t point); /* combining class; ask only where HNP_MOVING stands */

/* The first code point of `text` (length >= 1) and the bytes it takes. Bytes that are no UTF-8 give U+FFFD
 * and *valid = false; they take as many bytes as are the beginning of some character (the Unicode standard,
 * section 3.9, U+FFFD substitution of maximal subparts), at least 1. */
size_t hnp_utf8_get(uint32_t *point, bool *valid, const char *text, size_t length);
size_t hnp_utf8_put(char out[4], uint32_t point);
/* How many of the first bytes are valid UTF-8; `length` when all are. */
size_t hnp_utf8_valid(const char *text, size_t length);
/* The first code point of text known to be valid. */
static inline size_t hnp_utf8_next(uint32_t *point, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    if (at[0] < 0x80) {
        *point = at[0];
        return 1;
    }
    if (at[0] < 0xE0) {
        *point = (at[0] & 0x1Fu) << 6 | (at[1] & 0x3Fu);
        return 2;
    }
    if (at[0] < 0xF0) {
        *point = (at[0] & 0x0Fu) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu);
        return 3;
    }
    *point = (at[0] & 0x07u) << 18 | (at[1] & 0x3Fu) << 12 | (at[2] & 0x3Fu) << 6 | (at[3] & 0x3Fu);
    return 4;
}

#endif
