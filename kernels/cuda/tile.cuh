/* Matrix products of a block: tiles in shared memory, a warp's 16 rows of the result in its registers. The
 * same three functions for bf16 (tensor cores, mma.sync m16n8k16) and fp32 (plain multiply-add), so that a
 * kernel is written once.
 *
 * A tile is rows of D elements, PITCH apart. The 16 bytes between them turn the rows of one ldmatrix, or of
 * one vector load of a warp, to different banks; swizzling would save them and cost arithmetic.
 *
 * The result [16, 8 N] of a warp lies in its lanes as mma leaves it, for both types: lane 4 g + t holds, of
 * piece n (columns 8 n to 8 n + 7), c[n][0] c[n][1] at row g and c[n][2] c[n][3] at row g + 8, columns 8 n +
 * 2 t and the next. That is also the layout of the left operand of the next product, so probabilities go from
 * one to the other without shared memory.
 *
 * `columns` bounds the work to the first so many columns (of a product) or rows of b (of an accumulation),
 * rounded up to 16: pieces beyond are left as they are. It must be the same in the whole warp, and the tile
 * must be loaded that far. */
#ifndef HONE_KERNELS_CUDA_TILE_CUH
#define HONE_KERNELS_CUDA_TILE_CUH

#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/vector.cuh"

constexpr int WARP_ROWS = 16;

/* Whether piece n is worked on: pieces go in pairs, since the tensor core's sum runs over 16. */
__device__ __forceinline__ bool piece_used(int n, int columns)
{
    return n / 2 * 16 < columns;
}

template <class T, int D> constexpr int PITCH = D + 16 / (int)sizeof(T);

/* Starts copying `rows` rows of `width` elements, of which `valid` exist; the rest, and columns from width to
 * D, become zero. */
template <class T, int D>
__device__ __forceinline__ void tile_load(T *tile, const T *from, int64_t stride, int rows, int valid,
                                          int width)
{
    constexpr int VECTOR = 16 / (int)sizeof(T), VECTORS = D / VECTOR;
    for (int i = (int)threadIdx.x; i < rows * VECTORS; i += (int)blockDim.x) {
        const int r = i / VECTORS, c = i % VECTORS * VECTOR;
        const bool inside = r < valid && c < width;
        ptx_copy_async(tile + r * PITCH<T, D> + c, inside ? from + r * stride + c : from, inside);
    }
}

/* c += a b^T for the warp's 16 rows of tile a and the rows of tile b. */
template <int D, int N>
__device__ __forceinline__ void product(float (&c)[N][4], const bf16 *a, const bf16 *b, int columns)
{
    const int lane = (int)threadIdx.x % 32;
    a += lane % 16 * PITCH<bf16, D> + lane / 16 * 8;
    b += (lane % 8 + lane / 16 * 8) * PITCH<bf16, D> + lane / 8 % 2 * 8;
    HN_UNROLL
    for (int d = 0; d < D; d += 16) {
        uint32_t left[4];
        ptx_ldmatrix(left, a + d);
        HN_UNROLL
        for (int n = 0; n < N; n += 2) {
            if (!piece_used(n, columns)) continue;
            uint32_t right[4];
            ptx_ldmatrix(right, b + 8 * n * PITCH<bf16, D> + d);
            ptx_mma_bf16(c[n], left, right[0], right[1]);
            ptx_mma_bf16(c[n + 1], left, right[2], right[3]);
        }
    }
}

template <int D, int N>
__device__ __forceinline__ void product(float (&c)[N][4], const float *a, const float *b, int columns)
{
    const int lane = (int)threadIdx.x % 32;
    a += lane / 4 * PITCH<float, D>;
    b += lane % 4 * 2 * PITCH<float, D>;
    for (int d = 0; d < D; d += 4) {
        float upper[4], lower[4];
        load(upper, a + d);
        load(lower, a + 8 * PITCH<float, D> + d);
        HN_UNROLL
        for (int n = 0; n < N; n++) {
            if (!piece_used(n, columns)) continue;
            HN_UNROLL
            for (int e = 0; e < 2; e++) {
                float right[4];
                load(right, b + (8 * n + e) * PITCH<float, D> + d);
                HN_UNROLL
                for (int i = 0; i < 4; i++) {
                    c[n][e] += upper[i] * right[i];
                    c[n][2 + e] += lower[i] * right[i];
                }
            }
        }
    }
}

