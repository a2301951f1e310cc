/* Reading ahead: order, bounds, end, failure in its place, stopping at any moment. */
#include "core/threads.h"

#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"
#include "tests/test.h"

enum { SLOTS = 3 };

typedef struct source {
    int64_t length, fail_at;
    bool slow, silent;
    atomic_llong calls;
    sigset_t blocked;
} source;

static int64_t slots[SLOTS];
static void *pointers[SLOTS] = {&slots[0], &slots[1], &slots[2]};
static hn_error error;

static hn_status fill(void *context, void *slot, int64_t index, bool *end, hn_error *problem)
{
    source *s = context;
    if (s->slow) usleep(200);
    if (!index) pthread_sigmask(SIG_BLOCK, NULL, &s->blocked);
    atomic_fetch_add(&s->calls, 1);
    if (index == s->fail_at)
        return s->silent ? HN_ERR_IO : hn_fail(problem, HN_ERR_FORMAT, "row %d is bad", (int)index);
    *end = index == s->length;
    if (!*end) *(int64_t *)slot = index * index;
    return HN_OK;
}

static void *read_cut_file(void *context)
{
    static char path[] = "/tmp/hone-threads-XXXXXX";
    int file = mkstemp(path);
    hn_mapping map;
    hn_error problem = {0};
    bool *guarded = context;
    if (file < 0 || ftruncate(file, 4096) || hn_mapping_open(&map, path, &problem) || ftruncate(file, 0)) abort();
    *guarded = map.bytes[100] == 0 && !hn_mapping_intact(&map);
    hn_mapping_close(&map);
    close(file);
    unlink(path);
    return NULL;
}

TEST(a_thread_survives_a_file_that_is_cut_while_it_is_mapped)
{
    bool guarded = false;
    pthread_t thread;
    CHECK_INT(hn_thread_start(&thread, read_cut_file, &guarded), 0);
    pthread_join(thread, NULL);
    CHECK(guarded);
}

/* Gets all, holding `held` slots at once. */
static void drain(source *s, int held)
{
    hn_prefetch *p = NULL;
    void *slot = NULL;
    hn_error_reset(&error);
    CHECK_OK(hn_prefetch_open(&p, pointers, SLOTS, fill, s, &error));
    for (int64_t i = 0; i < s->length; i++) {
        CHECK_OK(hn_prefetch_get(p, &slot, &error));
        CHECK_INT(*(int64_t *)slot, i * i);
        if (!s->slow && i % 7 == 0) usleep(100);
        if (i >= held - 1) hn_prefetch_release(p);
    }
    CHECK_OK(hn_prefetch_get(p, &slot, &error));
    CHECK(slot == NULL);
    CHECK_OK(hn_prefetch_get(p, &slot, &error)); /* and it stays the end */
    CHECK(slot == NULL);
    CHECK_INT(atomic_load(&s->calls), s->length + 1);
    hn_prefetch_free(p);
}

TEST(keeps_the_order)
{
    for (int slow = 0; slow < 2; slow++)
        for (int held = 1; held < SLOTS; held++) {
            source s = {.length = 300, .fail_at = -1, .slow = slow};
            drain(&s, held);
            CHECK(sigismember(&s.blocked, SIGINT) == 1);
        }
    source empty = {.length = 0, .fail_at = -1};
    drain(&empty, 1);
}

TEST(runs_no_further_ahead_than_its_slots)
{
    source s = {.length = 100, .fail_at = -1};
    hn_prefetch *p = NULL;
    void *slot;
    hn_error_reset(&error);
    CHECK_OK(hn_prefetch_open(&p, pointers, SLOTS, fill, &s, &error));
    CHECK_OK(hn_prefetch_get(p, &slot, &error)); /* not released */
    for (int i = 0; i < 2000 && atomic_load(&s.calls) < SLOTS; i++) usleep(1000);
    usleep(2000);
    long long calls = atomic_load(&s.calls);
    bool kept = *(int64_t *)slot == 0;
    hn_prefetch_free(p);
    CHECK_INT(calls, SLOTS);
    CHECK(kept);
}

TEST(a_failure_has_its_place)
{
    for (int silent = 0; silent < 2; silent++) {
        source s = {.length = 10, .fail_at = 4, .silent = silent};
        hn_prefetch *p = NULL;
        void *slot = NULL;
        hn_error_reset(&error);
        CHECK_OK(hn_prefetch_open(&p, pointers, SLOTS, fill, &s, &error));
        for (int64_t i = 0; i < 4; i++) {
            CHECK_OK(hn_prefetch_get(p, &slot, &error));
            CHECK_INT(*(int64_t *)slot, i * i);
            hn_prefetch_release(p);
        }
        for (int again = 0; again < 2; again++) {
            hn_error_reset(&error);
            CHECK_INT(hn_prefetch_get(p, &slot, &error), silent ? HN_ERR_IO : HN_ERR_FORMAT);
            CHECK_TEXT(error.message, silent ? "item 4 could not be prepared" : "row 4 is bad");
        }
        CHECK_INT(atomic_load(&s.calls), 5);
        hn_prefetch_free(p);
    }
}

TEST(stops_at_any_moment)
{
    for (int taken = 0; taken < 40; taken++) {
        source s = {.length = 1000000, .fail_at = -1, .slow = taken % 2};
        hn_prefetch *p = NULL;
        void *slot;
        hn_error_reset(&error);
        CHECK_OK(hn_prefetch_open(&p, pointers, SLOTS, fill, &s, &error));
        for (int i = 0; i < taken; i++) {
            CHECK_OK(hn_prefetch_get(p, &slot, &error));
            hn_prefetch_release(p);
        }
        hn_prefetch_free(p);
    }
    hn_prefetch_free(NULL);
}

TEST(memory_runs_out)
{
    source s = {.length = 1, .fail_at = -1};
    for (size_t n = 1; n <= 2; n++) {
        hn_prefetch *p = NULL;
        hn_error_reset(&error);
        hn_mem_fail_at(n);
        hn_status status = hn_prefetch_open(&p, pointers, SLOTS, fill, &s, &error);
        hn_mem_fail_at(0);
        CHECK_INT(status, HN_ERR_MEMORY);
    }
}

TEST_MAIN(RUN(a_thread_survives_a_file_that_is_cut_while_it_is_mapped); RUN(keeps_the_order); RUN(runs_no_further_ahead_than_its_slots); RUN(a_failure_has_its_place);
          RUN(stops_at_any_moment); RUN(memory_runs_out))
