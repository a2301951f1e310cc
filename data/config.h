/* Section `data` of the config: what is read, and how. */
#ifndef HONE_DATA_CONFIG_H
#define HONE_DATA_CONFIG_H

#include "core/config.h"
#include "data/rows.h"
#include "data/template.h"

typedef struct hn_data_config {
    hn_list train, predict;
    hn_list dev;                     /* FILE, or NAME=FILE: see hn_data_sets_open */
    const char *text, *pair, *label; /* names of the fields; pair NULL: single texts */
    hn_map label_map;
    int format; /* hn_data_format */
    int64_t max_tokens;
    int on_long;             /* hn_on_long */
    int on_bad_row;          /* 0 error, 1 skip */
    hn_turn_fields turns_of; /* conversations in rows */
    const char *chat_template;
    hn_template_turns turns; /* the user's own strings */
    const char *system;
    hn_list loss; /* whose words are trained on */
    const char *cache; /* "auto": under the output folder; "off" or NULL: none; else a folder */
    int64_t threads;   /* 0: one a core */
    int64_t window;    /* batches sorted by length together; 0: never */
    bool shuffle;
    double mask_probability;
    const char *words, *tags; /* fields of task tag */
    bool mask_words;
} hn_data_config;

/* A conversation of more than max_tokens: its beginning, none of it (counted), or an error. */
typedef enum hn_on_long { HN_LONG_CUT, HN_LONG_SKIP, HN_LONG_REFUSE } hn_on_long;

extern const hn_key hn_data_keys[];
extern const size_t hn_data_key_count;

/* Named sets out of a list of files: "NAME=FILE" belongs to the set NAME, a file without a name to
 * `fallback`; sets stand in the order of their first file. A NAME is letters, digits, "_" and "-". */
typedef struct hn_data_set {
    char *name;
    hn_list files; /* items borrowed from the list */
} hn_data_set;
typedef struct hn_data_sets {
    hn_data_set *items;
    size_t count;
} hn_data_sets;
hn_status hn_data_sets_open(hn_data_sets *out, const hn_list *list, const char *fallback, hn_error *error);
void hn_data_sets_close(hn_data_sets *sets);

/* The template that the config asks for; strings are borrowed from it. */
hn_status hn_data_template(hn_template_options *out, const hn_data_config *config, hn_error *error);

/* The folder of the token cache (hn_free), or *out = NULL for none; `output` is the output folder, or NULL.
 */
hn_status hn_data_cache_folder(char **out, const hn_data_config *config, const char *output, hn_error *error);

#endif
