/* Layer normalisation. A thread takes a row at a time: the row stays in its first-level cache over the three passes (h and its
 * sum; the squares of what is left; y). h is written before it is summed, so statistics belong to what backward reads, and a
 * run that keeps h and one that does not give the same bits.
 *
 * The gradients of gamma and beta are sums over rows: each block of HNP_SUM_ROWS rows sums into its own pair of rows of
 *
 *     partial [blocks][2][C]
 *
 * and the blocks are added in order, column ranges in parallel. So bits depend on T only. */
#include "kernels/layernorm.h"

#include <math.h>

#include "core/error.h"
#include "kernels/dropout.h"
#include "kernels/scratch.h"

static bool same_shape(const hn_tensor *a, const hn_tensor *b)
{
    return !a || !a->data || (a->dtype == b->dtype && a->shape[0] == b->shape[0] && a->shape[1] == b->shape[1]);
}

HN_BODY void forward_row(void *y, void *h, float *mean, float *rstd, const void *x, const void *residual,
                         const hn_tensor *gamma, const hn_tensor *beta, float epsilon, hnp_drop_row *drop,
                         int64_t columns, hn_dtype type)
{
    vf sum = {0};
    for (int64_t c = 0; c < columns; c += HN_LANES) {
        int64_t left = columns - c;
        vf v = hnp_drop_apply(drop, vf_get(x, type, c, left), c, left);
        if (residual) v += vf_get(residual, type, c, left);
        if (type == HN_BF16) v = vf_widen(vf_narrow(v));
        vf_put(h, type, c, left, v);
        sum += v;
    }
    float m = vf_sum(sum) / (float)columns;
    vf squares = {0};
    int64_t whole = columns / HN_LANES * HN_LANES;
    for (int64_t c = 0; c < whole; c += HN_LANES) {
        vf d = vf_get(h, type, c, HN_LANES) - m;
        squares += d * d;
    }
    if (whole < columns) { /* lanes beyond the row would count 0 - m */
        float lane[HN_LANES] = {0};
        vf_store_part(lane, vf_get(h, type, whole, columns - whole) - m, columns - whole);
        squares += vf_load(lane) * vf_load(lane);
    }
    float s = 1.0f / sqrtf(vf_sum(squares) / (float)columns + epsilon);
    for (int64_t c = 0; c < columns; c += HN_LANES) {
        int64_t left = columns - c;
        vf n = (vf_get(h, type, c, left) - m) * s;
        vf v = n * vf_get(gamma->data, gamma->dtype, c, left) + vf_get(beta->data, beta->dtype, c, left);
        vf_put(y, type, c, left, v);
    }
    *mean = m;
    *rstd = s;
}

HN_BODY void forward(const hn_tensor *y, const hn_tensor *h, float *mean, float *rstd, const hn_tensor *x,
                     const hn_tensor *residual, const hn_tensor *gamma, const hn_tensor *beta, float epsilon,
                     const hn_dropout *dropout, hn_dtype type)
{
    int64_t columns = x->shape[1];
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < x->shape[0]; r++) {
        hnp_drop_row drop;
        float m, s;
        hnp_drop_start(&drop, dropout, r, columns);
        forward_row(hnp_row(y, r), hnp_row(h, r), &m, &s, hnp_row(x, r), residual ? hnp_row(residual, r) : NULL, gamma,
                    beta, epsilon, &drop, columns, type);
        if (mean) mean[r] = m;
        if (rstd) rstd[r] = s;
    }
}

void HN_ISA_NAME(hnp_layernorm_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *h, float *mean,
                                        float *rstd, const hn_tensor *x, const hn_tensor *residual,
                                        const hn_tensor *gamma, const hn_tensor *beta, float epsilon,
                                        const hn_dropout *dropout)
{
    (void)ctx;
    HN_ASSERT(same_shape(x, y) && same_shape(h, y) && same_shape(residual, y));
    HN_ASSERT(gamma->shape[0] == x->shape[1] && beta->shape[0] == x->shape[1]);
    if (!h || !h->data) h = y; /* the row of y is h until the last pass */
    if (residual && !residual->data) residual = NULL;
    if (x->dtype == HN_F32) forward(y, h, mean, rstd, x, residual, gamma, beta, epsilon, dropout, HN_F32);
    else forward(y, h, mean, rstd, x, residual, gamma, beta, epsilon, dropout, HN_BF16);
}

typedef struct backward_args {
    const hn_tensor *dx, *d_residual, *dy, *dh_in, *h, *gamma;
    const float *mean, *rstd;
    const hn_dropout *dropout;
    float *partial; /* [blocks][2][columns], NULL: no gradient of gamma and beta is wanted */
} backward_args;

