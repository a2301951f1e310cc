/* Every operation at the shapes of a model's training step, in bf16 as it trains: what must move and what must be computed stands
 * beside each call, counted once however the operation goes about it. */
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdlib.h>

#include "bench/gpu/bench.h"
#include "core/philox.h"
#include "kernels/cuda/backend.h"
#include "kernels/rope_table.h"

/* The arguments of the call that is timed. */
typedef struct call {
    bench *b;
    const bench_model *m;
    int64_t rows;
    double pairs;              /* of a query and a key it sees, over all sequences */
    hn_tensor t[BENCH_TENSORS];
    float *mean, *rstd, *lse, *scale;
    int32_t *cu, *ids, *position, *type, *index;
    uint32_t *step, *example;
    double *loss;
    int64_t *count, *label_count;
    hn_random random;
    hn_dropout drop;
    hn_attention attention;
    hn_activation activation;
    char shape[64];
} call;

static hn_tensor *new_tensor(call *c, int which, hn_dtype dtype, int64_t rows, int64_t columns)
{
    c->t[which] = bench_tensor(c->b, dtype, rows, columns);
    return &c->t[which];
}

static void new_vector(call *c, int which, hn_dtype dtype, int64_t count)
{
    const hn_tensor *row = new_tensor(c, which, dtype, 1, count);
    c->t[which] = hn_tensor_1d(row->data, dtype, count);
}

/* Lengths, positions and indices of a batch, in the GPU's memory. */
static void lay_out(call *c)
{
    const bench_model *m = c->m;
    const int64_t n = m->sequences, spread = m->longest - m->shortest + 1;
    int32_t *cu = calloc((size_t)n + 1, 4);
    HN_ASSERT(cu);
    for (int64_t s = 0; s < n; s++) cu[s + 1] = cu[s] + (int32_t)(m->shortest + s * 7919 % spread);
    c->rows = cu[n];
    int32_t *word = calloc((size_t)c->rows * 5, 4), *position = word + c->rows, *type = position + c->rows,
            *index = type + c->rows, *example = index + c->rows;
    HN_ASSERT(word);
    for (int64_t s = 0, r = 0; s < n; s++) {
        double length = cu[s + 1] - cu[s];
        c->pairs += m->causal ? length * (length + 1) / 2 : length * length;
        for (; r < cu[s + 1]; r++) {
            position[r] = (int32_t)(r - cu[s]);
            example[r] = (int32_t)s;
            type[r] = r % 2;
            index[r] = (int32_t)(c->rows - 1 - r);
            word[r] = m->vocabulary ? (int32_t)(hn_philox(1, (uint32_t)r, 0, 0, 0).word[0] % (uint32_t)m->vocabulary) : 0;
        }
    }
    const size_t size = (size_t)c->rows * 4;
    c->cu = bench_upload(c->b, cu, ((size_t)n + 1) * 4);
    c->ids = bench_upload(c->b, word, size);
    c->position = bench_upload(c->b, position, size);
    c->type = bench_upload(c->b, type, size);
    c->index = bench_upload(c->b, index, size);
    c->example = bench_upload(c->b, example, size);
    free(word);
    free(cu);
}

static void call_open(call *c, bench *b, const bench_model *m)
{
    *c = (call){.b = b, .m = m};
    lay_out(c);
    c->mean = bench_memory(b, (size_t)c->rows * 4);
    c->rstd = bench_memory(b, (size_t)c->rows * 4);
    c->lse = bench_memory(b, (size_t)(c->rows * m->heads) * 4);
    c->scale = bench_upload(b, &(float){1e-3f}, 4);
    c->step = bench_upload(b, &(uint32_t){1}, 4);
    c->loss = bench_memory(b, 8);
    c->count = bench_memory(b, 8);
    c->label_count = bench_memory(b, 8);
    c->random = (hn_random){42, c->step, c->example, c->position};
    c->drop = (hn_dropout){m->causal ? 0 : 0.1f, HN_SITE(1, HN_SITE_MLP_OUT, 0), &c->random};
}

/* --- the ceilings --- */

static void run_copy(void *context)
{
    call *c = context;
    hn_cuda_device *device = hn_cuda_device_of(&c->b->backend);
    cudaMemcpyAsync(c->t[0].data, c->t[1].data, hn_tensor_bytes(&c->t[0]), cudaMemcpyDeviceToDevice, (cudaStream_t)device->stream);
}

