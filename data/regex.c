/* See regex.h. Compiled once per tokenizer and read by all threads; what a match writes to is the thread's
 * own.
 *
 * Match limits bound what a hostile pattern ((a+)+$ on a long text) costs in one call; PCRE2's JIT counts other events
 * than its interpreter does, but stops as well. They see neither what a loop reads forward ((?=a*b)a on a million of a
 * reads half a million millions) nor what all calls on a text come to. So a callout stands where a match is begun, behind every
 * quantifier, every group and every "|", and where a look-behind has gone back to; there it costs some nanoseconds, and counts the
 * bytes from the place of the one before, or from where this match was begun. A text has a fixed number of such steps for each of its
 * bytes. A byte counts for more when the pattern has a long class. What passes no callout is no longer than the pattern, or the n of
 * one {n} of it: that is what a callout counts for by itself. What reads the text otherwise (back references, recursion) is refused.
 *
 * In Ruby's syntax ^ and $ always stand for the ends of lines,
 * and only LF ends a line. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/regex.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/strbuf.h"

#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define MATCH_LIMIT 1000000
#define STEPS ((size_t)32000000) /* a tenth of a second */
#define STEPS_A_BYTE 256
#define CHEAP 64 /* bytes of a class, or of a pattern, that are as good as none */
#define HEAP_LIMIT 16384    /* KiB */
#define PATTERN_LIMIT 16384 /* bytes */
#define STACK_LIMIT ((size_t)1 << 20) /* of the JIT; it brings 32 KiB along, which a group that is taken 800 times fills */

struct hnp_regex {
    pcre2_code *code;
    size_t step, byte; /* what a callout counts for, and each byte that was passed on the way to it */
};

/* A pattern on its way to PCRE2. */
typedef struct writer {
    hn_strbuf *out;
    size_t class, repeat; /* the longest class, the largest n of {n} */
} writer;

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
static size_t quantifier(const char *at, size_t *least)
{
    size_t length = strchr("*+?", *at) ? 1 : 0;
    *least = 0;
    if (*at == '{') {
        size_t digits = strspn(at + 1, "0123456789"), comma = at[1 + digits] == ',';
        size_t more = comma ? strspn(at + 2 + digits, "0123456789") : 0;
        if (digits && at[1 + digits + comma + more] == '}') length = digits + comma + more + 2;
        if (length) *least = strtoul(at + 1, NULL, 10);
    }
    return length && (at[length] == '+' || at[length] == '?') ? length + 1 : length;
}

/* {,n} and { n }: a quantifier, or just these characters, as PCRE2 is older or newer. */
static bool is_newer_quantifier(const char *at)
{
    size_t least, inside = *at == '{' ? strspn(at + 1, ", \t0123456789") : 0;
    return inside && at[1 + inside] == '}' && !quantifier(at, &least);
}

/* A quantifier that comes next is written; behind it, or behind what always has one, the callout. Returns the bytes taken. */
static size_t count_steps(writer *to, const char *next, bool always)
{
    size_t least = 0, length = *next ? quantifier(next, &least) : 0;
    if (least > to->repeat) to->repeat = least;
    hn_strbuf_add(to->out, next, length);
    if (length || always) hn_strbuf_puts(to->out, "(?C)");
    return length;
}

/* Bytes of what begins a group, or sets i, from its "(" on; 0: another one. */
static size_t opening(const char *at)
{
    static const char *const known[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"};
    if (at[1] != '?') return at[1] != '*';
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strncmp(at, known[i], strlen(known[i]))) return strlen(known[i]);
    size_t length = 2 + strspn(at + 2, "-i"), name = at[2] == '<' ? strspn(at + 3, "abcdefghijklmnopqrstuvwxyz_") : 0;
    if (length > 2 && (at[length] == ':' || at[length] == ')')) return length + 1;
    return name && at[3 + name] == '>' ? name + 4 : 0;
}

/* An escape other than those that are spelled out; that of a class or a code point with its braces. */
static const char *copy_escape(hn_strbuf *out, const char *at)
{
    const char *end = strchr("pPxo", *at) && at[1] == '{' ? strchr(at, '}') : NULL;
    if (!end) end = at;
    hn_strbuf_putc(out, '\\');
    hn_strbuf_add(out, at, (size_t)(end - at) + 1);
    return end;
}

