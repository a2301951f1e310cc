/* See options.h. */
#include "cli/options.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The option that a word names, with its value if there is one behind an equals sign. */
static const hn_option *find(const hn_option *table, const char *word, const char **value)
{
    for (const hn_option *option = table; option->name; option++) {
        size_t length = strlen(option->name);
        if (strncmp(word, option->name, length) || (word[length] && word[length] != '=')) continue;
        *value = word[length] ? word + length + 1 : NULL;
        return option;
    }
    return NULL;
}

static hn_status read_number(double *out, const hn_option *option, const char *text, hn_error *error)
{
    bool whole = option->kind != HN_OPTION_FLOAT;
    char *end;
    double value = strtod(text, &end);
    bool number = *text && !*end && strspn(text, "+-.0123456789eE") == strlen(text) && isfinite(value);
    bool inside = value >= option->min && value <= option->max && !(option->above && value == option->min);
    if (number && inside && (!whole || value == floor(value))) {
        *out = value;
        return HN_OK;
    }
    return hn_fail(error, HN_ERR_USAGE, "%s: expected a%s number %s %.9g%s%.9g, got \"%.40s\"", option->name,
                   whole ? " whole" : "", option->above ? "above" : "from", option->min,
                   option->above ? ", at most " : " to ", option->max, text);
}

static hn_status read_uint64(uint64_t *out, const hn_option *option, const char *text, hn_error *error)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (!*text || *end || errno || strspn(text, "0123456789") != strlen(text))
        return hn_fail(error, HN_ERR_USAGE, "%s: expected a whole number from 0 to 18446744073709551615, got \"%.40s\"",
                       option->name, text);
    *out = value;
    return HN_OK;
}

static hn_status add_text(hn_option_texts *out, const hn_option *option, const char *text, hn_error *error)
{
    if (out->count == HN_OPTION_TEXTS_MAX)
        return hn_fail(error, HN_ERR_USAGE, "%s: expected at most %d of them", option->name, HN_OPTION_TEXTS_MAX);
    out->items[out->count++] = text;
    return HN_OK;
}

static hn_status take(const hn_option *option, const char *text, hn_error *error)
{
    double number = 0;
    hn_status status = HN_OK;
    switch (option->kind) {
    case HN_OPTION_TEXT: *(const char **)option->value = text; break;
    case HN_OPTION_TEXTS: status = add_text(option->value, option, text, error); break;
    case HN_OPTION_UINT64: status = read_uint64(option->value, option, text, error); break;
    case HN_OPTION_INT:
        status = read_number(&number, option, text, error);
        if (status == HN_OK) *(int32_t *)option->value = (int32_t)number;
        break;
    case HN_OPTION_FLOAT:
        status = read_number(&number, option, text, error);
        if (status == HN_OK) *(float *)option->value = (float)number;
        break;
    }
    if (status == HN_OK && option->given) *option->given = true;
    return status;
}

hn_status hn_cli_options(const hn_option *table, int *argc, char **argv, hn_error *error)
{
    const hn_option *seen[64];
    size_t seen_count = 0;
    int kept = 0;
    for (int i = 0; i < *argc; i++) {
        const char *value;
        const hn_option *option = find(table, argv[i], &value);
        if (!option) {
            argv[kept++] = argv[i];
            continue;
        }
        for (size_t s = 0; s < seen_count; s++)
            if (seen[s] == option && option->kind != HN_OPTION_TEXTS)
                return hn_fail(error, HN_ERR_USAGE, "%s: expected it once, got it twice", option->name);
        if (seen_count < sizeof seen / sizeof *seen) seen[seen_count++] = option;
        if (!value && i + 1 == *argc) return hn_fail(error, HN_ERR_USAGE, "%s: expected a value behind it, got nothing", option->name);
        if (!value) value = argv[++i];
        hn_status status = take(option, value, error);
        if (status != HN_OK) return status;
    }
    *argc = kept;
    return HN_OK;
}
