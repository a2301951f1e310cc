/* One key's value: from the JSON of a config or the text of the command line to the C value, its bounds, and
 * the words that errors and the reference page use for them.
 *
 * A text of the command line first becomes JSON, as far as the key's type allows ("8" a number, "a,b" a
 * list), and then goes the same way as a file's value, so that there is one place that checks and one set of
 * messages. */
#include "core/config_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/mem.h"

void hnp_key_name(char name[HNP_NAME], const hn_key *key)
{
    int length = snprintf(name, HNP_NAME, "%s.%s", key->section, key->name);
    HN_ASSERT(length > 0 && length < HNP_NAME);
}

static bool bounded(const hn_key *key)
{
    return key->min != 0 || key->max != 0;
}

static void add_range(hn_strbuf *out, const hn_key *key)
{
    if (bounded(key)) hn_strbuf_printf(out, " from %.12g to %.12g", key->min, key->max);
    if (key->unit) hn_strbuf_printf(out, " %s", key->unit);
}

static void add_choices(hn_strbuf *out, const hn_key *key)
{
    hn_strbuf_puts(out, "one of ");
    for (const char *c = key->choices; *c; c++) {
        if (*c == '|')
            hn_strbuf_puts(out, ", ");
        else
            hn_strbuf_putc(out, *c);
    }
}

void hnp_key_expected(hn_strbuf *out, const hn_key *key)
{
    switch (key->type) {
    case HN_KEY_BOOL: hn_strbuf_puts(out, "true or false"); break;
    case HN_KEY_INT:
        hn_strbuf_puts(out, "an integer");
        add_range(out, key);
        break;
    case HN_KEY_FLOAT:
        hn_strbuf_puts(out, "a number");
        add_range(out, key);
        break;
    case HN_KEY_STRING: hn_strbuf_puts(out, "a string"); break;
    case HN_KEY_CHOICE: add_choices(out, key); break;
    case HN_KEY_LIST: hn_strbuf_puts(out, "a list of strings"); break;
    case HN_KEY_INTERVAL:
        hn_strbuf_puts(out, "\"N steps\", \"X epoch\" or \"off\"");
        add_range(out, key);
        break;
    case HN_KEY_MAP: hn_strbuf_puts(out, "an object of strings"); break;
    }
    if (key->fallback && !strcmp(key->fallback, "null")) hn_strbuf_puts(out, ", or null");
}

size_t hnp_edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 63 };
    size_t rows[3][LONGEST + 1]; /* of i - 2, i - 1 and i, by i % 3 */
    size_t n = strnlen(a, LONGEST), m = strnlen(b, LONGEST);
    for (size_t j = 0; j <= m; j++) rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best) best = above[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && two_above[j - 2] + 1 < best) best = two_above[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[n % 3][m];
}

static bool plain_string(const json_t *value)
{
    return json_is_string(value) && strlen(json_string_value(value)) == json_string_length(value);
}

/* "expected ..., got ..." and HN_ERR_USAGE. */
static hn_status wrong(hn_strbuf *why, const hn_key *key, const json_t *given)
{
    hn_strbuf_puts(why, "expected ");
    hnp_key_expected(why, key);
    hn_strbuf_printf(why, ", got %s%s", hn_json_show(given).text,
                     json_is_string(given) && !plain_string(given) ? " and a NUL character behind it" : "");
    return HN_ERR_USAGE;
}

static bool in_bounds(const hn_key *key, double number)
{
    return !bounded(key) || (number >= key->min && number <= key->max);
}

static hn_status wrong_choice(hn_strbuf *why, const hn_key *key, const json_t *given)
{
    char nearest[HNP_NAME] = "";
    size_t best = SIZE_MAX;
    hn_status status = wrong(why, key, given);
    for (const char *c = key->choices; json_is_string(given);) {
        char word[HNP_NAME];
        size_t length = strcspn(c, "|");
        snprintf(word, sizeof word, "%.*s", (int)length, c);
        size_t distance = hnp_edit_distance(word, json_string_value(given));
        if (distance < best) {
            best = distance;
            memcpy(nearest, word, sizeof word);
        }
        if (!c[length]) break;
        c += length + 1;
    }
    if (nearest[0]) hn_strbuf_printf(why, "; the nearest is %s", nearest);
    return status;
}

/* Index of `word` among "a|b|c", or -1. */
static int choice_index(const char *choices, const char *word)
{
    size_t length = strlen(word);
    for (int index = 0;; index++) {
        size_t n = strcspn(choices, "|");
        if (n == length && !memcmp(choices, word, n)) return index;
        if (!choices[n]) return -1;
        choices += n + 1;
    }
}

