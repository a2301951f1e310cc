/* Data sets of documents: blocks, special and end tokens, targets, and what has nothing to learn. */
#include "data/dataset.h"

#include "core/json.h"
#include "core/strbuf.h"
#include "data/reader.h"
#include "tests/data/toy_tokenizer.h"
#include "tests/data/folder.h"
#include "tests/test.h"

static const hn_tokenizer toy = {.vocabulary = 30000, .digest = 1};

static hn_data_config config_of(int max_tokens)
{
    return (hn_data_config){.text = "text", .pair = "text", .label = "y", .max_tokens = max_tokens, .threads = 1};
}

static hn_status open_one(hn_dataset **out, const char *path, const hn_data_config *config, int32_t end_token,
                          const char *cache, hn_error *error)
{
    hn_list files = {&path, 1};
    hn_dataset_options options = {.task = HN_DATA_TEXT, .end_token = end_token, .cache_folder = cache};
    *out = NULL;
    return hn_dataset_open(out, config, &files, &toy, &options, error);
}

/* Examples as text: "1 3 4 | 5 2"; their targets behind: "/ 3 4 - | 2 -". */
static const char *describe(const hn_dataset *dataset)
{
    static char out[4096];
    hn_error error = {0};
    hn_batch_buffer buffer;
    uint32_t all[64];
    int32_t count = (int32_t)hn_dataset_count(dataset);
    int used = 0;
    for (uint32_t i = 0; i < 64; i++) all[i] = i;
    if (hn_batch_buffer_init(&buffer, (int32_t)hn_dataset_tokens(dataset), count, &error) ||
        hn_dataset_fill(dataset, &buffer, all, count, &error))
        abort();
    for (int part = 0; part < 2; part++)
        for (int32_t n = 0; n < count; n++) {
            used += snprintf(out + used, sizeof out - (size_t)used, "%s", n ? "| " : part ? "/ " : "");
            for (int32_t t = buffer.batch.cu_seqlens[n]; t < buffer.batch.cu_seqlens[n + 1]; t++) {
                int32_t value = part ? buffer.batch.target[t] : buffer.batch.token[t];
                used += value == HN_NO_TARGET ? snprintf(out + used, sizeof out - (size_t)used, "- ")
                                              : snprintf(out + used, sizeof out - (size_t)used, "%d ", value);
            }
        }
    hn_batch_buffer_close(&buffer);
    return out;
}

/* max_tokens, end token, text, what becomes of it */
static const struct {
    int max_tokens, end_token;
    const char *text, *expected;
} cases[] = {
    {8, -1, "#5 #6 #7", "1 5 6 7 2 / 5 6 7 2 - "},
    {4, -1, "#5 #6 #7 #8", "1 5 6 7 | 8 2 / 5 6 7 - | 2 - "},
    {4, -1, "#5 #6 #7", "1 5 6 | 7 2 / 5 6 - | 2 - "}, /* one token more than a block: none stays alone */
    {4, -1, "#5 #6", "1 5 6 2 / 5 6 2 - "},
    {5, 9, "#5 #6 #7 #8", "1 5 6 7 8 | 2 9 / 5 6 7 8 - | 9 - "},
    {5, 2, "#5 #6 #7", "1 5 6 7 2 / 5 6 7 2 - "}, /* it ends with it already */
    {4, -1, "", "1 2 / 2 - "},
    {5, -1, "#1 #2 #3 #4 #5 #6 #7 #8 #9", "1 1 2 3 4 | 5 6 7 8 | 9 2 / 1 2 3 4 - | 6 7 8 - | 2 - "},
};

TEST(blocks)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hn_error error = {0};
        hn_dataset *dataset;
        hn_data_config config = config_of(cases[i].max_tokens);
        hn_strbuf row;
        hn_strbuf_init(&row);
        hn_strbuf_printf(&row, "{\"text\": \"%s\"}\n", cases[i].text);
        CHECK_OK(open_one(&dataset, put_bytes("row.jsonl", row.text, row.length), &config, cases[i].end_token, NULL, &error));
        CHECK_TEXT(describe(dataset), cases[i].expected);
        CHECK_INT(hn_dataset_report(dataset)->rows, 1);
        CHECK_INT(hn_dataset_report(dataset)->truncated, 0);
        uint32_t all[] = {0, 1, 2};
        int32_t count = (int32_t)hn_dataset_count(dataset);
        CHECK_INT(hn_dataset_targets(dataset, all, count, NULL), hn_dataset_tokens(dataset) - count);
        hn_dataset_free(dataset);
        if (*cases[i].text) { /* the same as a plain file */
            CHECK_OK(open_one(&dataset, put_bytes("row.txt", cases[i].text, strlen(cases[i].text)), &config, cases[i].end_token, NULL,
                              &error));
            CHECK_TEXT(describe(dataset), cases[i].expected);
            hn_dataset_free(dataset);
        }
        hn_strbuf_close(&row);
    }
}

