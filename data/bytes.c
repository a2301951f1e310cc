/* See bytes.h. */
#include "data/bytes.h"

#include <string.h>

#include "data/rows.h"

hn_status hnp_bytes_open(hnp_bytes *bytes, hn_input *input, hn_error *error)
{
    bytes->input = input;
    bytes->line = 1;
    bytes->at = bytes->filled = 0;
    bytes->end = false;
    bytes->status = HN_OK;
    bytes->error = error;
    while (bytes->filled < 3 && hnp_bytes_fill(bytes)) {
    }
    const unsigned char *b = bytes->buffer;
    if (bytes->filled >= 2 && ((b[0] == 0xff && b[1] == 0xfe) || (b[0] == 0xfe && b[1] == 0xff)))
        bytes->status = hn_fail(error, HN_ERR_FORMAT, "%s: expected UTF-8, got UTF-16 by its byte order mark",
                                hn_input_name(input));
    if (bytes->filled >= 3 && !memcmp(b, "\xef\xbb\xbf", 3)) bytes->at = 3;
    return bytes->status;
}

void hnp_bytes_close(hnp_bytes *bytes)
{
    hn_input_free(bytes->input);
    bytes->input = NULL;
}

/* Appends to what is unread when there is room, so that the first bytes can be looked at together. */
bool hnp_bytes_fill(hnp_bytes *bytes)
{
    if (bytes->end || bytes->status) return false;
    if (bytes->at == bytes->filled) bytes->at = bytes->filled = 0;
    size_t got = 0, room = sizeof bytes->buffer - bytes->filled;
    bytes->status = hn_input_read(bytes->input, bytes->buffer + bytes->filled, room, &got, bytes->error);
    if (bytes->status) return false;
    bytes->filled += got;
    bytes->end = got == 0;
    return got > 0;
}

bool hnp_bytes_line(hnp_bytes *bytes, hn_strbuf *line, bool *too_long)
{
    hn_strbuf_reset(line);
    *too_long = false;
    if (hnp_bytes_peek(bytes) < 0) return false;
    while (hnp_bytes_peek(bytes) >= 0) {
        const unsigned char *from = bytes->buffer + bytes->at;
        size_t left = bytes->filled - bytes->at;
        const unsigned char *stop = memchr(from, '\n', left);
        size_t size = stop ? (size_t)(stop - from) : left, room = HN_ROW_BYTES + 1 - line->length;
        hn_strbuf_add(line, from, size < room ? size : room);
        bytes->at += size + (stop != NULL);
        if (stop) {
            bytes->line++;
            break;
        }
    }
    if (line->length && line->text[line->length - 1] == '\r') line->text[--line->length] = '\0';
    *too_long = line->length > HN_ROW_BYTES;
    if (line->failed)
        bytes->status = hn_fail(bytes->error, HN_ERR_MEMORY, "%s:%lld: out of memory",
                                hn_input_name(bytes->input), (long long)bytes->line);
    return !bytes->status;
}
