/* What the chip says in its own words: the only file with inline PTX, and the only one that the emulator
 * replaces (tests/cuda_on_cpu/include stands first on its include path). Names follow the PTX ISA, 9.7.
 *
 * Shared memory is declared through the two macros below, never with __shared__, so that the emulator can
 * give every block its own, poisoned. */
#ifndef HONE_KERNELS_CUDA_PTX_CUH
#define HONE_KERNELS_CUDA_PTX_CUH

#include <cuda_runtime.h>
#include <stdint.h>

/* unsigned char name[]: the block's dynamic shared memory, of the size given at the launch, aligned to 128
 * bytes. */
#define HN_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
/* HN_SHARED(float, sums, [4][32]): an array of the block. */
#define HN_SHARED(type, name, ...) __shared__ __align__(16) type name __VA_ARGS__
#define HN_UNROLL _Pragma("unroll")
#define HN_ROLLED _Pragma("unroll 1")
#define HN_PRAGMA_(text) _Pragma(#text)
#define HN_UNROLL_BY(count) HN_PRAGMA_(unroll(count)) /* a constant; 1: not at all */

/* 2^x, relative error 2^-22; results below 2^-126 are 0; 2^-inf = 0. */
static __device__ __forceinline__ float ptx_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Two floats rounded to bf16 (nearest even), `low` in the lower half. */
static __device__ __forceinline__ uint32_t ptx_pack_bf16(float low, float high)
{
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

/* c += a b for a [16, 16], b [16, 8] of bf16 spread over the warp's registers: lane l = 4 g + t holds a (g,
 * 2t) (g + 8, 2t) (g, 2t + 8) (g + 8, 2t + 8), b (2t, g) (2t + 8, g), each with its right (a) or lower (b)
 * neighbour, and c (g, 2t) (g, 2t + 1) (g + 8, 2t) (g + 8, 2t + 1). */
static __device__ __forceinline__ void ptx_mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                                    uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

static __device__ __forceinline__ uint32_t ptx_shared_address(const void *shared)
{
    return (uint32_t)__cvta_generic_to_shared(shared);
}

/* Four 8 x 8 matrices of 16-bit elements from shared memory: lane 8 m + i names row i of matrix m (16 bytes,
 * aligned); lane 4 g + t gets elements 2t and 2t + 1 of row g of each. */
static __device__ __forceinline__ void ptx_ldmatrix(uint32_t (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(ptx_shared_address(row))
                 : "memory");
}
/* The same with each matrix transposed: lane 4 g + t gets rows 2t and 2t + 1 of column g. */
static __device__ __forceinline__ void ptx_ldmatrix_transposed(uint32_t (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(ptx_shared_address(row))
                 : "memory");
}

/* Starts a copy of 16 aligned bytes from global to shared memory; zeros when not `valid` (then `global` is
 * not read). */
static __device__ __forceinline__ void ptx_copy_async(void *shared, const void *global, bool valid)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(ptx_shared_address(shared)), "l"(global), "r"(valid ? 16 : 0)
                 : "memory");
}
/* Closes a group of the copies that this thread started since the last one. */
static __device__ __forceinline__ void ptx_copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Waits until at most LEFT groups of this thread are under way. Others see the data after a barrier. */
template <int LEFT> static __device__ __forceinline__ void ptx_copy_wait()
{
    asm volatile("cp.async.wait_group %0;" : : "n"(LEFT) : "memory");
}

#endif
