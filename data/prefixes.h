/* Rows that the examples of a batch share (core/batch.h: key_row). */
#ifndef HONE_DATA_PREFIXES_H
#define HONE_DATA_PREFIXES_H

#include "data/datasets.h"

/* How many first tokens examples[n] takes from examples[*with], an earlier one of the batch, itself when none. */
int32_t hnp_shared_prefix(const hn_dataset *dataset, const uint32_t *examples, int32_t n, int32_t *with);
/* Fills key_row of sequence n, which takes `shared` rows from sequence `with` and has `own` behind them. */
void hnp_key_rows(hn_batch *batch, int32_t n, int32_t shared, int32_t with, int32_t own);
/* Fills cu_uses and use, when tokens, keys and key_row are whole. */
void hnp_key_uses(hn_batch *batch);

#endif
