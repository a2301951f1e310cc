/* jansson does the parsing; this file keeps strangers from hurting through it. jansson builds a tree of small
 * allocations, so a text of n bytes can cost 50 n of memory, and it only knows one limit (depth 2048). So the
 * text is first scanned once, without memory: a JSON text has no more values than brackets, commas and colons
 * outside of strings, plus one. What passes the scan may still be no JSON at all; jansson says so.
 *
 * jansson reports an allocation that failed inside a string as an invalid token, so that its allocator here
 * notes the failure (per thread) and the note decides what the error is called. */
#include "core/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"

static _Thread_local bool out_of_memory;

static void *json_allocate(size_t size)
{
    void *memory = hn_malloc(size);
    if (!memory) out_of_memory = true;
    return memory;
}

void hn_json_init(void)
{
    json_set_alloc_funcs(json_allocate, hn_free);
    json_object_seed(0); /* now, so that threads that parse do not race for it */
}

typedef struct place {
    size_t line, column;
} place;

/* Line and column (in bytes, from 1) of an offset. */
static place place_of(const char *text, size_t offset)
{
    place at = {1, 1};
    for (size_t i = 0; i < offset; i++) {
        at.column++;
        if (text[i] == '\n') at = (place){at.line + 1, 1};
    }
    return at;
}

static hn_status refuse(const char *name, const char *text, size_t offset, const char *what, size_t limit,
                        hn_error *error)
{
    place at = place_of(text, offset);
    return hn_fail(error, HN_ERR_FORMAT, "%s:%zu:%zu: %s (limit %zu)", name, at.line, at.column, what, limit);
}

/* Offset of the quote that ends the string which starts behind `i`, or `length`. */
static size_t string_end(const char *text, size_t length, size_t i)
{
    while (i < length && text[i] != '"') i += text[i] == '\\' ? 2 : 1;
    return i < length ? i : length;
}

static hn_status scan(const char *text, size_t length, const char *name, hn_json_limits limits,
                      hn_error *error)
{
    size_t depth = 0, nodes = 1;
    for (size_t i = 0; i < length; i++) {
        switch (text[i]) {
        case '"': i = string_end(text, length, i + 1); continue;
        case '{':
        case '[':
            if (++depth > limits.depth)
                return refuse(name, text, i, "arrays and objects are nested too deeply", limits.depth, error);
            break;
        case '}':
        case ']':
            if (depth) depth--;
            continue;
        case ',':
        case ':': break;
        default: continue;
        }
        if (++nodes > limits.nodes) return refuse(name, text, i, "too many values", limits.nodes, error);
    }
    return HN_OK;
}

/* jansson quotes the text near the error; bytes that could drive a terminal are masked. */
static void mask(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) *text = '?';
}

static const char *explain(const json_error_t *problem)
{
    switch (json_error_code(problem)) {
    case json_error_invalid_utf8: return " (not UTF-8)";
    case json_error_duplicate_key: return " (the same key twice in one object)";
    case json_error_numeric_overflow:
        return " (a number must fit 64 bits: integers below 2^63, others below 1.8e308)";
    case json_error_end_of_input_expected: return " (there is more text after the value)";
    case json_error_premature_end_of_input: return " (the text ends too early)";
    default: return "";
    }
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The text with ".0" behind integers that may not fit 64 bits. */
static void widen(hn_strbuf *out, const char *text, size_t length)
{
    bool string = false;
    for (size_t i = 0; i < length;) {
        size_t start = i, digits = 0;
        if (!string && is_digit(text[i])) {
            while (i < length && is_digit(text[i])) i++;
            digits = i - start;
        } else {
            if (text[i] == '"') string = !string;
            i += text[i] == '\\' && i + 1 < length ? 2 : 1;
        }
        hn_strbuf_add(out, text + start, i - start);
        size_t sign = start && strchr("+-", text[start - 1]) ? 2 : 1;
        bool part = start >= sign && strchr(".eE", text[start - sign]); /* of a real */
        if (digits > 18 && !part && (i == length || !strchr(".eE", text[i]))) hn_strbuf_puts(out, ".0");
    }
}

static hn_status parse(json_t **out, const char *text, size_t length, const char *name, hn_error *error)
{
    json_error_t problem;
    out_of_memory = false;
    json_t *value =
        json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &problem);
    if (value) {
        *out = value;
        return HN_OK;
    }
    if (out_of_memory || json_error_code(&problem) == json_error_out_of_memory)
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory while reading JSON of %zu bytes", name,
                       length);
    mask(problem.text);
    return hn_fail(error, HN_ERR_FORMAT, "%s:%d:%d: %s%s", name, problem.line, problem.column, problem.text,
                   explain(&problem));
}

