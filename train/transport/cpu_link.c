/* The CPU's link: a ring of places for transfers, and one thread that runs them in the order of their calls.
 *
 *     caller                       transport thread
 *     begin: FREE -> ASKED   --->  the oldest asked one is run (collectives.h) -> DONE
 *     join:  DONE -> FREE    <---
 *
 * A thread, because messages do not move while nobody asks for them, neither over MPI (Wittmann et al. 2013, "Asynchronous MPI for the
 * Masses") nor over sockets, and the caller is busy with backward. One thread, because it owns all of the transport: MPI is told that a
 * single thread calls it, and transfers that run one behind the other have one order on all ranks.
 *
 * The lock guards the places, `state`, and the first failure; it is never held while anything is waited for but its own condition. The
 * caller waits in rounds of some milliseconds, with a pulse each; the thread's waits end by themselves when `quit` is set. Nothing else
 * ends either: where the whole run is to end, that is the process's end (hn_link_options.fail). */
#include "train/link.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/mem.h"
#include "core/threads.h"
#include "train/transport/collectives.h"
#include "train/transport/mpi.h"
#include "train/transport/sockets.h"

typedef enum place_state { FREE, ASKED, DONE } place_state;

struct hn_transfer {
    place_state state;
    hn_status status;
    hnp_collective call;
    void *buffer;
    hn_transfer *next; /* asked after this one */
};

typedef enum link_state { OPENING, OPEN, LEAVING, GONE } link_state; /* LEAVING: asked to close in order; GONE: the thread is done */

typedef struct cpu_link {
    hn_link table;
    hn_link_options options;
    int listener;
    hnp_socket_place *meeting_places; /* [size] */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    link_state state;
    hn_error error; /* the first failure */
    uint64_t begun, finished;
    hn_transfer *places; /* [transfers] */
    hn_transfer *first, **end;
    hn_transfer *running;
    atomic_bool quit;
    atomic_uint_fast64_t bytes;
} cpu_link;

int hn_link_piece(hn_sum sum, int rank, int size)
{
    int piece = 0;
    HN_ASSERT(rank >= 0 && rank < size);
    if (sum == HN_SUM_FAST) return rank;
    HN_ASSERT((size & (size - 1)) == 0);
    for (int bit = 1; bit < size; bit *= 2) piece = piece * 2 + !!(rank & bit);
    return piece;
}

/* The transport thread */

static void set_state(cpu_link *link, link_state state)
{
    pthread_mutex_lock(&link->lock);
    link->state = state;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
}

/* The next transfer to be run, waiting for it; NULL: there comes none. */
static hn_transfer *next_transfer(cpu_link *link)
{
    pthread_mutex_lock(&link->lock);
    while (!link->first && link->state == OPEN && !atomic_load(&link->quit)) pthread_cond_wait(&link->changed, &link->lock);
    hn_transfer *t = atomic_load(&link->quit) ? NULL : link->first;
    link->running = t;
    pthread_mutex_unlock(&link->lock);
    return t;
}

/* The first failure is known to the link, and told, before the caller can learn of it by a join. */
static void keep_failure(cpu_link *link, const hn_error *error)
{
    pthread_mutex_lock(&link->lock);
    link->error = *error;
    pthread_mutex_unlock(&link->lock);
    if (link->options.fail) link->options.fail(link->options.context, error);
}

static void conclude(cpu_link *link, hn_transfer *t, hn_status status)
{
    pthread_mutex_lock(&link->lock);
    link->first = t->next;
    if (!link->first) link->end = &link->first;
    link->running = NULL;
    link->finished++;
    t->status = status;
    t->state = DONE;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
}

/* Runs transfers until there come no more; those behind a failed one fail as it did. */
static void run_transfers(cpu_link *link, hnp_pump *pump)
{
    hn_error failed = {0}, error = {0};
    for (hn_transfer *t; (t = next_transfer(link));) {
        if (failed.status == HN_OK && hnp_collective_run(pump, &t->call, t->buffer, &error) != HN_OK) {
            hn_fail(&failed, error.status, "%s: %s", t->call.what, error.message);
            keep_failure(link, &failed);
        }
        conclude(link, t, failed.status);
    }
}

static void *work(void *argument)
{
    cpu_link *link = argument;
    hn_p2p *p2p = NULL;
    hnp_pump *pump = NULL;
    hn_error error = {0};
    const hn_link_options *o = &link->options;
    hn_status status = o->mpi ? hnp_mpi_open(&p2p, o->rank, o->size, &error)
                              : hnp_sockets_open(&p2p, link->listener, link->meeting_places, o->rank, o->size, o->connect, &error);
    if (status == HN_OK) status = hnp_pump_open(&pump, p2p, &link->quit, &link->bytes, &error);
    pthread_mutex_lock(&link->lock);
    link->error = error;
    link->table.name = p2p ? p2p->name : NULL;
    pthread_mutex_unlock(&link->lock);
    if (status == HN_OK) {
        set_state(link, OPEN);
        run_transfers(link, pump);
    }
    bool orderly = link->error.status == HN_OK && !atomic_load(&link->quit);
    if (!p2p || p2p->close(p2p, orderly)) hnp_pump_free(pump);
    set_state(link, GONE);
    return NULL;
}

