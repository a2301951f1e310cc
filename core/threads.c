/* Three counters over one ring describe everything; item i lives in slot i % count:
 *
 *     released <= got <= filled <= released + count
 *
 *       [released, got)     the consumer's
 *       [got, filled)       ready
 *       [filled, released + count)  free: the worker may fill the first of them
 *
 * They change under one lock; the slots themselves are touched without it, by the side that owns them. */
#include "core/threads.h"

#include <signal.h>
#include <string.h>

#include "core/mem.h"

int hn_thread_start(pthread_t *thread, void *(*work)(void *), void *argument)
{
    sigset_t others, before;
    sigfillset(&others);
    static const int own[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) sigdelset(&others, own[i]);
    pthread_sigmask(SIG_SETMASK, &others, &before);
    int code = pthread_create(thread, NULL, work, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

struct hn_prefetch {
    void **slots;
    size_t count;
    hn_prefetch_fill *fill;
    void *context;
    pthread_t worker;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* any field below */
    int64_t released, got, filled;
    bool ended; /* nothing comes after `filled`: the end, or `error` */
    bool stop;  /* asked by free */
    hn_error error;
};

static void *work(void *argument)
{
    hn_prefetch *p = argument;
    pthread_mutex_lock(&p->lock);
    while (!p->ended) {
        while (!p->stop && p->filled == p->released + (int64_t)p->count)
            pthread_cond_wait(&p->changed, &p->lock);
        if (p->stop) break;
        int64_t index = p->filled;
        bool end = false;
        hn_error error = {0};
        pthread_mutex_unlock(&p->lock);
        hn_status status = p->fill(p->context, p->slots[(size_t)index % p->count], index, &end, &error);
        pthread_mutex_lock(&p->lock);
        if (status != HN_OK) hn_fail(&error, status, "item %lld could not be prepared", (long long)index);
        if (status == HN_OK && !end)
            p->filled++;
        else
            p->ended = true;
        p->error = error;
        pthread_cond_broadcast(&p->changed);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void release_memory(hn_prefetch *p)
{
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    hn_free(p->slots);
    hn_free(p);
}

hn_status hn_prefetch_open(hn_prefetch **out, void *const *slots, size_t count, hn_prefetch_fill *fill,
                           void *context, hn_error *error)
{
    HN_ASSERT(count > 0);
    hn_prefetch *p = hn_calloc(1, sizeof *p);
    void **copy = hn_memdup(slots, count * sizeof *slots);
    if (!p || !copy) {
        hn_free(p);
        hn_free(copy);
        return hn_fail(error, HN_ERR_MEMORY, "out of memory for reading ahead");
    }
    p->slots = copy;
    p->count = count;
    p->fill = fill;
    p->context = context;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    int code = hn_thread_start(&p->worker, work, p);
    if (code) {
        release_memory(p);
        return hn_fail(error, HN_ERR_DEVICE, "a thread for reading ahead could not be started: %s",
                       strerror(code));
    }
    *out = p;
    return HN_OK;
}

hn_status hn_prefetch_get(hn_prefetch *p, void **slot, hn_error *error)
{
    hn_status status = HN_OK;
    void *next = NULL;
    pthread_mutex_lock(&p->lock);
    HN_ASSERT(p->got < p->released + (int64_t)p->count);
    while (p->got == p->filled && !p->ended) pthread_cond_wait(&p->changed, &p->lock);
    if (p->got < p->filled)
        next = p->slots[(size_t)p->got++ % p->count];
    else if (p->error.status != HN_OK)
        status = hn_fail(error, p->error.status, "%s", p->error.message);
    pthread_mutex_unlock(&p->lock);
    if (status == HN_OK) *slot = next;
    return status;
}

void hn_prefetch_release(hn_prefetch *p)
{
    pthread_mutex_lock(&p->lock);
    HN_ASSERT(p->released < p->got);
    p->released++;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

void hn_prefetch_free(hn_prefetch *p)
{
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->worker, NULL);
    release_memory(p);
}
