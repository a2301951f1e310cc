/* See optimizer.h. Everything here is bound by memory; each kernel is one pass, in vectors of four elements (16 bytes of fp32)
 * wherever the pointers allow.
 *
 * AdamW. The list of segments lies in the GPU's memory, and one launch covers it: a block takes one chunk of HN_ADAMW_CHUNK
 * elements, and finds the segment that its chunk belongs to by a search in which a warp asks 32 places of the list at once (two rounds
 * for up to 1,024 parameters). A chunk belongs to one segment alone, so small ones, biases and norms, cost a block each and no
 * thread ever asks where it stands. Type of the moments, copy and alignment are the same for a whole block.
 *
 * Bytes a parameter, all of them needed: master, gradient and two moments in (16), master and moments out (12): 28 with fp32 moments,
 * 20 with bf16 ones, and 2 more for the bf16 copy. The list (88 bytes a segment) and the step's values come out of the
 * cache. Beside it a step moves 4 bytes a parameter for the norm and 4 for zeroing gradients, which keep passes of their own: the
 * norm must be known before the first master moves.
 *
 * The decision whether a step is made is the GPU's own (adamw_decide), so that the host need not wait for loss and norm: one small
 * block, between the norm and AdamW.
 *
 * Gradients of slices are added in pairs by passes of their own (add: 12 bytes an element, copy: 8, by CUDA), and the few numbers that a step
 * sums over its slices by one thread, one after the other.
 *
 * Sum of squares: squares of fp32 are exact in fp64. SUM_BLOCKS blocks at most, in strides that the number of elements alone
 * decides; a second kernel adds what the blocks have. So bits depend on neither the GPU nor the run. */
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/random.cuh"
#include "kernels/cuda/vector.cuh"

#include <math.h>

extern "C" {
#include "kernels/optimizer.h"
}

namespace {

constexpr int THREADS = 256;
constexpr int SUM_BLOCKS = 512;
constexpr int DECIDERS = 64; /* threads of the decision: about one a group */

bool aligned(const void *memory)
{
    return (uintptr_t)memory % 16 == 0;
}

unsigned blocks_for(int64_t count, int each)
{
    return (unsigned)ceil_div(count, (int64_t)THREADS * each);
}

/* --- sum of squares --- */

/* Thread 0 gets the sum over the block's threads. */
__device__ double add_threads(double v)
{
    HN_SHARED(double, sums, [THREADS]);
    const int t = (int)threadIdx.x;
    sums[t] = v;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (t < half) sums[t] += sums[t + half];
    }
    return sums[t];
}

template <int N>
__global__ void __launch_bounds__(THREADS) squares_kernel(double *partial, const float *x, int64_t count)
{
    const int64_t stride = (int64_t)gridDim.x * THREADS * N;
    int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N;
    double sum[N] = {}, all = 0;
    for (; i + N <= count; i += stride) { /* nvcc has four loads under way here */
        float v[N];
        load(v, x + i);
        HN_UNROLL
        for (int e = 0; e < N; e++) sum[e] += (double)v[e] * (double)v[e];
    }
    HN_UNROLL
    for (int e = 0; e < N; e++) all += sum[e];
    for (; i < count; i++) all += (double)x[i] * (double)x[i]; /* one thread's: the last elements */
    all = add_threads(all);
    if (threadIdx.x == 0) partial[blockIdx.x] = all;
}

__global__ void __launch_bounds__(THREADS) add_squares_kernel(double *sum, const double *partial, int blocks)
{
    double all = 0;
    for (int b = (int)threadIdx.x; b < blocks; b += THREADS) all += partial[b];
    all = add_threads(all);
    if (threadIdx.x == 0) *sum += all;
}

/* --- the decision --- */

