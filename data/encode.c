/* The encoder: a ring of slots between one reader and several encoding threads.
 *
 *     read rows -> [slot 0][slot 1] ... [slot k-1] -> append to the columns
 *                      encoded by whoever is free
 *
 * The calling thread fills slots with about a thousand rows each and appends finished ones, strictly in ring
 * order; when it can do neither it encodes one itself. Workers encode. So the columns are the same for any
 * number of threads, one thread needs no other, and memory is bounded by the ring. A slot goes EMPTY ->
 * FILLED -> TAKEN -> DONE -> EMPTY; its state is guarded by the mutex, its contents belong to whoever's turn
 * the state says. A row is one example or, when it is a document, as many blocks as it makes; a document too
 * short for one has nothing to learn, and what the tokenizer refuses is a bad row. */
#include "data/encode.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "core/batch.h"
#include "core/mem.h"
#include "core/pulse.h"
#include "core/threads.h"
#include "data/encoder.h"

#define SLOT_BYTES ((size_t)1 << 20)
#define MAX_THREADS 64

typedef struct pipeline {
    const hnp_encode_options *options;
    hnp_columns *columns;
    hnp_encode_counts *counts;
    hnp_source source;
    hnp_frame frame; /* of documents */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct hnp_slot *slots;
    size_t slot_count, fill, append, take; /* running numbers of slots: modulo slot_count */
    bool input_end, stop;
    int64_t tokens;
    int32_t files_seen;
} pipeline;

hn_status hnp_slot_tokens(struct hnp_slot *slot, const int32_t *ids, size_t count, bool wide)
{
    size_t size = wide ? 4 : 2;
    if (!hn_grow(&slot->tokens, &slot->token_capacity, slot->token_count + count, size))
        return hn_fail(&slot->error, HN_ERR_MEMORY, "encoding: out of memory");
    if (wide)
        memcpy((int32_t *)slot->tokens + slot->token_count, ids, count * size);
    else
        for (size_t i = 0; i < count; i++)
            ((uint16_t *)slot->tokens)[slot->token_count + i] = (uint16_t)ids[i];
    slot->token_count += count;
    return HN_OK;
}

hn_status hnp_slot_example(struct hnp_slot *slot, size_t item, size_t end, int32_t segment)
{
    void *examples = slot->examples;
    if (!hn_grow(&examples, &slot->example_capacity, slot->example_count + 1, sizeof *slot->examples))
        return hn_fail(&slot->error, HN_ERR_MEMORY, "encoding: out of memory");
    slot->examples = examples;
    slot->examples[slot->example_count++] = (struct hnp_example){(int64_t)end, segment, (int32_t)item};
    return HN_OK;
}

/* Appends one encoding as an example. */
static hn_status keep(struct hnp_slot *slot, size_t item, const hn_encoding *encoding, bool wide)
{
    size_t count = (size_t)encoding->count, first = 0;
    if (!count)
        return hn_fail(&slot->error, HN_ERR_FORMAT, "%s:%lld: expected at least one token, got none",
                       slot->items[item].path, (long long)slot->items[item].line);
    while (first < count && encoding->types[first] == 0) first++;
    for (size_t i = first; i < count; i++)
        if (encoding->types[i] != 1)
            return hn_fail(&slot->error, HN_ERR_UNSUPPORTED,
                           "tokenizer: expected segments 0 and then 1, got %d", (int)encoding->types[i]);
    hn_status status = hnp_slot_tokens(slot, encoding->ids, count, wide);
    return status ? status : hnp_slot_example(slot, item, slot->token_count, (int32_t)first);
}

static hn_status encode_texts(const hnp_encode_options *o, struct hnp_slot *slot, const struct hnp_item *item, int32_t max_tokens,
                              hn_encoding *encoding)
{
    const char *text = slot->texts.text + item->text,
               *pair = item->has_pair ? slot->texts.text + item->pair : NULL;
    if (o->whole_pairs && pair)
        return hn_tokenizer_encode_beside(o->tokenizer, encoding, text, item->text_length, pair, item->pair_length, max_tokens,
                                          &slot->error);
    return hn_tokenizer_encode(o->tokenizer, encoding, text, item->text_length, pair, item->pair_length, true, max_tokens,
                               &slot->error);
}

/* An example of just max_tokens may have been cut; one token more tells. */
static hn_status was_cut(const hnp_encode_options *o, struct hnp_slot *slot, const struct hnp_item *item,
                         hn_encoding *encoding)
{
    hn_status status = encode_texts(o, slot, item, o->max_tokens + 1, encoding);
    if (!status) slot->truncated += encoding->count > o->max_tokens;
    return status;
}

