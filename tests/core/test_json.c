/* JSON from strangers: limits, places of errors, numbers, NUL, members, quoting, memory. */
#include "core/json.h"

#include <unistd.h>

#include "core/mem.h"
#include "tests/test.h"

static hn_error error;

static hn_status parse_length(const char *text, size_t length)
{
    json_t *value = NULL;
    hn_error_reset(&error);
    hn_status status = hn_json_parse(&value, text, length, "x.json", HN_JSON_LIMITS_SMALL, &error);
    json_decref(value);
    return status;
}

static hn_status parse(const char *text)
{
    return parse_length(text, strlen(text));
}

TEST(any_value)
{
    const char *good[] = {"{}",
                          "[]",
                          "1",
                          " \"a\" ",
                          "null",
                          "[1, {\"a\": [true]}]\n",
                          "\"\\u0000\"",
                          "9223372036854775807",
                          "-9223372036854775808"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) CHECK_OK(parse(good[i]));
}

TEST(errors_name_the_place)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "x.json:1:0: "},
        {"{\"a\": 1,\n \"b\": }", "x.json:2:7: "},
        {"{\"a\": 1, \"a\": 2}",
         "x.json:1:12: duplicate object key near '\"a\"' (the same key twice in one object)"},
        {"[1] 2", "(there is more text after the value)"},
        {"[1", "(the text ends too early)"},
        {"1e999", "a number must fit 64 bits"},
        {"9223372036854775808", "a number must fit 64 bits"},
        {"NaN", "x.json:1:"},
        {"[1 \x1b[31m]", "near '?'"},
        {"\"\x1b[31m\"", "control character 0x1b"},
        {"\"\xff\"", "unable to decode byte 0xff"},
        {"{\"a\\u0000\": 1}", "x.json:1:"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_INT(parse(cases[i].text), HN_ERR_FORMAT);
        CHECK_CONTAINS(error.message, cases[i].message);
        CHECK(!strchr(error.message, '\x1b'));
    }
    CHECK_INT(parse_length("[1]\0", 4), HN_ERR_FORMAT);
    CHECK_INT(parse_length("\"a\0b\"", 5), HN_ERR_FORMAT);
}

TEST(limits)
{
    json_t *value = NULL;
    hn_json_limits limits = {.bytes = 30, .depth = 3, .nodes = 7};
    hn_error_reset(&error);
    CHECK_OK(hn_json_parse(&value, "[[[1,2,3]]]", 11, "x", limits, &error));
    json_decref(value);
    CHECK_INT(hn_json_parse(&value, "[\n [[[1]]]]", 11, "x", limits, &error), HN_ERR_FORMAT);
    CHECK_TEXT(error.message, "x:2:4: arrays and objects are nested too deeply (limit 3)");
    hn_error_reset(&error);
    CHECK_INT(hn_json_parse(&value, "[[[1,2,3,4,5]]]", 15, "x", limits, &error), HN_ERR_FORMAT);
    CHECK_TEXT(error.message, "x:1:11: too many values (limit 7)");
    hn_error_reset(&error);
    CHECK_OK(hn_json_parse(&value, "\"[[[[{{,,,,,,,,:::\\\"[[[[\"", 25, "x", limits,
                           &error)); /* inside a string */
    json_decref(value);
    hn_error_reset(&error);
    CHECK_INT(hn_json_parse(&value, "\"1234567890123456789012345678901\"", 33, "x", limits, &error),
              HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "33 bytes of JSON, at most 30 are read");
}

