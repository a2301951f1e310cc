/* See reduce.h. The nodes that wait are the digits of a binary counter of finished parts: behind part p, level k holds a node if bit k of
 * p + 1 is set. So a part that is finished is added to the node at level 0 if there is one, the sum to that at level 1, and so on, and the first
 * empty level keeps it:
 *
 *     part         0       1            2       3
 *     level 0      [0]     .            [2]     .
 *     level 1              [0+1]        [0+1]   .
 *     gradients                                 (0+1)+(2+3)
 *
 * The gradients' arena stays where it is, since graphs of the backend know its address: it takes each part, and in the end the sum of all.
 *
 * The norm is summed up by parts of every bucket, as many as the batch has, and the parts' sums are added in their order; so it has the same bits
 * whoever squared which. What lies in a bucket between two parameters, and the place of a group that does not train yet, is zero. */
#include "train/reduce.h"

#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "train/config.h"

static void lay_out(const hnp_zero *zero, hn_model *model)
{
    hn_model_lay_out(model, &(hn_model_places){.offset = zero->value,
                                               .copy_offset = zero->copy,
                                               .gradient_offset = zero->gradient,
                                               .elements = zero->values,
                                               .copy_elements = zero->copies,
                                               .gradient_elements = zero->gradients});
}

/* One part of all: the model's own layout, which is one bucket. */
static hn_status init_zero(hnp_reduce *reduce, const hn_freeze_plan *plan, hn_dtype precision, hn_error *error)
{
    int params;
    const hn_param *param = hn_model_params(reduce->model, &params);
    const hnp_parts *of = &reduce->of;
    if (of->parts == 1) return hnp_zero_init_whole(&reduce->zero, param, params, plan, error);
    hn_status status = hnp_zero_init(&reduce->zero, param, params, plan, precision == HN_BF16, of->parts, error);
    if (status != HN_OK) return status;
    lay_out(&reduce->zero, reduce->model);
    return hnp_zero_own(&reduce->zero, param, params, hn_link_piece(reduce->sum, of->rank, of->ranks), of->ranks, error);
}

hn_status hnp_reduce_init(hnp_reduce *reduce, const hnp_parts *of, const hn_ops *ops, hn_backend *backend, const hn_arena *gradients,
                          hn_model *model, const hn_freeze_plan *plan, hn_dtype precision, hn_error *error)
{
    HN_ASSERT(of->ranks >= 1 && of->parts % of->ranks == 0);
    *reduce = (hnp_reduce){.of = *of, .mine = of->parts / of->ranks, .ops = ops, .gradients = gradients, .model = model,
                           .sum = of->tree ? HN_SUM_TREE : HN_SUM_FAST};
    reduce->first = of->rank * reduce->mine;
    for (int n = reduce->mine; n > 1; n /= 2) reduce->levels++;
    reduce->block_bytes = (sizeof(hn_rank_word) + 2 * (size_t)reduce->mine * sizeof(hn_sums) + HN_LINK_PIECE - 1) / HN_LINK_PIECE * HN_LINK_PIECE;
    hn_arena_init(&reduce->arena, "parts", backend);
    reduce->arena.streamed = true;
    reduce->end = hn_calloc((size_t)of->parts, sizeof *reduce->end);
    if (!reduce->end) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the parts of a batch");
    return init_zero(reduce, plan, precision, error);
}

void hnp_reduce_place(hnp_reduce *reduce, hn_arena *sums)
{
    for (int k = 0; k < reduce->levels; k++) reduce->level[k] = hn_arena_take(&reduce->arena, reduce->gradients->used);
    reduce->total = hn_arena_take(sums, sizeof *reduce->total);
    reduce->part = hn_arena_take(sums, sizeof *reduce->part);
    reduce->blocks = hn_arena_take(sums, (size_t)reduce->of.ranks * reduce->block_bytes);
}

hn_status hnp_reduce_alloc(hnp_reduce *reduce, hn_error *error)
{
    if (reduce->of.ranks == 1) return HN_OK;
    hn_backend *backend = reduce->arena.backend;
    hn_status status = hn_staging_alloc(&reduce->said, backend, 2, sizeof(hn_rank_word), error);
    return status == HN_OK ? hn_staging_alloc(&reduce->heard, backend, 2, (size_t)reduce->of.ranks * reduce->block_bytes, error) : status;
}

