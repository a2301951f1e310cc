/* See sample.h. Every filter keeps a prefix of the tokens in one order: highest score first, the lowest id first among equals. So
 * all that filters leave behind is where that prefix ends; what is drawn from are the tokens up to there, walked in order of
 * their ids.
 *
 * The order is only made as far as it is needed: the highest 64 are moved to the front and sorted, then twice as many, until the
 * filter has found its end. A vocabulary of 150,000 is never sorted whole unless its probabilities are nearly equal. */
#include "infer/sample.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/philox.h"

typedef struct hn_candidate candidate;

enum { FIRST_SORTED = 64 };

hn_status hn_sampler_init(hn_sampler *sampler, int32_t vocabulary, hn_error *error)
{
    *sampler = (hn_sampler){.vocabulary = vocabulary};
    sampler->candidates = hn_calloc((size_t)vocabulary, sizeof *sampler->candidates);
    sampler->seen = hn_calloc((size_t)vocabulary, sizeof *sampler->seen);
    if (sampler->candidates && sampler->seen) return HN_OK;
    hn_sampler_close(sampler);
    return hn_fail(error, HN_ERR_MEMORY, "out of memory to choose among %d tokens", vocabulary);
}

void hn_sampler_close(hn_sampler *sampler)
{
    hn_free(sampler->candidates);
    hn_free(sampler->seen);
    *sampler = (hn_sampler){0};
}

static bool before(candidate a, candidate b)
{
    return a.score > b.score || (a.score == b.score && a.id < b.id);
}

static int compare(const void *left, const void *right)
{
    candidate a = *(const candidate *)left, b = *(const candidate *)right;
    return before(a, b) ? -1 : before(b, a);
}

static void penalise(hn_sampler *sampler, float *scores, float penalty, const int32_t *there, size_t count)
{
    if (penalty == 1) return;
    for (size_t i = 0; i < count; i++) {
        int32_t id = there[i];
        if (id < 0 || id >= sampler->vocabulary || sampler->seen[id]) continue;
        sampler->seen[id] = 1;
        scores[id] = scores[id] < 0 ? scores[id] * penalty : scores[id] / penalty;
    }
    for (size_t i = 0; i < count; i++)
        if (there[i] >= 0 && there[i] < sampler->vocabulary) sampler->seen[there[i]] = 0;
}

/* The first of the order; also whether the scores can be chosen from at all. */
static hn_status find_best(candidate *out, const float *scores, int32_t count, hn_error *error)
{
    candidate best = {-INFINITY, 0};
    bool broken = false;
    for (int32_t v = 0; v < count; v++) {
        broken |= isnan(scores[v]) || scores[v] == INFINITY;
        if (scores[v] > best.score) best = (candidate){scores[v], v};
    }
    *out = best;
    if (!broken && best.score > -INFINITY) return HN_OK;
    return hn_fail(error, HN_ERR_NUMERIC,
                   "logits of the next token: expected finite numbers: the model's weights are broken or overflow in "
                   "train.precision");
}

static void swap(candidate *a, candidate *b)
{
    candidate kept = *a;
    *a = *b;
    *b = kept;
}

/* Moves the first `k` of the order to the front (Hoare's find, the middle of three as the pivot). */
static void select_first(candidate *items, int32_t count, int32_t k)
{
    int32_t low = 0, high = count - 1;
    while (low < high) {
        int32_t middle = low + (high - low) / 2, i = low, j = high;
        if (before(items[middle], items[low])) swap(&items[middle], &items[low]);
        if (before(items[high], items[low])) swap(&items[high], &items[low]);
        if (before(items[high], items[middle])) swap(&items[high], &items[middle]);
        candidate pivot = items[middle];
        while (i <= j) {
            while (before(items[i], pivot)) i++;
            while (before(pivot, items[j])) j--;
            if (i <= j) swap(&items[i++], &items[j--]);
        }
        if (k <= j) high = j;
        else if (k > i) low = i;
        else return;
    }
}

static int32_t gather(candidate *items, const float *scores, int32_t count, candidate last)
{
    int32_t found = 0;
    for (int32_t v = 0; v < count; v++) {
        candidate one = {scores[v], v};
        if (scores[v] > -INFINITY && !before(last, one)) items[found++] = one;
    }
    return found;
}

