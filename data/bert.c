/* BertNormalizer and BertPreTokenizer (Hugging Face's names for the two halves of the original
 * BasicTokenizer).
 *
 * Normalizing, one code point at a time, in the reference's order of steps:
 *
 *     clean_text        control characters go, white space becomes a blank
 *     chinese_chars     a blank before and after each ideograph
 *     strip_accents     canonical decomposition, then nonspacing marks go
 *     lowercase         code point by code point (no final sigma)
 *
 * ASCII goes through one table of 128 bytes. Elsewhere decomposition needs care: non-starters must be put
 * into the order of their combining classes up to the next starter, and a mark that is dropped still ends
 * such a run when it is a starter itself. So the non-starters that stay wait in a list; a pass for each class
 * that occurs writes them in order, which is linear in the text however long the run.
 *
 * Invariant of the output buffer: there is always room for the rest of the input taken as it stands plus
 * SLACK bytes, so only what can grow checks its size. */
#include <string.h>

#include "core/mem.h"
#include "data/tokenizer_stages.h"

#define SLACK 64

static bool reserve(hnp_scratch *scratch, size_t rest)
{
    void *memory = scratch->normal;
    size_t need;
    if (!hn_size_add(scratch->normal_length, rest, &need) || !hn_size_add(need, SLACK, &need)) return false;
    if (!hn_grow(&memory, &scratch->normal_capacity, need, 1)) return false;
    scratch->normal = memory;
    return true;
}

static void put(const hn_tokenizer *tokenizer, hnp_scratch *scratch, uint32_t point)
{
    uint32_t lower[2] = {point};
    size_t count = tokenizer->bert.lower ? hnp_unicode_lower(lower, point) : 1;
    for (size_t i = 0; i < count; i++)
        scratch->normal_length += hnp_utf8_put(scratch->normal + scratch->normal_length, lower[i]);
}

/* Writes the waiting non-starters in the order of their classes. `rest` bytes of input are still to come. */
static bool flush(const hn_tokenizer *tokenizer, hnp_scratch *scratch, size_t rest)
{
    if (!scratch->waiting_count) return true;
    size_t room;
    if (!hn_size_mul(scratch->waiting_count, 8, &room) || !hn_size_add(room, rest, &room) ||
        !reserve(scratch, room))
        return false;
    for (int class = 1; class < 256; class ++) {
        if (!(scratch->classes[class / 64] >> (class % 64) & 1)) continue;
        for (size_t i = 0; i < scratch->waiting_count; i++)
            if (scratch->waiting[i] >> 24 == (uint32_t) class)
                put(tokenizer, scratch, scratch->waiting[i] & 0xFFFFFF);
    }
    scratch->waiting_count = 0;
    memset(scratch->classes, 0, sizeof scratch->classes);
    return true;
}

/* One code point behind the decomposition. */
static bool put_decomposed(const hn_tokenizer *tokenizer, hnp_scratch *scratch, uint32_t point, size_t rest)
{
    uint8_t flags = tokenizer->flags[point];
    uint32_t class = flags & HNP_MOVING ? (uint32_t)hnp_unicode_class(point) : 0;
    if (!class) {
        if (!flush(tokenizer, scratch, rest)) return false;
        if (!(flags & HNP_MARK)) put(tokenizer, scratch, point);
        return true;
    }
    if (flags & HNP_MARK) return true;
    void *memory = scratch->waiting;
    if (!hn_grow(&memory, &scratch->waiting_capacity, scratch->waiting_count + 1, sizeof *scratch->waiting))
        return false;
    scratch->waiting = memory;
    scratch->waiting[scratch->waiting_count++] = class << 24 | point;
    scratch->classes[class / 64] |= (uint64_t)1 << (class % 64);
    return true;
}

/* A code point behind cleaning. */
static bool put_clean(const hn_tokenizer *tokenizer, hnp_scratch *scratch, uint32_t point, size_t rest)
{
    uint32_t points[HNP_DECOMPOSED] = {point};
    size_t count = 1;
    if (!tokenizer->bert.strip) {
        put(tokenizer, scratch, point);
        return true;
    }
    if (tokenizer->flags[point] & HNP_MOVING) count = hnp_unicode_decompose(points, point);
    for (size_t i = 0; i < count; i++)
        if (!put_decomposed(tokenizer, scratch, points[i], rest)) return false;
    return true;
}

static bool normalize_point(const hn_tokenizer *tokenizer, hnp_scratch *scratch, uint32_t point, size_t rest)
{
    uint8_t flags = tokenizer->flags[point];
    if (tokenizer->bert.clean && flags & HNP_CONTROL) return true;
    if (tokenizer->bert.clean && flags & HNP_SPACE) point = ' ';
    if (!reserve(scratch, rest)) return false;
    if (!tokenizer->bert.chinese || !(flags & HNP_CHINESE)) return put_clean(tokenizer, scratch, point, rest);
    return put_clean(tokenizer, scratch, ' ', rest) && put_clean(tokenizer, scratch, point, rest) &&
           put_clean(tokenizer, scratch, ' ', rest);
}

bool hnp_bert_normalize(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span piece)
{
    const unsigned char *at = (const unsigned char *)piece.text, *end = at + piece.length;
    scratch->normal_length = 0;
    scratch->waiting_count = 0;
    if (!reserve(scratch, piece.length)) return false;
    while (at < end) {
        if (*at < 0x80) {
            if (!flush(tokenizer, scratch, (size_t)(end - at))) return false;
            char *to = scratch->normal + scratch->normal_length;
            for (; at < end && *at < 0x80; at++) {
                unsigned char byte = tokenizer->bert.ascii[*at];
                *to = (char)byte;
                to += byte != HNP_DROPPED;
            }
            scratch->normal_length = (size_t)(to - scratch->normal);
            continue;
        }
        uint32_t point;
        at += hnp_utf8_next(&point, (const char *)at);
        if (!normalize_point(tokenizer, scratch, point, (size_t)(end - at))) return false;
    }
    return flush(tokenizer, scratch, 0);
}

void hnp_bert_init(hn_tokenizer *tokenizer)
{
    hnp_bert_settings *bert = &tokenizer->bert;
    for (uint32_t byte = 0; byte < 128; byte++) {
        uint8_t flags = tokenizer->flags[byte];
        uint32_t lower[2] = {byte};
        if (bert->lower) hnp_unicode_lower(lower, byte);
        bool drop = bert->clean && flags & HNP_CONTROL, blank = bert->clean && flags & HNP_SPACE;
        bert->ascii[byte] = drop ? HNP_DROPPED : blank ? ' ' : (unsigned char)lower[0];
    }
    tokenizer->normalize = hnp_bert_normalize;
}

/* Words lie between white space and punctuation; each punctuation character is a word. */
bool hnp_bert_split(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span piece)
{
    const char *at = piece.text, *end = at + piece.length, *word = at;
    const uint8_t *flags = tokenizer->flags;
    while (at < end) {
        uint32_t point = (unsigned char)*at;
        size_t taken = point < 0x80 ? 1 : hnp_utf8_next(&point, at);
        uint8_t kind = flags[point] & (HNP_SPACE | HNP_PUNCTUATION);
        if (kind) {
            if (at > word && !tokenizer->word(tokenizer, scratch, (hnp_span){word, (size_t)(at - word)}))
                return false;
            if (!(kind & HNP_SPACE) && !tokenizer->word(tokenizer, scratch, (hnp_span){at, taken}))
                return false;
            word = at + taken;
        }
        at += taken;
    }
    return at == word || tokenizer->word(tokenizer, scratch, (hnp_span){word, (size_t)(at - word)});
}
