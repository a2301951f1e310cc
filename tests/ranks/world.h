/* A world of some processes for one test: forked, with memory that all see, and a link between them over sockets on this host. A rank's
 * body returns when all is well and leaves by FAIL_RANK when it is not; the parent counts. Every process has an alarm, and dies with its
 * parent, so that no test hangs. */
#ifndef HONE_TESTS_RANKS_WORLD_H
#define HONE_TESTS_RANKS_WORLD_H

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "tests/test.h"
#include "train/link.h"

enum { WORLD_MOST = 8, WORLD_SECONDS = 60, WORLD_BLOB = 256 };

/* What all processes of a world see. */
typedef struct world_shared {
    unsigned char blobs[WORLD_MOST][WORLD_BLOB];
    atomic_int arrived, failed;
    atomic_int said;     /* for a test's use, as is the next */
    _Atomic double when;
} world_shared;

typedef struct world {
    int rank, size;
    world_shared *shared;
    atomic_int pulses, failures;
    int due;           /* arrivals that the next meeting is behind */
    hn_error failure;  /* the last that the link told */
    void (*exchanging)(struct world *world); /* NULL, or called while the places are exchanged */
} world;

#define FAIL_RANK(...)                                                                                                         \
    do {                                                                                                                       \
        fprintf(stderr, "%s:%d: rank %d of %d: ", __FILE__, __LINE__, w->rank, w->size);                                       \
        fprintf(stderr, __VA_ARGS__);                                                                                          \
        fputc('\n', stderr);                                                                                                   \
        _exit(1);                                                                                                              \
    } while (0)
#define EXPECT(condition)                                                                                                      \
    do {                                                                                                                       \
        if (!(condition)) FAIL_RANK("%s does not hold", #condition);                                                           \
    } while (0)
#define EXPECT_OK(call)                                                                                                        \
    do {                                                                                                                       \
        if ((call) != HN_OK) FAIL_RANK("%s: %s", #call, error.message);                                                        \
    } while (0)
#define EXPECT_CONTAINS(got, part)                                                                                             \
    do {                                                                                                                       \
        if (!strstr((got), (part))) FAIL_RANK("\"%s\" lacks \"%s\"", (got), (part));                                           \
    } while (0)

static void world_nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* All `count` that are alive come here before any goes on. */
static void world_meet(world *w, int count)
{
    w->due += count;
    atomic_fetch_add(&w->shared->arrived, 1);
    while (atomic_load(&w->shared->arrived) < w->due && !atomic_load(&w->shared->failed)) world_nap();
}

static hn_status world_exchange(void *context, void *all, const void *mine, size_t size, hn_error *error)
{
    world *w = context;
    if (size > WORLD_BLOB) FAIL_RANK("a blob of %zu bytes", size);
    memcpy(w->shared->blobs[w->rank], mine, size);
    world_meet(w, w->size);
    if (atomic_load(&w->shared->failed)) return hn_fail(error, HN_ERR_IO, "the exchange failed");
    if (w->exchanging) w->exchanging(w);
    for (int i = 0; i < w->size; i++) memcpy((char *)all + (size_t)i * size, w->shared->blobs[i], size);
    world_meet(w, w->size);
    return HN_OK;
}

static void world_pulse(void *context)
{
    atomic_fetch_add(&((world *)context)->pulses, 1);
}

static void world_fail(void *context, const hn_error *error)
{
    world *w = context;
    w->failure = *error;
    atomic_fetch_add(&w->failures, 1);
}

static hn_link_options world_options(world *w)
{
    return (hn_link_options){.rank = w->rank, .size = w->size, .transfers = 8, .connect = 30,
                             .interface = "127.0.0.1", .exchange = world_exchange, .pulse = world_pulse, .fail = world_fail, .context = w};
}

static hn_link *world_open(world *w)
{
    hn_error error = {0};
    hn_link *link = NULL;
    hn_link_options options = world_options(w);
    EXPECT_OK(hn_link_open_cpu(&link, &options, &error));
    return link;
}

typedef void world_body(world *w);

static pid_t world_fork(world *w, world_body *body)
{
    fflush(NULL);
    pid_t parent = getpid(), pid = fork();
    if (pid) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    alarm(WORLD_SECONDS);
    body(w);
    exit(0); /* so that leaks are looked for */
}

/* Runs the body as every rank of a world; true when all ended well, but for `victim` (-1: nobody), who has to die by SIGKILL. */
static bool world_run(int size, world_body *body, int victim)
{
    world_shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[WORLD_MOST];
    bool well = shared != MAP_FAILED;
    if (!well) return false;
    for (int rank = 0; rank < size; rank++) {
        world w = {.rank = rank, .size = size, .shared = shared};
        pids[rank] = world_fork(&w, body);
        well = well && pids[rank] > 0;
    }
    for (int rank = 0; rank < size; rank++) {
        int status = 0;
        if (pids[rank] <= 0 || waitpid(pids[rank], &status, 0) < 0) continue;
        bool expected = rank == victim ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL : WIFEXITED(status) && !WEXITSTATUS(status);
        if (!expected) fprintf(stderr, "rank %d of %d: wait status %#x\n", rank, size, (unsigned)status);
        well = well && expected;
    }
    munmap(shared, sizeof *shared);
    return well;
}

#endif
