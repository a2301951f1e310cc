/* The characters that stand for bytes in byte-level models (GPT-2's bytes_to_unicode): printable ones for
 * themselves, the other 68, in order, from U+0100 on. */
#include "data/tokenizer_stages.h"

static bool printable(uint32_t byte)
{
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

/* 0x00-0x20, 0x7F-0xA0 and 0xAD are the others. */
size_t hnp_byte_put(char out[2], unsigned char byte)
{
    uint32_t point = byte;
    if (!printable(byte)) point = 0x100u + (byte <= 0x20 ? byte : byte <= 0xA0 ? byte - 0x7Fu + 33u : 67u);
    char four[4];
    size_t length = hnp_utf8_put(four, point);
    out[0] = four[0];
    if (length > 1) out[1] = four[1];
    return length;
}

int hnp_byte_of(uint32_t point)
{
    if (point < 0x100) return printable(point) ? (int)point : -1;
    if (point < 0x100 + 33) return (int)(point - 0x100);
    if (point < 0x100 + 67) return (int)(point - 0x100 - 33 + 0x7F);
    return point == 0x100 + 67 ? 0xAD : -1;
}
