/* See reader.h. This file walks the files and tells their formats; reader_json.c, reader_table.c and
 * reader_text.c take rows out of them.
 *
 * Invariant: a row is good, or counted in `bad`, or an error; nothing is ever dropped in silence. What is
 * wrong with the stream (unreadable, damaged compression, UTF-16) or with a header is an error whatever
 * data.on_bad_row says, because every row behind it would be wrong too. */
#include "data/reader.h"

#include <string.h>

#include "core/mem.h"
#include "data/readers.h"
#include "data/utf8.h"

hn_data_format hn_format_of_name(const char *path)
{
    static const struct {
        const char *ending;
        hn_data_format format;
    } known[] = {{".jsonl", HN_FORMAT_JSONL},
                 {".ndjson", HN_FORMAT_JSONL},
                 {".tsv", HN_FORMAT_TSV},
                 {".csv", HN_FORMAT_CSV},
                 {".txt", HN_FORMAT_TEXT}};
    size_t length = strlen(path);
    if (length > 3 && !strcmp(path + length - 3, ".gz"))
        length -= 3;
    else if (length > 4 && !strcmp(path + length - 4, ".zst"))
        length -= 4;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        size_t ending = strlen(known[i].ending);
        if (length > ending && !strncmp(path + length - ending, known[i].ending, ending))
            return known[i].format;
    }
    return HN_FORMAT_AUTO;
}

hn_status hn_reader_open(hn_reader **out, const hn_reader_options *options, hn_bad_rows *bad, hn_error *error)
{
    HN_ASSERT(options->text || options->questions || options->turns);
    hn_reader *reader = hn_calloc(1, sizeof *reader);
    if (!reader) return hn_fail(error, HN_ERR_MEMORY, "reading data: out of memory");
    reader->options = *options;
    reader->field[HNP_TEXT] = options->text;
    reader->field[HNP_PAIR] = options->pair;
    reader->field[HNP_LABEL] = options->label;
    reader->bad = bad;
    hn_strbuf_init(&reader->raw);
    *out = reader;
    return HN_OK;
}

hn_status hn_reader_open_bytes(hn_reader **out, const hn_reader_options *options, const void *bytes,
                               size_t size, const char *name, hn_bad_rows *bad, hn_error *error)
{
    hn_status status = hn_reader_open(out, options, bad, error);
    if (status) return status;
    hn_reader *reader = *out;
    reader->memory = size ? bytes : "";
    reader->memory_size = size;
    reader->memory_path[0] = name;
    reader->options.paths = reader->memory_path;
    reader->options.path_count = 1;
    return HN_OK;
}

static int first_byte(hn_reader *reader)
{
    int c;
    while ((c = hnp_bytes_peek(&reader->bytes)) == ' ' || c == '\t' || c == '\n' || c == '\r')
        hnp_bytes_next(&reader->bytes);
    return c;
}

static hn_status tell_format(hn_reader *reader, hn_error *error)
{
    const char *path = hnp_reader_path(reader);
    reader->format = reader->options.format ? reader->options.format : hn_format_of_name(path);
    if (reader->format == HN_FORMAT_TEXT && !reader->options.documents)
        return hn_fail(error, HN_ERR_FORMAT, "%s: plain text has no fields; expected jsonl, json, tsv or csv for this task",
                       hn_input_name(reader->bytes.input));
    if (reader->options.words && (reader->format == HN_FORMAT_TSV || reader->format == HN_FORMAT_CSV))
        return hn_fail(error, HN_ERR_FORMAT, "%s: a table has no lists of words; expected jsonl or json for this task",
                       hn_input_name(reader->bytes.input));
    if (reader->format) return HN_OK;
    int c = first_byte(reader);
    if (reader->bytes.status) return reader->bytes.status;
    if (c < 0 || c == '{')
        reader->format = HN_FORMAT_JSONL;
    else if (c == '[')
        reader->format = HN_FORMAT_JSON;
    else
        return hn_fail(error, HN_ERR_FORMAT,
                       "%s: neither its name nor its first byte tells the format; set data.format to "
                       "jsonl, json, tsv or csv%s",
                       hn_input_name(reader->bytes.input), reader->options.documents ? ", or text" : "");
    return HN_OK;
}

