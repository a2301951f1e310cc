/* Layer normalisation on the GPU, as layernorm.h defines it.
 *
 * Forward. A group of threads has a row: a warp up to WARP_COLUMNS columns (four rows a block), a block of
 * 256 beyond. The row is read once, rounded as h is stored, and kept in shared memory as fp32 for the exact
 * variance (a second pass) and for y (a third). Every thread reads back only what it wrote, so the passes
 * meet in the two sums alone. Any number of columns and any stride: vectors of 16 bytes where all rows allow
 * it, else one element at a time.
 *
 * Backward. Groups take rows by turns of a fixed number of blocks; two passes over dy and h, the second out
 * of the cache. The sums over rows have a fixed order, in two stages without atomics:
 *
 *     a group adds its rows into its own dgamma, dbeta in shared memory    [groups][2][C]
 *     a block adds its groups and stores    partial [blocks][2][C]         in the workspace
 *     a second kernel adds the blocks, eight runs of them a column, then the runs, to dgamma and dbeta
 *
 * So bits depend on the number of rows and on nothing else. Bytes moved, forward: read x, residual, write h,
 * y; backward: read dy, h (, dh_in), write dx (, d_residual): nothing else grows with the rows. */
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/random.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"

extern "C" {
#include "kernels/layernorm.h"
}

