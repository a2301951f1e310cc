/* Normalizers: the loop over the steps, and the short ones (Prepend, Replace, Strip, StripAccents,
 * Lowercase). BertNormalizer is in bert.c, the normal forms in normal_forms.c, Precompiled in charsmap.c.
 *
 * A step reads a span and writes scratch->normal. When it is not the first, what it reads is what the step
 * before wrote: the two buffers change places, so nothing is copied.
 *
 * The steps are a stranger's: three that replace a character by 400 make 64 million of one. So a text has a bound of
 * what its steps may hold, and of what they may add in all its pieces together. The longest that a real tokenizer makes is
 * U+FDFA under NFKC with marks for blanks, 39 bytes of 3; a step's room for it, before it knows better, is 33 for 1. */
#include <string.h>

#include "core/mem.h"
#include "data/tokenizer_stages.h"

static const char too_long[] = "the tokenizer's steps make more than 64 times as much of it";

void hnp_scratch_bound(hnp_scratch *scratch, size_t length)
{
    scratch->refused = NULL;
    hnp_regex_room_bound(&scratch->regex, length);
    if (!hn_size_mul(length, HNP_GROWTH, &scratch->most) || !hn_size_add(scratch->most, HNP_GROWTH_SPARE, &scratch->most))
        scratch->most = SIZE_MAX;
    scratch->room = scratch->most;
}

bool hnp_scratch_grew(hnp_scratch *scratch, size_t before, size_t after)
{
    size_t more = after > before ? after - before : 0;
    if (more > scratch->room) scratch->refused = too_long;
    if (more > scratch->room) return false;
    scratch->room -= more;
    return true;
}

bool hnp_buffer_reserve(hnp_scratch *scratch, hnp_buffer *buffer, size_t rest)
{
    void *memory = buffer->bytes;
    size_t need;
    if (!hn_size_add(buffer->length, rest, &need) || need > scratch->most) {
        scratch->refused = too_long;
        return false;
    }
    if (!hn_grow(&memory, &buffer->capacity, need + 1, 1)) return false;
    buffer->bytes = memory;
    return true;
}

void hnp_buffer_put(hnp_buffer *buffer, const char *bytes, size_t length)
{
    if (length) memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
}

bool hnp_normalize(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span *piece)
{
    for (size_t i = 0; i < tokenizer->normalizer_count; i++) {
        const hnp_normalizer *step = &tokenizer->normalizers[i];
        hnp_buffer before = scratch->normal;
        scratch->normal = scratch->other;
        scratch->other = before;
        scratch->normal.length = 0;
        if (!step->apply(tokenizer, step, scratch, *piece)) return false;
        if (!hnp_scratch_grew(scratch, piece->length, scratch->normal.length)) return false;
        piece->text = scratch->normal.bytes;
        piece->length = scratch->normal.length;
    }
    return true;
}

bool hnp_pattern_find(const hnp_pattern *pattern, hnp_scratch *scratch, hnp_span text, size_t from,
                      size_t *start, size_t *end)
{
    *start = *end = text.length + 1;
    if (!pattern->regex) {
        const char *hit = memmem(text.text + from, text.length - from, pattern->text, pattern->length);
        if (hit) *start = (size_t)(hit - text.text);
        if (hit) *end = *start + pattern->length;
        return true;
    }
    switch (hnp_regex_find(pattern->regex, &scratch->regex, text.text, text.length, from, start, end)) {
    case HNP_REGEX_FOUND:
    case HNP_REGEX_NONE: return true;
    case HNP_REGEX_LIMIT:
        scratch->refused = "a regular expression of the tokenizer takes too many steps on it";
        return false;
    case HNP_REGEX_MEMORY: break;
    }
    return false;
}

bool hnp_prepend_normalize(const hn_tokenizer *tokenizer, const hnp_normalizer *step, hnp_scratch *scratch,
                           hnp_span piece)
{
    (void)tokenizer;
    size_t length = scratch->joined ? 0 : strlen(step->content), need;
    if (!hn_size_add(piece.length, length, &need) || !hnp_buffer_reserve(scratch, &scratch->normal, need))
        return false;
    if (piece.length) hnp_buffer_put(&scratch->normal, step->content, length);
    hnp_buffer_put(&scratch->normal, piece.text, piece.length);
    return true;
}

