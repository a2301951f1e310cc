/* What a link does when the world is bad: a rank dies, calls something else, never comes, cannot listen; strangers come; memory runs out; a
 * close in the middle of everything. Nobody hangs, and messages name whom it was about. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "core/mem.h"
#include "tests/ranks/world.h"
#include "train/transport/sockets.h"

enum { LONG = 1 << 24, SHORT = 8 * 3 * 5 * 64 }; /* floats */

static float *buffer_of(world *w, int64_t count)
{
    void *memory = NULL;
    if (posix_memalign(&memory, 64, (size_t)count * sizeof(float))) FAIL_RANK("out of memory");
    memset(memory, 0, (size_t)count * sizeof(float));
    return memory;
}

static hn_transfer *begin(hn_link *link, int kind, float *buffer, int64_t count, hn_sum sum, const char *what, hn_error *error)
{
    count -= count % (HN_LINK_PIECE * link->size);
    if (kind == 0) return link->reduce_scatter(link, buffer, count, sum, what, error);
    if (kind == 1) return link->all_gather(link, buffer, (size_t)count, sum, what, error);
    if (kind == 2) return link->all_reduce(link, buffer, count, sum, what, error);
    return link->broadcast(link, buffer, (size_t)count, link->size - 1, what, error);
}

/* Waits until all `count` ranks have come to an end of what they do, so that nobody's leaving is taken for the death that is meant. */
static void close_failed(world *w, hn_link *link, int count)
{
    world_meet(w, count);
    link->close(link, false);
}

/* A death in the middle */

static void one_dies(world *w, int kind, hn_sum sum)
{
    hn_error error = {0}, again = {0};
    float *buffer = buffer_of(w, LONG);
    hn_link *link = world_open(w);
    hn_transfer *t = begin(link, kind, buffer, LONG, sum, "layer.7", &error);
    hn_transfer *next = begin(link, 0, buffer, 0, HN_SUM_FAST, "layer.6", &error);
    EXPECT(t && next);
    if (w->rank == 2) {
        for (hn_link_progress p = {0}; p.bytes < 2 << 20 && p.finished < 1; link->progress(link, &p)) world_nap();
        atomic_store(&w->shared->when, hn_clock());
        raise(SIGKILL);
    }
    EXPECT(link->join(link, t, &error) != HN_OK || link->join(link, next, &error) != HN_OK);
    double late = hn_clock() - atomic_load(&w->shared->when);
    if (late > 1) FAIL_RANK("told %.1f s after the death", late);
    EXPECT_CONTAINS(error.message, "rank 2 (");
    EXPECT_CONTAINS(error.message, "layer.");
    EXPECT(atomic_load(&w->failures) == 1 && !strcmp(w->failure.message, error.message));
    EXPECT(!begin(link, 0, buffer, SHORT, HN_SUM_FAST, "layer.5", &again) && !strcmp(again.message, error.message));
    close_failed(w, link, w->size - 1);
    free(buffer);
}

static void dies_in_direct_reduce(world *w) { one_dies(w, 0, HN_SUM_FAST); }
static void dies_in_tree_reduce(world *w) { one_dies(w, 0, HN_SUM_TREE); }
static void dies_in_direct_gather(world *w) { one_dies(w, 1, HN_SUM_FAST); }
static void dies_in_tree_gather(world *w) { one_dies(w, 1, HN_SUM_TREE); }
static void dies_in_all_reduce(world *w) { one_dies(w, 2, HN_SUM_TREE); }
static void dies_in_broadcast(world *w) { one_dies(w, 3, HN_SUM_FAST); }

TEST(a_death_is_told_by_name_within_a_second)
{
    world_body *const bodies[] = {dies_in_direct_reduce, dies_in_tree_reduce, dies_in_direct_gather,
                                  dies_in_tree_gather,   dies_in_all_reduce,  dies_in_broadcast};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) CHECK(world_run(4, bodies[i], 2));
}

/* Calls that differ */

