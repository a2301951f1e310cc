/* Words with tags: which token carries a tag, cuts, words without a tag or a token, failing memory. */
#include "data/dataset.h"

#include "core/json.h"
#include "core/mem.h"
#include "tests/data/folder.h"
#include "tests/test.h"

static hn_tokenizer *tokenizer;
static hn_labels *labels;
static bool skip; /* bad rows */

static hn_status open_rows(hn_dataset **out, const char *text, int max_tokens, bool tags, const char *cache, hn_error *error)
{
    const char *path = put("rows.jsonl", text);
    hn_list files = {&path, 1};
    hn_data_config config = {
        .text = "text", .label = "label", .words = "words", .tags = "tags", .max_tokens = max_tokens, .threads = 1, .on_bad_row = skip};
    hn_dataset_options options = {.task = HN_DATA_TAGS, .labels = tags ? labels : NULL, .cache_folder = cache};
    *out = NULL;
    return hn_dataset_open(out, &config, &files, tokenizer, &options, error);
}

/* Ids of the first row, and its targets behind a slash, "-" where there is none. */
static const char *describe(const hn_dataset *dataset)
{
    static char out[512];
    hn_error error = {0};
    hn_batch_buffer buffer;
    uint32_t one = 0;
    int used = 0, targets = 0;
    if (hn_batch_buffer_init(&buffer, 64, 1, &error) || hn_dataset_fill(dataset, &buffer, &one, 1, &error)) abort();
    for (int32_t t = 0; t < buffer.batch.tokens; t++)
        used += snprintf(out + used, sizeof out - (size_t)used, "%d ", buffer.batch.token[t]);
    used += snprintf(out + used, sizeof out - (size_t)used, "/");
    for (int32_t t = 0; t < buffer.batch.tokens; t++) {
        bool none = buffer.batch.target[t] == HN_NO_TARGET;
        used += none ? snprintf(out + used, sizeof out - (size_t)used, " -")
                     : snprintf(out + used, sizeof out - (size_t)used, " %d", buffer.batch.target[t]);
        targets += !none;
    }
    if (hn_dataset_targets(dataset, &one, 1, NULL) != targets) abort();
    hn_batch_buffer_close(&buffer);
    return out;
}

/* [CLS] 2, [SEP] 3, anna 4, lives 5, in 6, os 7, ##lo 8; tags O 0, PER 1, LOC 2 */
static const char *const row = "{\"words\": [\"Anna\", \"lives\", \"in\", \"Oslo\"], \"tags\": [\"PER\", \"O\", 0, \"LOC\"]}\n";

TEST(first_tokens)
{
    static const struct {
        const char *row;
        int max_tokens;
        bool tags;
        const char *expected;
    } cases[] = {
        {NULL, 16, true, "2 4 5 6 7 8 3 / - 1 0 0 2 - -"},
        {NULL, 7, true, "2 4 5 6 7 8 3 / - 1 0 0 2 - -"},
        {NULL, 6, true, "2 4 5 6 7 3 / - 1 0 0 2 -"},
        {NULL, 4, true, "2 4 5 3 / - 1 0 -"},
        {NULL, 16, false, "2 4 5 6 7 8 3 / - 0 0 0 0 - -"},
        {"{\"words\": [\"Oslo\", \"\\u0001\", \"in\"], \"tags\": [\"-\", \"PER\", \"O\"]}", 16, true, "2 7 8 1 6 3 / - - - 1 0 -"},
        {"{\"words\": [\"in Oslo\"], \"tags\": [\"LOC\"]}", 16, true, "2 6 7 8 3 / - 2 - - -"},
    };
    char cache[96];
    snprintf(cache, sizeof cache, "%s/cache", folder);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int cached = 0; cached < 3; cached++) { /* in memory, made, loaded */
            hn_dataset *dataset;
            hn_error error = {0};
            CHECK_OK(open_rows(&dataset, cases[i].row ? cases[i].row : row, cases[i].max_tokens, cases[i].tags,
                               cached ? cache : NULL, &error));
            CHECK_TEXT(describe(dataset), cases[i].expected);
            CHECK_INT(hn_dataset_report(dataset)->truncated, cases[i].max_tokens < 7);
            CHECK_INT(hn_dataset_report(dataset)->cached, cached == 2);
            hn_dataset_free(dataset);
        }
}