/* A text in pieces has special tokens at its start and its end alone, and is the same through a cache. */
TEST(long_text)
{
    hn_strbuf text;
    hn_error error = {0};
    hn_strbuf_init(&text);
    int64_t words = 0;
    for (; text.length < 3 * HN_PIECE_BYTES; words++) hn_strbuf_printf(&text, "#%lld\n", (long long)(words % 1000) + 100);
    const char *path = put_bytes("long.txt", text.text, text.length);
    char cache[96];
    snprintf(cache, sizeof cache, "%s/cache", folder);
    hn_data_config config = config_of(64);
    for (int cached = 0; cached < 2; cached++) {
        hn_dataset *dataset;
        hn_batch_buffer buffer;
        CHECK_OK(open_one(&dataset, path, &config, 9, cached ? cache : NULL, &error));
        CHECK_INT(hn_dataset_tokens(dataset), words + 3);
        CHECK_INT(hn_dataset_report(dataset)->rows, 1);
        CHECK_OK(hn_batch_buffer_init(&buffer, 64, 1, &error));
        int64_t seen = 0, count = hn_dataset_count(dataset);
        for (uint32_t e = 0; e < count; e++) {
            CHECK_OK(hn_dataset_fill(dataset, &buffer, &e, 1, &error));
            CHECK(buffer.batch.tokens >= 2 && buffer.batch.target[0] == buffer.batch.token[1]);
            for (int32_t t = 0; t < buffer.batch.tokens; t++, seen++) {
                int64_t expected = seen == 0 ? 1 : seen == words + 1 ? 2 : seen == words + 2 ? 9 : (seen - 1) % 1000 + 100;
                CHECK_INT(buffer.batch.token[t], expected);
            }
        }
        const char *where;
        CHECK(hn_dataset_line(dataset, count - 1, &where) > 1);
        hn_batch_buffer_close(&buffer);
        hn_dataset_free(dataset);
    }
    hn_strbuf_close(&text);
}

static hn_status encode_nothing(const char *text, bool skip, hn_data_report *report, hn_error *error)
{
    hn_dataset *dataset;
    hn_data_config config = config_of(8);
    config.on_bad_row = skip;
    hn_strbuf row;
    hn_strbuf_init(&row);
    hn_strbuf_printf(&row, "text\n#1 #2\n%s\n#3\n", text);
    hn_status status = open_one(&dataset, put_bytes("rows.csv", row.text, row.length), &config, -1, NULL, error);
    if (!status) *report = *hn_dataset_report(dataset);
    hn_dataset_free(dataset);
    hn_strbuf_close(&row);
    return status;
}

/* Without special tokens a single word has no target. */
TEST(nothing_to_learn)
{
    hn_error error = {0};
    hn_data_report report;
    toy_plain = true;
    CHECK_INT(encode_nothing("\"\"", false, &report, &error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "rows.csv:3: expected two tokens or more");
    error = (hn_error){0};
    CHECK_OK(encode_nothing("\"\"", true, &report, &error));
    CHECK_INT(report.rows, 3);
    CHECK_INT(report.examples, 1);
    CHECK_INT(report.skipped, 2);
    CHECK_INT(report.bad.count[HN_BAD_NOTHING], 2);
    toy_plain = false;
    CHECK_OK(encode_nothing("\"\"", false, &report, &error));
    CHECK_INT(report.examples, 3);
}

TEST(memory_failures)
{
    const char *rows = "{\"text\": \"1 2 3 4 5 6 7\"}\n{\"text\": \"8\"}\n", *path = put_bytes("few.jsonl", rows, strlen(rows));
    hn_data_config config = config_of(4);
    hn_status status = HN_ERR_MEMORY;
    size_t nth = 1;
    for (; status == HN_ERR_MEMORY && nth < 500; nth++) {
        hn_dataset *dataset;
        hn_error error = {0};
        hn_mem_fail_at(nth);
        status = open_one(&dataset, path, &config, 9, NULL, &error);
        hn_mem_fail_at(0);
        CHECK(!status || (error.message[0] && !dataset));
        hn_dataset_free(dataset);
    }
    CHECK_INT(status, HN_OK);
    CHECK(nth > 10);
}

int main(void)
{
    hn_json_init();
    folder_open();
    RUN(blocks);
    RUN(long_text);
    RUN(nothing_to_learn);
    RUN(memory_failures);
    folder_close();
    printf("%d tests, %d failures\n", test_ran, test_failures);
    return test_failures || !test_ran;
}