void hnp_reduce_close(hnp_reduce *reduce)
{
    hn_staging_close(&reduce->said);
    hn_staging_close(&reduce->heard);
    hn_arena_close(&reduce->arena);
    hnp_zero_close(&reduce->zero);
    hn_free(reduce->end);
    *reduce = (hnp_reduce){0};
}

void hnp_reduce_select(hnp_reduce *reduce, int64_t step)
{
    reduce->step = step;
}

static unsigned char *block_of(const hnp_reduce *reduce, int rank)
{
    return reduce->blocks + (size_t)rank * reduce->block_bytes;
}

static hn_sums *sums_of(const hnp_reduce *reduce, int rank)
{
    return (hn_sums *)(void *)(block_of(reduce, rank) + sizeof(hn_rank_word));
}

hn_sums *hnp_reduce_sums(const hnp_reduce *reduce)
{
    return sums_of(reduce, reduce->of.rank);
}

hn_status hnp_reduce_say(hnp_reduce *reduce, const hn_rank_word *word, hn_error *error)
{
    void *slot;
    hn_backend *backend = reduce->arena.backend;
    hn_status status = reduce->of.ranks > 1 ? hn_staging_take(&reduce->said, &slot, error) : HN_OK;
    if (status != HN_OK || reduce->of.ranks == 1) return status;
    memcpy(slot, word, sizeof *word);
    backend->copy_in(backend, block_of(reduce, reduce->of.rank), slot, sizeof *word);
    hn_staging_mark(&reduce->said);
    return HN_OK;
}

hn_status hnp_reduce_hear(hnp_reduce *reduce, int before, const void **words, hn_error *error)
{
    void *slot = NULL;
    hn_status status = reduce->of.ranks > 1 ? hn_staging_wait(&reduce->heard, before, &slot, error) : HN_OK;
    *words = slot;
    return status;
}

const hn_rank_word *hnp_reduce_word(const hnp_reduce *reduce, const void *words, int rank)
{
    return (const hn_rank_word *)((const char *)words + (size_t)rank * reduce->block_bytes);
}

static float *gradients(const hnp_reduce *reduce)
{
    return (float *)(void *)reduce->gradients->base;
}

void hnp_reduce_open_part(hnp_reduce *reduce, hn_ops_context *ctx)
{
    reduce->ops->zero(ctx, reduce->gradients->base, reduce->gradients->used);
    reduce->ops->zero(ctx, reduce->part, sizeof *reduce->part);
}

void hnp_reduce_close_part(hnp_reduce *reduce, hn_ops_context *ctx, int part)
{
    const hn_ops *ops = reduce->ops;
    int64_t elements = (int64_t)(reduce->gradients->used / sizeof(float));
    int k = 0;
    ops->copy(ctx, hnp_reduce_sums(reduce) + part, reduce->part, sizeof *reduce->part);
    while (part >> k & 1) ops->add(ctx, gradients(reduce), reduce->level[k++], elements);
    if (part + 1 < reduce->mine) ops->copy(ctx, reduce->level[k], gradients(reduce), reduce->gradients->used);
}

/* A name for messages: the groups that a bucket is of. */
static void name_bucket(char text[HN_LINK_WHAT], const char *what, const hnp_reduce *reduce, const hnp_bucket *bucket)
{
    const char *lowest = hn_model_group_name(reduce->model, bucket->lowest), *highest = hn_model_group_name(reduce->model, bucket->highest);
    bool one = bucket->lowest == bucket->highest;
    snprintf(text, HN_LINK_WHAT, "%s of %.20s%s%.20s", what, lowest, one ? "" : " to ", one ? "" : highest);
}

typedef enum what { GRADIENTS, VALUES, MASTERS } what;

static hn_transfer *begin(const hnp_reduce *reduce, const hnp_bucket *bucket, what kind, hn_error *error)
{
    static const char *const names[] = {"gradients", "values", "masters"};
    hn_link *link = reduce->link;
    char name[HN_LINK_WHAT];
    name_bucket(name, names[kind], reduce, bucket);
    if (kind == GRADIENTS) return link->reduce_scatter(link, gradients(reduce) + bucket->first, bucket->count, reduce->sum, name, error);
    if (kind == VALUES && bucket->narrow)
        return link->all_gather(link, hn_model_copy(reduce->model) + bucket->first, (size_t)bucket->count * sizeof(uint16_t), reduce->sum, name,
                                error);
    return link->all_gather(link, hn_model_master(reduce->model) + bucket->first, (size_t)bucket->count * sizeof(float), reduce->sum, name,
                            error);
}