/* c += p b, p [16, 8 N] a result in registers, b the columns from `b` on of a tile: 8 M of them. */
template <int D, int N, int M>
__device__ __forceinline__ void accumulate(float (&c)[M][4], const float (&p)[N][4], const bf16 *b,
                                           int columns)
{
    const int lane = (int)threadIdx.x % 32;
    b += lane % 16 * PITCH<bf16, D> + lane / 16 * 8;
    HN_UNROLL
    for (int n = 0; n < N; n += 2) {
        if (!piece_used(n, columns)) continue;
        const uint32_t left[4] = {ptx_pack_bf16(p[n][0], p[n][1]), ptx_pack_bf16(p[n][2], p[n][3]),
                                  ptx_pack_bf16(p[n + 1][0], p[n + 1][1]),
                                  ptx_pack_bf16(p[n + 1][2], p[n + 1][3])};
        HN_UNROLL
        for (int m = 0; m < M; m += 2) {
            uint32_t right[4];
            ptx_ldmatrix_transposed(right, b + 8 * n * PITCH<bf16, D> + 8 * m);
            ptx_mma_bf16(c[m], left, right[0], right[1]);
            ptx_mma_bf16(c[m + 1], left, right[2], right[3]);
        }
    }
}

template <int D, int N, int M>
__device__ __forceinline__ void accumulate(float (&c)[M][4], const float (&p)[N][4], const float *b,
                                           int columns)
{
    const int lane = (int)threadIdx.x % 32;
    b += lane % 4 * 2;
    HN_UNROLL
    for (int n = 0; n < N; n++) {
        if (!piece_used(n, columns)) continue;
        for (int k = 0; k < 8;
             k++) { /* row 8 n + k of b; its probabilities lie with lane k / 2 of each group of four */
            const int owner = lane / 4 * 4 + k / 2;
            const float upper = __shfl_sync(0xffffffffu, k % 2 ? p[n][1] : p[n][0], owner);
            const float lower = __shfl_sync(0xffffffffu, k % 2 ? p[n][3] : p[n][2], owner);
            HN_UNROLL
            for (int m = 0; m < M; m++) {
                float right[2];
                load(right, b + (8 * n + k) * PITCH<float, D> + 8 * m);
                HN_UNROLL
                for (int e = 0; e < 2; e++) {
                    c[m][e] += upper * right[e];
                    c[m][2 + e] += lower * right[e];
                }
            }
        }
    }
}

/* c += p^T b for 16 columns of tile p, from `p` on, whose rows are PW wide: row r of p goes with row r of b, of which `rows` count. */
template <int D, int PW, int M>
__device__ __forceinline__ void accumulate_turned(float (&c)[M][4], const bf16 *p, const bf16 *b, int rows)
{
    const int lane = (int)threadIdx.x % 32;
    p += (lane / 16 * 8 + lane % 8) * PITCH<bf16, PW> + lane / 8 % 2 * 8;
    b += lane % 16 * PITCH<bf16, D> + lane / 16 * 8;
    for (int r = 0; r < rows; r += 16) {
        uint32_t left[4];
        ptx_ldmatrix_transposed(left, p + r * PITCH<bf16, PW>);
        HN_UNROLL
        for (int m = 0; m < M; m += 2) {
            uint32_t right[4];
            ptx_ldmatrix_transposed(right, b + r * PITCH<bf16, D> + 8 * m);
            ptx_mma_bf16(c[m], left, right[0], right[1]);
            ptx_mma_bf16(c[m + 1], left, right[2], right[3]);
        }
    }
}

template <int D, int PW, int M>
__device__ __forceinline__ void accumulate_turned(float (&c)[M][4], const float *p, const float *b, int rows)
{
    const int lane = (int)threadIdx.x % 32;
    p += lane / 4;
    b += lane % 4 * 2;
    for (int r = 0; r < rows; r++) {
        const float upper = p[r * PITCH<float, PW>], lower = p[r * PITCH<float, PW> + 8];
        HN_UNROLL
        for (int m = 0; m < M; m++) {
            float right[2];
            load(right, b + r * PITCH<float, D> + 8 * m);
            HN_UNROLL
            for (int e = 0; e < 2; e++) {
                c[m][e] += upper * right[e];
                c[m][2 + e] += lower * right[e];
            }
        }
    }
}

/* Stores factor * c into rows of `to`, of which `valid` exist, and columns of which `width` exist. */
template <class T, int M>
__device__ __forceinline__ void tile_store(T *to, int64_t stride, const float (&c)[M][4],
                                           const float (&factor)[2], int valid, int width)
{
    const int lane = (int)threadIdx.x % 32;
    HN_UNROLL
    for (int r = 0; r < 2; r++) {
        const int row = lane / 4 + 8 * r;
        if (row >= valid) continue;
        HN_UNROLL
        for (int m = 0; m < M; m++) {
            const int column = 8 * m + lane % 4 * 2;
            const float pair[2] = {c[m][2 * r] * factor[r], c[m][2 * r + 1] * factor[r]};
            if (column < width) store(to + row * stride + column, pair);
        }
    }
}

#endif
