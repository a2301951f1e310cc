/* Scratch of one operation: pieces of ctx->workspace, taken in order and all given up when the operation returns. What an
 * operation takes is bounded by the table's `workspace` function; a caller that hands in less gets an error. */
#ifndef HONE_KERNELS_SCRATCH_H
#define HONE_KERNELS_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/ops.h"

typedef struct hnp_scratch {
    hn_ops_context *ctx;
    size_t used;
} hnp_scratch;

#define HNP_SCRATCH_ALIGN 64

/* `size` bytes aligned to 64; NULL with ctx->error filled when the workspace is too small. */
static inline void *hnp_scratch_take(hnp_scratch *scratch, size_t size)
{
    size_t base = (size_t)scratch->ctx->workspace;
    size_t start = ((base + scratch->used + HNP_SCRATCH_ALIGN - 1) & ~(size_t)(HNP_SCRATCH_ALIGN - 1)) - base;
    if (!scratch->ctx->workspace || start + size > scratch->ctx->workspace_size) {
        hn_fail(scratch->ctx->error, HN_ERR_MEMORY, "workspace too small: an operation needs %zu bytes, it has %zu",
                start + size, scratch->ctx->workspace ? scratch->ctx->workspace_size : (size_t)0);
        return NULL;
    }
    scratch->used = start + size;
    return (char *)scratch->ctx->workspace + start;
}

/* Rows of a reduction that one partial sum covers; fixed, so that sums never depend on the number of threads. */
enum { HNP_SUM_ROWS = 64 };

/* So few elements of a result are done by one thread before a second has begun. */
enum { HNP_ALONE = 8192 };

static inline int64_t hnp_ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline int64_t hnp_least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

#endif
