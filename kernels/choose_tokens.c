/* See choose_tokens.h. Every filter keeps a prefix of the tokens in one order: highest score first, the lowest id first among equals. So
 * all that filters leave behind is where that prefix ends; what is drawn from are the tokens up to there, walked in order of
 * their ids.
 *
 * The order is only made as far as it is needed: the highest 64 are moved to the front and sorted, then twice as many, until the
 * filter has found its end. A vocabulary of 150,000 is never sorted whole unless its probabilities are nearly equal. */
#include "kernels/choose_tokens.h"

#include <math.h>
#include <stdlib.h>

#include "core/philox.h"
#include "kernels/scratch.h"

typedef struct candidate {
    float score;
    int32_t id;
} candidate;

enum { FIRST_SORTED = 64 };

static bool before(candidate a, candidate b)
{
    return a.score > b.score || (a.score == b.score && a.id < b.id);
}

static int compare(const void *left, const void *right)
{
    candidate a = *(const candidate *)left, b = *(const candidate *)right;
    return before(a, b) ? -1 : before(b, a);
}

static void penalise(float *scores, int32_t count, float penalty, const uint32_t *seen)
{
    for (int32_t w = 0; w < hn_seen_words(count); w++)
        for (uint32_t bits = seen[w]; bits; bits &= bits - 1) {
            float *score = &scores[w * 32 + __builtin_ctz(bits)];
            *score = *score < 0 ? *score * penalty : *score / penalty;
        }
}

/* The first of the order; whether the scores can be chosen from at all. */
static bool find_best(candidate *out, const float *scores, int32_t count)
{
    candidate best = {-INFINITY, 0};
    bool broken = false;
    for (int32_t v = 0; v < count; v++) {
        broken |= isnan(scores[v]) || scores[v] == INFINITY;
        if (scores[v] > best.score) best = (candidate){scores[v], v};
    }
    *out = best;
    return !broken && best.score > -INFINITY;
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
static candidate end_of_top_k(candidate *items, const float *scores, int32_t vocabulary, int32_t k)
{
    int32_t count = gather(items, scores, vocabulary, (candidate){-INFINITY, INT32_MAX});
    if (k >= count) return (candidate){-INFINITY, INT32_MAX};
    select_first(items, count, k);
    float lowest = items[0].score;
    for (int32_t i = 1; i < k; i++) lowest = fminf(lowest, items[i].score);
    return (candidate){lowest, INT32_MAX};
}

static double weight(float score, float highest)
{
    return exp((double)score - (double)highest);
}

/* Where the likeliest tokens end that have `top_p` of the probability of all that are kept so far. */
static candidate end_of_top_p(candidate *items, const float *scores, int32_t vocabulary, candidate last, float highest, float top_p)
{
    int32_t count = gather(items, scores, vocabulary, last), sorted = 0;
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
static double uniform(uint64_t seed, uint32_t example, uint32_t position)
{
    hn_philox4 r = hn_philox(seed, 0, HN_SITE(0, HN_SITE_SAMPLE, 0), example, position);
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

/* One of the scores by its probability; -1: they cannot be chosen from. */
static int32_t draw(candidate *items, const float *scores, int32_t vocabulary, const hn_sampling *how, uint32_t example,
                    uint32_t position)
{
    candidate best, last = {-INFINITY, INT32_MAX};
    if (!find_best(&best, scores, vocabulary)) return HN_NO_TOKEN; /* a very low temperature overflows */
    if (how->top_k > 0) last = end_of_top_k(items, scores, vocabulary, how->top_k);
    if (how->top_p < 1) last = end_of_top_p(items, scores, vocabulary, last, best.score, how->top_p);
    if (how->min_p > 0) last = end_of_min_p(last, best.score, how->min_p);
    return draw_one(scores, vocabulary, best, last, uniform(how->seed, example, position));
}

void HN_ISA_NAME(hnp_choose_tokens)(hn_ops_context *ctx, int32_t *id, const hn_tensor *logits, const hn_next_tokens *next,
                                    const hn_sampling *sampling)
{
    int32_t vocabulary = (int32_t)logits->shape[1];
    hnp_scratch scratch = {.ctx = ctx};
    candidate *items = hnp_scratch_take(&scratch, (size_t)vocabulary * sizeof *items), best;
    HN_ASSERT(logits->dtype == HN_F32 && logits->shape[1] > 0 && logits->shape[1] <= HNP_CHOOSE_MOST);
    for (int64_t r = 0; items && r < logits->shape[0]; r++) {
        float *scores = (float *)logits->data + r * logits->stride;
        uint32_t *seen = next->seen ? next->seen + (int64_t)next->place[r] * hn_seen_words(vocabulary) : NULL;
        if (seen) penalise(scores, vocabulary, sampling->repetition_penalty, seen);
        id[r] = find_best(&best, scores, vocabulary) ? best.id : HN_NO_TOKEN;
        if (id[r] != HN_NO_TOKEN && sampling->temperature > 0) {
            for (int32_t v = 0; v < vocabulary; v++) scores[v] /= sampling->temperature;
            id[r] = draw(items, scores, vocabulary, sampling, next->example[r], next->position[r]);
        }
        if (seen && id[r] != HN_NO_TOKEN) seen[id[r] / 32] |= 1u << id[r] % 32;
    }
}

size_t HN_ISA_NAME(hnp_choose_tokens_workspace)(int64_t vocabulary)
{
    return (size_t)vocabulary * sizeof(candidate) + HNP_SCRATCH_ALIGN;
}
