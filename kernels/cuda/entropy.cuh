/* Softmax cross-entropy of rows of logits, for loss.cu and linear_cross_entropy.cu. A group of threads (a warp, or a block of
 * 256 or 1,024, by the number of classes alone) has a row and passes over it twice:
 *
 *     up      largest logit and sum of exp below it at once, the sum rescaled when the largest grows (Milakov and
 *             Gimelshein 2018, "Online normalizer calculation for softmax")
 *     down    gradient, from the row's end to its front: what was read last is still in the cache
 *
 * with BATCH vectors of 16 bytes a thread under way. The gradient may overwrite the logits: an element is read by the thread that
 * then writes it. A wide row has a block of 1,024 threads and its multiprocessor alone, so that the rows in flight (132 of 200 KB for
 * GPT-2 in fp32) fit the second-level cache, and memory is read once.
 *
 * Sums of a row are fp32 in a fixed order; its loss is fp64, and rows are added in fp64 by one block, in a fixed order. */
#ifndef HONE_KERNELS_CUDA_ENTROPY_CUH
#define HONE_KERNELS_CUDA_ENTROPY_CUH

#include "kernels/cuda/fault.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"

#include <math.h>

#include <type_traits>

constexpr int ENTROPY_FEW = 1024, ENTROPY_MANY = 16384; /* classes up to which a warp, or 256 threads, have a row */
constexpr int ENTROPY_ADDERS = 256;

/* What a row comes to. */
struct entropy_result {
    double loss;
    int32_t counted, correct;
};

/* Logits of one row, and what its gradient needs to know of it. */
template <class T> struct entropy_row {
    const T *logits;
    any_matrix bias; /* [1, classes] to be added, or absent */
    int classes, label;
    float at_label, highest, sum;
};

template <class T> __device__ __forceinline__ float entropy_logit(const entropy_row<T> &row, int c)
{
    float v[1], bias[1] = {0.0f};
    load(v, row.logits + c);
    if (row.bias.data) load_any(bias, row.bias, 0, c);
    return v[0] + bias[0];
}

/* each(z, c): logits z from class c on, of this thread; N at a time, then what N does not divide. `down`: from the row's end. */
template <int GROUP, int N, class T, class F>
__device__ __forceinline__ void entropy_walk(const entropy_row<T> &row, int lane, bool down, F each)
{
    constexpr int BATCH = N > 1 ? 4 : 1, STEP = BATCH * GROUP * N;
    const int whole = row.classes / N * N, steps = (whole + STEP - 1) / STEP;
    for (int step = 0; step < steps; step++) {
        const int first = (down ? steps - 1 - step : step) * STEP + lane * N;
        held<T, N> raw[BATCH];
        HN_UNROLL
        for (int b = 0; b < BATCH; b++)
            if (first + b * GROUP * N < whole) raw[b] = fetch<N>(row.logits + first + b * GROUP * N);
        HN_UNROLL
        for (int b = 0; b < BATCH; b++) {
            const int c = first + b * GROUP * N;
            if (c >= whole) continue;
            float z[N], bias[1];
            unpack(z, raw[b]);
            HN_UNROLL
            for (int i = 0; i < N && row.bias.data; i++) {
                load_any(bias, row.bias, 0, c + i);
                z[i] += bias[0];
            }
            each(z, c);
        }
    }
    if (whole + lane >= row.classes) return;
    float z[1] = {entropy_logit(row, whole + lane)};
    each(z, whole + lane);
}

/* What a thread has seen of a row. */
struct entropy_seen {
    float highest, sum, linear; /* sum of exp(z - highest), of z */
    bool beaten;                /* a logit, or an earlier one that equals it, is ahead of the label's */
};

template <int N, class T>
__device__ __forceinline__ void entropy_see(entropy_seen &seen, const entropy_row<T> &row, const float (&z)[N], int c)
{
    float most = z[0];
    HN_UNROLL
    for (int i = 1; i < N; i++) most = fmaxf(most, z[i]); /* a NaN comes in by the sum */
    if (most > seen.highest) {
        seen.sum *= ptx_exp2((seen.highest - most) * LOG2E);
        seen.highest = most;
    }
    const float from = seen.highest > -INFINITY ? seen.highest : 0.0f;
    HN_UNROLL
    for (int i = 0; i < N; i++) {
        seen.sum += ptx_exp2((z[i] - from) * LOG2E);
        seen.linear += z[i];
        seen.beaten = seen.beaten || (c + i < row.label ? z[i] >= row.at_label : z[i] > row.at_label);
    }
}