/* One block; every thread comes to the same decision, and counts the groups that are its own. */
__global__ void __launch_bounds__(DECIDERS)
    decide_kernel(hn_adamw_step *step, hn_adamw_outcome *outcome, const hn_adamw_groups groups, const double *norm_squared,
                  const double *loss, const int64_t *count, const hn_adamw_control *control)
{
    const hn_adamw_control asked = *control;
    double norm = sqrt(*norm_squared);
    if (asked.clip <= 0 && norm > HN_ADAMW_LARGEST_NORM) norm = HUGE_VAL;
    const bool skip = !isfinite(norm) || !isfinite(*loss) || (asked.most_norm > 0 && norm > asked.most_norm) ||
                      (asked.most_loss > 0 && *loss > asked.most_loss * (double)*count);
    for (int g = (int)threadIdx.x; g < groups.count; g += DECIDERS) {
        const int64_t applied = groups.applied[g] + (!skip && groups.trains[g]);
        groups.applied[g] = applied;
        groups.correction1[g] = (float)(1 - pow(asked.beta1, (double)applied));
        groups.correction2[g] = (float)(1 - pow(asked.beta2, (double)applied));
    }
    if (threadIdx.x != 0) return;
    *outcome = {*loss, norm, *count, skip};
    *step = {asked.lr,
             (float)asked.beta1,
             (float)asked.beta2,
             asked.epsilon,
             asked.clip > 0 && norm > asked.clip ? (float)(asked.clip / (norm + 1e-6)) : 1.0f,
             skip,
             groups.correction1,
             groups.correction2,
             groups.lr,
             asked.seed,
             asked.step};
}

/* --- AdamW --- */

/* The last of `count` segments that begins at or before `chunk`, asked by a whole warp. */
__device__ int find_segment(const hn_adamw_segment *segments, int count, int64_t chunk)
{
    int first = 0;
    for (int left = count; left > 1;) {
        const int apart = (left + 31) / 32, mine = (int)(threadIdx.x % 32) * apart;
        const bool before = mine < left && segments[first + mine].first <= chunk;
        const int passed = (__popc(__ballot_sync(0xffffffffu, before)) - 1) * apart;
        first += passed;
        left = min(apart, left - passed);
    }
    return first;
}

/* What a segment's elements have in common. */
struct adamw_factors {
    float scale, keep, rate, root, epsilon, rest1, rest2;
    uint64_t seed;
    uint32_t step;
};

__device__ adamw_factors factors_of(const hn_adamw_segment &s, const hn_adamw_step &step)
{
    const float lr = step.lr * s.lr_scale * (step.group_lr ? step.group_lr[s.group] : 1.0f);
    return {step.gradient_scale,
            1.0f - lr * s.weight_decay,
            lr / step.correction1[s.group],
            1.0f / sqrtf(step.correction2[s.group]),
            step.epsilon,
            1.0f - step.beta1,
            1.0f - step.beta2,
            step.seed,
            step.step};
}

/* bf16 beside `value`: the upper one with the probability of the bits that are cut off. noise < 65536. NaN stays. */
__device__ __forceinline__ bf16 round_at_random(float value, uint32_t noise)
{
    const uint32_t bits = __float_as_uint(value);
    return {(uint16_t)(value != value ? bits >> 16 | 0x40u : (bits + noise) >> 16)};
}

template <int N> __device__ __forceinline__ void store_moments(float *m, float *v, const float (&new_m)[N], const float (&new_v)[N], int64_t,
                                                               const hn_adamw_segment &, const adamw_factors &)
{
    store(m, new_m);
    store(v, new_v);
}

template <int N> __device__ __forceinline__ void store_moments(bf16 *m, bf16 *v, const float (&new_m)[N], const float (&new_v)[N], int64_t i,
                                                               const hn_adamw_segment &s, const adamw_factors &f)
{
    const philox_words drawn = philox(f.seed, (uint32_t)((s.offset + i) / 4), HN_SITE(0, HN_SITE_ROUNDING, 0), s.parameter, f.step);
    pack<bf16, N> to_m, to_v;
    HN_UNROLL
    for (int e = 0; e < N; e++) {
        uint32_t word = drawn.word[e];
        if (N == 1) word = i % 4 == 0 ? word : i % 4 == 1 ? drawn.word[1] : i % 4 == 2 ? drawn.word[2] : drawn.word[3];
        to_m.element[e] = round_at_random(new_m[e], word & 0xffffu);
        to_v.element[e] = round_at_random(new_v[e], word >> 16);
    }
    *reinterpret_cast<pack<bf16, N> *>(m) = to_m;
    *reinterpret_cast<pack<bf16, N> *>(v) = to_v;
}

/* Elements [i, i + N) of a segment; N is 1, or 4 and i a multiple of it. */
template <class M, int N>
__device__ __forceinline__ void update(const hn_adamw_segment &s, const adamw_factors &f, int64_t i)
{
    float g[N], m[N], v[N], w[N];
    load(g, s.gradient + i);
    load(m, (const M *)s.m + i);
    load(v, (const M *)s.v + i);
    load(w, s.master + i);
    HN_UNROLL
    for (int e = 0; e < N; e++) {
        g[e] *= f.scale;
        m[e] += f.rest1 * (g[e] - m[e]);
        v[e] += f.rest2 * (g[e] * g[e] - v[e]);
        w[e] = w[e] * f.keep - f.rate * m[e] / (sqrtf(v[e]) * f.root + f.epsilon);
    }
    store_moments((M *)s.m + i, (M *)s.v + i, m, v, i, s, f);
    store(s.master + i, w);
    if (s.copy) store((bf16 *)s.copy + i, w);
}

