/* From the gradients of parts of a batch to those of the batch. Without train.elastic a batch is one part, and its gradients are what the
 * arena holds. With it a batch is cut into train.elastic_parts = S parts, a power of two (hn_job_cut), each of which starts from zeroed
 * gradients, and finished parts are added as a fixed binary tree:
 *
 *     node(a, 1) = gradient of part a,   node(a, 2 n) = node(a, n) + node(a + n, n),   of the batch: node(0, S)
 *
 * fp32, element by element. So who computes which parts changes no bit, as long as everybody's are a node of the tree: that is what lets
 * 1, 2, 4, ... S processes train alike.
 *
 *     for every part p:  open_part, its forward and backward passes, close_part
 *     finish             loss, count and norm of the whole batch into *total, in the order of the parts
 *
 * Takes log2 S buffers beside the gradients. */
#ifndef HONE_TRAIN_REDUCE_H
#define HONE_TRAIN_REDUCE_H

#include <stdint.h>

#include "core/arena.h"
#include "kernels/ops.h"

typedef struct hnp_reduce {
    int parts, levels;       /* levels: log2 parts */
    const hn_ops *ops;
    const hn_arena *gradients;
    int32_t *end;            /* [parts] of the batch under way: first example behind each part */
    hn_arena arena;          /* of the levels */
    /* In the backend's memory: */
    float *level[10];        /* [k]: a node of 2^k parts that waits for its neighbour */
    hn_sums *part;           /* loss and count of the part that is computed now */
    hn_sums *all;            /* [parts] of every part */
    hn_sums *norm;           /* [parts] the squares alone, of every part of the arena */
    hn_sums *total;          /* of the batch, once it is finished */
} hnp_reduce;

/* `parts` is a power of two up to HN_ELASTIC_PARTS. */
hn_status hnp_reduce_init(hnp_reduce *reduce, int parts, const hn_ops *ops, hn_backend *backend, const hn_arena *gradients, hn_error *error);
/* Counts, or places; after the gradients. The sums, which are small, go into `sums`. */
void hnp_reduce_place(hnp_reduce *reduce, hn_arena *sums);
void hnp_reduce_close(hnp_reduce *reduce);

void hnp_reduce_open_part(hnp_reduce *reduce, hn_ops_context *ctx);
void hnp_reduce_close_part(hnp_reduce *reduce, hn_ops_context *ctx, int part);
void hnp_reduce_finish(hnp_reduce *reduce, hn_ops_context *ctx);

#endif