hn_status hn_json_parse(json_t **out, const char *text, size_t length, const char *name,
                        hn_json_limits limits, hn_error *error)
{
    if (length > limits.bytes)
        return hn_fail(error, HN_ERR_FORMAT, "%s: %zu bytes of JSON, at most %zu are read", name, length,
                       limits.bytes);
    hn_status status = scan(text, length, name, limits, error);
    if (status != HN_OK || !limits.large) return status == HN_OK ? parse(out, text, length, name, error) : status;
    hn_strbuf wide;
    hn_strbuf_init(&wide);
    widen(&wide, text, length);
    if (wide.failed)
        status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory while reading JSON of %zu bytes", name, length);
    else
        status = parse(out, wide.text, wide.length, name, error);
    hn_strbuf_close(&wide);
    return status;
}

hn_status hn_json_load(json_t **out, const char *path, hn_json_limits limits, hn_error *error)
{
    char *text = NULL;
    size_t size, skip;
    hn_status status = hn_file_read(&text, &size, path, limits.bytes, error);
    if (status != HN_OK) return status;
    skip = size >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)
               ? 3
               : 0; /* a byte order mark, as Windows editors write it */
    status = hn_json_parse(out, text + skip, size - skip, path, limits, error);
    hn_free(text);
    return status;
}

/* Length of the UTF-8 sequence at `s` (RFC 3629: shortest form, no surrogates, up to U+10FFFF), or 0. */
static size_t utf8_length(const unsigned char *s, size_t left)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    if (!n || n > left) return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)) return 0;
    if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
    return n;
}

bool hn_utf8_valid(const char *text, size_t length)
{
    for (size_t i = 0, n; i < length; i += n) {
        n = utf8_length((const unsigned char *)text + i, length - i);
        if (!n) return false;
    }
    return true;
}

void hn_json_quote(hn_strbuf *out, const char *text, size_t length)
{
    static const char names[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    hn_strbuf_putc(out, '"');
    for (size_t i = 0; i < length;) {
        const char *special = text[i] ? strchr(names, text[i]) : NULL;
        size_t n = utf8_length((const unsigned char *)text + i, length - i);
        if (special) {
            hn_strbuf_putc(out, '\\');
            hn_strbuf_putc(out, letters[special - names]);
        } else if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            hn_strbuf_printf(out, "\\u%04x", (unsigned)text[i]);
        } else if (n) {
            hn_strbuf_add(out, text + i, n);
        } else {
            hn_strbuf_puts(out, "\xef\xbf\xbd");
        }
        i += n ? n : 1;
    }
    hn_strbuf_putc(out, '"');
}

void hn_number_format(char text[HN_NUMBER_TEXT], double value)
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, HN_NUMBER_TEXT, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    if (text[strspn(text, "-0123456789")] == '\0') strcat(text, ".0");
}

static void line(hn_strbuf *out, int indent, int level)
{
    if (!indent) return;
    hn_strbuf_printf(out, "\n%*s", indent * level, "");
}

