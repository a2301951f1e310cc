/* Rows that the examples of a batch share. In a decoder, what stands at a token depends on the tokens before it alone; so where
 * examples begin alike (the words of a template, a system prompt), the same values would be computed once an example. Here the
 * later example goes without rows of its own for them:
 *
 *     a b c d e          rows 0 1 2 3 4      key_row 0 1 2 3 4
 *     a b c x            row  5                      0 1 2 5
 *     a b c x y          rows 6                      0 1 2 5 6
 *
 * An example shares with the earlier one that it has most in common with, among the last NEAR, and only rows at which it predicts
 * nothing that is trained on: each target keeps its own row, and the sums of losses are the same sums. */
#include "data/prefixes.h"

#include <string.h>

enum { NEAR = 64 };

static bool shares(const hn_dataset *dataset)
{
    return dataset->task == HN_DATA_INSTRUCT;
}

/* The tokens before the first whose row has a target; not the last one. */
static int32_t untrained(const hn_dataset *dataset, uint32_t example)
{
    const uint16_t *marks = dataset->marks + dataset->offsets[example];
    int32_t length = hn_dataset_length(dataset, example), i = 1;
    while (i < length && !marks[i]) i++;
    return i - 1;
}

/* How many of the first `most` tokens two examples have in common; less than that, when it is no more than `least` anyway. Token number
 * `least` is looked at first: behind a long system prompt that all examples have, that is where they differ. */
static int32_t alike(const hn_dataset *dataset, uint32_t a, uint32_t b, int32_t least, int32_t most)
{
    int32_t length = hn_dataset_length(dataset, b);
    int64_t item = dataset->wide ? 4 : 2, size = (most < length ? most : length) * item, at = least * item, i = 0;
    const char *x = (const char *)dataset->tokens + dataset->offsets[a] * item;
    const char *y = (const char *)dataset->tokens + dataset->offsets[b] * item;
    if (at >= size || memcmp(x + at, y + at, (size_t)item) != 0) return 0;
    while (i < size && x[i] == y[i]) i++;
    return (int32_t)(i / item);
}

int32_t hnp_shared_prefix(const hn_dataset *dataset, const uint32_t *examples, int32_t n, int32_t *with)
{
    int32_t best = 0;
    *with = n;
    if (!shares(dataset)) return 0;
    int32_t most = untrained(dataset, examples[n]);
    for (int32_t i = n - 1; i >= 0 && i >= n - NEAR && best < most; i--) {
        int32_t same = alike(dataset, examples[n], examples[i], best, most);
        if (same <= best) continue;
        best = same;
        *with = i;
    }
    return best;
}

int32_t hn_dataset_shared_rows(const hn_dataset *dataset, const uint32_t *examples, int32_t count)
{
    int32_t rows = 0, with;
    for (int32_t n = 0; n < count; n++)
        rows += hn_dataset_length(dataset, examples[n]) - hnp_shared_prefix(dataset, examples, n, &with);
    return rows;
}

void hnp_key_rows(hn_batch *batch, int32_t n, int32_t shared, int32_t with, int32_t own)
{
    int32_t *row = batch->key_row + batch->cu_keys[n];
    memcpy(row, batch->key_row + batch->cu_keys[with], (size_t)shared * sizeof *row);
    for (int32_t i = 0; i < own; i++) row[shared + i] = batch->cu_seqlens[n] + i;
    batch->cu_keys[n + 1] = batch->cu_keys[n] + shared + own;
}

void hnp_key_uses(hn_batch *batch)
{
    int32_t *end = batch->cu_uses + 1; /* counts, then where the uses of a row begin, then where they end */
    memset(batch->cu_uses, 0, ((size_t)batch->tokens + 1) * sizeof *end);
    for (int32_t k = 0; k < batch->keys; k++) end[batch->key_row[k]]++;
    for (int32_t r = 0, at = 0; r < batch->tokens; r++) {
        int32_t count = end[r];
        end[r] = at;
        at += count;
    }
    for (int32_t k = 0; k < batch->keys; k++) batch->use[end[batch->key_row[k]]++] = k;
}
