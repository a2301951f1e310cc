/* Promise: with train.elastic the gradient of a batch is the fixed tree over its parts. A tiny run with dropout and batches of ragged examples
 * goes through its data with several numbers of parts; each part's gradient is kept as it was computed, and the sum that the optimizer gets must be,
 * bit for bit, that of the tree, made here node by node. A program of several processes gives each a node of that tree, so that this is
 * one half of what makes their bits those of one; that a part's own bits depend on nothing but the part is the other.
 *
 *     torture_elastic_tree [seed]
 *
 * Prints `promise, tried, held` and the seed. */
#include "core/clock.h"
#include "tests/torture/inject.h"

enum { ROWS = 40, MOST = 16, STEPS = 12 /* two epochs of 6 */, SETTINGS = 5 };

static float *part[MOST]; /* gradients of the parts of the step under way */
static int parts, seen, sums;
static bool fresh;
static int64_t tried, held, nodes, serial;

static size_t bytes(void)
{
    return trainer->gradients.used;
}

static void before_step(void)
{
    seen = sums = 0;
}

static void after_step(void)
{
}

static void at_end(void)
{
}

/* Node (a, n) into part[a]. */
static void make_node(int a, int n)
{
    if (n == 1) return;
    make_node(a, n / 2);
    make_node(a + n / 2, n / 2);
    for (size_t i = 0; i < bytes() / sizeof(float); i++) part[a][i] += part[a + n / 2][i];
    nodes++;
}

/* Whether one part after the other gives other bits: if it never does, there is nothing to see here. */
static bool differs_from_serial(const float *tree)
{
    float *sum = hn_memdup(part[0], bytes());
    for (int p = 1; p < parts; p++)
        for (size_t i = 0; i < bytes() / sizeof *sum; i++) sum[i] += part[p][i];
    bool differs = memcmp(sum, tree, bytes());
    hn_free(sum);
    return differs;
}

static void before_operation(hn_operation operation)
{
    if (operation == HN_OP_ZERO) fresh = true;
    if (operation == HN_OP_COPY && fresh) { /* of the part's sums: the first of any, behind the zeroing */
        fresh = false;
        HN_ASSERT(seen < parts);
        hn_free(part[seen]);
        part[seen++] = hn_memdup(trainer->gradients.base, bytes());
    }
    if (operation != HN_OP_SUM_SQUARES || sums++) return;
    HN_ASSERT(seen == parts);
    if (parts == 1) return; /* nothing is added */
    bool other = differs_from_serial((float *)(void *)trainer->gradients.base);
    make_node(0, parts);
    bool same = !memcmp(part[0], trainer->gradients.base, bytes());
    tried++;
    held += same;
    serial += other;
    if (!same) printf("FAILED step %lld of %d parts: other bits than the tree's\n", (long long)step, parts);
}

static bool train_once(int64_t seed)
{
    hn_train_result result;
    char number[48], key[48];
    snprintf(number, sizeof number, "train.elastic_parts=%d", parts);
    snprintf(key, sizeof key, "train.seed=%lld", (long long)seed);
    const char *more[] = {"data.dev=", "train.batch_examples=7", "train.epochs=2", "checkpoint.every=off", "train.elastic=true", number, key};
    tiny_configure(more, sizeof more / sizeof *more);
    bool done = run(&result) == HN_OK && result.step == STEPS;
    if (!done) printf("FAILED %s: %lld steps, %s\n", number, (long long)result.step, error.message);
    return hn_folder_remove(run_path, &error) == HN_OK && done;
}

int main(int argc, char **argv)
{
    static const int settings[SETTINGS] = {1, 2, 4, 8, 16}; /* 16: more than a batch has examples */
    int64_t seed = argc > 1 ? atoll(argv[1]) : 1;
    char rows[ROWS * 64];
    double began = hn_clock();
    bool ran = true;
    be_quiet();
    hn_json_init();
    ragged_rows(rows, sizeof rows, ROWS);
    tiny_open(2, rows);
    for (int s = 0; s < SETTINGS && ran; s++) {
        parts = settings[s];
        ran = train_once(seed);
    }
    tiny_close();
    for (int p = 0; p < MOST; p++) hn_free(part[p]);
    printf("an elastic batch's gradient is the tree over its parts: tried %lld, held %lld; %lld nodes, %lld other than a sum in a row, seed %lld, "
           "%.0f s\n", (long long)tried, (long long)held, (long long)nodes, (long long)serial, (long long)seed, hn_clock() - began);
    return !ran || held != tried || tried != (SETTINGS - 1) * STEPS || serial < tried / 2;
}
