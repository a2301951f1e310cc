/* Loading a config: every key of every table becomes a slot; the file and then the command line give slots
 * their JSON; then each slot is checked and converted (config_value.c), and only when all of them fit are the
 * rooms' structs written. A problem never ends the walk: it adds a line, so that one run shows them all.
 *
 *     file ──walk──┐
 *                  ├─> slot.given ──> slot.value + canonical JSON ──> structs, resolved config
 *     overrides ───┘       (default where nothing was given)
 *
 * The canonical JSON of all slots together is the resolved config. It owns every string that the structs
 * point to. */
#include "core/config.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config_internal.h"
#include "core/json.h"
#include "core/mem.h"

typedef struct slot {
    const hn_key *key;
    void *values;        /* the struct of its table, or NULL */
    char name[HNP_NAME]; /* "section.name" */
    json_t *given;       /* NULL: nothing was given */
    const char *source;  /* where, for messages */
    hnp_value value;
    json_t *canonical; /* NULL: the key is required, missing, and waived */
} slot;

struct hn_config {
    slot *slots;
    size_t count;
    json_t *resolved;
};

typedef struct loader {
    hn_config *config;
    const char *path; /* the file, or NULL */
    hn_strbuf problems, name, why;
    size_t problem_count;
    bool no_memory;
} loader;

static const char COMMAND_LINE[] = "command line";

/* Ends a line of `problems` that was just written. */
static void problem_end(loader *l)
{
    l->problem_count++;
    hn_strbuf_putc(&l->problems, '\n');
}

/* Whether no further line fits the message: it only counts, and costs nothing. A file of 4 MB can hold 70,000 unknown keys, each to
 * be compared with every key there is. */
static bool full(loader *l)
{
    if (l->problems.length <= sizeof((hn_error *)0)->message) return false;
    l->problem_count++;
    return true;
}

/* Texts of strangers in messages: cut, and without bytes that could drive a terminal. */
static void add_shown(hn_strbuf *out, const char *text)
{
    for (size_t i = 0; text[i]; i++) {
        if (i == 80) {
            hn_strbuf_puts(out, "...");
            return;
        }
        bool control = (unsigned char)text[i] < 0x20 || text[i] == 0x7f;
        hn_strbuf_putc(out, control ? '?' : text[i]);
    }
}

static bool slots_make(hn_config *config, const hn_key_table *tables, size_t table_count)
{
    size_t count = 0;
    for (size_t t = 0; t < table_count; t++) count += tables[t].count;
    config->slots = hn_calloc(count, sizeof *config->slots);
    if (!config->slots) return false;
    for (size_t t = 0; t < table_count; t++)
        for (size_t k = 0; k < tables[t].count; k++) {
            slot *made = &config->slots[config->count];
            *made = (slot){.key = &tables[t].keys[k], .values = tables[t].values};
            hnp_key_name(made->name, made->key);
            for (size_t i = 0; i < config->count; i++) HN_ASSERT(strcmp(config->slots[i].name, made->name));
            config->count++;
        }
    return true;
}

static slot *find(const hn_config *config, const char *name)
{
    for (size_t i = 0; i < config->count; i++)
        if (!strcmp(config->slots[i].name, name)) return &config->slots[i];
    return NULL;
}

/* Whether some key's name goes on behind `name` with a dot. */
static bool is_prefix(const hn_config *config, const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < config->count; i++)
        if (!strncmp(config->slots[i].name, name, length) && config->slots[i].name[length] == '.')
            return true;
    return false;
}

