/* See ranks.h: the callers' half. Opening and closing, and collectives as posts to the control thread, for whose answers it waits in
 * small sleeps with a pulse after each, so that a rank that waits for others is never taken for one that hangs.
 *
 * The phase is written by the control thread alone (under the lock) and read by it without; the main thread reads it under the lock. */
#include "train/ranks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/digest.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/threads.h"
#include "train/control/world.h"

#define NAP 0.05         /* seconds between two pulses of a wait */
#define LOST_WITHIN 2.0  /* seconds in which the rank that is to blame for a broken connection is found */
#define END_WITHIN 6.0   /* seconds that the control thread has for an end */

static const char *from_environment(void *context, const char *name)
{
    (void)context;
    return getenv(name);
}

/* Version and bytes of this program, so that ranks of two builds do not train together. */
static hn_status describe_build(char *out, size_t size, hn_error *error)
{
    hn_digest digest;
    char text[HN_DIGEST_TEXT];
    hn_status status = hn_digest_file(&digest, "/proc/self/exe", error);
    if (status != HN_OK) return status;
    hn_digest_format(text, digest);
    snprintf(out, size, "%s (%.16s)", HONE_VERSION, text);
    return HN_OK;
}

static void free_all(hnp_world *w)
{
    if (!w) return;
    hnp_join_end(w);
    for (int i = 0; w->own.wire && i < w->size; i++) hnp_wire_close(&w->own.wire[i]);
    if (w->wake >= 0) close(w->wake);
    for (int lane = 0; lane < HNP_LANES; lane++) {
        hnp_hub_close(&w->own.hub[lane]);
        hn_free(w->own.taking[lane].bytes);
        hn_free(w->post[lane].answer);
    }
    hnp_watch_close(&w->own.watch);
    hnp_recorder_close(&w->recorder);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    hn_free(w->own.polled);
    hn_free(w->own.wire);
    hn_free(w->who);
    hn_free(w->logs);
    hn_free(w);
}

static void init_locks(hnp_world *w)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&w->lock, NULL);
    hnp_recorder_init(&w->recorder);
}

/* All that a process needs before it looks for the others; NULL: out of memory or descriptors. */
static hnp_world *make(const hnp_launch *launch, const hn_ranks_options *options, hn_error *error)
{
    size_t size = (size_t)launch->size;
    hnp_world *w = hn_calloc(1, sizeof *w);
    if (!w) {
        hn_fail(error, HN_ERR_MEMORY, "out of memory for %zu ranks", size);
        return NULL;
    }
    w->rank = launch->rank;
    w->size = launch->size;
    w->launch = *launch;
    w->options = *options;
    w->limits = (hnp_limits){options->timeout, options->silence, options->connect};
    w->stop_within = options->stop_within;
    w->here = (hnp_beat){.activity = HN_ACTIVITY_SLOW, .step = -1};
    for (int lane = 0; lane < HNP_LANES; lane++) w->lane[lane] = (hn_ranks){w, lane};
    w->own.listener = -1;
    for (int i = 0; i < HNP_STRANGERS; i++) w->own.stranger[i].wire.fd = -1;
    init_locks(w);
    w->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    w->who = hn_calloc(size, sizeof *w->who);
    w->own.wire = hn_calloc(size, sizeof *w->own.wire);
    w->own.polled = hn_calloc(size + HNP_STRANGERS + 2, sizeof *w->own.polled);
    for (size_t i = 0; w->own.wire && i < size; i++) w->own.wire[i].fd = -1;
    bool made = w->wake >= 0 && w->who && w->own.wire && w->own.polled;
    for (int lane = 0; lane < HNP_LANES && made; lane++) made = hnp_hub_init(&w->own.hub[lane], w->size, error) == HN_OK;
    if (made) return w;
    hn_fail(error, HN_ERR_MEMORY, "out of memory or descriptors for %zu ranks", size);
    free_all(w);
    return NULL;
}

static struct timespec soon(void)
{
    double until = hn_clock() + NAP;
    return (struct timespec){(time_t)until, (long)((until - (double)(time_t)until) * 1e9)};
}

/* One sleep of a wait, with the lock held. The writer's waits say nothing of the main thread, which is the one that is watched. */
static void nap(hnp_world *w, int lane)
{
    struct timespec until = soon();
    pthread_cond_timedwait(&w->changed, &w->lock, &until);
    if (lane == HNP_LANE_MAIN) atomic_fetch_add_explicit(&w->pulses, 1, memory_order_relaxed);
}

