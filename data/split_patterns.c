/* Split patterns written by hand, because a regular expression engine takes most of the time of byte-level
 * tokenizers. Each takes every text apart completely, so that a text is a row of parts and nothing lies
 * between.
 *
 *   GPT-2   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *   Llama 3 (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+
 *           |\s+(?!\S)|\s+
 *   Qwen2   the same with \p{N} for \p{N}{1,3}
 *
 * tests/data/test_tokenizer_patterns.c compares them with PCRE2 on random texts. */
#include <string.h>

#include "data/tokenizer_stages.h"

#define KINDS (HNP_LETTER | HNP_NUMBER | HNP_SPACE)

/* What the character at `text` is, and the bytes it takes. Beyond the end: 0 bytes. */
typedef struct character {
    uint32_t point;
    uint16_t kind;
    size_t length;
} character;

static inline character at(const uint16_t *flags, const char *text, size_t from, size_t length)
{
    character c = {0};
    if (from < length) {
        c.length = hnp_utf8_next(&c.point, text + from);
        c.kind = flags[c.point] & KINDS;
    }
    return c;
}

/* The end of the run of characters of a kind (0: none of the three) from `from` on. */
static inline size_t run(const uint16_t *flags, const char *text, size_t from, size_t length, uint16_t kind)
{
    while (from < length) {
        character c = at(flags, text, from, length);
        if (c.kind != kind) break;
        from += c.length;
    }
    return from;
}

/* 's 't 're 've 'm 'll 'd: the bytes taken, or 0. `fold`: in any case, as Unicode folds it (U+017F is an s).
 */
static size_t contraction(const char *text, size_t length, bool fold)
{
    if (length < 2) return 0;
    unsigned char case_bit = fold ? 0x20 : 0;
    char a = (char)(text[1] | case_bit), b = length > 2 ? (char)(text[2] | case_bit) : '\0';
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
    return fold && length > 2 && !memcmp(text + 1, "\xC5\xBF", 2) ? 3 : 0;
}

/* \s+(?!\S)|\s+ : white space but its last character when something follows, and that when it stands alone.
 */
static size_t spaces(const uint16_t *flags, const char *text, size_t length)
{
    size_t end = 0, last = 0;
    while (end < length) {
        character c = at(flags, text, end, length);
        if (!(c.kind & HNP_SPACE)) return last ? last : end;
        last = end;
        end += c.length;
    }
    return end;
}

size_t hnp_gpt2_pattern(const uint16_t *flags, const char *text, size_t length)
{
    size_t taken = *text == '\'' ? contraction(text, length, false) : 0;
    if (taken) return taken;
    size_t from = *text == ' ' && length > 1;
    character c = at(flags, text, from, length);
    if (c.kind & HNP_SPACE) return spaces(flags, text, length);
    return run(flags, text, from + c.length, length, c.kind);
}

/* \s*[\r\n]+ : up to the last line end of the white space; 0: it has none. */
static size_t lines(const uint16_t *flags, const char *text, size_t length)
{
    size_t end = 0, last = 0;
    while (end < length) {
        character c = at(flags, text, end, length);
        if (!(c.kind & HNP_SPACE)) break;
        end += c.length;
        if (c.point == '\r' || c.point == '\n') last = end;
    }
    return last;
}

static inline size_t newer_pattern(const uint16_t *flags, const char *text, size_t length, int digits)
{
    size_t taken = *text == '\'' ? contraction(text, length, true) : 0;
    if (taken) return taken;
    character c = at(flags, text, 0, length), next = at(flags, text, c.length, length);
    if (c.kind == HNP_LETTER) return run(flags, text, c.length, length, HNP_LETTER);
    if (c.kind != HNP_NUMBER && next.kind == HNP_LETTER && c.point != '\r' && c.point != '\n')
        return run(flags, text, c.length + next.length, length, HNP_LETTER);
    if (c.kind == HNP_NUMBER) {
        size_t end = c.length;
        for (; --digits && next.kind == HNP_NUMBER; next = at(flags, text, end, length)) end += next.length;
        return end;
    }
    size_t from = c.point == ' ' ? 1 : 0;
    size_t end = c.kind && !(from && next.length) ? from : run(flags, text, from, length, 0);
    if (end > from) {
        while (end < length && (text[end] == '\r' || text[end] == '\n')) end++;
        return end;
    }
    size_t line = lines(flags, text, length);
    return line ? line : spaces(flags, text, length);
}

static size_t llama3_pattern(const uint16_t *flags, const char *text, size_t length)
{
    return newer_pattern(flags, text, length, 3);
}

static size_t qwen2_pattern(const uint16_t *flags, const char *text, size_t length)
{
    return newer_pattern(flags, text, length, 1);
}

hnp_known_pattern *hnp_known_pattern_find(const char *text)
{
    static const struct {
        const char *text;
        hnp_known_pattern *function;
    } known[] = {
        {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
         hnp_gpt2_pattern},
        {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
         "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
         "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
         llama3_pattern},
        {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
         "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
         qwen2_pattern},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].text, text)) return known[i].function;
    return NULL;
}
