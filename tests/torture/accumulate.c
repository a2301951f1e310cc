/* Promise: gradients that are accumulated over slices are those of the big batch. A tiny run with a rate of 0 (so that every step sees the same
 * weights), dropout and sequences of 3 to 8 tokens goes through its data in batches, the last one of an epoch smaller, once whole and then in
 * slices of several sizes. Step by step the gradients are compared, as |difference| / |gradient| over all of them: below 1e-6 in fp32.
 *
 *     torture_accumulate [seed]
 *
 * Prints `promise, tried, held`, the largest relative error and the seed. */
#include <math.h>

#include "core/clock.h"
#include "tests/torture/inject.h"

enum { ROWS = 40, BATCH = 7, STEPS = 12 /* two epochs of 6, the last of each of 5 rows */, SETTINGS = 6 };
#define MOST_ERROR 1e-6

static float *whole[STEPS]; /* gradients of the big batches */
static size_t elements;
static bool comparing;
static int64_t compared_last = -1, tried, held, slices, unequal;
static double worst;

static void before_step(void)
{
}

static void after_step(void)
{
}

static void at_end(void)
{
}

/* A copy of them, parameter by parameter: where they lie depends on the number of parts. */
static float *take_gradients(void)
{
    int params;
    const hn_param *param = hn_model_params(trainer->runner.model, &params);
    float *all = hn_malloc(trainer->gradients.used);
    elements = 0;
    for (int p = 0; p < params; p++) {
        const float *from = hn_model_gradient(trainer->runner.model, p);
        size_t count = (size_t)(param[p].rows * param[p].columns);
        if (!from) continue;
        memcpy(all + elements, from, count * sizeof *all);
        elements += count;
    }
    return all;
}

static void before_operation(hn_operation operation)
{
    double error_squared = 0, squared = 0;
    slices += operation == HN_OP_EMBEDDING_FORWARD;
    if (operation != HN_OP_SUM_SQUARES || compared_last == step) return; /* the norm of parts is the sum of theirs */
    compared_last = step;
    HN_ASSERT(step < STEPS);
    if (!comparing) {
        whole[step] = take_gradients();
        return;
    }
    float *now = take_gradients();
    for (size_t i = 0; i < elements; i++) {
        double difference = (double)now[i] - whole[step][i];
        error_squared += difference * difference;
        squared += (double)whole[step][i] * whole[step][i];
    }
    hn_free(now);
    double relative = sqrt(error_squared / squared);
    tried++;
    held += relative < MOST_ERROR;
    unequal += relative > 0;
    if (!(relative <= worst)) worst = relative;
    if (!(relative < MOST_ERROR)) printf("FAILED step %lld: relative error %.2e\n", (long long)step, relative);
}

static bool train_once(const char *setting, const char *elastic, int64_t seed)
{
    hn_train_result result;
    char key[48];
    compared_last = -1;
    snprintf(key, sizeof key, "train.seed=%lld", (long long)seed);
    const char *more[] = {"data.dev=", "optim.lr=0", "train.batch_examples=7", "train.epochs=2", "checkpoint.every=off", setting, elastic, key};
    tiny_configure(more, sizeof more / sizeof *more);
    bool done = run(&result) == HN_OK && result.step == STEPS;
    if (!done) printf("FAILED %s: %lld steps, %s\n", setting, (long long)result.step, error.message);
    return hn_folder_remove(run_path, &error) == HN_OK && done;
}

int main(int argc, char **argv)
{
    /* Tokens of a slice, where the longest sequence has 8; and parts of a batch, which has 7 examples. */
    static const char *const settings[SETTINGS] = {"train.slice_tokens=8", "train.slice_tokens=11", "train.slice_tokens=16", "train.slice_tokens=30",
                                                   "train.elastic_parts=4", "train.elastic_parts=16"};
    int64_t seed = argc > 1 ? atoll(argv[1]) : 1, counted[SETTINGS + 1];
    char rows[ROWS * 64];
    double began = hn_clock();
    be_quiet();
    hn_json_init();
    ragged_rows(rows, sizeof rows, ROWS);
    tiny_open(2, rows);
    bool ran = train_once("train.slice_tokens=0", "train.elastic=false", seed);
    counted[0] = slices;
    comparing = true;
    for (int s = 0; ran && s < SETTINGS; s++) {
        slices = 0;
        ran = train_once(settings[s], strstr(settings[s], "elastic") ? "train.elastic=true" : "train.elastic=false", seed);
        counted[s + 1] = slices;
    }
    tiny_close();
    for (int i = 0; i < STEPS; i++) hn_free(whole[i]);
    if (ran) printf("slices with 0, 8, 11, 16, 30 tokens at most, and in 4 and 16 parts, there were %lld, %lld, %lld, %lld, %lld, %lld, %lld\n", (long long)counted[0], (long long)counted[1],
                    (long long)counted[2], (long long)counted[3], (long long)counted[4], (long long)counted[5], (long long)counted[6]);
    printf("accumulated gradients are those of the big batch: tried %lld, held %lld; largest relative error %.2e, %lld not bit for bit, "
           "seed %lld, %.0f s\n", (long long)tried, (long long)held, worst, (long long)unequal, (long long)seed, hn_clock() - began);
    return !ran || held != tried || tried != SETTINGS * STEPS || !unequal || counted[1] <= 3 * counted[0];
}
