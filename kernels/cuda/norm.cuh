/* What layer norm and RMS norm share on the GPU: they differ by the mean and by beta, which CENTRED takes in or
 * leaves out, as in norm.h.
 *
 * A row lives in registers. A group of GROUP threads has it (8 lanes to a warp, or a block), each thread V vectors of
 * N elements:
 *
 *     vector v of lane l     columns (v GROUP + l) N  to  + N - 1
 *
 * All its loads start before the first is used, so a warp has the whole row, or in backward the two or three rows, under way
 * at once; memory is read once and written once, and the passes (sum, squares, y; or the two sums, dx) meet in the group's
 * sums alone. A row may be `groups` rows laid end to end, each normalised by itself; "row" below is one of those.
 *
 *     columns    up to   128     512     768    1024    2048    4096    8192     odd widths, strides: up to 1024, 8192
 *     GROUP x values   8 x 16  32 x 16  32 x 24  32 x 32  256 x 8  256 x 16  256 x 32       32 x 32, 256 x 32, one at a time
 *
 * Backward. One block a multiprocessor, of as many warps as registers allow (narrow rows), or a few blocks of one row each
 * (wide ones); all are resident, and warps, or blocks, take rows by turns, so that few rows reach every multiprocessor. A
 * group keeps its sums of dgamma and dbeta in registers too. These have a fixed order, in two stages without atomics:
 *
 *     a block adds its warps' in turn and stores    partial [blocks][dgamma, dbeta if CENTRED][C]    in the workspace
 *     a second kernel adds the blocks, RUNS runs of them a column, then the runs, to dgamma and dbeta
 *
 * So bits depend on the number of rows and on the GPU, and on nothing else.
 *
 * Bytes, forward: read x, residual, write h, y; backward: read dy, h (, dh_in), write dx (, d_residual). That is the least
 * there is; beside it stand 8 bytes a row, gamma and beta out of the cache, and the partial sums: 8 C bytes a block (4 C
 * without beta), written and read once; for 768 columns on 132 multiprocessors 0.8 MB, whatever the rows. */
#ifndef HONE_KERNELS_CUDA_NORM_CUH
#define HONE_KERNELS_CUDA_NORM_CUH

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/random.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"

constexpr int NORM_NARROW = 128, NORM_WIDE = 256; /* threads of a forward block; NORM_WIDE have a wide row */
constexpr int NORM_WIDEST = 8192;
constexpr int NORM_RUNS = 16;
constexpr int NORM_MULTIPROCESSORS = 148; /* of a GPU, for the size of the partial sums; more have no use */

/* How a row lies in registers. */
template <class T_, int N_, int V_, int GROUP_, bool CENTRED_> struct norm_shape {
    using T = T_;
    static constexpr int N = N_, V = V_, GROUP = GROUP_, KINDS = CENTRED_ ? 2 : 1;
    static constexpr bool CENTRED = CENTRED_, WIDE = GROUP == NORM_WIDE;
    static constexpr int UNROLL = N > 1 ? V : 1; /* one element at a time is no hot way: local memory will do */
    static constexpr int FORWARD = WIDE ? NORM_WIDE : NORM_NARROW;
    /* Backward: the registers of sums, and of dy, h and dh_in as they lay, which bound the threads of a multiprocessor. */
    static constexpr int HELD = V * (KINDS * N + 3 * (N * (int)sizeof(T) < 4 ? 1 : N * (int)sizeof(T) / 4));
    static constexpr int RESIDENT = HELD <= 40 ? 768 : HELD <= 60 ? 640 : HELD <= 84 ? 512 : HELD <= 120 ? 384 : 256;
    static constexpr int BACKWARD = WIDE ? NORM_WIDE : RESIDENT, BLOCKS = RESIDENT / BACKWARD; /* a multiprocessor */
    /* What goes through the rows together: a warp of several groups, or a group. */
    static constexpr int UNIT = WIDE ? NORM_WIDE : 32;

    static __device__ __forceinline__ int column(int v, int lane) { return (v * GROUP + lane) * N; }
};