namespace {

constexpr int WARP_COLUMNS = 1024;
constexpr int WIDE = 256; /* threads of a block, and of a row beyond WARP_COLUMNS */
constexpr int FORWARD_WARPS = 4;
constexpr int BLOCKS = 256; /* partial sums of dgamma and dbeta */

/* gamma or beta: fp32 or bf16, whatever the rows are. */
struct parameter {
    const void *data;
    bool is_bf16;
};

parameter parameter_of(const hn_tensor *tensor)
{
    return {tensor->data, tensor->dtype == HN_BF16};
}

template <int N>
__device__ __forceinline__ void load_parameter(float (&out)[N], const parameter &p, int column)
{
    if (p.is_bf16)
        load(out, (const bf16 *)p.data + column);
    else
        load(out, (const float *)p.data + column);
}

/* Columns of a row in shared memory, so that the next row is aligned. */
__device__ __host__ constexpr int padded(int columns)
{
    return (columns + 7) / 8 * 8;
}

/* --- forward --- */

template <class T> struct forward_arguments {
    matrix<T> y, h, x, residual;
    float *mean, *rstd;
    parameter gamma, beta;
    int64_t rows;
    int columns;
    float epsilon;
    drop_site drop;
};

/* h = residual + dropout(x), stored, kept as fp32; the sum of this thread's part. */
template <class T, int N, int GROUP>
__device__ float make_h(float *kept, const forward_arguments<T> &a, int64_t row, int lane)
{
    const drop_row drawn = drop_row_of(a.drop, row, a.columns);
    float sum = 0.0f;
    for (int c = lane * N; c < a.columns; c += GROUP * N) {
        float v[N], r[N] = {};
        load(v, a.x.row(row) + c);
        if (a.residual.data) load(r, a.residual.row(row) + c);
        drop_apply(v, a.drop, drawn, c);
        HN_UNROLL
        for (int i = 0; i < N; i++) {
            v[i] = to_float(from_float<T>(v[i] + r[i]));
            sum += v[i];
        }
        if (a.h.data) store(a.h.row(row) + c, v);
        store(kept + c, v);
    }
    return sum;
}

template <class T, int N, int GROUP>
__global__ void __launch_bounds__(WIDE) forward_kernel(const forward_arguments<T> a)
{
    HN_DYNAMIC_SHARED(memory);
    const int lane = (int)threadIdx.x % GROUP, group = (int)threadIdx.x / GROUP;
    const int64_t row = (int64_t)blockIdx.x * (blockDim.x / GROUP) + group;
    if (row >= a.rows) return; /* a whole group; groups of a warp never meet */
    float *kept = (float *)memory + group * padded(a.columns);

    const float mean = group_sum<GROUP>(make_h<T, N, GROUP>(kept, a, row, lane)) / (float)a.columns;
    float squares = 0.0f;
    for (int c = lane * N; c < a.columns; c += GROUP * N) {
        HN_UNROLL
        for (int i = 0; i < N; i++) squares += (kept[c + i] - mean) * (kept[c + i] - mean);
    }
    const float rstd = 1.0f / sqrtf(group_sum<GROUP>(squares) / (float)a.columns + a.epsilon);
    for (int c = lane * N; c < a.columns; c += GROUP * N) {
        float v[N], gamma[N], beta[N];
        load(v, kept + c);
        load_parameter(gamma, a.gamma, c);
        load_parameter(beta, a.beta, c);
        HN_UNROLL
        for (int i = 0; i < N; i++) v[i] = (v[i] - mean) * rstd * gamma[i] + beta[i];
        store(a.y.row(row) + c, v);
    }
    if (lane == 0 && a.mean) a.mean[row] = mean;
    if (lane == 0 && a.rstd) a.rstd[row] = rstd;
}

/* --- backward --- */

template <class T> struct backward_arguments {
    matrix<T> dx, d_residual, dy, dh_in, h;
    const float *mean, *rstd;
    parameter gamma;
    float *partial; /* [blocks][2][C], NULL: dgamma and dbeta are not wanted */
    int64_t rows;
    int columns;
    drop_site drop;
};

struct row_sums {
    float g, gn; /* sums of g = dy gamma and of g n */
};

/* First pass over a row: its two sums, and its share of dgamma and dbeta. */
template <class T, int N, int GROUP>
__device__ row_sums sum_row(float *dgamma, float *dbeta, const backward_arguments<T> &a, int64_t row,
                            int lane)
{
    const float mean = a.mean[row], rstd = a.rstd[row];
    row_sums sums = {0.0f, 0.0f};
    for (int c = lane * N; c < a.columns; c += GROUP * N) {
        float dy[N], n[N], gamma[N];
        load(dy, a.dy.row(row) + c);
        load(n, a.h.row(row) + c);
        load_parameter(gamma, a.gamma, c);
        HN_UNROLL
        for (int i = 0; i < N; i++) {
            n[i] = (n[i] - mean) * rstd;
            sums.g += dy[i] * gamma[i];
            sums.gn += dy[i] * gamma[i] * n[i];
        }
        if (!a.partial) continue;
        HN_UNROLL
        for (int i = 0; i < N; i++) {
            dgamma[c + i] += dy[i] * n[i];
            dbeta[c + i] += dy[i];
        }
    }
    return {group_sum<GROUP>(sums.g), group_sum<GROUP>(sums.gn)};
}

/* Second pass: dh and what becomes of it. Each element is read before the same thread writes it, so outputs
 * may alias dy and dh_in. */
template <class T, int N, int GROUP>
__device__ void write_row(const row_sums &sums, const backward_arguments<T> &a, int64_t row, int lane)
{
    const float mean = a.mean[row], rstd = a.rstd[row];
    const float mean_g = sums.g / (float)a.columns, mean_gn = sums.gn / (float)a.columns;
    const drop_row drawn = drop_row_of(a.drop, row, a.columns);
    for (int c = lane * N; c < a.columns; c += GROUP * N) {
        float dy[N], h[N], gamma[N], dh[N] = {};
        load(dy, a.dy.row(row) + c);
        load(h, a.h.row(row) + c);
        load_parameter(gamma, a.gamma, c);
        if (a.dh_in.data) load(dh, a.dh_in.row(row) + c);
        HN_UNROLL
        for (int i = 0; i < N; i++)
            dh[i] += rstd * (dy[i] * gamma[i] - mean_g - (h[i] - mean) * rstd * mean_gn);
        if (a.d_residual.data) store(a.d_residual.row(row) + c, dh);
        if (!a.dx.data) continue;
        drop_apply(dh, a.drop, drawn, c);
        store(a.dx.row(row) + c, dh);
    }
}

template <class T, int N, int GROUP>
__global__ void __launch_bounds__(WIDE, 2) backward_kernel(const backward_arguments<T> a)
{
    HN_DYNAMIC_SHARED(memory);
    constexpr int GROUPS = WIDE / GROUP;
    const int lane = (int)threadIdx.x % GROUP, group = (int)threadIdx.x / GROUP, width = padded(a.columns);
    float *sums = (float *)memory, *dgamma = sums + 2 * group * width, *dbeta = dgamma + width;
    if (a.partial)
        for (int c = (int)threadIdx.x; c < 2 * GROUPS * width; c += WIDE) sums[c] = 0.0f;
    __syncthreads();
    for (int64_t row = (int64_t)blockIdx.x * GROUPS + group; row < a.rows;
         row += (int64_t)gridDim.x * GROUPS) {
        const row_sums of_row = sum_row<T, N, GROUP>(dgamma, dbeta, a, row, lane);
        write_row<T, N, GROUP>(of_row, a, row, lane);
    }
    if (!a.partial) return;
    __syncthreads();
    float *partial = a.partial + (int64_t)blockIdx.x * 2 * a.columns;
    for (int c = (int)threadIdx.x; c < a.columns; c += WIDE) {
        float gamma = 0.0f, beta = 0.0f;
        for (int i = 0; i < GROUPS; i++) {
            gamma += sums[2 * i * width + c];
            beta += sums[(2 * i + 1) * width + c];
        }
        partial[c] = gamma;
        partial[a.columns + c] = beta;
    }
}

/* 32 columns a block; thread (run, column) adds the blocks run, run + 8, ...; blockIdx.y picks dgamma or
 * dbeta. */
__global__ void __launch_bounds__(WIDE)
    add_partials_kernel(float *dgamma, float *dbeta, const float *partial, int blocks, int columns)
{
    HN_SHARED(float, sums, [8][32]);
    float *out = blockIdx.y == 0 ? dgamma : dbeta;
    const int run = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, c = (int)blockIdx.x * 32 + lane;
    if (!out) return;
    float sum = 0.0f;
    for (int b = run; b < blocks && c < columns; b += 8)
        sum += partial[(2 * (int64_t)b + blockIdx.y) * columns + c];
    sums[run][lane] = sum;
    __syncthreads();
    if (run != 0 || c >= columns) return;
    for (int i = 1; i < 8; i++) sum += sums[i][lane];
    out[c] += sum;
}

/* --- launchers --- */

/* Whether all rows allow vectors of N elements. */
bool vectors_fit(int64_t columns, int n, std::initializer_list<const hn_tensor *> matrices,
                 std::initializer_list<const hn_tensor *> parameters)
{
    bool fit = columns % n == 0;
    for (const hn_tensor *m : matrices) fit = fit && (!present(m) || rows_aligned(m));
    for (const hn_tensor *p : parameters) fit = fit && (uintptr_t)p->data % 16 == 0;
    return fit;
}

template <class T, int N> void forward_launch(hn_ops_context *ctx, const forward_arguments<T> &a)
{
    const char *name = "layernorm_forward";
    const size_t row_bytes = (size_t)padded(a.columns) * sizeof(float);
    if (a.columns <= WARP_COLUMNS)
        launch(ctx, name, forward_kernel<T, N, 32>, dim3((unsigned)ceil_div(a.rows, FORWARD_WARPS)),
               FORWARD_WARPS * 32, FORWARD_WARPS * row_bytes, a);
    else
        launch(ctx, name, forward_kernel<T, N, WIDE>, dim3((unsigned)a.rows), WIDE, row_bytes, a);
}

template <class T>
void forward(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *h, float *mean, float *rstd,
             const hn_tensor *x, const hn_tensor *residual, const hn_tensor *gamma, const hn_tensor *beta,
             float epsilon, const hn_dropout *dropout)
{
    constexpr int N = 16 / sizeof(T);
    const forward_arguments<T> a = {matrix_of<T>(y),
                                    matrix_of<T>(h),
                                    matrix_of<T>(x),
                                    matrix_of<T>(residual),
                                    mean,
                                    rstd,
                                    parameter_of(gamma),
                                    parameter_of(beta),
                                    x->shape[0],
                                    (int)x->shape[1],
                                    epsilon,
                                    drop_site_of(dropout)};
    if (vectors_fit(x->shape[1], N, {y, h, x, residual}, {gamma, beta}))
        forward_launch<T, N>(ctx, a);
    else
        forward_launch<T, 1>(ctx, a);
}

template <class T, int N>
void backward_launch(hn_ops_context *ctx, const backward_arguments<T> &a, int blocks)
{
    const char *name = "layernorm_backward";
    const size_t pair = a.partial ? 2 * (size_t)padded(a.columns) * sizeof(float) : 0;
    if (a.columns <= WARP_COLUMNS)
        launch(ctx, name, backward_kernel<T, N, 32>, dim3((unsigned)blocks), WIDE, WIDE / 32 * pair, a);
    else
        launch(ctx, name, backward_kernel<T, N, WIDE>, dim3((unsigned)blocks), WIDE, pair, a);
}

int backward_blocks(int64_t rows, int64_t columns)
{
    int64_t blocks = ceil_div(rows, columns <= WARP_COLUMNS ? WIDE / 32 : 1);
    return (int)(blocks < BLOCKS ? blocks : BLOCKS);
}

template <class T>
void backward(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *d_residual, float *partial,
              const hn_tensor *dy, const hn_tensor *dh_in, const hn_tensor *h, const float *mean,
              const float *rstd, const hn_tensor *gamma, const hn_dropout *dropout)
{
    constexpr int N = 16 / sizeof(T);
    const int blocks = backward_blocks(h->shape[0], h->shape[1]);
    const backward_arguments<T> a = {matrix_of<T>(dx),
                                     matrix_of<T>(d_residual),
                                     matrix_of<T>(dy),
                                     matrix_of<T>(dh_in),
                                     matrix_of<T>(h),
                                     mean,
                                     rstd,
                                     parameter_of(gamma),
                                     partial,
                                     h->shape[0],
                                     (int)h->shape[1],
                                     drop_site_of(dropout)};
    if (vectors_fit(h->shape[1], N, {dx, d_residual, dy, dh_in, h}, {gamma}))
        backward_launch<T, N>(ctx, a, blocks);
    else
        backward_launch<T, 1>(ctx, a, blocks);
}

} // namespace