static hn_status encode_sequence(const pipeline *p, struct hnp_slot *slot, size_t number, hn_encoding *encoding)
{
    const hnp_encode_options *o = p->options;
    const struct hnp_item *item = &slot->items[number];
    hn_status status = encode_texts(o, slot, item, o->max_tokens, encoding);
    if (!status) status = keep(slot, number, encoding, p->columns->wide);
    if (!status && encoding->count == o->max_tokens) status = was_cut(o, slot, item, encoding);
    return status;
}

static hn_status encode_item(const pipeline *p, struct hnp_slot *slot, size_t number, hn_dialog *room)
{
    bool wide = p->columns->wide;
    switch (p->options->task) {
    case HN_DATA_SEQUENCE: return encode_sequence(p, slot, number, &room->encoding);
    case HN_DATA_TEXT:
    case HN_DATA_MASKED: return hnp_encode_document(p->options, &p->frame, slot, number, wide, &room->encoding);
    case HN_DATA_TAGS: return hnp_encode_words(p->options, &p->frame, slot, number, wide, &room->encoding);
    case HN_DATA_INSTRUCT: return hnp_encode_turns(p->options, slot, number, wide, room);
    }
    return HN_OK;
}

/* A row that the tokenizer refuses is a bad row: it leaves why, and is counted in its turn, when the slot is appended. */
static hn_status encode_or_refuse(const pipeline *p, struct hnp_slot *slot, size_t number, hn_dialog *room)
{
    struct hnp_item *item = &slot->items[number];
    size_t tokens = slot->token_count, examples = slot->example_count, marks = slot->mark_count;
    int64_t truncated = slot->truncated;
    hn_status status = encode_item(p, slot, number, room);
    if (status != HN_ERR_UNSUPPORTED) return status;
    slot->token_count = tokens;
    slot->example_count = examples;
    slot->mark_count = marks;
    slot->truncated = truncated;
    item->refused = true;
    item->refusal = slot->texts.length;
    hn_strbuf_add(&slot->texts, slot->error.message, strlen(slot->error.message) + 1);
    hn_error_reset(&slot->error);
    return slot->texts.failed ? hn_fail(&slot->error, HN_ERR_MEMORY, "encoding: out of memory") : HN_OK;
}

static void encode_slot(const pipeline *p, struct hnp_slot *slot, hn_dialog *room)
{
    hn_status status = HN_OK;
    slot->token_count = slot->example_count = slot->mark_count = 0;
    slot->truncated = 0;
    for (size_t i = 0; i < slot->count && !status; i++) status = encode_or_refuse(p, slot, i, room);
}

/* The label of a row into the item. *good: the row is an example. */
static hn_status take_label(pipeline *p, const hn_row *row, struct hnp_item *item, bool *good, hn_error *error)
{
    const hnp_encode_options *o = p->options;
    char expected[500];
    item->label = HN_NO_TARGET;
    item->value = 0;
    *good = true;
    if (!o->labels || o->task == HN_DATA_TAGS) return HN_OK;
    hn_label_kind kind = hn_labels_resolve(o->labels, row->label, &item->label, &item->value);
    *good = kind == HN_LABEL_CLASS || kind == HN_LABEL_VALUE;
    if (kind == HN_LABEL_VALUE) item->label = HN_NO_TARGET;
    p->counts->unlabeled += kind == HN_LABEL_NONE;
    if (kind != HN_LABEL_BAD) return HN_OK;
    hn_labels_describe(o->labels, expected, sizeof expected);
    return hn_bad_row(o->bad, HN_BAD_LABEL, row->path, row->line, error,
                      "field \"%s\": expected %s, got \"%.60s\"", o->label_field, expected, row->label);
}

