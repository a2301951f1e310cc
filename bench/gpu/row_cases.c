/* Operations that pass over the rows of a step, and compute next to nothing: what must move stands beside each call. */
#include <stdlib.h>

#include "bench/gpu/call.h"
#include "kernels/rope_table.h"

enum { ROW_A, ROW_B, ROW_C, ROW_D, ROW_E, TABLE, POSITIONS, TYPES, D_TABLE };

static void run_gated(void *context)
{
    call *c = context;
    c->b->ops->gated_forward(&c->b->ctx, &c->t[ROW_A], &c->t[ROW_B], &c->t[ROW_C], HN_ACT_SILU);
}

static void run_gated_backward(void *context)
{
    call *c = context;
    c->b->ops->gated_backward(&c->b->ctx, &c->t[ROW_D], &c->t[ROW_E], &c->t[ROW_A], &c->t[ROW_B], &c->t[ROW_C], HN_ACT_SILU);
}

static void run_activation_backward(void *context)
{
    call *c = context;
    c->b->ops->activation_backward(&c->b->ctx, &c->t[ROW_A], &c->t[ROW_B], &c->t[ROW_C], HN_ACT_GELU);
}

static void run_rope(void *context)
{
    call *c = context;
    c->b->ops->rope(&c->b->ctx, &c->t[ROW_A], &c->t[TABLE], c->position, false);
}

static void run_dropout(void *context)
{
    call *c = context;
    hn_dropout drop = c->drop;
    drop.probability = 0.1f;
    c->b->ops->dropout(&c->b->ctx, &c->t[ROW_A], &c->t[ROW_B], &drop);
}

static void run_gather(void *context)
{
    call *c = context;
    c->b->ops->gather_rows(&c->b->ctx, &c->t[ROW_A], &c->t[ROW_B], c->index);
}

static void run_scatter_add(void *context)
{
    call *c = context;
    c->b->ops->scatter_add_rows(&c->b->ctx, &c->t[ROW_A], &c->t[ROW_B], c->index);
}

static void run_scatter(void *context)
{
    call *c = context;
    c->b->ops->scatter_rows(&c->b->ctx, &c->t[ROW_A], &c->t[ROW_B], c->index);
}

/* Four rows each become one, as where four answers share what they see of their question. */
static void run_sum(void *context)
{
    call *c = context;
    c->b->ops->sum_rows(&c->b->ctx, &c->t[ROW_C], &c->t[ROW_B], c->uses, c->index);
}

static void run_expand(void *context)
{
    call *c = context;
    uint32_t *row = (uint32_t *)c->lse; /* nothing here reads it */
    c->b->ops->expand_rows(&c->b->ctx, row, c->example, c->cu, (int32_t)c->m->sequences);
}

static void run_embedding(void *context)
{
    call *c = context;
    c->b->ops->embedding_forward(&c->b->ctx, &c->t[ROW_A], &c->t[TABLE], &c->t[POSITIONS], &c->t[TYPES], c->ids, c->position,
                                 c->type, 0);
}

static void run_embedding_backward(void *context)
{
    call *c = context;
    c->b->ops->embedding_backward(&c->b->ctx, &c->t[D_TABLE], NULL, NULL, &c->t[ROW_A], c->ids, c->position, c->type, 0);
}

/* Passes over [rows, inner], the hidden width of the MLP. */
void call_time_mlp_rows(bench *b, const bench_model *m)
{
    call c;
    const bool gated = m->kv_heads != m->heads;
    if (!bench_wanted(b, gated ? "gated" : "activation") && !b->rehearse) return;
    call_open(&c, b, m);
    for (int i = ROW_A; i <= ROW_E; i++) call_tensor(&c, i, HN_BF16, c.rows, m->inner);
    const double one = 2 * (double)c.rows * (double)m->inner;
    if (gated) {
        bench_row(b, "gated_forward", m->name, 3 * one, 0, run_gated, &c);
        bench_row(b, "gated_backward", m->name, 5 * one, 0, run_gated_backward, &c);
    }
    if (!gated || b->rehearse) bench_row(b, "activation_backward", m->name, 3 * one, 0, run_activation_backward, &c);
    bench_release(b);
}

/* Passes over [rows, width]. */
void call_time_rows(bench *b, const bench_model *m)
{
    call c;
    const double one_row = 2 * (double)m->width;
    call_open(&c, b, m);
    bench_workspace(b, m, c.rows);
    const double one = one_row * (double)c.rows, distinct = (double)(c.rows < m->vocabulary ? c.rows : m->vocabulary);
    call_tensor(&c, ROW_A, HN_BF16, c.rows, m->width);
    call_tensor(&c, ROW_B, HN_BF16, c.rows, m->width);
    bench_row(b, "dropout", m->name, 2 * one, 0, run_dropout, &c);
    bench_row(b, "gather_rows", m->name, 2 * one, 0, run_gather, &c);
    bench_row(b, "scatter_add_rows", m->name, 3 * one, 0, run_scatter_add, &c);
    bench_row(b, "scatter_rows", m->name, 2 * one, 0, run_scatter, &c);
    call_tensor(&c, ROW_C, HN_BF16, c.rows / 4, m->width);
    bench_row(b, "sum_rows", m->name, 1.25 * one, 0, run_sum, &c);
    bench_row(b, "expand_rows", m->name, 4 * (double)c.rows, 0, run_expand, &c);
    if (bench_wanted(b, "embedding")) {
        call_tensor(&c, TABLE, HN_BF16, m->vocabulary, m->width);
        call_tensor(&c, POSITIONS, HN_BF16, m->longest, m->width);
        call_tensor(&c, TYPES, HN_BF16, 2, m->width);
        call_tensor(&c, D_TABLE, HN_F32, m->vocabulary, m->width);
        bench_row(b, "embedding_forward", m->name, one + one_row * distinct, 0, run_embedding, &c);
        bench_row(b, "embedding_backward", m->name, one + 4 * one_row * distinct, 0, run_embedding_backward, &c);
    }
    if (m->kv_heads != m->heads && bench_wanted(b, "rope")) {
        const hn_rope rope = {.kind = HN_ROPE_DEFAULT, .theta = 10000};
        float *table = malloc((size_t)(m->longest * m->head_size) * 4);
        HN_ASSERT(table);
        hn_rope_table_fill(table, &rope, 0, m->longest, (int)m->head_size);
        c.t[TABLE] = hn_tensor_2d(bench_upload(b, table, (size_t)(m->longest * m->head_size) * 4), HN_F32, m->longest, m->head_size);
        free(table);
        bench_row(b, "rope", m->name, 2 * one, 0, run_rope, &c);
    }
    bench_release(b);
}