/* Loss and statistics of a row with a target. All threads of the group end with the same. */
template <int GROUP, int N, class T>
__device__ __forceinline__ entropy_result entropy_of(entropy_row<T> &row, int lane, float smoothing)
{
    entropy_seen seen = {-INFINITY, 0.0f, 0.0f, false};
    row.at_label = entropy_logit(row, row.label);
    entropy_walk<GROUP, N>(row, lane, false, [&](auto &z, int c) { entropy_see(seen, row, z, c); });
    row.highest = group_max<GROUP>(seen.highest);
    if (seen.highest > -INFINITY) seen.sum *= ptx_exp2((seen.highest - row.highest) * LOG2E);
    float sums[3] = {seen.sum, seen.linear, seen.beaten ? 1.0f : 0.0f};
    group_sums<GROUP>(sums);
    row.sum = sums[0];
    const double lse = (double)row.highest + (double)logf(row.sum), part = (double)smoothing;
    double loss = lse - (1.0 - part) * (double)row.at_label;
    if (smoothing > 0.0f) loss -= part * (double)sums[1] / (double)row.classes;
    return {loss, 1, sums[2] == 0.0f && !isnan(loss)};
}

/* z becomes (softmax - q) factor; `each` of q is everywhere, `more` on the label. */
template <int N, class T>
__device__ __forceinline__ void entropy_slope(float (&z)[N], const entropy_row<T> &row, int c, float each, float more, float factor)
{
    const float inverse = 1.0f / row.sum;
    HN_UNROLL
    for (int i = 0; i < N; i++) {
        const float q = c + i == row.label ? each + more : each;
        z[i] = (ptx_exp2((z[i] - row.highest) * LOG2E) * inverse - q) * factor;
    }
}

/* The row's gradient, to row r of d, whose rows allow what rows of logits do. */
template <int GROUP, int N, class T>
__device__ __forceinline__ void entropy_slopes(const any_matrix &d, int64_t r, const entropy_row<T> &row, int lane,
                                               float smoothing, float factor)
{
    const float each = smoothing / (float)row.classes;
    entropy_walk<GROUP, N>(row, lane, true, [&](auto &z, int c) {
        entropy_slope(z, row, c, each, 1.0f - smoothing, factor);
        store_any(d, r, c, z);
    });
}

/* Row r of d = 0, N columns at a time, which divides `columns`. */
template <int GROUP, int N>
__device__ __forceinline__ void entropy_clear(const any_matrix &d, int64_t r, int columns, int lane)
{
    const float zero[N] = {};
    for (int c = lane * N; c < columns; c += GROUP * N) store_any(d, r, c, zero);
}

/* The sum of v over a block of ENTROPY_ADDERS, in thread 0. */
static __device__ __forceinline__ double entropy_total(double v)
{
    HN_SHARED(double, sums, [ENTROPY_ADDERS]);
    const int thread = (int)threadIdx.x;
    sums[thread] = v;
    for (int half = ENTROPY_ADDERS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (thread < half) sums[thread] += sums[thread + half];
    }
    const double total = sums[0];
    __syncthreads();
    return total;
}

/* One block: the rows' losses, targets and hits, each added to where it goes. correct may be NULL. Numbers of rows are exact in
 * fp64. */
static __global__ void __launch_bounds__(ENTROPY_ADDERS)
    entropy_sum_kernel(double *loss, int64_t *count, int64_t *correct, const entropy_result *rows, int64_t n)
{
    double sum = 0.0, counted = 0.0, hits = 0.0;
    for (int64_t r = threadIdx.x; r < n; r += ENTROPY_ADDERS) {
        const entropy_result row = rows[r];
        sum += row.loss;
        counted += row.counted;
        hits += row.correct;
    }
    sum = entropy_total(sum);
    counted = entropy_total(counted);
    hits = entropy_total(hits);
    if (threadIdx.x) return;
    *loss += sum;
    *count += (int64_t)counted;
    if (correct) *correct += (int64_t)hits;
}

/* run(GROUP) with the threads for rows of so many classes, as a constant: std::integral_constant. */
template <class F> void entropy_grouped(int64_t classes, F run)
{
    if (classes <= ENTROPY_FEW)
        run(std::integral_constant<int, 32>());
    else if (classes <= ENTROPY_MANY)
        run(std::integral_constant<int, 256>());
    else
        run(std::integral_constant<int, 1024>());
}

#endif