/* Digits first: strtod would also take "inf", "nan" and " 5". */
static bool interval_parse(hn_interval *out, const char *text)
{
    static const struct {
        const char *word;
        hn_interval_unit unit;
    } units[] = {{"step", HN_INTERVAL_STEPS},
                 {"steps", HN_INTERVAL_STEPS},
                 {"epoch", HN_INTERVAL_EPOCHS},
                 {"epochs", HN_INTERVAL_EPOCHS}};
    char *end;
    if (!strcmp(text, "off")) {
        *out = (hn_interval){0, HN_INTERVAL_OFF};
        return true;
    }
    if (!strspn(text, "0123456789") || strspn(text, "0123456789.eE+-") != strcspn(text, " ")) return false;
    double value = strtod(text, &end);
    if (*end != ' ' || !isfinite(value) || value <= 0) return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(end + 1, units[i].word)) continue;
        *out = (hn_interval){value, units[i].unit};
        return units[i].unit != HN_INTERVAL_STEPS || (value == floor(value) && value < 0x1p53);
    }
    return false;
}

static json_t *interval_json(hn_interval interval)
{
    char number[HN_NUMBER_TEXT];
    if (interval.unit == HN_INTERVAL_OFF) return json_string("off");
    if (interval.unit == HN_INTERVAL_STEPS)
        return json_sprintf("%.0f %s", interval.value, interval.value == 1 ? "step" : "steps");
    hn_number_format(number, interval.value);
    size_t length = strlen(number);
    if (length > 2 && !strcmp(number + length - 2, ".0")) number[length - 2] = '\0';
    return json_sprintf("%s %s", number, interval.value > 1 ? "epochs" : "epoch");
}

static hn_status list_from_json(hnp_value *out, json_t **canonical, const hn_key *key, const json_t *given,
                                hn_strbuf *why)
{
    bool alone = json_is_string(given);
    size_t count = alone ? 1 : json_array_size(given);
    if (!alone && !json_is_array(given)) return wrong(why, key, given);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = alone ? given : json_array_get(given, i);
        if (plain_string(item)) continue;
        hn_strbuf_puts(why, "expected ");
        hnp_key_expected(why, key);
        hn_strbuf_printf(why, ", got %s as item %zu", hn_json_show(item).text, i + 1);
        return HN_ERR_USAGE;
    }
    if (!count && !key->fallback) {
        hn_strbuf_puts(why, "expected a list of at least one string, got an empty one");
        return HN_ERR_USAGE;
    }
    json_t *array = alone ? json_pack("[O]", given) : json_deep_copy(given);
    const char **items = hn_calloc(count, sizeof *items);
    if (!array || !items) {
        json_decref(array);
        hn_free(items);
        return HN_ERR_MEMORY;
    }
    for (size_t i = 0; i < count; i++) items[i] = json_string_value(json_array_get(array, i));
    *canonical = array;
    *out = (hnp_value){.list = {items, count}, .block = items};
    return HN_OK;
}

/* A map's values are kept as texts: 1 and "1" are the same. */
static json_t *map_text(const json_t *value)
{
    char number[HN_NUMBER_TEXT];
    if (json_is_string(value)) return json_incref((json_t *)(uintptr_t)value);
    if (json_is_integer(value)) return json_sprintf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    hn_number_format(number, json_real_value(value));
    return json_string(number);
}

static hn_status map_from_json(hnp_value *out, json_t **canonical, const hn_key *key, const json_t *given,
                               hn_strbuf *why)
{
    const char *name;
    json_t *value, *source = (json_t *)(uintptr_t)given;
    if (!json_is_object(given)) return wrong(why, key, given);
    size_t count = json_object_size(given), i = 0;
    json_t *object = json_object();
    const char **texts = hn_calloc(2 * count, sizeof *texts);
    if (!object || !texts) goto no_memory;
    json_object_foreach(source, name, value)
    {
        if (!plain_string(value) && !json_is_number(value)) {
            hn_strbuf_printf(why, "expected a string or a number for \"%.60s\", got %s", name,
                             hn_json_show(value).text);
            json_decref(object);
            hn_free(texts);
            return HN_ERR_USAGE;
        }
        if (json_object_set_new(object, name, map_text(value))) goto no_memory;
    }
    json_object_foreach(object, name, value)
    {
        texts[i] = name;
        texts[count + i++] = json_string_value(value);
    }
    *canonical = object;
    *out = (hnp_value){.map = {texts, texts + count, count}, .block = texts};
    return HN_OK;
no_memory:
    json_decref(object);
    hn_free(texts);
    return HN_ERR_MEMORY;
}

