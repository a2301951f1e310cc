/* Shared inside data/: what a data set is made of. */
#ifndef HONE_DATA_DATASETS_H
#define HONE_DATA_DATASETS_H

#include "core/file.h"
#include "data/columns.h"
#include "data/dataset.h"
#include "data/mask.h"

struct hn_dataset {
    int64_t count;
    hn_data_task task;
    hnp_masking masking; /* of MASKED */
    bool wide; /* token ids are i32, else u16 */
    /* Views of `columns` or of `mapping`; see columns.h for their shapes. */
    const void *tokens;
    const uint16_t *marks;
    const int64_t *offsets;
    const int32_t *segment, *label;
    const float *value;
    const int64_t *line, *first;
    int32_t file_count;
    char **paths; /* [file_count] */
    hn_digest digest;
    hn_data_report report;
    hnp_columns columns; /* owned, when there is no cache */
    hn_mapping mapping;  /* of the cache */
};

#endif
