/* Text that is given out while its tokens come: whatever the tokens, the pieces are UTF-8 and together what decoding the whole
 * gives; stop strings end it wherever they fall. */
#include "infer/text_stream.h"

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "core/philox.h"
#include "tests/test.h"

#define GOLDEN "tests/golden/tokenizer/"

static hn_tokenizer *tokenizer_of(const char *name)
{
    char path[128], *text = NULL;
    size_t size;
    hn_tokenizer *tokenizer = NULL;
    snprintf(path, sizeof path, GOLDEN "%s.json", name);
    if (hn_file_read(&text, &size, path, SIZE_MAX, NULL) || hn_tokenizer_open_json(&tokenizer, text, size, path, NULL)) abort();
    hn_free(text);
    return tokenizer;
}

/* Appends what may be given out; a piece that is no UTF-8 ends the program. */
static void take(hn_text_stream *stream, hn_strbuf *out)
{
    size_t length;
    const char *text = hn_text_stream_take(stream, &length);
    if (!hn_utf8_valid(text, length)) abort();
    hn_strbuf_add(out, text, length);
}

/* The pieces of an answer; *early: how much came before the end was known. */
static hn_status pieces(hn_strbuf *out, size_t *early, hn_text_stream *stream, const int32_t *ids, size_t context, size_t count,
                        hn_error *error)
{
    hn_strbuf_reset(out);
    hn_status status = hn_text_stream_begin(stream, ids, context, error);
    for (size_t i = context; status == HN_OK && i < count && !stream->stopped; i++) {
        status = hn_text_stream_add(stream, ids[i], error);
        if (status == HN_OK) take(stream, out);
    }
    *early = out->length;
    hn_text_stream_end(stream);
    if (status == HN_OK) take(stream, out);
    return status;
}

/* Random tokens, among them many of single bytes. */
static void random_ids(int32_t *ids, size_t count, uint32_t run, const hn_tokenizer *tokenizer, uint32_t low)
{
    uint32_t vocabulary = (uint32_t)hn_tokenizer_vocabulary(tokenizer);
    for (size_t i = 0; i < count; i++) {
        uint32_t word = hn_philox(9, run, 0, (uint32_t)i, 0).word[0];
        ids[i] = (int32_t)((word & 1) ? word / 2 % vocabulary : word / 2 % low);
        if (!hn_tokenizer_token(tokenizer, ids[i])) ids[i] = 0;
    }
}

TEST(pieces_are_the_whole)
{
    static const char *const names[] = {"bytes", "fallback", "llama3", "metaspace"};
    for (int n = 0; n < 4; n++) {
        hn_tokenizer *tokenizer = tokenizer_of(names[n]);
        hn_text_stream stream;
        hn_strbuf out, whole, before;
        hn_error error = {0};
        size_t early, total = 0, total_early = 0;
        hn_text_stream_init(&stream, tokenizer, NULL, 0);
        hn_strbuf_init(&out), hn_strbuf_init(&whole), hn_strbuf_init(&before);
        for (uint32_t run = 0; run < 60; run++) {
            int32_t ids[40];
            /* the prompt of a text stands in it whole: tokens of single bytes come behind it only */
            size_t context = run % 3 * 3;
            random_ids(ids, 40, run, tokenizer, 260);
            for (size_t i = 0; i < context; i++) ids[i] = hn_tokenizer_vocabulary(tokenizer) - 1 - (int32_t)(ids[i] % 100);
            hn_strbuf_reset(&whole), hn_strbuf_reset(&before);
            CHECK_OK(hn_tokenizer_decode(tokenizer, &before, ids, context, true, &error));
            CHECK_OK(hn_tokenizer_decode(tokenizer, &whole, ids, 40, true, &error));
            CHECK_OK(pieces(&out, &early, &stream, ids, context, 40, &error));
            CHECK_TEXT(out.text, whole.text + before.length);
            size_t length;
            CHECK_TEXT(hn_text_stream_answer(&stream, &length), out.text);
            CHECK_INT(length, out.length);
            total += out.length, total_early += early;
        }
        CHECK(total_early > total * 8 / 10); /* little is held to the end */
        hn_text_stream_close(&stream);
        hn_strbuf_close(&out), hn_strbuf_close(&whole), hn_strbuf_close(&before);
        hn_tokenizer_free(tokenizer);
    }
}

/* Ids of a text, without special tokens. */
static size_t encode(const hn_tokenizer *tokenizer, int32_t *ids, size_t most, const char *text)
{
    hn_encoding encoding;
    hn_encoding_init(&encoding);
    if (hn_tokenizer_encode(tokenizer, &encoding, text, strlen(text), NULL, 0, false, (int32_t)most, NULL)) abort();
    size_t count = (size_t)encoding.count;
    memcpy(ids, encoding.ids, count * sizeof *ids);
    hn_encoding_close(&encoding);
    return count;
}