static hn_status fill_slot(pipeline *p, struct hnp_slot *slot, hn_error *error)
{
    slot->count = slot->message_count = 0;
    hn_strbuf_reset(&slot->texts);
    while (slot->count < HNP_SLOT_ROWS && slot->texts.length < SLOT_BYTES) {
        hn_row row;
        bool good;
        hn_status status = p->source.next(p->source.state, &row, &p->input_end, error);
        if (status || p->input_end) return status;
        struct hnp_item *item = &slot->items[slot->count];
        bool tags = p->options->task == HN_DATA_TAGS;
        status = take_label(p, &row, item, &good, error);
        if (!status && tags) status = hnp_check_words(p->options, &row, &good, error);
        if (!status && good && p->options->task == HN_DATA_INSTRUCT)
            status = hnp_check_turns(p->options, &row, &good, error);
        if (status) return status;
        if (!good) continue;
        item->line = row.line;
        item->path = row.path;
        item->file = row.file;
        item->has_pair = row.pair != NULL;
        item->continues = row.continues;
        item->unfinished = row.unfinished;
        item->tokens = 0;
        item->refused = false;
        item->text = slot->texts.length;
        item->text_length = row.text_length;
        if (row.text) hn_strbuf_add(&slot->texts, row.text, row.text_length);
        item->pair = slot->texts.length;
        item->pair_length = row.pair ? row.pair_length : 0;
        if (row.pair) hn_strbuf_add(&slot->texts, row.pair, row.pair_length);
        if (slot->texts.failed || !hnp_take_turns(slot, item, &row, tags))
            return hn_fail(error, HN_ERR_MEMORY, "%s:%lld: out of memory", row.path, (long long)row.line);
        slot->count++;
    }
    return HN_OK;
}

static hn_status add_one(pipeline *p, int column, const void *value, hn_error *error)
{
    return hnp_column_add(&p->columns->column[column], value, 1, error);
}

/* The first examples of files up to and with `file`. */
static hn_status begin_files(pipeline *p, int32_t file, hn_error *error)
{
    hn_status status = HN_OK;
    int64_t example = (int64_t)p->columns->column[HNP_LINES].count;
    for (; p->files_seen <= file && !status; p->files_seen++) status = add_one(p, HNP_FIRST, &example, error);
    return status;
}

/* Rows that gave no example, and pieces of documents that were refused. */
static hn_status count_nothing(pipeline *p, const struct hnp_slot *slot, hn_error *error)
{
    hn_status status = HN_OK;
    size_t next = 0;
    for (size_t i = 0; i < slot->count && !status; i++) {
        const struct hnp_item *item = &slot->items[i];
        size_t before = next;
        while (next < slot->example_count && slot->examples[next].item == (int32_t)i) next++;
        if (item->refused) {
            status = hn_bad_row(p->options->bad, HN_BAD_REFUSED, item->path, item->line, error, "%s", slot->texts.text + item->refusal);
            continue;
        }
        if (next != before || item->continues) continue;
        switch (p->options->task) {
        case HN_DATA_INSTRUCT: status = hnp_count_turns(p->options, item, error); break;
        case HN_DATA_TAGS: status = hnp_count_words(p->options, item, error); break;
        default: status = hnp_count_document(p->options, item, error);
        }
    }
    return status;
}

static hn_status append_slot(pipeline *p, struct hnp_slot *slot, hn_error *error)
{
    if (slot->error.status) {
        if (error && !error->status) *error = slot->error;
        return slot->error.status;
    }
    hnp_column *columns = p->columns->column;
    if (columns[HNP_LINES].count + slot->example_count > UINT32_MAX)
        return hn_fail(error, HN_ERR_UNSUPPORTED, "data: expected at most %u examples, got more", UINT32_MAX);
    hn_status status = hnp_column_add(&columns[HNP_TOKENS], slot->tokens, slot->token_count, error);
    if (!status) status = hnp_column_add(&columns[HNP_MARKS], slot->marks, slot->mark_count, error);
    if (!status) status = count_nothing(p, slot, error);
    for (size_t i = 0; i < slot->example_count && !status; i++) {
        const struct hnp_example *example = &slot->examples[i];
        const struct hnp_item *item = &slot->items[example->item];
        int64_t end = p->tokens + example->end;
        status = begin_files(p, item->file, error);
        if (!status) status = add_one(p, HNP_OFFSETS, &end, error);
        if (!status) status = add_one(p, HNP_SEGMENT, &example->segment, error);
        if (!status) status = add_one(p, HNP_LABELS, &item->label, error);
        if (!status) status = add_one(p, HNP_VALUES, &item->value, error);
        if (!status) status = add_one(p, HNP_LINES, &item->line, error);
    }
    p->tokens += (int64_t)slot->token_count;
    p->counts->truncated += slot->truncated;
    return status;
}

/* Under the mutex: the oldest filled slot becomes the caller's; NULL: none. */
static struct hnp_slot *take_filled(pipeline *p)
{
    if (p->take == p->fill) return NULL;
    struct hnp_slot *slot = &p->slots[p->take++ % p->slot_count];
    slot->state = TAKEN;
    return slot;
}

