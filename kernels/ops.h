/* The operation table: everything a model's forward and backward asks of a device. ops_cpu fills it with oneDNN for matrix
 * products and OpenMP C for the rest, ops_cuda with cuBLASLt and hand-written kernels. Contracts (formula, shapes, aliasing,
 * adds or overwrites, sources) stand in the header of each operation; this file gathers them.
 *
 * Common rules
 * - Operations return nothing: the first failure is recorded in ctx->error, and later calls do nothing.
 * - Tensors are fp32 or bf16 (field dtype); arithmetic is fp32; statistics, losses, gradients of parameters are fp32.
 * - Gradients of parameters are added to; gradients of activations are overwritten unless a header says otherwise.
 * - An empty input (0 rows) returns at once.
 * - Nothing is allocated in a step: scratch comes from ctx->workspace, whose size the `_workspace` functions give.
 * - Same inputs, same bits, whatever the number of threads. */
#ifndef HONE_KERNELS_OPS_H
#define HONE_KERNELS_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/backend.h"
#include "core/batch.h"
#include "core/error.h"
#include "core/strbuf.h"
#include "core/tensor.h"

/* What random numbers are keyed by (core/philox.h). Rows of an activation belong to tokens: row r is the token at
 * position[r] of example[r]; both arrays have one entry a row, in the backend's memory. */
typedef struct hn_random {
    uint64_t seed;
    const uint32_t *step;    /* current optimizer step, in the backend's memory */
    const uint32_t *example; /* [T] */
    const int32_t *position; /* [T] */
} hn_random;

/* Dropout at one site. probability 0 or random NULL: none. Kept elements are scaled by 1 / (1 - probability). The mask is
 * recomputed in backward, never stored. */
typedef struct hn_dropout {
    float probability;
    uint32_t site; /* HN_SITE; attention adds the head */
    const hn_random *random;
} hn_dropout;

typedef enum hn_activation {
    HN_ACT_NONE,
    HN_ACT_GELU,
    HN_ACT_GELU_TANH,
    HN_ACT_TANH,
    HN_ACT_RELU,
    HN_ACT_SILU
} hn_activation;

typedef struct hn_ops_context {
    hn_backend *backend;
    void *workspace;
    size_t workspace_size;
    void *state;     /* the table's own: oneDNN primitives, cuBLASLt plans */
    hn_error *error; /* first failure of a step */
    bool few_rows;   /* generation: few rows, or one query against a cache, may go the fastest way for those (linear.h, attention.h) */
    struct hn_profile *profile; /* time by operation, NULL: not measured */
    uint64_t *pulse; /* every operation adds one, atomically: others see that something moves; NULL: nobody looks */
} hn_ops_context;

/* Attention over sequences laid end to end. Queries may be fewer than keys (the rows that a head reads): sequence s has the
 * queries [cu_q[s], cu_q[s+1]) and the keys [cu_k[s], cu_k[s+1]). `q_position` gives a query's place among its keys. */
typedef struct hn_attention {
    int heads, kv_heads, head_size;
    float scale; /* of q.k, usually 1 / sqrt(head_size) */
    bool causal; /* key j is seen by query i when j <= q_position(i) */
    int32_t n;   /* sequences */
    int32_t longest_q, longest_k;
    const int32_t *cu_q, *cu_k; /* [n + 1] */
    hn_dropout dropout; /* on probabilities; its random's example/position arrays are those of the QUERY rows */
    const int32_t *q_position; /* [Tq], for causal; NULL: the queries of a sequence are its last tokens */
    const int32_t *k_count; /* [n] keys that a sequence has, of the places cu_k gives it (a cache); NULL: all. Forward only */
} hn_attention;

#define HN_LOW_RANK_PARTS 3

/* The low-rank branch of a linear layer (LoRA, Hu et al. 2021, section 4.1), for runs of the layer's outputs: each part has r columns
 * of `low`, r rows of A and `rows` rows of B.
 *
 *     forward          y[:, row .. row + rows) += low_part B_part^T      low = scale dropout(x) A^T, weight = B [sum of rows, r]
 *     backward_input   dx += dropout(low A)                              low_part = scale dy_part B_part, weight = A [parts r, K] */
