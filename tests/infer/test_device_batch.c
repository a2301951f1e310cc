/* A batch's way to a backend: what the host counts of it on the way. Its arrays are covered by everything that trains. */
#include "infer/device_batch.h"

#include "tests/test.h"

enum { TOKENS = 300 };

/* A device is told `expected` of a batch of one sequence whose first `targets` tokens are trained on. */
static void check_told(hn_device_batch *device, int32_t tokens, int32_t targets, bool any, int64_t expected)
{
    int32_t cu[] = {0, tokens}, token[TOKENS] = {0}, label[1] = {0}, target[TOKENS];
    uint32_t example[1] = {0};
    float value[1] = {0};
    hn_error error = {0};
    for (int32_t t = 0; t < TOKENS; t++) target[t] = t < targets ? 3 : HN_NO_TARGET;
    hn_batch batch = {.n = 1, .tokens = tokens, .longest = tokens, .keys = tokens, .cu_seqlens = cu, .token = token, .position = token,
                      .type = token, .example = example, .label = label, .value = value, .target = any ? target : NULL};
    CHECK_OK(hn_device_batch_upload(device, &batch, &error));
    CHECK_INT(device->batch.tokens, tokens);
    CHECK_INT(device->batch.targets, expected);
}

TEST(targets_are_counted_in_buckets)
{
    hn_backend backend;
    hn_arena arena;
    hn_device_batch device;
    hn_bounds bounds = {.tokens = TOKENS, .examples = 1, .longest = TOKENS};
    hn_error error = {0};
    hn_backend_cpu_init(&backend);
    hn_arena_init(&arena, "batch", &backend);
    hn_device_batch_place(&device, &arena, bounds);
    CHECK_OK(hn_arena_alloc(&arena, &error));
    hn_device_batch_place(&device, &arena, bounds);
    CHECK_OK(hn_device_batch_alloc(&device, &backend, &error));
    check_told(&device, TOKENS, 1, true, 128);
    check_told(&device, TOKENS, 128, true, 128);
    check_told(&device, TOKENS, 129, true, 256);
    check_told(&device, TOKENS, TOKENS, true, TOKENS);
    check_told(&device, 7, 3, true, 7);
    check_told(&device, 7, 0, true, 0);
    check_told(&device, 7, 0, false, 0);
    hn_device_batch_close(&device);
    hn_arena_close(&arena);
}

TEST_MAIN(RUN(targets_are_counted_in_buckets))
