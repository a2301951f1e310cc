/* What `hone data` counts over a whole data set (dataset.h). Duplicates are found by sorting a 64-bit hash of
 * each example's tokens: 16 bytes an example for the time of the call; that two different examples share a
 * hash is a matter of 1 in 10^8 at a million examples, and would only miscount. */
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "data/datasets.h"

typedef struct mark {
    uint64_t hash;
    uint32_t example;
} mark;

static int compare(const void *a, const void *b)
{
    const mark *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return x->example < y->example ? -1 : x->example > y->example;
}

static uint64_t hash_example(const hn_dataset *dataset, int64_t example)
{
    size_t item = dataset->wide ? 4 : 2, from = (size_t)dataset->offsets[example];
    hn_digest digest = hn_digest_bytes((const char *)dataset->tokens + from * item,
                                       (size_t)hn_dataset_length(dataset, example) * item);
    return digest.low ^ (uint64_t)dataset->segment[example] * 0x9E3779B97F4A7C15u;
}

static bool same_label(const hn_dataset *dataset, uint32_t a, uint32_t b)
{
    return dataset->label[a] == dataset->label[b] && dataset->value[a] == dataset->value[b];
}

/* The hashes of all examples (hn_free), not sorted yet. */
static hn_status make_marks(mark **out, const hn_dataset *dataset, hn_error *error)
{
    mark *marks = hn_calloc((size_t)dataset->count, sizeof *marks);
    if (!marks)
        return hn_fail(error, HN_ERR_MEMORY, "survey of %lld examples: out of memory",
                       (long long)dataset->count);
    for (int64_t i = 0; i < dataset->count; i++) marks[i] = (mark){hash_example(dataset, i), (uint32_t)i};
    *out = marks;
    return HN_OK;
}

hn_status hn_dataset_survey(const hn_dataset *dataset, hn_data_survey *out, int64_t *label_counts,
                            int32_t labels, hn_error *error)
{
    mark *marks;
    hn_status status = make_marks(&marks, dataset, error);
    if (status) return status;
    *out = (hn_data_survey){.bin_width = dataset->report.longest / HN_SURVEY_BINS + 1};
    if (label_counts) memset(label_counts, 0, (size_t)labels * sizeof *label_counts);
    for (int64_t i = 0; i < dataset->count; i++) {
        int32_t label = dataset->label[i];
        uint32_t example = (uint32_t)i;
        out->targets += hn_dataset_targets(dataset, &example, 1, NULL);
        out->bins[(hn_dataset_length(dataset, i) - 1) / out->bin_width]++;
        if (label_counts && label >= 0 && label < labels) label_counts[label]++;
    }
    qsort(marks, (size_t)dataset->count, sizeof *marks, compare);
    for (int64_t i = 1, first = 0; i < dataset->count; i++) {
        if (marks[i].hash != marks[first].hash) {
            first = i;
            continue;
        }
        out->duplicates++;
        out->conflicts += !same_label(dataset, marks[i].example, marks[first].example);
    }
    hn_free(marks);
    return HN_OK;
}

hn_status hn_dataset_overlap(const hn_dataset *dataset, const hn_dataset *other, int64_t *count,
                             int64_t *first, hn_error *error)
{
    mark *here = NULL, *there = NULL;
    HN_ASSERT(dataset->wide == other->wide);
    *count = 0;
    *first = -1;
    hn_status status = make_marks(&here, dataset, error);
    if (!status) status = make_marks(&there, other, error);
    if (!status) {
        qsort(here, (size_t)dataset->count, sizeof *here, compare);
        qsort(there, (size_t)other->count, sizeof *there, compare);
        for (int64_t i = 0, k = 0; i < dataset->count; i++) {
            while (k < other->count && there[k].hash < here[i].hash) k++;
            if (k == other->count || there[k].hash != here[i].hash) continue;
            ++*count;
            if (*first < 0 || here[i].example < *first) *first = here[i].example;
        }
    }
    hn_free(here);
    hn_free(there);
    return status;
}
