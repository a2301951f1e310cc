/* A backend is where tensors live: one struct of functions beside the operation table (kernels/ops.h). The CPU fills it with
 * malloc and memcpy; CUDA fills it with its own. Upper rooms never ask which one they have. */
#ifndef HONE_CORE_BACKEND_H
#define HONE_CORE_BACKEND_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"

typedef struct hn_backend hn_backend;
struct hn_backend {
    const char *name; /* "cpu", "cuda" */
    void *state;
    bool host; /* its memory is the host's: read and written there, once nothing is enqueued */
    bool graphs; /* it can keep what is enqueued as a graph */
    /* Device memory, aligned to 64 bytes and zeroed; NULL with `error` filled when there is none. `streamed`: it is passed over
     * end to end, all of it, every step; an advice. */
    void *(*alloc)(hn_backend *backend, size_t size, bool streamed, hn_error *error);
    void (*free)(hn_backend *backend, void *memory);
    /* Host memory that copies fast to and from the device. */
    void *(*pinned_alloc)(hn_backend *backend, size_t size, hn_error *error);
    void (*pinned_free)(hn_backend *backend, void *memory);
    /* Enqueued in order with the operations; the host buffer must stay until synchronize. */
    void (*copy_in)(hn_backend *backend, void *device, const void *host, size_t size);
    void (*copy_out)(hn_backend *backend, void *host, const void *device, size_t size);
    /* Waits for everything enqueued and returns the first failure since the last call. */
    hn_status (*synchronize)(hn_backend *backend, hn_error *error);
    /* An event is a point of the queue: behind everything that is enqueued when it is recorded, which may be done again and again. Waiting
     * for it leaves what was enqueued later under way, and returns failures as synchronize does. event_new gives NULL with `error`
     * filled; event_free takes NULL. */
    void *(*event_new)(hn_backend *backend, hn_error *error);
    void (*event_free)(hn_backend *backend, void *event);
    void (*event_record)(hn_backend *backend, void *event);
    hn_status (*event_wait)(hn_backend *backend, void *event, hn_error *error);
    /* A graph is what was enqueued between begin and end, to be enqueued again by one call: the same work on the same addresses, with what
     * stands there then. Nothing of it runs before it is launched, and in between only operations and `range` may be called, on the thread
     * that began. Where the backend refuses, begin gives a failure, or end NULL, with `error` filled; both leave it as if nothing had been
     * enqueued. A graph may be freed (NULL too) while a launch of it is under way. All four NULL: see `graphs`. */
    hn_status (*graph_begin)(hn_backend *backend, hn_error *error);
    void *(*graph_end)(hn_backend *backend, hn_error *error);
    void (*graph_launch)(hn_backend *backend, void *graph);
    void (*graph_free)(hn_backend *backend, void *graph);
    /* Begins a named range on a profiler's timeline, of what this thread enqueues; NULL ends the one begun last. */
    void (*range)(hn_backend *backend, const char *name);
    size_t (*memory_available)(hn_backend *backend); /* bytes, 0 when unknown */
    void (*close)(hn_backend *backend);
};

/* The CPU backend. It holds no resources; `close` does nothing. */
void hn_backend_cpu_init(hn_backend *backend);

#endif
