/* Data sets in memory: from files to batches, counted, the same for any number of threads. */
#include "data/dataset.h"

#include <unistd.h>

#include "core/json.h"
#include "core/strbuf.h"
#include "tests/data/toy_tokenizer.h"
#include "tests/data/folder.h"
#include "tests/test.h"

static const hn_tokenizer toy = {.vocabulary = 30000, .digest = 1},
                          wide_toy = {.vocabulary = 70000, .digest = 1};
static const char *const names[] = {"yes", "no"};

static hn_data_config config_of(const char *cache)
{
    return (hn_data_config){
        .text = "a", .pair = "b", .label = "y", .max_tokens = 8, .cache = cache, .threads = 1};
}

static hn_labels *classes(void)
{
    hn_labels *labels = NULL;
    hn_error error = {0};
    hn_labels_options options = {.names = names, .count = 2};
    if (hn_labels_open(&labels, &options, &error)) abort();
    return labels;
}

TEST(files_to_batches)
{
    const char *paths[2];
    paths[0] = put("one.csv", "a,b,y\nhi you,me,yes\nab,,-1\nlong text is cut here,so it is,1\n");
    paths[1] = put(
        "two.jsonl",
        "{\"a\": \"#300\", \"b\": \"#25\", \"y\": 0}\n{\"a\": \"hi you\", \"b\": \"me\", \"y\": \"no\"}\n");
    hn_list files = {paths, 2};
    hn_data_config config = config_of(NULL);
    hn_labels *labels = classes();
    hn_dataset *dataset = NULL;
    hn_error error = {0};
    CHECK_OK(hn_dataset_open(&dataset, &config, &files, &toy, &(hn_dataset_options){.labels = labels}, &error));
    const hn_data_report *report = hn_dataset_report(dataset);
    CHECK_INT(report->rows, 5);
    CHECK_INT(report->examples, 4);
    CHECK_INT(report->unlabeled, 1);
    CHECK_INT(report->skipped, 0);
    CHECK_INT(report->truncated, 1);
    CHECK_INT(report->longest, 8);
    CHECK_INT(report->tokens, 6 + 8 + 5 + 6);
    CHECK_INT(hn_dataset_tokens(dataset), 25);
    CHECK_INT(hn_dataset_count(dataset), 4);
    const char *path;
    CHECK_INT(hn_dataset_line(dataset, 1, &path), 4);
    CHECK_TEXT(path, paths[0]);
    CHECK_INT(hn_dataset_line(dataset, 3, &path), 2);
    CHECK_TEXT(path, paths[1]);

    hn_batch_buffer buffer;
    CHECK_OK(hn_batch_buffer_init(&buffer, 14, 3, &error));
    uint32_t examples[] = {2, 1};
    CHECK_OK(hn_dataset_fill(dataset, &buffer, examples, 2, &error));
    const hn_batch *b = &buffer.batch;
    static const int32_t token[] = {1, 300, 2, 25, 2, 1, 14, 14, 12, 13, 14, 2, 12};
    static const int32_t type[] = {0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1};
    CHECK_INT(b->n, 2);
    CHECK_INT(b->tokens, 13);
    CHECK_INT(b->longest, 8);
    for (int i = 0; i < 13; i++) {
        CHECK_INT(b->token[i], token[i]);
        CHECK_INT(b->type[i], type[i]);
        CHECK_INT(b->position[i], i < 5 ? i : i - 5);
    }
    CHECK_INT(b->cu_seqlens[0], 0);
    CHECK_INT(b->cu_seqlens[1], 5);
    CHECK_INT(b->cu_seqlens[2], 13);
    CHECK_INT(b->label[0], 0);
    CHECK_INT(b->label[1], 1);
    CHECK_INT(b->example[0], 2);
    uint32_t too_many[] = {0, 1, 2, 3};
    CHECK_INT(hn_dataset_fill(dataset, &buffer, too_many, 4, &error), HN_ERR_MISMATCH);
    error = (hn_error){0};
    CHECK_INT(hn_dataset_fill(dataset, &buffer, too_many, 3, &error), HN_ERR_MISMATCH);
    CHECK_CONTAINS(error.message, "at most 14 tokens");
    hn_batch_buffer_close(&buffer);

    hn_data_survey survey;
    int64_t counts[2];
    error = (hn_error){0};
    CHECK_OK(hn_dataset_survey(dataset, &survey, counts, 2, &error));
    CHECK_INT(counts[0], 2);
    CHECK_INT(counts[1], 2);
    CHECK_INT(survey.duplicates, 1);
    CHECK_INT(survey.conflicts, 1);
    CHECK_INT(survey.bin_width, 1);
    CHECK_INT(survey.bins[7], 1);
    CHECK_INT(survey.bins[5], 2);
    hn_dataset_free(dataset);
    hn_labels_free(labels);
}

