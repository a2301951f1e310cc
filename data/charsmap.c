/* Precompiled: the replacements that SentencePiece compiled into its model ("nmt_nfkc"), as the reference
 * applies them. The file gives, in base64,
 *
 *     u32 bytes of the double array | units, u32 each | replacements, each ending with NUL
 *
 * in little endian. A unit holds a label (8 bits and the sign), a leaf flag (bit 8) and an offset (bits 10
 * and up, times 256 when bit 9 stands); a leaf's next unit is the place of its replacement.
 *
 * The reference looks at one grapheme after another: one of fewer than 6 bytes is looked up whole, and is
 * replaced by what the *shortest* key at its beginning stands for, the rest of it dropped; otherwise each
 * character is looked up. That is taken over, oddities included. Two ASCII characters are never one grapheme,
 * but CR LF. */
#include <string.h>
#include <utf8proc.h>

#include "core/mem.h"
#include "data/tokenizer_stages.h"

#define WHOLE 6 /* graphemes of fewer bytes are looked up whole */

static int digit_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* The bytes of base64 text in `out`, of 3/4 its length; false: it is none. */
static bool decode_base64(unsigned char *out, size_t *size, const char *text, size_t length)
{
    *size = 0;
    if (length % 4) return false;
    for (size_t at = 0; at < length; at += 4) {
        int digits[4], known = 0;
        for (int i = 0; i < 4; i++) digits[i] = digit_of(text[at + (size_t)i]);
        while (known < 4 && digits[known] >= 0) known++;
        bool last = at + 4 == length;
        if (known < 4 && (!last || known < 2 || text[at + 3] != '=' || (known == 2 && text[at + 2] != '=')))
            return false;
        for (int i = known; i < 4; i++) digits[i] = 0;
        uint32_t bits = (uint32_t)(digits[0] << 18 | digits[1] << 12 | digits[2] << 6 | digits[3]);
        for (int i = 0; i < known - 1; i++) out[(*size)++] = (unsigned char)(bits >> (16 - 8 * i));
    }
    return true;
}

/* The replacement for what begins at `text`; NULL: none. */
static const char *look_up(const hnp_charsmap *map, const char *text, size_t length)
{
    size_t node = map->units[0] >> 10 << ((map->units[0] & 0x200) >> 6);
    for (size_t i = 0; i < length && text[i]; i++) {
        unsigned char byte = (unsigned char)text[i];
        node ^= byte;
        if (node >= map->count) return NULL;
        uint32_t unit = map->units[node];
        if ((unit & 0x800000FF) != byte) return NULL;
        node ^= unit >> 10 << ((unit & 0x200) >> 6);
        if (!(unit & 0x100)) continue;
        if (node >= map->count) return NULL;
        size_t place = map->units[node] & 0x7FFFFFFF;
        return place < map->size ? map->texts + place : NULL;
    }
    return NULL;
}

hn_status hnp_charsmap_init(hnp_charsmap *out, const char *base64, const char *where, hn_error *error)
{
    size_t length = strlen(base64), size;
    uint32_t units = 0;
    hn_status status = HN_OK;
    unsigned char *bytes = hn_malloc(length + 4);
    if (!bytes) goto memory;
    bool good = decode_base64(bytes, &size, base64, length);
    if (good && size >= 4) memcpy(&units, bytes, 4);
    if (!good || size < 8 || units < 4 || units % 4 || units > size - 4) {
        status = hn_fail(error, HN_ERR_FORMAT,
                         "%s.precompiled_charsmap: base64 of a table expected, got %zu bytes", where, length);
        goto out;
    }
    out->count = units / 4;
    out->size = size - 4 - units;
    out->units = hn_memdup(bytes + 4, units);
    out->texts = hn_malloc(out->size + 1);
    if (!out->units || !out->texts) goto memory;
    memcpy(out->texts, bytes + 4 + units, out->size);
    out->texts[out->size] = '\0';
    if (hnp_utf8_valid(out->texts, out->size) < out->size) {
        status =
            hn_fail(error, HN_ERR_FORMAT, "%s.precompiled_charsmap: its replacements are not UTF-8", where);
        goto out;
    }
    for (int c = 0; c < 128; c++) out->plain[c] = c != '\r' && !look_up(out, (const char[]){(char)c}, 1);
    goto out;
memory:
    status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", where);
out:
    hn_free(bytes);
    return status;
}

static bool put(hnp_scratch *scratch, const char *bytes, size_t length, size_t rest)
{
    size_t need;
    if (!hn_size_add(length, rest, &need) || !hnp_buffer_reserve(scratch, &scratch->normal, need)) return false;
    hnp_buffer_put(&scratch->normal, bytes, length);
    return true;
}

/* One grapheme. */
static bool replace(const hnp_charsmap *map, hnp_scratch *scratch, const char *text, size_t length,
                    size_t rest)
{
    const char *by = length < WHOLE ? look_up(map, text, length) : NULL;
    if (by) return put(scratch, by, strlen(by), rest);
    for (size_t at = 0; at < length;) {
        uint32_t point;
        size_t taken = hnp_utf8_next(&point, text + at);
        by = look_up(map, text + at, taken);
        if (!put(scratch, by ? by : text + at, by ? strlen(by) : taken, rest + length)) return false;
        at += taken;
    }
    return true;
}

/* Bytes of the grapheme at the beginning of a text. */
static size_t grapheme(const char *text, size_t length)
{
    uint32_t point, next;
    utf8proc_int32_t state = 0;
    size_t at = hnp_utf8_next(&point, text);
    while (at < length) {
        size_t taken = hnp_utf8_next(&next, text + at);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)point, (utf8proc_int32_t)next, &state)) break;
        point = next;
        at += taken;
    }
    return at;
}

bool hnp_charsmap_normalize(const hn_tokenizer *tokenizer, const hnp_normalizer *step, hnp_scratch *scratch,
                            hnp_span piece)
{
    (void)tokenizer;
    const hnp_charsmap *map = &step->charsmap;
    const char *at = piece.text, *end = at + piece.length;
    if (!hnp_buffer_reserve(scratch, &scratch->normal, piece.length)) return false;
    while (at < end) {
        const char *from = at;
        while (at < end && (unsigned char)*at < 0x80 && map->plain[(unsigned char)*at]) at++;
        if (at < end && at > from && (unsigned char)*at >= 0x80) at--; /* may belong to what follows */
        hnp_buffer_put(&scratch->normal, from, (size_t)(at - from));
        if (at == end) break;
        size_t length = grapheme(at, (size_t)(end - at));
        at += length;
        if (!replace(map, scratch, at - length, length, (size_t)(end - at))) return false;
    }
    return true;
}
