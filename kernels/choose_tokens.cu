/* Choosing tokens on the GPU, as choose_tokens.h defines it: a block for each row, which goes over the row some times.
 *
 *     best         the highest score, and whether there is anything to choose from           1 pass; greedy ends here
 *     top_k        the key of the k-th                                                       3
 *     top_p        the key at which the likeliest have so much of the weight                 3
 *                  where several tokens have that very score, the id of the last that stays  1 and a bit
 *     min_p        a key, by one thread's arithmetic
 *     draw         the id on which the random number falls                                   1 and a bit
 *
 * A score is compared by its key, an integer that rises with it. Looking for a key goes down from the highest in three steps, of 12, 12
 * and 8 bits of the distance from it: what lies in each of 4,096 buckets is added up in shared memory (one a token for top_k, its weight
 * for top_p), the bucket in which the sum reaches its goal is found, and the next step looks at that one only. Looking for an id cuts the
 * row into as many pieces as there are warps, adds each up, and goes on in the piece in which the sum reaches its goal; the second turn
 * has a thirty-second of the row. All sums are of integers, so the order of threads and of atomics changes nothing.
 *
 * Bytes: a pass reads the row once, 4 V, in vectors of 16 wherever the row lies, with two under way a thread; 4 V is the least that must
 * move, and what the later passes read comes from the L2 cache, 0.2 to 1 MB a row. A penalty reads V / 8 more a pass. Weights are asked of
 * tokens that are kept so far only: of all V just when top_p or the draw has no top_k before it. The host gets 4 bytes a row. */
#include "kernels/cuda/random.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"

#include <limits.h>

extern "C" {
#include "kernels/choose_tokens.h"
}

namespace {

constexpr int BUCKETS = 4096, FEW_TOKENS = 4096, STEPS = 3;
constexpr double LIKELIEST = 0x1p44; /* its weight */

/* --- scores --- */

struct score_row {
    const float *logits;
    const uint32_t *seen; /* NULL: no penalty */
    int count;
    float penalty, temperature;

