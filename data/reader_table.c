/* Rows out of TSV and CSV (see readers.h): a header line with the names of the columns, then a row a record.
 *
 * TSV is cut at tabs and line ends and nothing else, as GLUE's files are written: a quote is a character. CSV
 * is RFC 4180: a cell may stand in double quotes, and then holds commas, line ends, and quotes written twice;
 * a quote inside an unquoted cell, or anything but a comma or a line end behind a closing quote, is a bad row
 * (the record is read on to its end, so the next one is in step again); but questions are published with quotes inside unquoted
 * cells, which every reader of theirs takes as characters. Blank lines are passed over in both.
 *
 * The record is kept unquoted in `raw`, each cell ended with a NUL, with the offsets of as many cells as the
 * header has:
 *
 *     raw    o n e \0 t w o \0 t h r e e \0        cells   0 4 8        cell_count  3
 *
 * NUL bytes of the file itself are seen while cutting. */
#include <string.h>

#include "core/mem.h"
#include "data/readers.h"
#include "data/utf8.h"

#define MAX_COLUMNS 65536

/* What cutting a record found out besides its cells. */
struct record {
    bool too_long, nul;
    const char *malformed; /* NULL: well formed */
};

static hn_status no_memory(hn_reader *reader, hn_error *error)
{
    return hn_fail(error, HN_ERR_MEMORY, "%s:%lld: out of memory", hnp_reader_path(reader),
                   (long long)reader->line);
}

/* A cell begins at the end of `raw`. */
static void begin_cell(hn_reader *reader, size_t limit)
{
    if (reader->cell_count++ >= limit) return;
    void *cells = reader->cells;
    if (!hn_grow(&cells, &reader->cell_capacity, reader->cell_count, sizeof(size_t))) {
        reader->raw.failed = true;
        return;
    }
    reader->cells = cells;
    reader->cells[reader->cell_count - 1] = reader->raw.length;
}

static hn_status cut_tsv(hn_reader *reader, struct record *record, size_t limit)
{
    hn_strbuf *raw = &reader->raw;
    if (!hnp_bytes_line(&reader->bytes, raw, &record->too_long)) return reader->bytes.status;
    record->nul = memchr(raw->text, 0, raw->length) != NULL;
    size_t length = raw->length;
    raw->length = 0;
    begin_cell(reader, limit);
    for (size_t i = 0; i < length; i++) {
        if (raw->text[i] != '\t') continue;
        raw->text[i] = '\0';
        raw->length = i + 1;
        begin_cell(reader, limit);
    }
    raw->length = length;
    return HN_OK;
}

static void put(hn_reader *reader, struct record *record, int c)
{
    if (c == 0) record->nul = true;
    if (reader->raw.length < HN_ROW_BYTES)
        hn_strbuf_putc(&reader->raw, (char)c);
    else
        record->too_long = true;
}

/* Behind an opening quote: up to the closing one. */
static void cut_quoted(hn_reader *reader, struct record *record)
{
    hnp_bytes *bytes = &reader->bytes;
    for (;;) {
        int c = hnp_bytes_next(bytes);
        if (c < 0) {
            record->malformed = "a closing quote, got the end of the file";
            return;
        }
        if (c == '"') {
            if (hnp_bytes_peek(bytes) != '"') return;
            hnp_bytes_next(bytes);
        }
        put(reader, record, c);
    }
}

/* Ends the record at \n, \r\n or the end of the file. */
static bool at_record_end(hnp_bytes *bytes, int c)
{
    if (c == '\r' && hnp_bytes_peek(bytes) == '\n') c = hnp_bytes_next(bytes);
    return c < 0 || c == '\n';
}

static hn_status cut_csv(hn_reader *reader, struct record *record, size_t limit)
{
    hnp_bytes *bytes = &reader->bytes;
    hn_strbuf_reset(&reader->raw);
    begin_cell(reader, limit);
    bool cell_begins = true, quoted = false;
    for (;;) {
        int c = hnp_bytes_next(bytes);
        if (at_record_end(bytes, c)) return bytes->status;
        if (c == ',') {
            hn_strbuf_add(&reader->raw, "", reader->raw.length < HN_ROW_BYTES);
            begin_cell(reader, limit);
            cell_begins = true;
            quoted = false;
            continue;
        }
        if (c == '"' && cell_begins) {
            cut_quoted(reader, record);
            quoted = true;
        } else {
            if (c == '"' && !record->malformed && !reader->options.questions)
                record->malformed = "quotes only around a whole cell, got one inside it";
            if (quoted && !record->malformed)
                record->malformed = "a comma or a line end behind a closing quote, got more";
            put(reader, record, c);
        }
        cell_begins = false;
    }
}

/* The next record that is not a blank line. *end: there is none. */
static hn_status next_record(hn_reader *reader, struct record *record, size_t limit, bool *end,
                             hn_error *error)
{
    for (;;) {
        int c;
        while ((c = hnp_bytes_peek(&reader->bytes)) == '\n') hnp_bytes_next(&reader->bytes);
        *end = c < 0;
        if (*end) return reader->bytes.status;
        reader->line = reader->bytes.line;
        reader->cell_count = 0;
        hn_strbuf_reset(&reader->raw);
        hn_status status = (reader->format == HN_FORMAT_CSV ? cut_csv : cut_tsv)(reader, record, limit);
        if (reader->raw.failed) return no_memory(reader, error);
        if (status || c != '\r' || reader->raw.length || reader->cell_count > 1) return status;
    }
}