/* Millions of tiny arrays are refused before they cost memory: no allocation was asked for. */
/* Integers beyond 64 bits are reals where that is asked for, and nothing else changes. */
TEST(large_integers)
{
    static const char text[] = "{\"a\": 1000000000000000019884624838656, \"b\": -123456789012345678901, \"c\": 1234567890123456789,"
                               " \"d\": 0.12345678901234567890123, \"e\": 1e-0000000000000000000001, \"f\": \"\\\"1234567890123456789012\","
                               " \"g\": 12345678901234567890e2, \"h\": 7}";
    static const double expected[] = {1e30, -1.2345678901234568e20, 1.2345678901234568e18, 0.12345678901234568, 0.1, 0,
                                      1.2345678901234567e21, 7};
    json_t *root = NULL;
    hn_error_reset(&error);
    CHECK_INT(hn_json_parse(&root, text, sizeof text - 1, "x", HN_JSON_LIMITS_SMALL, &error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "too big integer");
    hn_error_reset(&error);
    hn_json_limits limits = HN_JSON_LIMITS_SMALL;
    limits.large = true;
    CHECK_OK(hn_json_parse(&root, text, sizeof text - 1, "x", limits, &error));
    for (int i = 0; i < 8; i++) {
        char key[2] = {(char)('a' + i)};
        if (i != 5) CHECK_NEAR(json_number_value(json_object_get(root, key)), expected[i], 1e-15);
    }
    CHECK_TEXT(json_string_value(json_object_get(root, "f")), "\"1234567890123456789012");
    CHECK(json_is_integer(json_object_get(root, "h")));
    json_decref(root);
}

TEST(bombs_cost_nothing)
{
    enum { SIZE = 20 << 20 };
    char *text = malloc(SIZE);
    CHECK(text != NULL);
    for (size_t i = 0; i < SIZE; i++) text[i] = "[],"[i % 3];
    text[0] = '[';
    json_t *value = NULL;
    hn_error_reset(&error);
    hn_mem_fail_at(0);
    hn_status status = hn_json_parse(&value, text, SIZE, "bomb", HN_JSON_LIMITS_LARGE, &error);
    size_t asked = hn_mem_fail_at(0);
    free(text);
    CHECK_INT(status, HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "too many values");
    CHECK_INT(asked, 0);
}

TEST(truncation_at_every_byte)
{
    const char *text = "{\"a\": [1, 2.5e3, true, null, \"\\u00e9\\ud83d\\ude00\"], \"b\": {\"c\": \"d\"}}";
    for (size_t n = 0; n < strlen(text); n++) CHECK_INT(parse_length(text, n), HN_ERR_FORMAT);
    CHECK_OK(parse(text));
}

TEST(memory_runs_out)
{
    const char *text = "{\"a\": [1, 2.5, true, null, \"long enough a string\"], \"b\": {\"c\": \"d\"}}";
    size_t n = 1;
    for (;; n++) {
        hn_mem_fail_at(n);
        hn_status status = parse(text);
        hn_mem_fail_at(0);
        if (status == HN_OK) break;
        CHECK_INT(status, HN_ERR_MEMORY);
    }
    CHECK(n > 5);
}

TEST(files)
{
    char path[] = "/tmp/hone-json-XXXXXX";
    json_t *value = NULL;
    int fd = mkstemp(path);
    CHECK(fd >= 0 && write(fd, "\xef\xbb\xbf{\"a\": 1}", 11) == 11);
    close(fd);
    hn_error_reset(&error);
    CHECK_OK(hn_json_load(&value, path, HN_JSON_LIMITS_SMALL, &error));
    json_decref(value);
    CHECK_INT(hn_json_load(&value, path, (hn_json_limits){.bytes = 5, .depth = 9, .nodes = 9}, &error),
              HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, path);
    unlink(path);
}

TEST(members)
{
    json_t *object =
        json_loads("{\"i\": 7, \"f\": 8.0, \"s\": \"text\", \"z\": \"a\\u0000b\", \"n\": null, \"b\": true}",
                   JSON_ALLOW_NUL, NULL);
    int64_t i = 1;
    double d = 2;
    bool b = false;
    const char *s = "x";
    hn_error_reset(&error);
    CHECK_OK(hn_json_get_int(&i, object, "i", 0, 7, "w", &error));
    CHECK_INT(i, 7);
    CHECK_OK(hn_json_get_int(&i, object, "missing", 0, 1, "w", &error));
    CHECK_OK(hn_json_get_int(&i, object, "n", 0, 1, "w", &error));
    CHECK_INT(i, 7);
    CHECK_OK(hn_json_get_double(&d, object, "f", 0, 8, "w", &error));
    CHECK_NEAR(d, 8, 0);
    CHECK_OK(hn_json_get_double(&d, object, "i", 7, 8, "w", &error)); /* an integer is a number */
    CHECK_NEAR(d, 7, 0);
    CHECK_OK(hn_json_get_bool(&b, object, "b", "w", &error));
    CHECK(b);
    CHECK_OK(hn_json_get_string(&s, object, "s", "w", &error));
    CHECK_TEXT(s, "text");

#define REFUSED(call, part)                                                                                  \
    hn_error_reset(&error);                                                                                  \
    CHECK_INT(call, HN_ERR_FORMAT);                                                                          \
    CHECK_TEXT(error.message, part)
    REFUSED(hn_json_get_int(&i, object, "f", 0, 9, "w", &error),
            "w: \"f\": expected an integer from 0 to 9, got 8.0");
    REFUSED(hn_json_get_int(&i, object, "i", 0, 6, "w", &error),
            "w: \"i\": expected an integer from 0 to 6, got 7");
    REFUSED(hn_json_get_int(&i, object, "i", 8, 9, "w", &error),
            "w: \"i\": expected an integer from 8 to 9, got 7");
    REFUSED(hn_json_get_double(&d, object, "s", 0, 9, "w", &error),
            "w: \"s\": expected a number from 0 to 9, got the string \"text\"");
    REFUSED(hn_json_get_double(&d, object, "f", 0, 7.5, "w", &error),
            "w: \"f\": expected a number from 0 to 7.5, got 8.0");
    REFUSED(hn_json_get_bool(&b, object, "i", "w", &error), "w: \"i\": expected true or false, got 7");
    REFUSED(hn_json_get_string(&s, object, "b", "w", &error), "w: \"b\": expected a string, got true");
    REFUSED(hn_json_get_string(&s, object, "z", "w", &error),
            "w: \"z\": a NUL character stands inside the string");
    json_decref(object);
}

TEST(quoting)
{
    static const struct {
        const char *bytes;
        size_t length;
        const char *json;
    } cases[] = {
        {"plain", 5, "\"plain\""},
        {"\"\\\b\f\n\r\t\x01\x7f", 9, "\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u007f\""},
        {"a\0b", 3, "\"a\\u0000b\""},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"\xff", 1, "\"\xef\xbf\xbd\""},
        {"\xc3", 1, "\"\xef\xbf\xbd\""},                                 /* cut */
        {"\xc0\xaf", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\""},                 /* longer than needed */
        {"\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}, /* a surrogate */
        {"\xe0\x80\xaf", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}, /* longer than needed */
        {"\xf4\x90\x80\x80", 4, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}, /* above U+10FFFF */
    };
    hn_strbuf out;
    hn_strbuf_init(&out);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hn_strbuf_reset(&out);
        hn_json_quote(&out, cases[i].bytes, cases[i].length);
        CHECK_TEXT(out.text, cases[i].json);
        CHECK_OK(parse(out.text));
    }
    hn_strbuf_close(&out);
}