void HN_ISA_NAME(hnp_layernorm_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *h, float *mean,
                               float *rstd, const hn_tensor *x, const hn_tensor *residual,
                               const hn_tensor *gamma, const hn_tensor *beta, float epsilon,
                               const hn_dropout *dropout)
{
    if (!x->shape[0]) return;
    if (x->dtype == HN_F32)
        forward<float>(ctx, y, h, mean, rstd, x, residual, gamma, beta, epsilon, dropout);
    else
        forward<bf16>(ctx, y, h, mean, rstd, x, residual, gamma, beta, epsilon, dropout);
}

size_t hnp_cuda_layernorm_workspace(int64_t columns)
{
    return BLOCKS * 2 * (size_t)columns * sizeof(float);
}

void HN_ISA_NAME(hnp_layernorm_backward)(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *d_residual,
                                float *dgamma, float *dbeta, const hn_tensor *dy, const hn_tensor *dh_in,
                                const hn_tensor *h, const float *mean, const float *rstd,
                                const hn_tensor *gamma, const hn_dropout *dropout)
{
    const int64_t rows = h->shape[0], columns = h->shape[1];
    const char *name = "layernorm_backward";
    float *partial = nullptr;
    if (!rows) return;
    if (dgamma || dbeta) {
        partial = (float *)scratch_take(ctx, name, hnp_cuda_layernorm_workspace(columns));
        if (!partial) return;
    }
    if (h->dtype == HN_F32)
        backward<float>(ctx, dx, d_residual, partial, dy, dh_in, h, mean, rstd, gamma, dropout);
    else
        backward<bf16>(ctx, dx, d_residual, partial, dy, dh_in, h, mean, rstd, gamma, dropout);
    if (partial)
        launch(ctx, name, add_partials_kernel, dim3((unsigned)ceil_div(columns, 32), 2), WIDE, 0, dgamma,
               dbeta, (const float *)partial, backward_blocks(rows, columns), (int)columns);
}
