/* See ranks.h: the main thread's half. Opening and closing, and collectives as posts to the control thread, for whose answers it waits in
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

#define NAP 0.05 /* seconds between two pulses of a wait */

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

static void free_all(hn_ranks *w)
{
    if (!w) return;
    hnp_join_end(w);
    for (int i = 0; w->own.wire && i < w->size; i++) hnp_wire_close(&w->own.wire[i]);
    if (w->wake >= 0) close(w->wake);
    hnp_hub_close(&w->own.hub);
    hnp_watch_close(&w->own.watch);
    hnp_recorder_close(&w->recorder);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    hn_free(w->own.polled);
    hn_free(w->own.wire);
    hn_free(w->own.taking);
    hn_free(w->post.answer);
    hn_free(w->who);
    hn_free(w->logs);
    hn_free(w);
}

static void init_locks(hn_ranks *w)
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
static hn_ranks *make(const hnp_launch *launch, const hn_ranks_options *options, hn_error *error)
{
    size_t size = (size_t)launch->size;
    hn_ranks *w = hn_calloc(1, sizeof *w);
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
    w->own.listener = -1;
    for (int i = 0; i < HNP_STRANGERS; i++) w->own.stranger[i].wire.fd = -1;
    init_locks(w);
    w->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    w->who = hn_calloc(size, sizeof *w->who);
    w->own.wire = hn_calloc(size, sizeof *w->own.wire);
    w->own.polled = hn_calloc(size + HNP_STRANGERS + 2, sizeof *w->own.polled);
    for (size_t i = 0; w->own.wire && i < size; i++) w->own.wire[i].fd = -1;
    if (w->wake >= 0 && w->who && w->own.wire && w->own.polled && hnp_hub_init(&w->own.hub, w->size, error) == HN_OK) return w;
    hn_fail(error, HN_ERR_MEMORY, "out of memory or descriptors for %zu ranks", size);
    free_all(w);
    return NULL;
}

static struct timespec soon(void)
{
    double until = hn_clock() + NAP;
    return (struct timespec){(time_t)until, (long)((until - (double)(time_t)until) * 1e9)};
}

/* One sleep of a wait, with the lock held. */
static void nap(hn_ranks *w)
{
    struct timespec until = soon();
    pthread_cond_timedwait(&w->changed, &w->lock, &until);
    hn_ranks_pulse(w);
}

/* Starts the control thread and waits until all ranks have come, or somebody has said that they do not. */
static hn_status come_together(hn_ranks *w, hn_error *error)
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
    while (w->phase == HNP_PHASE_JOINING) nap(w);
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
    hn_ranks *w = make(&launch, options, error);
    if (!w) return HN_ERR_MEMORY;
    hnp_identity_find(&w->who[w->rank]);
    status = describe_build(w->build, sizeof w->build, error);
    if (status == HN_OK) status = w->rank ? hnp_join_connect(w, error) : hnp_join_listen(w, error);
    if (status == HN_OK) status = come_together(w, error);
    if (status == HN_OK)
        *out = w;
    else
        free_all(w);
    return status;
}

int hn_ranks_rank(const hn_ranks *w) { return w ? w->rank : 0; }
int hn_ranks_size(const hn_ranks *w) { return w ? w->size : 1; }
int hn_ranks_local(const hn_ranks *w) { return w ? w->local : 0; }
int hn_ranks_local_size(const hn_ranks *w) { return w ? w->local_size : 1; }
bool hn_ranks_first(const hn_ranks *w) { return !w || w->rank == 0; }

const char *hn_ranks_host(const hn_ranks *w, int rank)
{
    HN_ASSERT(rank >= 0 && rank < hn_ranks_size(w));
    return w ? w->who[rank].host : "";
}

/* Posts a collective and waits for its answer; its bytes in *answer (hn_free) and *size where wanted. In messages, and to the watch, it is
 * a wait in the step that the rank was in, and afterwards the rank is where it was. */
static hn_status call(hn_ranks *w, hnp_call_kind kind, const char *what, const void *bytes, size_t size, unsigned char **answer,
                      size_t *answered, hn_error *error)
{
    static const char *const names[HNP_CALL_KINDS] = {"barrier", "broadcast", "gather", "agreement", "the end"};
    hn_status status;
    hnp_beat before;
    char operation[HNP_OPERATION];
    HN_ASSERT(strlen(what) < HNP_NAME);
    pthread_mutex_lock(&w->lock);
    before = w->here;
    pthread_mutex_unlock(&w->lock);
    snprintf(operation, sizeof operation, "%s \"%.48s\"", names[kind], what);
    hn_ranks_enter(w, HN_ACTIVITY_WAIT, operation, before.step);
    uint64_t number = hn_ranks_record(w, operation, size);
    pthread_mutex_lock(&w->lock);
    HN_ASSERT(w->post.state == HNP_POST_NONE);
    uint64_t called = w->post.call.number;
    w->post = (hnp_post){.state = HNP_POST_NEW, .bytes = bytes, .call = {.number = called, .kind = kind, .size = size}};
    memcpy(w->post.call.what, what, strlen(what) + 1);
    hnp_control_wake(w);
    while (w->post.state != HNP_POST_ANSWERED) nap(w);
    unsigned char *got = w->post.answer;
    status = w->post.status;
    if (status != HN_OK) hn_fail(error, status, "%.*s", (int)w->post.size, (const char *)got);
    *answer = got;
    *answered = w->post.size;
    w->post = (hnp_post){.call = {.number = called + 1}};
    pthread_mutex_unlock(&w->lock);
    hn_ranks_record_end(w, number);
    hn_ranks_enter(w, before.activity, before.operation, before.step);
    return status;
}

