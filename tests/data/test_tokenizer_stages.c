/* Normalizers and pre-tokenizers by hand, one at a time: a WordPiece of single characters shows where words begin, as all others of
 * a word have "##" before them. The behaviors of Split are the reference's own examples. */
#include "core/json.h"
#include "core/strbuf.h"
#include "data/tokenizer.h"
#include "tests/test.h"

#define E_ACUTE "\xc3\xa9"
#define SPLIT(behavior) "{\"type\": \"Split\", \"pattern\": {\"String\": \"-\"}, \"behavior\": \"" behavior "\", \"invert\": false}"
#define INVERTED(behavior) "{\"type\": \"Split\", \"pattern\": {\"String\": \"-\"}, \"behavior\": \"" behavior "\", \"invert\": true}"
#define REPLACE(pattern) "{\"type\": \"Replace\", \"pattern\": {" pattern "}, \"content\": \"-\"}"

static const struct {
    const char *normalizer, *pre_tokenizer, *text, *expected;
} cases[] = {
    {"null", "null", "ab", "a ##b"},
    {"{\"type\": \"Lowercase\"}", "null", "AZa", "a ##z ##a"},
    {"{\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": true}", "null", " \ta ", "a"},
    {"{\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": false}", "null", " a_", "a ##_"},
    {"{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Strip\", \"strip_left\": false, \"strip_right\": true}, "
     "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"_\"}]}", "null", " a ", "_ ##a"},
    {"{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": false}, "
     "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"_\"}]}", "null", " a ", "a ##_"},
    {"{\"type\": \"StripAccents\"}", "null", "a\xcc\x81\xe0\xa4\x83z", "a ##z"}, /* nonspacing, and spacing */
    {"{\"type\": \"Prepend\", \"prepend\": \"_\"}", "null", "a", "_ ##a"},
    {"{\"type\": \"Prepend\", \"prepend\": \"_\"}", "null", "", ""},
    {REPLACE("\"String\": \"b\""), "null", "abba", "a ##- ##- ##a"},
    {REPLACE("\"String\": \"bb\""), "null", "abbba", "a ##- ##b ##a"},
    {REPLACE("\"Regex\": \"b+\""), "null", "abbba", "a ##- ##a"},
    {REPLACE("\"Regex\": \"b*\""), "null", E_ACUTE "a", "- ##" E_ACUTE " ##- ##a ##-"},
    {"null", SPLIT("Removed"), "a--b", "a b"},
    {"null", SPLIT("Isolated"), "a--b", "a - - b"},
    {"null", SPLIT("MergedWithPrevious"), "a--b", "a ##- - b"},
    {"null", SPLIT("MergedWithNext"), "a--b", "a - - ##b"},
    {"null", SPLIT("Contiguous"), "a--b", "a - ##- b"},
    {"null", INVERTED("Removed"), "a--b", "- -"},
    {"null", INVERTED("Contiguous"), "a--b", "a - ##- b"},
    {"null", "{\"type\": \"Digits\", \"individual_digits\": false}", "a12b", "a 1 ##2 b"},
    {"null", "{\"type\": \"Digits\", \"individual_digits\": true}", "a12b", "a 1 2 b"},
    {"null", "{\"type\": \"Punctuation\"}", "a--b", "a - - b"},
    {"null", "{\"type\": \"WhitespaceSplit\"}", "a \t b-", "a b ##-"},
    {"null", "{\"type\": \"Whitespace\"}", " ab -- 1a", "a ##b - ##- 1 ##a"},
    {"null", "{\"type\": \"BertPreTokenizer\"}", "ab--1a", "a ##b - - 1 ##a"},
};

/* The tokens of the text, with blanks between; an error's message. */
static const char *tokens_of(const char *normalizer, const char *pre_tokenizer, const char *text)
{
    static const char *const characters[] = {"a", "b", "z", "-", "_", "1", "2", " ", E_ACUTE};
    static char out[200];
    hn_strbuf json;
    hn_tokenizer *tokenizer = NULL;
    hn_encoding encoding;
    hn_error error = {0};
    size_t used = 0;
    hn_strbuf_init(&json);
    hn_encoding_init(&encoding);
    hn_strbuf_puts(&json, "{\"model\": {\"type\": \"WordPiece\", \"unk_token\": \"?\", \"vocab\": {\"?\": 0");
    for (int i = 0; i < 9; i++) hn_strbuf_printf(&json, ", \"%s\": %d, \"##%s\": %d", characters[i], 2 * i + 1, characters[i], 2 * i + 2);
    hn_strbuf_printf(&json, "}}, \"normalizer\": %s, \"pre_tokenizer\": %s}", normalizer, pre_tokenizer);
    out[0] = '\0';
    if (hn_tokenizer_open_json(&tokenizer, json.text, json.length, "toy", &error) ||
        hn_tokenizer_encode(tokenizer, &encoding, text, strlen(text), NULL, 0, false, 0, &error))
        snprintf(out, sizeof out, "%.190s", error.message);
    for (int32_t i = 0; !error.status && i < encoding.count; i++)
        used += (size_t)snprintf(out + used, sizeof out - used, "%s%s", i ? " " : "", hn_tokenizer_token(tokenizer, encoding.ids[i]));
    hn_encoding_close(&encoding);
    hn_tokenizer_free(tokenizer);
    hn_strbuf_close(&json);
    return out;
}

TEST(one_at_a_time)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *got = tokens_of(cases[i].normalizer, cases[i].pre_tokenizer, cases[i].text);
        if (strcmp(got, cases[i].expected)) {
            fprintf(stderr, "case %zu: got \"%s\", expected \"%s\"\n", i, got, cases[i].expected);
            test_failures++;
        }
    }
}

TEST_MAIN(hn_json_init(); RUN(one_at_a_time))
