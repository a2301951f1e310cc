/* hone tokenize */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "core/json.h"
#include "core/mem.h"
#include "data/tokenizer.h"
#include "infer/source.h"

typedef struct tokenizing {
    hn_tokenizer *tokenizer;
    hn_encoding encoding;
    hn_strbuf out;
    bool pair, json, decode;
    long line_number;
} tokenizing;

/* The text of a line: itself, or with --json the string that it is. *owned is freed by the caller. */
static hn_status line_text(const tokenizing *t, const char **text, size_t *length, json_t **owned, hn_error *error)
{
    if (!t->json) return HN_OK;
    json_error_t problem;
    *owned = json_loadb(*text, *length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &problem);
    if (!json_is_string(*owned))
        return hn_fail(error, HN_ERR_FORMAT, "standard input:%ld: expected a JSON string", t->line_number);
    *text = json_string_value(*owned);
    *length = json_string_length(*owned);
    return HN_OK;
}

static hn_status encode_line(tokenizing *t, const char *text, size_t length, hn_error *error)
{
    const char *pair = NULL;
    size_t pair_length = 0;
    if (t->pair) {
        const char *tab = memchr(text, '\t', length);
        if (!tab)
            return hn_fail(error, HN_ERR_FORMAT,
                           "standard input:%ld: expected two texts with a tab between, got one",
                           t->line_number);
        pair = tab + 1;
        pair_length = length - (size_t)(pair - text);
        length = (size_t)(tab - text);
    }
    hn_status status = hn_tokenizer_encode(t->tokenizer, &t->encoding, text, length, pair, pair_length, true, 0, error);
    for (int32_t i = 0; status == HN_OK && i < t->encoding.count; i++)
        hn_strbuf_printf(&t->out, "%s%d", i ? ", " : "[", t->encoding.ids[i]);
    hn_strbuf_puts(&t->out, t->encoding.count ? "]\n" : "[]\n");
    return status;
}

static hn_status decode_line(tokenizing *t, const char *text, size_t length, hn_error *error)
{
    char name[64];
    json_t *array = NULL;
    hn_strbuf plain;
    hn_strbuf_init(&plain);
    snprintf(name, sizeof name, "standard input:%ld", t->line_number);
    hn_status status = hn_json_parse(&array, text, length, name, HN_JSON_LIMITS_SMALL, error);
    int32_t *ids = status == HN_OK ? hn_malloc((json_array_size(array) + 1) * sizeof *ids) : NULL;
    if (status == HN_OK && !ids) status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", name);
    for (size_t i = 0; status == HN_OK && i < json_array_size(array); i++) {
        const json_t *id = json_array_get(array, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
            status = hn_fail(error, HN_ERR_FORMAT, "%s: expected an array of ids, got something else at place %zu", name, i);
        else ids[i] = (int32_t)json_integer_value(id);
    }
    if (status == HN_OK && !json_is_array(array)) status = hn_fail(error, HN_ERR_FORMAT, "%s: expected an array of ids", name);
    if (status == HN_OK) status = hn_tokenizer_decode(t->tokenizer, &plain, ids, json_array_size(array), true, error);
    if (status == HN_OK && t->json) hn_json_quote(&t->out, plain.text, plain.length);
    else if (status == HN_OK) hn_strbuf_add(&t->out, plain.text, plain.length);
    hn_strbuf_putc(&t->out, '\n');
    hn_strbuf_close(&plain);
    hn_free(ids);
    json_decref(array);
    return status;
}

static hn_status run_line(tokenizing *t, const char *text, size_t length, hn_error *error)
{
    json_t *owned = NULL;
    hn_strbuf_reset(&t->out);
    hn_status status = t->decode ? decode_line(t, text, length, error) : line_text(t, &text, &length, &owned, error);
    if (status == HN_OK && !t->decode) status = encode_line(t, text, length, error);
    json_decref(owned);
    if (status != HN_OK) return status;
    if (t->out.failed) return hn_fail(error, HN_ERR_MEMORY, "standard input:%ld: out of memory", t->line_number);
    if (fwrite(t->out.text, 1, t->out.length, stdout) != t->out.length)
        return hn_fail_errno(error, "standard output: cannot write");
    return HN_OK;
}

static hn_status run_lines(tokenizing *t, hn_error *error)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    hn_status status = HN_OK;
    while (status == HN_OK && (length = getline(&line, &capacity, stdin)) >= 0) {
        t->line_number++;
        if (length > 0 && line[length - 1] == '\n') length--;
        if (length > 0 && line[length - 1] == '\r') length--;
        status = run_line(t, line, (size_t)length, error);
    }
    if (status == HN_OK && ferror(stdin)) status = hn_fail_errno(error, "standard input: cannot read");
    free(line);
    if (status == HN_OK && fflush(stdout)) status = hn_fail_errno(error, "standard output: cannot write");
    return status;
}

int hn_verb_tokenize(int argc, char **argv)
{
    static const char *const flags[] = {"--pair", "--json", "--decode", NULL};
    hn_arguments arguments;
    hn_error error = {0};
    tokenizing t = {0};
    hn_encoding_init(&t.encoding);
    hn_strbuf_init(&t.out);
    hn_status status = hn_cli_arguments(&arguments, argc, argv, 1, 1, flags, &error);
    if (status == HN_OK) status = hn_source_open_tokenizer(&t.tokenizer, arguments.words[0], &error);
    if (status == HN_OK) {
        t.pair = arguments.found[0];
        t.json = arguments.found[1];
        t.decode = arguments.found[2];
        status = run_lines(&t, &error);
    }
    hn_encoding_close(&t.encoding);
    hn_strbuf_close(&t.out);
    hn_tokenizer_free(t.tokenizer);
    return status == HN_OK ? HN_EXIT_DONE : hn_cli_fail(&error);
}