/* A collective whose answer has no bytes. */
static hn_status call_only(hn_ranks *w, hnp_call_kind kind, const char *what, const void *bytes, size_t size, hn_error *error)
{
    unsigned char *answer;
    size_t answered;
    hn_status status = call(w, kind, what, bytes, size, &answer, &answered, error);
    hn_free(answer);
    return status;
}

hn_status hn_ranks_barrier(hn_ranks *w, const char *what, hn_error *error)
{
    return w ? call_only(w, HNP_CALL_BARRIER, what, NULL, 0, error) : HN_OK;
}

hn_status hn_ranks_broadcast(hn_ranks *w, const char *what, void **bytes, size_t *size, hn_error *error)
{
    unsigned char *answer;
    size_t answered;
    if (!w) return HN_OK;
    if (w->rank == 0) return call_only(w, HNP_CALL_BROADCAST, what, *bytes, *size, error);
    hn_status status = call(w, HNP_CALL_BROADCAST, what, NULL, 0, &answer, &answered, error);
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

hn_status hn_ranks_gather(hn_ranks *w, const char *what, const void *mine, size_t size, hn_blobs *all, hn_error *error)
{
    unsigned char *answer;
    size_t answered;
    if (!w) {
        hn_status status = hn_blobs_init(all, 1, &size, error);
        if (status == HN_OK && size) memcpy(all->bytes, mine, size);
        return status;
    }
    hn_status status = call(w, HNP_CALL_GATHER, what, mine, size, &answer, &answered, error);
    if (status == HN_OK) {
        hn_error own = {0};
        if (unpack(all, w->size, answer, answered, &own) != HN_OK) hn_ranks_fail(w, &own); /* the others have theirs */
    }
    hn_free(answer);
    return status;
}

hn_status hn_ranks_agree(hn_ranks *w, const char *what, hn_status mine, hn_error *error)
{
    unsigned char bytes[1 + sizeof error->message];
    size_t size = 0;
    HN_ASSERT(mine == HN_OK || error->status != HN_OK);
    if (!w) return mine;
    if (mine != HN_OK) {
        bytes[0] = (unsigned char)mine;
        size = strlen(error->message);
        memcpy(bytes + 1, error->message, size++);
    }
    hn_error_reset(error);
    return call_only(w, HNP_CALL_AGREE, what, bytes, size, error);
}

void hn_ranks_enter(hn_ranks *w, hn_activity activity, const char *operation, int64_t step)
{
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->here.activity = activity;
    w->here.step = step;
    w->here.entered++;
    snprintf(w->here.operation, sizeof w->here.operation, "%s", operation);
    pthread_mutex_unlock(&w->lock);
}

void hn_ranks_pulse(hn_ranks *w)
{
    if (w) atomic_fetch_add_explicit(&w->pulses, 1, memory_order_relaxed);
}

_Atomic uint64_t *hn_ranks_pulses(hn_ranks *w) { return w ? &w->pulses : NULL; }

void hn_ranks_moved(hn_ranks *w, uint64_t reached, uint64_t finished, uint64_t bytes)
{
    if (!w) return;
    atomic_store_explicit(&w->reached, reached, memory_order_relaxed);
    atomic_store_explicit(&w->finished, finished, memory_order_relaxed);
    atomic_store_explicit(&w->bytes, bytes, memory_order_relaxed);
}

hn_status hn_ranks_log(hn_ranks *w, const char *folder, hn_error *error)
{
    if (!w) return HN_OK;
    hn_status status = hn_folder_make(folder, error);
    if (status != HN_OK) return status;
    char *copy = hn_strdup(folder);
    if (!copy) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    pthread_mutex_lock(&w->lock);
    hn_free(w->logs);
    w->logs = copy;
    pthread_mutex_unlock(&w->lock);
    return HN_OK;
}

uint64_t hn_ranks_record(hn_ranks *w, const char *what, uint64_t bytes) { return w ? hnp_recorder_begin(&w->recorder, what, bytes) : 0; }

void hn_ranks_record_end(hn_ranks *w, uint64_t number)
{
    if (w) hnp_recorder_end(&w->recorder, number);
}

void hn_ranks_notice(hn_ranks *w, const char *text)
{
    HN_ASSERT(w);
    hnp_recorder_notice(&w->recorder, text);
    if (w->rank == 0 && w->options.notice) w->options.notice(text);
}

void hn_ranks_stop_agreed(hn_ranks *w)
{
    if (w) atomic_store(&w->stop_agreed, true);
}

_Noreturn void hn_ranks_fail(hn_ranks *w, const hn_error *error)
{
    if (!w) {
        fprintf(stderr, "hone: %s\n", error->message);
        _exit(1);
    }
    pthread_mutex_lock(&w->lock);
    hn_fail(&w->failure, error->status == HN_OK ? HN_ERR_DEVICE : error->status, "%s", error->message);
    pthread_mutex_unlock(&w->lock);
    hnp_control_wake(w);
    for (int i = 0; i < 60; i++) nanosleep(&(struct timespec){0, (long)(NAP * 1e9)}, NULL);
    _exit(1); /* the control thread did not come to it */
}

void hn_ranks_close(hn_ranks *w)
{
    hn_error error = {0};
    if (!w) return;
    hn_ranks_stop_agreed(w);
    if (call_only(w, HNP_CALL_CLOSE, "the run", NULL, 0, &error) != HN_OK) hn_ranks_fail(w, &error);
    pthread_join(w->thread, NULL);
    free_all(w);
}
