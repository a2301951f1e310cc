/* JSON from strangers. A text is scanned for size, depth and number of nodes before jansson sees it (20 MiB of "[[],[],..."
 * would otherwise take a gigabyte); duplicate keys, NaN and bytes after the value are errors. Errors name the file, and the
 * line and column. */
#ifndef HONE_CORE_JSON_H
#define HONE_CORE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/strbuf.h"

typedef struct hn_json_limits {
    size_t bytes, depth, nodes;
    bool large; /* integers beyond 64 bits are read as reals (else an error): tokenizers' files hold 10^30 for "no limit" */
} hn_json_limits;

/* What fits a config, a manifest or one row of data; tokenizers and safetensors headers give their own. */
#define HN_JSON_LIMITS_SMALL ((hn_json_limits){.bytes = 4u << 20, .depth = 64, .nodes = 200000})
#define HN_JSON_LIMITS_LARGE ((hn_json_limits){.bytes = 64u << 20, .depth = 64, .nodes = 4000000})

/* The whole text must be one JSON value. `name` is what errors call it. On success the caller owns *out (json_decref). A
 * string value may hold NUL characters: compare strlen with json_string_length where that matters. load reads a file and
 * passes over a byte order mark. */
hn_status hn_json_parse(json_t **out, const char *text, size_t length, const char *name, hn_json_limits limits,
                        hn_error *error);
hn_status hn_json_load(json_t **out, const char *path, hn_json_limits limits, hn_error *error);

/* Appends `text` as a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
void hn_json_quote(hn_strbuf *out, const char *text, size_t length);

/* Appends a value as JSON: `indent` spaces a level, or 0 for one line. Numbers are the shortest text that reads back as the
 * same number (0.06, not 0.059999999999999998). */
void hn_json_write(hn_strbuf *out, const json_t *value, int indent);
/* That text of a finite number; whole numbers keep a ".0". */
#define HN_NUMBER_TEXT 32
void hn_number_format(char text[HN_NUMBER_TEXT], double value);

bool hn_utf8_valid(const char *text, size_t length);

/* Members of an object, checked. `where` is the file or object that errors name. A missing or null member leaves *out as it
 * is and returns HN_OK, so that defaults stand before the call; a member of another type or out of range is an error. */
hn_status hn_json_get_int(int64_t *out, const json_t *object, const char *key, int64_t min, int64_t max,
                          const char *where, hn_error *error);
hn_status hn_json_get_double(double *out, const json_t *object, const char *key, double min, double max,
                             const char *where, hn_error *error);
hn_status hn_json_get_bool(bool *out, const json_t *object, const char *key, const char *where, hn_error *error);
/* Borrowed from `object`. A NUL inside the string is an error. */
hn_status hn_json_get_string(const char **out, const json_t *object, const char *key, const char *where,
                             hn_error *error);

/* A value as the "got" of an error message: `the string "abc..."`, `8.0`, `an array`. */
typedef struct hn_json_shown {
    char text[64];
} hn_json_shown;
hn_json_shown hn_json_show(const json_t *value);

/* jansson's allocator is set to hn_malloc/hn_free, so that tests can fail its allocations too. Call once at start. */
void hn_json_init(void);

#endif
