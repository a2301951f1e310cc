/* Time by operation on the emulated GPU: nothing is waited for while it is measured, every call is counted once somebody waits, more
 * calls than the ring of events holds are counted too, and a GPU that gives no events is an error of the step. */
#include "kernels/profile.h"
#include "tests/cuda_on_cpu/device.h"

static void open_profiled(device *d, hn_profile *profile)
{
    memset(profile, 0, sizeof *profile);
    device_open(d, 0);
    hn_cuda_device_of(&d->backend)->synchronous = false;
    d->ctx.profile = profile;
}

TEST(counted_when_somebody_waits)
{
    device d;
    hn_profile profile;
    float x[64] = {1}, factor = 2;
    uint64_t pulse = 0;
    open_profiled(&d, &profile);
    d.ctx.pulse = &pulse;
    for (int i = 0; i < 5; i++) d.ops->scale(&d.ctx, x, 64, &factor);
    d.ops->zero(&d.ctx, x, sizeof x);
    CHECK_INT(profile.operation[HN_OP_SCALE].calls, 0);
    CHECK_INT(pulse, 6);
    device_wait(&d);
    CHECK_TEXT(d.error.message, "");
    CHECK_INT(profile.operation[HN_OP_SCALE].calls, 5);
    CHECK_INT(profile.operation[HN_OP_ZERO].calls, 1);
    CHECK(profile.operation[HN_OP_SCALE].seconds > 0 && profile.operation[HN_OP_SCALE].seconds < 10);
    device_wait(&d);
    CHECK_INT(profile.operation[HN_OP_SCALE].calls, 5);
    d.ctx.profile = NULL;
    d.ops->scale(&d.ctx, x, 64, &factor);
    device_wait(&d);
    CHECK_INT(profile.operation[HN_OP_SCALE].calls, 5);
    device_close(&d);
}

/* 3,000 calls through a ring of 1,024; the oldest come out before anybody waits. */
TEST(more_than_the_ring_holds)
{
    device d;
    hn_profile profile;
    float x[1] = {1};
    open_profiled(&d, &profile);
    for (int i = 0; i < 3000; i++) d.ops->zero(&d.ctx, x, sizeof x);
    int64_t early = profile.operation[HN_OP_ZERO].calls;
    CHECK(early >= 1976 && early < 3000 && early % 512 == 0);
    device_wait(&d);
    CHECK_TEXT(d.error.message, "");
    CHECK_INT(profile.operation[HN_OP_ZERO].calls, 3000);
    device_close(&d);
}

TEST(events_that_cannot_be_had)
{
    device d;
    hn_profile profile;
    float x[1] = {1};
    open_profiled(&d, &profile);
    emu_fail_after(7, 2 /* out of memory */);
    d.ops->zero(&d.ctx, x, sizeof x);
    CHECK_CONTAINS(d.error.message, "making events for the times of operations: out of memory");
    emu_reset();
    device_close(&d);
}

/* The GPU fails while times are under way: the wait says so, and no time is made up. */
TEST(a_failing_gpu)
{
    device d;
    hn_profile profile;
    float x[1] = {1};
    open_profiled(&d, &profile);
    d.ops->zero(&d.ctx, x, sizeof x);
    emu_fail_after(0, 719 /* a launch that failed */);
    device_wait(&d);
    CHECK_CONTAINS(d.error.message, "the last operation started was zero");
    CHECK_INT(profile.operation[HN_OP_ZERO].calls, 0);
    emu_reset();
    device_close(&d);
}

TEST_MAIN(RUN(counted_when_somebody_waits); RUN(more_than_the_ring_holds); RUN(events_that_cannot_be_had); RUN(a_failing_gpu))
