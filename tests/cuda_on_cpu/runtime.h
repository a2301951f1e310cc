/* What tests ask of the emulated GPU beside CUDA's own calls, and what include/ needs of runtime.c. */
#ifndef HONE_TESTS_RUNTIME_H
#define HONE_TESTS_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Runs run(context), then release(context), when the stream gets there. false: the GPU has failed before; context is released. */
bool emu_enqueue(bool (*run)(void *context), void (*release)(void *context), void *context);

/* With a file nothing that is enqueued runs any more, and memory is not written; every launch is a line "launch ADDRESS grid X Y Z threads
 * N shared BYTES", the address counted from the program's beginning. NULL: as before. */
void emu_trace(FILE *to);
void emu_trace_launch(const void *kernel, unsigned x, unsigned y, unsigned z, unsigned threads, size_t shared);

/* After `calls` more calls of the runtime one fails with `error` (a cudaError_t). Out of memory is said once; any other stays. */
void emu_fail_after(int64_t calls, int error);
void emu_memory_limit(size_t bytes); /* of the GPU's memory */
void emu_absent(bool absent);        /* there is no GPU */
/* `refused`: no graph can be made. The failing_replay-th launch of a graph from now on fails on the GPU; 0: none. */
void emu_graphs(bool refused, int64_t failing_replay);
int64_t emu_replays(void); /* launches of graphs, since the start */
void emu_reset(void);                /* as at the start; memory stays */
size_t emu_memory_used(void);

#ifdef __cplusplus
}
#endif

#endif
