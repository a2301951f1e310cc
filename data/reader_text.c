/* Plain text as one document (see readers.h). A file beyond HN_PIECE_BYTES comes in pieces, so that memory does
 * not grow with it:
 *
 *     raw    | piece: up to the cut | rest |          the rest moves to the front before the next read
 *
 * Where a piece ends, tokens end. So it ends behind the last line of its bytes which has no white space at its
 * end and none at the start of the line behind it: there byte-level tokenizers have a boundary anyway, and the
 * ids of the pieces are those of the whole. In texts without such a place it ends behind any line, else before
 * any character. */
#include <string.h>

#include "data/readers.h"
#include "data/utf8.h"

static bool is_white(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Where the piece of `size` bytes ends, of which more follow. */
static size_t cut(const char *text, size_t size)
{
    size_t line = 0, i = size - 1;
    for (; i > 1; i--) {
        if (text[i - 1] != '\n') continue;
        if (!line) line = i;
        if (!is_white(text[i - 2]) && !is_white(text[i])) return i;
    }
    if (line) return line;
    i = size;
    while (i > size - 4 && ((unsigned char)text[i - 1] & 0xc0) == 0x80) i--;
    return i - 1 ? i - 1 : size;
}

static int64_t count_lines(const char *text, size_t size)
{
    int64_t lines = 0;
    for (size_t i = 0; i < size; i++) lines += text[i] == '\n';
    return lines;
}

/* Reads on until `raw` holds a piece and a byte more, or the file ends. */
static hn_status read_on(hn_reader *reader, hn_error *error)
{
    hnp_bytes *bytes = &reader->bytes;
    hn_strbuf *raw = &reader->raw;
    while (raw->length <= HN_PIECE_BYTES && hnp_bytes_peek(bytes) >= 0) {
        hn_strbuf_add(raw, (const char *)bytes->buffer + bytes->at, bytes->filled - bytes->at);
        bytes->at = bytes->filled;
    }
    if (raw->failed)
        return hn_fail(error, HN_ERR_MEMORY, "%s:%lld: out of memory", hnp_reader_path(reader), (long long)reader->line);
    return bytes->status;
}

/* *good: it is UTF-8 without NUL; else a bad row, at the line of the first bad byte. */
static hn_status check_text(hn_reader *reader, const char *text, size_t size, bool *good, hn_error *error)
{
    size_t valid = hnp_utf8_valid(text, size);
    const char *nul = memchr(text, 0, valid);
    *good = valid == size && !nul;
    if (*good) return HN_OK;
    reader->line += count_lines(text, nul ? (size_t)(nul - text) : valid);
    if (nul) return hnp_row_bad(reader, HN_BAD_NUL, error, "expected text, got a NUL");
    return hnp_row_bad(reader, HN_BAD_ENCODING, error, "expected UTF-8, got 0x%02x", (unsigned char)text[valid]);
}

hn_status hnp_text_next(hn_reader *reader, hn_row *row, bool *got, bool *end, hn_error *error)
{
    hn_strbuf *raw = &reader->raw;
    row->continues = reader->text_size > 0;
    if (!row->continues) {
        hn_strbuf_reset(raw);
        reader->text_line = 1;
    } else {
        raw->length -= reader->text_size;
        memmove(raw->text, raw->text + reader->text_size, raw->length + 1);
    }
    reader->line = reader->text_line;
    hn_status status = read_on(reader, error);
    *end = raw->length == 0;
    if (status || *end) return status;
    row->unfinished = raw->length > HN_PIECE_BYTES;
    reader->text_size = row->unfinished ? cut(raw->text, HN_PIECE_BYTES) : raw->length;
    reader->text_line += count_lines(raw->text, reader->text_size);
    row->text = raw->text;
    row->text_length = reader->text_size;
    return check_text(reader, raw->text, reader->text_size, got, error);
}