static hn_status scalar_from_json(hnp_value *out, json_t **canonical, const hn_key *key, const json_t *given,
                                  hn_strbuf *why)
{
    *out = (hnp_value){0};
    switch (key->type) {
    case HN_KEY_BOOL:
        if (!json_is_boolean(given)) return wrong(why, key, given);
        out->boolean = json_is_true(given);
        *canonical = json_boolean(out->boolean);
        return HN_OK;
    case HN_KEY_INT:
        out->integer = json_integer_value(given);
        if (!json_is_integer(given) || !in_bounds(key, (double)out->integer)) return wrong(why, key, given);
        *canonical = json_integer(out->integer);
        break;
    case HN_KEY_FLOAT:
        out->number = json_number_value(given);
        if (!json_is_number(given) || !in_bounds(key, out->number)) return wrong(why, key, given);
        *canonical = json_real(out->number);
        break;
    case HN_KEY_CHOICE:
        out->choice = json_is_string(given) ? choice_index(key->choices, json_string_value(given)) : -1;
        if (out->choice < 0) return wrong_choice(why, key, given);
        *canonical = json_string(json_string_value(given));
        break;
    case HN_KEY_INTERVAL:
        if (!json_is_string(given) || !interval_parse(&out->interval, json_string_value(given)) ||
            (out->interval.unit != HN_INTERVAL_OFF && !in_bounds(key, out->interval.value)))
            return wrong(why, key, given);
        *canonical = interval_json(out->interval);
        break;
    default:
        if (!plain_string(given)) return wrong(why, key, given);
        *canonical = json_string(json_string_value(given));
        out->string = json_string_value(*canonical);
    }
    return *canonical ? HN_OK : HN_ERR_MEMORY;
}

hn_status hnp_value_from_json(hnp_value *out, json_t **canonical, const hn_key *key, const json_t *given,
                              hn_strbuf *why)
{
    if (json_is_null(given) && key->fallback && !strcmp(key->fallback, "null")) {
        *out = (hnp_value){0}; /* NULL, an empty list, an empty map */
        *canonical = json_null();
        return HN_OK;
    }
    if (key->type == HN_KEY_LIST) return list_from_json(out, canonical, key, given, why);
    if (key->type == HN_KEY_MAP) return map_from_json(out, canonical, key, given, why);
    return scalar_from_json(out, canonical, key, given, why);
}

/* "a,b" as ["a", "b"]; "" as []. */
static json_t *split(const char *text)
{
    json_t *array = json_array();
    while (array && *text) {
        size_t length = strcspn(text, ",");
        if (json_array_append_new(array, json_stringn(text, length))) {
            json_decref(array);
            return NULL;
        }
        text += length + (text[length] == ',');
    }
    return array;
}

static json_t *json_of(const char *text, hn_strbuf *why)
{
    json_t *value = NULL;
    hn_error error = {0};
    if (hn_json_parse(&value, text, strlen(text), "", HN_JSON_LIMITS_SMALL, &error) == HN_ERR_FORMAT)
        hn_strbuf_printf(why, "expected JSON, got an error at %s", error.message + 1);
    return value;
}

json_t *hnp_json_from_text(const hn_key *key, const char *text, hn_strbuf *why)
{
    if (!hn_utf8_valid(text, strlen(text))) {
        hn_strbuf_puts(why, "expected UTF-8, got other bytes");
        return NULL;
    }
    if (key->fallback && !strcmp(key->fallback, "null") && !strcmp(text, "null")) return json_null();
    switch (key->type) {
    case HN_KEY_BOOL:
        if (!strcmp(text, "true") || !strcmp(text, "false")) return json_boolean(text[0] == 't');
        break;
    case HN_KEY_INT:
    case HN_KEY_FLOAT: {
        json_t *number = NULL;
        bool numeric = text[0] && text[strspn(text, "0123456789.eE+-")] == '\0';
        if (!numeric) break;
        hn_status status = hn_json_parse(&number, text, strlen(text), "", HN_JSON_LIMITS_SMALL, NULL);
        if (status == HN_OK || status == HN_ERR_MEMORY) return number;
        break;
    }
    case HN_KEY_LIST: return text[0] == '[' ? json_of(text, why) : split(text);
    case HN_KEY_MAP:
        if (text[0] == '{') return json_of(text, why);
        break;
    default: break;
    }
    return json_string(text);
}

json_t *hnp_key_fallback(const hn_key *key)
{
    json_t *value = NULL;
    hn_status status =
        hn_json_parse(&value, key->fallback, strlen(key->fallback), key->name, HN_JSON_LIMITS_SMALL, NULL);
    HN_ASSERT(status != HN_ERR_FORMAT); /* a default in our own table is no JSON */
    return value;
}

void hnp_value_store(const hnp_value *value, const hn_key *key, void *values)
{
    void *place = (char *)values + key->offset;
    switch (key->type) {
    case HN_KEY_BOOL: *(bool *)place = value->boolean; break;
    case HN_KEY_INT: *(int64_t *)place = value->integer; break;
    case HN_KEY_FLOAT: *(double *)place = value->number; break;
    case HN_KEY_STRING: *(const char **)place = value->string; break;
    case HN_KEY_CHOICE: *(int *)place = value->choice; break;
    case HN_KEY_LIST: *(hn_list *)place = value->list; break;
    case HN_KEY_INTERVAL: *(hn_interval *)place = value->interval; break;
    case HN_KEY_MAP: *(hn_map *)place = value->map; break;
    }
}