static const char *last_part(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

/* The key that was probably meant: few edits away, or the same last part in another section. NULL: none is
 * near. */
static const slot *nearest(const hn_config *config, const char *name)
{
    const slot *best = NULL;
    size_t best_distance = strlen(name) / 2 + 1;
    for (size_t i = 0; i < config->count; i++) {
        const char *candidate = config->slots[i].name;
        size_t whole = hnp_edit_distance(name, candidate);
        size_t part = hnp_edit_distance(last_part(name), last_part(candidate)) + 1;
        size_t distance = whole < part ? whole : part;
        if (distance < best_distance) {
            best = &config->slots[i];
            best_distance = distance;
        }
    }
    return best;
}

static void unknown_section(loader *l, const char *name)
{
    const char *best = NULL;
    size_t best_distance = SIZE_MAX;
    char section[HNP_NAME];
    if (full(l)) return;
    for (size_t i = 0; i < l->config->count; i++) {
        size_t distance = hnp_edit_distance(name, l->config->slots[i].key->section);
        if (distance >= best_distance) continue;
        best = l->config->slots[i].key->section;
        best_distance = distance;
    }
    snprintf(section, sizeof section, "%s", best ? best : "");
    hn_strbuf_printf(&l->problems, "%s: ", l->path);
    add_shown(&l->problems, name);
    hn_strbuf_printf(&l->problems, ": unknown section; the nearest is %s", section);
    problem_end(l);
}

static void unknown_key(loader *l, const char *source, const char *name, const json_t *given)
{
    if (full(l)) return;
    const slot *near = nearest(l->config, name);
    hn_strbuf_printf(&l->problems, "%s: ", source);
    add_shown(&l->problems, name);
    hn_strbuf_printf(&l->problems, ": unknown key, got %s", hn_json_show(given).text);
    if (near) {
        hn_strbuf_printf(&l->problems, "; the nearest is %s, ", near->name);
        hnp_key_expected(&l->problems, near->key);
    } else {
        hn_strbuf_puts(&l->problems, "; `hone keys` lists what there is");
    }
    problem_end(l);
}

/* Takes a reference of its own. */
static void give(loader *l, slot *s, json_t *value, const char *source)
{
    if (s->given && s->source == source && source != COMMAND_LINE) {
        hn_strbuf_printf(&l->problems, "%s: %s: given twice", source, s->name);
        problem_end(l);
        return;
    }
    json_decref(s->given);
    s->given = json_incref(value);
    s->source = source;
}

/* The members of an object of the file; l->name holds the names above it. Depth is bounded by the longest key
 * name. */
static void walk(loader *l, json_t *object)
{
    const char *member;
    json_t *value;
    size_t mark = l->name.length;
    json_object_foreach(object, member, value)
    {
        if (mark) hn_strbuf_putc(&l->name, '.');
        hn_strbuf_puts(&l->name, member);
        if (l->name.failed) return;
        const char *name = l->name.text;
        slot *s = find(l->config, name);
        if (s)
            give(l, s, value, l->path);
        else if (!is_prefix(l->config, name)) {
            if (!mark && json_is_object(value))
                unknown_section(l, name);
            else
                unknown_key(l, l->path, name, value);
        } else if (json_is_object(value)) {
            walk(l, value);
        } else {
            hn_strbuf_printf(&l->problems, "%s: %s: expected an object of keys, got %s", l->path, name,
                             hn_json_show(value).text);
            problem_end(l);
        }
        if (l->name.failed) return;
        l->name.length = mark;
        l->name.text[mark] = '\0';
    }
}

/* Sets one member of a map key from "section.name.member=value". */
static void give_member(loader *l, slot *s, const char *member, const char *text)
{
    json_t *map = json_is_object(s->given) ? json_copy(s->given) : json_object();
    if (!hn_utf8_valid(member, strlen(member)) || !hn_utf8_valid(text, strlen(text))) {
        hn_strbuf_printf(&l->problems, "%s: %s: expected UTF-8, got other bytes", COMMAND_LINE, s->name);
        problem_end(l);
    } else if (!map || json_object_set_new(map, member, json_string(text))) {
        l->no_memory = true;
    } else {
        give(l, s, map, COMMAND_LINE);
    }
    json_decref(map);
}

/* The map key that `name` names a member of, or NULL. */
static slot *find_map(const hn_config *config, const char *name)
{
    for (size_t i = 0; i < config->count; i++) {
        slot *s = &config->slots[i];
        size_t length = strlen(s->name);
        if (s->key->type == HN_KEY_MAP && !strncmp(s->name, name, length) && name[length] == '.' &&
            name[length + 1])
            return s;
    }
    return NULL;
}

static void override(loader *l, const char *name, const char *text)
{
    slot *s = find(l->config, name), *map = s ? NULL : find_map(l->config, name);
    if (map) {
        give_member(l, map, name + strlen(map->name) + 1, text);
        return;
    }
    hn_strbuf_reset(&l->why);
    const hn_key as_text = {.type = HN_KEY_STRING};
    json_t *value = hnp_json_from_text(s ? s->key : &as_text, text, &l->why);
    if (!value && l->why.length) {
        hn_strbuf_printf(&l->problems, "%s: ", COMMAND_LINE);
        add_shown(&l->problems, name);
        hn_strbuf_printf(&l->problems, ": %s", l->why.text);
        problem_end(l);
    } else if (!value) {
        l->no_memory = true;
    } else if (s) {
        give(l, s, value, COMMAND_LINE);
    } else {
        unknown_key(l, COMMAND_LINE, name, value);
    }
    json_decref(value);
}

static void read_overrides(loader *l, const char *const *overrides, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *equals = strchr(overrides[i], '=');
        char *name = equals ? hn_strndup(overrides[i], (size_t)(equals - overrides[i])) : NULL;
        if (!equals) {
            hn_strbuf_printf(&l->problems, "%s: expected section.name=value, got \"", COMMAND_LINE);
            add_shown(&l->problems, overrides[i]);
            hn_strbuf_putc(&l->problems, '"');
            problem_end(l);
        } else if (!name) {
            l->no_memory = true;
        } else {
            override(l, name, equals + 1);
        }
        hn_free(name);
    }
}

