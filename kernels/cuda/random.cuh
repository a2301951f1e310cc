/* core/philox.h for a GPU: the same words from the same counter, so that a mask is the same on every machine.
 */
#ifndef HONE_KERNELS_CUDA_RANDOM_CUH
#define HONE_KERNELS_CUDA_RANDOM_CUH

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"

struct philox_words {
    uint32_t word[4];
};

__device__ __forceinline__ philox_words philox(uint64_t seed, uint32_t block, uint32_t site, uint32_t example,
                                               uint32_t step)
{
    uint32_t c0 = block, c1 = site, c2 = example, c3 = step, k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    HN_UNROLL
    for (int round = 0; round < 10; round++) {
        uint32_t high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        uint32_t high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

/* hn_dropout as a kernel takes it: by value, with the step still behind its pointer, so that a graph can be
 * replayed. */
struct drop_site {
    uint64_t seed;
    const uint32_t *step, *example; /* step NULL: no dropout */
    const int32_t *position;
    uint32_t site, threshold;
    float scale;
};

static inline drop_site drop_site_of(const hn_dropout *dropout)
{
    drop_site site = {};
    site.scale = 1.0f;
    if (!dropout || !dropout->random || !(dropout->probability > 0.0f)) return site;
    site.seed = dropout->random->seed;
    site.step = dropout->random->step;
    site.example = dropout->random->example;
    site.position = dropout->random->position;
    site.site = dropout->site;
    site.threshold = hn_drop_threshold(dropout->probability);
    site.scale = 1.0f / (1.0f - dropout->probability);
    return site;
}

/* The drawing of one row of an activation: elements are numbered position * columns + column. */
struct drop_row {
    uint64_t first;
    uint32_t example, step;
};

__device__ __forceinline__ drop_row drop_row_of(const drop_site &site, int64_t row, int columns)
{
    if (!site.step) return {0, 0, 0};
    return {(uint64_t)site.position[row] * (uint64_t)columns, site.example[row], *site.step};
}

/* dropout of the N elements from `column` on. N a multiple of 4: so is the number of the first; N = 1: any
 * column. */
template <int N>
__device__ __forceinline__ void drop_apply(float (&v)[N], const drop_site &site, const drop_row &row,
                                           int column)
{
    static_assert(N == 1 || N % 4 == 0, "a drawing has four words");
    if (!site.step) return;
    const uint64_t first = row.first + (uint64_t)column;
    HN_UNROLL
    for (int i = 0; i < N; i += 4) {
        philox_words drawn =
            philox(site.seed, (uint32_t)((first + (uint64_t)i) / 4), site.site, row.example, row.step);
        HN_UNROLL
        for (int e = 0; e < (N < 4 ? N : 4); e++)
            v[i + e] =
                drawn.word[N == 1 ? first % 4 : (uint64_t)e] >= site.threshold ? v[i + e] * site.scale : 0.0f;
    }
}

/* --- probabilities of attention: element query's position * 65536 + key, site + head --- */

struct drop_query {
    uint32_t first, example; /* block of the query's key 0 */
};

__device__ __forceinline__ drop_query drop_query_of(const drop_site &site, int64_t row)
{
    return {(uint32_t)site.position[row] * (65536u / 4), site.example[row]};
}

__device__ __forceinline__ uint32_t drop_bits(const drop_site &site, uint32_t head, uint32_t step,
                                              uint32_t first, uint32_t example, uint32_t block)
{
    const philox_words drawn = philox(site.seed, first + block, site.site + head, example, step);
    uint32_t bits = 0;
    HN_UNROLL
    for (int i = 0; i < 4; i++) bits |= (uint32_t)(drawn.word[i] >= site.threshold) << i;
    return bits;
}

/* Bit i: c[i] of a piece [16 queries, 8 keys] in the layout of mma is kept. `query` are those of rows g and g
 * + 8, `key` the first key. Two neighbouring lanes share a block of four keys: the even one draws row g, the
 * odd one row g + 8. */
__device__ __forceinline__ uint32_t drop_piece(const drop_site &site, uint32_t head, uint32_t step,
                                               const drop_query (&query)[2], int key)
{
    const uint32_t t = threadIdx.x % 4, odd = t % 2;
    const uint32_t mine = drop_bits(site, head, step, odd ? query[1].first : query[0].first,
                                    odd ? query[1].example : query[0].example, (uint32_t)key / 4 + t / 2);
    const uint32_t other = __shfl_xor_sync(0xffffffffu, mine, 1);
    const uint32_t upper = odd ? other : mine, lower = odd ? mine : other;
    return (upper >> 2 * odd & 3) | (lower >> 2 * odd & 3) << 2;
}

/* The same for a piece [16 keys, 8 queries]: `query` are those of columns 2 t and 2 t + 1. The four lanes
 * whose rows share a block of four keys draw one of the four blocks of their elements each. */
__device__ __forceinline__ uint32_t drop_piece_turned(const drop_site &site, uint32_t head, uint32_t step,
                                                      const drop_query (&query)[2], int key)
{
    const uint32_t g = threadIdx.x % 32 / 4, which = g % 4;
    const uint32_t block = (uint32_t)key / 4 + which / 2 * 2 + g / 4;
    uint32_t bits = drop_bits(site, head, step, which % 2 ? query[1].first : query[0].first,
                              which % 2 ? query[1].example : query[0].example, block)
                    << 4 * which;
    bits |= __shfl_xor_sync(0xffffffffu, bits, 4);
    bits |= __shfl_xor_sync(0xffffffffu, bits, 8);
    bits >>= g % 4;
    return (bits & 1) | (bits >> 3 & 2) | (bits >> 6 & 4) | (bits >> 9 & 8);
}

#endif
