/* The order of an epoch: every example once, bounds kept, the same for the same arguments, and for ever (a
 * digest of one order stands here: when it changes, every run that is resumed changes with it). */
#include "core/digest.h"
#include "data/datasets.h"

#include "core/mem.h"
#include "tests/test.h"

/* A data set of lengths only. */
static int64_t offsets[20001];
static int64_t first[2];
static int64_t lines[20000];
static char *path[1] = {(char *)"f.csv"};

static hn_dataset lengths(int64_t count, int32_t most)
{
    hn_dataset dataset = {
        .count = count, .offsets = offsets, .first = first, .line = lines, .paths = path, .file_count = 1};
    uint32_t state = 1;
    for (int64_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        int32_t length = 1 + (int32_t)((uint64_t)(state >> 8) * (uint32_t)most >> 24);
        offsets[i + 1] = offsets[i] + length;
        if (length > dataset.report.longest) dataset.report.longest = length;
    }
    first[1] = count;
    return dataset;
}

static hn_digest digest_of(const hn_order *order)
{
    hn_hasher *hasher = hn_hasher_open();
    for (int64_t i = 0; i < hn_order_batches(order); i++) {
        int32_t count;
        const uint32_t *examples = hn_order_examples(order, i, &count);
        hn_hasher_add(hasher, &count, sizeof count);
        hn_hasher_add(hasher, examples, (size_t)count * sizeof *examples);
    }
    hn_digest digest = hn_hasher_digest(hasher);
    hn_hasher_free(hasher);
    return digest;
}

TEST(every_example_once_within_bounds)
{
    static const struct {
        int64_t count;
        hn_order_options options;
    } cases[] = {{20000, {1, 0, 512, 8, 16, true}},  {20000, {1, 0, 512, 8, 0, true}},
                 {20000, {1, 3, 64, 1000, 4, true}}, {20000, {1, 0, 4096, 32, 64, true}},
                 {1, {1, 0, 512, 8, 16, true}},      {0, {1, 0, 512, 8, 16, true}},
                 {7, {1, 0, 64, 1, 1, true}},        {500, {1, 0, 512, 8, 0, false}},
                 {500, {1, 0, 512, 8, 4, false}}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const hn_order_options *o = &cases[c].options;
        hn_dataset dataset = lengths(cases[c].count, 64);
        hn_error error = {0};
        hn_order *order = NULL;
        static bool seen[20000];
        memset(seen, 0, sizeof seen);
        int64_t total = 0;
        CHECK_OK(hn_order_open(&order, &dataset, o, &error));
        for (int64_t i = 0; i < hn_order_batches(order); i++) {
            int32_t count, tokens = 0;
            const uint32_t *examples = hn_order_examples(order, i, &count);
            CHECK(count > 0 && count <= o->batch_examples);
            for (int32_t n = 0; n < count; n++) {
                CHECK(!seen[examples[n]]);
                seen[examples[n]] = true;
                tokens += hn_dataset_length(&dataset, examples[n]);
                if (!o->shuffle && !o->window) CHECK_INT(examples[n], total + n);
            }
            CHECK(tokens <= o->batch_tokens);
            total += count;
        }
        CHECK_INT(total, cases[c].count);
        hn_order_free(order);
    }
}

TEST(same_arguments_same_order)
{
    hn_dataset dataset = lengths(3000, 64);
    hn_order_options base = {42, 1, 512, 16, 8, true}, other[5] = {base, base, base, base, base};
    other[1].epoch = 2;
    other[2].seed = 43;
    other[3].window = 4;
    other[4].seed = 42 + (1ull << 32);
    hn_digest expected = {0, 0};
    for (int i = 0; i < 5; i++) {
        hn_order *order = NULL;
        hn_error error = {0};
        CHECK_OK(hn_order_open(&order, &dataset, &base, &error));
        expected = digest_of(order);
        hn_order_free(order);
        CHECK_OK(hn_order_open(&order, &dataset, &other[i], &error));
        CHECK_INT(hn_digest_equal(expected, digest_of(order)), i == 0);
        hn_order_free(order);
    }
    char text[HN_DIGEST_TEXT];
    hn_digest_format(text, expected);
    CHECK_TEXT(text, "c17e03f7cd1d636f0efd4465b2f011a2");
}

