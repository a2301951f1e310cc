/* See regex.h. Compiled once per tokenizer and read by all threads; what a match writes to is the thread's
 * own.
 *
 * Match limits bound what a hostile pattern ((a+)+$ on a long text) costs in one call; PCRE2's JIT counts other events
 * than its interpreter does, but stops as well. They see neither what a loop reads forward ((?=a*b)a on a million of a
 * reads half a million millions) nor what all calls on a text come to. So a callout stands behind every quantifier, every group and
 * every "|", where it costs some nanoseconds, and counts the bytes from the place of the one before, or from where this
 * match was begun: a text has a fixed number of them for each of its bytes. What passes no callout is no longer than
 * the pattern, or one {n} of it.
 *
 * In Ruby's syntax ^ and $ always stand for the ends of lines,
 * and only LF ends a line. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/regex.h"

#include <pcre2.h>
#include <string.h>

#include "core/mem.h"
#include "core/strbuf.h"

#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define MATCH_LIMIT 1000000
#define STEPS ((size_t)1000000)
#define STEPS_A_BYTE 256
#define HEAP_LIMIT 16384    /* KiB */
#define PATTERN_LIMIT 16384 /* bytes */

struct hnp_regex {
    pcre2_code *code;
};

static void *allocate(size_t size, void *data)
{
    (void)data;
    return hn_malloc(size);
}

static void release(void *memory, void *data)
{
    (void)data;
    hn_free(memory);
}

/* Bytes of the quantifier that stands here, with what makes it lazy or possessive, or 0. */
static size_t quantifier(const char *at)
{
    size_t length = strchr("*+?", *at) ? 1 : 0;
    if (*at == '{') {
        size_t digits = strspn(at + 1, "0123456789"), comma = at[1 + digits] == ',';
        size_t more = comma ? strspn(at + 2 + digits, "0123456789") : 0;
        if (digits && at[1 + digits + comma + more] == '}') length = digits + comma + more + 2;
    }
    return length && (at[length] == '+' || at[length] == '?') ? length + 1 : length;
}

/* A quantifier that comes next is written; behind it, or behind what always has one, the callout. Returns the bytes taken. */
static size_t count_steps(hn_strbuf *out, const char *next, bool always)
{
    size_t length = *next ? quantifier(next) : 0;
    hn_strbuf_add(out, next, length);
    if (length || always) hn_strbuf_puts(out, "(?C)");
    return length;
}

/* An escape other than those that are spelled out; that of a class or a code point with its braces. */
static const char *copy_escape(hn_strbuf *out, const char *at)
{
    const char *end = strchr("pPxoN", *at) && at[1] == '{' ? strchr(at, '}') : NULL;
    if (!end) end = at;
    hn_strbuf_putc(out, '\\');
    hn_strbuf_add(out, at, (size_t)(end - at) + 1);
    return end;
}

/* The pattern as PCRE2 is to read it. NULL, or what is refused. */
static const char *translate(hn_strbuf *out, const char *pattern)
{
    bool class = false;
    for (const char *at = pattern; *at; at++) {
        if (*at == '\\') {
            char c = *++at;
            if (!c) return "a backslash at the end";
            if (c == 's' || c == 'S')
                hn_strbuf_puts(out, c == 's' ? "\\p{wspace}" : "\\P{wspace}");
            else if (c == 'w')
                hn_strbuf_puts(out, class ? WORD : "[" WORD "]");
            else if (strchr("hHbBWRXKkgGCQEyYO", c))
                return "an escape that means something else in the reference";
            else
                at = copy_escape(out, at);
            if (!class) at += count_steps(out, at + 1, false);
            continue;
        }
        if (class && *at == '[') return "a class within a class";
        if (class && *at == '&' && at[1] == '&') return "an intersection of classes";
        if (!class && *at == '(' && (at[1] == '*' || !strncmp(at + 1, "?#", 2))) return "a verb, or a comment";
        if (*at == '[') {
            class = true;
            hn_strbuf_putc(out, '[');
            if (at[1] == '^') hn_strbuf_putc(out, *++at);
            if (at[1] == ']') return "an empty class";
            continue;
        }
        if (*at == ']') class = false;
        hn_strbuf_putc(out, *at);
        if (!class && *at != '(') at += count_steps(out, at + 1, strchr(")|", *at) != NULL);
    }
    return NULL;
}