static void encode_taken(pipeline *p, struct hnp_slot *slot, hn_dialog *room)
{
    pthread_mutex_unlock(&p->mutex);
    encode_slot(p, slot, room);
    pthread_mutex_lock(&p->mutex);
    slot->state = DONE;
    pthread_cond_broadcast(&p->changed);
}

static void *work(void *argument)
{
    pipeline *p = argument;
    hn_dialog room;
    hn_dialog_init(&room);
    pthread_mutex_lock(&p->mutex);
    while (!p->stop) {
        struct hnp_slot *slot = take_filled(p);
        if (slot)
            encode_taken(p, slot, &room);
        else
            pthread_cond_wait(&p->changed, &p->mutex);
    }
    pthread_mutex_unlock(&p->mutex);
    hn_dialog_close(&room);
    return NULL;
}

/* One move of the calling thread, under the mutex, which is left while it works: append, else fill, else
 * encode, else wait. *finished: all is appended. */
static hn_status move(pipeline *p, hn_dialog *room, bool *finished, hn_error *error)
{
    struct hnp_slot *next = &p->slots[p->append % p->slot_count], *filled;
    hn_status status = HN_OK;
    *finished = p->input_end && p->append == p->fill;
    if (*finished) return HN_OK;
    hn_pulse(p->options->pulse);
    if (p->append < p->fill && next->state == DONE) {
        pthread_mutex_unlock(&p->mutex);
        status = append_slot(p, next, error);
        pthread_mutex_lock(&p->mutex);
        next->state = EMPTY;
        p->append++;
    } else if (!p->input_end && p->fill - p->append < p->slot_count) {
        struct hnp_slot *empty = &p->slots[p->fill % p->slot_count];
        pthread_mutex_unlock(&p->mutex);
        status = fill_slot(p, empty, error);
        pthread_mutex_lock(&p->mutex);
        empty->state = FILLED;
        p->fill++;
        pthread_cond_broadcast(&p->changed);
    } else if ((filled = take_filled(p))) {
        encode_taken(p, filled, room);
    } else {
        pthread_cond_wait(&p->changed, &p->mutex);
    }
    return status;
}

static int cores(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

static hn_status run(pipeline *p, int threads, hn_error *error)
{
    pthread_t workers[MAX_THREADS];
    int started = 0;
    hn_dialog room;
    hn_dialog_init(&room);
    /* A thread that cannot start is one thread less; the caller alone is enough. */
    while (started < threads - 1 && !hn_thread_start(&workers[started], work, p)) started++;
    bool finished = false;
    hn_status status = HN_OK;
    pthread_mutex_lock(&p->mutex);
    while (!finished && !status) status = move(p, &room, &finished, error);
    p->stop = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->mutex);
    while (started) pthread_join(workers[--started], NULL);
    hn_dialog_close(&room);
    return status;
}

hn_status hnp_encode(hnp_columns *columns, hnp_encode_counts *counts, hnp_source source,
                     const hnp_encode_options *options, hn_error *error)
{
    int threads = options->threads > 0 ? options->threads : cores();
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    pipeline p = {.options = options,
                  .columns = columns,
                  .counts = counts,
                  .source = source,
                  .mutex = PTHREAD_MUTEX_INITIALIZER,
                  .changed = PTHREAD_COND_INITIALIZER,
                  .slot_count = threads == 1 ? 1 : 2 * (size_t)threads};
    p.slots = hn_calloc(p.slot_count, sizeof *p.slots);
    if (!p.slots) return hn_fail(error, HN_ERR_MEMORY, "encoding: out of memory");
    for (size_t i = 0; i < p.slot_count; i++) hn_strbuf_init(&p.slots[i].texts);
    int64_t zero = 0;
    hn_status status = add_one(&p, HNP_OFFSETS, &zero, error);
    if (!status && (options->task == HN_DATA_TEXT || options->task == HN_DATA_MASKED || options->task == HN_DATA_TAGS))
        status = hnp_frame_measure(&p.frame, options->tokenizer, error);
    if (!status) status = run(&p, threads, error);
    if (!status) status = begin_files(&p, options->files, error);
    for (size_t i = 0; i < p.slot_count; i++) {
        hn_strbuf_close(&p.slots[i].texts);
        hn_free(p.slots[i].tokens);
        hn_free(p.slots[i].examples);
        hn_free(p.slots[i].messages);
        hn_free(p.slots[i].views);
        hn_free(p.slots[i].marks);
    }
    hn_free(p.slots);
    return status;
}
