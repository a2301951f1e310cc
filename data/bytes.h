/* Shared by the readers: an input as a buffered stream of bytes with line numbers, and lines of bounded
 * length. A UTF-8 byte order mark at the start is passed over. */
#ifndef HONE_DATA_BYTES_H
#define HONE_DATA_BYTES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/strbuf.h"
#include "data/input.h"

typedef struct hnp_bytes {
    hn_input *input; /* owned */
    int64_t line;    /* of the next byte, from 1 */
    size_t at, filled;
    bool end;
    hn_status status; /* of the first failed read; then the stream is at its end */
    hn_error *error;
    unsigned char buffer[65536];
} hnp_bytes;

/* Takes the input over, also on failure. A UTF-16 file is refused by its mark. */
hn_status hnp_bytes_open(hnp_bytes *bytes, hn_input *input, hn_error *error);
void hnp_bytes_close(hnp_bytes *bytes);
bool hnp_bytes_fill(hnp_bytes *bytes); /* false: at the end, or status is set */

/* The next byte without passing it; -1 at the end. */
static inline int hnp_bytes_peek(hnp_bytes *bytes)
{
    return bytes->at < bytes->filled || hnp_bytes_fill(bytes) ? bytes->buffer[bytes->at] : -1;
}

static inline int hnp_bytes_next(hnp_bytes *bytes)
{
    int c = hnp_bytes_peek(bytes);
    if (c >= 0) {
        bytes->at++;
        bytes->line += c == '\n';
    }
    return c;
}

/* The next line into `line`, without its end ("\n" or "\r\n"); *too_long when it has more than HN_ROW_BYTES,
 * of which only the first are kept. false: no line is left, or status is set. */
bool hnp_bytes_line(hnp_bytes *bytes, hn_strbuf *line, bool *too_long);

#endif