TEST(bad_rows)
{
    const char *path = put("bad.csv", "a,b,y\n1,2,yes\n1,2\n1,2,maybe\n3,4,no\n");
    hn_list files = {&path, 1};
    hn_data_config config = config_of(NULL);
    hn_labels *labels = classes();
    hn_dataset *dataset = NULL;
    hn_error error = {0};
    CHECK_INT(hn_dataset_open(&dataset, &config, &files, &toy, &(hn_dataset_options){.labels = labels}, &error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "bad.csv:3: expected 3 columns");
    config.on_bad_row = 1;
    error = (hn_error){0};
    CHECK_OK(hn_dataset_open(&dataset, &config, &files, &toy, &(hn_dataset_options){.labels = labels}, &error));
    const hn_data_report *report = hn_dataset_report(dataset);
    CHECK_INT(report->skipped, 2);
    CHECK_INT(report->rows, 4);
    CHECK_INT(report->examples, 2);
    CHECK_INT(report->bad.count[HN_BAD_LABEL], 1);
    CHECK_CONTAINS(report->bad.first[HN_BAD_LABEL],
                   "bad.csv:4: field \"y\": expected one of yes, no, or its number 0 to 1, got \"maybe\"");
    hn_dataset_free(dataset);
    path = put("none.csv", "a,b,y\n1,2,-\n");
    dataset = NULL;
    CHECK_INT(hn_dataset_open(&dataset, &config, &files, &toy, &(hn_dataset_options){.labels = labels}, &error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "none.csv: expected examples, got none (1 rows: 0 bad, 1 without a label)");
    CHECK(!dataset);
    hn_labels_free(labels);
}

/* Rows that the tokenizer refuses are bad rows, in the order of the file whoever encodes. */
TEST(rows_that_the_tokenizer_refuses)
{
    hn_strbuf csv;
    hn_strbuf_init(&csv);
    hn_strbuf_puts(&csv, "a,b,y\n");
    for (int i = 0; i < 3000; i++) hn_strbuf_printf(&csv, "#%d,%s,%s\n", 100 + i, "w", i & 1 ? "no" : "yes");
    hn_strbuf_puts(&csv, "^,w,yes\n#99,w,no\n");
    for (int i = 0; i < 3000; i++) hn_strbuf_printf(&csv, "%s#%d,%s,%s\n", i % 7 ? "" : "^", 5000 + i, "w", i & 1 ? "no" : "yes");
    const char *path = put("refused.csv", csv.text);
    hn_list files = {&path, 1};
    hn_labels *labels = classes();
    for (int threads = 1; threads < 5; threads += 3) {
        hn_data_config config = config_of(NULL);
        hn_dataset *dataset = NULL;
        hn_error error = {0};
        config.threads = threads;
        CHECK_INT(hn_dataset_open(&dataset, &config, &files, &toy, &(hn_dataset_options){.labels = labels}, &error), HN_ERR_FORMAT);
        CHECK_CONTAINS(error.message, "refused.csv:3002: toy tokenizer: a ^ (data.on_bad_row=skip passes over such rows)");
        config.on_bad_row = 1;
        hn_error_reset(&error);
        CHECK_OK(hn_dataset_open(&dataset, &config, &files, &toy, &(hn_dataset_options){.labels = labels}, &error));
        const hn_data_report *report = hn_dataset_report(dataset);
        CHECK_INT(report->rows, 6002);
        CHECK_INT(report->examples, 6002 - 1 - 429);
        CHECK_INT(report->skipped, 430);
        CHECK_INT(report->bad.count[HN_BAD_REFUSED], 430);
        CHECK_CONTAINS(report->bad.first[HN_BAD_REFUSED], "refused.csv:3002: toy tokenizer: a ^");
        hn_dataset_free(dataset);
    }
    hn_labels_free(labels);
    hn_strbuf_close(&csv);
}

TEST(regression_and_predict)
{
    const char *path = put("value.csv", "a,b,y\n1,2,-1\n1,2,0.5\n");
    hn_list files = {&path, 1};
    hn_data_config config = config_of(NULL);
    hn_labels *labels = NULL;
    hn_labels_options options = {.regression = true};
    hn_dataset *dataset = NULL;
    hn_error error = {0};
    CHECK_OK(hn_labels_open(&labels, &options, &error));
    CHECK_OK(hn_dataset_open(&dataset, &config, &files, &toy, &(hn_dataset_options){.labels = labels}, &error));
    hn_batch_buffer buffer;
    CHECK_OK(hn_batch_buffer_init(&buffer, 16, 2, &error));
    uint32_t both[] = {0, 1};
    CHECK_OK(hn_dataset_fill(dataset, &buffer, both, 2, &error));
    CHECK_NEAR(buffer.batch.value[0], -1, 0);
    CHECK_NEAR(buffer.batch.value[1], 0.5, 0);
    CHECK_INT(buffer.batch.label[0], HN_NO_TARGET);
    hn_dataset_free(dataset);
    config.label = NULL;
    CHECK_OK(hn_dataset_open(&dataset, &config, &files, &toy, &(hn_dataset_options){0}, &error));
    CHECK_OK(hn_dataset_fill(dataset, &buffer, both, 2, &error));
    CHECK_INT(buffer.batch.label[1], HN_NO_TARGET);
    hn_dataset_free(dataset);
    path = put("empty.csv", "");
    CHECK_OK(hn_dataset_open(&dataset, &config, &files, &toy, &(hn_dataset_options){0}, &error)); /* nothing to predict */
    CHECK_INT(hn_dataset_count(dataset), 0);
    hn_dataset_free(dataset);
    const char *texts[] = {"#3 #4", ""}, *pairs[] = {"#5", "#6"};
    CHECK_OK(hn_dataset_open_texts(&dataset, &(hn_texts){.texts = texts, .pairs = pairs, .count = 2}, &toy, 8, 1, &error));
    CHECK_OK(hn_dataset_fill(dataset, &buffer, both, 2, &error));
    static const int32_t token[] = {1, 3, 4, 2, 5, 2, 1, 2, 6, 2};
    CHECK_INT(buffer.batch.tokens, 10);
    for (int i = 0; i < 10; i++) CHECK_INT(buffer.batch.token[i], token[i]);
    hn_dataset_free(dataset);
    hn_batch_buffer_close(&buffer);
    hn_labels_free(labels);
}

/* Ids beyond 16 bits. */
TEST(large_vocabulary)
{
    const char *texts[] = {"#69999 #65536"};
    hn_dataset *dataset = NULL;
    hn_error error = {0};
    CHECK_OK(hn_dataset_open_texts(&dataset, &(hn_texts){.texts = texts, .count = 1}, &wide_toy, 8, 1, &error));
    hn_batch_buffer buffer;
    CHECK_OK(hn_batch_buffer_init(&buffer, 16, 2, &error));
    uint32_t one = 0;
    CHECK_OK(hn_dataset_fill(dataset, &buffer, &one, 1, &error));
    CHECK_INT(buffer.batch.token[1], 69999);
    CHECK_INT(buffer.batch.token[2], 65536);
    hn_batch_buffer_close(&buffer);
    hn_dataset_free(dataset);
}

static void take_time(void)
{
    usleep(20000);
}

/* 5,000 rows, several ring slots, some of them slow: one thread and four give the same batch. */
TEST(threads_do_not_matter)
{
    hn_strbuf text;
    hn_strbuf_init(&text);
    hn_strbuf_puts(&text, "a,b,y\n");
    for (int i = 0; i < 5000; i++) {
        hn_strbuf_printf(&text, "#%d", i);
        for (int j = 0; j < i % 7; j++) hn_strbuf_puts(&text, " w");
        hn_strbuf_printf(&text, "%s,#%d,%d\n", i % 2000 == 900 ? " ~" : "", i + 1, i % 2);
    }
    const char *path = put("many.csv", text.text);
    hn_strbuf_close(&text);
    hn_list files = {&path, 1};
    hn_labels *labels = classes();
    hn_dataset *dataset[2];
    hn_batch_buffer buffer[2];
    hn_error error = {0};
    toy_event = take_time;
    for (int k = 0; k < 2; k++) {
        hn_data_config config = config_of(NULL);
        config.threads = k ? 4 : 1;
        CHECK_OK(hn_dataset_open(&dataset[k], &config, &files, &toy, &(hn_dataset_options){.labels = labels}, &error));
        CHECK_INT(hn_dataset_count(dataset[k]), 5000);
        CHECK_OK(hn_batch_buffer_init(&buffer[k], (int32_t)hn_dataset_tokens(dataset[k]), 5000, &error));
        uint32_t *all = hn_calloc(5000, sizeof *all);
        for (uint32_t i = 0; i < 5000; i++) all[i] = i;
        CHECK_OK(hn_dataset_fill(dataset[k], &buffer[k], all, 5000, &error));
        hn_free(all);
    }
    toy_event = NULL;
    CHECK(hn_digest_equal(hn_dataset_digest(dataset[0]), hn_dataset_digest(dataset[1])));
    CHECK_INT(buffer[0].batch.token[1], 0);
    CHECK_INT(buffer[0].batch.token[buffer[0].batch.cu_seqlens[4999] + 1], 4999);
    CHECK(!memcmp(buffer[0].memory, buffer[1].memory, buffer[0].size));
    for (int k = 0; k < 2; k++) {
        hn_batch_buffer_close(&buffer[k]);
        hn_dataset_free(dataset[k]);
    }
    hn_labels_free(labels);
}

static const char *growing;

static void grow(void)
{
    FILE *file = fopen(growing, "a");
    fputs("1,2,1\n", file);
    fclose(file);
}

TEST(changed_while_it_is_read)
{
    growing = put("growing.csv", "a,b,y\n~,2,0\n");
    hn_list files = {&growing, 1};
    hn_labels *labels = classes();
    hn_data_config config = config_of(NULL);
    hn_dataset *dataset = NULL;
    hn_error error = {0};
    toy_event = grow;
    hn_status status = hn_dataset_open(&dataset, &config, &files, &toy, &(hn_dataset_options){.labels = labels}, &error);
    toy_event = NULL;
    hn_labels_free(labels);
    CHECK_INT(status, HN_ERR_MISMATCH);
    CHECK_CONTAINS(error.message, "growing.csv: changed while it was read");
}

/* The digest depends on bytes and options, not on where the files lie. */
TEST(digest)
{
    const char *one = put("d1.csv", "a,b,y\n1,2,0\n"), *copy = put("d2.csv", "a,b,y\n1,2,0\n"),
               *other = put("d3.csv", "a,b,y\n1,2,1\n");
    const char *paths[] = {one, copy, other, one, one};
    hn_digest digests[5];
    hn_labels *labels = classes();
    hn_error error = {0};
    for (int i = 0; i < 5; i++) {
        hn_list files = {&paths[i], 1};
        hn_data_config config = config_of(NULL);
        hn_tokenizer tokenizer = toy;
        config.max_tokens += i == 3;
        tokenizer.digest += i == 4;
        hn_dataset *dataset = NULL;
        CHECK_OK(hn_dataset_open(&dataset, &config, &files, &tokenizer, &(hn_dataset_options){.labels = labels}, &error));
        digests[i] = hn_dataset_digest(dataset);
        hn_dataset_free(dataset);
        CHECK_INT(hn_digest_equal(digests[0], digests[i]), i < 2);
    }
    hn_labels_free(labels);
}

TEST(memory_failures)
{
    const char *path = put("few.csv", "a,b,y\n1 2 3,4,0\n1,2,1\n");
    hn_list files = {&path, 1};
    hn_labels *labels = classes();
    hn_data_config config = config_of(NULL);
    hn_status status = HN_ERR_MEMORY;
    size_t nth = 1;
    for (; status == HN_ERR_MEMORY && nth < 500; nth++) {
        hn_dataset *dataset = NULL;
        hn_error error = {0};
        hn_mem_fail_at(nth);
        status = hn_dataset_open(&dataset, &config, &files, &toy, &(hn_dataset_options){.labels = labels}, &error);
        hn_mem_fail_at(0);
        CHECK(!status || (error.message[0] && !dataset));
        hn_dataset_free(dataset);
    }
    CHECK_INT(status, HN_OK);
    CHECK(nth > 10);
    hn_labels_free(labels);
}

int main(void)
{
    hn_json_init();
    folder_open();
    RUN(files_to_batches);
    RUN(bad_rows); RUN(rows_that_the_tokenizer_refuses);
    RUN(regression_and_predict);
    RUN(large_vocabulary);
    RUN(threads_do_not_matter);
    RUN(changed_while_it_is_read);
    RUN(digest);
    RUN(memory_failures);
    folder_close();
    printf("%d tests, %d failures\n", test_ran, test_failures);
    return test_failures || !test_ran;
}
