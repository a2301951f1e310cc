/* See text_stream.h. The whole sequence is decoded again at every token: decoders look at their neighbours (a blank is dropped
 * only at the beginning, bytes join to characters), and this way the text is what decoding the whole gives by definition. It
 * costs 40 microseconds at a thousand tokens, beside a forward of milliseconds.
 *
 * What a later token can change is at the end only. A character that lacks bytes is decoded as U+FFFD, so those at the end wait.
 * With byte fallback (Llama 2) a row of tokens <0xNN> is either the text of all its bytes or U+FFFD for each, so the text of a
 * row waits until another token has ended it. */
#include "infer/text_stream.h"

#include <string.h>

#include "core/mem.h"

#define REPLACEMENT "\xEF\xBF\xBD"

void hn_text_stream_init(hn_text_stream *stream, const hn_tokenizer *tokenizer, const char *const *stops, size_t stop_count)
{
    *stream = (hn_text_stream){.tokenizer = tokenizer, .stops = stops, .stop_count = stop_count};
    hn_strbuf_init(&stream->text);
}

void hn_text_stream_close(hn_text_stream *stream)
{
    hn_free(stream->ids);
    hn_strbuf_close(&stream->text);
    *stream = (hn_text_stream){0};
}

static hn_status add_id(hn_text_stream *stream, int32_t id, hn_error *error)
{
    void *ids = stream->ids;
    if (!hn_grow(&ids, &stream->capacity, stream->count + 1, sizeof *stream->ids))
        return hn_fail(error, HN_ERR_MEMORY, "out of memory for the text of %zu tokens", stream->count);
    stream->ids = ids;
    stream->ids[stream->count++] = id;
    return HN_OK;
}

static hn_status decode(hn_text_stream *stream, size_t count, hn_error *error)
{
    hn_strbuf_reset(&stream->text);
    return hn_tokenizer_decode(stream->tokenizer, &stream->text, stream->ids, count, true, error);
}

hn_status hn_text_stream_begin(hn_text_stream *stream, const int32_t *context, size_t count, hn_error *error)
{
    hn_status status = HN_OK;
    stream->count = stream->begin = stream->given = stream->ready = 0;
    stream->stopped = false;
    for (size_t i = 0; i < count && status == HN_OK; i++) status = add_id(stream, context[i], error);
    if (status == HN_OK) status = decode(stream, count, error);
    stream->context = count;
    stream->begin = stream->given = stream->ready = stream->text.length;
    return status;
}

static bool is_byte(const hn_text_stream *stream, int32_t id)
{
    const char *text = hn_tokenizer_token(stream->tokenizer, id);
    return text && strlen(text) == 6 && !memcmp(text, "<0x", 3) && text[5] == '>';
}

/* Up to where no later token changes the text. */
static hn_status find_settled(hn_text_stream *stream, size_t *settled, hn_error *error)
{
    size_t whole = stream->count, length = strlen(REPLACEMENT), end;
    while (whole > stream->context && is_byte(stream, stream->ids[whole - 1])) whole--;
    hn_status status = HN_OK;
    if (whole < stream->count) {
        status = decode(stream, whole, error);
        end = stream->text.length;
        if (status == HN_OK) status = decode(stream, stream->count, error);
    } else {
        end = stream->text.length;
    }
    while (end >= length && !memcmp(stream->text.text + end - length, REPLACEMENT, length)) end -= length;
    *settled = end;
    return status;
}

/* Cuts the text at the first stop string within `end`; else *ready is where one might begin at the end. */
static void look_for_stops(hn_text_stream *stream, size_t end, size_t *ready)
{
    size_t cut = SIZE_MAX, held = 0;
    const char *from = stream->text.text + stream->given;
    size_t length = end > stream->given ? end - stream->given : 0;
    for (size_t s = 0; s < stream->stop_count; s++) {
        size_t size = strlen(stream->stops[s]);
        const char *hit = length ? memmem(from, length, stream->stops[s], size) : NULL;
        if (hit && (size_t)(hit - from) < cut) cut = (size_t)(hit - from);
        size_t most = size - 1 < length ? size - 1 : length;
        while (most > held && memcmp(from + length - most, stream->stops[s], most)) most--;
        if (most > held) held = most;
    }
    *ready = stream->given + length - held;
    if (cut == SIZE_MAX) return;
    stream->stopped = true;
    stream->text.length = *ready = stream->given + cut;
    stream->text.text[stream->text.length] = '\0';
}

hn_status hn_text_stream_add(hn_text_stream *stream, int32_t id, hn_error *error)
{
    size_t settled = 0;
    HN_ASSERT(!stream->stopped);
    hn_status status = add_id(stream, id, error);
    if (status == HN_OK) status = decode(stream, stream->count, error);
    if (status == HN_OK) status = find_settled(stream, &settled, error);
    if (status == HN_OK) look_for_stops(stream, settled, &stream->ready);
    return status;
}

void hn_text_stream_end(hn_text_stream *stream)
{
    if (stream->stopped) return;
    look_for_stops(stream, stream->text.length, &stream->ready);
    stream->ready = stream->text.length;
}

const char *hn_text_stream_take(hn_text_stream *stream, size_t *length)
{
    const char *from = stream->text.text + stream->given;
    *length = stream->ready > stream->given ? stream->ready - stream->given : 0;
    stream->given += *length;
    return from;
}

const char *hn_text_stream_answer(const hn_text_stream *stream, size_t *length)
{
    size_t begin = stream->begin < stream->text.length ? stream->begin : stream->text.length;
    *length = stream->text.length - begin;
    return stream->text.text + begin;
}
