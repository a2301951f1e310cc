/* See labels.h. The final numbering is the model's where the model has names, else the config's. Each class
 * keeps up to two spellings: the final one and the config's (names are compared exactly first, then without
 * letter case, because models say ENTAILMENT where people say entailment). `order` takes a number as the user
 * counts to the final one. */
#include "data/labels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/mem.h"

typedef struct mapped {
    char *from;
    int32_t label;
    float value;
    hn_label_kind kind;
} mapped;

struct hn_labels {
    bool regression, remapped;
    int32_t count;
    char **names;   /* [count] final order */
    char **config;  /* [count] the config's spelling, in the user's order; NULL: no config names */
    int32_t *order; /* [count] user's number -> final number */
    mapped *map;
    size_t map_count;
    hn_digest digest;
};

static hn_status no_memory(hn_error *error)
{
    return hn_fail(error, HN_ERR_MEMORY, "labels: out of memory");
}

static char **copy_names(const char *const *names, int32_t count)
{
    char **copy = hn_calloc((size_t)count, sizeof *copy);
    for (int32_t i = 0; copy && i < count; i++) {
        copy[i] = hn_strdup(names[i]);
        if (copy[i]) continue;
        while (i--) hn_free(copy[i]);
        hn_free(copy);
        copy = NULL;
        break;
    }
    return copy;
}

static void free_names(char **names, int32_t count)
{
    for (int32_t i = 0; names && i < count; i++) hn_free(names[i]);
    hn_free(names);
}

/* LABEL_0, LABEL_1, ...: what transformers writes when nobody named the classes. */
static bool names_are_generic(const char *const *names, int32_t count)
{
    char generic[32];
    for (int32_t i = 0; i < count; i++) {
        snprintf(generic, sizeof generic, "LABEL_%d", (int)i);
        if (strcmp(names[i], generic)) return false;
    }
    return true;
}

/* Number of `name` among the names; -1: none. */
static int32_t find(char *const *names, int32_t count, const char *name)
{
    for (int32_t i = 0; names && i < count; i++)
        if (!strcmp(names[i], name)) return i;
    return -1;
}

/* A name and its number; sorted, those that differ by letter case alone stand together. */
typedef struct spelt {
    const char *text;
    int32_t number;
} spelt;

static int by_letters(const void *a, const void *b)
{
    const spelt *x = a, *y = b;
    int order = strcasecmp(x->text, y->text);
    return order ? order : strcmp(x->text, y->text);
}

/* Number of `name` among sorted names, exactly, or else without letter case when just one fits; -1: none. */
static int32_t find_sorted(const spelt *sorted, int32_t count, const char *name)
{
    spelt key = {.text = name};
    const spelt *exact = bsearch(&key, sorted, (size_t)count, sizeof key, by_letters);
    if (exact) return exact->number;
    int32_t low = 0, high = count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (strcasecmp(sorted[middle].text, name) < 0) low = middle + 1;
        else high = middle;
    }
    bool fits = low < count && !strcasecmp(sorted[low].text, name);
    bool another = low + 1 < count && !strcasecmp(sorted[low + 1].text, name);
    return fits && !another ? sorted[low].number : -1;
}

