/* Arenas: counting and placing agree, pieces are aligned, overflow and exhaustion are errors. */
#include "core/arena.h"

#include "core/mem.h"
#include "tests/test.h"

static void layout(hn_arena *arena, hn_tensor *a, hn_tensor *b)
{
    *a = hn_arena_tensor(arena, HN_F32, 3, 5);
    *b = hn_arena_tensor(arena, HN_BF16, 0, 7);
    hn_arena_take(arena, 1);
}

TEST(counts_what_it_places)
{
    hn_backend backend;
    hn_backend_cpu_init(&backend);
    hn_arena arena;
    hn_error error = {0};
    hn_tensor a, b;
    hn_arena_init(&arena, "activations", &backend);
    layout(&arena, &a, &b);
    CHECK(a.data == NULL);
    CHECK_INT(arena.used, 64 + 0 + 64);
    size_t planned = arena.used;
    CHECK_OK(hn_arena_alloc(&arena, &error));
    layout(&arena, &a, &b);
    CHECK_INT(arena.used, planned);
    CHECK_INT((size_t)a.data % HN_ARENA_ALIGN, 0);
    CHECK_NEAR(((float *)a.data)[14], 0, 0);
    hn_arena_close(&arena);
}

TEST(overflow_is_an_error)
{
    hn_backend backend;
    hn_backend_cpu_init(&backend);
    hn_arena arena;
    hn_error error = {0};
    hn_arena_init(&arena, "activations", &backend);
    hn_arena_tensor(&arena, HN_F32, INT64_MAX, INT64_MAX);
    CHECK_INT(hn_arena_alloc(&arena, &error), HN_ERR_MEMORY);
    CHECK_CONTAINS(error.message, "activations");
}

TEST(no_memory_is_an_error)
{
    hn_backend backend;
    hn_backend_cpu_init(&backend);
    hn_arena arena;
    hn_error error = {0};
    hn_arena_init(&arena, "gradients", &backend);
    hn_arena_take(&arena, 1000);
    hn_mem_fail_at(1);
    hn_status status = hn_arena_alloc(&arena, &error);
    hn_mem_fail_at(0);
    CHECK_INT(status, HN_ERR_MEMORY);
    CHECK_CONTAINS(error.message, "gradients: out of memory: 1024 bytes");
}

TEST_MAIN(RUN(counts_what_it_places); RUN(overflow_is_an_error); RUN(no_memory_is_an_error))