static hn_status compile(hnp_regex *regex, const hn_strbuf *text, const char *pattern, const char *where,
                         hn_error *error)
{
    int number;
    PCRE2_SIZE offset;
    char reason[128] = "";
    hn_status status = HN_ERR_MEMORY;
    pcre2_general_context *memory = pcre2_general_context_create(allocate, release, NULL);
    pcre2_compile_context *context = memory ? pcre2_compile_context_create(memory) : NULL;
    if (!context) goto out;
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    regex->code = pcre2_compile((PCRE2_SPTR)text->text, text->length,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &number,
                                &offset, context);
    if (!regex->code) {
        if (number == PCRE2_ERROR_HEAP_FAILED) goto out;
        pcre2_get_error_message(number, (PCRE2_UCHAR *)reason, sizeof reason);
        status =
            hn_fail(error, HN_ERR_UNSUPPORTED, "%s: the regular expression \"%.100s\" does not compile: %s",
                    where, pattern, reason);
        goto out;
    }
    pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE); /* without it the interpreter matches */
    status = HN_OK;
out:
    pcre2_compile_context_free(context);
    pcre2_general_context_free(memory);
    if (status == HN_ERR_MEMORY) hn_fail(error, status, "%s: out of memory", where);
    return status;
}

hn_status hnp_regex_open(hnp_regex **out, const char *pattern, const char *where, hn_error *error)
{
    hn_strbuf text;
    hn_status status;
    hnp_regex *regex = hn_calloc(1, sizeof *regex);
    hn_strbuf_init(&text);
    const char *refused = strlen(pattern) > PATTERN_LIMIT ? "its length" : translate(&text, pattern);
    if (!regex || text.failed)
        status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", where);
    else if (refused)
        status = hn_fail(error, HN_ERR_UNSUPPORTED, "%s: the regular expression \"%.100s\" is not read: %s",
                         where, pattern, refused);
    else
        status = compile(regex, &text, pattern, where, error);
    hn_strbuf_close(&text);
    if (status)
        hnp_regex_free(regex);
    else
        *out = regex;
    return status;
}

void hnp_regex_free(hnp_regex *regex)
{
    if (!regex) return;
    pcre2_code_free(regex->code);
    hn_free(regex);
}

void hnp_regex_room_bound(hnp_regex_room *room, size_t length)
{
    room->left = length < SIZE_MAX / STEPS_A_BYTE - STEPS ? STEPS + length * STEPS_A_BYTE : SIZE_MAX;
}

static int take_steps(pcre2_callout_block *at, void *data)
{
    hnp_regex_room *room = data;
    if (at->start_match != room->start) room->last = room->start = at->start_match;
    size_t here = at->current_position, steps = 1 + (here > room->last ? here - room->last : room->last - here);
    room->last = here;
    if (steps > room->left) return PCRE2_ERROR_MATCHLIMIT;
    room->left -= steps;
    return 0;
}

static bool prepare(hnp_regex_room *room)
{
    if (room->data) return true;
    pcre2_general_context *memory = pcre2_general_context_create(allocate, release, NULL);
    pcre2_match_context *context = memory ? pcre2_match_context_create(memory) : NULL;
    pcre2_match_data *data = memory ? pcre2_match_data_create(1, memory) : NULL;
    pcre2_general_context_free(memory);
    if (!context || !data) {
        pcre2_match_context_free(context);
        pcre2_match_data_free(data);
        return false;
    }
    pcre2_set_match_limit(context, MATCH_LIMIT);
    pcre2_set_heap_limit(context, HEAP_LIMIT);
    room->context = context;
    room->data = data;
    return true;
}

hnp_regex_result hnp_regex_find(const hnp_regex *regex, hnp_regex_room *room, const char *text, size_t length,
                                size_t from, size_t *start, size_t *end)
{
    if (!prepare(room)) return HNP_REGEX_MEMORY;
    room->last = room->start = from;
    pcre2_set_callout(room->context, take_steps, room);
    int found = pcre2_match(regex->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK, room->data,
                            room->context);
    if (found == PCRE2_ERROR_NOMATCH) return HNP_REGEX_NONE;
    if (found == PCRE2_ERROR_NOMEMORY) return HNP_REGEX_MEMORY;
    if (found < 0) return HNP_REGEX_LIMIT;
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(room->data);
    *start = ends[0];
    *end = ends[1];
    return HNP_REGEX_FOUND;
}

void hnp_regex_room_close(hnp_regex_room *room)
{
    pcre2_match_context_free(room->context);
    pcre2_match_data_free(room->data);
    *room = (hnp_regex_room){0};
}
