/* See arena.h. */
#include "core/arena.h"

#include "core/mem.h"

void hn_arena_init(hn_arena *arena, const char *name, hn_backend *backend)
{
    *arena = (hn_arena){.name = name, .backend = backend};
}

void *hn_arena_take(hn_arena *arena, size_t size)
{
    size_t end;
    if (!hn_size_add(size, HN_ARENA_ALIGN - 1, &size) ||
        !hn_size_add(arena->used, size & ~(size_t)(HN_ARENA_ALIGN - 1), &end)) {
        arena->overflow = true;
        return NULL;
    }
    void *piece = NULL;
    if (arena->base) {
        HN_ASSERT(end <= arena->size);
        piece = arena->base + arena->used;
    }
    arena->used = end;
    return piece;
}

hn_tensor hn_arena_tensor(hn_arena *arena, hn_dtype dtype, int64_t rows, int64_t columns)
{
    HN_ASSERT(rows >= 0 && columns >= 0);
    size_t count, bytes;
    if (!hn_size_mul((size_t)rows, (size_t)columns, &count) || !hn_size_mul(count, hn_dtype_size(dtype), &bytes)) {
        arena->overflow = true;
        bytes = 0;
    }
    return hn_tensor_2d(hn_arena_take(arena, bytes), dtype, rows, columns);
}

hn_status hn_arena_alloc(hn_arena *arena, hn_error *error)
{
    HN_ASSERT(!arena->base);
    if (arena->overflow)
        return hn_fail(error, HN_ERR_MEMORY, "%s: the sizes of this model and batch overflow 64 bits", arena->name);
    hn_error refusal = {0};
    arena->base = arena->backend->alloc(arena->backend, arena->used, arena->streamed, &refusal);
    if (!arena->base) return hn_fail(error, refusal.status, "%s: %s", arena->name, refusal.message);
    arena->size = arena->used;
    arena->used = 0;
    return HN_OK;
}

void hn_arena_rewind(hn_arena *arena, size_t used)
{
    HN_ASSERT(used <= arena->used);
    arena->used = used;
}

void hn_arena_close(hn_arena *arena)
{
    if (arena->base) arena->backend->free(arena->backend, arena->base);
    arena->base = NULL;
    arena->size = arena->used = 0;
}