/* The caller's side */

static void pulse(const cpu_link *link)
{
    if (link->options.pulse) link->options.pulse(link->options.context);
}

/* One round of a wait: returns with the lock held again, some milliseconds later or when something changed. */
static void wait_round(cpu_link *link)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 5000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&link->changed, &link->lock, &until);
    pthread_mutex_unlock(&link->lock);
    pulse(link);
    pthread_mutex_lock(&link->lock);
}

static hn_transfer *begin(hn_link *table, hnp_collective_kind kind, void *buffer, size_t bytes, hn_sum sum, int root, const char *what,
                          hn_error *error)
{
    cpu_link *link = table->state;
    hn_transfer *t = link->places;
    HN_ASSERT((uintptr_t)buffer % 64 == 0 && root >= 0 && root < table->size);
    HN_ASSERT(sum == HN_SUM_FAST || (table->size & (table->size - 1)) == 0);
    pthread_mutex_lock(&link->lock);
    if (link->error.status != HN_OK) {
        hn_fail(error, link->error.status, "%s", link->error.message);
        pthread_mutex_unlock(&link->lock);
        return NULL;
    }
    while (t < link->places + link->options.transfers && t->state != FREE) t++;
    HN_ASSERT(link->state == OPEN && t < link->places + link->options.transfers);
    memset(t, 0, sizeof *t);
    t->state = ASKED;
    t->buffer = buffer;
    t->call = (hnp_collective){.sequence = ++link->begun, .bytes = bytes, .kind = kind, .sum = sum, .root = root};
    memcpy(t->call.what, what, strnlen(what, HN_LINK_WHAT - 1));
    *link->end = t;
    link->end = &t->next;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
    return t;
}

static size_t checked_bytes(const hn_link *link, int64_t count, size_t size)
{
    size_t bytes = 0;
    HN_ASSERT(count >= 0 && count % ((int64_t)HN_LINK_PIECE * link->size) == 0 && hn_size_mul((size_t)count, size, &bytes));
    return bytes;
}

static hn_transfer *cpu_reduce_scatter(hn_link *link, float *buffer, int64_t count, hn_sum sum, const char *what, hn_error *error)
{
    return begin(link, HNP_REDUCE_SCATTER, buffer, checked_bytes(link, count, sizeof *buffer), sum, 0, what, error);
}

static hn_transfer *cpu_all_gather(hn_link *link, void *buffer, size_t bytes, hn_sum sum, const char *what, hn_error *error)
{
    return begin(link, HNP_ALL_GATHER, buffer, checked_bytes(link, (int64_t)bytes, 1), sum, 0, what, error);
}

static hn_transfer *cpu_all_reduce(hn_link *link, float *buffer, int64_t count, hn_sum sum, const char *what, hn_error *error)
{
    return begin(link, HNP_ALL_REDUCE, buffer, checked_bytes(link, count, sizeof *buffer), sum, 0, what, error);
}

static hn_transfer *cpu_broadcast(hn_link *link, void *buffer, size_t bytes, int root, const char *what, hn_error *error)
{
    return begin(link, HNP_BROADCAST, buffer, bytes, HN_SUM_FAST, root, what, error);
}

static hn_status cpu_join(hn_link *table, hn_transfer *t, hn_error *error)
{
    cpu_link *link = table->state;
    hn_status status = HN_OK;
    pthread_mutex_lock(&link->lock);
    HN_ASSERT(t->state != FREE);
    while (t->state != DONE) wait_round(link);
    if (t->status != HN_OK) status = hn_fail(error, link->error.status, "%s", link->error.message);
    t->state = FREE;
    pthread_mutex_unlock(&link->lock);
    return status;
}

static bool cpu_done(hn_link *table, const hn_transfer *t)
{
    cpu_link *link = table->state;
    pthread_mutex_lock(&link->lock);
    bool done = t->state == DONE;
    pthread_mutex_unlock(&link->lock);
    return done;
}

static void cpu_progress(hn_link *table, hn_link_progress *out)
{
    cpu_link *link = table->state;
    pthread_mutex_lock(&link->lock);
    *out = (hn_link_progress){.begun = link->begun, .finished = link->finished, .bytes = atomic_load(&link->bytes)};
    if (link->running) memcpy(out->what, link->running->call.what, sizeof out->what);
    pthread_mutex_unlock(&link->lock);
}

