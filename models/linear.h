/* The two kinds of weights that a model is made of: a linear layer and a norm. Each is one struct, so that
 * freezing, decay, LoRA and export touch it in one place. They own nothing: placing
 * parameters and gradients fills the views (params.c). */
#ifndef HONE_MODELS_LINEAR_H
#define HONE_MODELS_LINEAR_H

#include <stdbool.h>

#include "core/tensor.h"
#include "kernels/ops.h"

/* One parameter as forward and backward see it. */
typedef struct hn_weight {
    hn_tensor value;    /* matrices in the model's precision, vectors fp32 */
    hn_tensor gradient; /* fp32; data NULL: none was placed */
    bool trainable;     /* in the plan of the forward that runs */
} hn_weight;

/* A pair of low-rank factors for each of some runs of the layer's outputs (of Q, K and V stored as one, those that are
 * targets): the A of all stand one below the other, so do the B. */
typedef struct hn_lora {
    hn_weight a; /* [parts r, K] */
    hn_weight b; /* [sum of rows, r] */
    int parts;   /* 0: no adapters */
    struct {
        int64_t row, rows;
    } part[HN_LOW_RANK_PARTS]; /* of the layer's outputs, rising */
    float scale, dropout;
    uint32_t site;    /* of the dropout, which all parts share */
    hn_tensor low;    /* [T, parts r] scale dropout(x) A^T, which dB is made of */
    bool again;       /* low is shared by all layers, and made again from x for dB */
    hn_tensor d_low;  /* [T, parts r] its gradient; shared by all layers */
} hn_lora;

typedef struct hn_linear {
    hn_weight weight; /* [N, K] */
    hn_weight bias;   /* [N], or no data */
    hn_lora lora;
} hn_linear;

/* A layer norm; without beta (no data) an RMS norm. */
typedef struct hn_norm {
    hn_weight gamma, beta; /* [C] */
} hn_norm;

/* Outputs [first, first + count) of a linear layer, as a layer of their own: one of Q, K and V. */
hn_linear hn_linear_rows(const hn_linear *linear, int64_t first, int64_t count);

/* y = act(x W^T + b + scale dropout(x) A^T B^T); z is what the activation was given, when wanted. `random` keys the rows of x
 * while the adapters train; NULL: nothing is dropped. */
void hn_linear_forward(const hn_ops *ops, hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *z,
                       const hn_tensor *x, const hn_linear *linear, hn_activation activation, const hn_random *random);
/* Whether backward_weight reads x. */
bool hn_linear_wants_input(const hn_linear *linear);
/* Adds dW and db, dA and dB of what is trainable. Before backward_input, which goes on from it where there are adapters. */
void hn_linear_backward_weight(const hn_ops *ops, hn_ops_context *ctx, const hn_linear *linear,
                               const hn_tensor *dy, const hn_tensor *x, const hn_random *random);
/* dx (+)= gradient of x, with the slope of the activation below as linear_backward_input of kernels/ops.h has it. */
void hn_linear_backward_input(const hn_ops *ops, hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *dy,
                              const hn_linear *linear, const hn_tensor *z, hn_activation activation, bool add,
                              const hn_random *random);

/* y = norm(h), h = residual + dropout(x), as layernorm_forward and rmsnorm_forward of kernels/ops.h. */
void hn_norm_forward(const hn_ops *ops, hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *h,
                     float *mean, float *rstd, const hn_tensor *x, const hn_tensor *residual,
                     const hn_norm *norm, float epsilon, const hn_dropout *dropout);
/* As layernorm_backward and rmsnorm_backward of kernels/ops.h; dgamma and dbeta only when the norm is trainable. */
void hn_norm_backward(const hn_ops *ops, hn_ops_context *ctx, const hn_tensor *dx,
                      const hn_tensor *d_residual, const hn_norm *norm, const hn_tensor *dy,
                      const hn_tensor *dh_in, const hn_tensor *h, const float *mean, const float *rstd, const hn_dropout *dropout);

#endif