static void write_value(hn_strbuf *out, const json_t *value, int indent, int level)
{
    char number[HN_NUMBER_TEXT];
    const char *key;
    json_t *item, *open = (json_t *)(uintptr_t)value; /* jansson's iterators take no const */
    size_t i;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        hn_strbuf_putc(out, '{');
        json_object_foreach(open, key, item)
        {
            if (json_object_iter(open) != json_object_key_to_iter(key))
                hn_strbuf_puts(out, indent ? "," : ", ");
            line(out, indent, level + 1);
            hn_json_quote(out, key, strlen(key));
            hn_strbuf_puts(out, ": ");
            write_value(out, item, indent, level + 1);
        }
        if (json_object_size(value)) line(out, indent, level);
        hn_strbuf_putc(out, '}');
        break;
    case JSON_ARRAY: /* always one line */
        hn_strbuf_putc(out, '[');
        json_array_foreach(value, i, item)
        {
            if (i) hn_strbuf_puts(out, ", ");
            write_value(out, item, 0, 0);
        }
        hn_strbuf_putc(out, ']');
        break;
    case JSON_STRING: hn_json_quote(out, json_string_value(value), json_string_length(value)); break;
    case JSON_INTEGER: hn_strbuf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value)); break;
    case JSON_REAL:
        hn_number_format(number, json_real_value(value));
        hn_strbuf_puts(out, number);
        break;
    default: hn_strbuf_puts(out, json_is_true(value) ? "true" : json_is_false(value) ? "false" : "null");
    }
}

void hn_json_write(hn_strbuf *out, const json_t *value, int indent)
{
    write_value(out, value, indent, 0);
}

hn_json_shown hn_json_show(const json_t *value)
{
    hn_json_shown s;
    switch (json_typeof(value)) {
    case JSON_OBJECT: snprintf(s.text, sizeof s.text, "an object"); break;
    case JSON_ARRAY: snprintf(s.text, sizeof s.text, "an array"); break;
    case JSON_STRING:
        snprintf(s.text, sizeof s.text, "the string \"%.40s\"", json_string_value(value));
        mask(s.text);
        break;
    case JSON_INTEGER:
        snprintf(s.text, sizeof s.text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_REAL: hn_number_format(s.text, json_real_value(value)); break;
    default:
        snprintf(s.text, sizeof s.text, "%s",
                 json_is_true(value)    ? "true"
                 : json_is_false(value) ? "false"
                                        : "null");
    }
    return s;
}

/* The member, or NULL when it is missing or null. */
static const json_t *member(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

hn_status hn_json_get_int(int64_t *out, const json_t *object, const char *key, int64_t min, int64_t max,
                          const char *where, hn_error *error)
{
    const json_t *value = member(object, key);
    if (!value) return HN_OK;
    if (!json_is_integer(value) || json_integer_value(value) < min || json_integer_value(value) > max)
        return hn_fail(error, HN_ERR_FORMAT, "%s: \"%s\": expected an integer from %lld to %lld, got %s",
                       where, key, (long long)min, (long long)max, hn_json_show(value).text);
    *out = json_integer_value(value);
    return HN_OK;
}

hn_status hn_json_get_double(double *out, const json_t *object, const char *key, double min, double max,
                             const char *where, hn_error *error)
{
    const json_t *value = member(object, key);
    if (!value) return HN_OK;
    double number = json_number_value(value);
    if (!json_is_number(value) || !(number >= min && number <= max))
        return hn_fail(error, HN_ERR_FORMAT, "%s: \"%s\": expected a number from %g to %g, got %s", where,
                       key, min, max, hn_json_show(value).text);
    *out = number;
    return HN_OK;
}

hn_status hn_json_get_bool(bool *out, const json_t *object, const char *key, const char *where,
                           hn_error *error)
{
    const json_t *value = member(object, key);
    if (!value) return HN_OK;
    if (!json_is_boolean(value))
        return hn_fail(error, HN_ERR_FORMAT, "%s: \"%s\": expected true or false, got %s", where, key,
                       hn_json_show(value).text);
    *out = json_is_true(value);
    return HN_OK;
}

hn_status hn_json_get_string(const char **out, const json_t *object, const char *key, const char *where,
                             hn_error *error)
{
    const json_t *value = member(object, key);
    if (!value) return HN_OK;
    if (!json_is_string(value))
        return hn_fail(error, HN_ERR_FORMAT, "%s: \"%s\": expected a string, got %s", where, key,
                       hn_json_show(value).text);
    if (strlen(json_string_value(value)) != json_string_length(value))
        return hn_fail(error, HN_ERR_FORMAT, "%s: \"%s\": a NUL character stands inside the string", where,
                       key);
    *out = json_string_value(value);
    return HN_OK;
}
