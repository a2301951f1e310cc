/* The emulator itself: what it computes, and that each fault that it promises to find is found. */
#include "tests/cuda_on_cpu/test_emulator.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cuda_on_cpu/device.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

#define CHECK_STOPPED(call, part)                                                                            \
    do {                                                                                                     \
        device stopped;                                                                                      \
        device_open(&stopped, 0);                                                                            \
        call;                                                                                                \
        device_close(&stopped);                                                                              \
        CHECK_INT(stopped.error.status, HN_ERR_DEVICE);                                                      \
        CHECK_CONTAINS(stopped.error.message, part);                                                         \
    } while (0)

TEST(divergent_barriers_are_named)
{
    CHECK_STOPPED(run_barrier_in_branch(&stopped.ctx, 64),
                  "barrier_in_branch: block (0, 0, 0): divergent: thread");
    CHECK_STOPPED(run_barrier_in_branch(&stopped.ctx, 127), "has ended");
    CHECK_STOPPED(run_barrier_in_branch(&stopped.ctx, 64), "waits at __syncthreads (");
    CHECK_STOPPED(run_barrier_on_two_lines(&stopped.ctx), "divergent");
    CHECK_STOPPED(run_shuffle_in_branch(&stopped.ctx), "waits at __shfl_xor_sync");
    CHECK_STOPPED(run_two_meetings_in_a_warp(&stopped.ctx), "of its warp is at");
    CHECK_STOPPED(run_partial_mask(&stopped.ctx), "with the partial mask 0000ffff");
}

TEST(a_stopped_block_does_not_harm_the_next)
{
    device d;
    int out[128];
    CHECK_STOPPED(run_barrier_in_branch(&stopped.ctx, 64), "divergent");
    device_open(&d, 0);
    run_shuffles(&d.ctx, out);
    CHECK_TEXT(d.error.message, "");
    device_close(&d);
}

TEST(after_a_failure_nothing_runs)
{
    device d;
    float out[128] = {0};
    device_open(&d, 0);
    run_partial_mask(&d.ctx);
    run_exchange(&d.ctx, out, 1, 1);
    CHECK_NEAR(out[5], 0, 0);
    CHECK_CONTAINS(d.error.message, "partial_mask");
    device_close(&d);
}

static bool exchange_works(uint64_t seed, int before, int after)
{
    device d;
    float out[128];
    device_open(&d, 0);
    emu_seed(seed);
    run_exchange(&d.ctx, out, before, after);
    bool works = d.error.status == HN_OK;
    for (int i = 0; i < 128; i++) works = works && out[i] == (float)(2 * ((i + 96) % 128) + 1000);
    device_close(&d);
    return works;
}

TEST(a_missing_barrier_shows)
{
    for (uint64_t seed = 1; seed < 20; seed++) {
        CHECK(exchange_works(seed, 1, 1));
        CHECK(!exchange_works(seed, 0, 1));
        CHECK(!exchange_works(seed, 1, 0));
    }
}

TEST(shuffles_and_votes)
{
    device d;
    int out[128];
    device_open(&d, 0);
    run_shuffles(&d.ctx, out);
    CHECK_TEXT(d.error.message, "");
    for (int i = 0; i < 32; i++) {
        CHECK_INT(out[i], i ^ 5);
        CHECK_INT(out[32 + i], 9);
        CHECK_INT(out[64 + i], i + 4 < 32 ? i + 4 : i);
        CHECK_INT(out[96 + i], 0x49249249 + 2);
    }
    device_close(&d);
}

TEST(shared_memory_starts_as_nan_in_every_block)
{
    device d;
    float out[6] = {0};
    device_open(&d, 0);
    run_shared_start(&d.ctx, out, 3);
    CHECK_TEXT(d.error.message, "");
    for (int i = 0; i < 6; i++) CHECK(isnan(out[i]));
    device_close(&d);
}

TEST(copies_land_at_their_wait)
{
    float in[128], out[256];
    for (int i = 0; i < 128; i++) in[i] = (float)i;
    for (int wait = 0; wait < 2; wait++)
        for (int valid = 0; valid < 2; valid++) {
            device d;
            device_open(&d, 0);
            run_copy(&d.ctx, out, in, wait, valid);
            CHECK_TEXT(d.error.message, "");
            for (int i = 0; i < 128; i++) {
                if (wait)
                    CHECK_NEAR(out[i], valid ? i : 0, 0);
                else
                    CHECK(isnan(out[i]));
                CHECK_NEAR(out[128 + i], valid ? i : 0, 0);
            }
            device_close(&d);
        }
}