/* A collective of every bucket that trains, or of all; some at a time. Each that was begun is joined, also behind one that failed. */
static hn_status exchange(const hnp_reduce *reduce, what kind, hn_error *error)
{
    const hnp_zero *zero = &reduce->zero;
    hn_link *link = reduce->link;
    hn_status status = HN_OK;
    hn_transfer *transfer[HNP_TRANSFERS];
    int begun = 0, joined = 0, b = 0;
    while (b < zero->buckets || joined < begun) {
        if (b < zero->buckets && status == HN_OK && begun - joined < HNP_TRANSFERS) {
            const hnp_bucket *bucket = &zero->bucket[b++];
            if (kind != MASTERS && bucket->thaw > reduce->step) continue;
            hn_transfer *one = begin(reduce, bucket, kind, error);
            if (one) transfer[begun++ % HNP_TRANSFERS] = one;
            else status = error->status;
        } else if (joined < begun) {
            hn_error problem = {0};
            hn_status one = link->join(link, transfer[joined++ % HNP_TRANSFERS], &problem);
            if (one != HN_OK && status == HN_OK) status = hn_fail(error, one, "%s", problem.message);
        } else {
            break;
        }
    }
    return status;
}

/* The squares of this process's parts of every bucket. */
static void square(const hnp_reduce *reduce, hn_ops_context *ctx)
{
    const hnp_zero *zero = &reduce->zero;
    hn_sums *norm = hnp_reduce_sums(reduce) + reduce->mine;
    int piece = hn_link_piece(reduce->sum, reduce->of.rank, reduce->of.ranks);
    reduce->ops->zero(ctx, norm, (size_t)reduce->mine * sizeof *norm);
    for (int i = 0; i < reduce->mine; i++)
        for (int b = 0; b < zero->buckets; b++) {
            int64_t each = zero->bucket[b].count / reduce->of.parts, first = zero->bucket[b].first + (piece * reduce->mine + i) * each;
            reduce->ops->sum_squares(ctx, &norm[i].squares, gradients(reduce) + first, each);
        }
}

/* Everybody's words and sums. */
static hn_status gather_sums(hnp_reduce *reduce, hn_error *error)
{
    void *slot;
    hn_link *link = reduce->link;
    hn_backend *backend = reduce->arena.backend;
    size_t bytes = (size_t)reduce->of.ranks * reduce->block_bytes;
    hn_transfer *sums = link->all_gather(link, reduce->blocks, bytes, HN_SUM_FAST, "sums", error);
    hn_status status = sums ? link->join(link, sums, error) : error->status;
    if (status == HN_OK) status = hn_staging_take(&reduce->heard, &slot, error);
    if (status != HN_OK) return status;
    backend->copy_out(backend, slot, reduce->blocks, bytes);
    hn_staging_mark(&reduce->heard);
    return HN_OK;
}

hn_status hnp_reduce_finish(hnp_reduce *reduce, hn_ops_context *ctx, hn_error *error)
{
    const hn_ops *ops = reduce->ops;
    int ranks = reduce->of.ranks;
    hn_status status = reduce->link ? exchange(reduce, GRADIENTS, error) : HN_OK;
    if (status != HN_OK) return status;
    square(reduce, ctx);
    if (reduce->link) status = gather_sums(reduce, error);
    if (status != HN_OK) return status;
    ops->zero(ctx, reduce->total, sizeof *reduce->total);
    for (int r = 0; r < ranks; r++) ops->add_sums(ctx, reduce->total, sums_of(reduce, r), reduce->mine);
    for (int p = 0; p < ranks; p++) /* who has the p-th piece is the one whose piece is p's: the map is its own inverse */
        ops->add_sums(ctx, reduce->total, sums_of(reduce, hn_link_piece(reduce->sum, p, ranks)) + reduce->mine, reduce->mine);
    return HN_OK;
}

hn_status hnp_reduce_spread(hnp_reduce *reduce, hn_error *error)
{
    return reduce->link ? exchange(reduce, VALUES, error) : HN_OK;
}

hn_status hnp_reduce_spread_masters(hnp_reduce *reduce, hn_error *error)
{
    return reduce->link ? exchange(reduce, MASTERS, error) : HN_OK;
}
