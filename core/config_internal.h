/* What the files of the config engine share. */
#ifndef HONE_CORE_CONFIG_INTERNAL_H
#define HONE_CORE_CONFIG_INTERNAL_H

#include "core/config.h"

#define HNP_NAME 128 /* bytes of "section.name", with its NUL */

void hnp_key_name(char name[HNP_NAME], const hn_key *key);

/* A key's value as its struct holds it. Strings point into the canonical JSON it was made with. */
typedef struct hnp_value {
    union {
        bool boolean;
        int64_t integer;
        double number;
        const char *string;
        int choice;
        hn_list list;
        hn_interval interval;
        hn_map map;
    };
    void *block; /* what list and map point to, or NULL (hn_free) */
} hnp_value;

/* "a number from 0 to 1", "one of linear, cosine": for errors and the reference. */
void hnp_key_expected(hn_strbuf *out, const hn_key *key);

/* Checks `given` and makes the value and its canonical JSON (a new reference), which reads back as the same
 * value. HN_ERR_USAGE: *why got "expected ..., got ..."; HN_ERR_MEMORY. */
hn_status hnp_value_from_json(hnp_value *out, json_t **canonical, const hn_key *key, const json_t *given,
                              hn_strbuf *why);

/* What a command-line text stands for: a new reference that from_json still checks. NULL: out of memory, or
 * *why got the reason. */
json_t *hnp_json_from_text(const hn_key *key, const char *text, hn_strbuf *why);

/* The key's default as JSON (a new reference); NULL: out of memory. */
json_t *hnp_key_fallback(const hn_key *key);

void hnp_value_store(const hnp_value *value, const hn_key *key, void *values);

/* Edits (insert, delete, change, swap of neighbours) that turn one text into the other; only the first 63
 * bytes count. */
size_t hnp_edit_distance(const char *a, const char *b);

#endif
