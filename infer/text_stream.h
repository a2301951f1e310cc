/* The text of an answer while its tokens come, one by one.
 *
 *     text:   | given out | may be given out | held back |
 *
 * Held back are bytes that a later token may change (a character that is not whole yet, a row of single bytes that is not over) and
 * what may be the beginning of a stop string. What was given out is always valid UTF-8, and all of it together is what decoding
 * the whole answer gives, up to a stop string, which ends it and is left out. */
#ifndef HONE_INFER_TEXT_STREAM_H
#define HONE_INFER_TEXT_STREAM_H

#include <stdbool.h>

#include "core/error.h"
#include "core/strbuf.h"
#include "data/tokenizer.h"

typedef struct hn_text_stream {
    const hn_tokenizer *tokenizer;   /* borrowed */
    const char *const *stops;        /* borrowed */
    size_t stop_count;
    int32_t *ids; /* of the context, then of the answer */
    size_t count, capacity, context;
    hn_strbuf text; /* of all of them */
    size_t begin;   /* where the answer's begins */
    size_t given;   /* up to where it was given out */
    size_t ready;   /* up to where it may be */
    bool stopped;   /* a stop string came; `text` ends before it */
} hn_text_stream;

void hn_text_stream_init(hn_text_stream *stream, const hn_tokenizer *tokenizer, const char *const *stops, size_t stop_count);
void hn_text_stream_close(hn_text_stream *stream);
/* A new answer. It is decoded as what goes on from the context (the prompt, or nothing). */
hn_status hn_text_stream_begin(hn_text_stream *stream, const int32_t *context, size_t count, hn_error *error);
hn_status hn_text_stream_add(hn_text_stream *stream, int32_t id, hn_error *error);
/* No token comes any more: what was held back may be given out, up to a stop string. */
void hn_text_stream_end(hn_text_stream *stream);
/* What may be given out now and was not yet; it counts as given. Good until the next call. */
const char *hn_text_stream_take(hn_text_stream *stream, size_t *length);
/* The answer so far, held back or not. */
const char *hn_text_stream_answer(const hn_text_stream *stream, size_t *length);

#endif