HN_BODY void backward_row(const backward_args *args, int64_t r, float *dgamma, float *dbeta, hn_dtype type)
{
    int64_t columns = args->h->shape[1];
    const void *dy = hnp_row(args->dy, r), *h = hnp_row(args->h, r);
    const void *dh_in = args->dh_in ? hnp_row(args->dh_in, r) : NULL;
    void *dx = args->dx ? hnp_row(args->dx, r) : NULL, *dres = args->d_residual ? hnp_row(args->d_residual, r) : NULL;
    const void *gamma = args->gamma->data;
    hn_dtype gamma_type = args->gamma->dtype;
    float m = args->mean[r], s = args->rstd[r];
    vf sum_g = {0}, sum_gn = {0};
    for (int64_t c = 0; c < columns; c += HN_LANES) {
        int64_t left = columns - c;
        vf d = vf_get(dy, type, c, left), n = (vf_get(h, type, c, left) - m) * s;
        vf g = d * vf_get(gamma, gamma_type, c, left); /* 0 in lanes beyond the row */
        sum_g += g;
        sum_gn += g * n;
        if (dgamma) {
            vf_put(dgamma, HN_F32, c, left, vf_get(dgamma, HN_F32, c, left) + d * n);
            vf_put(dbeta, HN_F32, c, left, vf_get(dbeta, HN_F32, c, left) + d);
        }
    }
    float mean_g = vf_sum(sum_g) / (float)columns, mean_gn = vf_sum(sum_gn) / (float)columns;
    hnp_drop_row drop;
    hnp_drop_start(&drop, args->dropout, r, columns);
    for (int64_t c = 0; c < columns; c += HN_LANES) {
        int64_t left = columns - c;
        vf n = (vf_get(h, type, c, left) - m) * s;
        vf g = vf_get(dy, type, c, left) * vf_get(gamma, gamma_type, c, left);
        vf dh = s * (g - mean_g - n * mean_gn);
        if (dh_in) dh += vf_get(dh_in, type, c, left);
        if (dres) vf_put(dres, type, c, left, dh);
        if (dx) vf_put(dx, type, c, left, hnp_drop_apply(&drop, dh, c, left));
    }
}

HN_BODY void backward(const backward_args *args, hn_dtype type)
{
    int64_t rows = args->h->shape[0], columns = args->h->shape[1];
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < rows; first += HNP_SUM_ROWS) {
        float *dgamma = NULL, *dbeta = NULL;
        if (args->partial) {
            dgamma = args->partial + first / HNP_SUM_ROWS * 2 * columns;
            dbeta = dgamma + columns;
            memset(dgamma, 0, (size_t)(2 * columns) * sizeof *dgamma);
        }
        int64_t end = hnp_least(first + HNP_SUM_ROWS, rows);
        for (int64_t r = first; r < end; r++) backward_row(args, r, dgamma, dbeta, type);
    }
}

static void add_partials(float *dgamma, float *dbeta, const float *partial, int64_t rows, int64_t columns)
{
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < columns; c += HN_LANES) {
        vf gamma = {0}, beta = {0};
        int64_t left = columns - c;
        for (int64_t b = 0; b < hnp_ceil_div(rows, HNP_SUM_ROWS); b++) {
            gamma += vf_get(partial, HN_F32, 2 * b * columns + c, left);
            beta += vf_get(partial, HN_F32, (2 * b + 1) * columns + c, left);
        }
        if (dgamma) vf_put(dgamma, HN_F32, c, left, vf_get(dgamma, HN_F32, c, left) + gamma);
        if (dbeta) vf_put(dbeta, HN_F32, c, left, vf_get(dbeta, HN_F32, c, left) + beta);
    }
}

void HN_ISA_NAME(hnp_layernorm_backward)(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *d_residual,
                                         float *dgamma, float *dbeta, const hn_tensor *dy, const hn_tensor *dh_in,
                                         const hn_tensor *h, const float *mean, const float *rstd,
                                         const hn_tensor *gamma, const hn_dropout *dropout)
{
    int64_t rows = h->shape[0], columns = h->shape[1];
    HN_ASSERT(same_shape(dy, h) && same_shape(dx, h) && same_shape(d_residual, h) && same_shape(dh_in, h));
    if (!rows) return;
    backward_args args = {.dx = dx && dx->data ? dx : NULL,
                          .d_residual = d_residual && d_residual->data ? d_residual : NULL,
                          .dy = dy,
                          .dh_in = dh_in && dh_in->data ? dh_in : NULL,
                          .h = h,
                          .gamma = gamma,
                          .mean = mean,
                          .rstd = rstd,
                          .dropout = dropout};
    /* without dropout dx and d_residual may be one tensor; with it, d_residual must be another */
    HN_ASSERT(!args.dx || !args.d_residual || args.dx->data != args.d_residual->data || !hnp_drops(dropout));
    if (dgamma || dbeta) {
        hnp_scratch scratch = {.ctx = ctx};
        args.partial = hnp_scratch_take(
            &scratch, (size_t)hnp_ceil_div(rows, HNP_SUM_ROWS) * 2 * (size_t)columns * sizeof *args.partial);
        if (!args.partial) return;
    }
    if (h->dtype == HN_F32) backward(&args, HN_F32);
    else backward(&args, HN_BF16);
    if (args.partial) add_partials(dgamma, dbeta, args.partial, rows, columns);
}