/* A tokenizer that puts nothing before a text: the first token of all carries a tag. Its unknown token has another spelling. */
TEST(no_frame)
{
    static const char text[] = "{\"model\": {\"type\": \"WordPiece\", \"unk_token\": \"<unk>\", \"vocab\": {\"<unk>\": 0, \"anna\": 1, "
                               "\"os\": 2, \"##lo\": 3}}, \"normalizer\": {\"type\": \"BertNormalizer\"}, "
                               "\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}}";
    hn_tokenizer *framed = tokenizer;
    hn_dataset *dataset;
    hn_error error = {0};
    CHECK_OK(hn_tokenizer_open_json(&tokenizer, text, strlen(text), "tokenizer.json", &error));
    hn_status status = open_rows(&dataset, "{\"words\": [\"Anna\", \"\\u0001\", \"Oslo\"], \"tags\": [\"PER\", \"O\", \"LOC\"]}", 16, true,
                                 NULL, &error);
    hn_tokenizer_free(tokenizer);
    tokenizer = framed;
    CHECK_OK(status);
    CHECK_TEXT(describe(dataset), "1 0 2 3 / 1 0 2 -");
    hn_dataset_free(dataset);
}

/* A tag behind the cut is none: such a row is refused, or counted and passed over; the rows around it stay what they are. */
TEST(tags_that_are_cut)
{
    static const char *const late = "{\"words\": [\"Anna\", \"lives\", \"in\", \"Oslo\"], \"tags\": [\"-\", \"-\", \"-\", \"LOC\"]}\n";
    hn_dataset *dataset;
    hn_error error = {0};
    char text[600];
    CHECK_OK(open_rows(&dataset, late, 6, true, NULL, &error));
    CHECK_TEXT(describe(dataset), "2 4 5 6 7 3 / - - - - 2 -");
    hn_dataset_free(dataset);
    CHECK_INT(open_rows(&dataset, late, 5, true, NULL, &error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "rows.jsonl:1: expected a word with a tag in its first 5 tokens (data.max_tokens), got none");
    hn_error_reset(&error);
    snprintf(text, sizeof text, "%s%s", late, row);
    skip = true;
    hn_status status = open_rows(&dataset, text, 5, true, NULL, &error);
    skip = false;
    CHECK_OK(status);
    CHECK_INT(hn_dataset_count(dataset), 1);
    CHECK_TEXT(describe(dataset), "2 4 5 6 3 / - 1 0 0 -");
    CHECK_INT(hn_dataset_report(dataset)->skipped, 1);
    CHECK_INT(hn_dataset_report(dataset)->truncated, 1);
    hn_dataset_free(dataset);
}

/* What is wrong with a row, and with the length of rows. */
TEST(refusals)
{
    static const struct {
        const char *row;
        int max_tokens;
        const char *message;
    } cases[] = {
        {"{\"words\": [\"Anna\"], \"tags\": [\"-\"]}", 16, "expected a word with a tag, got none"},
        {"{\"words\": [\"Anna\", \"in\"], \"tags\": [\"PER\", \"WHAT\"]}", 16, "word 2: expected"},
        {"{\"words\": [\"Anna\", \"\"], \"tags\": [\"PER\", \"O\"]}", 16, "item 2: expected a text that is not empty"},
        {NULL, 2, "expected more than the 2 special tokens of a row, got 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hn_dataset *dataset;
        hn_error error = {0};
        CHECK(open_rows(&dataset, cases[i].row ? cases[i].row : row, cases[i].max_tokens, true, NULL, &error) != HN_OK);
        CHECK_CONTAINS(error.message, cases[i].message);
    }
}

TEST(failing_memory)
{
    hn_status status = HN_ERR_MEMORY;
    size_t nth = 1;
    for (; status == HN_ERR_MEMORY && nth < 500; nth++) {
        hn_dataset *dataset;
        hn_error error = {0};
        hn_mem_fail_at(nth);
        status = open_rows(&dataset, row, 16, true, NULL, &error);
        hn_mem_fail_at(0);
        CHECK(!status || (error.message[0] && !dataset));
        hn_dataset_free(dataset);
    }
    CHECK(status == HN_OK && nth > 10);
}

int main(void)
{
    static const char *const names[] = {"O", "PER", "LOC"};
    hn_labels_options options = {.names = names, .count = 3};
    hn_error error = {0};
    hn_json_init();
    folder_open();
    put("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nanna\nlives\nin\nos\n##lo\n");
    put("tokenizer_config.json", "{\"do_lower_case\": true}");
    if (hn_tokenizer_open(&tokenizer, folder, &error) || hn_labels_open(&labels, &options, &error)) return 1;
    RUN(first_tokens);
    RUN(no_frame);
    RUN(tags_that_are_cut);
    RUN(refusals);
    RUN(failing_memory);
    hn_tokenizer_free(tokenizer);
    hn_labels_free(labels);
    folder_close();
    printf("%d tests, %d failures\n", test_ran, test_failures);
    return test_failures || !test_ran;
}
