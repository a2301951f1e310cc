/* Every operation at the shapes of a model's training step, in bf16 as it trains: what must move and what must be computed stands
 * beside each call, counted once however the operation goes about it. */
#include <cuda_runtime_api.h>
#include <math.h>

#include "bench/gpu/call.h"
#include "core/philox.h"
#include "kernels/cuda/backend.h"

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
    call_tensor(&c, 0, HN_F32, 1, length);
    call_tensor(&c, 1, HN_F32, 1, length);
    b->copy_rate = 8.0 * (double)length / bench_time(b, run_copy, &c);
    printf("ceiling: copy %.0f GB/s read and written\n", b->copy_rate * 1e-9);
    bench_release(b);
    if (!bench_wanted(b, "linear") && b->only) return;
    bench_workspace(b, &square, side);
    for (int i = 0; i < 3; i++) call_tensor(&c, i, HN_BF16, side, side);
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
    call_tensor(&c, X, HN_BF16, c.rows, in);
    call_tensor(&c, W, HN_BF16, out, in);
    call_vector(&c, BIAS, HN_BF16, out);
    call_tensor(&c, Y, HN_BF16, c.rows, out);
    call_tensor(&c, Z, HN_BF16, c.rows, out);
    call_tensor(&c, DY, HN_BF16, c.rows, out);
    call_tensor(&c, DX, HN_BF16, c.rows, in);
    call_tensor(&c, DW, HN_F32, out, in);
    call_vector(&c, DBIAS, HN_F32, out);
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

/* --- LoRA of a layer [rows, width] -> [rows, width]: x [rows, width], A [r, width], low [rows, r], B [width, r] --- */

enum { LOW_X, LOW_A, LOW, LOW_DA, LOW_B, LOW_W, LOW_BIAS, LOW_Y, RANK = 16 };

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

static hn_low_rank branch(const call *c, int weight)
{
    return (hn_low_rank){.low = &c->t[LOW], .weight = &c->t[weight], .parts = 1, .part = {{0, c->m->width}}};
}

static void run_linear_low_rank(void *context)
{
    call *c = context;
    const hn_low_rank low = branch(c, LOW_B);
    c->b->ops->linear_forward_low_rank(&c->b->ctx, &c->t[LOW_Y], NULL, &c->t[LOW_X], &c->t[LOW_W], &c->t[LOW_BIAS], HN_ACT_NONE, &low);
}

static void run_linear_low_rank_backward(void *context)
{
    call *c = context;
    const hn_low_rank low = branch(c, LOW_A);
    c->b->ops->linear_backward_input_low_rank(&c->b->ctx, &c->t[LOW_Y], &c->t[LOW_X], &c->t[LOW_W], NULL, HN_ACT_NONE, false, &low);
}

static void time_low_rank(bench *b, const bench_model *m)
{
    call c;
    if (!bench_wanted(b, "low_rank")) return;
    call_open(&c, b, m);
    bench_workspace(b, m, c.rows);
    call_tensor(&c, LOW_X, HN_BF16, c.rows, m->width);
    call_tensor(&c, LOW_A, HN_BF16, RANK, m->width);
    call_tensor(&c, LOW, HN_BF16, c.rows, RANK);
    call_tensor(&c, LOW_DA, HN_F32, RANK, m->width);
    call_tensor(&c, LOW_B, HN_BF16, m->width, RANK);
    call_tensor(&c, LOW_W, HN_BF16, m->width, m->width);
    call_vector(&c, LOW_BIAS, HN_BF16, m->width);
    call_tensor(&c, LOW_Y, HN_BF16, c.rows, m->width);
    const double width = (double)m->width, x = 2 * (double)c.rows * width, low = 2 * (double)c.rows * RANK, weight = RANK * width;
    bench_row(b, "low_rank_project", m->name, x + low + 2 * weight, x * RANK, run_project, &c);
    bench_row(b, "low_rank_backward_weight", m->name, x + low + 8 * weight, x * RANK, run_low_rank_weight, &c);
    const double bytes = 2 * x + low + 2 * weight + 2 * width * width, flop = x * (width + RANK);
    bench_row(b, "linear_forward_low_rank", m->name, bytes, flop, run_linear_low_rank, &c);
    bench_row(b, "linear_backward_input_low_rank", m->name, bytes, flop, run_linear_low_rank_backward, &c);
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
    for (int i = NORM_X; i <= NORM_DR; i++) call_tensor(&c, i, HN_BF16, c.rows, m->width);
    for (int i = GAMMA; i <= DBETA; i++) call_vector(&c, i, i < DGAMMA ? HN_BF16 : HN_F32, m->width);
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
    call_tensor(&c, QKV, HN_BF16, c.rows, all);
    call_tensor(&c, O, HN_BF16, c.rows, q);
    call_tensor(&c, D_O, HN_BF16, c.rows, q);
    call_tensor(&c, DQKV, HN_BF16, c.rows, all);
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

/* --- losses --- */

enum { LOGITS, DLOGITS, LOSS_X, LOSS_DX, LOSS_W, LOSS_DW, SCORE, D_SCORE, VALUE };

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

static void run_mean_squared_error(void *context)
{
    call *c = context;
    c->b->ops->mean_squared_error(&c->b->ctx, c->loss, c->count, &c->t[D_SCORE], &c->t[SCORE], c->t[VALUE].data, c->scale);
}

/* Of a score for every sequence: what it takes to start a kernel. */
static void time_mean_squared_error(bench *b, const bench_model *m)
{
    call c;
    if (!bench_wanted(b, "mean_squared_error")) return;
    call_open(&c, b, m);
    bench_workspace(b, m, c.rows);
    call_tensor(&c, SCORE, HN_BF16, m->sequences, 1);
    call_tensor(&c, D_SCORE, HN_BF16, m->sequences, 1);
    call_vector(&c, VALUE, HN_F32, m->sequences);
    bench_row(b, "mean_squared_error", m->name, 8 * (double)m->sequences, 0, run_mean_squared_error, &c);
    bench_release(b);
}

static void time_losses(bench *b, const bench_model *m)
{
    call c;
    if (!bench_wanted(b, "cross_entropy")) return;
    call_open(&c, b, m);
    bench_workspace(b, m, c.rows);
    const int64_t few = c.rows < 4096 ? c.rows : 4096;
    const double logits = (double)few * (double)m->vocabulary, rows = (double)c.rows, weight = (double)m->width * (double)m->vocabulary;
    call_tensor(&c, LOGITS, HN_BF16, few, m->vocabulary);
    call_tensor(&c, DLOGITS, HN_BF16, few, m->vocabulary);
    snprintf(c.shape, sizeof c.shape, "%lld x %lld", (long long)few, (long long)m->vocabulary);
    bench_row(b, "cross_entropy", c.shape, 4 * logits, 0, run_cross_entropy, &c);
    call_tensor(&c, LOSS_X, HN_BF16, c.rows, m->width);
    call_tensor(&c, LOSS_DX, HN_BF16, c.rows, m->width);
    call_tensor(&c, LOSS_W, HN_BF16, m->vocabulary, m->width);
    call_tensor(&c, LOSS_DW, HN_F32, m->vocabulary, m->width);
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
    call_time_mlp_rows(b, m);
    call_time_rows(b, m);
    time_losses(b, m);
    time_mean_squared_error(b, m);
}
