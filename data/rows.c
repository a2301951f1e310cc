/* See rows.h. Messages quote what stands in the file, which may be anything: whatever is not printable ASCII
 * or valid UTF-8 is shown as \xNN, so that a message can go to a terminal and into a JSON string. */
#include "data/rows.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "data/utf8.h"

static const char *const kind_names[HN_BAD_KINDS] = {
    "malformed",     "not UTF-8",  "NUL byte",      "over 16 MiB", "wrong number of columns",
    "missing field", "wrong type", "unknown label", "no conversation", "over data.max_tokens",
    "nothing to learn", "refused by the tokenizer", "no rows",
};

const char *hn_bad_kind_name(hn_bad_kind kind)
{
    return kind_names[kind];
}

int64_t hn_bad_rows_count(const hn_bad_rows *bad)
{
    int64_t sum = 0;
    for (int kind = 0; kind < HN_BAD_EMPTY; kind++) sum += bad->count[kind];
    return sum;
}

void hnp_printable(char *out, size_t capacity, const char *text)
{
    size_t used = 0, left = strlen(text);
    while (left) {
        size_t size = hnp_utf8_sequence((const unsigned char *)text, left);
        unsigned char c = (unsigned char)text[0];
        char piece[8];
        if (!size || c < 0x20 || c == 0x7f) {
            snprintf(piece, sizeof piece, "\\x%02x", c);
            size = 1;
        } else {
            memcpy(piece, text, size);
            piece[size] = '\0';
        }
        size_t length = strlen(piece);
        if (used + length + 1 > capacity) break;
        memcpy(out + used, piece, length);
        used += length;
        text += size;
        left -= size;
    }
    out[used] = '\0';
}

hn_status hn_bad_row(hn_bad_rows *bad, hn_bad_kind kind, const char *path, int64_t line, hn_error *error,
                     const char *format, ...)
{
    char what[HN_BAD_MESSAGE], message[HN_BAD_MESSAGE] = "";
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    char where[24] = "";
    if (line > 0) snprintf(where, sizeof where, ":%lld", (long long)line);
    char whole[2 * HN_BAD_MESSAGE];
    /* A long path keeps its end, which tells more. */
    size_t length = strlen(path), shown = length > 120 ? 120 : length;
    snprintf(whole, sizeof whole, "%s%s%s: %s", shown < length ? "..." : "", path + length - shown, where,
             what);
    hnp_printable(message, sizeof message, whole);
    if (!bad->count[kind]++) memcpy(bad->first[kind], message, sizeof message);
    if (bad->skip) return HN_OK;
    return hn_fail(error, HN_ERR_FORMAT, "%s (data.on_bad_row=skip passes over such rows)", message);
}
