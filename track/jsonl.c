/* metrics.jsonl. A line is there whole or not at all: what a full disk tore is cut off again, and what a kill tore is
 * dropped by the next open. A line that the disk refuses waits in memory, and those behind it too, so that a run whose
 * disk was full for a while has the log of one whose disk never was; only a megabyte of them is kept. Numbers have
 * nine digits, which is a float exactly.
 *
 * A run that goes on repeats the steps after its checkpoint, so their events are cut before it starts. The
 * cut file takes the old one's place by the commit protocol: a kill in between leaves one or the other.
 * Damaged lines (zeros after a power cut, a hand's edit) are dropped by the same rule, since a log must not
 * keep a run from going on. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "core/strbuf.h"
#include "track/event.h"

#define MOST_WAITING ((size_t)1 << 20) /* bytes, and a line */

typedef struct jsonl {
    char *path;
    int fd;
    off_t length; /* of whole lines in the file */
    bool torn;    /* half a line stands behind them, which could not be cut off */
    hn_strbuf line;
    hn_strbuf waiting; /* whole lines that are not in the file yet */
    hn_log_counts counts;
} jsonl;

/* Whether one line (without its newline) is an event up to `cut_step`. */
static hn_status keeps(bool *keep, const char *line, size_t length, int64_t cut_step, hn_error *error)
{
    json_t *value = NULL;
    hn_error ignored = {0};
    *keep = false;
    hn_status status = hn_json_parse(&value, line, length, "metrics", HN_JSON_LIMITS_SMALL, &ignored);
    if (status == HN_ERR_MEMORY) return hn_fail(error, status, "%s", ignored.message);
    if (status != HN_OK) return HN_OK;
    const json_t *step = json_object_get(value, "step");
    *keep = json_is_integer(step) && json_integer_value(step) <= cut_step;
    json_decref(value);
    return HN_OK;
}

/* Copies the lines to keep through `writer`, at most `lines`, and counts them in *kept. */
static hn_status copy_kept(int64_t *kept, hn_writer *writer, const char *path, int64_t cut_step, int64_t lines,
                           hn_error *error)
{
    hn_mapping old;
    hn_status status = hn_mapping_open(&old, path, error);
    if (status != HN_OK) return status;
    const char *line = (const char *)old.bytes, *end = line + old.size, *newline;
    while (status == HN_OK && *kept < lines && line < end && (newline = memchr(line, '\n', (size_t)(end - line)))) {
        bool keep;
        status = keeps(&keep, line, (size_t)(newline - line), cut_step, error);
        if (status == HN_OK && keep) {
            status = hn_writer_add(writer, line, (size_t)(newline + 1 - line), error);
            ++*kept;
        }
        line = newline + 1;
    }
    hn_mapping_close(&old);
    return status;
}

static hn_status cut(int64_t *kept, const char *path, int64_t cut_step, int64_t lines, hn_error *error)
{
    hn_writer writer;
    hn_status status = hn_writer_open(&writer, path, error);
    if (status != HN_OK) return status;
    if (cut_step >= 0 && hn_path_exists(path)) status = copy_kept(kept, &writer, path, cut_step, lines, error);
    if (status == HN_OK) status = hn_writer_commit(&writer, error);
    hn_writer_close(&writer);
    return status;
}

static void add_field(hn_strbuf *line, const hn_field *field)
{
    hn_strbuf_puts(line, ", ");
    hn_json_quote(line, field->name, strlen(field->name));
    hn_strbuf_puts(line, ": ");
    switch (field->kind) {
    case HN_FIELD_INT: hn_strbuf_printf(line, "%lld", (long long)field->integer); break;
    case HN_FIELD_FLOAT:
        if (isfinite(field->number))
            hn_strbuf_printf(line, "%.9g", field->number);
        else
            hn_strbuf_puts(line, "null");
        break;
    case HN_FIELD_TEXT: hn_json_quote(line, field->text, strlen(field->text)); break;
    case HN_FIELD_JSON: /* a newline in JSON is only ever space between values */
        for (const char *c = field->text; *c; c++) hn_strbuf_putc(line, *c == '\n' ? ' ' : *c);
        break;
    }
}