static void run_product(void *context)
{
    call *c = context;
    c->b->ops->linear_forward(&c->b->ctx, &c->t[0], NULL, &c->t[1], &c->t[2], NULL, HN_ACT_NONE);
}

void bench_ceilings(bench *b)
{
    const int64_t side = b->rehearse ? 32 : 8192, length = b->rehearse ? 1024 : (int64_t)1 << 28;
    const bench_model square = {"ceiling", 1, side, side, side, 1, 1, side, side, 0, false};
    call c = {.b = b};
    new_tensor(&c, 0, HN_F32, 1, length);
    new_tensor(&c, 1, HN_F32, 1, length);
    b->copy_rate = 8.0 * (double)length / bench_time(b, run_copy, &c);
    printf("ceiling: copy %.0f GB/s read and written\n", b->copy_rate * 1e-9);
    bench_release(b);
    if (!bench_wanted(b, "linear") && b->only) return;
    bench_workspace(b, &square, side);
    for (int i = 0; i < 3; i++) new_tensor(&c, i, HN_BF16, side, side);
    b->product_rate = 2.0 * (double)side * (double)side * (double)side / bench_time(b, run_product, &c);
    printf("ceiling: bf16 product %.1f TFLOP/s\n", b->product_rate * 1e-12);
    bench_release(b);
}

/* --- products --- */

enum { X, W, BIAS, Y, Z, DY, DX, DW, DBIAS };

static void run_forward(void *context)
{
    call *c = context;
    bool keeps = c->activation != HN_ACT_NONE;
    c->b->ops->linear_forward(&c->b->ctx, &c->t[Y], keeps ? &c->t[Z] : NULL, &c->t[X], &c->t[W], &c->t[BIAS], c->activation);
}

/* Through the layer whose activation made its input. */
static void run_backward_input(void *context)
{
    call *c = context;
    bool slope = c->activation != HN_ACT_NONE;
    c->b->ops->linear_backward_input(&c->b->ctx, &c->t[DX], &c->t[DY], &c->t[W], slope ? &c->t[X] : NULL, c->activation, false);
}

static void run_backward_weight(void *context)
{
    call *c = context;
    c->b->ops->linear_backward_weight(&c->b->ctx, &c->t[DW], &c->t[DBIAS], &c->t[DY], &c->t[X]);
}

/* One layer [rows, in] -> [rows, out], all three directions. */
static void time_linear(bench *b, const bench_model *m, const char *name, int64_t in, int64_t out, hn_activation forward,
                        hn_activation backward)
{
    call c;
    if (!bench_wanted(b, "linear")) return;
    call_open(&c, b, m);
    bench_workspace(b, m, c.rows);
    new_tensor(&c, X, HN_BF16, c.rows, in);
    new_tensor(&c, W, HN_BF16, out, in);
    new_vector(&c, BIAS, HN_BF16, out);
    new_tensor(&c, Y, HN_BF16, c.rows, out);
    new_tensor(&c, Z, HN_BF16, c.rows, out);
    new_tensor(&c, DY, HN_BF16, c.rows, out);
    new_tensor(&c, DX, HN_BF16, c.rows, in);
    new_tensor(&c, DW, HN_F32, out, in);
    new_vector(&c, DBIAS, HN_F32, out);
    const double rows = (double)c.rows, weight = (double)in * (double)out, flop = 2 * rows * weight;
    const double x = 2 * rows * (double)in, y = 2 * rows * (double)out;
    snprintf(c.shape, sizeof c.shape, "%s, %s", m->name, name);
    c.activation = forward;
    bench_row(b, "linear_forward", c.shape, x + 2 * weight + y * (forward ? 2 : 1), flop, run_forward, &c);
    c.activation = backward;
    bench_row(b, "linear_backward_input", c.shape, y + 2 * weight + x * (backward ? 2 : 1), flop, run_backward_input, &c);
    bench_row(b, "linear_backward_weight", c.shape, x + y + 8 * weight, flop, run_backward_weight, &c);
    bench_release(b);
}

/* --- LoRA: x [rows, width], A [r, width], low [rows, r] --- */

enum { LOW_X, LOW_A, LOW, LOW_DA, RANK = 16 };

static void run_project(void *context)
{
    call *c = context;
    c->b->ops->low_rank_project(&c->b->ctx, &c->t[LOW], &c->t[LOW_X], &c->t[LOW_A], true, 2, NULL);
}

