/* Stands in front of CUDA's own header when .cu files are built as C++ for the emulator: exactly what hone's
 * kernels use, no more. What is missing here (atomics on floats, plain __shared__, partial warp masks) does not compile
 * or is refused, on purpose: shared memory goes through HN_SHARED and HN_DYNAMIC_SHARED, and hone promises
 * sums in a fixed order. */
#ifndef HONE_TESTS_CUDA_RUNTIME_H
#define HONE_TESTS_CUDA_RUNTIME_H

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <tuple>
#include <utility>

#include "../emulator.h"
#include "../runtime.h"
#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};

#define threadIdx emu_thread_index
#define blockIdx emu_block_index
#define blockDim emu_block_size
#define gridDim emu_grid_size

/* The place of the call, as default arguments: how the emulator tells one barrier from another. */
#define EMU_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(EMU_PLACE)
{
    emu_block_barrier(file, line);
}
inline void __syncwarp(EMU_PLACE)
{
    emu_warp_meet("__syncwarp", file, line, nullptr, nullptr);
}

inline void emu_full(unsigned mask, const char *what, const char *file, int line)
{
    if (mask != 0xffffffffu) emu_fail("%s (%s:%d) with the partial mask %08x", what, file, line, mask);
}
template <class T> T emu_shuffle_from(const char *what, T value, unsigned source, const char *file, int line)
{
    static_assert(sizeof(T) == 4, "shuffles move 32 bits here");
    emu_shuffle s = {0, 0, source};
    std::memcpy(&s.value, &value, 4);
    emu_warp_meet(what, file, line, &s, emu_compute_shuffle);
    std::memcpy(&value, &s.result, 4);
    return value;
}
template <class T> T __shfl_sync(unsigned mask, T value, int source, EMU_PLACE)
{
    emu_full(mask, "__shfl_sync", file, line);
    return emu_shuffle_from("__shfl_sync", value, (unsigned)source, file, line);
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int lanes, EMU_PLACE)
{
    emu_full(mask, "__shfl_xor_sync", file, line);
    return emu_shuffle_from("__shfl_xor_sync", value, emu_lane() ^ (unsigned)lanes, file, line);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned by, EMU_PLACE)
{
    emu_full(mask, "__shfl_down_sync", file, line);
    unsigned source = emu_lane() + by < 32 ? emu_lane() + by : emu_lane();
    return emu_shuffle_from("__shfl_down_sync", value, source, file, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, EMU_PLACE)
{
    emu_full(mask, "__ballot_sync", file, line);
    emu_vote v = {predicate != 0, 0};
    emu_warp_meet("__ballot_sync", file, line, &v, emu_compute_vote);
    return v.ballot;
}
inline int __any_sync(unsigned mask, int predicate, EMU_PLACE)
{
    return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, EMU_PLACE)
{
    return __ballot_sync(mask, predicate, file, line) == 0xffffffffu;
}

using std::max;
using std::min;
inline uint32_t __umulhi(uint32_t a, uint32_t b)
{
    return (uint32_t)((uint64_t)a * b >> 32);
}
inline uint64_t __umul64hi(uint64_t a, uint64_t b)
{
    return (uint64_t)((unsigned __int128)a * b >> 64);
}
/* Of integers only, whose sum does not depend on the order. Fibers change places at meetings only, so it is whole. */
inline uint32_t atomicAdd(uint32_t *to, uint32_t value)
{
    const uint32_t before = *to;
    *to += value;
    return before;
}
inline float __uint_as_float(uint32_t bits)
{
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
inline uint32_t __float_as_uint(float value)
{
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}
inline int __popc(uint32_t bits)
{
    return __builtin_popcount(bits);
}

/* --- launching --- */

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
struct cudaLaunchAttribute;
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute *attrs;
    unsigned numAttrs;
};

/* Shared memory beyond 48 KiB, by kernel. CUDA lets it be lowered again; hone never does, since a graph may hold launches with more. */
inline std::map<const void *, size_t> emu_opted_in;

template <class F> cudaError_t cudaFuncSetAttribute(F *kernel, cudaFuncAttribute, int bytes)
{
    if (bytes < 0 || bytes > EMU_SHARED_LIMIT) return cudaErrorInvalidValue;
    if ((size_t)bytes < emu_opted_in[(const void *)kernel]) return cudaErrorInvalidValue;
    emu_opted_in[(const void *)kernel] = (size_t)bytes;
    return cudaSuccess;
}

struct cudaFuncAttributes {
    int maxDynamicSharedSizeBytes;
};
template <class F> cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, F *kernel)
{
    auto found = emu_opted_in.find((const void *)kernel);
    attributes->maxDynamicSharedSizeBytes = found == emu_opted_in.end() ? (int)EMU_SHARED_DEFAULT : (int)found->second;
    return cudaSuccess;
}

template <class Call> void call_body(void *context)
{
    std::apply(((Call *)context)->kernel, ((Call *)context)->values);
}

template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(P...), A &&...arguments)
{
    auto found = emu_opted_in.find((const void *)kernel);
    size_t limit = found == emu_opted_in.end() ? (size_t)EMU_SHARED_DEFAULT : found->second;
    if (config->dynamicSmemBytes > std::max(limit, (size_t)EMU_SHARED_DEFAULT)) return cudaErrorInvalidValue;
    emu_index grid = {config->gridDim.x, config->gridDim.y, config->gridDim.z};
    emu_index block = {config->blockDim.x, config->blockDim.y, config->blockDim.z};
    if (!emu_launch_fits(grid, block, config->dynamicSmemBytes)) return cudaErrorLaunchFailure;
    emu_trace_launch((const void *)kernel, grid.x, grid.y, grid.z, block.x, config->dynamicSmemBytes);
    struct call {
        void (*kernel)(P...);
        std::tuple<P...> values;
        emu_index grid, block;
        size_t dynamic;
    };
    auto run = [](void *context) {
        call *c = (call *)context;
        return emu_launch(c->grid, c->block, c->dynamic, call_body<call>, context);
    };
    auto release = [](void *context) { delete (call *)context; };
    call *c = new call{kernel, std::tuple<P...>(static_cast<P>(arguments)...), grid, block, config->dynamicSmemBytes};
    return emu_enqueue(run, release, c) ? cudaSuccess : cudaGetLastError();
}

#endif
