/* An arena is one block of a backend's memory for one lifetime (parameters, gradients, optimizer state, activations,
 * workspace). It is laid out by a function that takes pieces in order and is run twice: once on an arena without memory,
 * which only counts (this is what `hone plan` prints), once on the arena that was allocated with just that size. So the plan
 * and the allocation agree by construction. */
#ifndef HONE_CORE_ARENA_H
#define HONE_CORE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "core/backend.h"
#include "core/tensor.h"

typedef struct hn_arena {
    const char *name;
    hn_backend *backend;
    unsigned char *base; /* NULL while counting */
    size_t size;         /* bytes allocated */
    size_t used;         /* bytes taken, with alignment */
    bool overflow;       /* a size did not fit size_t */
    bool streamed;       /* set by the owner before hn_arena_alloc: passed over end to end (hn_backend.alloc) */
} hn_arena;

#define HN_ARENA_ALIGN 64

/* An arena that counts. */
void hn_arena_init(hn_arena *arena, const char *name, hn_backend *backend);
/* The next `size` bytes, aligned to HN_ARENA_ALIGN; NULL while counting. Taking more than was counted is our bug. */
void *hn_arena_take(hn_arena *arena, size_t size);
/* The same as a tensor view. */
hn_tensor hn_arena_tensor(hn_arena *arena, hn_dtype dtype, int64_t rows, int64_t columns);
/* Ends counting: allocates `used` bytes (zeroed) and starts over at offset 0. */
hn_status hn_arena_alloc(hn_arena *arena, hn_error *error);
/* Back to an offset that `used` had before; what was taken since is given up. */
void hn_arena_rewind(hn_arena *arena, size_t used);
void hn_arena_close(hn_arena *arena);

#endif
