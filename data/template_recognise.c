/* Telling which template a model's chat template is. Jinja is not run here: a template is either one of those
 * whose output is known (the tests compare it with what the reference prints), or it is not known.
 *
 * Models ship the same template in many spellings. So the text is first brought to one form that prints the
 * same:
 *
 *     {{'<|im_start|>' + message['role'] + '\n'}}   and   {{- "<|im_start|>" + message.role + "\n" }}
 *
 * both become   <|im_start|> OUT message.role END \n . White space control (also trim_blocks and
 * lstrip_blocks, as transformers sets them) is applied, comments go, code loses its blanks, strings their
 * quotes and escapes, and sums in an output are taken apart. The system prompt that a chatml template puts in
 * by itself is cut out, so that the same template with another prompt is still the same. The digest of the
 * form is looked up in a table. */
#include <ctype.h>
#include <string.h>

#include "core/digest.h"
#include "core/mem.h"
#include "core/strbuf.h"
#include "data/template_shapes.h"

/* Digests of the forms; the texts are in tests/golden/template. */
static const struct {
    const char *digest, *shape;
} known[] = {
    {"8d770fbb5a57505b8243127d32edeea7", "chatml"},   /* OpenHermes 2.5 and many others */
    {"2670fd665e2343f65a8785abfb37199f", "chatml"},   /* SmolLM2, Qwen2: a system prompt of its own */
    {"c379cdb7130e716978dd8294aa958b9d", "chatml"},   /* Qwen2.5 */
    {"d9ea277823f0017701259b9e0e4db596", "chatml"},   /* Qwen3 Instruct 2507 */
    {"df645774a149508aa4be9aed6a97bd04", "llama2"},   /* Llama 2 chat */
    {"b7e61471cda0487a2f1213cf783bb84a", "llama3"},   /* Llama 3 Instruct */
    {"0eaa8c1f10d2a5b0c1a868fadbd5615b", "llama3.1"}, /* Llama 3.1 Instruct */
    {"c2c680a19654d0e6e0f46dfe793ed7a4", "zephyr"},   /* Zephyr, TinyLlama chat */
    {"43c888ee7322971fb06ef0188df6f1bd", "mistral"},  /* Mistral Instruct 0.2 */
    {"bfbe942126dc69cbdbcf77d2fd6952cd", "gemma"},    /* Gemma 1 and 2 */
    {"3bba0da2cae56a80c411b17720cf4109", "gemma"},    /* Gemma 3 */
};

enum { OUT = 1, END, DO }; /* bytes that mark code in the form: OUT code END, DO code END */

typedef struct scanner {
    const char *text;
    size_t length, at;
    hn_strbuf form, code;
    bool cut;  /* what the tag before said: white space behind it goes */
    bool line; /* the tag before was a block: a line's end behind it goes */
} scanner;

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* A string literal from its quote on, decoded, to `out`. */
static void take_string(scanner *s, hn_strbuf *out)
{
    char quote = s->text[s->at++];
    for (; s->at < s->length && s->text[s->at] != quote; s->at++) {
        char c = s->text[s->at];
        if (c == '\\' && s->at + 1 < s->length) {
            c = s->text[++s->at];
            c = c == 'n' ? '\n' : c == 't' ? '\t' : c;
        }
        hn_strbuf_putc(out, c);
    }
    s->at++;
}

/* ['name'] as .name */
static void dot(hn_strbuf *code)
{
    if (code->length < 5 || strcmp(code->text + code->length - 2, "']")) return;
    size_t start = code->length - 2;
    while (start && is_word(code->text[start - 1])) start--;
    if (start < 2 || start == code->length - 2 || memcmp(code->text + start - 2, "['", 2)) return;
    memmove(code->text + start - 1, code->text + start, code->length - 2 - start);
    code->text[start - 2] = '.';
    code->length -= 3;
    code->text[code->length] = '\0';
}

/* The code of a tag up to its end, with strings in single quotes (a quote in one as \'), without blanks but
 * between words. */
static void take_code(scanner *s, char closing)
{
    hn_strbuf *code = &s->code, string;
    hn_strbuf_init(&string);
    hn_strbuf_reset(code);
    bool blank = false;
    while (s->at < s->length) {
        char c = s->text[s->at], next = s->at + 1 < s->length ? s->text[s->at + 1] : '\0';
        if (c == closing && next == '}') break;
        if (c == '-' && next == closing && s->at + 2 < s->length && s->text[s->at + 2] == '}') break;
        if (isspace((unsigned char)c)) {
            blank = true;
            s->at++;
            continue;
        }
        if (blank && code->length && is_word(c) && is_word(code->text[code->length - 1]))
            hn_strbuf_putc(code, ' ');
        blank = false;
        if (c == '\'' || c == '"') {
            hn_strbuf_reset(&string);
            take_string(s, &string);
            hn_strbuf_putc(code, '\'');
            for (size_t i = 0; i < string.length; i++) {
                if (string.text[i] == '\'' || string.text[i] == '\\') hn_strbuf_putc(code, '\\');
                hn_strbuf_putc(code, string.text[i]);
            }
            hn_strbuf_putc(code, '\'');
            continue;
        }
        hn_strbuf_putc(code, c);
        s->at++;
        if (c == ']') dot(code);
    }
    if (string.failed) code->failed = true;
    hn_strbuf_close(&string);
}

/* Behind the string that begins at `at`. */
static size_t behind_string(const hn_strbuf *code, size_t at)
{
    for (at++; at < code->length && code->text[at] != '\''; at++)
        if (code->text[at] == '\\') at++;
    return at + 1;
}

