/* A collective, seen from the control thread. The main thread posts (kind, what, bytes) and waits. On rank 0 the post goes into the hub;
 * elsewhere it goes out as CALL and PIECEs of at most a MiB, lent from the main thread, which waits for the answer and so keeps them. The
 * hub's answer goes out as ANSWER and PIECEs that all connections share, and is put together here on the other side.
 *
 *     post:  NONE --main--> NEW --control--> SENT --control--> ANSWERED --main--> NONE */
#include <string.h>

#include "core/mem.h"
#include "train/control/world.h"

/* Gives the answer to the main thread; the bytes become its own. */
static void deliver(hn_ranks *w, hn_status status, unsigned char *bytes, size_t size)
{
    pthread_mutex_lock(&w->lock);
    bool end = w->post.call.kind == HNP_CALL_CLOSE && status == HN_OK;
    w->post.state = HNP_POST_ANSWERED;
    w->post.status = status;
    w->post.answer = bytes;
    w->post.size = size;
    if (end) w->phase = w->rank ? HNP_PHASE_OVER : HNP_PHASE_LEAVING;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    if (!end) return;
    w->own.left = w->own.now;
    if (w->rank) w->own.over = true;
    for (int i = 0; i < w->size; i++) hnp_watch_end(&w->own.watch, i);
}

static size_t piece_of(size_t left) { return left < HNP_FRAME_MOST ? left : HNP_FRAME_MOST; }

static bool send_call(hnp_wire *wire, const hnp_call *call, const unsigned char *bytes)
{
    hn_strbuf text;
    hn_strbuf_init(&text);
    hnp_call_encode(&text, call);
    bool fits = !text.failed && hnp_wire_send(wire, HNP_FRAME_CALL, text.text, text.length);
    hn_strbuf_close(&text);
    for (size_t at = 0; at < call->size && call->size <= HN_RANKS_BLOB && fits; at += HNP_FRAME_MOST)
        fits = hnp_wire_lend(wire, HNP_FRAME_PIECE, bytes + at, piece_of(call->size - at));
    return fits;
}

void hnp_calls_take(hn_ranks *w)
{
    pthread_mutex_lock(&w->lock);
    hnp_post post = w->post;
    if (post.state == HNP_POST_NEW) w->post.state = HNP_POST_SENT;
    pthread_mutex_unlock(&w->lock);
    if (post.state != HNP_POST_NEW) return;
    if (w->rank) {
        if (!send_call(&w->own.wire[0], &post.call, post.bytes)) hnp_end_here(w, HN_ERR_MEMORY, "out of memory for a collective");
        return;
    }
    post.call.number = w->own.hub.number;
    HN_ASSERT(!hnp_hub_call(&w->own.hub, 0, &post.call));
    if (post.call.size <= HN_RANKS_BLOB) HN_ASSERT(!hnp_hub_piece(&w->own.hub, 0, post.bytes, post.call.size));
    hnp_calls_settle(w);
}

static bool send_answer(hnp_wire *wire, const hn_strbuf *head, hnp_body *body)
{
    bool fits = hnp_wire_send(wire, HNP_FRAME_ANSWER, head->text, head->length);
    for (size_t at = 0; at < body->size && fits; at += HNP_FRAME_MOST)
        fits = hnp_wire_share(wire, HNP_FRAME_PIECE, body, at, piece_of(body->size - at));
    return fits;
}

void hnp_calls_settle(hn_ranks *w)
{
    hnp_answer answer;
    hnp_body *body = NULL;
    hn_strbuf head;
    unsigned char *mine = NULL;
    if (!hnp_hub_ready(&w->own.hub)) return;
    hn_strbuf_init(&head);
    bool fits = hnp_hub_answer(&w->own.hub, &answer, &body, w->who);
    if (fits) {
        hnp_answer_encode(&head, &answer);
        mine = hn_memdup(body->bytes, body->size);
        fits = mine && !head.failed;
    }
    for (int i = 1; i < w->size && fits; i++) fits = send_answer(&w->own.wire[i], &head, body);
    hnp_body_release(body);
    hn_strbuf_close(&head);
    if (fits)
        deliver(w, answer.status, mine, (size_t)answer.size);
    else {
        hn_free(mine);
        hnp_end_here(w, HN_ERR_MEMORY, "out of memory for what all ranks gave");
    }
}

static const char *hear_answer(hn_ranks *w, const hnp_frame *frame)
{
    hnp_answer answer;
    if (w->own.answering || !hnp_answer_decode(&answer, frame)) return "an answer that is none";
    pthread_mutex_lock(&w->lock);
    bool asked = w->post.state == HNP_POST_SENT && w->post.call.number == answer.number;
    pthread_mutex_unlock(&w->lock);
    if (!asked) return "an answer to what was not asked";
    if (answer.size > HN_RANKS_BLOB + 8 * (size_t)w->size) return "an answer that is too long";
    w->own.taking = hn_malloc(answer.size);
    if (!w->own.taking) {
        hnp_end_here(w, HN_ERR_MEMORY, "out of memory for what all ranks gave");
        return NULL;
    }
    w->own.answer = answer;
    w->own.taken = 0;
    w->own.answering = true;
    return NULL;
}

static const char *hear_piece(hn_ranks *w, const hnp_frame *frame)
{
    if (!w->own.answering || frame->size > w->own.answer.size - w->own.taken) return "bytes that belong to no answer";
    memcpy(w->own.taking + w->own.taken, frame->body, frame->size);
    w->own.taken += frame->size;
    return NULL;
}

const char *hnp_calls_hear(hn_ranks *w, int rank, const hnp_frame *frame)
{
    hnp_call call;
    const char *why = NULL;
    if (frame->type == HNP_FRAME_CALL) {
        why = hnp_call_decode(&call, frame) ? hnp_hub_call(&w->own.hub, rank, &call) : "a call that is none";
    } else if (w->rank == 0) {
        why = hnp_hub_piece(&w->own.hub, rank, frame->body, frame->size);
    } else {
        why = frame->type == HNP_FRAME_ANSWER ? hear_answer(w, frame) : hear_piece(w, frame);
        if (!why && w->own.answering && w->own.taken == w->own.answer.size) {
            w->own.answering = false;
            deliver(w, w->own.answer.status, w->own.taking, w->own.taken);
            w->own.taking = NULL;
        }
    }
    if (w->rank == 0 && !why) hnp_calls_settle(w);
    return why;
}