typedef struct hn_low_rank {
    const hn_tensor *low; /* [M, parts r] */
    const hn_tensor *weight;
    int parts;
    struct {
        int64_t row, rows;
    } part[HN_LOW_RANK_PARTS]; /* rising */
    const hn_dropout *dropout; /* of backward; NULL: none */
} hn_low_rank;

/* A GPU's block takes so many elements of a segment at a time. */
#define HN_ADAMW_CHUNK 4096

/* One run of parameters for AdamW: fp32 master, moments of either type, and the bf16 copy that products read (NULL in fp32). A
 * parameter may be cut into several, at multiples of 32 elements: its bits are those of one. */
typedef struct hn_adamw_segment {
    float *master, *gradient;
    void *m, *v;
    uint16_t *copy;
    int64_t count;
    int64_t first;      /* chunks of the segments before it in the list (hn_adamw_chunks) */
    float lr_scale;     /* of the group (discriminative learning rates) */
    float weight_decay; /* 0 for biases and norms */
    int32_t group;      /* index into hn_adamw_step.correction: an unfrozen group counts its own steps */
    hn_dtype moments;   /* HN_F32; or HN_BF16, rounded at random */
    uint32_t parameter; /* its number, which keys the rounding */
    int64_t offset;     /* the parameter's element that the segment begins with, a multiple of 32 */
} hn_adamw_segment;

/* Fills `first` of a list in host memory, before it goes to the backend's; returns the chunks of all of it. */
static inline int64_t hn_adamw_chunks(hn_adamw_segment *segments, int64_t count)
{
    int64_t chunks = 0;
    for (int64_t s = 0; s < count; s++) {
        HN_ASSERT(segments[s].offset % 32 == 0);
        segments[s].first = chunks;
        chunks += (segments[s].count + HN_ADAMW_CHUNK - 1) / HN_ADAMW_CHUNK;
    }
    return chunks;
}

/* What the host asks of a step, in the backend's memory. */
typedef struct hn_adamw_control {
    double clip; /* the gradient's largest norm; 0: none */
    double beta1, beta2;
    double most_loss, most_norm; /* loss over count, and norm, beyond which the step is skipped; 0: any */
    float lr, epsilon;
    uint64_t seed; /* of the rounding of bf16 moments, with the step */
    uint32_t step;
} hn_adamw_control;

/* What is counted a group; arrays [count] in the backend's memory. */
typedef struct hn_adamw_groups {
    int count;
    const int32_t *trains; /* nonzero: it is stepped now */
    const float *lr;       /* warm-up factor after its unfreezing */
    int64_t *applied;      /* steps that changed it, of the whole run */
    float *correction1, *correction2;
} hn_adamw_groups;

/* What became of a step, in the backend's memory. */
typedef struct hn_adamw_outcome {
    double loss, norm;
    int64_t count; /* of what the loss is a sum over */
    int32_t skipped;
} hn_adamw_outcome;

/* Without clipping a norm beyond this counts as infinite: the second moment, the square, would leave fp32. */
#define HN_ADAMW_LARGEST_NORM 1e18

/* Values of one step, read through a pointer in the backend's memory. */
typedef struct hn_adamw_step {
    float lr, beta1, beta2, epsilon;
    float gradient_scale; /* clipping */
    int32_t skip;         /* nonzero: nothing is changed (hnp_adamw_decide) */
    const float *correction1, *correction2; /* [groups] 1 - beta^t of each group */
    const float *group_lr;                  /* [groups] warm-up factor of a group after its unfreezing */
    uint64_t seed;                          /* of the rounding of bf16 moments, with the step */
    uint32_t step;
} hn_adamw_step;

/* What a loss over target rows gives; each in the backend's memory. */
typedef struct hn_target_loss {
    double *loss;       /* += the sum over the rows with a label */
    int64_t *count;     /* += their number */
    int64_t *correct;   /* += those whose arg max is the label; NULL: not wanted */
    float *row_loss;    /* [n] of each row, 0 without a label; NULL: not wanted */
    bool *row_correct;  /* [n]; NULL: not wanted */
    int64_t rows;       /* no more rows than this have a label, as the host counted; 0: it did not. Saves a GPU the others */
} hn_target_loss;

/* What is summed over the parts of a step: of examples, loss and targets; of the gradient, the square of its norm. */
typedef struct hn_sums {
    double loss;
    int64_t count;
    double squares;
} hn_sums;