/* Starts the control thread and waits until all ranks have come, or somebody has said that they do not. */
static hn_status come_together(hnp_world *w, hn_error *error)
{
    hn_status status = hnp_watch_init(&w->own.watch, w->size, &w->limits, error);
    if (status != HN_OK) return status;
    w->beat_every = w->limits.silence / 5 < 1 ? w->limits.silence / 5 : 1;
    w->own.opened = w->own.now = hn_clock();
    hnp_watch_begin(&w->own.watch, w->rank, w->own.now);
    hnp_watch_begin(&w->own.watch, 0, w->own.now);
    int code = hn_thread_start(&w->thread, hnp_control, w);
    if (code) return hn_fail(error, HN_ERR_DEVICE, "the thread that watches the ranks could not be started: %s", strerror(code));
    pthread_mutex_lock(&w->lock);
    while (w->phase == HNP_PHASE_JOINING) nap(w, HNP_LANE_MAIN);
    if (w->refusal.status != HN_OK) status = hn_fail(error, w->refusal.status, "%s", w->refusal.message);
    pthread_mutex_unlock(&w->lock);
    if (status != HN_OK) pthread_join(w->thread, NULL);
    return status;
}

hn_status hn_ranks_open(hn_ranks **out, const hn_ranks_options *options, hn_error *error)
{
    hnp_launch launch = {.size = 1};
    hn_status status = HN_OK;
    *out = NULL;
    if (options->transport != HN_TRANSPORT_NONE) status = hnp_launch_read(&launch, from_environment, NULL, error);
    if (status != HN_OK || launch.size == 1) return status;
    if (!options->rendezvous && !launch.host[0])
        return hn_fail(error, HN_ERR_USAGE,
                       "%s made this process rank %d of %d, and nothing says where the ranks meet; expected MASTER_ADDR and MASTER_PORT, or "
                       "train.rendezvous (train.transport=none is one process)",
                       launch.by, launch.rank, launch.size);
    hnp_world *w = make(&launch, options, error);
    if (!w) return HN_ERR_MEMORY;
    hnp_identity_find(&w->who[w->rank]);
    status = describe_build(w->build, sizeof w->build, error);
    if (status == HN_OK) status = w->rank ? hnp_join_connect(w, error) : hnp_join_listen(w, error);
    if (status == HN_OK) status = come_together(w, error);
    if (status == HN_OK)
        *out = &w->lane[HNP_LANE_MAIN];
    else
        free_all(w);
    return status;
}

hn_ranks *hn_ranks_writer(hn_ranks *r) { return r ? &r->world->lane[HNP_LANE_WRITER] : NULL; }

int hn_ranks_rank(const hn_ranks *r) { return r ? r->world->rank : 0; }
int hn_ranks_size(const hn_ranks *r) { return r ? r->world->size : 1; }
int hn_ranks_local(const hn_ranks *r) { return r ? r->world->local : 0; }
int hn_ranks_local_size(const hn_ranks *r) { return r ? r->world->local_size : 1; }
bool hn_ranks_first(const hn_ranks *r) { return !r || r->world->rank == 0; }

const char *hn_ranks_host(const hn_ranks *r, int rank)
{
    HN_ASSERT(rank >= 0 && rank < hn_ranks_size(r));
    return r ? r->world->who[rank].host : "";
}

/* Posts on the lane and waits; the answer's bytes in *answer (hn_free) and *size. */
static hn_status post(hn_ranks *r, hnp_post new, unsigned char **answer, size_t *size, hn_error *error)
{
    hnp_world *w = r->world;
    hnp_post *mine = &w->post[r->lane];
    pthread_mutex_lock(&w->lock);
    HN_ASSERT(mine->state == HNP_POST_NONE);
    uint64_t number = new.call.number = mine->call.number;
    *mine = new;
    hnp_control_wake(w);
    while (mine->state != HNP_POST_ANSWERED) nap(w, r->lane);
    hn_status status = mine->status;
    if (status != HN_OK) hn_fail(error, status, "%.*s", (int)mine->size, (const char *)mine->answer);
    *answer = mine->answer;
    *size = mine->size;
    *mine = (hnp_post){.call = {.number = number + 1}};
    pthread_mutex_unlock(&w->lock);
    return status;
}

/* A collective. In messages, and to the watch, it is a wait in the step that the main thread was in, and afterwards that is where it was;
 * the writer's are only recorded. */