/* An escape; `at` stands behind its backslash, and behind the escape then. NULL, or what is refused. */
static const char *translate_escape(writer *to, const char **at, bool class)
{
    char c = **at;
    if (!c) return "a backslash at the end";
    if (c >= '1' && c <= '9') return "a back reference";
    if (strchr("hHbBWRXKkgGCQEyYOc", c)) return "an escape that means something else in the reference";
    if (c == 's' || c == 'S')
        hn_strbuf_puts(to->out, c == 's' ? "\\p{wspace}" : "\\P{wspace}");
    else if (c == 'w')
        hn_strbuf_puts(to->out, class ? WORD : "[" WORD "]");
    else
        *at = copy_escape(to->out, *at);
    ++*at;
    if (!class) *at += count_steps(to, *at, false);
    return NULL;
}

/* A class, from its bracket on; `at` stands behind it then, or at the end of a pattern that has none. */
static const char *translate_class(writer *to, const char **at)
{
    const char *begin = (*at)++, *refused = NULL;
    hn_strbuf_putc(to->out, '[');
    if (**at == '^') hn_strbuf_putc(to->out, *(*at)++);
    if (**at == ']') return "an empty class";
    while (**at && **at != ']' && !refused) {
        if (**at == '[') return "a class within a class";
        if (**at == '&' && (*at)[1] == '&') return "an intersection of classes";
        if (**at == '\\') {
            ++*at;
            refused = translate_escape(to, at, true);
        } else {
            hn_strbuf_putc(to->out, *(*at)++);
        }
    }
    if (refused || !**at) return refused;
    if ((size_t)(*at - begin) > to->class) to->class = (size_t)(*at - begin);
    hn_strbuf_putc(to->out, *(*at)++);
    *at += count_steps(to, *at, false);
    return NULL;
}

/* The pattern as PCRE2 is to read it. NULL, or what is refused. */
static const char *translate(writer *to, const char *pattern)
{
    const char *refused = NULL;
    hn_strbuf_puts(to->out, "(?C)");
    for (const char *at = pattern; *at && !refused;) {
        char c = *at;
        if (c == '\\') {
            at++;
            refused = translate_escape(to, &at, false);
        } else if (c == '[') {
            refused = translate_class(to, &at);
        } else if (c == '(') {
            size_t length = opening(at);
            if (!length) return "a verb, a comment, an option other than i, or a group that the reference has not";
            hn_strbuf_add(to->out, at, length);
            at += length;
            if (length == 4 && at[-2] == '<') hn_strbuf_puts(to->out, "(?C)");
        } else if (is_newer_quantifier(at)) {
            return "a quantifier that means something else in the reference";
        } else {
            hn_strbuf_putc(to->out, c);
            at++;
            at += count_steps(to, at, c == ')' || c == '|');
        }
    }
    return refused;
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
    writer to = {.out = &text};
    size_t length = strlen(pattern);
    const char *refused = length > PATTERN_LIMIT ? "its length" : translate(&to, pattern);
    if (!regex || text.failed)
        status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", where);
    else if (refused)
        status = hn_fail(error, HN_ERR_UNSUPPORTED, "%s: the regular expression \"%.100s\" is not read: %s",
                         where, pattern, refused);
    else
        status = compile(regex, &text, pattern, where, error);
    if (!status) {
        regex->byte = 1 + to.class / CHEAP;
        regex->step = 1 + length / CHEAP + to.repeat * regex->byte / 4;
    }
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
    size_t here = at->current_position, passed = here > room->last ? here - room->last : room->last - here;
    size_t steps = room->regex->step + passed * room->regex->byte;
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
    pcre2_jit_stack *stack = memory ? pcre2_jit_stack_create((size_t)32 << 10, STACK_LIMIT, memory) : NULL;
    uint32_t jit = 0;
    pcre2_general_context_free(memory);
    pcre2_config(PCRE2_CONFIG_JIT, &jit);
    if (!context || !data || (jit && !stack)) {
        pcre2_match_context_free(context);
        pcre2_match_data_free(data);
        pcre2_jit_stack_free(stack);
        return false;
    }
    pcre2_jit_stack_assign(context, NULL, stack);
    pcre2_set_match_limit(context, MATCH_LIMIT);
    pcre2_set_heap_limit(context, HEAP_LIMIT);
    room->context = context;
    room->data = data;
    room->stack = stack;
    return true;
}

hnp_regex_result hnp_regex_find(const hnp_regex *regex, hnp_regex_room *room, const char *text, size_t length,
                                size_t from, size_t *start, size_t *end)
{
    if (!prepare(room)) return HNP_REGEX_MEMORY;
    room->last = room->start = from;
    room->regex = regex;
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
    pcre2_jit_stack_free(room->stack);
    *room = (hnp_regex_room){0};
}