/* false: the file could not be read, so that nothing is known about missing keys. */
static bool read_file(loader *l)
{
    json_t *root = NULL;
    hn_error error = {0};
    bool readable = true;
    if (!l->path) return true;
    hn_status status = hn_json_load(&root, l->path, HN_JSON_LIMITS_SMALL, &error);
    if (status == HN_ERR_MEMORY) {
        l->no_memory = true;
    } else if (status != HN_OK) {
        hn_strbuf_puts(&l->problems, error.message);
        readable = false;
    } else if (!json_is_object(root)) {
        hn_strbuf_printf(&l->problems, "%s: expected an object of sections, got %s", l->path,
                         hn_json_show(root).text);
        readable = false;
    } else {
        walk(l, root);
    }
    if (!readable) problem_end(l);
    json_decref(root);
    return readable;
}

static void missing(loader *l, const slot *s)
{
    hn_strbuf_printf(&l->problems, "%s: %s: required and missing: expected ",
                     l->path ? l->path : COMMAND_LINE, s->name);
    hnp_key_expected(&l->problems, s->key);
    if (s->key->help) hn_strbuf_printf(&l->problems, " (%s)", s->key->help);
    problem_end(l);
}

/* A null for a required key counts as missing: that is how the resolved config of a verb that waived it has
 * it. */
static void resolve(loader *l, slot *s, bool waive)
{
    bool required = !s->key->fallback;
    bool absent = !s->given || (required && json_is_null(s->given));
    HN_ASSERT(required || strcmp(s->key->fallback, "null") || s->key->type == HN_KEY_STRING ||
              s->key->type == HN_KEY_LIST || s->key->type == HN_KEY_MAP);
    if (absent && required) {
        if (!waive) missing(l, s);
        return;
    }
    json_t *given = absent ? hnp_key_fallback(s->key) : json_incref(s->given);
    hn_strbuf_reset(&l->why);
    hn_status status =
        given ? hnp_value_from_json(&s->value, &s->canonical, s->key, given, &l->why) : HN_ERR_MEMORY;
    json_decref(given);
    if (status == HN_ERR_MEMORY) l->no_memory = true;
    if (status != HN_ERR_USAGE) return;
    HN_ASSERT(!absent); /* a default in our own table that breaks its own bounds */
    hn_strbuf_printf(&l->problems, "%s: %s: %s", s->source, s->name, l->why.text);
    problem_end(l);
}

/* object.a.b.c = value for the name "a.b.c"; takes over `value`. */
static bool set_path(json_t *object, const char *name, json_t *value)
{
    char part[HNP_NAME];
    for (size_t length; name[length = strcspn(name, ".")]; name += length + 1) {
        snprintf(part, sizeof part, "%.*s", (int)length, name);
        json_t *inner = json_object_get(object, part);
        if (!inner && json_object_set_new(object, part, inner = json_object())) {
            json_decref(value);
            return false;
        }
        object = inner;
    }
    return !json_object_set_new(object, name, value);
}

static const json_t *get_path(const json_t *object, const char *name)
{
    char part[HNP_NAME];
    for (size_t length; name[length = strcspn(name, ".")]; name += length + 1) {
        snprintf(part, sizeof part, "%.*s", (int)length, name);
        object = json_object_get(object, part);
    }
    return json_object_get(object, name);
}

static bool make_resolved(hn_config *config)
{
    config->resolved = json_object();
    if (!config->resolved) return false;
    for (size_t i = 0; i < config->count; i++) {
        json_t *value = config->slots[i].canonical;
        if (!set_path(config->resolved, config->slots[i].name, value ? json_incref(value) : json_null()))
            return false;
    }
    return true;
}

/* As many whole lines as fit, and how many more there are. */
static hn_status report(loader *l, hn_error *error)
{
    enum { ROOM = sizeof((hn_error *)0)->message - 40 };
    size_t end = 0, shown = 0;
    const char *text = l->problems.text, *newline;
    if (l->problems.failed) return hn_fail(error, HN_ERR_MEMORY, "out of memory while reading the config");
    while ((newline = strchr(text + end, '\n')) && (size_t)(newline - text) < ROOM) {
        end = (size_t)(newline - text) + 1;
        shown++;
    }
    if (!shown) return hn_fail(error, HN_ERR_USAGE, "%.*s...", (int)ROOM, text);
    if (shown == l->problem_count) return hn_fail(error, HN_ERR_USAGE, "%.*s", (int)end - 1, text);
    return hn_fail(error, HN_ERR_USAGE, "%.*s... and %zu more", (int)end, text, l->problem_count - shown);
}