/* Choosing by time among several ways to run the same operation, where a table has more than one. Other ways are other bits: a run
 * chooses before its first step, keeps the choice and takes it again whenever it goes on. Between open and close. */
typedef struct hn_tuning {
    /* Times the ways of everything that ran so far and keeps the fastest. `size` bytes at `memory` of the backend are spoiled; what
     * finds no room there stays as it is. Waits. */
    hn_status (*run)(hn_ops_context *ctx, void *memory, size_t size, hn_error *error);
    /* Appends what was chosen, as text. */
    void (*save)(const hn_ops_context *ctx, hn_strbuf *out);
    /* Takes such a text (`name` is what errors call it), or nothing of it: HN_ERR_MISMATCH, it was made by other hardware or another
     * library; HN_ERR_FORMAT. */
    hn_status (*load)(hn_ops_context *ctx, const char *text, const char *name, hn_error *error);
} hn_tuning;

/* How the next token is chosen (kernels/choose_tokens.h). */
typedef struct hn_sampling {
    float temperature;        /* 0: greedy */
    int32_t top_k;            /* 0: off */
    float top_p;              /* (0, 1]; 1: off */
    float min_p;              /* [0, 1]; 0: off */
    float repetition_penalty; /* above 0; 1: off */
    uint64_t seed;
} hn_sampling;
#define HN_SAMPLING_GREEDY ((hn_sampling){.top_p = 1, .repetition_penalty = 1})

/* The sequences whose next tokens are chosen: arrays with an entry a row of logits, in the backend's memory. A draw is keyed by example
 * and position beside the seed, so that it depends on nothing that ran before or beside it. */
typedef struct hn_next_tokens {
    const uint32_t *example;  /* number of the prompt */
    const uint32_t *position; /* of the token that is chosen, in its sequence */
    const int32_t *place;     /* the sequence's row of `seen` */
    uint32_t *seen; /* [places, hn_seen_words(V)] bit v % 32 of word v / 32: token v is in the sequence; NULL: no penalty */
} hn_next_tokens;
#define HN_NO_TOKEN (-1)

static inline int32_t hn_seen_words(int32_t vocabulary)
{
    return (vocabulary + 31) / 32;
}

typedef struct hn_ops hn_ops;
struct hn_ops {
    const char *name;

    /* y[r] = token[ids[r]] + position[pos[r] + offset] + type[types[r]];  y [T, C]. position and type tables may be NULL. */
    void (*embedding_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *token_table /* [V, C] */,
                              const hn_tensor *position_table /* [P, C] */, const hn_tensor *type_table /* [S, C] */,
                              const int32_t *ids /* [T] */, const int32_t *positions /* [T] */,
                              const int32_t *types /* [T] */, int32_t position_offset);
    /* Adds to the fp32 gradients of the tables (each may be NULL: frozen); in a fixed order, without atomics. */
    void (*embedding_backward)(hn_ops_context *ctx, const hn_tensor *d_token, const hn_tensor *d_position,
                               const hn_tensor *d_type, const hn_tensor *dy /* [T, C] */, const int32_t *ids,
                               const int32_t *positions, const int32_t *types, int32_t position_offset);

