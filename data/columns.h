/* Shared inside data/: the columns of a data set while it is built and while it is read.
 *
 *     TOKENS   u16 or i32 [tokens]    ids of all examples, end to end (u16 when the vocabulary fits)
 *     MARKS    u16 [tokens] or [0]    whether a token is trained on, for tasks where not all are
 *     OFFSETS  i64 [n + 1]            first token of each example
 *     SEGMENT  i32 [n]                tokens of the first text, with its special tokens; the rest has type 1
 *     LABEL    i32 [n]                class, or HN_NO_TARGET
 *     VALUE    f32 [n]                regression target, or 0
 *     LINE     i64 [n]                where the row stands in its file
 *     FIRST    i64 [files + 1]        first example of each file
 */
#ifndef HONE_DATA_COLUMNS_H
#define HONE_DATA_COLUMNS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"

enum { HNP_TOKENS, HNP_MARKS, HNP_OFFSETS, HNP_SEGMENT, HNP_LABELS, HNP_VALUES, HNP_LINES, HNP_FIRST, HNP_COLUMNS };

/* A growing column: in memory, or (spooled) in an unnamed file on the disk of the cache, so that building a
 * cache needs no memory that grows with the data. */
typedef struct hnp_column {
    size_t item;           /* bytes */
    size_t count;          /* items so far */
    unsigned char *memory; /* all items; spooled: the last ones, not yet written */
    size_t capacity;       /* of `memory`, in items */
    size_t written;        /* spooled: items in the file */
    int fd;                /* -1: in memory */
    const char *folder;    /* of the file; borrowed */
} hnp_column;

typedef struct hnp_columns {
    hnp_column column[HNP_COLUMNS];
    bool wide; /* TOKENS are i32 */
} hnp_columns;

/* `spool`: a folder, or NULL for memory. */
hn_status hnp_columns_init(hnp_columns *columns, bool wide, const char *spool, hn_error *error);
hn_status hnp_column_add(hnp_column *column, const void *items, size_t count, hn_error *error);
/* Up to `capacity` items from number `from` on; *count of them, 0 only at the end. */
hn_status hnp_column_read(hnp_column *column, void *items, size_t from, size_t capacity, size_t *count,
                          hn_error *error);
void hnp_columns_close(hnp_columns *columns);

#endif
