/* See reduce.h. The nodes that wait are the digits of a binary counter of finished parts: behind part p, level k holds a node if bit k of
 * p + 1 is set. So a part that is finished is added to the node at level 0 if there is one, the sum to that at level 1, and so on, and the first
 * empty level keeps it:
 *
 *     part         0       1            2       3
 *     level 0      [0]     .            [2]     .
 *     level 1              [0+1]        [0+1]   .
 *     gradients                                 (0+1)+(2+3)
 *
 * The gradients' arena stays where it is, since graphs of the backend know its address: it takes each part, and in the end the sum of all. */
#include "train/reduce.h"

#include "core/mem.h"
#include "train/config.h"

hn_status hnp_reduce_init(hnp_reduce *reduce, int parts, const hn_ops *ops, hn_backend *backend, const hn_arena *gradients, hn_error *error)
{
    HN_ASSERT(parts >= 1 && parts <= HN_ELASTIC_PARTS && !(parts & (parts - 1)));
    *reduce = (hnp_reduce){.parts = parts, .ops = ops, .gradients = gradients};
    for (int n = parts; n > 1; n /= 2) reduce->levels++;
    hn_arena_init(&reduce->arena, "parts", backend);
    reduce->arena.streamed = true;
    reduce->end = hn_calloc((size_t)parts, sizeof *reduce->end);
    return reduce->end ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "out of memory for the parts of a batch");
}

void hnp_reduce_place(hnp_reduce *reduce, hn_arena *sums)
{
    size_t parts = (size_t)reduce->parts;
    for (int k = 0; k < reduce->levels; k++) reduce->level[k] = hn_arena_take(&reduce->arena, reduce->gradients->used);
    reduce->total = hn_arena_take(sums, sizeof *reduce->total);
    reduce->part = hn_arena_take(sums, sizeof *reduce->part);
    reduce->all = parts > 1 ? hn_arena_take(sums, parts * sizeof *reduce->all) : reduce->part;
    reduce->norm = hn_arena_take(sums, parts * sizeof *reduce->norm);
}

void hnp_reduce_close(hnp_reduce *reduce)
{
    hn_arena_close(&reduce->arena);
    hn_free(reduce->end);
    *reduce = (hnp_reduce){0};
}

static float *gradients(const hnp_reduce *reduce)
{
    return (float *)(void *)reduce->gradients->base;
}

static int64_t elements(const hnp_reduce *reduce)
{
    return (int64_t)(reduce->gradients->used / sizeof(float));
}

void hnp_reduce_open_part(hnp_reduce *reduce, hn_ops_context *ctx)
{
    reduce->ops->zero(ctx, reduce->gradients->base, reduce->gradients->used);
    reduce->ops->zero(ctx, reduce->part, sizeof *reduce->part);
}

void hnp_reduce_close_part(hnp_reduce *reduce, hn_ops_context *ctx, int part)
{
    const hn_ops *ops = reduce->ops;
    int k = 0;
    if (reduce->parts == 1) return;
    ops->zero(ctx, &reduce->all[part], sizeof reduce->all[part]);
    ops->add_sums(ctx, &reduce->all[part], reduce->part, 1);
    while (part >> k & 1) ops->add(ctx, gradients(reduce), reduce->level[k++], elements(reduce));
    if (part + 1 < reduce->parts) ops->copy(ctx, reduce->level[k], gradients(reduce), reduce->gradients->used);
}

/* The norm is summed up by parts of the arena, as many as the batch has. What lies there between two parameters, and the place of a group that
 * does not train yet, is zero. */
void hnp_reduce_finish(hnp_reduce *reduce, hn_ops_context *ctx)
{
    const hn_ops *ops = reduce->ops;
    int64_t begin = 0, each = elements(reduce) / reduce->parts & ~(int64_t)15;
    ops->zero(ctx, reduce->norm, (size_t)reduce->parts * sizeof *reduce->norm);
    for (int p = 0; p < reduce->parts; p++, begin += each)
        ops->sum_squares(ctx, &reduce->norm[p].squares, gradients(reduce) + begin, p + 1 < reduce->parts ? each : elements(reduce) - begin);
    ops->zero(ctx, reduce->total, sizeof *reduce->total);
    ops->add_sums(ctx, reduce->total, reduce->all, reduce->parts);
    ops->add_sums(ctx, reduce->total, reduce->norm, reduce->parts);
}
