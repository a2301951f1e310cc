/* What a person sees. On a terminal the last step is one live line, which is drawn over; every other event is
 * a line above it that stays. Without a terminal (a file, a batch system's log) each step is a line of its
 * own and no control byte is ever written.
 *
 *     step 250: eval dev: loss 0.7041, accuracy 0.7071, macro_f1 0.7050 (best so far)
 *     step 250: sample 1: Why do cats purr?
 *         answer:    Ahoy, friend! ...
 *         reference: Ahoy, friend! ...
 *     epoch 1.25 | step 300 of 1200 | loss 0.6123 | lr 9.2e-05 | 412 pairs/s | 15.8k tokens/s | 2m 05s left
 *
 * An event's text is built first and written by one call, so that lines of other threads do not cut it. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/mem.h"
#include "core/strbuf.h"
#include "track/event.h"

typedef struct terminal {
    int fd;
    bool live, colour;
    hn_strbuf now, text; /* the live line; what the next write sends */
} terminal;

#define CLEAR_LINE "\r\033[K"
#define GREEN "\033[32m"
#define YELLOW "\033[33m"
#define PLAIN "\033[0m"

static const hn_field *find(const hn_event *event, const char *name)
{
    for (size_t i = 0; i < event->count; i++)
        if (!strcmp(event->fields[i].name, name)) return &event->fields[i];
    return NULL;
}

/* Names and paths come from files: bytes that could drive the terminal are masked. */
static void add_text(hn_strbuf *out, const char *text)
{
    for (; *text; text++) {
        bool control = (unsigned char)*text < 0x20 || *text == 0x7f;
        hn_strbuf_putc(out, control ? '?' : *text);
    }
}

static void add_number(hn_strbuf *out, double value)
{
    bool tiny = value != 0 && fabs(value) < 1e-3;
    hn_strbuf_printf(out, tiny || fabs(value) >= 1e6 ? "%.3e" : "%.4f", value);
}

static void add_value(hn_strbuf *out, const hn_field *field)
{
    switch (field->kind) {
    case HN_FIELD_INT: hn_strbuf_printf(out, "%lld", (long long)field->integer); break;
    case HN_FIELD_FLOAT: add_number(out, field->number); break;
    default: add_text(out, field->text);
    }
}

static void add_rate(hn_strbuf *out, double rate, const char *unit)
{
    if (rate >= 1e6)
        hn_strbuf_printf(out, " | %.2fM %s", rate / 1e6, unit);
    else if (rate >= 1e4)
        hn_strbuf_printf(out, " | %.1fk %s", rate / 1e3, unit);
    else
        hn_strbuf_printf(out, rate < 10 ? " | %.1f %s" : " | %.0f %s", rate, unit);
}

static void add_duration(hn_strbuf *out, double seconds)
{
    long long s = seconds > 0 && seconds < 1e12 ? llround(seconds) : 0;
    if (s >= 86400)
        hn_strbuf_printf(out, " | %lldd %02lldh left", s / 86400, s / 3600 % 24);
    else if (s >= 3600)
        hn_strbuf_printf(out, " | %lldh %02lldm left", s / 3600, s / 60 % 60);
    else if (s >= 60)
        hn_strbuf_printf(out, " | %lldm %02llds left", s / 60, s % 60);
    else
        hn_strbuf_printf(out, " | %llds left", s);
}

/* The line of a step, of the fields that it has. */
static void add_step(hn_strbuf *out, const hn_event *event)
{
    const hn_field *epoch = find(event, "epoch"), *steps = find(event, "steps"), *loss = find(event, "loss"),
                   *lr = find(event, "lr"), *pairs = find(event, "pairs_per_second"),
                   *tokens = find(event, "tokens_per_second"), *left = find(event, "time_left");
    if (epoch) hn_strbuf_printf(out, "epoch %.2f | ", epoch->number);
    hn_strbuf_printf(out, "step %lld", (long long)event->step);
    if (steps) hn_strbuf_printf(out, " of %lld", (long long)steps->integer);
    if (loss) hn_strbuf_puts(out, " | loss ");
    if (loss) add_number(out, loss->number);
    if (lr) hn_strbuf_printf(out, " | lr %.2g", lr->number);
    if (pairs) add_rate(out, pairs->number, "pairs/s");
    if (tokens) add_rate(out, tokens->number, "tokens/s");
    if (left) add_duration(out, left->number);
}

