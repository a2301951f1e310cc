/* An event is a name and numbers; the loop hands it to a list of sinks and knows none of them. */
#ifndef HONE_TRACK_EVENT_H
#define HONE_TRACK_EVENT_H

#include <stdbool.h>
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

/* Events and their fields, as metrics.jsonl has them and the terminal knows them; a sink takes any other kind too.
 *
 *     start       texts that describe the run
 *     step        epoch, steps (total), loss, lr, grad_norm, pairs_per_second, tokens_per_second, time_left, time, held
 *     eval        set (text), loss, accuracy, macro_f1, ..., best (0 or 1)
 *     sample      number (from 1), prompt, answer, finish (why it ended), tokens; reference and row, when it is from data
 *     checkpoint  bytes, seconds, held (shown, in no log)
 *     unfreeze    group         bad_step  reason, in_a_row
 *     spike       reason, loss, grad_norm, in_a_row
 *     warning     message       stop      reason
 *
 * Rates are per second, times in seconds; `time` counts from the start of the run, `held` is what training
 * waited for saves. */
typedef struct hn_event {
    const char *kind; /* "start", "step", "eval", "checkpoint", "unfreeze", "bad_step", "stop", ... */
    int64_t step;
    const hn_field *fields;
    size_t count;
} hn_event;

typedef struct hn_sink hn_sink;
struct hn_sink {
    void *state;
    bool log; /* of the run: a resume cuts it to what the checkpoint knows, so nothing stands in it that depends on time alone */
    hn_status (*emit)(hn_sink *sink, const hn_event *event, hn_error *error);
    hn_status (*settle)(hn_sink *sink, hn_error *error); /* NULL: nothing ever waits */
    hn_status (*flush)(hn_sink *sink, hn_error *error); /* NULL: nothing to flush; may run on a thread while another one emits */
    void (*close)(hn_sink *sink);                       /* frees the sink too */
};

typedef struct hn_sinks {
    hn_sink *items[8];
    size_t count;
} hn_sinks;

/* To every sink, in order, also behind one that failed; the first error is returned. */
hn_status hn_sinks_emit(hn_sinks *sinks, const hn_event *event, hn_error *error);
/* The same to those that are no log: what comes sooner or later as the disk is fast, and tells a person something. */
hn_status hn_sinks_show(hn_sinks *sinks, const hn_event *event, hn_error *error);
/* Writes what was emitted and could not be written then; the first error is returned. */
hn_status hn_sinks_settle(hn_sinks *sinks, hn_error *error);
/* What was written is on the disk after this. May run on a thread while another one emits. Called before a checkpoint takes its name, so that no checkpoint is ahead of
 * its log. */
hn_status hn_sinks_flush(hn_sinks *sinks, hn_error *error);
void hn_sinks_close(hn_sinks *sinks);

/* metrics.jsonl: one event a line, whole lines only: {"event": kind, "step": n, fields...}. Opening with cut_step >= 0 keeps
 * the whole lines of events up to that step, the first `lines` of them at most, and drops everything else (resume; what was
 * logged at that step behind the checkpoint will be logged again); with -1 it drops all. A line that could not be written is
 * taken back whole, its error returned, and it waits in memory to be written before the next one, or by settle; beyond a
 * megabyte of them further lines are lost. */
hn_status hn_sink_jsonl_open(hn_sink **out, const char *path, int64_t cut_step, int64_t lines, hn_error *error);

/* Lines in the file, those kept by the cut among them; lines that wait; lines lost since it was opened. */
typedef struct hn_log_counts {
    int64_t written, waiting, lost;
} hn_log_counts;
hn_log_counts hn_sink_jsonl_counts(const hn_sink *sink);
/* The terminal: one live line when `live` (a terminal), plain lines otherwise; to stderr. Colours only when `colour`. A
 * terminal that went away is no error: training goes on. `fd` stays the caller's. */
hn_status hn_sink_terminal_open(hn_sink **out, int fd, int live, int colour, hn_error *error);

#endif
