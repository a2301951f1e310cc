/* See regex.h. Compiled once per tokenizer and read by all threads; what a match writes to is the thread's
 * own.
 *
 * Match limits bound what a hostile pattern ((a+)+$ on a long text) costs; PCRE2's JIT counts other events
 * than its interpreter does, but stops as well. In Ruby's syntax ^ and $ always stand for the ends of lines,
 * and only LF ends a line. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/regex.h"

#include <pcre2.h>
#include <string.h>

#include "core/mem.h"
#include "core/strbuf.h"

#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define MATCH_LIMIT 1000000
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
                hn_strbuf_printf(out, "\\%c", c);
            continue;
        }
        if (class && *at == '[') return "a class within a class";
        if (class && *at == '&' && at[1] == '&') return "an intersection of classes";
        if (*at == '[') {
            class = true;
            hn_strbuf_putc(out, '[');
            if (at[1] == '^') hn_strbuf_putc(out, *++at);
            if (at[1] == ']') return "an empty class";
            continue;
        }
        if (*at == ']') class = false;
        hn_strbuf_putc(out, *at);
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
