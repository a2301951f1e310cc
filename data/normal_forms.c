/* NFC, NFD, NFKC, NFKD (Unicode Standard Annex 15): decompose, put non-starters in the order of their
 * classes, and for the C forms compose again. Text of characters that no form touches is copied as it stands.
 *
 * The reference knows an older Unicode than utf8proc does. Which code points decompose or move is read off
 * the reference (HNP_MOVING, HNP_COMPATIBLE); a code point that moves for utf8proc alone ends a run, so that
 * nothing composes with it. Ordering is a counting sort by class: linear, however long the run of marks. */
#include <string.h>
#include <utf8proc.h>

#include "core/mem.h"
#include "data/tokenizer_stages.h"

static bool add_point(hnp_points *points, uint32_t point)
{
    void *memory = points->items;
    if (!hn_grow(&memory, &points->capacity, points->count + 1, sizeof *points->items)) return false;
    points->items = memory;
    points->items[points->count++] = point;
    return true;
}

static int class_of(const hn_tokenizer *tokenizer, uint32_t point)
{
    return point >= 0x300 && tokenizer->flags[point] & HNP_MOVING ? hnp_unicode_class(point) : 0;
}

/* Sorts points[first, last), all of a class that is not 0. */
static bool order_run(const hn_tokenizer *tokenizer, hnp_points *points, size_t first, size_t last)
{
    size_t starts[257] = {0}, count = last - first;
    void *memory = points->sorted;
    if (!hn_grow(&memory, &points->sorted_capacity, count, sizeof *points->sorted)) return false;
    points->sorted = memory;
    for (size_t i = first; i < last; i++) starts[class_of(tokenizer, points->items[i]) + 1]++;
    for (size_t i = 1; i < 257; i++) starts[i] += starts[i - 1];
    for (size_t i = first; i < last; i++)
        points->sorted[starts[class_of(tokenizer, points->items[i])]++] = points->items[i];
    memcpy(points->items + first, points->sorted, count * sizeof *points->sorted);
    return true;
}

static bool order(const hn_tokenizer *tokenizer, hnp_points *points)
{
    for (size_t at = 0; at < points->count;) {
        size_t first = at;
        while (at < points->count && class_of(tokenizer, points->items[at])) at++;
        if (at - first > 1 && !order_run(tokenizer, points, first, at)) return false;
        at += at == first;
    }
    return true;
}

/* Moves for utf8proc, but not for the reference. */
static bool foreign(const hn_tokenizer *tokenizer, uint32_t point)
{
    if (point < 0x300 || tokenizer->flags[point] & HNP_MOVING) return false;
    const utf8proc_property_t *property = utf8proc_get_property((utf8proc_int32_t)point);
    return property->combining_class || (property->decomp_seqindex != UINT16_MAX && !property->decomp_type);
}

static void compose(const hn_tokenizer *tokenizer, hnp_points *points)
{
    size_t kept = 0;
    for (size_t at = 0; at < points->count;) {
        size_t end = at;
        while (end < points->count && !foreign(tokenizer, points->items[end])) end++;
        if (end > at) {
            utf8proc_ssize_t count =
                utf8proc_normalize_utf32((utf8proc_int32_t *)points->items + at, (utf8proc_ssize_t)(end - at),
                                         UTF8PROC_COMPOSE | UTF8PROC_STABLE);
            memmove(points->items + kept, points->items + at, (size_t)count * sizeof *points->items);
            kept += (size_t)count;
        }
        if (end < points->count) points->items[kept++] = points->items[end++];
        at = end;
    }
    points->count = kept;
}

/* Where the first character is that the form may touch; the character before it may compose with it. */
static size_t untouched(hnp_form form, hnp_span piece)
{
    unsigned char lead = form == HNP_NFC ? 0xCC : 0x80; /* U+0300, where combining marks begin */
    for (size_t at = 0; at < piece.length; at++)
        if ((unsigned char)piece.text[at] >= lead) return at;
    return piece.length;
}

bool hnp_form_normalize(const hn_tokenizer *tokenizer, const hnp_normalizer *step, hnp_scratch *scratch,
                        hnp_span piece)
{
    hnp_points *points = &scratch->points;
    bool compatible = step->form == HNP_NFKC || step->form == HNP_NFKD;
    uint16_t moves = compatible ? HNP_MOVING | HNP_COMPATIBLE : HNP_MOVING;
    if (!hnp_buffer_reserve(scratch, &scratch->normal, piece.length)) return false;
    if (untouched(step->form, piece) == piece.length) {
        hnp_buffer_put(&scratch->normal, piece.text, piece.length);
        return true;
    }
    points->count = 0;
    for (size_t at = 0; at < piece.length;) {
        uint32_t out[HNP_DECOMPOSED];
        size_t count = 1;
        at += hnp_utf8_next(out, piece.text + at);
        if (tokenizer->flags[*out] & moves)
            count = hnp_unicode_decompose(out, *out, compatible && tokenizer->flags[*out] & HNP_COMPATIBLE);
        for (size_t i = 0; i < count; i++)
            if (!add_point(points, out[i])) return false;
    }
    if (!order(tokenizer, points)) return false;
    if (step->form == HNP_NFC || step->form == HNP_NFKC) compose(tokenizer, points);
    size_t room;
    char bytes[4];
    if (!hn_size_mul(points->count, 4, &room) || !hnp_buffer_reserve(scratch, &scratch->normal, room)) return false;
    for (size_t i = 0; i < points->count; i++)
        hnp_buffer_put(&scratch->normal, bytes, hnp_utf8_put(bytes, points->items[i]));
    return true;
}