/* One row among all: a tensor's row, and where the group of columns begins in it. */
struct norm_place {
    int64_t number, row;
    int first, width; /* width 0: there is no such row */

    template <class T> __device__ __forceinline__ T *in(const matrix<T> &m) const { return m.row(row) + first; }
};

/* `count` rows of `columns`, `groups` of them a tensor's row. */
struct norm_rows {
    int64_t count;
    int columns, groups;

    __device__ __forceinline__ norm_place place(int64_t number) const
    {
        if (number >= count) return {0, 0, 0, 0};
        if (groups == 1) return {number, number, 0, columns};
        const uint32_t row = (uint32_t)number / (uint32_t)groups;
        return {number, row, (int)((uint32_t)number - row * (uint32_t)groups) * columns, columns};
    }
};

/* All vectors of a row, under way; zeros beyond it. */
template <class S>
__device__ __forceinline__ void norm_fetch(held<typename S::T, S::N> (&out)[S::V], const matrix<typename S::T> &from,
                                           const norm_place &at, int lane)
{
    HN_UNROLL_BY(S::UNROLL)
    for (int v = 0; v < S::V; v++) {
        const int c = S::column(v, lane);
        out[v] = {};
        if (from.data && c < at.width) out[v] = fetch<S::N>(at.in(from) + c);
    }
}

/* --- forward --- */

template <class T> struct norm_forward {
    matrix<T> y, h, x, residual;
    float *mean, *rstd;
    any_matrix gamma, beta; /* one row each */
    norm_rows rows;
    float epsilon;
    drop_site drop;
};

/* h = residual + dropout(x), rounded as it is stored. Returns the sum of this thread's part. */
template <class S>
__device__ __forceinline__ float norm_make_h(float (&h)[S::V][S::N], const norm_forward<typename S::T> &a,
                                             const norm_place &at, int lane)
{
    using T = typename S::T;
    held<T, S::N> x[S::V], residual[S::V];
    norm_fetch<S>(x, a.x, at, lane);
    norm_fetch<S>(residual, a.residual, at, lane);
    const drop_row drawn = drop_row_of(a.drop, at.row, a.rows.columns);
    float sum = 0.0f;
    HN_UNROLL_BY(S::UNROLL)
    for (int v = 0; v < S::V; v++) {
        const int c = S::column(v, lane);
        float r[S::N];
        unpack(h[v], x[v]);
        unpack(r, residual[v]);
        drop_apply(h[v], a.drop, drawn, c);
        HN_UNROLL
        for (int i = 0; i < S::N; i++) {
            h[v][i] = to_float(from_float<T>(h[v][i] + r[i]));
            sum += h[v][i];
        }
        if (a.h.data && c < at.width) store(at.in(a.h) + c, h[v]);
    }
    return sum;
}

template <class S>
__global__ void __launch_bounds__(S::FORWARD) norm_forward_kernel(const norm_forward<typename S::T> a)
{
    const int lane = (int)threadIdx.x % S::GROUP, group = (int)threadIdx.x / S::GROUP;
    const norm_place at = a.rows.place((int64_t)blockIdx.x * (S::FORWARD / S::GROUP) + group);
    float h[S::V][S::N], mean = 0.0f, squares = 0.0f;
    const float sum = norm_make_h<S>(h, a, at, lane);
    if constexpr (S::CENTRED) mean = group_sum<S::GROUP>(sum) / (float)a.rows.columns;
    HN_UNROLL_BY(S::UNROLL)
    for (int v = 0; v < S::V; v++) {
        if (S::column(v, lane) >= at.width) continue;
        HN_UNROLL
        for (int i = 0; i < S::N; i++) squares += (h[v][i] - mean) * (h[v][i] - mean);
    }
    const float rstd = 1.0f / sqrtf(group_sum<S::GROUP>(squares) / (float)a.rows.columns + a.epsilon);
    HN_UNROLL_BY(S::UNROLL)
    for (int v = 0; v < S::V; v++) {
        const int c = S::column(v, lane);
        if (c >= at.width) continue;
        float gamma[S::N], beta[S::N] = {};
        load_any(gamma, a.gamma, 0, c);
        if constexpr (S::CENTRED) load_any(beta, a.beta, 0, c);
        HN_UNROLL
        for (int i = 0; i < S::N; i++) h[v][i] = (h[v][i] - mean) * rstd * gamma[i] + beta[i];
        store(at.in(a.y) + c, h[v]);
    }
    if (lane || !at.width) return;
    if (S::CENTRED && a.mean) a.mean[at.number] = mean;
    if (a.rstd) a.rstd[at.number] = rstd;
}

