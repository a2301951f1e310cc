/* kernels/cuda/ptx.cuh for the emulator: the same functions in plain C++. See there for what each does. */
#ifndef HONE_KERNELS_CUDA_PTX_CUH
#define HONE_KERNELS_CUDA_PTX_CUH

#include <cuda_runtime.h>

#define HN_DYNAMIC_SHARED(name) unsigned char *name = (unsigned char *)emu_dynamic_shared()
#define HN_SHARED(type, name, ...)                                                                           \
    auto &name = emu_shared<type __VA_ARGS__>([] {                                                           \
        static char key;                                                                                     \
        return (const void *)&key;                                                                           \
    }())
#define HN_UNROLL
#define HN_ROLLED
#define HN_UNROLL_BY(count)

template <class T> T &emu_shared(const void *key)
{
    return *(T *)emu_static_shared(key, sizeof(T));
}

inline void emu_aligned(const void *address, const char *what, const char *file, int line)
{
    if ((uintptr_t)address % 16)
        emu_fail("%s (%s:%d) at %p, which is not a multiple of 16", what, file, line, address);
}

inline float ptx_exp2(float x)
{
    return exp2f(x);
}

inline uint32_t ptx_pack_bf16(float low, float high)
{
    uint32_t word[2];
    const float value[2] = {low, high};
    for (int i = 0; i < 2; i++) {
        uint32_t u;
        std::memcpy(&u, &value[i], 4);
        word[i] = (u & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : (u + 0x7fffu + (u >> 16 & 1)) >> 16;
    }
    return word[0] | word[1] << 16;
}

inline void ptx_mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, EMU_PLACE)
{
    emu_mma m = {{a[0], a[1], a[2], a[3]}, {b0, b1}, {c[0], c[1], c[2], c[3]}};
    emu_warp_meet("mma", file, line, &m, emu_compute_mma);
    for (int i = 0; i < 4; i++) c[i] = m.c[i];
}

inline void emu_load_matrices(uint32_t (&r)[4], const void *row, bool transposed, const char *file, int line)
{
    emu_ldmatrix m = {};
    emu_aligned(row, "ldmatrix", file, line);
    for (int i = 0; i < 8; i++) m.row[i] = ((const uint16_t *)row)[i];
    m.transposed = transposed;
    emu_warp_meet("ldmatrix", file, line, &m, emu_compute_ldmatrix);
    for (int i = 0; i < 4; i++) r[i] = m.part[i];
}
inline void ptx_ldmatrix(uint32_t (&r)[4], const void *row, EMU_PLACE)
{
    emu_load_matrices(r, row, false, file, line);
}
inline void ptx_ldmatrix_transposed(uint32_t (&r)[4], const void *row, EMU_PLACE)
{
    emu_load_matrices(r, row, true, file, line);
}

inline void ptx_copy_async(void *shared, const void *global, bool valid, EMU_PLACE)
{
    unsigned char bytes[16] = {0};
    emu_aligned(shared, "cp.async to", file, line);
    emu_aligned(global, "cp.async from", file, line);
    if (valid) std::memcpy(bytes, global, 16);
    emu_copy_start(shared, bytes);
}
inline void ptx_copy_commit()
{
    emu_copy_commit();
}
template <int LEFT> void ptx_copy_wait()
{
    emu_copy_wait(LEFT);
}

#endif