TEST(stop_strings_end_it)
{
    static const struct {
        const char *text, *stops[3], *expected;
    } cases[] = {
        {"one two three", {"two"}, "one "},
        {"one two three", {"ne tw"}, "o"},
        {"one two three", {"three", "two"}, "one "},
        {"one two three", {"one"}, ""},
        {"one two three", {"twx", "threee"}, "one two three"},
        {"aaaaab", {"aab"}, "aaa"},
        {"gr\xc3\xbc\xc3\x9f dich", {"\xc3\x9f"}, "gr\xc3\xbc"},
        {"ends in a", {"a b"}, "ends in a"},
        {"rain", {"in", "ra"}, ""}, /* one token */
        {"rain!", {"ain!"}, "r"},
    };
    hn_tokenizer *tokenizer = tokenizer_of("bytes");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hn_text_stream stream;
        hn_strbuf out;
        hn_error error = {0};
        int32_t ids[64];
        size_t early, count = encode(tokenizer, ids, 64, cases[i].text), stops = 0;
        while (cases[i].stops[stops]) stops++;
        hn_strbuf_init(&out);
        hn_text_stream_init(&stream, tokenizer, cases[i].stops, stops);
        CHECK_OK(pieces(&out, &early, &stream, ids, 0, count, &error));
        CHECK_TEXT(out.text, cases[i].expected);
        CHECK_INT(stream.stopped, strcmp(cases[i].expected, cases[i].text) != 0);
        hn_text_stream_close(&stream);
        hn_strbuf_close(&out);
    }
    hn_tokenizer_free(tokenizer);
}

/* Tokens of single bytes at the end, which could have become another character. */
TEST(a_stop_may_be_among_the_last_bytes)
{
    static const char *const stops[] = {"\xef\xbf\xbd"};
    hn_tokenizer *tokenizer = tokenizer_of("bytes");
    hn_text_stream stream;
    hn_strbuf out;
    hn_error error = {0};
    int32_t ids[8];
    size_t early, count = encode(tokenizer, ids, 8, "a\xe2\x98\x83");
    CHECK_INT(count, 4);
    hn_strbuf_init(&out);
    hn_text_stream_init(&stream, tokenizer, stops, 1);
    CHECK_OK(pieces(&out, &early, &stream, ids, 0, 3, &error));
    CHECK_TEXT(out.text, "a");
    CHECK(stream.stopped);
    hn_text_stream_close(&stream);
    hn_strbuf_close(&out);
    hn_tokenizer_free(tokenizer);
}

/* What might begin a stop string waits, and comes when it turned out not to. */
TEST(what_may_be_a_stop_waits)
{
    static const char *const stops[] = {"<end>"};
    hn_tokenizer *tokenizer = tokenizer_of("bytes");
    hn_text_stream stream;
    hn_error error = {0};
    hn_strbuf out;
    int32_t ids[16];
    hn_strbuf_init(&out);
    hn_text_stream_init(&stream, tokenizer, stops, 1);
    CHECK_OK(hn_text_stream_begin(&stream, NULL, 0, &error));
    static const char *const steps[][2] = {{"x", "x"}, {"<", "x"}, {"e", "x"}, {"n", "x"}, {"d", "x"}, {"!", "x<end!"}, {"<", "x<end!"}};
    for (int i = 0; i < 7; i++) {
        CHECK_INT(encode(tokenizer, ids, 16, steps[i][0]), 1);
        CHECK_OK(hn_text_stream_add(&stream, ids[0], &error));
        take(&stream, &out);
        CHECK_TEXT(out.text, steps[i][1]);
    }
    hn_text_stream_end(&stream);
    take(&stream, &out);
    CHECK_TEXT(out.text, "x<end!<");
    /* bytes of a character, one by one */
    hn_strbuf_reset(&out);
    CHECK_OK(hn_text_stream_begin(&stream, NULL, 0, &error));
    size_t count = encode(tokenizer, ids, 16, "\xe2\x98\x83");
    CHECK_INT(count, 3);
    for (size_t i = 0; i < 3; i++) {
        CHECK_OK(hn_text_stream_add(&stream, ids[i], &error));
        take(&stream, &out);
        CHECK_TEXT(out.text, i < 2 ? "" : "\xe2\x98\x83");
    }
    hn_text_stream_close(&stream);
    hn_strbuf_close(&out);
    hn_tokenizer_free(tokenizer);
}

TEST(memory_may_run_out)
{
    hn_tokenizer *tokenizer = tokenizer_of("fallback");
    int32_t ids[20];
    random_ids(ids, 20, 1, tokenizer, 260);
    for (size_t nth = 1;; nth++) {
        hn_text_stream stream;
        hn_error error = {0};
        hn_status status = HN_OK;
        hn_text_stream_init(&stream, tokenizer, NULL, 0);
        hn_mem_fail_at(nth);
        status = hn_text_stream_begin(&stream, ids, 3, &error);
        for (int i = 3; status == HN_OK && i < 20; i++) status = hn_text_stream_add(&stream, ids[i], &error);
        hn_mem_fail_at(0);
        hn_text_stream_close(&stream);
        if (status == HN_OK) break;
        CHECK_INT(status, HN_ERR_MEMORY);
        CHECK(nth < 1000);
    }
    hn_tokenizer_free(tokenizer);
}

TEST_MAIN(hn_json_init(); RUN(pieces_are_the_whole); RUN(stop_strings_end_it); RUN(a_stop_may_be_among_the_last_bytes);
          RUN(what_may_be_a_stop_waits); RUN(memory_may_run_out))