/* --- backward --- */

template <class T> struct norm_backward {
    matrix<T> dx, d_residual, dy, dh_in, h;
    const float *mean, *rstd;
    any_matrix gamma;
    float *partial; /* [blocks][KINDS][C], NULL: dgamma and dbeta are not wanted */
    norm_rows rows;
    drop_site drop;
};

/* dx and d_residual of one row, whose part of dgamma (and dbeta) is added to `sums`. Every element is loaded before the
 * same thread writes it, so outputs may alias dy and dh_in. */
template <class S>
__device__ __forceinline__ void norm_backward_row(float (&sums)[S::KINDS][S::V][S::N],
                                                  const norm_backward<typename S::T> &a, const norm_place &at, int lane)
{
    held<typename S::T, S::N> dys[S::V], hs[S::V], ins[S::V];
    norm_fetch<S>(dys, a.dy, at, lane);
    norm_fetch<S>(hs, a.h, at, lane);
    norm_fetch<S>(ins, a.dh_in, at, lane);
    const float mean = S::CENTRED && at.width ? a.mean[at.number] : 0.0f, rstd = at.width ? a.rstd[at.number] : 0.0f;
    float means[S::KINDS] = {}; /* of g n, and of g */
    HN_UNROLL_BY(S::UNROLL)
    for (int v = 0; v < S::V; v++) {
        const int c = S::column(v, lane);
        float dy[S::N], n[S::N], gamma[S::N];
        if (c >= at.width) continue;
        unpack(dy, dys[v]);
        unpack(n, hs[v]);
        load_any(gamma, a.gamma, 0, c);
        HN_UNROLL
        for (int i = 0; i < S::N; i++) {
            n[i] = (n[i] - mean) * rstd;
            means[0] += dy[i] * gamma[i] * n[i];
            sums[0][v][i] += dy[i] * n[i];
            if constexpr (S::CENTRED) {
                means[1] += dy[i] * gamma[i];
                sums[1][v][i] += dy[i];
            }
        }
    }
    group_sums<S::GROUP>(means);
    HN_UNROLL
    for (int k = 0; k < S::KINDS; k++) means[k] /= (float)a.rows.columns;
    const drop_row drawn = drop_row_of(a.drop, at.row, a.rows.columns);
    HN_UNROLL_BY(S::UNROLL)
    for (int v = 0; v < S::V; v++) {
        const int c = S::column(v, lane);
        float dy[S::N], h[S::N], gamma[S::N], dh[S::N];
        if (c >= at.width) continue;
        unpack(dy, dys[v]);
        unpack(h, hs[v]);
        unpack(dh, ins[v]);
        load_any(gamma, a.gamma, 0, c);
        HN_UNROLL
        for (int i = 0; i < S::N; i++) {
            const float g = dy[i] * gamma[i] - (S::CENTRED ? means[S::KINDS - 1] : 0.0f);
            dh[i] += rstd * (g - (h[i] - mean) * rstd * means[0]);
        }
        if (a.d_residual.data) store(at.in(a.d_residual) + c, dh);
        if (!a.dx.data) continue;
        drop_apply(dh, a.drop, drawn, c);
        store(at.in(a.dx) + c, dh);
    }
}

/* The sums of a block's groups, to its place among the partial sums: first those of a warp's groups, then warp by warp in
 * shared memory. A group that is a block has them already. */