typedef struct difference {
    int kind;
    hn_sum sum;
    int64_t count;
    const char *what;
} difference;

static const difference usual = {0, HN_SUM_FAST, SHORT, "layer.a"};
static const difference others[] = {{1, HN_SUM_FAST, SHORT, "layer.a"},         {0, HN_SUM_FAST, SHORT / 3, "layer.a"},
                                    {0, HN_SUM_FAST, SHORT, "layer.b"},         {3, HN_SUM_FAST, SHORT, "layer.b"},
                                    {2, HN_SUM_FAST, SHORT, "layer.b"}};

static void calls_differ(world *w, int which)
{
    hn_error error = {0};
    float *buffer = buffer_of(w, SHORT);
    hn_link *link = world_open(w);
    const difference *call = w->rank == 1 ? &others[which] : &usual;
    if (!w->rank) nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); /* finds the other's data behind its call */
    hn_transfer *t = begin(link, call->kind, buffer, call->count, call->sum, call->what, &error);
    EXPECT(t && link->join(link, t, &error) == HN_ERR_MISMATCH);
    EXPECT_CONTAINS(error.message, usual.what);
    EXPECT_CONTAINS(error.message, others[which].what);
    EXPECT_CONTAINS(error.message, "rank 1 is in");
    EXPECT_CONTAINS(error.message, "reduce-scatter");
    close_failed(w, link, w->size);
    free(buffer);
}

static void kinds_differ(world *w) { calls_differ(w, 0); }
static void sizes_differ(world *w) { calls_differ(w, 1); }
static void names_differ(world *w) { calls_differ(w, 2); }
static void a_broadcast_among_others(world *w) { calls_differ(w, 3); }
static void an_all_reduce_among_others(world *w) { calls_differ(w, 4); }

/* Rank 0 makes a call more than the others. */
static void one_call_more(world *w)
{
    hn_error error = {0};
    float *buffer = buffer_of(w, SHORT);
    hn_link *link = world_open(w);
    hn_transfer *more = w->rank ? NULL : begin(link, 3, buffer, SHORT, HN_SUM_FAST, "early", &error);
    hn_transfer *t = begin(link, 0, buffer, SHORT, HN_SUM_FAST, "usual", &error);
    if (more) EXPECT(link->join(link, more, &error) == HN_ERR_MISMATCH);
    EXPECT(t && link->join(link, t, &error) == HN_ERR_MISMATCH);
    EXPECT_CONTAINS(error.message, "early");
    EXPECT_CONTAINS(error.message, "usual");
    close_failed(w, link, w->size);
    free(buffer);
}

/* In a tree not everybody speaks with the one who differs: those hear of it by the leaving of the others, of whom
 * one at least knows why. */
static void ways_differ(world *w)
{
    hn_error error = {0};
    float *buffer = buffer_of(w, SHORT);
    hn_link *link = world_open(w);
    hn_transfer *t = begin(link, 0, buffer, SHORT, w->rank == 1 ? HN_SUM_FAST : HN_SUM_TREE, "layer.c", &error);
    EXPECT(t && link->join(link, t, &error) != HN_OK);
    if (strstr(error.message, "all ranks must make the same calls")) atomic_fetch_add(&w->shared->said, 1);
    link->close(link, false);
    world_meet(w, w->size);
    EXPECT(atomic_load(&w->shared->said) > 0);
    free(buffer);
}

TEST(calls_that_differ_are_both_named)
{
    world_body *const bodies[] = {kinds_differ, sizes_differ, names_differ, a_broadcast_among_others, an_all_reduce_among_others,
                                  one_call_more};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) CHECK(world_run(2, bodies[i], -1));
    CHECK(world_run(3, names_differ, -1));
    CHECK(world_run(4, ways_differ, -1));
}

/* Meeting */

static void send_bytes(int fd, const void *bytes, size_t size)
{
    (void)!send(fd, bytes, size, MSG_NOSIGNAL);
}

