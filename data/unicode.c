/* See unicode.h. What a code point is taken for stands in ranges (unicode_tables.h) that were read off the
 * reference implementation, because it mixes versions of the Unicode standard. At run time the ranges are
 * spread into two bytes a code point: 2.2 MB, filled in some tens of microseconds, of which a text touches
 * few pages.
 *
 * Decompositions and combining classes come from utf8proc. The standard never changes those of a code point
 * once assigned, so asking only for code points that the reference knows (HNP_MOVING) gives its answers
 * whatever version utf8proc is of. */
#include "data/unicode.h"

#include <string.h>
#include <utf8proc.h>

#include "core/mem.h"
#include "data/unicode_tables.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void spread(uint16_t *flags, const code_range *ranges, size_t count, uint16_t flag)
{
    for (size_t i = 0; i < count; i++)
        for (uint32_t c = ranges[i].first; c <= ranges[i].last; c++) flags[c] |= flag;
}

uint16_t *hnp_unicode_flags(void)
{
    uint16_t *flags = hn_calloc(HNP_POINTS, sizeof *flags);
    if (!flags) return NULL;
    spread(flags, control_ranges, COUNT(control_ranges), HNP_CONTROL);
    spread(flags, space_ranges, COUNT(space_ranges), HNP_SPACE);
    spread(flags, punctuation_ranges, COUNT(punctuation_ranges), HNP_PUNCTUATION);
    spread(flags, chinese_ranges, COUNT(chinese_ranges), HNP_CHINESE);
    spread(flags, mark_ranges, COUNT(mark_ranges), HNP_MARK);
    spread(flags, moving_ranges, COUNT(moving_ranges), HNP_MOVING);
    spread(flags, word_ranges, COUNT(word_ranges), HNP_WORD);
    spread(flags, letter_ranges, COUNT(letter_ranges), HNP_LETTER);
    spread(flags, number_ranges, COUNT(number_ranges), HNP_NUMBER);
    spread(flags, digit_ranges, COUNT(digit_ranges), HNP_DIGIT);
    spread(flags, accent_ranges, COUNT(accent_ranges), HNP_ACCENT);
    spread(flags, compatible_ranges, COUNT(compatible_ranges), HNP_COMPATIBLE);
    return flags;
}

size_t hnp_unicode_lower(uint32_t out[2], uint32_t point)
{
    for (size_t i = 0; i < COUNT(lower_pairs); i++)
        if (lower_pairs[i].from == point) {
            out[0] = lower_pairs[i].first;
            out[1] = lower_pairs[i].second;
            return 2;
        }
    size_t low = 0,
           high = COUNT(lower_runs); /* the first run that ends at or behind the point is in [low, high] */
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (lower_runs[middle].last < point)
            low = middle + 1;
        else
            high = middle;
    }
    const lower_run *run = low < COUNT(lower_runs) ? &lower_runs[low] : NULL;
    bool moves = run && point >= run->first && (point - run->first) % (uint32_t)run->step == 0;
    out[0] = moves ? point + (uint32_t)run->delta : point;
    return 1;
}

size_t hnp_unicode_decompose(uint32_t out[HNP_DECOMPOSED], uint32_t point, bool compatible)
{
    int boundary = 0;
    utf8proc_int32_t points[HNP_DECOMPOSED];
    utf8proc_ssize_t count = utf8proc_decompose_char(
        (utf8proc_int32_t)point, points, HNP_DECOMPOSED,
        compatible ? UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT : UTF8PROC_DECOMPOSE, &boundary);
    if (count < 1 || count > HNP_DECOMPOSED) {
        out[0] = point;
        return 1;
    }
    for (utf8proc_ssize_t i = 0; i < count; i++) out[i] = (uint32_t)points[i];
    return (size_t)count;
}

int hnp_unicode_class(uint32_t point)
{
    return utf8proc_get_property((utf8proc_int32_t)point)->combining_class;
}

size_t hnp_utf8_get(uint32_t *point, bool *valid, const char *text, size_t length)
{
    const unsigned char *at = (const unsigned char *)text;
    unsigned lead = at[0], low = 0x80, high = 0xBF;
    size_t need = lead < 0x80                   ? 1
                  : lead >= 0xC2 && lead < 0xE0 ? 2
                  : lead >= 0xE0 && lead < 0xF0 ? 3
                  : lead >= 0xF0 && lead < 0xF5 ? 4
                                                : 0;
    if (lead == 0xE0) low = 0xA0;  /* shorter forms exist */
    if (lead == 0xED) high = 0x9F; /* surrogates */
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F; /* beyond U+10FFFF */
    size_t taken = 1;
    while (taken < need && taken < length && at[taken] >= low && at[taken] <= high) {
        taken++;
        low = 0x80;
        high = 0xBF;
    }
    *valid = taken == need;
    if (*valid) return hnp_utf8_next(point, text);
    *point = HNP_REPLACEMENT;
    return taken;
}

size_t hnp_utf8_put(char out[4], uint32_t point)
{
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    if (point < 0x800) {
        out[0] = (char)(0xC0 | point >> 6);
        out[1] = (char)(0x80 | (point & 0x3F));
        return 2;
    }
    if (point < 0x10000) {
        out[0] = (char)(0xE0 | point >> 12);
        out[1] = (char)(0x80 | (point >> 6 & 0x3F));
        out[2] = (char)(0x80 | (point & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | point >> 18);
    out[1] = (char)(0x80 | (point >> 12 & 0x3F));
    out[2] = (char)(0x80 | (point >> 6 & 0x3F));
    out[3] = (char)(0x80 | (point & 0x3F));
    return 4;
}

size_t hnp_utf8_valid(const char *text, size_t length)
{
    size_t at = 0;
    while (at < length) {
        uint64_t eight;
        if (length - at >= 8) {
            memcpy(&eight, text + at, 8);
            if (!(eight & 0x8080808080808080u)) {
                at += 8;
                continue;
            }
        }
        uint32_t point;
        bool valid;
        size_t taken = hnp_utf8_get(&point, &valid, text + at, length - at);
        if (!valid) return at;
        at += taken;
    }
    return length;
}