template <class S>
__device__ __forceinline__ void norm_store_sums(const norm_backward<typename S::T> &a, float (&sums)[S::KINDS][S::V][S::N])
{
    HN_DYNAMIC_SHARED(memory); /* [KINDS][columns], where a block has several groups */
    const int lane = (int)threadIdx.x % S::GROUP, columns = a.rows.columns;
    float *partial = a.partial + (int64_t)blockIdx.x * S::KINDS * columns, *to = S::WIDE ? partial : (float *)memory;
    for (int turn = 0; turn < S::BACKWARD / S::UNIT; turn++) {
        HN_UNROLL_BY(S::UNROLL * S::N * S::KINDS)
        for (int j = 0; j < S::KINDS * S::V * S::N; j++) {
            float &sum = sums[j / (S::V * S::N)][j / S::N % S::V][j % S::N];
            const int c = S::column(j / S::N % S::V, lane) + j % S::N, at = j / (S::V * S::N) * columns + c;
            for (int step = S::GROUP; turn == 0 && step < 32; step *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
            if (c >= columns || (int)threadIdx.x - lane != S::UNIT * turn) continue;
            to[at] = turn ? to[at] + sum : sum;
        }
        if (!S::WIDE) __syncthreads();
    }
    for (int i = (int)threadIdx.x; !S::WIDE && i < S::KINDS * columns; i += S::BACKWARD) partial[i] = to[i];
}

template <class S>
__global__ void __launch_bounds__(S::BACKWARD, S::BLOCKS) norm_backward_kernel(const norm_backward<typename S::T> a)
{
    constexpr int UNITS = S::BACKWARD / S::UNIT, GROUPS = S::UNIT / S::GROUP;
    const int lane = (int)threadIdx.x % S::GROUP, group = (int)threadIdx.x % S::UNIT / S::GROUP;
    const int64_t unit = (int64_t)(threadIdx.x / S::UNIT) * gridDim.x + blockIdx.x;
    float sums[S::KINDS][S::V][S::N] = {};
    for (int64_t first = unit * GROUPS; first < a.rows.count; first += (int64_t)gridDim.x * UNITS * GROUPS)
        norm_backward_row<S>(sums, a, a.rows.place(first + group), lane);
    if (a.partial) norm_store_sums<S>(a, sums);
}

/* 32 columns a block; thread (run, column) adds the blocks run, run + RUNS, ...; blockIdx.y picks dgamma or dbeta. */
static __global__ void __launch_bounds__(32 * NORM_RUNS)
    norm_add_kernel(float *dgamma, float *dbeta, const float *partial, int blocks, int kinds, int columns)
{
    HN_SHARED(float, sums, [NORM_RUNS][32]);
    float *out = blockIdx.y == 0 ? dgamma : dbeta;
    const int run = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, c = (int)blockIdx.x * 32 + lane;
    if (!out) return;
    float sum = 0.0f;
    for (int b = run; b < blocks && c < columns; b += NORM_RUNS)
        sum += partial[(kinds * (int64_t)b + blockIdx.y) * columns + c];
    sums[run][lane] = sum;
    __syncthreads();
    if (run != 0 || c >= columns) return;
    for (int i = 1; i < NORM_RUNS; i++) sum += sums[i][lane];
    out[c] += sum;
}

/* --- launchers --- */

/* run(shape) with the shape for rows of so many columns; `vectors`: all of them are aligned to 16 bytes. */
template <class T, bool CENTRED, class F> void norm_shaped(int columns, bool vectors, F run)
{
    constexpr int N = 16 / sizeof(T);
    if (!vectors && columns <= 1024)
        run(norm_shape<T, 1, 32, 32, CENTRED>());
    else if (!vectors)
        run(norm_shape<T, 1, 32, 256, CENTRED>());
    else if (columns <= 128)
        run(norm_shape<T, N, 16 / N, 8, CENTRED>());
    else if (columns <= 512)
        run(norm_shape<T, N, 16 / N, 32, CENTRED>());
    else if (columns <= 768)
        run(norm_shape<T, N, 24 / N, 32, CENTRED>());
    else if (columns <= 1024)
        run(norm_shape<T, N, 32 / N, 32, CENTRED>());
    else if (columns <= 2048)
        run(norm_shape<T, N, 8 / N, 256, CENTRED>());
    else if (columns <= 4096)
        run(norm_shape<T, N, 16 / N, 256, CENTRED>());
    else
        run(norm_shape<T, N, 32 / N, 256, CENTRED>());
}

/* Whether all rows allow vectors. */
static inline bool norm_vectors(const norm_rows &rows, int n, std::initializer_list<const hn_tensor *> matrices,
                                std::initializer_list<const hn_tensor *> parameters)
{
    bool fit = rows.columns % n == 0;
    for (const hn_tensor *m : matrices) fit = fit && (!present(m) || rows_aligned(m));
    for (const hn_tensor *p : parameters) fit = fit && (!present(p) || (uintptr_t)p->data % 16 == 0);
    return fit;
}

/* The rows of h; false, with the failure recorded, where they are too wide. */
static inline bool norm_rows_of(hn_ops_context *ctx, const char *name, norm_rows *rows, const hn_tensor *h, int groups)
{
    const int64_t columns = h->shape[1] / groups;
    HN_ASSERT(columns * groups == h->shape[1] && h->shape[0] * groups <= UINT32_MAX);
    *rows = {h->shape[0] * groups, (int)columns, groups};
    if (columns <= NORM_WIDEST) return true;
    hn_fail(ctx->error, HN_ERR_UNSUPPORTED, "%s: rows of %lld columns, the GPU's kernels take up to %d", name,
            (long long)columns, NORM_WIDEST);
    return false;
}

template <class T, bool CENTRED>
void norm_forward_launch(hn_ops_context *ctx, const char *name, const norm_forward<T> &a, bool vectors)
{
    norm_shaped<T, CENTRED>(a.rows.columns, vectors, [&](auto shape) {
        using S = decltype(shape);
        const int64_t blocks = ceil_div(a.rows.count, S::FORWARD / S::GROUP);
        launch(ctx, name, norm_forward_kernel<S>, dim3((unsigned)blocks), S::FORWARD, 0, a);
    });
}

/* Bytes of partial sums at most: BLOCKS KINDS columns is that much at most. */
static inline size_t norm_partial_most(int64_t columns)
{
    return NORM_MULTIPROCESSORS * sizeof(float) * (size_t)(6 * columns < 4 * 4096 ? 6 * columns : 4 * 4096);
}

/* a.partial comes from here. */
template <class T, bool CENTRED>
void norm_backward_launch(hn_ops_context *ctx, const char *name, norm_backward<T> a, float *dgamma, float *dbeta,
                          bool vectors)
{
    int processors = hn_cuda_device_of(ctx->backend)->multiprocessors;
    if (processors > NORM_MULTIPROCESSORS) processors = NORM_MULTIPROCESSORS;
    norm_shaped<T, CENTRED>(a.rows.columns, vectors, [&](auto shape) {
        using S = decltype(shape);
        const int64_t most = ceil_div(a.rows.count, S::UNIT / S::GROUP);
        const int columns = a.rows.columns, blocks = (int)(most < S::BLOCKS * processors ? most : S::BLOCKS * processors);
        const size_t sums = S::KINDS * (size_t)columns * sizeof(float);
        if (dgamma || dbeta) {
            a.partial = (float *)scratch_take(ctx, name, (size_t)blocks * sums);
            if (!a.partial) return;
        }
        launch(ctx, name, norm_backward_kernel<S>, dim3((unsigned)blocks), S::BACKWARD,
               a.partial && !S::WIDE ? sums : 0, a);
        if (a.partial)
            launch(ctx, name, norm_add_kernel, dim3((unsigned)ceil_div(columns, 32), S::KINDS), 32 * NORM_RUNS, 0, dgamma,
                   dbeta, (const float *)a.partial, blocks, S::KINDS, columns);
    });
}

#endif