static hn_status find_column(hn_reader *reader, int field, hn_error *error)
{
    const char *name = reader->field[field], *path = hnp_reader_path(reader);
    reader->column[field] = -1;
    if (!name) return HN_OK;
    for (size_t i = 0; i < reader->columns; i++) {
        if (strcmp(reader->raw.text + reader->cells[i], name)) continue;
        if (reader->column[field] >= 0)
            return hn_fail(error, HN_ERR_FORMAT, "%s:%lld: expected one column \"%s\" in the header, got two",
                           path, (long long)reader->line, name);
        reader->column[field] = (int)i;
    }
    if (reader->column[field] >= 0 || field == HNP_INPUT || (field == HNP_LABEL && reader->options.label_optional)) return HN_OK;
    hn_strbuf names;
    char shown[300];
    hn_strbuf_init(&names);
    for (size_t i = 0; i < reader->columns && names.length < 200; i++)
        hn_strbuf_printf(&names, "%s\"%.40s\"", i ? ", " : "", reader->raw.text + reader->cells[i]);
    hnp_printable(shown, sizeof shown, names.text);
    hn_strbuf_close(&names);
    return hn_fail(error, HN_ERR_FORMAT, "%s:%lld: expected a column \"%s\" in the header, got %s", path,
                   (long long)reader->line, name, shown);
}

static bool has_column(const hn_reader *reader, const char *name)
{
    for (size_t i = 0; i < reader->columns; i++)
        if (!strcmp(reader->raw.text + reader->cells[i], name)) return true;
    return false;
}

/* What the columns of a table of conversations are called. */
static hn_status tell_turns(hn_reader *reader, hn_error *error)
{
    bool known;
    if (!reader->options.turns) return HN_OK;
    hn_status status = hnp_turns_tell(reader, has_column, &known, error);
    if (status || (known && reader->turns != HN_TURNS_MESSAGES)) return status;
    return hn_fail(error, HN_ERR_FORMAT, "%s:%lld: expected the columns of data.rows=alpaca or prompt in the header, got others",
                   hnp_reader_path(reader), (long long)reader->line);
}

hn_status hnp_table_begin(hn_reader *reader, bool *end, hn_error *error)
{
    struct record record = {0};
    hn_status status = next_record(reader, &record, MAX_COLUMNS, end, error);
    if (status || *end) return status;
    const char *problem = record.malformed;
    if (record.too_long)
        problem = "a header of at most 16 MiB, got more";
    else if (record.nul)
        problem = "text, got a NUL byte";
    else if (reader->cell_count > MAX_COLUMNS)
        problem = "at most 65536 columns, got more";
    else if (hnp_utf8_valid(reader->raw.text, reader->raw.length) < reader->raw.length)
        problem = "UTF-8, got other bytes";
    if (problem)
        return hn_fail(error, HN_ERR_FORMAT, "%s:%lld: the header: expected %s", hnp_reader_path(reader),
                       (long long)reader->line, problem);
    reader->columns = reader->cell_count;
    if (reader->options.questions) return hnp_questions_begin(reader, error);
    status = tell_turns(reader, error);
    for (int field = 0; field < HNP_FIELDS && !status; field++) status = find_column(reader, field, error);
    return status;
}

static const char *cell(const hn_reader *reader, int field, size_t *length)
{
    if (reader->column[field] < 0) return NULL;
    const char *text = reader->raw.text + reader->cells[reader->column[field]];
    *length = strlen(text);
    return text;
}

hn_status hnp_table_record(hn_reader *reader, bool *got, bool *end, hn_error *error)
{
    struct record record = {0};
    bool good;
    hn_status status = next_record(reader, &record, reader->columns, end, error);
    if (status || *end) return status;
    status = hnp_row_check(reader, record.too_long, &good, error);
    if (status || !good) return status;
    if (record.nul) return hnp_row_bad(reader, HN_BAD_NUL, error, "expected text, got a NUL byte");
    if (record.malformed) return hnp_row_bad(reader, HN_BAD_SYNTAX, error, "expected %s", record.malformed);
    *got = true;
    return HN_OK;
}

hn_status hnp_table_next(hn_reader *reader, hn_row *row, bool *got, bool *end, hn_error *error)
{
    bool good = false;
    if (reader->options.questions) return hnp_question_of_table(reader, row, got, end, error);
    hn_status status = hnp_table_record(reader, &good, end, error);
    if (status || !good) return status;
    if (reader->cell_count != reader->columns)
        return hnp_row_bad(reader, HN_BAD_COLUMNS, error, "expected %zu columns as in the header, got %zu",
                           reader->columns, reader->cell_count);
    size_t label_length = 0, input_length = 0;
    row->text = cell(reader, HNP_TEXT, &row->text_length);
    row->pair = cell(reader, HNP_PAIR, &row->pair_length);
    row->label = cell(reader, HNP_LABEL, &label_length);
    *got = true;
    if (!reader->options.turns) return HN_OK;
    const char *input = cell(reader, HNP_INPUT, &input_length);
    return hnp_turns_of_texts(reader, row, input, input_length, error);
}
