/* See linear.h. Nothing but the operation table is called here; what this file adds is which gradients are
 * wanted. */
#include "models/linear.h"

#include "core/error.h"

static hn_weight weight_rows(const hn_weight *weight, int64_t first, int64_t count)
{
    hn_weight part = *weight;
    part.value = hn_tensor_rows(&weight->value, first, count);
    part.gradient = hn_tensor_rows(&weight->gradient, first, count);
    return part;
}

hn_linear hn_linear_rows(const hn_linear *linear, int64_t first, int64_t count)
{
    hn_linear part = {.weight = weight_rows(&linear->weight, first, count)};
    if (linear->bias.value.data) part.bias = weight_rows(&linear->bias, first, count);
    return part;
}

void hn_linear_forward(const hn_ops *ops, hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *z,
                       const hn_tensor *x, const hn_linear *linear, hn_activation activation)
{
    const hn_tensor *bias = linear->bias.value.data ? &linear->bias.value : NULL;
    ops->linear_forward(ctx, y, z, x, &linear->weight.value, bias, activation);
}

void hn_linear_backward_weight(const hn_ops *ops, hn_ops_context *ctx, const hn_linear *linear,
                               const hn_tensor *dy, const hn_tensor *x)
{
    if (!linear->weight.trainable) return;
    bool biased = linear->bias.value.data;
    HN_ASSERT(linear->weight.gradient.data && (!biased || linear->bias.gradient.data));
    ops->linear_backward_weight(ctx, &linear->weight.gradient, biased ? &linear->bias.gradient : NULL, dy, x);
}

void hn_norm_forward(const hn_ops *ops, hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *h,
                     float *mean, float *rstd, const hn_tensor *x, const hn_tensor *residual,
                     const hn_norm *norm, float epsilon, const hn_dropout *dropout)
{
    if (norm->beta.value.data)
        ops->layernorm_forward(ctx, y, h, mean, rstd, x, residual, &norm->gamma.value, &norm->beta.value, epsilon,
                               dropout);
    else
        ops->rmsnorm_forward(ctx, y, h, rstd, x, residual, &norm->gamma.value, 1, epsilon, dropout);
}

void hn_norm_backward(const hn_ops *ops, hn_ops_context *ctx, const hn_tensor *dx,
                      const hn_tensor *d_residual, const hn_norm *norm, const hn_tensor *dy,
                      const hn_tensor *dh_in, const hn_tensor *h, const float *mean, const float *rstd, const hn_dropout *dropout)
{
    bool trainable = norm->gamma.trainable, centred = norm->beta.value.data;
    float *dgamma = trainable ? norm->gamma.gradient.data : NULL, *dbeta = trainable ? norm->beta.gradient.data : NULL;
    HN_ASSERT(!trainable || (dgamma && (!centred || dbeta)));
    if (centred)
        ops->layernorm_backward(ctx, dx, d_residual, dgamma, dbeta, dy, dh_in, h, mean, rstd, &norm->gamma.value,
                                dropout);
    else
        ops->rmsnorm_backward(ctx, dx, d_residual, dgamma, dy, dh_in, h, rstd, &norm->gamma.value, 1, dropout);
}
