/* Shared inside data/: rows in, columns out, over several threads. */
#ifndef HONE_DATA_ENCODE_H
#define HONE_DATA_ENCODE_H

#include "data/columns.h"
#include "data/dataset.h"

/* Where rows come from. `next` is called by one thread, the caller of hnp_encode; a row's path stays to its end. */
typedef struct hnp_source {
    void *state;
    hn_status (*next)(void *state, hn_row *row, bool *end, hn_error *error);
} hnp_source;

typedef struct hnp_encode_options {
    hn_data_task task;
    const hn_tokenizer *tokenizer;
    int32_t end_token;       /* of documents; -1: none */
    const hn_template *chat; /* of conversations */
    int on_long;             /* hn_on_long, of conversations */
    const hn_labels *labels; /* NULL: labels are not read */
    const char *label_field; /* for messages */
    hn_bad_rows *bad;        /* unknown labels, and rows with nothing to learn, are counted here */
    int32_t max_tokens;
    bool whole_pairs; /* of pairs the first text alone is cut */
    int32_t files;
    int threads; /* 0: one a core; the columns do not depend on it */
    uint64_t *pulse; /* hn_pulse every some rows; NULL: nobody looks */
} hnp_encode_options;

typedef struct hnp_encode_counts {
    int64_t unlabeled, truncated;
} hnp_encode_counts;

hn_status hnp_encode(hnp_columns *columns, hnp_encode_counts *counts, hnp_source source,
                     const hnp_encode_options *options, hn_error *error);

#endif
