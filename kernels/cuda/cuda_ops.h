/* Entries of the operation table (kernels/ops.h) that run on a GPU, with the contracts of that table: same
 * arguments, same meaning, everything in device memory but the structs themselves. Defined in
 * kernels/<operation>.cu. C; no CUDA header.
 *
 * ctx->state is an hn_cuda_state. Every launch goes to its stream and returns at once; the first failure is
 * recorded in ctx->error with the operation's name. */
#ifndef HONE_KERNELS_CUDA_CUDA_OPS_H
#define HONE_KERNELS_CUDA_CUDA_OPS_H

#include "kernels/ops.h"

typedef struct hn_cuda_state {
    void *stream;     /* cudaStream_t; NULL is the default stream */
    bool synchronous; /* HN_CUDA_SYNC=1: wait after every launch, so that a fault names its kernel */
} hn_cuda_state;

void hn_cuda_layernorm_forward(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *h, float *mean,
                               float *rstd, const hn_tensor *x, const hn_tensor *residual,
                               const hn_tensor *gamma, const hn_tensor *beta, float epsilon,
                               const hn_dropout *dropout);
void hn_cuda_layernorm_backward(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *d_residual,
                                float *dgamma, float *dbeta, const hn_tensor *dy, const hn_tensor *dh_in,
                                const hn_tensor *h, const float *mean, const float *rstd,
                                const hn_tensor *gamma, const hn_dropout *dropout);
/* Bytes of ctx->workspace that backward needs for `columns`, whatever the number of rows. */
size_t hn_cuda_layernorm_workspace(int64_t columns);

/* Rows of q, k, v, o and d_o lie a multiple of 16 bytes apart and start at one. */
void hn_cuda_attention_forward(hn_ops_context *ctx, const hn_tensor *o, float *lse, const hn_tensor *q,
                               const hn_tensor *k, const hn_tensor *v, const hn_attention *attention);
void hn_cuda_attention_backward(hn_ops_context *ctx, const hn_tensor *dq, const hn_tensor *dk,
                                const hn_tensor *dv, const hn_tensor *d_o, const hn_tensor *o,
                                const float *lse, const hn_tensor *q, const hn_tensor *k, const hn_tensor *v,
                                const hn_attention *attention);
/* Bytes of ctx->workspace that backward needs. */
size_t hn_cuda_attention_workspace(int64_t query_rows, int heads);

#endif