/* A string of one byte, the usual one: no search from hit to hit. */
static bool replace_byte(const hnp_normalizer *step, hnp_scratch *scratch, hnp_span piece)
{
    hnp_buffer *out = &scratch->normal;
    size_t length = strlen(step->content), count = 0, room;
    char what = step->pattern.text[0];
    for (size_t i = 0; i < piece.length; i++) count += piece.text[i] == what;
    if (!hn_size_mul(count, length, &room) || !hn_size_add(room, piece.length, &room) ||
        !hnp_buffer_reserve(scratch, out, room))
        return false;
    char *to = out->bytes;
    for (size_t i = 0; i < piece.length; i++) {
        if (piece.text[i] != what)
            *to++ = piece.text[i];
        else
            for (size_t k = 0; k < length; k++) *to++ = step->content[k];
    }
    out->length = (size_t)(to - out->bytes);
    return true;
}

bool hnp_replace_normalize(const hn_tokenizer *tokenizer, const hnp_normalizer *step, hnp_scratch *scratch,
                           hnp_span piece)
{
    (void)tokenizer;
    hnp_buffer *out = &scratch->normal;
    size_t length = strlen(step->content), start, end, done = 0;
    if (!step->pattern.regex && step->pattern.length == 1) return replace_byte(step, scratch, piece);
    for (size_t at = 0; at <= piece.length;) {
        if (!hnp_pattern_find(&step->pattern, scratch, piece, at, &start, &end)) return false;
        if (start > piece.length) break;
        if (!hnp_buffer_reserve(scratch, out, start - done + length)) return false;
        hnp_buffer_put(out, piece.text + done, start - done);
        hnp_buffer_put(out, step->content, length);
        done = at = end;
        uint32_t point;
        if (end == start) at += end < piece.length ? hnp_utf8_next(&point, piece.text + end) : 1;
    }
    if (!hnp_buffer_reserve(scratch, out, piece.length - done)) return false;
    hnp_buffer_put(out, piece.text + done, piece.length - done);
    return true;
}

bool hnp_strip_normalize(const hn_tokenizer *tokenizer, const hnp_normalizer *step, hnp_scratch *scratch,
                         hnp_span piece)
{
    size_t start = 0, end = piece.length;
    uint32_t point;
    while (step->left && start < end) {
        size_t taken = hnp_utf8_next(&point, piece.text + start);
        if (!(tokenizer->flags[point] & HNP_SPACE)) break;
        start += taken;
    }
    while (step->right && end > start) {
        size_t before = end - 1;
        while (((unsigned char)piece.text[before] & 0xC0) == 0x80) before--;
        hnp_utf8_next(&point, piece.text + before);
        if (!(tokenizer->flags[point] & HNP_SPACE)) break;
        end = before;
    }
    if (!hnp_buffer_reserve(scratch, &scratch->normal, end - start)) return false;
    hnp_buffer_put(&scratch->normal, piece.text + start, end - start);
    return true;
}

bool hnp_accents_normalize(const hn_tokenizer *tokenizer, const hnp_normalizer *step, hnp_scratch *scratch,
                           hnp_span piece)
{
    (void)step;
    uint32_t point;
    if (!hnp_buffer_reserve(scratch, &scratch->normal, piece.length)) return false;
    for (size_t at = 0; at < piece.length;) {
        size_t taken = hnp_utf8_next(&point, piece.text + at);
        if (!(tokenizer->flags[point] & HNP_ACCENT)) hnp_buffer_put(&scratch->normal, piece.text + at, taken);
        at += taken;
    }
    return true;
}

bool hnp_lower_normalize(const hn_tokenizer *tokenizer, const hnp_normalizer *step, hnp_scratch *scratch,
                         hnp_span piece)
{
    (void)tokenizer, (void)step;
    size_t room;
    char bytes[4];
    /* No character's lower case takes more than three times its bytes. */
    if (!hn_size_mul(piece.length, 3, &room) || !hnp_buffer_reserve(scratch, &scratch->normal, room)) return false;
    for (size_t at = 0; at < piece.length;) {
        unsigned char byte = (unsigned char)piece.text[at];
        uint32_t point, lower[2];
        if (byte < 0x80) {
            if (byte >= 'A' && byte <= 'Z') byte += 'a' - 'A';
            scratch->normal.bytes[scratch->normal.length++] = (char)byte;
            at++;
            continue;
        }
        at += hnp_utf8_next(&point, piece.text + at);
        size_t count = hnp_unicode_lower(lower, point);
        for (size_t i = 0; i < count; i++)
            hnp_buffer_put(&scratch->normal, bytes, hnp_utf8_put(bytes, lower[i]));
    }
    return true;
}
