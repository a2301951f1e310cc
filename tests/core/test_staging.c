/* Staging on the CPU's backend: slots take turns, marks cost nothing, and memory that cannot be had is an error. */
#include "core/staging.h"

#include "core/mem.h"
#include "tests/test.h"

static hn_error error;

TEST(slots_take_turns)
{
    hn_backend backend;
    hn_staging staging;
    void *first, *second, *slot;
    hn_backend_cpu_init(&backend);
    CHECK_OK(hn_staging_alloc(&staging, &backend, 2, 16, &error));
    CHECK_OK(hn_staging_take(&staging, &first, &error));
    CHECK(!memcmp(first, (char[16]){0}, 16));
    hn_staging_mark(&staging);
    CHECK_OK(hn_staging_take(&staging, &second, &error));
    CHECK(first != second);
    CHECK_OK(hn_staging_wait(&staging, 1, &slot, &error));
    CHECK(slot == first);
    CHECK_OK(hn_staging_wait(&staging, 0, &slot, &error));
    CHECK(slot == second);
    CHECK_OK(hn_staging_take(&staging, &slot, &error));
    CHECK(slot == first);
    hn_staging_close(&staging);
    CHECK_OK(hn_staging_alloc(&staging, &backend, 1, 16, &error));
    CHECK_OK(hn_staging_take(&staging, &first, &error));
    CHECK_OK(hn_staging_take(&staging, &second, &error));
    CHECK(first == second);
    hn_staging_close(&staging);
    hn_staging_close(&staging);
}

TEST(out_of_memory)
{
    hn_backend backend;
    hn_staging staging;
    hn_status status = HN_ERR_MEMORY;
    hn_backend_cpu_init(&backend);
    for (size_t n = 1; status == HN_ERR_MEMORY; n++) {
        hn_error_reset(&error);
        hn_mem_fail_at(n);
        status = hn_staging_alloc(&staging, &backend, 2, 16, &error);
        hn_mem_fail_at(0);
        CHECK(n < 5 && (status == HN_OK || error.message[0]));
    }
    CHECK_INT(status, HN_OK);
    hn_staging_close(&staging);
}

TEST_MAIN(RUN(slots_take_turns); RUN(out_of_memory))