/* May the code be taken apart at its plus signs? Not where another operator binds less. */
static bool is_sum(const hn_strbuf *code)
{
    for (size_t at = 0; at < code->length;) {
        char c = code->text[at];
        if (strchr("=<>!*/%-", c) || c == ' ') return false;
        at = c == '\'' ? behind_string(code, at) : at + 1;
    }
    return true;
}

/* One summand: a string is what it prints, anything else stays code. */
static void put_summand(scanner *s, const char *text, size_t length)
{
    hn_strbuf whole = {.text = (char *)text, .length = length};
    if (length > 1 && text[0] == '\'' && behind_string(&whole, 0) == length) {
        for (size_t i = 1; i + 1 < length; i++) {
            if (text[i] == '\\') i++;
            hn_strbuf_putc(&s->form, text[i]);
        }
        return;
    }
    hn_strbuf_putc(&s->form, OUT);
    hn_strbuf_add(&s->form, text, length);
    hn_strbuf_putc(&s->form, END);
}

static void put_output(scanner *s)
{
    const hn_strbuf *code = &s->code;
    bool sum = is_sum(code);
    size_t start = 0, depth = 0;
    for (size_t at = 0; at < code->length;) {
        char c = code->text[at];
        if (strchr("([{", c)) depth++;
        if (strchr(")]}", c) && depth) depth--;
        if (sum && c == '+' && !depth) {
            put_summand(s, code->text + start, at - start);
            start = at + 1;
        }
        at = c == '\'' ? behind_string(code, at) : at + 1;
    }
    put_summand(s, code->text + start, code->length - start);
}

/* Text between tags, up to the next tag. */
static void take_text(scanner *s)
{
    const char *text = s->text + s->at;
    size_t length = 0, left = s->length - s->at;
    while (length < left && !(text[length] == '{' && length + 1 < left && strchr("{%#", text[length + 1])))
        length++;
    s->at += length;
    bool tag = length < left, block = tag && text[length + 1] != '{',
         trim = tag && length + 2 < left && text[length + 2] == '-';
    size_t start = 0, end = length;
    if (s->cut)
        while (start < end && isspace((unsigned char)text[start])) start++;
    else if (s->line && start < end && text[start] == '\n')
        start++;
    if (trim)
        while (end > start && isspace((unsigned char)text[end - 1])) end--;
    else if (block) {
        size_t back = end;
        while (back > start && (text[back - 1] == ' ' || text[back - 1] == '\t')) back--;
        if (back > start ? text[back - 1] == '\n' : s->line || s->at == length) end = back;
    }
    hn_strbuf_add(&s->form, text + start, end - start);
}

/* From the tag's first brace to behind its last. */
static void take_tag(scanner *s)
{
    char kind = s->text[s->at + 1], closing = kind == '{' ? '}' : kind;
    s->at += 2;
    if (s->at < s->length && (s->text[s->at] == '-' || s->text[s->at] == '+')) s->at++;
    if (kind == '#') {
        const char *end = memmem(s->text + s->at, s->length - s->at, "#}", 2);
        s->at = end ? (size_t)(end - s->text) : s->length;
        s->cut = end && end[-1] == '-';
    } else {
        take_code(s, closing);
        s->cut = s->at < s->length && s->text[s->at] == '-';
        if (s->cut) s->at++;
    }
    s->at = s->at + 2 < s->length ? s->at + 2 : s->length;
    s->line = kind != '{';
    if (kind == '{') put_output(s);
    if (kind != '%') return;
    hn_strbuf_putc(&s->form, DO);
    hn_strbuf_add(&s->form, s->code.text, s->code.length);
    hn_strbuf_putc(&s->form, END);
}

/* The system prompt in "<|im_start|>system\nPROMPT<|im_end|>\n", taken out of the form. */
static bool take_system(hn_strbuf *form, char **system)
{
    static const char head[] = "<|im_start|>system\n", tail[] = "<|im_end|>\n";
    char *start = strstr(form->text, head);
    for (; start; start = strstr(start, head)) {
        start += sizeof head - 1;
        char *end = strstr(start, tail);
        if (!end || strcspn(start, "\1\2\3") < (size_t)(end - start)) continue;
        *system = hn_strndup(start, (size_t)(end - start));
        memmove(start, end, strlen(end) + 1);
        form->length -= (size_t)(end - start);
        return *system != NULL;
    }
    return true;
}

hn_status hnp_shape_recognise(const hnp_shape **out, char **system, const char *jinja, hn_error *error)
{
    char text[HN_DIGEST_TEXT];
    scanner s = {.text = jinja, .length = strlen(jinja)};
    *out = NULL;
    *system = NULL;
    if (strpbrk(jinja, "\1\2\3")) return HN_OK;
    if (s.length && jinja[s.length - 1] == '\n') s.length--; /* as Jinja does */
    hn_strbuf_init(&s.form);
    hn_strbuf_init(&s.code);
    while (s.at < s.length) {
        take_text(&s);
        if (s.at < s.length) take_tag(&s);
    }
    bool good = !s.form.failed && !s.code.failed && take_system(&s.form, system);
    if (good) {
        hn_digest_format(text, hn_digest_bytes(s.form.text, s.form.length));
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
            if (!strcmp(known[i].digest, text)) *out = hnp_shape_find(known[i].shape);
    }
    if (!*out) {
        hn_free(*system);
        *system = NULL;
    }
    hn_strbuf_close(&s.form);
    hn_strbuf_close(&s.code);
    return good ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "template: out of memory");
}
