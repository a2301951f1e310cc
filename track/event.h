/* An event is a name and numbers; the loop hands it to a list of sinks and knows none of them. */
#ifndef HONE_TRACK_EVENT_H
#define HONE_TRACK_EVENT_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

typedef struct hn_field {
    const char *name;
    enum { HN_FIELD_INT, HN_FIELD_FLOAT, HN_FIELD_TEXT, HN_FIELD_JSON } kind;
    int64_t integer;
    double number;    /* NaN and Inf become null in JSON */
    const char *text; /* TEXT, or a JSON value as text */
} hn_field;

typedef struct hn_event {
    const char *kind; /* "start", "step", "eval", "checkpoint", "unfreeze", "bad_step", "stop", ... */
    int64_t step;
    const hn_field *fields;
    size_t count;
} hn_event;

typedef struct hn_sink hn_sink;
struct hn_sink {
    void *state;
    hn_status (*emit)(hn_sink *sink, const hn_event *event, hn_error *error);
    void (*close)(hn_sink *sink);
};

typedef struct hn_sinks {
    hn_sink *items[8];
    size_t count;
} hn_sinks;

/* To every sink, in order. A sink that fails is reported by its own means; the first error is returned. */
hn_status hn_sinks_emit(hn_sinks *sinks, const hn_event *event, hn_error *error);
void hn_sinks_close(hn_sinks *sinks);

/* metrics.jsonl: one event a line, whole lines only. Opening with cut_step >= 0 drops the events after that step (resume). */
hn_status hn_sink_jsonl_open(hn_sink **out, const char *path, int64_t cut_step, hn_error *error);
/* The terminal: one live line when `live` (a terminal), plain lines otherwise; to stderr. Colours only when `colour`. */
hn_status hn_sink_terminal_open(hn_sink **out, int fd, int live, int colour, hn_error *error);

#endif
