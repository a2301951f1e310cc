/* Ids, types and decoded texts of tricky inputs against tests/golden/tokenizer (made by make_tokenizer.py
 * with the reference implementation over small tokenizers of our own writing). */
#include <jansson.h>

#include "core/file.h"
#include "core/json.h"
#include "data/tokenizer.h"
#include "tests/test.h"

#define FOLDER "tests/golden/tokenizer/"

static hn_tokenizer *tokenizer; /* the last one opened, and its name */
static char opened[32];

static bool choose(const char *name, hn_error *error)
{
    char path[128], *bytes = NULL;
    size_t size;
    if (!strcmp(name, opened)) return tokenizer != NULL;
    hn_tokenizer_free(tokenizer);
    tokenizer = NULL;
    snprintf(opened, sizeof opened, "%s", name);
    snprintf(path, sizeof path, FOLDER "%s.json", name);
    if (!hn_file_read(&bytes, &size, path, 1 << 20, error))
        hn_tokenizer_open_json(&tokenizer, bytes, size, path, error);
    free(bytes);
    return tokenizer != NULL;
}

static bool same(const json_t *expected, const int32_t *got, int32_t count)
{
    if (!expected) return true;
    if (json_array_size(expected) != (size_t)count) return false;
    for (int32_t i = 0; i < count; i++)
        if (json_integer_value(json_array_get(expected, (size_t)i)) != got[i]) return false;
    return true;
}

static bool check(const json_t *row, hn_encoding *encoding, hn_strbuf *decoded, hn_error *error)
{
    const json_t *text = json_object_get(row, "text"), *pair = json_object_get(row, "pair");
    const json_t *wanted = json_object_get(row, "decoded");
    if (!choose(json_string_value(json_object_get(row, "tokenizer")), error)) return false;
    if (hn_tokenizer_encode(tokenizer, encoding, json_string_value(text), json_string_length(text),
                            json_string_value(pair), json_string_length(pair),
                            !json_object_get(row, "special"),
                            (int32_t)json_integer_value(json_object_get(row, "max_tokens")), error))
        return false;
    hn_strbuf_reset(decoded);
    if (hn_tokenizer_decode(tokenizer, decoded, encoding->ids, (size_t)encoding->count, true, error))
        return false;
    return same(json_object_get(row, "ids"), encoding->ids, encoding->count) &&
           same(json_object_get(row, "types"), encoding->types, encoding->count) &&
           decoded->length == json_string_length(wanted) &&
           !memcmp(decoded->text, json_string_value(wanted), decoded->length);
}

TEST(agrees_with_the_reference)
{
    FILE *file = fopen(FOLDER "cases.jsonl", "r");
    char *line = NULL;
    size_t capacity = 0;
    int rows = 0, wrong = 0;
    hn_encoding encoding;
    hn_strbuf decoded;
    CHECK(file != NULL);
    hn_encoding_init(&encoding);
    hn_strbuf_init(&decoded);
    while (getline(&line, &capacity, file) > 0) {
        hn_error error = {0};
        json_t *row = json_loads(line, JSON_ALLOW_NUL, NULL);
        rows++;
        if (!row || !check(row, &encoding, &decoded, &error)) {
            wrong++;
            fprintf(stderr, "row %d: %s%s, decoded \"%s\"\n", rows, line, error.message, decoded.text);
        }
        json_decref(row);
    }
    fclose(file);
    free(line);
    hn_encoding_close(&encoding);
    hn_strbuf_close(&decoded);
    hn_tokenizer_free(tokenizer);
    CHECK_INT(wrong, 0);
    CHECK(rows > 2000);
}

TEST_MAIN(hn_json_init(); RUN(agrees_with_the_reference))
