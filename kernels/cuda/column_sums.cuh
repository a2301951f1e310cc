/* Sums of a matrix's columns, which are the gradient of a bias: in one stage or two, always in the same order, without atomics. A warp
 * has 32 vectors of columns and every eighth row of its block's part, some rows under way at a time; a block adds its warps, and a second launch
 * adds the parts. */
#ifndef HONE_KERNELS_CUDA_COLUMN_SUMS_CUH
#define HONE_KERNELS_CUDA_COLUMN_SUMS_CUH

#include "kernels/cuda/rowwise.cuh"

static constexpr int SUM_THREADS = 256, SUM_WARPS = SUM_THREADS / 32;
static constexpr int SUM_UNDER_WAY = 4;
static constexpr int64_t SUM_ROWS = 64, SUM_BLOCKS = 1024;

/* Sums over the rows [part part_rows, ...) of columns of x, blockIdx.y being the part: out[part] = sums, or out[0] += sums. */
template <class T, int N>
__global__ void __launch_bounds__(SUM_THREADS)
    column_sums_kernel(float *out, const matrix<T> x, int64_t rows, int columns, int64_t part_rows, bool add)
{
    HN_SHARED(float, sums, [SUM_WARPS][32 * N]);
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, strip = (int)blockIdx.x * 32 * N;
    const int c = strip + lane * N;
    const int64_t first = (int64_t)blockIdx.y * part_rows, end = min(first + part_rows, rows);
    float sum[N] = {};
    for (int64_t r = first + warp; r < end && c < columns; r += SUM_WARPS * SUM_UNDER_WAY) {
        pack<T, N> p[SUM_UNDER_WAY] = {};
        HN_UNROLL
        for (int i = 0; i < SUM_UNDER_WAY; i++)
            if (r + i * SUM_WARPS < end) p[i] = *reinterpret_cast<const pack<T, N> *>(x.row(r + i * SUM_WARPS) + c);
        HN_UNROLL
        for (int i = 0; i < SUM_UNDER_WAY; i++) {
            HN_UNROLL
            for (int e = 0; e < N; e++) sum[e] += to_float(p[i].element[e]);
        }
    }
    HN_UNROLL
    for (int e = 0; e < N; e++) sums[warp][lane * N + e] = sum[e];
    __syncthreads();
    for (int at = (int)threadIdx.x; at < 32 * N && strip + at < columns; at += SUM_THREADS) {
        float *to = out + (int64_t)blockIdx.y * columns + strip + at;
        float total = add ? *to : 0.0f;
        for (int w = 0; w < SUM_WARPS; w++) total += sums[w][at];
        *to = total;
    }
}

/* dbias += sums of dy's columns. `partial` has room for SUM_BLOCKS blocks; NULL: a block takes all rows of its columns, which serves
 * where there are columns enough to fill the chip. */
static inline void column_sums(hn_ops_context *ctx, const char *name, float *dbias, const hn_tensor *dy, float *partial)
{
    const int64_t rows = dy->shape[0], columns = dy->shape[1];
    with_vectors(dy->dtype, columns, {dy}, [&](auto zero, auto n) {
        using T = decltype(zero);
        constexpr int N = n.value;
        const int64_t strips = ceil_div(columns, 32 * N), most = partial && strips < SUM_BLOCKS ? SUM_BLOCKS / strips : 1;
        const int64_t wanted = ceil_div(rows, SUM_ROWS) < most ? ceil_div(rows, SUM_ROWS) : most;
        const int64_t part_rows = ceil_div(rows, wanted), parts = ceil_div(rows, part_rows);
        const bool one = parts == 1;
        launch(ctx, name, column_sums_kernel<T, N>, dim3((unsigned)strips, (unsigned)parts), SUM_THREADS, 0, one ? dbias : partial,
               matrix_of<T>(dy), rows, (int)columns, part_rows, one);
        if (one) return;
        launch(ctx, name, column_sums_kernel<float, 1>, dim3((unsigned)ceil_div(columns, 32)), SUM_THREADS, 0, dbias,
               matrix<float>{partial, columns}, parts, (int)columns, parts, true);
    });
}

#endif