/* Rank 0 plays strangers who come to rank 1 before any rank does: more than it has room for, silent, talkative, with a wrong secret, in the
 * name of a rank that is not there or has no business here. They stay. */
static void strangers_come(world *w)
{
    if (w->rank) return;
    const hnp_socket_place *place = (const hnp_socket_place *)(const void *)w->shared->blobs[1];
    struct {
        uint64_t secret;
        int32_t from, to;
    } greetings[] = {{place->secret + 1, 2, 1}, {place->secret, 0, 1}, {place->secret, 7, 1}, {place->secret, 2, 0}, {place->secret, -1, 1}};
    for (int i = 0; i < 40; i++) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(place->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        EXPECT(fd >= 0 && !connect(fd, (struct sockaddr *)&to, sizeof to));
        if (i % 8 < 5) send_bytes(fd, &greetings[i % 8], sizeof greetings[0]);
        if (i % 8 == 5) send_bytes(fd, "GET / HTTP/1.1\r\n\r\n", 18);
        if (i % 8 == 6) send_bytes(fd, "x", 1);
    }
}

static void among_strangers(world *w)
{
    hn_error error = {0};
    float *buffer = buffer_of(w, SHORT);
    w->exchanging = strangers_come;
    hn_link *link = world_open(w);
    for (int i = 0; i < SHORT; i++) buffer[i] = 1;
    hn_transfer *t = begin(link, 2, buffer, SHORT, HN_SUM_FAST, "ones", &error);
    EXPECT(t);
    EXPECT_OK(link->join(link, t, &error));
    for (int i = 0; i < SHORT; i++) EXPECT(buffer[i] == 3);
    link->close(link, true);
    free(buffer);
}

TEST(strangers_hold_up_nobody) { CHECK(world_run(3, among_strangers, -1)); }

/* The highest rank goes after it has told where it listens. */
static void one_never_comes(world *w)
{
    hn_error error = {0};
    hn_link *link = NULL;
    hn_link_options options = world_options(w);
    options.connect = 0.4;
    if (w->rank == w->size - 1) {
        hnp_socket_place place = {.secret = 5, .port = 1, .addresses = 1, .address = {{127, 0, 0, 1}}, .host = "elsewhere"}, all[WORLD_MOST];
        EXPECT_OK(world_exchange(w, all, &place, sizeof place, &error));
        return;
    }
    double before = hn_clock();
    EXPECT(hn_link_open_cpu(&link, &options, &error) == HN_ERR_IO);
    EXPECT(hn_clock() - before < 5);
    EXPECT_CONTAINS(error.message, "no connection with rank 2 (elsewhere) within 0.4 s");
}

static void no_such_interface(world *w)
{
    hn_error error = {0};
    hn_link *link = NULL;
    hn_link_options options = world_options(w);
    if (w->rank == 1) options.interface = "none0";
    EXPECT(hn_link_open_cpu(&link, &options, &error) == HN_ERR_IO);
    EXPECT_CONTAINS(error.message, w->rank == 1 ? "none0" : "rank 1 (");
}

/* Whatever network this machine has, and a first address that leads nowhere. */
static void wrong_address_first(world *w)
{
    hnp_socket_place *place = (hnp_socket_place *)(void *)w->shared->blobs[w->rank];
    memcpy(place->address[1], place->address[0], 16);
    memcpy(place->address[0], (const uint8_t[]){127, 99, 99, 99}, 4);
    place->ipv6[1] = place->ipv6[0];
    place->ipv6[0] = 0;
    place->addresses = 2;
    world_meet(w, w->size);
}

static void several_addresses(world *w)
{
    hn_error error = {0};
    hn_link *link = NULL;
    hn_link_options options = world_options(w);
    EXPECT_OK(hn_link_open_cpu(&link, &options, &error));
    link->close(link, true);
    options.interface = NULL;
    EXPECT_OK(hn_link_open_cpu(&link, &options, &error));
    link->close(link, true);
    w->exchanging = wrong_address_first;
    options.interface = "lo";
    EXPECT_OK(hn_link_open_cpu(&link, &options, &error));
    link->close(link, true);
}

