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
    size_t need;
    return hn_size_add(rest, SLACK, &need) && hnp_buffer_reserve(scratch, &scratch->normal, need);
}

static void put(const hnp_bert_settings *bert, hnp_scratch *scratch, uint32_t point)
{
    uint32_t lower[2] = {point};
    size_t count = bert->lower ? hnp_unicode_lower(lower, point) : 1;
    for (size_t i = 0; i < count; i++)
        scratch->normal.length += hnp_utf8_put(scratch->normal.bytes + scratch->normal.length, lower[i]);
}

/* Writes the waiting non-starters in the order of their classes. `rest` bytes of input are still to come. */
static bool flush(const hnp_bert_settings *bert, hnp_scratch *scratch, size_t rest)
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
                put(bert, scratch, scratch->waiting[i] & 0xFFFFFF);
    }
    scratch->waiting_count = 0;
    memset(scratch->classes, 0, sizeof scratch->classes);
    return true;
}

/* One code point behind the decomposition. */
static bool put_decomposed(const hnp_bert_settings *bert, hnp_scratch *scratch, uint32_t point, size_t rest)
{
    uint16_t flags = bert->flags[point];
    uint32_t class = flags & HNP_MOVING ? (uint32_t)hnp_unicode_class(point) : 0;
    if (!class) {
        if (!flush(bert, scratch, rest)) return false;
        if (!(flags & HNP_MARK)) put(bert, scratch, point);
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
static bool put_clean(const hnp_bert_settings *bert, hnp_scratch *scratch, uint32_t point, size_t rest)
{
    uint32_t points[HNP_DECOMPOSED] = {point};
    size_t count = 1;
    if (!bert->strip) {
        put(bert, scratch, point);
        return true;
    }
    if (bert->flags[point] & HNP_MOVING) count = hnp_unicode_decompose(points, point, false);
    for (size_t i = 0; i < count; i++)
        if (!put_decomposed(bert, scratch, points[i], rest)) return false;
    return true;
}

static bool normalize_point(const hnp_bert_settings *bert, hnp_scratch *scratch, uint32_t point, size_t rest)
{
    uint16_t flags = bert->flags[point];
    if (bert->clean && flags & HNP_CONTROL) return true;
    if (bert->clean && flags & HNP_SPACE) point = ' ';
    if (!reserve(scratch, rest)) return false;
    if (!bert->chinese || !(flags & HNP_CHINESE)) return put_clean(bert, scratch, point, rest);
    return put_clean(bert, scratch, ' ', rest) && put_clean(bert, scratch, point, rest) &&
           put_clean(bert, scratch, ' ', rest);
}

static bool bert_normalize(const hn_tokenizer *tokenizer, const hnp_normalizer *step, hnp_scratch *scratch,
                           hnp_span piece)
{
    (void)tokenizer;
    const hnp_bert_settings *bert = &step->bert;
    const unsigned char *at = (const unsigned char *)piece.text, *end = at + piece.length;
    scratch->waiting_count = 0;
    if (!reserve(scratch, piece.length)) return false;
    while (at < end) {
        if (*at < 0x80) {
            if (!flush(bert, scratch, (size_t)(end - at))) return false;
            char *to = scratch->normal.bytes + scratch->normal.length;
            for (; at < end && *at < 0x80; at++) {
                unsigned char byte = bert->ascii[*at];
                *to = (char)byte;
                to += byte != HNP_DROPPED;
            }
            scratch->normal.length = (size_t)(to - scratch->normal.bytes);
            continue;
        }
        uint32_t point;
        at += hnp_utf8_next(&point, (const char *)at);
        if (!normalize_point(bert, scratch, point, (size_t)(end - at))) return false;
    }
    return flush(bert, scratch, 0);
}

void hnp_bert_init(hn_tokenizer *tokenizer, hnp_normalizer *step)
{
    hnp_bert_settings *bert = &step->bert;
    bert->flags = tokenizer->flags;
    for (uint32_t byte = 0; byte < 128; byte++) {
        uint16_t flags = bert->flags[byte];
        uint32_t lower[2] = {byte};
        if (bert->lower) hnp_unicode_lower(lower, byte);
        bool drop = bert->clean && flags & HNP_CONTROL, blank = bert->clean && flags & HNP_SPACE;
        bert->ascii[byte] = drop ? HNP_DROPPED : blank ? ' ' : (unsigned char)lower[0];
    }
    step->apply = bert_normalize;
    hn_hasher_add_text(tokenizer->hasher, "BertNormalizer");
    hnp_hash_int(tokenizer, bert->clean | bert->chinese << 1 | bert->strip << 2 | bert->lower << 3);
}

static bool part(const hn_tokenizer *tokenizer, const hnp_splitter *step, hnp_scratch *scratch,
                 const char *start, const char *end)
{
    return hnp_split_next(tokenizer, step, scratch, (hnp_span){start, (size_t)(end - start), false});
}

/* Words lie between white space and punctuation; each punctuation character is a word. */
bool hnp_bert_split(const hn_tokenizer *tokenizer, const hnp_splitter *step, hnp_scratch *scratch,
                    hnp_span piece)
{
    const char *at = piece.text, *end = at + piece.length, *word = at;
    const uint16_t *flags = tokenizer->flags;
    while (at < end) {
        uint32_t point = (unsigned char)*at;
        size_t taken = point < 0x80 ? 1 : hnp_utf8_next(&point, at);
        uint16_t kind = flags[point] & (HNP_SPACE | HNP_PUNCTUATION);
        if (kind) {
            if (at > word && !part(tokenizer, step, scratch, word, at)) return false;
            if (!(kind & HNP_SPACE) && !part(tokenizer, step, scratch, at, at + taken)) return false;
            word = at + taken;
        }
        at += taken;
    }
    return at == word || part(tokenizer, step, scratch, word, at);
}
