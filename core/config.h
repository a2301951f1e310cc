/* The config engine: typed tables of keys drive parsing, overrides, --help and the reference page, so that a wrong config
 * never starts. A room declares the table of its own section beside its code; cli/ joins the tables.
 *
 * A table's values land in that room's struct by offset:
 *
 *     typedef struct hn_optim_config { double lr; ... } hn_optim_config;
 *     static const hn_key optim_keys[] = {
 *         {"optim", "lr", HN_KEY_FLOAT, .min = 0, .max = 1e3, .fallback = "5e-5", .offset = offsetof(hn_optim_config, lr),
 *          .help = "Peak learning rate"}, ...
 *
 * All errors are collected: each names the file (or "command line"), the key, what was expected, what stands there, and for
 * an unknown key the nearest one. */
#ifndef HONE_CORE_CONFIG_H
#define HONE_CORE_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/strbuf.h"

typedef enum hn_key_type {
    HN_KEY_BOOL,     /* bool */
    HN_KEY_INT,      /* int64_t */
    HN_KEY_FLOAT,    /* double */
    HN_KEY_STRING,   /* const char *, NULL when null */
    HN_KEY_CHOICE,   /* int: index into `choices` */
    HN_KEY_LIST,     /* hn_list of strings; a lone string is a list of one; "a,b" on the command line */
    HN_KEY_INTERVAL, /* hn_interval: "500 steps", "0.5 epoch", "off" */
    HN_KEY_MAP       /* hn_map of string to string or number, given as an object; section.name.key=value on the command line */
} hn_key_type;

typedef struct hn_list {
    const char **items;
    size_t count;
} hn_list;

typedef struct hn_map {
    const char **keys, **values;
    size_t count;
} hn_map;

typedef enum hn_interval_unit { HN_INTERVAL_OFF, HN_INTERVAL_STEPS, HN_INTERVAL_EPOCHS } hn_interval_unit;
typedef struct hn_interval {
    double value;
    hn_interval_unit unit;
} hn_interval;

typedef struct hn_key {
    const char *section, *name; /* "data", "fields.text": written data.fields.text, or nested objects */
    hn_key_type type;
    const char *unit;       /* "tokens", "steps", ... or NULL */
    double min, max;        /* INT, FLOAT, and the value of INTERVAL; both 0: unbounded */
    const char *choices;    /* "linear|cosine|constant" */
    const char *fallback;   /* default, as JSON text ("\"linear\"", "5e-5"); NULL: required; "null": none (STRING, LIST, MAP) */
    const char *help;       /* one line */
    size_t offset;
    bool safe_on_resume;    /* may differ when a run goes on (with resume.force where it says so) */
} hn_key;

typedef struct hn_key_table {
    const hn_key *keys;
    size_t count;
    void *values; /* the struct that `offset` counts in; NULL: the table is only described */
} hn_key_table;

typedef struct hn_config hn_config; /* owns every string, list and map that was stored */

/* Parses the file (NULL: none) and then `overrides` ("section.name=value", where the last wins) into the tables' structs.
 * Required keys may be waived with `partial` (verbs that need only some sections): where they are missing, their struct keeps
 * what it held and the resolved config has null. On failure (HN_ERR_USAGE) error->message lists every problem, a line each, as
 * many as fit, and neither *out nor a struct was written. What was stored lives as long as *out. */
hn_status hn_config_load(hn_config **out, const hn_key_table *tables, size_t table_count, const char *path,
                         const char *const *overrides, size_t override_count, bool partial, hn_error *error);
void hn_config_free(hn_config *config);

/* The complete, resolved config: a new reference (json_decref), every key of every table present. NULL: out of memory. */
json_t *hn_config_resolved(const hn_config *config);

/* What differs between two resolved configs, one "key: a -> b" a line, and whether every difference is safe_on_resume. */
bool hn_config_difference(hn_strbuf *lines, const hn_key_table *tables, size_t table_count, const json_t *before,
                          const json_t *after);

/* The reference page: Markdown, or plain lines; only of the keys that contain `word` in their name or help (NULL: all). */
void hn_config_reference(hn_strbuf *out, const hn_key_table *tables, size_t table_count, bool markdown,
                         const char *word);

/* Steps of an interval when an epoch has `steps_per_epoch`; at least 1; 0 for HN_INTERVAL_OFF. */
int64_t hn_interval_steps(hn_interval interval, int64_t steps_per_epoch);

#endif
