/* Shared inside data/: is this UTF-8? (Unicode 15, table 3-7: no overlong forms, no surrogates, nothing over
 * U+10FFFF.) */
#ifndef HONE_DATA_UTF8_H
#define HONE_DATA_UTF8_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes of the sequence that begins at `b` with `left` > 0 bytes to go; 0: not UTF-8. */
static inline size_t hnp_utf8_sequence(const unsigned char *b, size_t left)
{
    unsigned char low = 0x80, high = 0xbf, lead = b[0];
    size_t size = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    if (size < 2) return size;
    if (size > left) return 0;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
    if (b[1] < low || b[1] > high) return 0;
    for (size_t i = 2; i < size; i++)
        if ((b[i] & 0xc0) != 0x80) return 0;
    return size;
}

/* Offset of the first byte that is not UTF-8, or `length`. */
static inline size_t hnp_utf8_valid(const char *text, size_t length)
{
    const unsigned char *b = (const unsigned char *)text;
    size_t i = 0;
    while (i < length) {
        uint64_t eight;
        if (length - i >= 8) {
            memcpy(&eight, b + i, 8);
            if (!(eight & 0x8080808080808080u)) {
                i += 8;
                continue;
            }
        }
        size_t size = hnp_utf8_sequence(b + i, length - i);
        if (!size) return i;
        i += size;
    }
    return length;
}

#endif