static hn_status open_next_file(hn_reader *reader, bool *empty, hn_error *error)
{
    hn_input *input = NULL;
    const char *path = reader->options.paths[reader->file++];
    hn_status status = reader->memory
                           ? hn_input_open_bytes(&input, reader->memory, reader->memory_size, path, error)
                           : hn_input_open(&input, path, error);
    if (status) return status;
    reader->open = true;
    reader->rows_before = reader->rows;
    reader->array_open = reader->array_end = false;
    reader->turns = reader->options.turns ? (hn_turn_kind)reader->options.turns->kind : HN_TURNS_AUTO;
    reader->text_size = 0;
    *empty = false;
    status = hnp_bytes_open(&reader->bytes, input, error);
    if (!status) status = tell_format(reader, error);
    if (!status && (reader->format == HN_FORMAT_TSV || reader->format == HN_FORMAT_CSV))
        status = hnp_table_begin(reader, empty, error);
    return status;
}

static hn_status close_file(hn_reader *reader, hn_error *error)
{
    hnp_bytes_close(&reader->bytes);
    reader->open = false;
    if (reader->rows > reader->rows_before || reader->options.empty_allowed) return HN_OK;
    return hn_bad_row(reader->bad, HN_BAD_EMPTY, hnp_reader_path(reader), 0, error,
                      "expected rows, got none");
}

hn_status hnp_row_check(hn_reader *reader, bool too_long, bool *good, hn_error *error)
{
    const hn_strbuf *raw = &reader->raw;
    *good = false;
    if (too_long)
        return hnp_row_bad(reader, HN_BAD_LONG, error, "expected a row of at most %zu bytes, got more",
                           HN_ROW_BYTES);
    if (hnp_utf8_valid(raw->text, raw->length) < raw->length) {
        size_t at = hnp_utf8_valid(raw->text, raw->length);
        return hnp_row_bad(reader, HN_BAD_ENCODING, error, "byte %zu of the row: expected UTF-8, got 0x%02x",
                           at + 1, (unsigned char)raw->text[at]);
    }
    *good = true;
    return HN_OK;
}

hn_status hn_reader_next(hn_reader *reader, hn_row *row, bool *end, hn_error *error)
{
    static hnp_reader_step *const steps[] = {[HN_FORMAT_JSONL] = hnp_jsonl_next,
                                             [HN_FORMAT_JSON] = hnp_json_next,
                                             [HN_FORMAT_TSV] = hnp_table_next,
                                             [HN_FORMAT_CSV] = hnp_table_next,
                                             [HN_FORMAT_TEXT] = hnp_text_next};
    *end = false;
    for (;;) {
        bool got = false, file_end = false;
        hn_status status = HN_OK;
        if (!reader->open) {
            if (reader->file == reader->options.path_count) {
                *end = true;
                return HN_OK;
            }
            status = open_next_file(reader, &file_end, error);
        }
        reader->bytes.error = error;
        if (!status && !file_end) {
            *row = (hn_row){.path = hnp_reader_path(reader), .file = (int32_t)(reader->file - 1)};
            status = steps[reader->format](reader, row, &got, &file_end, error);
        }
        if (!status) status = reader->bytes.status;
        if (!status && file_end)
            status = close_file(reader, error);
        else if (!status && !row->continues)
            reader->rows++;
        if (status) return status;
        if (got) {
            row->line = reader->line;
            return HN_OK;
        }
    }
}

int64_t hn_reader_rows(const hn_reader *reader)
{
    return reader->rows;
}

void hn_reader_free(hn_reader *reader)
{
    if (!reader) return;
    if (reader->open) hnp_bytes_close(&reader->bytes);
    json_decref(reader->value);
    hn_strbuf_close(&reader->raw);
    hn_free(reader->cells);
    hn_free(reader->choices);
    hn_free(reader->messages);
    hn_free(reader);
}
