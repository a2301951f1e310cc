/* Rows out of JSONL and out of a JSON array (see readers.h).
 *
 * A line of JSONL is handed to the JSON parser as it is. An array is cut into its elements by a scanner that
 * knows only strings and brackets, so that one element at a time is parsed and kept: the array itself is
 * never in memory. An element whose brackets pair up and which is no JSON all the same is one bad row; the
 * scanner goes on behind it. A file that ends inside the array is a bad row too: the rows before it are good.
 */
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "core/mem.h"
#include "data/readers.h"

static const hn_json_limits row_limits = {.bytes = (size_t)16 << 20, .depth = 64, .nodes = 200000};
static const char *const type_names[] = {"an object", "an array", "a string", "a number",
                                         "a number",  "true",     "false",    "null"};

hn_status hnp_json_bad(hn_reader *reader, const json_t *object, const char *name, const char *expected, hn_error *error)
{
    json_t *value = json_object_get(object, name);
    if (value)
        return hnp_row_bad(reader, HN_BAD_TYPE, error, "field \"%s\": expected %s, got %s", name, expected,
                           type_names[json_typeof(value)]);
    const char *first = json_object_iter_key(json_object_iter((json_t *)object));
    const char *what = object == reader->value ? "the row" : "it";
    return hnp_row_bad(reader, HN_BAD_MISSING, error, "field \"%s\": expected %s, got no such field%s%s%s%s%s", name, expected,
                       first ? " (" : "", first ? what : "", first ? " has \"" : "", first ? first : "", first ? "\", ...)" : "");
}

hn_status hnp_json_text(hn_reader *reader, const json_t *object, const char *name, bool label, const char **text, size_t *length,
                        hn_error *error)
{
    json_t *value = json_object_get(object, name);
    *text = NULL;
    if (label && json_is_integer(value)) {
        snprintf(reader->number, sizeof reader->number, "%lld", (long long)json_integer_value(value));
        *text = reader->number;
    } else if (label && json_is_real(value)) {
        snprintf(reader->number, sizeof reader->number, "%.17g", json_real_value(value));
        *text = reader->number;
    } else if (!json_is_string(value)) {
        return hnp_json_bad(reader, object, name, label ? "a string or a number" : "a string", error);
    } else if (memchr(json_string_value(value), 0, json_string_length(value))) {
        return hnp_row_bad(reader, HN_BAD_NUL, error, "field \"%s\": expected text, got a NUL in it", name);
    } else {
        *text = json_string_value(value);
        *length = json_string_length(value);
    }
    return HN_OK;
}

/* One of the reader's fields. */
static hn_status member(hn_reader *reader, int field, const char **text, size_t *length, hn_error *error)
{
    return hnp_json_text(reader, reader->value, reader->field[field], field == HNP_LABEL, text, length, error);
}

/* The row in `raw`, parsed and taken apart. */
static hn_status take_row(hn_reader *reader, hn_row *row, bool *got, hn_error *error)
{
    json_decref(reader->value);
    reader->value = NULL;
    hn_error problem = {0};
    hn_status status =
        hn_json_parse(&reader->value, reader->raw.text, reader->raw.length, "row", row_limits, &problem);
    if (status == HN_ERR_MEMORY)
        return hn_fail(error, status, "%s:%lld: %s", hnp_reader_path(reader), (long long)reader->line,
                       problem.message);
    if (status)
        return hnp_row_bad(reader, HN_BAD_SYNTAX, error, "expected a JSON object, got: %s", problem.message);
    if (!json_is_object(reader->value))
        return hnp_row_bad(reader, HN_BAD_SYNTAX, error, "expected a JSON object, got %s",
                           type_names[json_typeof(reader->value)]);
    if (reader->options.questions) return hnp_question_of_json(reader, row, got, error);
    if (reader->options.words) return hnp_words_of_json(reader, row, got, error);
    if (reader->options.turns) return hnp_turns_of_json(reader, row, got, error);
    status = member(reader, HNP_TEXT, &row->text, &row->text_length, error);
    if (status || !row->text) return status;
    if (reader->field[HNP_PAIR]) {
        status = member(reader, HNP_PAIR, &row->pair, &row->pair_length, error);
        if (status || !row->pair) return status;
    }
    if (reader->field[HNP_LABEL] && (!reader->options.label_optional || json_object_get(reader->value, reader->field[HNP_LABEL]))) {
        size_t length;
        status = member(reader, HNP_LABEL, &row->label, &length, error);
        if (status || !row->label) return status;
    }
    *got = true;
    return HN_OK;
}

