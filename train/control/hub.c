/* Every rank brings (kind, what, bytes); when the last one is complete, all get the same answer:
 *
 *     barrier, close   nothing
 *     broadcast        rank 0's bytes
 *     gather           R sizes of 8 bytes, then the bytes by rank
 *     agree            nothing, or the status and message of the first rank that brought one (a byte of status, then the text)
 *
 * An answer may be an error instead (its status, the message as bytes): ranks that are not in the same call, or too many bytes. So a
 * program that diverges between ranks learns it from the call itself, on all ranks, and nobody waits for ever. Bytes that cannot be
 * kept are counted and thrown away, so that the call comes to its end all the same. */
#include "train/control/hub.h"

#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "train/ranks.h"

struct hnp_part {
    bool called;
    hnp_call call;
    size_t have;
    unsigned char *bytes; /* NULL: thrown away */
};

static const char *const kinds[HNP_CALL_KINDS] = {"barrier", "broadcast", "gather", "agreement", "the end"};

hn_status hnp_hub_init(hnp_hub *hub, int size, hn_error *error)
{
    hnp_part *part = hn_calloc((size_t)size, sizeof *part);
    if (!part) return hn_fail(error, HN_ERR_MEMORY, "out of memory for collectives of %d ranks", size);
    *hub = (hnp_hub){.size = size, .part = part};
    return HN_OK;
}

static void clear(hnp_hub *hub)
{
    for (int i = 0; i < hub->size; i++) {
        hn_free(hub->part[i].bytes);
        hub->part[i] = (hnp_part){0};
    }
    hub->complete = 0;
    hub->claimed = 0;
    hub->over = NULL;
}

void hnp_hub_close(hnp_hub *hub)
{
    clear(hub);
    hn_free(hub->part);
    *hub = (hnp_hub){0};
}

const char *hnp_hub_call(hnp_hub *hub, int rank, const hnp_call *call)
{
    hnp_part *part = &hub->part[rank];
    if (part->called) return "it calls a collective while it is in another one";
    if (call->number != hub->number) return "it is in another collective than its number says";
    *part = (hnp_part){.called = true, .call = *call};
    if (call->size > HN_RANKS_BLOB || hub->claimed + call->size > HN_RANKS_BLOB)
        hub->over = "the bytes of all ranks together are more than";
    else if (call->size) {
        hub->claimed += call->size;
        part->bytes = hn_malloc(call->size);
        if (!part->bytes) hub->over = "rank 0 has no memory for the bytes of all ranks, which may be";
    }
    if (call->size > HN_RANKS_BLOB) part->call.size = 0; /* none of them is sent */
    if (!part->call.size) hub->complete++;
    return NULL;
}

const char *hnp_hub_piece(hnp_hub *hub, int rank, const void *bytes, size_t size)
{
    hnp_part *part = &hub->part[rank];
    if (!part->called || size > part->call.size - part->have) return "it sends bytes that belong to no collective";
    if (part->bytes) memcpy(part->bytes + part->have, bytes, size);
    part->have += size;
    if (size && part->have == part->call.size) hub->complete++;
    return NULL;
}

bool hnp_hub_called(const hnp_hub *hub, int rank) { return hub->part[rank].called; }
bool hnp_hub_ready(const hnp_hub *hub) { return hub->complete == hub->size; }

/* The first rank that is not in rank 0's call; 0: all are. */
static int find_other(const hnp_hub *hub)
{
    const hnp_call *first = &hub->part[0].call;
    for (int i = 1; i < hub->size; i++)
        if (hub->part[i].call.kind != first->kind || strcmp(hub->part[i].call.what, first->what)) return i;
    return 0;
}

static void compare(const hnp_hub *hub, const hnp_identity *who, hn_error *error)
{
    int other = find_other(hub);
    const hnp_call *a = &hub->part[other].call, *b = &hub->part[0].call;
    if (other)
        hn_fail(error, HN_ERR_MISMATCH, "rank %d (%s) is in %s \"%s\", rank 0 (%s) in %s \"%s\"; expected the same call", other,
                who[other].host, kinds[a->kind], a->what, who[0].host, kinds[b->kind], b->what);
    else if (hub->over)
        hn_fail(error, HN_ERR_MEMORY, "%s \"%s\": %s %d MiB", kinds[b->kind], b->what, hub->over, HN_RANKS_BLOB >> 20);
}

static bool same_failure(const hnp_part *a, const hnp_part *b)
{
    return a->call.size == b->call.size && !memcmp(a->bytes, b->bytes, a->call.size);
}

static void agree(const hnp_hub *hub, const hnp_identity *who, hn_error *error)
{
    int first = 0, same = 1;
    while (first < hub->size && hub->part[first].call.size == 0) first++; /* who brings nothing is fine */
    if (first == hub->size) return;
    const hnp_part *part = &hub->part[first];
    while (first == 0 && same < hub->size && same_failure(part, &hub->part[same])) same++;
    int status = part->bytes[0], length = (int)part->call.size - 1;
    const char *message = (const char *)part->bytes + 1;
    if (status <= HN_OK || status > HN_ERR_INTERRUPTED) status = HN_ERR_MISMATCH;
    if (same == hub->size)
        hn_fail(error, (hn_status)status, "%.*s", length, message);
    else
        hn_fail(error, (hn_status)status, "rank %d (%s): %.*s", first, who[first].host, length, message);
}

static hnp_body *gather(const hnp_hub *hub)
{
    hnp_body *body = hnp_body_new((size_t)hub->size * 8 + hub->claimed);
    if (!body) return NULL;
    unsigned char *head = body->bytes, *to = head + (size_t)hub->size * 8;
    for (int i = 0; i < hub->size; i++) {
        const hnp_part *part = &hub->part[i];
        for (int b = 0; b < 8; b++) *head++ = (unsigned char)(part->call.size >> (8 * b));
        if (part->call.size) memcpy(to, part->bytes, part->call.size);
        to += part->call.size;
    }
    return body;
}

static hnp_body *body_of(const void *bytes, size_t size)
{
    hnp_body *body = hnp_body_new(size);
    if (body && size) memcpy(body->bytes, bytes, size);
    return body;
}

bool hnp_hub_answer(hnp_hub *hub, hnp_answer *answer, hnp_body **out, const hnp_identity *who)
{
    hn_error error = {0};
    hnp_body *body;
    const hnp_part *first = &hub->part[0];
    compare(hub, who, &error);
    if (error.status == HN_OK && first->call.kind == HNP_CALL_AGREE) agree(hub, who, &error);
    if (error.status != HN_OK)
        body = body_of(error.message, strlen(error.message));
    else if (first->call.kind == HNP_CALL_GATHER)
        body = gather(hub);
    else if (first->call.kind == HNP_CALL_BROADCAST)
        body = body_of(first->bytes, first->call.size);
    else
        body = hnp_body_new(0);
    if (!body) return false;
    *answer = (hnp_answer){.number = hub->number++, .size = body->size, .status = error.status};
    *out = body;
    clear(hub);
    return true;
}
