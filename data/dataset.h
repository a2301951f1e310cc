/* A data set: examples already encoded, in the token cache, and the batches of an epoch. The way there is
 *
 *     files -> reader (data/reader.h) -> rows -> encode (data/tokenizer.h) -> token cache (data/cache.h) -> this
 *
 * Examples are numbered 0, 1, 2, ... in file order over all files; that number keys random numbers and is what batches carry. */
#ifndef HONE_DATA_DATASET_H
#define HONE_DATA_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/batch.h"
#include "core/digest.h"
#include "core/error.h"

typedef struct hn_dataset hn_dataset;

int64_t hn_dataset_count(const hn_dataset *dataset);  /* examples */
int64_t hn_dataset_tokens(const hn_dataset *dataset); /* of all examples */
int32_t hn_dataset_longest(const hn_dataset *dataset);
int32_t hn_dataset_length(const hn_dataset *dataset, int64_t example); /* tokens of one */
hn_digest hn_dataset_digest(const hn_dataset *dataset); /* of data files, tokenizer and options */
void hn_dataset_free(hn_dataset *dataset);

/* The batches of one epoch: examples are shuffled by (seed, epoch), sorted by length inside windows of `window` batches so
 * that batches are of like lengths (0: never sorted, as for evaluation in file order), cut so that no batch has more than
 * `batch_tokens` tokens or `batch_examples` examples, and the batches are shuffled. A pure function of its arguments. */
typedef struct hn_order_options {
    uint64_t seed;
    int64_t epoch;
    int32_t batch_tokens, batch_examples;
    int32_t window;
    bool shuffle; /* false: file order */
} hn_order_options;

typedef struct hn_order hn_order;
hn_status hn_order_open(hn_order **out, const hn_dataset *dataset, const hn_order_options *options, hn_error *error);
void hn_order_free(hn_order *order);
int64_t hn_order_batches(const hn_order *order);
/* Examples of batch `index`, in order (borrowed). */
const uint32_t *hn_order_examples(const hn_order *order, int64_t index, int32_t *count);

/* Host arrays of a batch, for at most the bounds given. */
typedef struct hn_batch_buffer {
    hn_batch batch; /* host pointers into `memory` */
    void *memory;
    size_t size;
} hn_batch_buffer;
hn_status hn_batch_buffer_init(hn_batch_buffer *buffer, int32_t tokens, int32_t examples, hn_error *error);
void hn_batch_buffer_close(hn_batch_buffer *buffer);
/* Fills the buffer with these examples, end to end. */
hn_status hn_dataset_fill(const hn_dataset *dataset, hn_batch_buffer *buffer, const uint32_t *examples, int32_t count,
                          hn_error *error);

#endif