/* Where the k highest end: at the last of those that equal the k-th. */
static candidate end_of_top_k(hn_sampler *sampler, const float *scores, int32_t k)
{
    int32_t count = gather(sampler->candidates, scores, sampler->vocabulary, (candidate){-INFINITY, INT32_MAX});
    if (k >= count) return (candidate){-INFINITY, INT32_MAX};
    select_first(sampler->candidates, count, k);
    float lowest = sampler->candidates[0].score;
    for (int32_t i = 1; i < k; i++) lowest = fminf(lowest, sampler->candidates[i].score);
    return (candidate){lowest, INT32_MAX};
}

static double weight(float score, float highest)
{
    return exp((double)score - (double)highest);
}

/* Where the likeliest tokens end that have `top_p` of the probability of all that are kept so far. */
static candidate end_of_top_p(hn_sampler *sampler, const float *scores, candidate last, float highest, float top_p)
{
    candidate *items = sampler->candidates;
    int32_t count = gather(items, scores, sampler->vocabulary, last), sorted = 0;
    double all = 0, passed = 0;
    for (int32_t i = 0; i < count; i++) all += weight(items[i].score, highest);
    for (int32_t some = FIRST_SORTED; sorted < count; some *= 2) {
        int32_t end = some < count - sorted ? sorted + some : count;
        select_first(items + sorted, count - sorted, end - sorted);
        qsort(items + sorted, (size_t)(end - sorted), sizeof *items, compare);
        for (; sorted < end; sorted++) {
            if (sorted > 0 && passed >= (double)top_p * all) return items[sorted - 1];
            passed += weight(items[sorted].score, highest);
        }
    }
    return last;
}

static candidate end_of_min_p(candidate last, float highest, float min_p)
{
    /* exp(score - highest) >= min_p */
    float lowest = (float)((double)highest + log((double)min_p));
    while (weight(lowest, highest) < (double)min_p && lowest < highest) lowest = nextafterf(lowest, INFINITY);
    return lowest > last.score ? (candidate){lowest, INT32_MAX} : last;
}

/* 53 bits in [0, 1). */
static double uniform(uint64_t seed, hn_sample_key key)
{
    hn_philox4 r = hn_philox(seed, 0, HN_SITE(0, HN_SITE_SAMPLE, 0), key.example, key.position);
    return ((double)(r.word[0] >> 5) * 67108864.0 + (double)(r.word[1] >> 6)) * 0x1p-53;
}

static int32_t draw_one(const float *scores, int32_t count, candidate best, candidate last, double at)
{
    double all = 0, passed = 0;
    for (int32_t v = 0; v < count; v++)
        if (!before(last, (candidate){scores[v], v})) all += weight(scores[v], best.score);
    at *= all;
    for (int32_t v = 0; v < count; v++) {
        if (before(last, (candidate){scores[v], v})) continue;
        passed += weight(scores[v], best.score);
        if (passed > at) return v;
    }
    return best.id; /* at rounded up to the whole */
}

hn_status hn_sampler_choose(hn_sampler *sampler, int32_t *out, float *logits, const hn_sampling *sampling,
                            const int32_t *there, size_t count, hn_sample_key key, hn_error *error)
{
    candidate best, last = {-INFINITY, INT32_MAX};
    int32_t vocabulary = sampler->vocabulary;
    penalise(sampler, logits, sampling->repetition_penalty, there, count);
    hn_status status = find_best(&best, logits, vocabulary, error);
    if (status != HN_OK) return status;
    *out = best.id;
    if (sampling->temperature == 0) return HN_OK;
    for (int32_t v = 0; v < vocabulary; v++) logits[v] /= sampling->temperature;
    status = find_best(&best, logits, vocabulary, error); /* a very low temperature overflows */
    if (status != HN_OK) return status;
    if (sampling->top_k > 0) last = end_of_top_k(sampler, logits, sampling->top_k);
    if (sampling->top_p < 1) last = end_of_top_p(sampler, logits, last, best.score, sampling->top_p);
    if (sampling->min_p > 0) last = end_of_min_p(last, best.score, sampling->min_p);
    *out = draw_one(logits, vocabulary, best, last, uniform(sampling->seed, key));
    return HN_OK;
}