    /* z = x W^T + b; y = act(z).  x [M, K], w [N, K], bias [N] or NULL, y and z [M, N]. z is written when not NULL (backward
     * needs it); with HN_ACT_NONE z is NULL. y may not alias x. */
    void (*linear_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *z, const hn_tensor *x,
                           const hn_tensor *w, const hn_tensor *bias, hn_activation activation);
    /* dx = (dy W) * act'(z), z [M, K] of the layer BELOW whose activation made x (NULL with HN_ACT_NONE). For HN_ACT_TANH z
     * is the activation's output instead. Overwrites dx, or adds to it when `add` (then activation is HN_ACT_NONE). */
    void (*linear_backward_input)(hn_ops_context *ctx, const hn_tensor *dx /* [M, K] */, const hn_tensor *dy /* [M, N] */,
                                  const hn_tensor *w /* [N, K] */, const hn_tensor *z, hn_activation activation,
                                  bool add);
    /* dw += dy^T x, dbias += column sums of dy; both fp32; dw or dbias may be NULL. */
    void (*linear_backward_weight)(hn_ops_context *ctx, const hn_tensor *dw /* [N, K] */, const hn_tensor *dbias /* [N] */,
                                   const hn_tensor *dy /* [M, N] */, const hn_tensor *x /* [M, K] */);
    /* The first two with a low-rank branch, which joins before bias and activation, and before the slope. */
    void (*linear_forward_low_rank)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *z, const hn_tensor *x,
                                    const hn_tensor *w, const hn_tensor *bias, hn_activation activation,
                                    const hn_low_rank *low);
    void (*linear_backward_input_low_rank)(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *dy, const hn_tensor *w,
                                           const hn_tensor *z, hn_activation activation, bool add, const hn_low_rank *low);
    /* low = scale * dropout(x) w^T, or scale * dropout(x) w when not `transposed`; dropout may be NULL. */
    void (*low_rank_project)(hn_ops_context *ctx, const hn_tensor *low /* [M, R] */, const hn_tensor *x /* [M, K] */,
                             const hn_tensor *w /* [R, K] or [K, R] */, bool transposed, float scale,
                             const hn_dropout *dropout);
    /* dw += dy^T dropout(x); dropout may be NULL. */
    void (*low_rank_backward_weight)(hn_ops_context *ctx, const hn_tensor *dw /* [N, K] */, const hn_tensor *dy /* [M, N] */,
                                     const hn_tensor *x /* [M, K] */, const hn_dropout *dropout);
    /* dz = dy * act'(z) elementwise; dz may alias dy. For HN_ACT_TANH z is the output. */
    void (*activation_backward)(hn_ops_context *ctx, const hn_tensor *dz, const hn_tensor *dy, const hn_tensor *z,
                                hn_activation activation);

    /* h = residual + dropout(x); y = (h - mean) * rstd * gamma + beta.  All [T, C]; mean and rstd fp32 [T]. residual NULL:
     * h = dropout(x). h NULL: not kept (evaluation); h may alias x or residual. */
    void (*layernorm_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *h, float *mean, float *rstd,
                              const hn_tensor *x, const hn_tensor *residual, const hn_tensor *gamma,
                              const hn_tensor *beta, float epsilon, const hn_dropout *dropout);
    /* dh = backward of the norm (+ dh_in when not NULL: what reaches h from elsewhere); d_residual = dh, dx = dropout(dh).
     * d_residual or dx may be NULL; without dropout they may be the same tensor. dgamma, dbeta (fp32 [C], may be NULL) are
     * added to. */
    void (*layernorm_backward)(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *d_residual, float *dgamma,
                               float *dbeta, const hn_tensor *dy, const hn_tensor *dh_in, const hn_tensor *h,
                               const float *mean, const float *rstd, const hn_tensor *gamma,
                               const hn_dropout *dropout);
    /* h = residual + dropout(x); y = h * rstd * gamma.  All [T, C], a row being `groups` rows laid end to end that are normalised
     * each by itself (heads: queries and keys of Qwen3): gamma [C / groups], rstd fp32 [T, groups]. NULLs and aliases as for
     * layernorm_forward; with groups > 1 there is no dropout. */
    void (*rmsnorm_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *h, float *rstd, const hn_tensor *x,
                            const hn_tensor *residual, const hn_tensor *gamma, int groups, float epsilon,
                            const hn_dropout *dropout);
    /* As layernorm_backward; dgamma fp32 [C / groups], may be NULL, is added to. */
    void (*rmsnorm_backward)(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *d_residual, float *dgamma,
                             const hn_tensor *dy, const hn_tensor *dh_in, const hn_tensor *h, const float *rstd,
                             const hn_tensor *gamma, int groups, const hn_dropout *dropout);
    /* Rotary positions, in place, of every head of x [T, heads * D] (halves layout, as Hugging Face's Llama): table fp32 [P, D], row p
     * holds D / 2 cosines, then the sines (hn_rope_table_fill of kernels/rope_table.h). `backward` turns back. q and k may go in
     * one call where their columns are neighbours. A position outside the table is an error. */
    void (*rope)(hn_ops_context *ctx, const hn_tensor *x, const hn_tensor *table, const int32_t *position /* [T] */,
                 bool backward);
    /* y = act(gate) * up, all [T, I] of one type and each a view if need be; y may alias gate or up. Not for HN_ACT_TANH. */
    void (*gated_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *gate, const hn_tensor *up,
                          hn_activation activation);
    /* dgate = dy * up * act'(gate), dup = dy * act(gate); either may alias any input. */
    void (*gated_backward)(hn_ops_context *ctx, const hn_tensor *dgate, const hn_tensor *dup, const hn_tensor *dy,
                           const hn_tensor *gate, const hn_tensor *up, hn_activation activation);
    /* y = dropout(x), elementwise with the rows' keys; also its own backward. y may alias x. */
    void (*dropout)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *x, const hn_dropout *dropout);

    /* o[i] = sum_j dropout(softmax_j(scale * q_i.k_j)) v_j per head.  q, o [Tq, heads * head_size], k, v
     * [Tk, kv_heads * head_size] (views with a stride). lse fp32 [heads, Tq]: log of the sum of exponents, for backward;
     * NULL in evaluation. */
    void (*attention_forward)(hn_ops_context *ctx, const hn_tensor *o, float *lse, const hn_tensor *q,
                              const hn_tensor *k, const hn_tensor *v, const hn_attention *attention);
    /* Overwrites dq, dk, dv. */
    void (*attention_backward)(hn_ops_context *ctx, const hn_tensor *dq, const hn_tensor *dk, const hn_tensor *dv,
                               const hn_tensor *d_o, const hn_tensor *o, const float *lse, const hn_tensor *q,
                               const hn_tensor *k, const hn_tensor *v, const hn_attention *attention);

    /* y[r] = x[index[r]] */
    void (*gather_rows)(hn_ops_context *ctx, const hn_tensor *y /* [n, C] */, const hn_tensor *x /* [T, C] */,
                        const int32_t *index /* [n] */);
    /* x[index[r]] += y[r]; indices are distinct. */
    void (*scatter_add_rows)(hn_ops_context *ctx, const hn_tensor *x /* [T, C] */, const hn_tensor *y /* [n, C] */,
                             const int32_t *index /* [n] */);

    /* x[index[r]] = y[r]; indices are distinct. */
    void (*scatter_rows)(hn_ops_context *ctx, const hn_tensor *x /* [T, C] */, const hn_tensor *y /* [n, C] */,
                         const int32_t *index /* [n] */);

    /* x[r] = sum of y[index[e]] over e in [cu[r], cu[r+1]), in that order, fp32: the backward of a gather that takes rows many times. */
    void (*sum_rows)(hn_ops_context *ctx, const hn_tensor *x /* [T, C] */, const hn_tensor *y /* [n, C] */,
                     const int32_t *cu /* [T + 1] */, const int32_t *index /* [cu[T]] */);

    /* row[r] = value[s] for the rows [cu[s], cu[s+1]) of sequence s < n: a value an example becomes one a token. */
    void (*expand_rows)(hn_ops_context *ctx, uint32_t *row /* [cu[n]] */, const uint32_t *value /* [n] */,
                        const int32_t *cu /* [n + 1] */, int32_t n);

    /* Sum over the rows with a label of -sum_k q_k log softmax(logits)_k, where q is the label smoothed by `smoothing`
     * (1 - s on the label plus s / K everywhere). *loss += the sum (fp64), *count += rows with a label.
     * dlogits = (softmax - q) * *scale, 0 for a row without a label; NULL: not wanted. logits fp32 or bf16 [n, K]. */
    void (*cross_entropy)(hn_ops_context *ctx, double *loss, int64_t *count, const hn_tensor *dlogits,
                          const hn_tensor *logits, const int32_t *label, float smoothing, const float *scale);
    /* cross_entropy of the logits x w^T + bias, which are never stored whole, with its gradients: dx is overwritten, dw and dbias
     * (fp32) are added to, each may be NULL; with all three NULL (evaluation) so may scale. Rows labelled HN_NO_TARGET cost
     * nothing and have dx = 0. dx may not alias x. */
    void (*linear_cross_entropy)(hn_ops_context *ctx, const hn_target_loss *out, const hn_tensor *dx /* [n, C] */,
                                 const hn_tensor *dw /* [V, C] */, const hn_tensor *dbias /* [V] */,
                                 const hn_tensor *x /* [n, C] */, const hn_tensor *w /* [V, C] */,
                                 const hn_tensor *bias /* [V] or NULL */, const int32_t *label /* [n] */, float smoothing,
                                 const float *scale);
    /* Sum of (logit - value)^2 over the rows; dlogits = 2 (logit - value) * *scale. A NaN value has no target. */
    void (*mean_squared_error)(hn_ops_context *ctx, double *loss, int64_t *count, const hn_tensor *dlogits,
                               const hn_tensor *logits /* [n, 1] */, const float *value, const float *scale);

    /* id[r] = the token that comes next by logits [n, V] (fp32, may be changed), which `seen` then has too; HN_NO_TOKEN where there is
     * nothing finite to choose from. */
    void (*choose_tokens)(hn_ops_context *ctx, int32_t *id /* [n] */, const hn_tensor *logits, const hn_next_tokens *next,
                          const hn_sampling *sampling);

    /* *sum += sum of squares of an fp32 array, in a fixed order, fp64. */
    void (*sum_squares)(hn_ops_context *ctx, double *sum, const float *x, int64_t count);
    /* Whether a step is made, and with what: norm and loss must be finite, the gradient is clipped, a group's own steps correct
     * its moments. Fills *step for adamw and *outcome for the host. */
    void (*adamw_decide)(hn_ops_context *ctx, hn_adamw_step *step, hn_adamw_outcome *outcome, const hn_adamw_groups *groups,
                         const double *norm_squared, const double *loss, const int64_t *count,
                         const hn_adamw_control *control);
    /* AdamW (Loshchilov & Hutter 2019, algorithm 2) over all segments in one launch. The list lies in the backend's memory, with
     * `first` filled by hn_adamw_chunks, which gave `chunks`. */
    void (*adamw)(hn_ops_context *ctx, const hn_adamw_segment *segments, int64_t segment_count, int64_t chunks,
                  const hn_adamw_step *step);
    void (*cast)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *x); /* between fp32 and bf16, dense */
    void (*zero)(hn_ops_context *ctx, void *memory, size_t size);
    void (*scale)(hn_ops_context *ctx, float *x, int64_t count, const float *factor);
    /* y[i] += x[i], fp32. */
    void (*add)(hn_ops_context *ctx, float *y, const float *x, int64_t count);
    /* *to += from[0] + from[1] + ..., member by member and in this order. */
    void (*add_sums)(hn_ops_context *ctx, hn_sums *to, const hn_sums *from, int64_t count);
    /* Within the backend's memory; the two do not overlap. */
    void (*copy)(hn_ops_context *ctx, void *to, const void *from, size_t size);

    /* Bytes of scratch that the operations need at most for products up to [rows, width] x [width, width] of `dtype` and
     * attention up to `longest` tokens a sequence. */
    size_t (*workspace)(int64_t rows, int64_t widest, int64_t longest, int heads, hn_dtype dtype);
    /* ... and on top of it for products with low-rank branches of up to `width` columns of `low`. */
    size_t (*low_rank_workspace)(int64_t widest, int64_t width);
    /* ... and that linear_cross_entropy needs for up to `rows` rows: the caller plans for the larger of the two. */
    size_t (*linear_cross_entropy_workspace)(int64_t rows, int64_t width, int64_t vocabulary);
    /* ... and choose_tokens, likewise. */
    size_t (*choose_tokens_workspace)(int64_t vocabulary);
    /* How products run, for the log, the manifest and what must not outlive a change of it: "fp32 avx512", "cuda sm_90, NVIDIA H200,
     * cublaslt 130100", ... Between open and close. */
    const char *(*products)(const hn_ops_context *ctx);
    /* NULL: every operation has one way to run here. */
    const hn_tuning *(*tuning)(void);
    /* Makes and frees ctx->state. */
    hn_status (*open)(hn_ops_context *ctx, hn_error *error);
    void (*close)(hn_ops_context *ctx);
};

/* The CPU table of the best instruction set of this machine that hone was built for. */
const hn_ops *hn_ops_cpu(void);
/* Threads of the calling thread's operations; 0: one a core. Before sizes are asked for. Bits never depend on it. */
void hn_ops_cpu_threads(int threads);
/* How products run here, for the log and the manifest: "fp32 avx512", "bf16 avx512_bf16", ... */
const char *hn_ops_cpu_isa(void);

#endif