/* Whoever opens the order anew at any batch of any epoch finds there what one who came from the first batch found. */
TEST(resumed_at_every_batch)
{
    hn_dataset dataset = lengths(500, 64);
    static uint32_t ids[500];
    size_t tried = 0;
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        hn_order_options options = {42, epoch, 512, 16, 8, true};
        hn_order *whole = NULL, *order = NULL;
        hn_error error = {0};
        size_t before = 0;
        int32_t count;
        CHECK_OK(hn_order_open(&whole, &dataset, &options, &error));
        int64_t batches = hn_order_batches(whole);
        for (int64_t b = 0; b < batches; b++, before += (size_t)count) {
            const uint32_t *examples = hn_order_examples(whole, b, &count);
            memcpy(ids + before, examples, (size_t)count * sizeof *ids);
        }
        hn_order_free(whole);
        before = 0;
        for (int64_t from = 0; from < batches; from++, tried++) {
            CHECK_OK(hn_order_open(&order, &dataset, &options, &error));
            size_t at = before;
            for (int64_t b = from; b < batches; b++, at += (size_t)count) {
                const uint32_t *examples = hn_order_examples(order, b, &count);
                CHECK(!memcmp(examples, ids + at, (size_t)count * sizeof *ids));
                if (b == from) before += (size_t)count;
            }
            hn_order_free(order);
            CHECK_INT(at, 500);
        }
    }
    test_promise("the ids of the samples, from every batch of an epoch on", tried, tried);
}

/* Sorting makes the lengths of a batch alike and leaves no pattern over the epoch. */
TEST(windows_and_mixing)
{
    hn_dataset dataset = lengths(20000, 64);
    hn_order_options sorted = {1, 0, 4096, 32, 64, true};
    hn_order *order = NULL;
    hn_error error = {0};
    CHECK_OK(hn_order_open(&order, &dataset, &sorted, &error));
    int64_t spread = 0, batches = hn_order_batches(order);
    double half[2] = {0, 0}, place = 0;
    for (int64_t i = 0; i < batches; i++) {
        int32_t count, low = 64, high = 1;
        const uint32_t *examples = hn_order_examples(order, i, &count);
        for (int32_t n = 0; n < count; n++) {
            int32_t length = hn_dataset_length(&dataset, examples[n]);
            low = length < low ? length : low;
            high = length > high ? length : high;
            half[i >= batches / 2] += length;
            place += (double)examples[n] * (i < batches / 2 ? 1 : -1);
        }
        spread += high - low;
    }
    CHECK(spread <= 3 * batches);                    /* unsorted: about 60 a batch */
    CHECK(fabs(half[0] / half[1] - 1) < 0.05);       /* short and long ones over the whole epoch */
    CHECK(fabs(place) < 0.02 * 20000.0 * 20000 / 2); /* early and late rows too */
    hn_order_free(order);
}

TEST(too_long_for_a_batch)
{
    hn_dataset dataset = lengths(100, 64);
    lines[0] = 2;
    hn_order_options options = {1, 0, 10, 8, 16, true};
    hn_order *order = NULL;
    hn_error error = {0};
    int64_t at = 0;
    while (hn_dataset_length(&dataset, at) <= 10) at++;
    lines[at] = 77;
    CHECK_INT(hn_order_open(&order, &dataset, &options, &error), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message,
                   "f.csv:77: expected at most 10 tokens (train.batch_tokens), got an example of");
    CHECK_CONTAINS(error.message, "data.max_tokens");
}

TEST(memory_failures)
{
    hn_dataset dataset = lengths(100, 64);
    hn_order_options options = {1, 0, 512, 8, 16, true};
    hn_status status = HN_ERR_MEMORY;
    size_t nth = 1;
    for (; status == HN_ERR_MEMORY && nth < 100; nth++) {
        hn_order *order = NULL;
        hn_error error = {0};
        hn_mem_fail_at(nth);
        status = hn_order_open(&order, &dataset, &options, &error);
        hn_mem_fail_at(0);
        hn_order_free(order);
    }
    CHECK_INT(status, HN_OK);
    CHECK(nth > 7);
}

TEST_MAIN(RUN(every_example_once_within_bounds); RUN(same_arguments_same_order); RUN(resumed_at_every_batch); RUN(windows_and_mixing);
          RUN(too_long_for_a_batch); RUN(memory_failures))