static hn_status check_and_take(hn_reader *reader, hn_row *row, bool too_long, bool *got, hn_error *error)
{
    bool good;
    hn_status status = hnp_row_check(reader, too_long, &good, error);
    if (status || !good) return status;
    if (memchr(reader->raw.text, 0, reader->raw.length))
        return hnp_row_bad(reader, HN_BAD_NUL, error, "expected JSON, got a NUL byte");
    return take_row(reader, row, got, error);
}

static bool is_blank(const hn_strbuf *line)
{
    return strspn(line->text, " \t\r") == line->length;
}

hn_status hnp_jsonl_next(hn_reader *reader, hn_row *row, bool *got, bool *end, hn_error *error)
{
    bool too_long;
    do {
        reader->line = reader->bytes.line;
        if (!hnp_bytes_line(&reader->bytes, &reader->raw, &too_long)) {
            *end = true;
            return reader->bytes.status;
        }
    } while (is_blank(&reader->raw));
    return check_and_take(reader, row, too_long, got, error);
}

static int skip_space(hnp_bytes *bytes)
{
    int c;
    while ((c = hnp_bytes_peek(bytes)) == ' ' || c == '\t' || c == '\n' || c == '\r') hnp_bytes_next(bytes);
    return c;
}

/* One element into `raw`, up to the comma or bracket behind it. false: the file ended inside it. */
static bool scan_element(hn_reader *reader, bool *too_long)
{
    hnp_bytes *bytes = &reader->bytes;
    size_t depth = 0, length = 0;
    bool in_string = false, escaped = false;
    hn_strbuf_reset(&reader->raw);
    for (;;) {
        int c = hnp_bytes_peek(bytes);
        if (c < 0) return false;
        if (in_string) {
            if (escaped)
                escaped = false;
            else if (c == '\\')
                escaped = true;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (!depth && (c == ',' || c == ']' || c == '}')) {
            *too_long = length > HN_ROW_BYTES;
            return true;
        } else if (c == '}' || c == ']') {
            depth--;
        }
        hnp_bytes_next(bytes);
        if (length++ < HN_ROW_BYTES) hn_strbuf_putc(&reader->raw, (char)c);
    }
}

/* Opens the array. *end: an empty file. */
static hn_status array_begin(hn_reader *reader, bool *end, hn_error *error)
{
    int c = skip_space(&reader->bytes);
    *end = c < 0;
    if (c < 0) return reader->bytes.status;
    if (c != '[')
        return hn_fail(
            error, HN_ERR_FORMAT, "%s:%lld: expected a JSON array, got '%c' (JSON lines? data.format=jsonl)",
            hnp_reader_path(reader), (long long)reader->bytes.line, c >= 0x20 && c < 0x7f ? c : '?');
    hnp_bytes_next(&reader->bytes);
    reader->array_open = true;
    if (skip_space(&reader->bytes) == ']') {
        hnp_bytes_next(&reader->bytes);
        reader->array_end = true;
    }
    return HN_OK;
}

/* Behind the closing bracket there may be white space. */
static hn_status array_finish(hn_reader *reader, bool *end, hn_error *error)
{
    if (skip_space(&reader->bytes) < 0) {
        *end = true;
        return reader->bytes.status;
    }
    reader->line = reader->bytes.line;
    while (hnp_bytes_next(&reader->bytes) >= 0) {
    }
    return hnp_row_bad(reader, HN_BAD_SYNTAX, error,
                       "expected the end of the file behind the array, got more");
}

hn_status hnp_json_next(hn_reader *reader, hn_row *row, bool *got, bool *end, hn_error *error)
{
    hnp_bytes *bytes = &reader->bytes;
    if (!reader->array_open) {
        hn_status status = array_begin(reader, end, error);
        if (status || *end) return status;
    }
    if (reader->array_end) return array_finish(reader, end, error);
    bool too_long = false;
    skip_space(bytes);
    reader->line = bytes->line;
    bool whole = scan_element(reader, &too_long);
    if (reader->raw.failed)
        return hn_fail(error, HN_ERR_MEMORY, "%s:%lld: out of memory", hnp_reader_path(reader),
                       (long long)reader->line);
    if (bytes->status) return bytes->status;
    reader->array_end = !whole;
    if (!whole)
        return hnp_row_bad(reader, HN_BAD_SYNTAX, error,
                           "expected the array's closing bracket, got the end of the file");
    reader->array_end = hnp_bytes_next(bytes) == ']';
    return check_and_take(reader, row, too_long, got, error);
}