static void release(cpu_link *link)
{
    pthread_cond_destroy(&link->changed);
    pthread_mutex_destroy(&link->lock);
    hn_free(link->meeting_places);
    hn_free(link->places);
    hn_free(link);
}

/* Waits for the thread's end. false: it does not come to one. */
static bool await_end(cpu_link *link, double seconds)
{
    double end = hn_clock() + seconds;
    pthread_mutex_lock(&link->lock);
    while (link->state != GONE && hn_clock() < end) wait_round(link);
    bool gone = link->state == GONE;
    pthread_mutex_unlock(&link->lock);
    if (gone) pthread_join(link->thread, NULL);
    return gone;
}

static void cpu_close(hn_link *table, bool orderly)
{
    cpu_link *link = table->state;
    for (int i = 0; i < link->options.transfers; i++) HN_ASSERT(!orderly || link->places[i].state == FREE);
    pthread_mutex_lock(&link->lock);
    if (!orderly) atomic_store(&link->quit, true);
    link->state = LEAVING;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
    if (await_end(link, orderly ? 15 : 1)) release(link);
}

static const hn_link functions = {.reduce_scatter = cpu_reduce_scatter,
                                  .all_gather = cpu_all_gather,
                                  .all_reduce = cpu_all_reduce,
                                  .broadcast = cpu_broadcast,
                                  .join = cpu_join,
                                  .done = cpu_done,
                                  .progress = cpu_progress,
                                  .close = cpu_close};

/* A rank that cannot listen says so to the others, who wait for its word; then all fail. */
static hn_status listen_and_tell(cpu_link *link, const char *interface, hn_error *error)
{
    const hn_link_options *o = &link->options;
    hnp_socket_place mine;
    hn_error own = {0};
    hn_status listens = hnp_sockets_listen(&mine, &link->listener, interface, &own);
    hn_status told = o->exchange(o->context, link->meeting_places, &mine, sizeof mine, error);
    if (listens != HN_OK) return hn_fail(error, listens, "rank %d: %s", o->rank, own.message);
    if (told != HN_OK) close(link->listener);
    return told;
}

static cpu_link *new_link(const hn_link_options *options)
{
    cpu_link *link = hn_calloc(1, sizeof *link);
    hn_transfer *places = hn_calloc((size_t)options->transfers, sizeof *places);
    hnp_socket_place *meeting_places = hn_calloc((size_t)options->size, sizeof *meeting_places);
    pthread_condattr_t monotonic;
    if (!link || !places || !meeting_places) {
        hn_free(link);
        hn_free(places);
        hn_free(meeting_places);
        return NULL;
    }
    link->table = functions;
    link->table.state = link;
    link->table.rank = options->rank;
    link->table.size = options->size;
    link->options = *options;
    link->options.interface = NULL;
    link->places = places;
    link->meeting_places = meeting_places;
    link->listener = -1;
    link->end = &link->first;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&link->lock, NULL);
    pthread_cond_init(&link->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return link;
}

/* Starts the thread, and waits until it has met the others or failed; not for an MPI that never comes back. Then *left: the thread has the
 * link for good. */
static hn_status start(cpu_link *link, bool *left, hn_error *error)
{
    int code = hn_thread_start(&link->thread, work, link);
    if (code) {
        if (link->listener >= 0) close(link->listener);
        return hn_fail(error, HN_ERR_DEVICE, "a thread for the link between ranks could not be started: %s", strerror(code));
    }
    double end = hn_clock() + link->options.connect + 1;
    pthread_mutex_lock(&link->lock);
    while (link->state == OPENING && hn_clock() < end) wait_round(link);
    link_state state = link->state;
    atomic_store(&link->quit, state == OPENING);
    pthread_mutex_unlock(&link->lock);
    if (state == OPEN) return HN_OK;
    *left = state == OPENING;
    if (*left)
        return hn_fail(error, HN_ERR_DEVICE, "rank %d: %s was not begun within %g s", link->options.rank,
                       link->options.mpi ? "MPI" : "the link", link->options.connect);
    pthread_join(link->thread, NULL);
    return hn_fail(error, link->error.status, "rank %d: %s", link->options.rank, link->error.message);
}

hn_status hn_link_open_cpu(hn_link **out, const hn_link_options *options, hn_error *error)
{
    HN_ASSERT(options->size >= 2 && options->rank >= 0 && options->rank < options->size && options->transfers > 0);
    cpu_link *link = new_link(options);
    if (!link) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the link between %d ranks", options->size);
    hn_status status = options->mpi ? HN_OK : listen_and_tell(link, options->interface, error);
    bool left = false;
    if (status == HN_OK) status = start(link, &left, error);
    if (status == HN_OK)
        *out = &link->table;
    else if (!left)
        release(link);
    return status;
}
