/* core/staging.h on the emulated GPU, where a copy runs as late as CUDA allows: a slot is never written before it was read, waiting for
 * one mark leaves later work under way, and a failure of the GPU comes out where somebody waits. */
#include "core/staging.h"

#include "core/mem.h"
#include "tests/cuda_on_cpu/device.h"

enum { NUMBERS = 100 };

/* Many numbers through two slots, each into a place of its own. */
static void send_numbers(device *d, int slots, float *there)
{
    hn_staging staging;
    HN_ASSERT(hn_staging_alloc(&staging, &d->backend, slots, sizeof(float), &d->error) == HN_OK);
    for (int i = 0; i < NUMBERS; i++) {
        void *slot;
        CHECK_INT(hn_staging_take(&staging, &slot, &d->error), HN_OK);
        *(float *)slot = (float)i;
        d->backend.copy_in(&d->backend, there + i, slot, sizeof(float));
        hn_staging_mark(&staging);
    }
    hn_staging_close(&staging);
}

TEST(no_slot_is_written_too_early)
{
    device d;
    float here[NUMBERS];
    for (int slots = 1; slots <= 2; slots++) {
        device_open(&d, 0);
        hn_cuda_device_of(&d.backend)->synchronous = false;
        float *there = d.backend.alloc(&d.backend, sizeof here, false, &d.error);
        send_numbers(&d, slots, there);
        d.backend.copy_out(&d.backend, here, there, sizeof here);
        CHECK_INT(d.backend.synchronize(&d.backend, &d.error), HN_OK);
        for (int i = 0; i < NUMBERS; i++) CHECK(here[i] == (float)i);
        d.backend.free(&d.backend, there);
        device_close(&d);
    }
}

/* Two results on their way: the older one is read while the younger one is not there yet. */
TEST(one_mark_is_waited_for)
{
    device d;
    hn_staging staging;
    void *older, *younger;
    static float values[2] = {3, 4};
    device_open(&d, 0);
    hn_cuda_device_of(&d.backend)->synchronous = false;
    float *there = d.backend.alloc(&d.backend, sizeof values, false, &d.error);
    HN_ASSERT(hn_staging_alloc(&staging, &d.backend, 2, sizeof(float), &d.error) == HN_OK);
    d.backend.copy_in(&d.backend, there, values, sizeof values);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(hn_staging_take(&staging, i ? &younger : &older, &d.error), HN_OK);
        d.backend.copy_out(&d.backend, i ? younger : older, there + i, sizeof(float));
        hn_staging_mark(&staging);
    }
    void *slot;
    CHECK_INT(hn_staging_wait(&staging, 1, &slot, &d.error), HN_OK);
    CHECK(slot == older && *(float *)older == 3);
    bool late = *(float *)younger == 0; /* a real GPU may be faster */
    CHECK_INT(hn_staging_wait(&staging, 0, &slot, &d.error), HN_OK);
    CHECK(slot == younger && *(float *)younger == 4);
    CHECK(late || hn_cuda_device_of(&d.backend)->multiprocessors > 2);
    hn_staging_close(&staging);
    d.backend.free(&d.backend, there);
    device_close(&d);
}

TEST(a_failure_comes_out_at_the_wait)
{
    device d;
    hn_staging staging;
    void *slot;
    device_open(&d, 0);
    HN_ASSERT(hn_staging_alloc(&staging, &d.backend, 1, 64, &d.error) == HN_OK);
    CHECK_INT(hn_staging_take(&staging, &slot, &d.error), HN_OK);
    emu_fail_after(0, 700 /* an illegal address */);
    hn_staging_mark(&staging);
    CHECK_INT(hn_staging_take(&staging, &slot, &d.error), HN_ERR_DEVICE);
    CHECK_CONTAINS(d.error.message, "an illegal memory access");
    emu_reset();
    hn_staging_close(&staging);
    device_close(&d);
}

/* Of the backend's calls and of its memory, each fails once. */
TEST(nothing_leaks_when_it_cannot_be_had)
{
    for (int n = 0, done = 0; !done; n++) {
        device d;
        hn_staging staging;
        device_open(&d, 0);
        emu_fail_after(n, 2 /* out of memory */);
        hn_status status = hn_staging_alloc(&staging, &d.backend, 2, 64, &d.error);
        emu_reset();
        done = status == HN_OK;
        CHECK(done || (staging.backend == NULL && d.error.message[0]));
        CHECK(n < 10);
        hn_staging_close(&staging);
        device_close(&d);
    }
}

TEST_MAIN(RUN(no_slot_is_written_too_early); RUN(one_mark_is_waited_for); RUN(a_failure_comes_out_at_the_wait);
          RUN(nothing_leaks_when_it_cannot_be_had))