TEST(mma_multiplies_what_ldmatrix_loads)
{
    device d;
    float out[128];
    hn_tensor a = matrix_random(HN_BF16, 16, 16, 16, 1), b = matrix_random(HN_BF16, 16, 8, 8, 1);
    device_open(&d, 0);
    run_product(&d.ctx, out, a.data, b.data);
    CHECK_TEXT(d.error.message, "");
    for (int i = 0; i < 128; i++) {
        double sum = 1;
        for (int k = 0; k < 16; k++) sum += get(&a, i / 8, k) * get(&b, k, i % 8);
        CHECK_NEAR(out[i], sum, 1e-6);
    }
    device_close(&d);
    free(a.data);
    free(b.data);
}

TEST(misaligned_matrices_are_refused)
{
    CHECK_STOPPED(run_misaligned(&stopped.ctx), "which is not a multiple of 16");
}

TEST(launches_that_no_chip_takes_are_refused)
{
    CHECK_STOPPED(run_dynamic(&stopped.ctx, 0, 2048), "launch refused");
    CHECK_STOPPED(run_dynamic(&stopped.ctx, 0, 33), "launch refused");
    CHECK_STOPPED(run_dynamic(&stopped.ctx, EMU_SHARED_LIMIT + 1, 32), "dynamic: invalid argument");
    device d;
    device_open(&d, 0);
    run_dynamic(&d.ctx, EMU_SHARED_LIMIT, 32);
    CHECK_TEXT(d.error.message, "");
    device_close(&d);
}

TEST(philox_gives_the_words_of_the_core)
{
    device d;
    uint32_t out[512];
    device_open(&d, 0);
    run_philox(&d.ctx, out, 0xfedcba9876543210u, HN_SITE(3, HN_SITE_ATTENTION, 11), 123456789, 42);
    CHECK_TEXT(d.error.message, "");
    for (uint32_t i = 0; i < 128; i++) {
        hn_philox4 w =
            hn_philox(0xfedcba9876543210u, i * 977, HN_SITE(3, HN_SITE_ATTENTION, 11), 123456789, 42);
        CHECK_INT(memcmp(w.word, out + 4 * i, sizeof w.word), 0);
    }
    device_close(&d);
}

#ifdef WITH_ASAN
static float *outside;
static void write_outside(hn_ops_context *ctx)
{
    run_overrun(ctx, outside, 40);
}
static void write_outside_shared(hn_ops_context *ctx)
{
    run_shared_overrun(ctx, 32);
}

/* Whether a child that runs `body` dies of a sanitizer's report. */
static bool sanitizer_stops(void (*body)(hn_ops_context *))
{
    int pipes[2], status = 0;
    char text[1 << 16];
    size_t used = 0;
    if (pipe(pipes)) return false;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        device d;
        dup2(pipes[1], 2);
        device_open(&d, 0);
        body(&d.ctx);
        _exit(0);
    }
    close(pipes[1]);
    for (ssize_t got;
         used < sizeof text - 1 && (got = read(pipes[0], text + used, sizeof text - 1 - used)) > 0;)
        used += (size_t)got;
    text[used] = 0;
    close(pipes[0]);
    waitpid(child, &status, 0);
    return status != 0 && (strstr(text, "heap-buffer-overflow") || strstr(text, "out of bounds"));
}

TEST(the_sanitizer_sees_through_fibers)
{
    outside = floats_new(40);
    CHECK(sanitizer_stops(write_outside));
    CHECK(sanitizer_stops(write_outside_shared));
    free(outside);
}
#else
TEST(the_sanitizer_sees_through_fibers)
{
    printf("built without AddressSanitizer: nothing to see\n");
}
#endif

TEST_MAIN(RUN(divergent_barriers_are_named); RUN(a_stopped_block_does_not_harm_the_next);
          RUN(after_a_failure_nothing_runs); RUN(a_missing_barrier_shows); RUN(shuffles_and_votes);
          RUN(shared_memory_starts_as_nan_in_every_block); RUN(copies_land_at_their_wait);
          RUN(mma_multiplies_what_ldmatrix_loads); RUN(misaligned_matrices_are_refused);
          RUN(launches_that_no_chip_takes_are_refused); RUN(philox_gives_the_words_of_the_core);
          RUN(the_sanitizer_sees_through_fibers))