TEST(a_meeting_that_fails_says_with_whom)
{
    CHECK(world_run(3, one_never_comes, -1));
    CHECK(world_run(3, no_such_interface, -1));
}

TEST(a_link_over_any_address_of_the_host) { CHECK(world_run(3, several_addresses, -1)); }

/* Without a launcher and without an MPI: only that the module is looked for, and missed by name. */
TEST(a_module_that_is_missing_is_named)
{
    world ours = {.rank = 0, .size = 2};
    hn_link *link = NULL;
    hn_link_options options = world_options(&ours);
    options.mpi = true;
    const char *const files[] = {"/nowhere/hone_mpi.so", "libm.so.6"};
    for (int i = 0; i < 2; i++) {
        hn_error error = {0};
        setenv("HONE_MPI", files[i], 1);
        CHECK_INT(hn_link_open_cpu(&link, &options, &error), HN_ERR_UNSUPPORTED);
        CHECK_CONTAINS(error.message, files[i]);
    }
    unsetenv("HONE_MPI");
    hn_error error = {0};
    CHECK_INT(hn_link_open_cpu(&link, &options, &error), HN_ERR_UNSUPPORTED); /* the build's lies elsewhere */
    CHECK_CONTAINS(error.message, "/hone_mpi.so: ");
}

/* MPI hangs while it begins, or later in the middle of a call: the caller comes back all the same. */
static void stuck_at_first(world *w)
{
    hn_error error = {0};
    hn_link *link = NULL;
    hn_link_options options = world_options(w);
    options.mpi = true;
    options.connect = 0.2;
    double before = hn_clock();
    EXPECT(hn_link_open_cpu(&link, &options, &error) == HN_ERR_DEVICE);
    EXPECT(hn_clock() - before < 5 && atomic_load(&w->pulses) > 10);
    EXPECT_CONTAINS(error.message, "not begun within 0.2 s");
}

static void stuck_later(world *w)
{
    hn_error error = {0};
    hn_link *link = NULL;
    hn_link_options options = world_options(w);
    float *buffer = buffer_of(w, SHORT);
    options.mpi = true;
    setenv("HONE_STUCK", "progress", 1);
    EXPECT_OK(hn_link_open_cpu(&link, &options, &error));
    EXPECT(!strcmp(link->name, "stuck") && begin(link, 0, buffer, SHORT, HN_SUM_FAST, "layer.8", &error));
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    double before = hn_clock();
    link->close(link, false);
    EXPECT(hn_clock() - before < 3);
    free(buffer);
}

TEST(an_mpi_that_hangs_keeps_nobody)
{
    char path[4096] = "";
    CHECK(readlink("/proc/self/exe", path, sizeof path - 32) > 0 && strrchr(path, '/'));
    strcpy(strrchr(path, '/'), "/ranks_stuck_module.so");
    setenv("HONE_MPI", path, 1);
    CHECK(world_run(2, stuck_at_first, -1));
    CHECK(world_run(2, stuck_later, -1));
    unsetenv("HONE_MPI");
}

/* Memory: rank 0's n-th allocation fails; whatever that does to the other, it ends. */
static struct memory_case {
    atomic_int nth, opened;
} *memory_case;

static void out_of_memory(world *w)
{
    hn_error error = {0};
    hn_link *link = NULL;
    hn_link_options options = world_options(w);
    options.connect = 0.3;
    if (!w->rank) hn_mem_fail_at((size_t)atomic_load(&memory_case->nth));
    hn_status status = hn_link_open_cpu(&link, &options, &error);
    hn_mem_fail_at(0);
    if (status != HN_OK) atomic_store(&w->shared->failed, 1);
    if (!w->rank && status != HN_OK && status != HN_ERR_MEMORY) FAIL_RANK("%s", error.message);
    if (!w->rank) atomic_store(&memory_case->opened, status == HN_OK);
    if (link) link->close(link, false);
}

