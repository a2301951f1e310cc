/* A collective, seen from the control thread. A thread posts (kind, what, bytes) on its lane and waits. On rank 0 the post goes into the
 * lane's hub; elsewhere it goes out as CALL and PIECEs of at most a MiB, lent from the thread that posted, which waits for the answer and so
 * keeps them. The hub's answer goes out as ANSWER and PIECEs that all connections share, and is put together here on the other side.
 *
 *     post:  NONE --caller--> NEW --control--> SENT --control--> ANSWERED --caller--> NONE */
#include <string.h>

#include "core/mem.h"
#include "train/control/world.h"

/* Gives the answer to the thread that posted; the bytes become its own. */
static void deliver(hnp_world *w, int lane, hn_status status, unsigned char *bytes, size_t size)
{
    hnp_post *post = &w->post[lane];
    pthread_mutex_lock(&w->lock);
    bool end = post->call.kind == HNP_CALL_CLOSE && status == HN_OK;
    post->state = HNP_POST_ANSWERED;
    post->status = status;
    post->answer = bytes;
    post->size = size;
    if (end) w->phase = w->rank ? HNP_PHASE_OVER : HNP_PHASE_LEAVING;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    if (!end) return;
    w->own.left = w->own.now;
    if (w->rank) w->own.over = true;
    for (int i = 0; i < w->size; i++) hnp_watch_end(&w->own.watch, i);
}

static size_t piece_of(size_t left) { return left < HNP_FRAME_MOST ? left : HNP_FRAME_MOST; }
static hnp_frame_type in_lane(hnp_frame_type type, int lane) { return (hnp_frame_type)((int)type + lane * HNP_FRAME_LANE); }

static bool send_call(hnp_wire *wire, int lane, const hnp_post *post)
{
    hn_strbuf text;
    size_t size = post->call.size <= HN_RANKS_BLOB ? post->call.size : 0;
    hn_strbuf_init(&text);
    hnp_call_encode(&text, &post->call);
    bool fits = !text.failed && hnp_wire_send(wire, in_lane(HNP_FRAME_CALL, lane), text.text, text.length);
    hn_strbuf_close(&text);
    for (size_t at = 0; at < size && fits; at += HNP_FRAME_MOST)
        fits = hnp_wire_lend(wire, in_lane(HNP_FRAME_PIECE, lane), post->bytes + at, piece_of(size - at));
    return fits;
}

static bool send_answer(hnp_wire *wire, int lane, const hn_strbuf *head, hnp_body *body)
{
    bool fits = hnp_wire_send(wire, in_lane(HNP_FRAME_ANSWER, lane), head->text, head->length);
    for (size_t at = 0; at < body->size && fits; at += HNP_FRAME_MOST)
        fits = hnp_wire_share(wire, in_lane(HNP_FRAME_PIECE, lane), body, at, piece_of(body->size - at));
    return fits;
}

/* Rank 0: answers when all have come. */
static void settle(hnp_world *w, int lane)
{
    hnp_answer answer;
    hnp_body *body = NULL;
    hn_strbuf head;
    unsigned char *mine = NULL;
    if (!hnp_hub_ready(&w->own.hub[lane])) return;
    hn_strbuf_init(&head);
    bool fits = hnp_hub_answer(&w->own.hub[lane], &answer, &body, w->who);
    if (fits) {
        hnp_answer_encode(&head, &answer);
        mine = hn_memdup(body->bytes, body->size);
        fits = mine && !head.failed;
    }
    for (int i = 1; i < w->size && fits; i++) fits = send_answer(&w->own.wire[i], lane, &head, body);
    hnp_body_release(body);
    hn_strbuf_close(&head);
    if (fits) {
        deliver(w, lane, answer.status, mine, (size_t)answer.size);
    } else {
        hn_free(mine);
        hnp_end_here(w, HN_ERR_MEMORY, "out of memory for what all ranks gave");
    }
}

/* Rank 0's own part. */
static void bring(hnp_world *w, int lane, hnp_post *post)
{
    hnp_hub *hub = &w->own.hub[lane];
    post->call.number = hub->number;
    const char *why = hnp_hub_call(hub, 0, &post->call);
    if (!why && post->call.size <= HN_RANKS_BLOB) why = hnp_hub_piece(hub, 0, post->bytes, post->call.size);
    HN_ASSERT(!why);
    settle(w, lane);
}

void hnp_calls_take(hnp_world *w)
{
    for (int lane = 0; lane < HNP_LANES && !w->own.over; lane++) {
        pthread_mutex_lock(&w->lock);
        hnp_post post = w->post[lane];
        if (post.state == HNP_POST_NEW) w->post[lane].state = HNP_POST_SENT;
        pthread_mutex_unlock(&w->lock);
        if (post.state != HNP_POST_NEW) continue;
        if (w->rank == 0)
            bring(w, lane, &post);
        else if (!send_call(&w->own.wire[0], lane, &post))
            hnp_end_here(w, HN_ERR_MEMORY, "out of memory for a collective");
    }
}

static const char *hear_answer(hnp_world *w, int lane, const hnp_frame *frame)
{
    hnp_taking *taking = &w->own.taking[lane];
    hnp_answer answer;
    if (taking->answering || !hnp_answer_decode(&answer, frame)) return "an answer that is none";
    pthread_mutex_lock(&w->lock);
    bool asked = w->post[lane].state == HNP_POST_SENT && w->post[lane].call.number == answer.number;
    pthread_mutex_unlock(&w->lock);
    if (!asked) return "an answer to what was not asked";
    if (answer.size > HN_RANKS_BLOB + 8 * (size_t)w->size) return "an answer that is too long";
    *taking = (hnp_taking){.answering = true, .answer = answer, .bytes = hn_malloc(answer.size)};
    if (!taking->bytes) hnp_end_here(w, HN_ERR_MEMORY, "out of memory for what all ranks gave");
    return NULL;
}

static const char *hear_piece(hnp_taking *taking, const hnp_frame *frame)
{
    if (!taking->answering || frame->size > taking->answer.size - taking->have) return "bytes that belong to no answer";
    memcpy(taking->bytes + taking->have, frame->body, frame->size);
    taking->have += frame->size;
    return NULL;
}

/* Rank 0 hears calls, the others answers. */
static const char *hear_call(hnp_world *w, int rank, int lane, const hnp_frame *frame, bool head)
{
    hnp_call call;
    const char *why;
    if (!head)
        why = hnp_hub_piece(&w->own.hub[lane], rank, frame->body, frame->size);
    else
        why = hnp_call_decode(&call, frame) ? hnp_hub_call(&w->own.hub[lane], rank, &call) : "a call that is none";
    if (!why) settle(w, lane);
    return why;
}

const char *hnp_calls_hear(hnp_world *w, int rank, const hnp_frame *frame)
{
    int lane = frame->type >= HNP_FRAME_WRITER_CALL;
    bool head = frame->type != in_lane(HNP_FRAME_PIECE, lane);
    hnp_taking *taking = &w->own.taking[lane];
    if (w->rank == 0) return hear_call(w, rank, lane, frame, head);
    const char *why = head ? hear_answer(w, lane, frame) : hear_piece(taking, frame);
    if (!why && taking->answering && taking->have == taking->answer.size) {
        hnp_taking whole = *taking;
        *taking = (hnp_taking){0};
        deliver(w, lane, whole.answer.status, whole.bytes, whole.have);
    }
    return why;
}