/* The first `done` bytes of what waited were written; half a line at their end is cut off again. */
static void count_written(jsonl *log, size_t done, hn_error *error)
{
    size_t whole = done;
    while (whole && log->waiting.text[whole - 1] != '\n') whole--;
    for (size_t i = 0; i < whole; i++) log->counts.written += log->waiting.text[i] == '\n';
    for (size_t i = 0; i < whole; i++) log->counts.waiting -= log->waiting.text[i] == '\n';
    log->length += (off_t)whole;
    log->torn = whole < done && ftruncate(log->fd, log->length);
    if (log->torn) hn_fail_errno(error, "%s: cannot cut off half a line", log->path);
    log->waiting.length -= whole;
    memmove(log->waiting.text, log->waiting.text + whole, log->waiting.length + 1);
}

static hn_status write_waiting(jsonl *log, hn_error *error)
{
    size_t done = 0;
    hn_status status = HN_OK;
    if (!log->waiting.length) return HN_OK;
    if (log->torn && ftruncate(log->fd, log->length)) return hn_fail_errno(error, "%s: cannot cut off half a line", log->path);
    while (status == HN_OK && done < log->waiting.length) {
        ssize_t wrote = hn_file_calls.write(log->fd, log->waiting.text + done, log->waiting.length - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote > 0) {
            done += (size_t)wrote;
            continue;
        }
        status = wrote < 0 ? hn_fail_errno(error, "%s: cannot write", log->path)
                           : hn_fail(error, HN_ERR_IO, "%s: the disk takes no more bytes", log->path);
    }
    count_written(log, done, error);
    return status;
}

static hn_status jsonl_emit(hn_sink *sink, const hn_event *event, hn_error *error)
{
    jsonl *log = sink->state;
    hn_strbuf_reset(&log->line);
    hn_strbuf_puts(&log->line, "{\"event\": ");
    hn_json_quote(&log->line, event->kind, strlen(event->kind));
    hn_strbuf_printf(&log->line, ", \"step\": %lld", (long long)event->step);
    for (size_t i = 0; i < event->count; i++) add_field(&log->line, &event->fields[i]);
    hn_strbuf_puts(&log->line, "}\n");
    if (log->waiting.length >= MOST_WAITING) {
        hn_status status = write_waiting(log, error);
        log->counts.lost += status != HN_OK;
        if (status != HN_OK) return status;
    }
    if (!log->line.failed) hn_strbuf_add(&log->waiting, log->line.text, log->line.length);
    bool failed = log->line.failed || log->waiting.failed;
    log->waiting.failed = false; /* it holds what it held */
    if (failed)
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for a line", log->path);
    log->counts.waiting++;
    return write_waiting(log, error);
}

static hn_status jsonl_settle(hn_sink *sink, hn_error *error)
{
    return write_waiting(sink->state, error);
}

static hn_status jsonl_flush(hn_sink *sink, hn_error *error)
{
    jsonl *log = sink->state;
    return hn_file_calls.fsync(log->fd) ? hn_fail_errno(error, "%s: cannot sync to the disk", log->path)
                                        : HN_OK;
}

static void jsonl_close(hn_sink *sink)
{
    jsonl *log = sink->state;
    if (log->fd >= 0) hn_file_calls.close(log->fd);
    hn_strbuf_close(&log->line);
    hn_strbuf_close(&log->waiting);
    hn_free(log->path);
    hn_free(log);
    hn_free(sink);
}

hn_status hn_sink_jsonl_open(hn_sink **out, const char *path, int64_t cut_step, int64_t lines, hn_error *error)
{
    struct stat info;
    hn_status status = HN_OK;
    hn_sink *sink = hn_malloc(sizeof *sink);
    jsonl *log = hn_malloc(sizeof *log);
    if (!sink || !log) {
        hn_free(sink);
        hn_free(log);
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", path);
    }
    *log = (jsonl){.fd = -1, .path = hn_strdup(path)};
    hn_strbuf_init(&log->line);
    hn_strbuf_init(&log->waiting);
    *sink = (hn_sink){.state = log, .log = true, .emit = jsonl_emit, .settle = jsonl_settle, .flush = jsonl_flush,
                      .close = jsonl_close};
    status =
        log->path ? cut(&log->counts.written, path, cut_step, lines, error) : hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", path);
    if (status != HN_OK) goto out;
    log->fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (log->fd < 0 || fstat(log->fd, &info)) {
        status = hn_fail_errno(error, "%s: cannot open to append", path);
        goto out;
    }
    log->length = info.st_size;
    *out = sink;
    return HN_OK;
out:
    jsonl_close(sink);
    return status;
}

hn_log_counts hn_sink_jsonl_counts(const hn_sink *sink)
{
    return ((const jsonl *)sink->state)->counts;
}