static hn_status call(hn_ranks *r, hnp_call_kind kind, const char *what, const void *bytes, size_t size, unsigned char **answer,
                      size_t *answered, hn_error *error)
{
    static const char *const names[HNP_CALL_KINDS] = {"barrier", "broadcast", "gather", "agreement", "the end"};
    hnp_world *w = r->world;
    hnp_beat before;
    char operation[HNP_OPERATION];
    hnp_post new = {.state = HNP_POST_NEW, .bytes = bytes, .call = {.kind = kind, .size = size}};
    HN_ASSERT(strlen(what) < HNP_NAME);
    memcpy(new.call.what, what, strlen(what) + 1);
    pthread_mutex_lock(&w->lock);
    before = w->here;
    pthread_mutex_unlock(&w->lock);
    snprintf(operation, sizeof operation, "%s \"%.48s\"", names[kind], what);
    if (r->lane == HNP_LANE_MAIN) hn_ranks_enter(r, HN_ACTIVITY_WAIT, operation, before.step);
    uint64_t number = hn_ranks_record(r, operation, size);
    hn_status status = post(r, new, answer, answered, error);
    hn_ranks_record_end(r, number);
    if (r->lane == HNP_LANE_MAIN) hn_ranks_enter(r, before.activity, before.operation, before.step);
    return status;
}

/* A collective whose answer has no bytes. */
static hn_status call_only(hn_ranks *r, hnp_call_kind kind, const char *what, const void *bytes, size_t size, hn_error *error)
{
    unsigned char *answer;
    size_t answered;
    hn_status status = call(r, kind, what, bytes, size, &answer, &answered, error);
    hn_free(answer);
    return status;
}

hn_status hn_ranks_barrier(hn_ranks *r, const char *what, hn_error *error)
{
    return r ? call_only(r, HNP_CALL_BARRIER, what, NULL, 0, error) : HN_OK;
}

hn_status hn_ranks_broadcast(hn_ranks *r, const char *what, void **bytes, size_t *size, hn_error *error)
{
    unsigned char *answer;
    size_t answered;
    if (!r) return HN_OK;
    if (r->world->rank == 0) return call_only(r, HNP_CALL_BROADCAST, what, *bytes, *size, error);
    hn_status status = call(r, HNP_CALL_BROADCAST, what, NULL, 0, &answer, &answered, error);
    if (status == HN_OK) {
        *bytes = answer;
        *size = answered;
    } else {
        hn_free(answer);
    }
    return status;
}

/* R sizes of 8 bytes and then the bytes, from rank 0. */
static hn_status unpack(hn_blobs *all, int count, const unsigned char *answer, size_t answered, hn_error *error)
{
    size_t *sizes = hn_calloc((size_t)count, sizeof *sizes), sum = 8 * (size_t)count;
    hn_status status = sizes ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "out of memory for the bytes of %d ranks", count);
    bool fits = answered >= sum;
    for (int i = 0; sizes && i < count && fits; i++) {
        for (int b = 0; b < 8; b++) sizes[i] |= (size_t)answer[8 * i + b] << (8 * b);
        fits = sizes[i] <= answered - sum;
        if (fits) sum += sizes[i];
    }
    if (status == HN_OK && (!fits || sum != answered))
        status = hn_fail(error, HN_ERR_FORMAT, "the bytes of %d ranks came in %zu bytes that do not hold them", count, answered);
    if (status == HN_OK) status = hn_blobs_init(all, count, sizes, error);
    if (status == HN_OK) memcpy(all->bytes, answer + 8 * (size_t)count, answered - 8 * (size_t)count);
    hn_free(sizes);
    return status;
}

hn_status hn_ranks_gather(hn_ranks *r, const char *what, const void *mine, size_t size, hn_blobs *all, hn_error *error)
{
    unsigned char *answer;
    size_t answered;
    if (!r) {
        hn_status status = hn_blobs_init(all, 1, &size, error);
        if (status == HN_OK && size) memcpy(all->bytes, mine, size);
        return status;
    }
    hn_status status = call(r, HNP_CALL_GATHER, what, mine, size, &answer, &answered, error);
    if (status == HN_OK) {
        hn_error own = {0};
        if (unpack(all, r->world->size, answer, answered, &own) != HN_OK) hn_ranks_fail(r, &own); /* the others have theirs */
    }
    hn_free(answer);
    return status;
}

hn_status hn_ranks_agree(hn_ranks *r, const char *what, hn_status mine, hn_error *error)
{
    unsigned char bytes[1 + sizeof error->message];
    size_t size = 0;
    HN_ASSERT(mine == HN_OK || error->status != HN_OK);
    if (!r) return mine;
    if (mine != HN_OK) {
        bytes[0] = (unsigned char)mine;
        size = strlen(error->message);
        memcpy(bytes + 1, error->message, size++);
    }
    hn_error_reset(error);
    return call_only(r, HNP_CALL_AGREE, what, bytes, size, error);
}