static void run_low_rank_weight(void *context)
{
    call *c = context;
    c->b->ops->low_rank_backward_weight(&c->b->ctx, &c->t[LOW_DA], &c->t[LOW], &c->t[LOW_X], NULL);
}

static void time_low_rank(bench *b, const bench_model *m)
{
    call c;
    if (!bench_wanted(b, "low_rank")) return;
    call_open(&c, b, m);
    bench_workspace(b, m, c.rows);
    new_tensor(&c, LOW_X, HN_BF16, c.rows, m->width);
    new_tensor(&c, LOW_A, HN_BF16, RANK, m->width);
    new_tensor(&c, LOW, HN_BF16, c.rows, RANK);
    new_tensor(&c, LOW_DA, HN_F32, RANK, m->width);
    const double x = 2 * (double)c.rows * (double)m->width, low = 2 * (double)c.rows * RANK, weight = RANK * (double)m->width;
    bench_row(b, "low_rank_project", m->name, x + low + 2 * weight, x * RANK, run_project, &c);
    bench_row(b, "low_rank_backward_weight", m->name, x + low + 8 * weight, x * RANK, run_low_rank_weight, &c);
    bench_release(b);
}

static void time_products(bench *b, const bench_model *m)
{
    const int64_t qkv = (m->heads + 2 * m->kv_heads) * m->head_size, attended = m->heads * m->head_size;
    const bool gated = m->kv_heads != m->heads;
    const hn_activation gelu = m->causal ? HN_ACT_GELU_TANH : HN_ACT_GELU;
    time_linear(b, m, "qkv", m->width, qkv, HN_ACT_NONE, HN_ACT_NONE);
    time_linear(b, m, "attention out", attended, m->width, HN_ACT_NONE, HN_ACT_NONE);
    time_linear(b, m, "mlp up", m->width, gated ? 2 * m->inner : m->inner, gated ? HN_ACT_NONE : gelu, HN_ACT_NONE);
    time_linear(b, m, "mlp down", m->inner, m->width, HN_ACT_NONE, gated ? HN_ACT_NONE : gelu);
}

/* --- norms --- */

enum { NORM_X, NORM_RESIDUAL, NORM_H, NORM_Y, NORM_DY, NORM_DX, NORM_DR, GAMMA, BETA, DGAMMA, DBETA };

static void run_layernorm(void *context)
{
    call *c = context;
    hn_tensor *t = c->t;
    c->b->ops->layernorm_forward(&c->b->ctx, &t[NORM_Y], &t[NORM_H], c->mean, c->rstd, &t[NORM_X], &t[NORM_RESIDUAL], &t[GAMMA],
                                 &t[BETA], 1e-5f, &c->drop);
}

static void run_layernorm_backward(void *context)
{
    call *c = context;
    hn_tensor *t = c->t;
    c->b->ops->layernorm_backward(&c->b->ctx, &t[NORM_DX], &t[NORM_DR], t[DGAMMA].data, t[DBETA].data, &t[NORM_DY],
                                  c->m->causal ? &t[NORM_X] : NULL, &t[NORM_H], c->mean, c->rstd, &t[GAMMA], &c->drop);
}

static void run_rmsnorm(void *context)
{
    call *c = context;
    hn_tensor *t = c->t;
    c->b->ops->rmsnorm_forward(&c->b->ctx, &t[NORM_Y], &t[NORM_H], c->rstd, &t[NORM_X], &t[NORM_RESIDUAL], &t[GAMMA], 1, 1e-5f,
                               NULL);
}

static void run_rmsnorm_backward(void *context)
{
    call *c = context;
    hn_tensor *t = c->t;
    c->b->ops->rmsnorm_backward(&c->b->ctx, &t[NORM_DX], &t[NORM_DX], t[DGAMMA].data, &t[NORM_DY], &t[NORM_X], &t[NORM_H], c->rstd,
                                &t[GAMMA], 1, NULL);
}

