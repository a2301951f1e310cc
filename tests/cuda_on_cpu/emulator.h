/* The runtime under the headers in include/: it runs the threads of a CUDA block as fibers of one host
 * thread. Kernels never see this file; include/cuda_runtime.h and include/kernels/cuda/ptx.cuh turn what they
 * write into these calls. A second launch from another host thread at the same time is not supported. */
#ifndef HONE_TESTS_EMULATOR_H
#define HONE_TESTS_EMULATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct emu_index {
    unsigned x, y, z;
} emu_index;

/* Of the running thread, its block and its grid. */
extern emu_index emu_thread_index, emu_block_index, emu_block_size, emu_grid_size;

/* What a block may have: shared memory of the smallest chip that hone is built for (sm_80, opted in). */
enum { EMU_SHARED_LIMIT = 166912, EMU_SHARED_DEFAULT = 49152, EMU_THREADS = 1024 };

/* Runs body(context) once a thread of every block. false: a block was stopped, emu_message() says why; the
 * launch ended there. The order of blocks, of warps and of lanes between two meetings follows from the seed.
 */
bool emu_launch(emu_index grid, emu_index block, size_t dynamic_shared, void (*body)(void *context),
                void *context);
/* Whether sm_80 would take such a launch; emu_message() says why not. */
bool emu_launch_fits(emu_index grid, emu_index block, size_t dynamic_shared);
void emu_seed(uint64_t seed);
const char *emu_message(void); /* of the last launch that failed */

/* Figures since the start, for the curious: blocks run, fiber switches. */
uint64_t emu_blocks(void), emu_switches(void);

/* --- for the running thread --- */

/* Stops the block with a message. The calling thread never runs on; it is not declared noreturn because
 * AddressSanitizer would then unpoison a stack that is not the one it knows. */
void emu_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* __syncthreads: every thread of the block must come to the barrier of the same line. */
void emu_block_barrier(const char *file, int line);

/* A meeting of all 32 lanes of a warp at one line: the lane that comes last runs compute(data of the lanes);
 * after that, all go on. `data` may lie on the fiber's stack. compute NULL: only a barrier. */
void emu_warp_meet(const char *what, const char *file, int line, void *data,
                   void (*compute)(void *const lane[32]));
unsigned emu_lane(void);

void *emu_dynamic_shared(void);
/* The block's array that belongs to `key`; filled with 0xFF (NaN in fp32 and bf16) when the block starts. */
void *emu_static_shared(const void *key, size_t size);

/* cp.async: 16 bytes, read at once (so that a bad address is found at its line), written when a wait lets
 * them land; until then the destination is poisoned. */
void emu_copy_start(void *shared, const unsigned char bytes[16]);
void emu_copy_commit(void);
void emu_copy_wait(unsigned groups_left);

/* --- what the chip does for a warp, as `compute` functions --- */

typedef struct emu_shuffle { /* in: value, source lane; out: result */
    uint32_t value, result;
    unsigned source;
} emu_shuffle;
void emu_compute_shuffle(void *const lane[32]);

typedef struct emu_vote { /* in: predicate; out: one bit a lane */
    uint32_t predicate, ballot;
} emu_vote;
void emu_compute_vote(void *const lane[32]);

typedef struct emu_mma { /* m16n8k16, bf16 pairs in a and b, fp32 in c (in and out) */
    uint32_t a[4], b[2];
    float c[4];
} emu_mma;
void emu_compute_mma(void *const lane[32]);

typedef struct emu_ldmatrix { /* in: the 16 bytes that this lane's address names; out: its part of four
                                 matrices */
    uint16_t row[8];
    uint32_t part[4];
    bool transposed;
} emu_ldmatrix;
void emu_compute_ldmatrix(void *const lane[32]);

#ifdef __cplusplus
}
#endif

#endif
