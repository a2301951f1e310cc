/* What an open data set answers (dataset.h); data/open.c makes it, data/order.c and data/batch.c use it. */
#include "data/dataset.h"

#include "core/mem.h"
#include "data/datasets.h"

void hn_dataset_free(hn_dataset *dataset)
{
    if (!dataset) return;
    hnp_columns_close(&dataset->columns);
    hn_mapping_close(&dataset->mapping);
    for (int32_t i = 0; i < dataset->file_count; i++) hn_free(dataset->paths[i]);
    hn_free(dataset->paths);
    hnp_masking_close(&dataset->masking);
    hn_free(dataset);
}

int64_t hn_dataset_count(const hn_dataset *dataset)
{
    return dataset->count;
}

int64_t hn_dataset_tokens(const hn_dataset *dataset)
{
    return dataset->report.tokens;
}

int32_t hn_dataset_longest(const hn_dataset *dataset)
{
    return dataset->report.longest;
}

int32_t hn_dataset_length(const hn_dataset *dataset, int64_t example)
{
    HN_ASSERT(example >= 0 && example < dataset->count);
    return (int32_t)(dataset->offsets[example + 1] - dataset->offsets[example]);
}

hn_digest hn_dataset_digest(const hn_dataset *dataset)
{
    return dataset->digest;
}

const hn_data_report *hn_dataset_report(const hn_dataset *dataset)
{
    return &dataset->report;
}

int64_t hn_dataset_line(const hn_dataset *dataset, int64_t example, const char **path)
{
    HN_ASSERT(example >= 0 && example < dataset->count);
    int32_t file = 0;
    while (dataset->first[file + 1] <= example) file++;
    *path = dataset->paths[file];
    return dataset->line[example];
}

int32_t hn_dataset_label(const hn_dataset *dataset, int64_t example)
{
    HN_ASSERT(example >= 0 && example < dataset->count);
    return dataset->label[example];
}