TEST(memory_that_runs_out_ends_the_opening)
{
    memory_case = mmap(NULL, sizeof *memory_case, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory_case != MAP_FAILED);
    for (int n = 1; n < 40 && !atomic_load(&memory_case->opened); n++) {
        atomic_store(&memory_case->nth, n);
        CHECK(world_run(2, out_of_memory, -1));
    }
    CHECK(atomic_load(&memory_case->opened) && atomic_load(&memory_case->nth) > 8);
}

/* Waiting */

/* The last rank comes late, the others pulse meanwhile. */
static void one_is_late(world *w)
{
    hn_error error = {0};
    float *buffer = buffer_of(w, SHORT);
    hn_link *link = world_open(w);
    int before = atomic_load(&w->pulses);
    if (w->rank == w->size - 1) nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    hn_transfer *t = begin(link, 0, buffer, SHORT, HN_SUM_FAST, "layer.9", &error);
    EXPECT(t);
    hn_link_progress progress;
    link->progress(link, &progress);
    EXPECT(progress.begun == 1);
    EXPECT_OK(link->join(link, t, &error));
    EXPECT(w->rank == w->size - 1 || atomic_load(&w->pulses) - before > 10);
    link->close(link, true);
    free(buffer);
}

TEST(whoever_waits_pulses) { CHECK(world_run(3, one_is_late, -1)); }

/* Rank 0 is in a call that nobody else makes: it closes out of it, at once. Then the other, who does nothing, does too. */
static void close_in_the_middle(world *w)
{
    hn_error error = {0};
    float *buffer = buffer_of(w, LONG);
    hn_link *link = world_open(w);
    hn_link_progress progress = {0};
    for (int i = 0; i < 2 && !w->rank; i++) EXPECT(begin(link, 0, buffer, LONG, HN_SUM_FAST, i ? "behind" : "alone", &error));
    while (!w->rank && !progress.what[0]) link->progress(link, &progress);
    EXPECT(w->rank || (!strcmp(progress.what, "alone") && progress.begun == 2 && progress.finished == 0));
    if (w->rank) world_meet(w, w->size);
    double before = hn_clock();
    link->close(link, false);
    EXPECT(hn_clock() - before < 0.9);
    if (!w->rank) world_meet(w, w->size);
    free(buffer);
}

TEST(a_close_that_is_not_orderly_waits_for_nobody) { CHECK(world_run(2, close_in_the_middle, -1)); }

/* One is long gone from an orderly close's point of view: the others wait for it, and then leave; here it dies, and they leave at once. */
static void one_dies_at_the_close(world *w)
{
    hn_link *link = world_open(w);
    if (w->rank == 2) {
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        raise(SIGKILL);
    }
    double before = hn_clock();
    link->close(link, true);
    EXPECT(hn_clock() - before < 5);
}

static void slow_to_close(world *w)
{
    hn_link *link = world_open(w);
    if (w->rank == 1) nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    atomic_fetch_add(&w->shared->said, w->rank == 1);
    link->close(link, true);
    EXPECT(atomic_load(&w->shared->said) == 1);
}

TEST(an_orderly_close_waits_for_all_that_live)
{
    CHECK(world_run(4, one_dies_at_the_close, 2));
    CHECK(world_run(3, slow_to_close, -1));
}

TEST_MAIN(RUN(a_death_is_told_by_name_within_a_second); RUN(calls_that_differ_are_both_named); RUN(strangers_hold_up_nobody);
          RUN(a_meeting_that_fails_says_with_whom); RUN(a_link_over_any_address_of_the_host); RUN(memory_that_runs_out_ends_the_opening);
          RUN(a_module_that_is_missing_is_named); RUN(an_mpi_that_hangs_keeps_nobody);
          RUN(whoever_waits_pulses); RUN(a_close_that_is_not_orderly_waits_for_nobody); RUN(an_orderly_close_waits_for_all_that_live))
