/* The order of an epoch (dataset.h): shuffle, sort inside windows, cut, shuffle the batches.
 *
 *     0 1 2 3 4 5 6 7 8 9        file order
 *     7 2 9 0 4 1 8 3 6 5        shuffled by Philox(seed, site ORDER, epoch)
 *     2 7 0 9|4 1 8 3|6 5        stably sorted by length inside each window
 *     2 7|0 9|4|1 8 3|6|5        cut greedily where a bound would be passed
 *     6|2 7|1 8 3|5|0 9|4        batches shuffled
 *
 * Sorting makes batches of like lengths, which matters little to padding-free arithmetic and much to
 * attention, whose cost is quadratic in each length, and to how full batches are. Every step is a pure
 * function of (seed, epoch, lengths, bounds): no order depends on threads, on what ran before, or on the
 * machine. The sort is a counting sort, so 400,000 examples take a few milliseconds, and any batch is then
 * found in O(1). */
#include <string.h>

#include "core/mem.h"
#include "core/philox.h"
#include "data/datasets.h"

struct hn_order {
    uint32_t *examples; /* [count] */
    int64_t *starts;    /* [batches + 1] */
    int64_t batches;
};

enum { SHUFFLE_EXAMPLES, SHUFFLE_BATCHES }; /* `head` of the site */

static hn_status no_memory(hn_error *error)
{
    return hn_fail(error, HN_ERR_MEMORY, "order of the epoch: out of memory");
}

/* Fisher and Yates, from the end; the word of element i picks its partner. */
static void shuffle(uint32_t *items, int64_t count, const hn_order_options *o, int what)
{
    hn_philox4 words = {{0}};
    int64_t block = -1;
    for (int64_t i = count - 1; i > 0; i--) {
        if (block != i / 4) {
            block = i / 4;
            words =
                hn_philox(o->seed, (uint32_t)block, HN_SITE(0, HN_SITE_ORDER, what), 0, (uint32_t)o->epoch);
        }
        int64_t j = (int64_t)(((uint64_t)words.word[i % 4] * (uint64_t)(i + 1)) >> 32);
        uint32_t item = items[i];
        items[i] = items[j];
        items[j] = item;
    }
}

/* Stable counting sort of one window by length; `places` holds longest + 2 counters. */
static void sort_window(uint32_t *items, uint32_t *scratch, int64_t count, const hn_dataset *dataset,
                        uint32_t *places, size_t place_count)
{
    memset(places, 0, place_count * sizeof *places);
    for (int64_t i = 0; i < count; i++) places[hn_dataset_length(dataset, items[i]) + 1]++;
    for (size_t i = 1; i < place_count; i++) places[i] += places[i - 1];
    for (int64_t i = 0; i < count; i++) scratch[places[hn_dataset_length(dataset, items[i])]++] = items[i];
    memcpy(items, scratch, (size_t)count * sizeof *items);
}

static hn_status sort_windows(uint32_t *items, const hn_dataset *dataset, const hn_order_options *o,
                              hn_error *error)
{
    int64_t count = dataset->count, window = (int64_t)o->window * o->batch_examples;
    size_t places = (size_t)dataset->report.longest + 2;
    uint32_t *scratch = hn_calloc((size_t)count, sizeof *scratch);
    uint32_t *counters = hn_calloc(places, sizeof *counters);
    if (scratch && counters)
        for (int64_t at = 0; at < count; at += window)
            sort_window(items + at, scratch, count - at < window ? count - at : window, dataset, counters,
                        places);
    hn_status status = scratch && counters ? HN_OK : no_memory(error);
    hn_free(scratch);
    hn_free(counters);
    return status;
}

/* Writes where batches start, if `starts` is not NULL, and returns how many there are. */
static int64_t cut(const uint32_t *items, int64_t *starts, const hn_dataset *dataset,
                   const hn_order_options *o)
{
    int64_t batches = 0, tokens = 0, examples = 0;
    for (int64_t i = 0; i < dataset->count; i++) {
        int64_t length = hn_dataset_length(dataset, items[i]);
        if (i == 0 || tokens + length > o->batch_tokens || examples == o->batch_examples) {
            if (starts) starts[batches] = i;
            batches++;
            tokens = examples = 0;
        }
        tokens += length;
        examples++;
    }
    if (starts) starts[batches] = dataset->count;
    return batches;
}

