/* Layer normalisation on the GPU, as layernorm.h defines it: the passes of cuda/norm.cuh with a mean and with beta. */
#include "kernels/cuda/norm.cuh"

extern "C" {
#include "kernels/layernorm.h"
}

namespace {

template <class T>
void forward(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *h, float *mean, float *rstd, const hn_tensor *x,
             const hn_tensor *residual, const hn_tensor *gamma, const hn_tensor *beta, float epsilon,
             const hn_dropout *dropout)
{
    const char *name = "layernorm_forward";
    norm_forward<T> a = {matrix_of<T>(y),
                         matrix_of<T>(h),
                         matrix_of<T>(x),
                         matrix_of<T>(residual),
                         mean,
                         rstd,
                         any_matrix_of(gamma),
                         any_matrix_of(beta),
                         {},
                         epsilon,
                         drop_site_of(dropout)};
    if (!norm_rows_of(ctx, name, &a.rows, x, 1)) return;
    norm_forward_launch<T, true>(ctx, name, a, norm_vectors(a.rows, 16 / sizeof(T), {y, h, x, residual}, {gamma, beta}));
}

template <class T>
void backward(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *d_residual, float *dgamma, float *dbeta,
              const hn_tensor *dy, const hn_tensor *dh_in, const hn_tensor *h, const float *mean, const float *rstd,
              const hn_tensor *gamma, const hn_dropout *dropout)
{
    const char *name = "layernorm_backward";
    norm_backward<T> a = {matrix_of<T>(dx),
                          matrix_of<T>(d_residual),
                          matrix_of<T>(dy),
                          matrix_of<T>(dh_in),
                          matrix_of<T>(h),
                          mean,
                          rstd,
                          any_matrix_of(gamma),
                          nullptr,
                          {},
                          drop_site_of(dropout)};
    if (!norm_rows_of(ctx, name, &a.rows, h, 1)) return;
    norm_backward_launch<T, true>(ctx, name, a, dgamma, dbeta,
                                  norm_vectors(a.rows, 16 / sizeof(T), {dx, d_residual, dy, dh_in, h}, {gamma}));
}

} // namespace

void HN_ISA_NAME(hnp_layernorm_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *h, float *mean,
                                        float *rstd, const hn_tensor *x, const hn_tensor *residual,
                                        const hn_tensor *gamma, const hn_tensor *beta, float epsilon,
                                        const hn_dropout *dropout)
{
    if (!x->shape[0]) return;
    if (x->dtype == HN_F32)
        forward<float>(ctx, y, h, mean, rstd, x, residual, gamma, beta, epsilon, dropout);
    else
        forward<bf16>(ctx, y, h, mean, rstd, x, residual, gamma, beta, epsilon, dropout);
}

void HN_ISA_NAME(hnp_layernorm_backward)(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *d_residual,
                                         float *dgamma, float *dbeta, const hn_tensor *dy, const hn_tensor *dh_in,
                                         const hn_tensor *h, const float *mean, const float *rstd,
                                         const hn_tensor *gamma, const hn_dropout *dropout)
{
    if (!h->shape[0]) return;
    if (h->dtype == HN_F32)
        backward<float>(ctx, dx, d_residual, dgamma, dbeta, dy, dh_in, h, mean, rstd, gamma, dropout);
    else
        backward<bf16>(ctx, dx, d_residual, dgamma, dbeta, dy, dh_in, h, mean, rstd, gamma, dropout);
}

size_t hnp_cuda_norm_workspace(int64_t columns)
{
    return norm_partial_most(columns);
}