    __device__ float score(float z, int v) const
    {
        if (seen && (seen[v / 32] >> v % 32 & 1)) z = z < 0.0f ? z * penalty : z / penalty;
        return z / temperature;
    }
};

/* The logits [c, c + 4) as far as they lie in [first, end); c is where 16 bytes begin. */
__device__ __forceinline__ held<float, 4> fetch_part(const score_row &row, int c, int first, int end)
{
    held<float, 4> part = {};
    if (c >= first && c + 4 <= end) return fetch<4>(row.logits + c);
    HN_UNROLL
    for (int i = 0; i < 4; i++)
        if (c + i >= first && c + i < end) part.word[i] = __float_as_uint(row.logits[c + i]);
    return part;
}

/* each(score, id) of the ids [first, end), among so many threads. */
template <class F>
__device__ __forceinline__ void walk(const score_row &row, int first, int end, int thread, int threads, F each)
{
    int c = first - (int)((uintptr_t)(row.logits + first) / sizeof(float) % 4) + 4 * thread;
    held<float, 4> part = fetch_part(row, c, first, end);
    for (; c < end; c += 4 * threads) {
        const held<float, 4> next = fetch_part(row, c + 4 * threads, first, end);
        float z[4];
        unpack(z, part);
        HN_UNROLL
        for (int i = 0; i < 4; i++)
            if (c + i >= first && c + i < end) each(row.score(z[i], c + i), c + i);
        part = next;
    }
}

/* Rises with the score; both zeros have one. */
__device__ __forceinline__ uint32_t key_of(float score)
{
    const uint32_t bits = __float_as_uint(score) == 0x80000000u ? 0 : __float_as_uint(score);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float score_of(uint32_t key)
{
    return __uint_as_float(key >> 31 ? key & 0x7fffffffu : ~key);
}

constexpr uint32_t LOWEST = 0x00800000u, INFINITE = 0xff800000u; /* keys of the lowest finite score, and of +inf */

__device__ __forceinline__ double likelihood(float score, float highest)
{
    return exp((double)score - (double)highest);
}

__device__ __forceinline__ uint64_t weight(float score, float highest)
{
    return (uint64_t)(likelihood(score, highest) * LIKELIEST + 0.5);
}

/* --- sums of 64 bits --- */

__device__ __forceinline__ uint64_t from_lane(uint64_t v, int lane)
{
    const uint32_t low = __shfl_sync(0xffffffffu, (uint32_t)v, lane);
    const uint32_t high = __shfl_sync(0xffffffffu, (uint32_t)(v >> 32), lane);
    return (uint64_t)high << 32 | low;
}

__device__ __forceinline__ uint64_t lanes_total(uint64_t v)
{
    HN_UNROLL
    for (int step = 16; step > 0; step /= 2) v += from_lane(v, (int)(threadIdx.x % 32) ^ step);
    return v;
}

/* Lane w of every warp gets the total of warp w, those beyond the block's warps 0. */
template <int THREADS> __device__ __forceinline__ uint64_t warp_totals(uint64_t v)
{
    HN_SHARED(uint64_t, totals, [THREADS / 32]);
    const int lane = (int)threadIdx.x % 32;
    v = lanes_total(v);
    if (lane == 0) totals[threadIdx.x / 32] = v;
    __syncthreads();
    v = lane < THREADS / 32 ? totals[lane % (THREADS / 32)] : 0;
    __syncthreads();
    return v;
}

/* The lane whose part takes the running sum beyond `at`, which becomes what is left of it there. There is one. */
__device__ __forceinline__ int part_of(uint64_t part, uint64_t &at)
{
    const int lane = (int)threadIdx.x % 32;
    uint64_t sum = part;
    HN_UNROLL
    for (int step = 1; step < 32; step *= 2) {
        const uint64_t below = from_lane(sum, lane < step ? lane : lane - step);
        sum += lane < step ? 0 : below;
    }
    const int found = __popc(__ballot_sync(0xffffffffu, sum <= at));
    at -= from_lane(sum - part, found);
    return found;
}

/* 64 bits in two words, so that atomics are the chip's own: what overflows the lower one is carried by whoever added it. */
struct buckets {
    uint32_t *low, *high; /* [BUCKETS] */

    __device__ void add(uint32_t bucket, uint64_t v) const
    {
        const uint32_t more = (uint32_t)v, before = atomicAdd(&low[bucket], more);
        const uint32_t carry = (uint32_t)(v >> 32) + (before + more < more);
        if (carry) atomicAdd(&high[bucket], carry);
    }
    __device__ uint64_t get(int bucket) const { return (uint64_t)high[bucket] << 32 | low[bucket]; }
};

/* --- looking for an id, and for a key --- */

/* The first id with which the sum of measure(score, id) goes beyond goal(sum over the row), which is less than that sum. */
template <int THREADS, class M, class G>
__device__ __forceinline__ int find_id(const score_row &row, M measure, G goal)
{
    const int warp = (int)threadIdx.x / 32;
    int first = 0, end = row.count;
    uint64_t at = 0;
    HN_ROLLED
    while (end - first > 1) {
        const int piece = (end - first + THREADS / 32 - 1) / (THREADS / 32);
        const int from = min(first + warp * piece, end), to = min(from + piece, end);
        uint64_t sum = 0;
        walk(row, from, to, (int)threadIdx.x % 32, 32, [&](float s, int v) { sum += measure(s, v); });
        sum = warp_totals<THREADS>(sum);
        if (end - first == row.count) at = goal(lanes_total(sum));
        first += part_of(sum, at) * piece;
        end = min(first + piece, end);
    }
    return first;
}

struct found_key {
    bool found;
    uint32_t key;
    uint64_t at, own; /* what is left of the goal at this key; the sum of all that have it */
};

/* The bucket in which the sum goes beyond `at`, which becomes what is left; a warp has the same share of buckets as any other. */
template <int THREADS> __device__ __forceinline__ int find_bucket(const buckets &b, uint64_t warp_total, uint64_t &at)
{
    constexpr int SHARE = BUCKETS / (THREADS / 32), EACH = SHARE / 32;
    int bucket = part_of(warp_total, at) * SHARE + (int)threadIdx.x % 32 * EACH;
    uint64_t sum = 0;
    for (int i = 0; i < EACH; i++) sum += b.get(bucket + i);
    bucket += (part_of(sum, at) - (int)threadIdx.x % 32) * EACH;
    for (; at >= b.get(bucket); bucket++) at -= b.get(bucket);
    return bucket;
}

/* The highest key with which the sum of measure(score), from `top` downwards, goes beyond goal(sum over the row); not found where the goal
 * is not below that sum. */
template <int THREADS, class M, class G>
__device__ __forceinline__ found_key find_key(const score_row &row, const buckets &b, uint32_t top, M measure, G goal)
{
    constexpr int SHARE = BUCKETS / (THREADS / 32);
    const int thread = (int)threadIdx.x;
    found_key is = {false, 0, 0, 0};
    uint32_t distance = 0; /* from `top`, as far as it is known */
    HN_ROLLED
    for (int step = 0, shift = 20, known = 32; step < STEPS; step++, known = shift, shift = shift > 12 ? shift - 12 : 0) {
        for (int i = thread; i < BUCKETS; i += THREADS) b.low[i] = b.high[i] = 0;
        __syncthreads();
        walk(row, 0, row.count, thread, THREADS, [&](float s, int) {
            const uint64_t d = top - key_of(s);
            if (d >> known != distance) return;
            const uint64_t m = measure(s);
            if (m) b.add((uint32_t)(d >> shift) & ((1u << (known - shift)) - 1), m);
        });
        __syncthreads();
        uint64_t sum = 0;
        for (int i = thread % 32; i < SHARE; i += 32) sum += b.get(thread / 32 * SHARE + i);
        sum = warp_totals<THREADS>(sum);
        if (step == 0) {
            const uint64_t all = lanes_total(sum);
            is.at = goal(all);
            if (is.at >= all) return is;
        }
        const int bucket = find_bucket<THREADS>(b, sum, is.at);
        is.own = b.get(bucket);
        distance = distance << (known - shift) | (uint32_t)bucket;
        __syncthreads();
    }
    is.found = true;
    is.key = top - distance;
    return is;
}

/* --- the rules --- */

struct choice {
    int32_t *id;
    const float *logits;
    int64_t stride;
    int count;
    hn_next_tokens next;
    hn_sampling how;
};

/* Tokens above a key, and of those that have it the ids up to `last`. */
struct kept {
    uint32_t key;
    int last;

    __device__ bool has(float score, int v) const { return key_of(score) > key || (key_of(score) == key && v <= last); }
};

/* The first of the highest, and its key; HN_NO_TOKEN where they cannot be chosen from. */
template <int THREADS> __device__ __forceinline__ int find_best(const score_row &row, uint32_t &top)
{
    uint32_t key = 0;
    int id = 0;
    walk(row, 0, row.count, (int)threadIdx.x, THREADS, [&](float s, int v) {
        const uint32_t one = s < INFINITY ? key_of(s) : ~0u; /* NaN, too, is above all */
        if (one <= key) return;
        key = one;
        id = v;
    });
    top = group_max<THREADS>(key);
    if (top < LOWEST || top >= INFINITE) return HN_NO_TOKEN;
    return (int)~group_max<THREADS>(key == top ? ~(uint32_t)id : 0u);
}

template <int THREADS>
__device__ __forceinline__ kept keep_top_p(const score_row &row, const buckets &b, uint32_t top, float highest, kept before, float top_p)
{
    const found_key end = find_key<THREADS>(
        row, b, top, [&](float s) { return key_of(s) >= before.key ? weight(s, highest) : 0; },
        [&](uint64_t all) {
            const uint64_t needed = (uint64_t)ceil((double)top_p * (double)all);
            return needed ? needed - 1 : 0;
        });
    const uint64_t each = weight(score_of(end.key), highest), rank = end.at / each;
    if ((rank + 1) * each >= end.own) return {end.key, INT_MAX};
    return {end.key, find_id<THREADS>(
                         row, [&](float s, int) { return (uint64_t)(key_of(s) == end.key); }, [&](uint64_t) { return rank; })};
}

__device__ __forceinline__ kept keep_min_p(uint32_t top, float highest, kept before, float min_p)
{
    uint32_t key = key_of((float)((double)highest + log((double)min_p)));
    while (key < top && likelihood(score_of(key), highest) < (double)min_p) key++;
    return key > before.key ? kept{key, INT_MAX} : before;
}

template <int THREADS>
__device__ __forceinline__ int draw(const choice &a, const score_row &row, const buckets &b, float highest)
{
    const uint32_t top = key_of(highest);
    kept keeps = {LOWEST, INT_MAX};
    if (a.how.top_k > 0) {
        const found_key end = find_key<THREADS>(
            row, b, top, [&](float s) { return (uint64_t)(key_of(s) >= LOWEST); },
            [&](uint64_t) { return (uint64_t)a.how.top_k - 1; });
        if (end.found) keeps.key = end.key;
    }
    if (a.how.top_p < 1.0f) keeps = keep_top_p<THREADS>(row, b, top, highest, keeps, a.how.top_p);
    if (a.how.min_p > 0.0f) keeps = keep_min_p(top, highest, keeps, a.how.min_p);
    const philox_words drawn = philox(a.how.seed, 0, HN_SITE(0, HN_SITE_SAMPLE, 0), a.next.example[blockIdx.x], a.next.position[blockIdx.x]);
    const uint64_t number = ((uint64_t)(drawn.word[0] >> 5) << 26 | drawn.word[1] >> 6) << 11; /* of 2^64 */
    return find_id<THREADS>(
        row, [&](float s, int v) { return keeps.has(s, v) ? weight(s, highest) : 0; }, [&](uint64_t all) { return __umul64hi(number, all); });
}

template <int THREADS> __global__ void __launch_bounds__(THREADS) choose_kernel(const choice a)
{
    HN_SHARED(uint32_t, low, [BUCKETS]);
    HN_SHARED(uint32_t, high, [BUCKETS]);
    const int64_t r = blockIdx.x, words = (a.count + 31) / 32;
    uint32_t *seen = a.next.seen ? a.next.seen + a.next.place[r] * words : nullptr;
    score_row row = {a.logits + r * a.stride, seen, a.count, a.how.repetition_penalty, 1.0f};
    uint32_t top;
    int id = find_best<THREADS>(row, top);
    if (id != HN_NO_TOKEN && a.how.temperature > 0.0f) {
        row.temperature = a.how.temperature;
        const float highest = score_of(top) / row.temperature;
        id = fabsf(highest) < INFINITY ? draw<THREADS>(a, row, {low, high}, highest) : HN_NO_TOKEN;
    }
    if (threadIdx.x) return;
    a.id[r] = id;
    if (seen && id != HN_NO_TOKEN) seen[id / 32] |= 1u << id % 32; /* all have read it */
}

} // namespace

void HN_ISA_NAME(hnp_choose_tokens)(hn_ops_context *ctx, int32_t *id, const hn_tensor *logits, const hn_next_tokens *next,
                                    const hn_sampling *sampling)
{
    const int64_t rows = logits->shape[0], count = logits->shape[1];
    HN_ASSERT(logits->dtype == HN_F32 && count > 0 && count <= HNP_CHOOSE_MOST);
    if (!rows) return;
    const choice a = {id, (const float *)logits->data, logits->stride, (int)count, *next, *sampling};
    if (count <= FEW_TOKENS)
        launch(ctx, "choose_tokens", choose_kernel<128>, dim3((unsigned)rows), 128, 0, a);
    else
        launch(ctx, "choose_tokens", choose_kernel<1024>, dim3((unsigned)rows), 1024, 0, a);
}