/* Elements [first, end), four a thread at a time; first is a multiple of four. */
template <class M>
__device__ __forceinline__ void update_chunk(const hn_adamw_segment &s, const adamw_factors &f, int64_t first, int64_t end)
{
    const bool vectors = ((uintptr_t)s.master | (uintptr_t)s.gradient | (uintptr_t)s.m | (uintptr_t)s.v | (uintptr_t)s.copy) % 16 == 0;
    for (int64_t i = first + 4 * (int64_t)threadIdx.x; i < end; i += 4 * THREADS) {
        if (vectors && i + 4 <= end)
            update<M, 4>(s, f, i);
        else
            for (int64_t e = i; e < end && e < i + 4; e++) update<M, 1>(s, f, e);
    }
}

__global__ void __launch_bounds__(THREADS)
    adamw_kernel(const hn_adamw_segment *segments, int count, const hn_adamw_step *step)
{
    if (step->skip) return;
    const hn_adamw_segment s = segments[find_segment(segments, count, blockIdx.x)];
    const adamw_factors f = factors_of(s, *step);
    const int64_t first = ((int64_t)blockIdx.x - s.first) * HN_ADAMW_CHUNK;
    const int64_t end = min(first + HN_ADAMW_CHUNK, s.count);
    if (s.moments == HN_F32)
        update_chunk<float>(s, f, first, end);
    else
        update_chunk<bf16>(s, f, first, end);
}

/* --- plain memory --- */

template <class Y, class X, int N>
__global__ void __launch_bounds__(THREADS) cast_kernel(Y *y, const X *x, int64_t count)
{
    int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N;
    float v[N];
    if (i + N <= count) {
        load(v, x + i);
        store(y + i, v);
        return;
    }
    for (; i < count; i++) y[i] = from_float<Y>(to_float(x[i]));
}

template <int N>
__global__ void __launch_bounds__(THREADS) scale_kernel(float *x, int64_t count, const float *factor)
{
    int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N;
    float v[N];
    if (i + N <= count) {
        load(v, x + i);
        HN_UNROLL
        for (int e = 0; e < N; e++) v[e] *= *factor;
        store(x + i, v);
        return;
    }
    for (; i < count; i++) x[i] *= *factor;
}

template <int N>
__global__ void __launch_bounds__(THREADS) add_kernel(float *y, const float *x, int64_t count)
{
    int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N;
    float sum[N], v[N];
    if (i + N <= count) {
        load(sum, y + i);
        load(v, x + i);
        HN_UNROLL
        for (int e = 0; e < N; e++) sum[e] += v[e];
        store(y + i, sum);
        return;
    }
    for (; i < count; i++) y[i] += x[i];
}

/* One thread, since the order is part of the result: a few to a thousand. */
__global__ void add_sums_kernel(hn_sums *to, const hn_sums *from, int64_t count)
{
    if (threadIdx.x != 0) return;
    hn_sums all = *to;
    for (int64_t i = 0; i < count; i++) {
        all.loss += from[i].loss;
        all.count += from[i].count;
        all.squares += from[i].squares;
    }
    *to = all;
}

template <class Y, class X> void cast(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *x, int64_t count)
{
    if (aligned(y->data) && aligned(x->data))
        launch(ctx, "cast", cast_kernel<Y, X, 8>, dim3(blocks_for(count, 8)), THREADS, 0, (Y *)y->data, (const X *)x->data, count);
    else
        launch(ctx, "cast", cast_kernel<Y, X, 1>, dim3(blocks_for(count, 1)), THREADS, 0, (Y *)y->data, (const X *)x->data, count);
}

cudaStream_t stream_of(const hn_ops_context *ctx)
{
    return (cudaStream_t)hn_cuda_device_of(ctx->backend)->stream;
}

/* What CUDA itself does on the stream, as launch() does with a kernel. */
void enqueued(hn_ops_context *ctx, const char *operation, cudaError_t status)
{
    if (launch_failed(ctx, operation, status)) return;
    if (hn_cuda_device_of(ctx->backend)->synchronous) launch_failed(ctx, operation, cudaStreamSynchronize(stream_of(ctx)));
}

} // namespace