/* Encoders: dropout, so two gradients leave; decoders: what flows past the norm joins, and one gradient leaves twice. */
static void time_norms(bench *b, const bench_model *m)
{
    call c;
    if (!bench_wanted(b, "layernorm") && !bench_wanted(b, "rmsnorm")) return;
    call_open(&c, b, m);
    bench_workspace(b, m, c.rows);
    for (int i = NORM_X; i <= NORM_DR; i++) new_tensor(&c, i, HN_BF16, c.rows, m->width);
    for (int i = GAMMA; i <= DBETA; i++) new_vector(&c, i, i < DGAMMA ? HN_BF16 : HN_F32, m->width);
    const double one = 2 * (double)c.rows * (double)m->width;
    if (m->kv_heads == m->heads || b->rehearse) {
        bench_row(b, "layernorm_forward", m->name, 4 * one, 0, run_layernorm, &c);
        bench_row(b, "layernorm_backward", m->name, (m->causal ? 5 : 4) * one, 0, run_layernorm_backward, &c);
    }
    if (m->kv_heads != m->heads) {
        bench_row(b, "rmsnorm_forward", m->name, 4 * one, 0, run_rmsnorm, &c);
        bench_row(b, "rmsnorm_backward", m->name, 4 * one, 0, run_rmsnorm_backward, &c);
    }
    bench_release(b);
}

/* --- attention --- */

enum { QKV, O, D_O, DQKV };

static hn_tensor part(const call *c, int which, int of)
{
    const int64_t q = c->m->heads * c->m->head_size, kv = c->m->kv_heads * c->m->head_size;
    return hn_tensor_columns(&c->t[which], of == 0 ? 0 : of == 1 ? q : q + kv, of == 0 ? q : kv);
}

static void run_attention(void *context)
{
    call *c = context;
    hn_tensor q = part(c, QKV, 0), k = part(c, QKV, 1), v = part(c, QKV, 2);
    c->b->ops->attention_forward(&c->b->ctx, &c->t[O], c->lse, &q, &k, &v, &c->attention);
}

static void run_attention_backward(void *context)
{
    call *c = context;
    hn_tensor q = part(c, QKV, 0), k = part(c, QKV, 1), v = part(c, QKV, 2), dq = part(c, DQKV, 0), dk = part(c, DQKV, 1),
              dv = part(c, DQKV, 2);
    c->b->ops->attention_backward(&c->b->ctx, &dq, &dk, &dv, &c->t[D_O], &c->t[O], c->lse, &q, &k, &v, &c->attention);
}

static void time_attention(bench *b, const bench_model *m)
{
    call c;
    if (!bench_wanted(b, "attention")) return;
    call_open(&c, b, m);
    bench_workspace(b, m, c.rows);
    const int64_t q = m->heads * m->head_size, all = q + 2 * m->kv_heads * m->head_size;
    new_tensor(&c, QKV, HN_BF16, c.rows, all);
    new_tensor(&c, O, HN_BF16, c.rows, q);
    new_tensor(&c, D_O, HN_BF16, c.rows, q);
    new_tensor(&c, DQKV, HN_BF16, c.rows, all);
    c.attention = (hn_attention){.heads = (int)m->heads,
                                 .kv_heads = (int)m->kv_heads,
                                 .head_size = (int)m->head_size,
                                 .scale = 1 / sqrtf((float)m->head_size),
                                 .causal = m->causal,
                                 .n = (int32_t)m->sequences,
                                 .longest_q = (int32_t)m->longest,
                                 .longest_k = (int32_t)m->longest,
                                 .cu_q = c.cu,
                                 .cu_k = c.cu};
    const double flop = 4 * c.pairs * (double)q, bytes = 2 * (double)c.rows * (double)(all + q), /* q k v, o */
                 backward_bytes = 2 * (double)c.rows * (double)(2 * all + q);                /* and their gradients, do */
    bench_row(b, "attention_forward", m->name, bytes, flop, run_attention, &c);
    bench_row(b, "attention_backward", m->name, backward_bytes, 2.5 * flop, run_attention_backward, &c);
    if (!m->causal) {
        c.attention.dropout = (hn_dropout){0.1f, HN_SITE(1, HN_SITE_ATTENTION, 0), &c.random};
        bench_row(b, "attention_forward, dropout", m->name, bytes, flop, run_attention, &c);
        bench_row(b, "attention_backward, dropout", m->name, backward_bytes, 2.5 * flop, run_attention_backward, &c);
    }
    bench_release(b);
}