/* Puts the batches of `order` into the shuffled order. */
static hn_status shuffle_batches(hn_order *order, const hn_order_options *o, int64_t count, hn_error *error)
{
    uint32_t *batch = hn_calloc((size_t)order->batches, sizeof *batch);
    uint32_t *examples = hn_calloc((size_t)count, sizeof *examples);
    int64_t *starts = hn_calloc((size_t)order->batches + 1, sizeof *starts), used = 0;
    if (!batch || !examples || !starts) {
        hn_free(batch);
        hn_free(examples);
        hn_free(starts);
        return no_memory(error);
    }
    for (int64_t i = 0; i < order->batches; i++) batch[i] = (uint32_t)i;
    shuffle(batch, order->batches, o, SHUFFLE_BATCHES);
    for (int64_t i = 0; i < order->batches; i++) {
        int64_t from = order->starts[batch[i]], size = order->starts[batch[i] + 1] - from;
        memcpy(examples + used, order->examples + from, (size_t)size * sizeof *examples);
        starts[i] = used;
        used += size;
    }
    starts[order->batches] = used;
    hn_free(batch);
    hn_free(order->examples);
    hn_free(order->starts);
    order->examples = examples;
    order->starts = starts;
    return HN_OK;
}

/* The first example that no batch can hold. */
static hn_status check_bounds(const hn_dataset *dataset, const hn_order_options *o, hn_error *error)
{
    HN_ASSERT(o->batch_tokens > 0 && o->batch_examples > 0 && o->window >= 0);
    HN_ASSERT(o->epoch >= 0 && o->epoch <= (int64_t)UINT32_MAX);
    if (dataset->report.longest <= o->batch_tokens) return HN_OK;
    int64_t example = 0;
    while (hn_dataset_length(dataset, example) <= o->batch_tokens) example++;
    const char *path;
    int64_t line = hn_dataset_line(dataset, example, &path);
    return hn_fail(error, HN_ERR_USAGE,
                   "%s:%lld: expected at most %d tokens (train.batch_tokens), got an example of %d; raise "
                   "train.batch_tokens or "
                   "lower data.max_tokens",
                   path, (long long)line, (int)o->batch_tokens, (int)hn_dataset_length(dataset, example));
}

hn_status hn_order_open(hn_order **out, const hn_dataset *dataset, const hn_order_options *options,
                        hn_error *error)
{
    hn_status status = check_bounds(dataset, options, error);
    if (status) return status;
    hn_order *order = hn_calloc(1, sizeof *order);
    if (!order) return no_memory(error);
    order->examples = hn_calloc((size_t)dataset->count, sizeof *order->examples);
    if (!order->examples) status = no_memory(error);
    for (int64_t i = 0; i < dataset->count && !status; i++) order->examples[i] = (uint32_t)i;
    if (!status && options->shuffle) shuffle(order->examples, dataset->count, options, SHUFFLE_EXAMPLES);
    if (!status && options->window) status = sort_windows(order->examples, dataset, options, error);
    if (!status) {
        order->batches = cut(order->examples, NULL, dataset, options);
        order->starts = hn_calloc((size_t)order->batches + 1, sizeof *order->starts);
        if (order->starts)
            cut(order->examples, order->starts, dataset, options);
        else
            status = no_memory(error);
    }
    if (!status && options->shuffle) status = shuffle_batches(order, options, dataset->count, error);
    if (status)
        hn_order_free(order);
    else
        *out = order;
    return status;
}

void hn_order_free(hn_order *order)
{
    if (!order) return;
    hn_free(order->examples);
    hn_free(order->starts);
    hn_free(order);
}

int64_t hn_order_batches(const hn_order *order)
{
    return order->batches;
}

const uint32_t *hn_order_examples(const hn_order *order, int64_t index, int32_t *count)
{
    HN_ASSERT(index >= 0 && index < order->batches);
    *count = (int32_t)(order->starts[index + 1] - order->starts[index]);
    return order->examples + order->starts[index];
}