size_t hnp_cuda_sum_squares_workspace(void)
{
    return SUM_BLOCKS * sizeof(double);
}

void HN_ISA_NAME(hnp_sum_squares)(hn_ops_context *ctx, double *sum, const float *x, int64_t count)
{
    const char *name = "sum_squares";
    const bool vectors = aligned(x);
    const int64_t needed = ceil_div(count, THREADS * (vectors ? 4 : 1));
    const int blocks = (int)(needed < SUM_BLOCKS ? needed : SUM_BLOCKS);
    if (!count) return;
    double *partial = (double *)scratch_take(ctx, name, hnp_cuda_sum_squares_workspace());
    if (!partial) return;
    if (vectors)
        launch(ctx, name, squares_kernel<4>, dim3((unsigned)blocks), THREADS, 0, partial, x, count);
    else
        launch(ctx, name, squares_kernel<1>, dim3((unsigned)blocks), THREADS, 0, partial, x, count);
    launch(ctx, name, add_squares_kernel, dim3(1), THREADS, 0, sum, (const double *)partial, blocks);
}

void HN_ISA_NAME(hnp_adamw_decide)(hn_ops_context *ctx, hn_adamw_step *step, hn_adamw_outcome *outcome,
                                   const hn_adamw_groups *groups, const double *norm_squared, const double *loss,
                                   const int64_t *count, const hn_adamw_control *control)
{
    launch(ctx, "adamw_decide", decide_kernel, dim3(1), DECIDERS, 0, step, outcome, *groups, norm_squared, loss, count, control);
}

void HN_ISA_NAME(hnp_adamw)(hn_ops_context *ctx, const hn_adamw_segment *segments, int64_t segment_count, int64_t chunks,
                            const hn_adamw_step *step)
{
    if (!chunks) return;
    launch(ctx, "adamw", adamw_kernel, dim3((unsigned)chunks), THREADS, 0, segments, (int)segment_count, step);
}

void HN_ISA_NAME(hnp_cast)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *x)
{
    const int64_t count = hn_tensor_count(x);
    HN_ASSERT(hn_tensor_count(y) == count && hn_tensor_dense(x) && hn_tensor_dense(y));
    if (!count) return;
    if (x->dtype == HN_F32 && y->dtype == HN_F32)
        cast<float, float>(ctx, y, x, count);
    else if (x->dtype == HN_F32)
        cast<bf16, float>(ctx, y, x, count);
    else if (y->dtype == HN_F32)
        cast<float, bf16>(ctx, y, x, count);
    else
        cast<bf16, bf16>(ctx, y, x, count);
}

void HN_ISA_NAME(hnp_zero)(hn_ops_context *ctx, void *memory, size_t size)
{
    if (!size) return;
    enqueued(ctx, "zero", cudaMemsetAsync(memory, 0, size, stream_of(ctx)));
}

void HN_ISA_NAME(hnp_scale)(hn_ops_context *ctx, float *x, int64_t count, const float *factor)
{
    if (!count) return;
    if (aligned(x))
        launch(ctx, "scale", scale_kernel<4>, dim3(blocks_for(count, 4)), THREADS, 0, x, count, factor);
    else
        launch(ctx, "scale", scale_kernel<1>, dim3(blocks_for(count, 1)), THREADS, 0, x, count, factor);
}

void HN_ISA_NAME(hnp_add)(hn_ops_context *ctx, float *y, const float *x, int64_t count)
{
    if (!count) return;
    if (aligned(y) && aligned(x))
        launch(ctx, "add", add_kernel<4>, dim3(blocks_for(count, 4)), THREADS, 0, y, x, count);
    else
        launch(ctx, "add", add_kernel<1>, dim3(blocks_for(count, 1)), THREADS, 0, y, x, count);
}

void HN_ISA_NAME(hnp_add_sums)(hn_ops_context *ctx, hn_sums *to, const hn_sums *from, int64_t count)
{
    if (!count) return;
    launch(ctx, "add_sums", add_sums_kernel, dim3(1), 32, 0, to, from, count);
}

void HN_ISA_NAME(hnp_copy)(hn_ops_context *ctx, void *to, const void *from, size_t size)
{
    if (!size) return;
    enqueued(ctx, "copy", cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToDevice, stream_of(ctx)));
}