TEST(numbers_are_short_and_exact)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0.06, "0.06"},
                 {1, "1.0"},
                 {-0.0, "-0.0"},
                 {1e-4, "0.0001"},
                 {1e300, "1e+300"},
                 {1.0 / 3, "0.3333333333333333"},
                 {0.1 + 0.2, "0.30000000000000004"},
                 {5e-324, "4.94065645841247e-324"}};
    char text[HN_NUMBER_TEXT];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hn_number_format(text, cases[i].value);
        CHECK_TEXT(text, cases[i].text);
        CHECK(strtod(text, NULL) == cases[i].value);
    }
}

TEST(writing)
{
    const char *text =
        "{\"a\": [1, 2.5, {\"b\": []}], \"c\": {\"d\": null, \"e\": true}, \"f\": {}, \"g\": \"\\u0000\\n\"}";
    json_t *value = NULL;
    hn_strbuf out;
    hn_strbuf_init(&out);
    hn_error_reset(&error);
    CHECK_OK(hn_json_parse(&value, text, strlen(text), "x", HN_JSON_LIMITS_SMALL, &error));
    hn_json_write(&out, value, 0);
    CHECK_TEXT(out.text, text);
    hn_strbuf_reset(&out);
    hn_json_write(&out, value, 2);
    CHECK_TEXT(out.text, "{\n  \"a\": [1, 2.5, {\"b\": []}],\n  \"c\": {\n    \"d\": null,\n    \"e\": "
                         "true\n  },\n  \"f\": {},\n"
                         "  \"g\": \"\\u0000\\n\"\n}");
    hn_strbuf_close(&out);
    json_decref(value);
}

TEST(utf8)
{
    CHECK(hn_utf8_valid("", 0));
    CHECK(hn_utf8_valid("a\xc3\xa9\0\xf0\x9f\x98\x80", 8));
    CHECK(!hn_utf8_valid("a\xc3", 2));
    CHECK(!hn_utf8_valid("a\xc3\xa9", 2));
    CHECK(!hn_utf8_valid("\x80", 1));
}

TEST_MAIN(hn_json_init(); RUN(any_value); RUN(errors_name_the_place); RUN(limits); RUN(large_integers); RUN(bombs_cost_nothing);
          RUN(truncation_at_every_byte); RUN(memory_runs_out); RUN(files); RUN(members); RUN(quoting);
          RUN(numbers_are_short_and_exact); RUN(writing); RUN(utf8))