hn_status hn_config_load(hn_config **out, const hn_key_table *tables, size_t table_count, const char *path,
                         const char *const *overrides, size_t override_count, bool partial, hn_error *error)
{
    hn_status status = HN_OK;
    loader l = {.config = hn_calloc(1, sizeof(hn_config)), .path = path};
    hn_strbuf_init(&l.problems);
    hn_strbuf_init(&l.name);
    hn_strbuf_init(&l.why);
    if (!l.config || !slots_make(l.config, tables, table_count)) {
        status = hn_fail(error, HN_ERR_MEMORY, "out of memory while reading the config");
        goto out;
    }
    bool readable = read_file(&l);
    read_overrides(&l, overrides, override_count);
    for (size_t i = 0; i < l.config->count; i++) resolve(&l, &l.config->slots[i], partial || !readable);
    if (l.no_memory || l.name.failed || l.why.failed || (!l.problem_count && !make_resolved(l.config)))
        status = hn_fail(error, HN_ERR_MEMORY, "out of memory while reading the config");
    else if (l.problem_count)
        status = report(&l, error);
    if (status != HN_OK) goto out;
    for (size_t i = 0; i < l.config->count; i++) {
        const slot *s = &l.config->slots[i];
        if (s->values && s->canonical) hnp_value_store(&s->value, s->key, s->values);
    }
    *out = l.config;
    l.config = NULL;
out:
    hn_config_free(l.config);
    hn_strbuf_close(&l.problems);
    hn_strbuf_close(&l.name);
    hn_strbuf_close(&l.why);
    return status;
}

void hn_config_free(hn_config *config)
{
    if (!config) return;
    for (size_t i = 0; i < config->count; i++) {
        json_decref(config->slots[i].given);
        json_decref(config->slots[i].canonical);
        hn_free(config->slots[i].value.block);
    }
    json_decref(config->resolved);
    hn_free(config->slots);
    hn_free(config);
}

json_t *hn_config_resolved(const hn_config *config)
{
    return json_deep_copy(config->resolved);
}

/* A key's value in a resolved config, its default where the config is from before the key: a new reference,
 * or NULL. */
static json_t *resolved_value(const json_t *resolved, const char *name, const hn_key *key)
{
    const json_t *found = get_path(resolved, name);
    json_t *given = NULL, *canonical = NULL;
    hnp_value value = {0};
    hn_strbuf why;
    if (found) return json_incref((json_t *)(uintptr_t)found);
    if (!key->fallback) return json_null();
    hn_strbuf_init(&why);
    given = hnp_key_fallback(key);
    if (given) hnp_value_from_json(&value, &canonical, key, given, &why);
    hn_free(value.block);
    json_decref(given);
    hn_strbuf_close(&why);
    return canonical;
}

bool hn_config_difference(hn_strbuf *lines, const hn_key_table *tables, size_t table_count,
                          const json_t *before, const json_t *after)
{
    bool safe = true;
    for (size_t t = 0; t < table_count; t++)
        for (size_t k = 0; k < tables[t].count; k++) {
            char name[HNP_NAME];
            const hn_key *key = &tables[t].keys[k];
            hnp_key_name(name, key);
            if (!strcmp(name, "resume.force")) continue; /* it says how to go on, not what the run is */
            json_t *a = resolved_value(before, name, key), *b = resolved_value(after, name, key);
            if (!a || !b) {
                lines->failed = true;
                safe = false;
            } else if (!json_equal(a, b)) {
                hn_strbuf_printf(lines, "%s: ", name);
                hn_json_write(lines, a, 0);
                hn_strbuf_puts(lines, " -> ");
                hn_json_write(lines, b, 0);
                hn_strbuf_putc(lines, '\n');
                safe = safe && key->safe_on_resume;
            }
            json_decref(a);
            json_decref(b);
        }
    return safe;
}

int64_t hn_interval_steps(hn_interval interval, int64_t steps_per_epoch)
{
    double steps = interval.value;
    if (interval.unit == HN_INTERVAL_OFF) return 0;
    if (interval.unit == HN_INTERVAL_EPOCHS) steps *= (double)steps_per_epoch;
    if (steps < 1) return 1;
    return steps < 0x1p62 ? (int64_t)llround(steps) : INT64_MAX;
}