static void list_names(char *const *names, int32_t count, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (int32_t i = 0; i < count && used + 60 < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%.40s%s", i ? ", " : "", names[i],
                                 i + 1 < count && used + 120 >= size ? ", ..." : "");
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted, as a stranger's config.json can name 65,536. */
static hn_status check_twice(char *const *names, int32_t count, const char *whose, hn_error *error)
{
    hn_status status = HN_OK;
    const char **sorted = hn_reallocarray(NULL, (size_t)count, sizeof *sorted);
    if (!sorted) return no_memory(error);
    for (int32_t i = 0; i < count; i++) sorted[i] = names[i];
    qsort(sorted, (size_t)count, sizeof *sorted, by_text);
    for (int32_t i = 1; i < count && status == HN_OK; i++)
        if (!strcmp(sorted[i - 1], sorted[i]))
            status = hn_fail(error, HN_ERR_USAGE, "%s: expected every label once, got \"%s\" twice", whose, sorted[i]);
    hn_free(sorted);
    return status;
}

/* order[] from the config's names to the model's, as many; *same: each has its own. */
static hn_status take_order(hn_labels *labels, bool *same, hn_error *error)
{
    bool *taken = hn_calloc((size_t)labels->count, sizeof *taken);
    spelt *sorted = hn_reallocarray(NULL, (size_t)labels->count, sizeof *sorted);
    hn_status status = taken && sorted ? HN_OK : no_memory(error);
    for (int32_t i = 0; !status && i < labels->count; i++) sorted[i] = (spelt){labels->names[i], i};
    if (!status) qsort(sorted, (size_t)labels->count, sizeof *sorted, by_letters);
    for (int32_t i = 0; !status && *same && i < labels->count; i++) {
        int32_t label = find_sorted(sorted, labels->count, labels->config[i]);
        *same = label >= 0 && !taken[label];
        if (!*same) break;
        taken[label] = true;
        labels->order[i] = label;
        labels->remapped |= label != i;
    }
    hn_free(taken);
    hn_free(sorted);
    return status;
}

/* The user's names against the model's: order[] is filled, or the difference is the error. */
static hn_status match(hn_labels *labels, int32_t config_count, hn_error *error)
{
    char ours[400], theirs[400];
    bool same = config_count == labels->count;
    hn_status status = same ? take_order(labels, &same, error) : HN_OK;
    if (status) return status;
    if (same) return HN_OK;
    list_names(labels->config, config_count, ours, sizeof ours);
    list_names(labels->names, labels->count, theirs, sizeof theirs);
    return hn_fail(error, HN_ERR_MISMATCH,
                   "task.labels: expected the model's labels (id2label), in any order: %s; got: %s. To train "
                   "new classes, "
                   "start from a model without these",
                   theirs, ours);
}

static hn_status name_classes(hn_labels *labels, const hn_labels_options *o, hn_error *error)
{
    const char *const *model =
        o->model_names && !names_are_generic(o->model_names, o->model_count) ? o->model_names : NULL;
    const char *const *names = model ? model : o->count ? o->names : o->model_names;
    labels->count = model ? o->model_count : o->count ? o->count : o->model_names ? o->model_count : 0;
    if (labels->count < 2)
        return hn_fail(error, HN_ERR_USAGE,
                       "task.labels: expected the names of at least two classes, got %d%s",
                       (int)labels->count, o->model_names ? "" : " (and the model names none)");
    labels->names = copy_names(names, labels->count);
    labels->order = hn_calloc((size_t)labels->count, sizeof *labels->order);
    if (!labels->names || !labels->order) return no_memory(error);
    for (int32_t i = 0; i < labels->count; i++) labels->order[i] = i;
    hn_status status =
        check_twice(labels->names, labels->count, model ? "the model's id2label" : "task.labels", error);
    if (status || !model || !o->count) return status;
    labels->config = copy_names(o->names, o->count);
    if (!labels->config) return no_memory(error);
    status = check_twice(labels->config, o->count, "task.labels", error);
    if (!status) status = match(labels, o->count, error);
    if (status) {
        free_names(labels->config, o->count);
        labels->config = NULL;
    }
    return status;
}

/* A whole decimal integer, also as tables of numbers write it ("2.0"). */
static bool parse_index(const char *text, long *out)
{
    char *end;
    if (!*text || strchr(" \t\n\v\f\r", *text)) return false;
    *out = strtol(text, &end, 10);
    if (end == text) return false;
    if (*end == '.') end += 1 + strspn(end + 1, "0");
    return *end == '\0';
}

static hn_label_kind resolve_value(const char *text, float *value)
{
    char *end;
    if (!strcmp(text, "-")) return HN_LABEL_NONE;
    if (!*text || strspn(text, "+-.0123456789eE") != strlen(text)) return HN_LABEL_BAD;
    *value = strtof(text, &end);
    return *end || !isfinite(*value) ? HN_LABEL_BAD : HN_LABEL_VALUE;
}

static hn_label_kind resolve_plain(const hn_labels *labels, const char *text, int32_t *label, float *value)
{
    if (labels->regression) return resolve_value(text, value);
    int32_t user = find(labels->config, labels->count, text);
    *label = user >= 0 ? labels->order[user] : find(labels->names, labels->count, text);
    if (*label >= 0) return HN_LABEL_CLASS;
    long number;
    if (!strcmp(text, "-")) return HN_LABEL_NONE;
    if (!parse_index(text, &number)) return HN_LABEL_BAD;
    if (number == -1) return HN_LABEL_NONE;
    if (number < 0 || number >= labels->count) return HN_LABEL_BAD;
    *label = labels->order[number];
    return HN_LABEL_CLASS;
}

static hn_status take_map(hn_labels *labels, const hn_map *map, const char *key, hn_error *error)
{
    labels->map = hn_calloc(map->count, sizeof *labels->map);
    if (!labels->map) return no_memory(error);
    for (size_t i = 0; i < map->count; i++) {
        mapped *m = &labels->map[i];
        char described[500];
        m->from = hn_strdup(map->keys[i]);
        if (!m->from) return no_memory(error);
        labels->map_count = i + 1;
        m->kind = resolve_plain(labels, map->values[i], &m->label, &m->value);
        if (m->kind != HN_LABEL_BAD) continue;
        hn_labels_describe(labels, described, sizeof described);
        return hn_fail(error, HN_ERR_USAGE, "%s.%s: expected %s, got \"%s\"", key, map->keys[i], described, map->values[i]);
    }
    return HN_OK;
}

static hn_status take_digest(hn_labels *labels, hn_error *error)
{
    hn_hasher *hasher = hn_hasher_open();
    if (!hasher) return no_memory(error);
    hn_hasher_add_text(hasher, labels->regression ? "regression" : "classes");
    for (int32_t i = 0; i < labels->count && !labels->regression; i++) {
        hn_hasher_add_text(hasher, labels->names[i]);
        hn_hasher_add_text(hasher, labels->config ? labels->config[i] : "");
    }
    for (size_t i = 0; i < labels->map_count; i++) {
        const mapped *m = &labels->map[i];
        char text[64];
        snprintf(text, sizeof text, "%d %d %.9g", (int)m->kind, (int)m->label, (double)m->value);
        hn_hasher_add_text(hasher, m->from);
        hn_hasher_add_text(hasher, text);
    }
    labels->digest = hn_hasher_digest(hasher);
    hn_hasher_free(hasher);
    return HN_OK;
}

hn_status hn_labels_open(hn_labels **out, const hn_labels_options *options, hn_error *error)
{
    hn_labels *labels = hn_calloc(1, sizeof *labels);
    if (!labels) return no_memory(error);
    labels->regression = options->regression;
    labels->count = 1;
    hn_status status = options->regression ? HN_OK : name_classes(labels, options, error);
    if (!status && options->map && options->map->count)
        status = take_map(labels, options->map, options->map_key ? options->map_key : "data.label_map", error);
    if (!status) status = take_digest(labels, error);
    if (status)
        hn_labels_free(labels);
    else
        *out = labels;
    return status;
}

void hn_labels_free(hn_labels *labels)
{
    if (!labels) return;
    free_names(labels->names, labels->count);
    free_names(labels->config, labels->count);
    for (size_t i = 0; i < labels->map_count; i++) hn_free(labels->map[i].from);
    hn_free(labels->map);
    hn_free(labels->order);
    hn_free(labels);
}

int32_t hn_labels_count(const hn_labels *labels)
{
    return labels->count;
}

const char *hn_labels_name(const hn_labels *labels, int32_t label)
{
    HN_ASSERT(label >= 0 && label < labels->count);
    return labels->regression ? "value" : labels->names[label];
}

bool hn_labels_regression(const hn_labels *labels)
{
    return labels->regression;
}

bool hn_labels_remapped(const hn_labels *labels)
{
    return labels->remapped;
}

hn_digest hn_labels_digest(const hn_labels *labels)
{
    return labels->digest;
}

hn_label_kind hn_labels_resolve(const hn_labels *labels, const char *text, int32_t *label, float *value)
{
    for (size_t i = 0; i < labels->map_count; i++) {
        if (strcmp(labels->map[i].from, text)) continue;
        *label = labels->map[i].label;
        *value = labels->map[i].value;
        return labels->map[i].kind;
    }
    return resolve_plain(labels, text, label, value);
}

void hn_labels_describe(const hn_labels *labels, char *out, size_t size)
{
    if (labels->regression) {
        snprintf(out, size, "a finite number");
        return;
    }
    char names[400];
    list_names(labels->names, labels->count, names, sizeof names);
    snprintf(out, size, "one of %s, or its number 0 to %d", names, (int)labels->count - 1);
}
