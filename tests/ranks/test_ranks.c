/* Collectives of 2 to 8 processes, and their orderly end. */
#include "tests/ranks/processes.h"

#include <pthread.h>

static hn_error error;
static world w;

#define RANK_CHECK(condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s does not hold: %s\n", __FILE__, __LINE__, #condition, error.message);           \
            _exit(50);                                                                                                 \
        }                                                                                                              \
    } while (0)
#define CHECK_ALL(code)                                                                                                \
    do {                                                                                                               \
        CHECK(world_wait(&w, 30));                                                                                     \
        for (int i_ = 0; i_ < w.size; i_++)                                                                            \
            if (world_code(&w, i_) != (code)) TEST_FAIL("rank %d ended with %d and said: %s", i_, world_code(&w, i_), w.said[i_]); \
    } while (0)

TEST(one_process)
{
    hn_ranks *none = NULL;
    hn_blobs all = {0};
    int value = 7;
    void *bytes = &value;
    size_t size = sizeof value;
    unsetenv("RANK");
    CHECK_OK(hn_ranks_open(&none, &world_options, &error));
    CHECK(!none);
    CHECK_INT(hn_ranks_rank(none), 0);
    CHECK_INT(hn_ranks_size(none), 1);
    CHECK_INT(hn_ranks_local(none), 0);
    CHECK_INT(hn_ranks_local_size(none), 1);
    CHECK(hn_ranks_first(none));
    CHECK_TEXT(hn_ranks_host(none, 0), "");
    CHECK_OK(hn_ranks_barrier(none, "x", &error));
    CHECK_OK(hn_ranks_broadcast(none, "x", &bytes, &size, &error));
    CHECK(bytes == &value);
    CHECK_OK(hn_ranks_gather(none, "x", "abc", 3, &all, &error));
    CHECK_INT(all.count, 1);
    CHECK_INT(memcmp(hn_blobs_view(&all, 0), "abc", 3), 0);
    hn_blobs_close(&all);
    CHECK_OK(hn_ranks_agree(none, "x", HN_OK, &error));
    hn_fail(&error, HN_ERR_DEVICE, "broken");
    CHECK_INT(hn_ranks_agree(none, "x", HN_ERR_DEVICE, &error), HN_ERR_DEVICE);
    CHECK_TEXT(error.message, "broken");
    hn_error_reset(&error);
    hn_ranks_enter(none, HN_ACTIVITY_DISK, "x", 1);
    hn_ranks_pulse(none);
    CHECK(!hn_ranks_pulses(none) && !hn_ranks_writer(none));
    hn_ranks_moved(none, 1, 1, 1);
    CHECK_OK(hn_ranks_log(none, "/nowhere/at/all", &error));
    hn_ranks_record_end(none, hn_ranks_record(none, "x", 1));
    hn_ranks_stop_agreed(none);
    hn_ranks_close(none);
}

static void fill(unsigned char *bytes, size_t size, int rank)
{
    for (size_t i = 0; i < size; i++) bytes[i] = (unsigned char)(i * 31 + (size_t)rank * 7);
}

/* Sizes of 0, 1, and around a piece; each rank another one. */
static void gather_body(hn_ranks *ranks, int scene)
{
    static const size_t sizes[] = {0, 1, 1000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1};
    int rank = hn_ranks_rank(ranks), size = hn_ranks_size(ranks);
    unsigned char *mine = malloc(2 << 20), *expected = malloc(2 << 20);
    for (int round = 0; round < scene; round++) {
        hn_blobs all;
        size_t n = sizes[(round + rank) % 6];
        fill(mine, n, rank + round);
        RANK_CHECK(hn_ranks_gather(ranks, "words", mine, n, &all, &error) == HN_OK);
        RANK_CHECK(all.count == size);
        for (int i = 0; i < size; i++) {
            n = sizes[(round + i) % 6];
            fill(expected, n, i + round);
            RANK_CHECK(hn_blobs_size(&all, i) == n && !memcmp(hn_blobs_view(&all, i), expected, n));
        }
        hn_blobs_close(&all);
    }
    free(mine);
    free(expected);
}

TEST(gathers)
{
    static const int counts[] = {2, 3, 8};
    for (int i = 0; i < 3; i++) {
        world_start(&w, counts[i], gather_body, 12);
        CHECK_ALL(0);
        world_close(&w);
    }
}

static void broadcast_body(hn_ranks *ranks, int scene)
{
    unsigned char *bytes = malloc((size_t)scene), *expected = malloc((size_t)scene);
    for (int round = 0; round < 3; round++) {
        size_t size = (size_t)scene;
        void *got = bytes;
        fill(bytes, size, round);
        fill(expected, size, round);
        if (!hn_ranks_first(ranks)) {
            got = NULL;
            size = 0;
        }
        RANK_CHECK(hn_ranks_broadcast(ranks, "manifest", &got, &size, &error) == HN_OK);
        RANK_CHECK(size == (size_t)scene && !memcmp(got, expected, size));
        if (got != bytes) hn_free(got);
    }
    RANK_CHECK(hn_ranks_barrier(ranks, "after it", &error) == HN_OK);
    free(bytes);
    free(expected);
}