static void add_eval(hn_strbuf *out, const hn_event *event)
{
    const hn_field *set = find(event, "set"), *best = find(event, "best");
    const char *before = ": ";
    hn_strbuf_puts(out, "eval");
    if (set) hn_strbuf_putc(out, ' ');
    if (set) add_text(out, set->text);
    for (size_t i = 0; i < event->count; i++) {
        const hn_field *field = &event->fields[i];
        if (field->kind != HN_FIELD_FLOAT || !strcmp(field->name, "time")) continue;
        hn_strbuf_printf(out, "%s%s ", before, field->name);
        add_number(out, field->number);
        before = ", ";
    }
    if (best && best->integer) hn_strbuf_puts(out, " (best so far)");
}

/* Text of a model or of data on one line: white space is one blank, what could drive a terminal is masked. */
static void add_line(hn_strbuf *out, const char *text)
{
    bool blank = false;
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        bool second = *c == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0; /* U+0080 to U+009F */
        bool space = *c == ' ' || (*c >= '\t' && *c <= '\r');
        if (blank && !space) hn_strbuf_putc(out, ' ');
        if (!space) hn_strbuf_putc(out, second || *c < 0x20 || *c == 0x7f ? '?' : (char)*c);
        blank = space && out->length > 0;
        c += second;
    }
}

