/* Two lists of flows, one out and one in, each worked off in its order by a few messages in flight. A flow is cut into pieces of 1 MiB:
 *
 *     out:  flow 0 [####|####|##]  flow 1 [##==|====|..]  flow 2 [..]        # sent   = in flight (4 messages)   . to come
 *     in:   flow 0 [####|##]       flow 1 [##==|==..]                        # taken  = asked for (2 messages)
 *
 * A piece that is to be added comes into one of two buffers of a piece each, which are all the memory a collective takes; while one is
 * added the other fills. A piece that is to be put somewhere comes there at once. With 1 MiB the two buffers stay in a core's second cache,
 * and what a message costs by itself is small beside it.
 *
 * The addition is y[i] += x[i], one rounding an element, whatever the compiler makes of the loop: its bits are the definition of the
 * collectives' sums. No team of threads: it would fight the step's for its cores. */
#include "train/transport/pump.h"

#include <string.h>

#include "core/mem.h"

enum { SENDS = 4, RECEIVES = 2, TAG_CALL = 1, TAG_DATA = 2 };

typedef enum arrival { PLACED, ADDED, HEARD } arrival;

typedef struct flow {
    int peer;
    arrival kind;
    bool relayed;
    char *bytes;
    size_t size, begun;
} flow;

typedef struct flows {
    flow *list; /* [capacity] */
    int count, at;
} flows;

/* A receive in flight: where its bytes go in the end. */
typedef struct landing {
    hn_message message;
    arrival kind;
    char *to;
    char *buffer; /* a piece; 64-byte aligned */
    hnp_collective call;
} landing;

struct hnp_pump {
    hn_p2p *p2p;
    const atomic_bool *quit;
    atomic_uint_fast64_t *moved;
    hnp_collective call;
    int capacity;
    flows out, in;
    hn_message sends[SENDS];
    landing landings[RECEIVES];
    uint64_t sends_begun, sends_done, landings_begun, landings_done; /* number i lies in slot i % SENDS or RECEIVES */
    size_t arrived;                                                  /* bytes of data in this call */
    char *memory;
};

void hnp_pump_free(hnp_pump *pump)
{
    if (!pump) return;
    hn_free(pump->out.list);
    hn_free(pump->in.list);
    hn_free(pump->memory);
    hn_free(pump);
}

hn_status hnp_pump_open(hnp_pump **out, hn_p2p *p2p, const atomic_bool *quit, atomic_uint_fast64_t *bytes, hn_error *error)
{
    hnp_pump *pump = hn_calloc(1, sizeof *pump);
    if (!pump) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the link's pieces");
    pump->p2p = p2p;
    pump->quit = quit;
    pump->moved = bytes;
    pump->capacity = 2 * p2p->size; /* what a call says about a peer: hear it, and take its data */
    pump->out.list = hn_calloc((size_t)pump->capacity, sizeof *pump->out.list);
    pump->in.list = hn_calloc((size_t)pump->capacity, sizeof *pump->in.list);
    pump->memory = hn_malloc(RECEIVES * HN_P2P_MOST + 64);
    if (!pump->out.list || !pump->in.list || !pump->memory) {
        hnp_pump_free(pump);
        return hn_fail(error, HN_ERR_MEMORY, "out of memory for the link's pieces");
    }
    char *aligned = pump->memory + (64 - (uintptr_t)pump->memory % 64);
    for (int i = 0; i < RECEIVES; i++) pump->landings[i].buffer = aligned + (size_t)i * HN_P2P_MOST;
    *out = pump;
    return HN_OK;
}

int hnp_pump_rank(const hnp_pump *pump)
{
    return pump->p2p->rank;
}

int hnp_pump_size(const hnp_pump *pump)
{
    return pump->p2p->size;
}

void hnp_pump_begin(hnp_pump *pump, const hnp_collective *call)
{
    HN_ASSERT(!pump->out.count && !pump->in.count);
    pump->call = *call;
    pump->arrived = 0;
}

static void append(hnp_pump *pump, flows *to, const flow *what)
{
    if (!what->size) return;
    HN_ASSERT(to->count < pump->capacity);
    to->list[to->count++] = *what;
}

void hnp_pump_tell(hnp_pump *pump, int peer)
{
    append(pump, &pump->out, &(flow){.peer = peer, .kind = HEARD, .bytes = (char *)&pump->call, .size = sizeof pump->call});
}

void hnp_pump_hear(hnp_pump *pump, int peer)
{
    append(pump, &pump->in, &(flow){.peer = peer, .kind = HEARD, .size = sizeof pump->call});
}

void hnp_pump_send(hnp_pump *pump, int peer, const void *bytes, size_t size)
{
    append(pump, &pump->out, &(flow){.peer = peer, .bytes = (char *)bytes, .size = size});
}

void hnp_pump_relay(hnp_pump *pump, int peer, const void *bytes, size_t size)
{
    append(pump, &pump->out, &(flow){.peer = peer, .relayed = true, .bytes = (char *)bytes, .size = size});
}

void hnp_pump_receive(hnp_pump *pump, int peer, void *bytes, size_t size)
{
    append(pump, &pump->in, &(flow){.peer = peer, .kind = PLACED, .bytes = bytes, .size = size});
}

void hnp_pump_add(hnp_pump *pump, int peer, float *sums, size_t size)
{
    append(pump, &pump->in, &(flow){.peer = peer, .kind = ADDED, .bytes = (char *)sums, .size = size});
}