void hn_ranks_enter(hn_ranks *r, hn_activity activity, const char *operation, int64_t step)
{
    if (!r) return;
    pthread_mutex_lock(&r->world->lock);
    r->world->here.activity = activity;
    r->world->here.step = step;
    r->world->here.entered++;
    snprintf(r->world->here.operation, sizeof r->world->here.operation, "%s", operation);
    pthread_mutex_unlock(&r->world->lock);
}

void hn_ranks_pulse(hn_ranks *r)
{
    if (r) atomic_fetch_add_explicit(&r->world->pulses, 1, memory_order_relaxed);
}

uint64_t *hn_ranks_pulses(hn_ranks *r)
{
    return r ? (uint64_t *)&r->world->pulses : NULL;
}

void hn_ranks_moved(hn_ranks *r, uint64_t reached, uint64_t finished, uint64_t bytes)
{
    if (!r) return;
    atomic_store_explicit(&r->world->reached, reached, memory_order_relaxed);
    atomic_store_explicit(&r->world->finished, finished, memory_order_relaxed);
    atomic_store_explicit(&r->world->bytes, bytes, memory_order_relaxed);
}

hn_status hn_ranks_log(hn_ranks *r, const char *folder, hn_error *error)
{
    if (!r) return HN_OK;
    hn_status status = hn_folder_make(folder, error);
    if (status != HN_OK) return status;
    char *copy = hn_strdup(folder);
    if (!copy) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    pthread_mutex_lock(&r->world->lock);
    hn_free(r->world->logs);
    r->world->logs = copy;
    pthread_mutex_unlock(&r->world->lock);
    return HN_OK;
}

uint64_t hn_ranks_record(hn_ranks *r, const char *what, uint64_t bytes) { return r ? hnp_recorder_begin(&r->world->recorder, what, bytes) : 0; }

void hn_ranks_record_end(hn_ranks *r, uint64_t number)
{
    if (r) hnp_recorder_end(&r->world->recorder, number);
}

void hn_ranks_notice(hn_ranks *r, const char *text)
{
    HN_ASSERT(r);
    hnp_recorder_notice(&r->world->recorder, text);
    if (r->world->rank == 0 && r->world->options.notice) r->world->options.notice(text);
}

void hn_ranks_stop_agreed(hn_ranks *r)
{
    if (r) atomic_store(&r->world->stop_agreed, true);
}

/* Leaves it to the control thread, which ends the process; by itself, where that does not come to it. */
_Noreturn static void await_the_end(hnp_world *w, double seconds)
{
    hnp_control_wake(w);
    for (double until = hn_clock() + seconds; hn_clock() < until;) {
        atomic_fetch_add_explicit(&w->pulses, 1, memory_order_relaxed);
        nanosleep(&(struct timespec){0, (long)(NAP * 1e9)}, NULL);
    }
    _exit(1);
}

/* A failure that is told after `seconds`. One that is told at once takes the place of one that waits. */
_Noreturn static void fail_in(hn_ranks *r, double seconds, const hn_error *error)
{
    if (!r) {
        fprintf(stderr, "hone: %s\n", error->message);
        _exit(1);
    }
    hnp_world *w = r->world;
    pthread_mutex_lock(&w->lock);
    if (w->failure.status == HN_OK || seconds <= 0) {
        hn_error_reset(&w->failure);
        hn_fail(&w->failure, error->status == HN_OK ? HN_ERR_DEVICE : error->status, "%s", error->message);
        w->failure_due = hn_clock() + seconds;
    }
    pthread_mutex_unlock(&w->lock);
    await_the_end(w, seconds + END_WITHIN);
}

_Noreturn void hn_ranks_fail(hn_ranks *r, const hn_error *error) { fail_in(r, 0, error); }
_Noreturn void hn_ranks_lost(hn_ranks *r, const hn_error *error) { fail_in(r, LOST_WITHIN, error); }

void hn_ranks_close(hn_ranks *r)
{
    hn_error error = {0};
    if (!r) return;
    hnp_world *w = r->world;
    HN_ASSERT(r->lane == HNP_LANE_MAIN);
    hn_ranks_stop_agreed(r);
    if (call_only(r, HNP_CALL_CLOSE, "the run", NULL, 0, &error) != HN_OK) hn_ranks_fail(r, &error);
    pthread_join(w->thread, NULL);
    free_all(w);
}
