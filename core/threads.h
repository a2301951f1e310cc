/* Threads that take no signals, and reading ahead: one worker thread fills a ring of slots in order, so that batches are ready when the step asks for them. The
 * order of what comes out is the order of the numbers 0, 1, 2, ..., whatever the speed of either side. */
#ifndef HONE_CORE_THREADS_H
#define HONE_CORE_THREADS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

/* As pthread_create, but signals that others send are the main thread's; those of the thread's own faults stay its own, so that a
 * mapping whose file was cut short is guarded in it too (hn_mapping_intact). */
int hn_thread_start(pthread_t *thread, void *(*work)(void *), void *argument);

typedef struct hn_prefetch hn_prefetch;

/* Puts item `index` into `slot`, on the worker thread. Sets *end, and leaves the slot alone, where there is no such item.
 * After an end or a failure it is not called again. It shares only what it locks itself, and starts no OpenMP region. */
typedef hn_status hn_prefetch_fill(void *context, void *slot, int64_t index, bool *end, hn_error *error);

/* Starts filling slots[0], slots[1], ..., as far ahead as there are slots. Slots and context stay the caller's and outlive
 * the prefetch; the array itself is copied. The worker takes no signals. */
hn_status hn_prefetch_open(hn_prefetch **out, void *const *slots, size_t count, hn_prefetch_fill *fill, void *context,
                           hn_error *error);
/* The next item's slot, waiting for it; NULL at the end. It is the caller's until its release. A failure is returned at the
 * place in the order where it happened, and again by every later call. Getting more than `count` without a release is our
 * bug. */
hn_status hn_prefetch_get(hn_prefetch *prefetch, void **slot, hn_error *error);
/* Gives the slot that was got first and not yet released back for filling. */
void hn_prefetch_release(hn_prefetch *prefetch);
/* Waits for the item that is being filled, ends the thread. Takes NULL. */
void hn_prefetch_free(hn_prefetch *prefetch);

#endif