/* The next piece of a list's flows, and on to what comes behind it. */
static hn_message next_piece(flows *from, char **at)
{
    flow *f = &from->list[from->at];
    size_t left = f->size - f->begun;
    hn_message message = {.peer = f->peer, .tag = f->kind == HEARD ? TAG_CALL : TAG_DATA, .size = left < HN_P2P_MOST ? left : HN_P2P_MOST};
    if (f->bytes) *at = f->bytes + f->begun;
    f->begun += message.size;
    if (f->begun == f->size) from->at++;
    return message;
}

/* Whether the next piece out is there already: a relayed one may be on its way to us. */
static bool is_here(const hnp_pump *pump)
{
    const flow *f = &pump->out.list[pump->out.at];
    size_t end = f->begun + HN_P2P_MOST < f->size ? f->begun + HN_P2P_MOST : f->size;
    return !f->relayed || pump->arrived >= end;
}

static hn_status begin_more(hnp_pump *pump, hn_error *error)
{
    hn_status status = HN_OK;
    while (status == HN_OK && pump->in.at < pump->in.count && pump->landings_begun - pump->landings_done < RECEIVES) {
        landing *l = &pump->landings[pump->landings_begun++ % RECEIVES];
        l->kind = pump->in.list[pump->in.at].kind;
        l->message = next_piece(&pump->in, &l->to);
        l->message.bytes = l->kind == PLACED ? (void *)l->to : l->kind == ADDED ? (void *)l->buffer : (void *)&l->call;
        status = pump->p2p->receive(pump->p2p, &l->message, error);
    }
    while (status == HN_OK && pump->out.at < pump->out.count && pump->sends_begun - pump->sends_done < SENDS && is_here(pump)) {
        hn_message *m = &pump->sends[pump->sends_begun++ % SENDS];
        char *at = NULL;
        *m = next_piece(&pump->out, &at);
        m->bytes = at;
        status = pump->p2p->send(pump->p2p, m, error);
    }
    return status;
}

static void add(float *restrict y, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

static const char *kind_name(uint32_t kind)
{
    static const char *const names[] = {"a call of no known kind", "reduce-scatter", "all-gather", "all-reduce", "broadcast"};
    return names[kind < sizeof names / sizeof *names ? kind : 0];
}

static hn_status check_call(const hnp_pump *pump, int peer, const hnp_collective *heard, hn_error *error)
{
    const hnp_collective *mine = &pump->call;
    if (!memcmp(heard, mine, sizeof *mine)) return HN_OK;
    return hn_fail(error, HN_ERR_MISMATCH,
                   "rank %d is in call %llu, %s of %.*s (%llu bytes, sum %u, root %d); rank %d is in call %llu, %s of %s (%llu bytes, "
                   "sum %u, root %d): all ranks must make the same calls in the same order",
                   peer, (unsigned long long)heard->sequence, kind_name(heard->kind), HN_LINK_WHAT, heard->what,
                   (unsigned long long)heard->bytes, heard->sum, heard->root, pump->p2p->rank, (unsigned long long)mine->sequence,
                   kind_name(mine->kind), mine->what, (unsigned long long)mine->bytes, mine->sum, mine->root);
}

/* Puts what has come where it belongs, and counts what has gone. */
static hn_status take_done(hnp_pump *pump, hn_error *error)
{
    hn_status status = HN_OK;
    for (; pump->sends_done < pump->sends_begun && pump->sends[pump->sends_done % SENDS].done; pump->sends_done++)
        atomic_fetch_add_explicit(pump->moved, pump->sends[pump->sends_done % SENDS].size, memory_order_relaxed);
    while (status == HN_OK && pump->landings_done < pump->landings_begun && pump->landings[pump->landings_done % RECEIVES].message.done) {
        landing *l = &pump->landings[pump->landings_done++ % RECEIVES];
        if (l->kind == ADDED) add((float *)(void *)l->to, (const float *)(const void *)l->buffer, l->message.size / sizeof(float));
        if (l->kind == HEARD)
            status = check_call(pump, l->message.peer, &l->call, error);
        else
            pump->arrived += l->message.size;
        atomic_fetch_add_explicit(pump->moved, l->message.size, memory_order_relaxed);
    }
    return status;
}

/* What has come is looked at even when the transport failed: that the other side makes another call says more than that its data do not
 * fit. */
static hn_status step(hnp_pump *pump, hn_error *error)
{
    hn_error moving;
    hn_error_reset(&moving);
    if (atomic_load_explicit(pump->quit, memory_order_relaxed))
        return hn_fail(error, HN_ERR_INTERRUPTED, "the link was closed meanwhile");
    hn_status begun = begin_more(pump, error);
    if (begun != HN_OK) return begun;
    hn_status moved = pump->p2p->progress(pump->p2p, &moving), taken = take_done(pump, error);
    if (taken != HN_OK) return taken;
    return moved == HN_OK ? HN_OK : hn_fail(error, moved, "%s", moving.message);
}

hn_status hnp_pump_arrive(hnp_pump *pump, hn_error *error)
{
    hn_status status = HN_OK;
    while (status == HN_OK && (pump->in.at < pump->in.count || pump->landings_done < pump->landings_begun)) status = step(pump, error);
    pump->in.count = pump->in.at = 0;
    return status;
}

hn_status hnp_pump_finish(hnp_pump *pump, hn_error *error)
{
    hn_status status = hnp_pump_arrive(pump, error);
    while (status == HN_OK && (pump->out.at < pump->out.count || pump->sends_done < pump->sends_begun)) status = step(pump, error);
    pump->out.count = pump->out.at = 0;
    return status;
}