static bool inside_character(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

/* A text of the event on a line: of more than `most` bytes the beginning, or of a prompt the end, and an ellipsis for what is
 * left out; `open` puts one behind it in any case. */
static void add_excerpt(hn_strbuf *out, const hn_field *field, size_t most, bool prompt, bool open)
{
    hn_strbuf line;
    size_t from = 0;
    hn_strbuf_init(&line);
    add_line(&line, field->text);
    size_t to = line.length;
    if (line.length > most && prompt) from = line.length - most;
    if (line.length > most && !prompt) to = most;
    while (from > 0 && from < line.length && inside_character(line.text[from])) from++;
    while (to > 0 && to < line.length && inside_character(line.text[to])) to--;
    if (from > 0) hn_strbuf_puts(out, "…");
    hn_strbuf_add(out, line.text + from, to - from);
    if (to < line.length || open) hn_strbuf_puts(out, "…");
    hn_strbuf_close(&line);
}

/* The question, what the model answers, and what the data have instead. */
static void add_sample(hn_strbuf *out, const hn_event *event)
{
    const hn_field *number = find(event, "number"), *prompt = find(event, "prompt"), *answer = find(event, "answer"),
                   *reference = find(event, "reference"), *finish = find(event, "finish");
    hn_strbuf_puts(out, "sample");
    if (number) hn_strbuf_printf(out, " %lld", (long long)number->integer);
    if (prompt) hn_strbuf_puts(out, ": ");
    if (prompt) add_excerpt(out, prompt, 160, true, false);
    if (answer) hn_strbuf_puts(out, "\n    answer:    ");
    if (answer) add_excerpt(out, answer, 320, false, finish && strcmp(finish->text, "stop") != 0);
    if (reference) hn_strbuf_puts(out, "\n    reference: ");
    if (reference) add_excerpt(out, reference, 320, false, false);
}

/* "name value, name value" of the fields that are not JSON; the clock is for the log only. */
static void add_fields(hn_strbuf *out, const hn_event *event, const char *between)
{
    const char *before = "";
    for (size_t i = 0; i < event->count; i++) {
        const hn_field *field = &event->fields[i];
        if (field->kind == HN_FIELD_JSON || !strcmp(field->name, "time")) continue;
        hn_strbuf_printf(out, "%s%s ", before, field->name);
        add_value(out, field);
        before = between;
    }
}

static void add_named(hn_strbuf *out, const hn_event *event, const char *name)
{
    const hn_field *field = find(event, name);
    if (field) add_value(out, field);
}

/* A step that was no good, and how many there were. */
static void add_bad_step(hn_strbuf *out, const hn_event *event, const char *what)
{
    hn_strbuf_puts(out, what);
    add_named(out, event, "reason");
    const hn_field *count = find(event, "in_a_row");
    if (count && count->integer > 1) hn_strbuf_printf(out, " (%lld in a row)", (long long)count->integer);
}

/* Of a checkpoint that is safe: its size, how long it took, and what of that training waited. */
static void add_checkpoint(hn_strbuf *out, const hn_event *event)
{
    const hn_field *bytes = find(event, "bytes"), *seconds = find(event, "seconds"), *held = find(event, "held");
    hn_strbuf_puts(out, "saved");
    if (bytes) hn_strbuf_printf(out, " %.1f MB", 1e-6 * (double)bytes->integer);
    if (seconds) hn_strbuf_printf(out, " in %.2f s", seconds->number);
    if (held) hn_strbuf_printf(out, ", training waited %.0f ms", 1e3 * held->number);
}

/* The line of any event but a step. */
static void add_event(hn_strbuf *out, const hn_event *event)
{
    const char *kind = event->kind;
    if (!strcmp(kind, "start")) {
        add_fields(out, event, "\n");
        return;
    }
    hn_strbuf_printf(out, "step %lld: ", (long long)event->step);
    if (!strcmp(kind, "eval")) {
        add_eval(out, event);
    } else if (!strcmp(kind, "sample")) {
        add_sample(out, event);
    } else if (!strcmp(kind, "checkpoint")) {
        add_checkpoint(out, event);
    } else if (!strcmp(kind, "unfreeze")) {
        add_named(out, event, "group");
        hn_strbuf_puts(out, " trains from here");
    } else if (!strcmp(kind, "bad_step")) {
        add_bad_step(out, event, "skipped: ");
    } else if (!strcmp(kind, "spike")) {
        add_bad_step(out, event, "spike: ");
    } else if (!strcmp(kind, "warning")) {
        hn_strbuf_puts(out, "warning: ");
        add_named(out, event, "message");
    } else if (!strcmp(kind, "stop")) {
        hn_strbuf_puts(out, "stopped: ");
        add_named(out, event, "reason");
    } else {
        add_text(out, kind);
        hn_strbuf_putc(out, ' ');
        add_fields(out, event, ", ");
    }
}

static const char *colour_of(const hn_event *event)
{
    const hn_field *best = find(event, "best");
    if (!strcmp(event->kind, "warning") || !strcmp(event->kind, "bad_step") || !strcmp(event->kind, "spike")) return YELLOW;
    return best && best->integer ? GREEN : NULL;
}

/* The live line, cut to the terminal's width, since a wrapped line cannot be drawn over. It is ASCII: a byte
 * a column. */
static void draw_live(terminal *t)
{
    struct winsize size;
    size_t width = !ioctl(t->fd, TIOCGWINSZ, &size) && size.ws_col > 1 ? size.ws_col - 1u : 79;
    hn_strbuf_add(&t->text, t->now.text, t->now.length < width ? t->now.length : width);
}

/* A terminal that takes no bytes is no reason to stop training: what it refuses is dropped. */
static void send_text(terminal *t)
{
    const char *next = t->text.text;
    size_t left = t->text.failed ? 0 : t->text.length;
    while (left) {
        ssize_t done = write(t->fd, next, left);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return;
        next += done;
        left -= (size_t)done;
    }
}

static hn_status terminal_emit(hn_sink *sink, const hn_event *event, hn_error *error)
{
    terminal *t = sink->state;
    bool step = !strcmp(event->kind, "step");
    (void)error;
    hn_strbuf_reset(&t->text);
    if (t->live) hn_strbuf_puts(&t->text, CLEAR_LINE);
    if (step && t->live) {
        hn_strbuf_reset(&t->now);
        add_step(&t->now, event);
    } else {
        const char *colour = t->colour ? colour_of(event) : NULL;
        if (colour) hn_strbuf_puts(&t->text, colour);
        if (step)
            add_step(&t->text, event);
        else
            add_event(&t->text, event);
        if (colour) hn_strbuf_puts(&t->text, PLAIN);
        hn_strbuf_putc(&t->text, '\n');
    }
    if (t->live) draw_live(t);
    send_text(t);
    return HN_OK;
}

static void terminal_close(hn_sink *sink)
{
    terminal *t = sink->state;
    hn_strbuf_reset(&t->text);
    if (t->now.length) hn_strbuf_putc(&t->text, '\n'); /* the last step stays */
    send_text(t);
    hn_strbuf_close(&t->now);
    hn_strbuf_close(&t->text);
    hn_free(t);
    hn_free(sink);
}

hn_status hn_sink_terminal_open(hn_sink **out, int fd, int live, int colour, hn_error *error)
{
    hn_sink *sink = hn_malloc(sizeof *sink);
    terminal *t = hn_malloc(sizeof *t);
    if (!sink || !t) {
        hn_free(sink);
        hn_free(t);
        return hn_fail(error, HN_ERR_MEMORY, "out of memory for the terminal's lines");
    }
    *t = (terminal){.fd = fd, .live = live != 0, .colour = colour != 0};
    hn_strbuf_init(&t->now);
    hn_strbuf_init(&t->text);
    *sink = (hn_sink){.state = t, .emit = terminal_emit, .close = terminal_close};
    *out = sink;
    return HN_OK;
}
