/* Shared by the fuzz targets of the readers: reads bytes as a file and holds the rows against what the reader
 * promises. */
#ifndef HONE_TESTS_FUZZ_ROWS_H
#define HONE_TESTS_FUZZ_ROWS_H

#include "core/json.h"
#include "core/strbuf.h"
#include "data/reader.h"
#include "data/utf8.h"
#include "tests/fuzz/fuzz.h"

static const hn_reader_options fuzz_options = {.text = "a", .pair = "b", .label = "y", .empty_allowed = true};

typedef void fuzz_writer(hn_strbuf *out, const hn_row *row);

/* Reads all; `again` gets every row written anew by `write`. Returns the number of good rows, -1 after an
 * error. */
static int64_t fuzz_read(const void *bytes, size_t size, const char *name, hn_bad_rows *bad, hn_strbuf *again,
                         fuzz_writer *write)
{
    hn_reader *reader = NULL;
    hn_error error = {0};
    hn_row row;
    bool end = false;
    int64_t count = 0, line = 1;
    DEMAND(!hn_reader_open_bytes(&reader, &fuzz_options, bytes, size, name, bad, &error));
    for (;;) {
        hn_status status = hn_reader_next(reader, &row, &end, &error);
        DEMAND(!status == !error.message[0]);
        if (status) fuzz_refused(&error, name);
        if (status) count = -1;
        if (status || end) break;
        count++;
        DEMAND(strlen(row.text) == row.text_length &&
               hnp_utf8_valid(row.text, row.text_length) == row.text_length);
        DEMAND(strlen(row.pair) == row.pair_length &&
               hnp_utf8_valid(row.pair, row.pair_length) == row.pair_length);
        DEMAND(row.label && row.line >= line && row.file == 0);
        line = row.line;
        if (write) write(again, &row);
    }
    if (count >= 0) DEMAND(hn_reader_rows(reader) == count + hn_bad_rows_count(bad));
    hn_reader_free(reader);
    return count;
}

/* Read with and without skipping; what was good is written anew and must read back as the same bytes. */
static void fuzz_rows(const uint8_t *data, size_t size, const char *name, fuzz_writer *write,
                      const char *header)
{
    hn_bad_rows skip = {.skip = true}, strict = {0}, clean = {0};
    hn_strbuf first, second;
    fuzz_begin();
    hn_strbuf_init(&first);
    hn_strbuf_init(&second);
    hn_strbuf_puts(&first, header);
    hn_strbuf_puts(&second, header);
    int64_t count = fuzz_read(data, size, name, &skip, &first, write);
    int64_t strict_count = fuzz_read(data, size, name, &strict, NULL, NULL);
    if (count >= 0) {
        DEMAND((strict_count >= 0) == (hn_bad_rows_count(&skip) == 0));
        DEMAND(fuzz_read(first.text, first.length, strchr(header, ',') ? "again.csv" : "again.jsonl", &clean,
                         &second, write) == count);
        DEMAND(first.length == second.length && !memcmp(first.text, second.text, first.length));
    }
    hn_strbuf_close(&first);
    hn_strbuf_close(&second);
    fuzz_end_of_file(data, size);
}

#endif