TEST(broadcasts)
{
    static const int sizes[] = {0, 5, 3 << 20};
    for (int i = 0; i < 3; i++) {
        world_start(&w, 4, broadcast_body, sizes[i]);
        CHECK_ALL(0);
        world_close(&w);
    }
}

/* Who we are: the local ranks of one machine, its name. A thousand barriers with nobody in step. */
static void places_body(hn_ranks *ranks, int scene)
{
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    RANK_CHECK(hn_ranks_local(ranks) == hn_ranks_rank(ranks) && hn_ranks_local_size(ranks) == scene);
    RANK_CHECK(hn_ranks_first(ranks) == (hn_ranks_rank(ranks) == 0));
    for (int i = 0; i < scene; i++) RANK_CHECK(!strncmp(hn_ranks_host(ranks, i), host, 60));
    uint64_t before = *hn_ranks_pulses(ranks);
    hn_ranks_pulse(ranks);
    RANK_CHECK(*hn_ranks_pulses(ranks) > before);
    for (int i = 0; i < 1000; i++) {
        if ((i * 7 + hn_ranks_rank(ranks)) % 97 == 0) world_nap(0.001);
        RANK_CHECK(hn_ranks_barrier(ranks, "round", &error) == HN_OK);
    }
}

TEST(many_rounds)
{
    world_start(&w, 4, places_body, 4);
    CHECK_ALL(0);
    world_close(&w);
}

/* One rank, two, or all with the same words fail; the first one's words come to all. */
static void agree_body(hn_ranks *ranks, int scene)
{
    char expected[200], prefix[120];
    int rank = hn_ranks_rank(ranks);
    RANK_CHECK(hn_ranks_agree(ranks, "data", HN_OK, &error) == HN_OK);
    RANK_CHECK(error.status == HN_OK);
    hn_status mine = HN_OK;
    if (scene >> rank & 1) mine = hn_fail(&error, rank == 1 ? HN_ERR_IO : HN_ERR_FORMAT, scene == 15 ? "same words" : "row %d is bad", rank);
    int first = 0;
    while (!(scene >> first & 1)) first++;
    snprintf(prefix, sizeof prefix, "rank %d (%.63s): ", first, hn_ranks_host(ranks, first));
    snprintf(expected, sizeof expected, "%srow %d is bad", prefix, first);
    hn_status status = hn_ranks_agree(ranks, "data", mine, &error);
    RANK_CHECK(status == error.status && status == (first == 1 ? HN_ERR_IO : HN_ERR_FORMAT));
    if (scene == 15)
        RANK_CHECK(strstr(error.message, "same words"));
    else
        RANK_CHECK(!strcmp(error.message, expected));
}

TEST(agreements)
{
    static const int failing[] = {1, 2, 8, 10, 12};
    for (int i = 0; i < 5; i++) {
        world_start(&w, 4, agree_body, failing[i]);
        CHECK_ALL(0);
        world_close(&w);
    }
}

static void same_words_body(hn_ranks *ranks, int scene)
{
    (void)scene;
    hn_status mine = hn_fail(&error, HN_ERR_USAGE, "train.elastic: 3 ranks");
    RANK_CHECK(hn_ranks_agree(ranks, "config", mine, &error) == HN_ERR_USAGE);
    RANK_CHECK(!strcmp(error.message, "train.elastic: 3 ranks"));
}

TEST(the_same_failure_of_all)
{
    world_start(&w, 3, same_words_body, 0);
    CHECK_ALL(0);
    world_close(&w);
}

/* Ranks in different calls: an error on all that names both, and the next call is fine again. */
static void mismatch_body(hn_ranks *ranks, int scene)
{
    hn_blobs all = {0};
    hn_status status;
    bool odd = hn_ranks_rank(ranks) == 2;
    if (scene == 0)
        status = odd ? hn_ranks_barrier(ranks, "start", &error) : hn_ranks_gather(ranks, "words", "x", 1, &all, &error);
    else
        status = hn_ranks_gather(ranks, odd ? "other words" : "words", "x", 1, &all, &error);
    RANK_CHECK(status == HN_ERR_MISMATCH && error.status == status && !all.bytes);
    RANK_CHECK(strstr(error.message, "rank 2 (") && strstr(error.message, "rank 0 (") && strstr(error.message, "gather \"words\""));
    RANK_CHECK(strstr(error.message, scene ? "gather \"other words\"" : "barrier \"start\""));
    RANK_CHECK(hn_ranks_barrier(ranks, "after it", NULL) == HN_OK);
}

TEST(mismatches)
{
    for (int scene = 0; scene < 2; scene++) {
        world_start(&w, 4, mismatch_body, scene);
        CHECK_ALL(0);
        world_close(&w);
    }
}

