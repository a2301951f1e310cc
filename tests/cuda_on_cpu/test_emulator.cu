/* Small kernels with known faults and known results: the emulator's own proof. */
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/random.cuh"
#include "kernels/cuda/reduce.cuh"

extern "C" {
#include "tests/cuda_on_cpu/test_emulator.h"
}

namespace {

constexpr unsigned FULL = 0xffffffffu;

__global__ void barrier_in_branch(int threads_there)
{
    if ((int)threadIdx.x < threads_there) __syncthreads();
}

__global__ void barrier_on_two_lines()
{
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
}

__global__ void shuffle_in_branch()
{
    if (threadIdx.x % 32 < 16) (void)__shfl_xor_sync(FULL, 1.0f, 1);
}

__global__ void two_meetings_in_a_warp()
{
    if (threadIdx.x % 2) {
        __syncwarp();
    } else {
        (void)__any_sync(FULL, 1);
    }
}

__global__ void partial_mask()
{
    (void)__shfl_sync(0xffffu, 1.0f, 0);
}

/* Each thread passes its number to the one 32 further on, twice. */
__global__ void exchange(float *out, int barrier_before, int barrier_after)
{
    HN_SHARED(float, box, [128]);
    const unsigned i = threadIdx.x, other = (i + 32) % 128;
    float sum = 0.0f;
    for (int turn = 0; turn < 2; turn++) {
        box[other] = (float)(i + 1000 * (unsigned)turn);
        if (barrier_before) __syncthreads();
        sum += box[i];
        if (barrier_after) __syncthreads();
    }
    out[i] = sum;
}

__global__ void shuffles(int *out)
{
    const int lane = (int)threadIdx.x;
    out[lane] = __shfl_xor_sync(FULL, lane, 5);
    out[32 + lane] = __shfl_sync(FULL, lane * lane, 3);
    out[64 + lane] = __shfl_down_sync(FULL, lane, 4u);
    out[96 + lane] = (int)__ballot_sync(FULL, lane % 3 == 0) + __all_sync(FULL, lane < 31) +
                     2 * __any_sync(FULL, lane == 31);
}

__global__ void shared_start(float *out)
{
    HN_SHARED(float, fixed, [32]);
    HN_DYNAMIC_SHARED(memory);
    float *dynamic = (float *)memory;
    if (threadIdx.x == 0) {
        out[2 * blockIdx.x] = fixed[7];
        out[2 * blockIdx.x + 1] = dynamic[7];
    }
    __syncwarp();
    fixed[threadIdx.x] = dynamic[threadIdx.x] = 1.0f;
}

__global__ void copy(float *out, const float *in, int wait, int valid)
{
    HN_SHARED(float, box, [128]);
    const unsigned i = threadIdx.x;
    HN_UNROLL
    for (int e = 0; e < 4; e++) box[4 * i + e] = -1.0f;
    ptx_copy_async(&box[4 * i], in + 4 * i, valid);
    ptx_copy_commit();
    if (wait)
        ptx_copy_wait<0>();
    else
        ptx_copy_wait<1>();
    HN_UNROLL
    for (int e = 0; e < 4; e++) out[4 * i + e] = box[4 * i + e];
    ptx_copy_wait<0>();
    HN_UNROLL
    for (int e = 0; e < 4; e++) out[128 + 4 * i + e] = box[4 * i + e];
}

/* a [16, 16] b [16, 8]: a through ldmatrix as it lies, b transposed (both its halves in one load, twice). */
__global__ void product(float *out, const uint16_t *a, const uint16_t *b)
{
    HN_SHARED(uint16_t, sa, [16][24]);
    HN_SHARED(uint16_t, sb, [16][24]);
    const unsigned lane = threadIdx.x;
    for (unsigned i = lane; i < 256; i += 32) sa[i / 16][i % 16] = a[i];
    for (unsigned i = lane; i < 256; i += 32) sb[i / 16][i % 16] = i % 16 < 8 ? b[i / 16 * 8 + i % 16] : 0;
    __syncwarp();
    uint32_t fa[4], fb[4];
    ptx_ldmatrix(fa, &sa[lane % 16][lane / 16 * 8]);
    ptx_ldmatrix_transposed(fb, &sb[lane % 16][lane / 16 * 8]);
    float c[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    ptx_mma_bf16(c, fa, fb[0], fb[1]);
    for (unsigned i = 0; i < 4; i++) out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = c[i];
}

__global__ void misaligned()
{
    HN_SHARED(uint16_t, box, [32][9]);
    uint32_t r[4];
    ptx_ldmatrix(r, &box[threadIdx.x][0]);
}

__global__ void overrun(float *memory, int at)
{
    if (threadIdx.x == 5) memory[at] = 1.0f;
}

__global__ void shared_overrun(int at)
{
    HN_SHARED(float, box, [32]);
    if (threadIdx.x == 5) box[at] = 1.0f;
}

__global__ void nothing() {}

__global__ void philox_words_kernel(uint32_t *out, uint64_t seed, uint32_t site, uint32_t example,
                                    uint32_t step)
{
    const philox_words w = philox(seed, threadIdx.x * 977, site, example, step);
    for (int i = 0; i < 4; i++) out[4 * threadIdx.x + i] = w.word[i];
}

} // namespace

void run_barrier_in_branch(hn_ops_context *ctx, int there)
{
    launch(ctx, "barrier_in_branch", barrier_in_branch, dim3(1), 128, 0, there);
}
void run_barrier_on_two_lines(hn_ops_context *ctx)
{
    launch(ctx, "barrier_on_two_lines", barrier_on_two_lines, dim3(1), 64, 0);
}
void run_shuffle_in_branch(hn_ops_context *ctx)
{
    launch(ctx, "shuffle_in_branch", shuffle_in_branch, dim3(1), 64, 0);
}
void run_two_meetings_in_a_warp(hn_ops_context *ctx)
{
    launch(ctx, "two_meetings", two_meetings_in_a_warp, dim3(1), 32, 0);
}
void run_partial_mask(hn_ops_context *ctx)
{
    launch(ctx, "partial_mask", partial_mask, dim3(1), 32, 0);
}
void run_exchange(hn_ops_context *ctx, float *out, int before, int after)
{
    launch(ctx, "exchange", exchange, dim3(1), 128, 0, out, before, after);
}
void run_shuffles(hn_ops_context *ctx, int *out)
{
    launch(ctx, "shuffles", shuffles, dim3(1), 32, 0, out);
}
void run_shared_start(hn_ops_context *ctx, float *out, int blocks)
{
    launch(ctx, "shared_start", shared_start, dim3((unsigned)blocks), 32, 128, out);
}
void run_copy(hn_ops_context *ctx, float *out, const float *in, int wait, int valid)
{
    launch(ctx, "copy", copy, dim3(1), 32, 0, out, in, wait, valid);
}
void run_product(hn_ops_context *ctx, float *out, const uint16_t *a, const uint16_t *b)
{
    launch(ctx, "product", product, dim3(1), 32, 0, out, a, b);
}
void run_misaligned(hn_ops_context *ctx)
{
    launch(ctx, "misaligned", misaligned, dim3(1), 32, 0);
}
void run_overrun(hn_ops_context *ctx, float *memory, int at)
{
    launch(ctx, "overrun", overrun, dim3(1), 32, 0, memory, at);
}
void run_shared_overrun(hn_ops_context *ctx, int at)
{
    launch(ctx, "shared_overrun", shared_overrun, dim3(1), 32, 0, at);
}
void run_dynamic(hn_ops_context *ctx, size_t bytes, int threads)
{
    launch(ctx, "dynamic", nothing, dim3(1), threads, bytes);
}
void run_philox(hn_ops_context *ctx, uint32_t *out, uint64_t seed, uint32_t site, uint32_t example,
                uint32_t step)
{
    launch(ctx, "philox", philox_words_kernel, dim3(1), 128, 0, out, seed, site, example, step);
}
