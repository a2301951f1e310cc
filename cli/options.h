/* Options of the verbs that have values: --name VALUE or --name=VALUE, checked by a table. */
#ifndef HONE_CLI_OPTIONS_H
#define HONE_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"

typedef enum hn_option_kind { HN_OPTION_TEXT, HN_OPTION_TEXTS, HN_OPTION_INT, HN_OPTION_UINT64, HN_OPTION_FLOAT } hn_option_kind;

enum { HN_OPTION_TEXTS_MAX = 16 };

/* Texts given by an option that may come several times; borrowed from argv. */
typedef struct hn_option_texts {
    const char *items[HN_OPTION_TEXTS_MAX];
    size_t count;
} hn_option_texts;

typedef struct hn_option {
    const char *name; /* "--max-tokens"; a table ends with NULL */
    hn_option_kind kind;
    void *value;      /* const char *, hn_option_texts, int32_t, uint64_t or float; left as it is when the option is not given */
    double min, max;  /* of numbers */
    bool above;       /* above min, not min itself */
    bool *given;      /* or NULL */
} hn_option;

/* Takes the table's options with their values out of argv; the rest stays, in order, for hn_cli_arguments. A value of a wrong kind
 * or out of bounds, or an option that is given twice, is an error that names it. */
hn_status hn_cli_options(const hn_option *table, int *argc, char **argv, hn_error *error);

#endif