/* --- passes over rows --- */

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
static void time_mlp_rows(bench *b, const bench_model *m)
{
    call c;
    const bool gated = m->kv_heads != m->heads;
    if (!bench_wanted(b, gated ? "gated" : "activation") && !b->rehearse) return;
    call_open(&c, b, m);
    for (int i = ROW_A; i <= ROW_E; i++) new_tensor(&c, i, HN_BF16, c.rows, m->inner);
    const double one = 2 * (double)c.rows * (double)m->inner;
    if (gated) {
        bench_row(b, "gated_forward", m->name, 3 * one, 0, run_gated, &c);
        bench_row(b, "gated_backward", m->name, 5 * one, 0, run_gated_backward, &c);
    }
    if (!gated || b->rehearse) bench_row(b, "activation_backward", m->name, 3 * one, 0, run_activation_backward, &c);
    bench_release(b);
}

/* Passes over [rows, width]. */
static void time_rows(bench *b, const bench_model *m)
{
    call c;
    const double one_row = 2 * (double)m->width;
    call_open(&c, b, m);
    bench_workspace(b, m, c.rows);
    const double one = one_row * (double)c.rows, distinct = (double)(c.rows < m->vocabulary ? c.rows : m->vocabulary);
    new_tensor(&c, ROW_A, HN_BF16, c.rows, m->width);
    new_tensor(&c, ROW_B, HN_BF16, c.rows, m->width);
    bench_row(b, "dropout", m->name, 2 * one, 0, run_dropout, &c);
    bench_row(b, "gather_rows", m->name, 2 * one, 0, run_gather, &c);
    bench_row(b, "scatter_add_rows", m->name, 3 * one, 0, run_scatter_add, &c);
    if (bench_wanted(b, "embedding")) {
        new_tensor(&c, TABLE, HN_BF16, m->vocabulary, m->width);
        new_tensor(&c, POSITIONS, HN_BF16, m->longest, m->width);
        new_tensor(&c, TYPES, HN_BF16, 2, m->width);
        new_tensor(&c, D_TABLE, HN_F32, m->vocabulary, m->width);
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

/* --- losses --- */

enum { LOGITS, DLOGITS, LOSS_X, LOSS_DX, LOSS_W, LOSS_DW };

static void run_cross_entropy(void *context)
{
    call *c = context;
    c->b->ops->cross_entropy(&c->b->ctx, c->loss, c->count, &c->t[DLOGITS], &c->t[LOGITS], c->ids, 0, c->scale);
}

static void run_linear_cross_entropy(void *context)
{
    call *c = context;
    const hn_target_loss out = {.loss = c->loss, .count = c->count};
    c->b->ops->linear_cross_entropy(&c->b->ctx, &out, &c->t[LOSS_DX], &c->t[LOSS_DW], NULL, &c->t[LOSS_X], &c->t[LOSS_W], NULL,
                                    c->ids, 0, c->scale);
}

static void time_losses(bench *b, const bench_model *m)
{
    call c;
    if (!bench_wanted(b, "cross_entropy")) return;
    call_open(&c, b, m);
    bench_workspace(b, m, c.rows);
    const int64_t few = c.rows < 4096 ? c.rows : 4096;
    const double logits = (double)few * (double)m->vocabulary, rows = (double)c.rows, weight = (double)m->width * (double)m->vocabulary;
    new_tensor(&c, LOGITS, HN_BF16, few, m->vocabulary);
    new_tensor(&c, DLOGITS, HN_BF16, few, m->vocabulary);
    snprintf(c.shape, sizeof c.shape, "%lld x %lld", (long long)few, (long long)m->vocabulary);
    bench_row(b, "cross_entropy", c.shape, 4 * logits, 0, run_cross_entropy, &c);
    new_tensor(&c, LOSS_X, HN_BF16, c.rows, m->width);
    new_tensor(&c, LOSS_DX, HN_BF16, c.rows, m->width);
    new_tensor(&c, LOSS_W, HN_BF16, m->vocabulary, m->width);
    new_tensor(&c, LOSS_DW, HN_F32, m->vocabulary, m->width);
    bench_row(b, "linear_cross_entropy", m->name, 4 * rows * (double)m->width + 10 * weight, 6 * rows * weight, run_linear_cross_entropy, &c);
    bench_release(b);
}

void bench_model_cases(bench *b, const bench_model *m)
{
    time_attention(b, m);
    if (!m->inner) return;
    time_products(b, m);
    time_low_rank(b, m);
    time_norms(b, m);
    time_mlp_rows(b, m);
    time_rows(b, m);
    time_losses(b, m);
}
