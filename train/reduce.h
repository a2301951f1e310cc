/* From the gradients of parts of a batch, computed here and elsewhere, to those of the batch. A batch is cut into parts (hn_job_cut):
 *
 *     one process          one part: its gradients are what the arena holds
 *     R processes          R parts, one each; gradients add up round the ring
 *     train.elastic        S = train.elastic_parts parts, a power of two, S / R neighbours each. Each part starts from zeroed gradients, and
 *                          finished parts are added as a fixed binary tree:
 *
 *     node(a, 1) = gradient of part a,   node(a, 2 n) = node(a, n) + node(a + n, n),   of the batch: node(0, S)
 *
 * fp32, element by element. What a process computes is a node, and the link (link.h) goes on with the same tree; so 1, 2, 4, ... S
 * processes have the same bits.
 *
 *     for every part of this process:  open_part, its forward and backward passes, close_part
 *     finish     every process has the sum of its share of every bucket (zero.h), and loss, count and norm of the whole batch in *total,
 *                added in the order of the parts
 *     AdamW      of its own share
 *     spread     every process has everybody's new values
 *
 * An elastic run takes log2 (S / R) buffers beside the gradients. Several processes tell each other, with the sums, a word each. */
#ifndef HONE_TRAIN_REDUCE_H
#define HONE_TRAIN_REDUCE_H

#include <stdint.h>

#include "core/arena.h"
#include "core/staging.h"
#include "kernels/ops.h"
#include "models/model.h"
#include "train/link.h"
#include "train/zero.h"

/* What a process tells all others in every step. */
typedef struct hn_rank_word {
    int64_t stop; /* nonzero: it was asked to stop */
} hn_rank_word;

/* Which parts are whose. */
typedef struct hnp_parts {
    int parts, rank, ranks; /* ranks divides parts */
    bool tree;              /* train.elastic */
} hnp_parts;

enum { HNP_TRANSFERS = 8 }; /* collectives of the link that are under way at once, at most */

typedef struct hnp_reduce {
    hnp_parts of;
    int first, mine;         /* this process's parts: [first, first + mine) */
    int levels;              /* log2 mine */
    hn_sum sum;
    hn_link *link;           /* borrowed, set before the first step; NULL: one process */
    const hn_ops *ops;
    const hn_arena *gradients;
    hn_model *model;
    hnp_zero zero;
    int64_t step;            /* that hnp_reduce_select was told of: buckets that thaw later are left alone */
    int32_t *end;            /* [parts] of the batch under way: first example behind each part */
    hn_arena arena;          /* of the levels */
    size_t block_bytes;
    hn_staging said, heard;  /* of several processes: this one's word on its way to `blocks`, and all blocks on their way back */
    /* In the backend's memory: */
    float *level[10];        /* [k]: a node of 2^k parts that waits for its neighbour */
    hn_sums *part;           /* loss and count of the part that is computed now */
    unsigned char *blocks;   /* [ranks] a word, sums of `mine` parts, squares of `mine` parts of the arena */
    hn_sums *total;          /* of the batch, once it is finished */
} hnp_reduce;

/* Lays out the model (hn_model_lay_out) when there are several parts. Once it is known what never trains. */
hn_status hnp_reduce_init(hnp_reduce *reduce, const hnp_parts *of, const hn_ops *ops, hn_backend *backend, const hn_arena *gradients,
                          hn_model *model, const hn_freeze_plan *plan, hn_dtype precision, hn_error *error);
/* Counts, or places; after the gradients. The sums, which are small, go into `sums`. */
void hnp_reduce_place(hnp_reduce *reduce, hn_arena *sums);
/* Pinned memory; once the backend's is placed. */
hn_status hnp_reduce_alloc(hnp_reduce *reduce, hn_error *error);
void hnp_reduce_close(hnp_reduce *reduce);
/* The buckets that train at `step`. */
void hnp_reduce_select(hnp_reduce *reduce, int64_t step);

/* Loss and count of this process's parts, in the backend's memory. */
hn_sums *hnp_reduce_sums(const hnp_reduce *reduce);
/* What this process tells the others with the step that is begun. Of one process, nothing. */
hn_status hnp_reduce_say(hnp_reduce *reduce, const hn_rank_word *word, hn_error *error);
/* What all told with the step that was finished `before` others: word(words, rank). Waits. NULL of one process. */
hn_status hnp_reduce_hear(hnp_reduce *reduce, int before, const void **words, hn_error *error);
const hn_rank_word *hnp_reduce_word(const hnp_reduce *reduce, const void *words, int rank);

void hnp_reduce_open_part(hnp_reduce *reduce, hn_ops_context *ctx);
void hnp_reduce_close_part(hnp_reduce *reduce, hn_ops_context *ctx, int part);
hn_status hnp_reduce_finish(hnp_reduce *reduce, hn_ops_context *ctx, hn_error *error);
/* Nothing of one process. */
hn_status hnp_reduce_spread(hnp_reduce *reduce, hn_error *error);
/* Every process has everybody's masters, of what trains at any time; in fp32 spread leaves them so. */
hn_status hnp_reduce_spread_masters(hnp_reduce *reduce, hn_error *error);

#endif
