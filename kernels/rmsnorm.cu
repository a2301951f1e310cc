/* RMS normalisation on the GPU, as rmsnorm.h defines it: the passes of cuda/norm.cuh without a mean and without beta. The
 * heads of a query or key (groups > 1) are rows of their own there: up to 128 columns, so four a warp. */
#include "kernels/cuda/norm.cuh"

extern "C" {
#include "kernels/rmsnorm.h"
}

namespace {

template <class T>
void forward(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *h, float *rstd, const hn_tensor *x,
             const hn_tensor *residual, const hn_tensor *gamma, int groups, float epsilon, const hn_dropout *dropout)
{
    const char *name = "rmsnorm_forward";
    norm_forward<T> a = {matrix_of<T>(y),
                         matrix_of<T>(h),
                         matrix_of<T>(x),
                         matrix_of<T>(residual),
                         nullptr,
                         rstd,
                         any_matrix_of(gamma),
                         {},
                         {},
                         epsilon,
                         drop_site_of(dropout)};
    if (!norm_rows_of(ctx, name, &a.rows, x, groups)) return;
    norm_forward_launch<T, false>(ctx, name, a, norm_vectors(a.rows, 16 / sizeof(T), {y, h, x, residual}, {gamma}));
}

template <class T>
void backward(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *d_residual, float *dgamma, const hn_tensor *dy,
              const hn_tensor *dh_in, const hn_tensor *h, const float *rstd, const hn_tensor *gamma, int groups,
              const hn_dropout *dropout)
{
    const char *name = "rmsnorm_backward";
    norm_backward<T> a = {matrix_of<T>(dx),
                          matrix_of<T>(d_residual),
                          matrix_of<T>(dy),
                          matrix_of<T>(dh_in),
                          matrix_of<T>(h),
                          nullptr,
                          rstd,
                          any_matrix_of(gamma),
                          nullptr,
                          {},
                          drop_site_of(dropout)};
    if (!norm_rows_of(ctx, name, &a.rows, h, groups)) return;
    norm_backward_launch<T, false>(ctx, name, a, dgamma, nullptr,
                                   norm_vectors(a.rows, 16 / sizeof(T), {dx, d_residual, dy, dh_in, h}, {gamma}));
}

} // namespace

void HN_ISA_NAME(hnp_rmsnorm_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *h, float *rstd,
                                      const hn_tensor *x, const hn_tensor *residual, const hn_tensor *gamma, int groups,
                                      float epsilon, const hn_dropout *dropout)
{
    HN_ASSERT(groups == 1 || !drop_site_of(dropout).step);
    if (!x->shape[0]) return;
    if (x->dtype == HN_F32)
        forward<float>(ctx, y, h, rstd, x, residual, gamma, groups, epsilon, dropout);
    else
        forward<bf16>(ctx, y, h, rstd, x, residual, gamma, groups, epsilon, dropout);
}

void HN_ISA_NAME(hnp_rmsnorm_backward)(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *d_residual,
                                       float *dgamma, const hn_tensor *dy, const hn_tensor *dh_in, const hn_tensor *h,
                                       const float *rstd, const hn_tensor *gamma, int groups, const hn_dropout *dropout)
{
    HN_ASSERT(groups == 1 || !drop_site_of(dropout).step);
    if (!h->shape[0]) return;
    if (h->dtype == HN_F32)
        backward<float>(ctx, dx, d_residual, dgamma, dy, dh_in, h, rstd, gamma, groups, dropout);
    else
        backward<bf16>(ctx, dx, d_residual, dgamma, dy, dh_in, h, rstd, gamma, groups, dropout);
}