/* More than a collective may have: on one rank, or together. */
static void too_much_body(hn_ranks *ranks, int scene)
{
    hn_blobs all = {0};
    size_t size = scene ? (size_t)HN_RANKS_BLOB + 1 : HN_RANKS_BLOB / 2 + 1;
    void *bytes = calloc(1, size);
    RANK_CHECK(hn_ranks_gather(ranks, "words", bytes, scene && !hn_ranks_first(ranks) ? 1 : size, &all, &error) == HN_ERR_MEMORY);
    RANK_CHECK(strstr(error.message, "64 MiB") && !all.bytes);
    RANK_CHECK(hn_ranks_barrier(ranks, "after it", NULL) == HN_OK);
    free(bytes);
}

TEST(too_much)
{
    for (int scene = 0; scene < 2; scene++) {
        world_start(&w, 2, too_much_body, scene);
        CHECK_ALL(0);
        world_close(&w);
    }
}

/* One rank is long in its work, with pulses: everybody waits, without a limit, also at the end. */
static void slow_body(hn_ranks *ranks, int scene)
{
    if (hn_ranks_rank(ranks) == scene) {
        hn_ranks_enter(ranks, HN_ACTIVITY_COMPUTE, "encoding", -1);
        for (double end = hn_clock() + 2 * world_options.timeout; hn_clock() < end; world_nap(0.1)) hn_ranks_pulse(ranks);
    }
    if (scene) RANK_CHECK(hn_ranks_barrier(ranks, "data", &error) == HN_OK);
}

TEST(waiting_has_no_limit)
{
    for (int scene = 0; scene < 2; scene++) {
        world_start(&w, 3, slow_body, scene);
        CHECK_ALL(0);
        world_close(&w);
    }
}

/* The writer's thread has collectives of its own while the main thread is in others, and neither waits for the other's order. */
static void *writer_work(void *argument)
{
    hn_ranks *writer = hn_ranks_writer(argument);
    hn_error own = {0};
    int rank = hn_ranks_rank(writer);
    for (int step = 0; step < 40; step++) {
        char entry[40];
        hn_blobs all;
        if ((step + rank) % 7 == 0) world_nap(0.004);
        snprintf(entry, sizeof entry, "rank-%d.h5 of step %d", rank, step);
        if (hn_ranks_barrier(writer, "go", &own) != HN_OK) _exit(51);
        if (hn_ranks_gather(writer, "parts", entry, sizeof entry, &all, &own) != HN_OK) _exit(52);
        snprintf(entry, sizeof entry, "rank-2.h5 of step %d", step);
        if (strcmp((char *)hn_blobs_view(&all, 2), entry)) _exit(53);
        hn_blobs_close(&all);
        hn_status mine = rank == 0 && step == 20 ? hn_fail(&own, HN_ERR_IO, "disk full") : HN_OK;
        hn_status outcome = hn_ranks_agree(writer, "done", mine, &own);
        if (outcome != (step == 20 ? HN_ERR_IO : HN_OK) || (step == 20 && !strstr(own.message, "disk full"))) _exit(54);
        hn_error_reset(&own);
    }
    return NULL;
}

static void writer_body(hn_ranks *ranks, int scene)
{
    pthread_t writer;
    RANK_CHECK(pthread_create(&writer, NULL, writer_work, ranks) == 0);
    gather_body(ranks, scene);
    for (int i = 0; i < 200; i++) RANK_CHECK(hn_ranks_barrier(ranks, "go", &error) == HN_OK);
    pthread_join(writer, NULL);
}

TEST(the_writer_beside_the_main_thread)
{
    world_start(&w, 4, writer_body, 6);
    CHECK_ALL(0);
    world_close(&w);
}

/* A signal to one rank sets the flag of all; then they end in order. */
static void stop_body(hn_ranks *ranks, int scene)
{
    (void)scene;
    hn_ranks_enter(ranks, HN_ACTIVITY_COMPUTE, "a step", 3);
    world_arrive(ranks, "begun");
    for (double end = hn_clock() + 20; !world_stop; world_nap(0.01)) {
        RANK_CHECK(hn_clock() < end);
        hn_ranks_pulse(ranks);
    }
    hn_ranks_stop_agreed(ranks);
}

TEST(a_stop_reaches_all)
{
    for (int told = 0; told < 3; told++) {
        world_start(&w, 4, stop_body, 0);
        CHECK(world_arrived(&w, "begun", -1));
        kill(w.pid[told], SIGTERM);
        CHECK_ALL(0);
        CHECK(w.seconds < 5);
        world_close(&w);
    }
}

TEST_MAIN(alarm(300); RUN(one_process); RUN(gathers); RUN(broadcasts); RUN(many_rounds); RUN(agreements); RUN(the_same_failure_of_all);
          RUN(mismatches); RUN(too_much); RUN(the_writer_beside_the_main_thread);
          RUN(waiting_has_no_limit); RUN(a_stop_reaches_all))
