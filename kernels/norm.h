/* What layer norm and RMS norm share: they differ by the mean and by beta, which `centred`, a constant argument, takes in or leaves
 * out. A thread takes a row at a time: the row stays in its first-level cache over the passes (h and its sum; the squares of
 * what is left; y). h is written before it is summed, so statistics belong to what backward reads, and a run that keeps h and
 * one that does not give the same bits.
 *
 * A row may be `groups` rows of their own laid end to end (the heads of a query). Statistics are [T, groups] then, gamma is as wide as
 * one group, and there is no dropout, whose keys number the elements of whole rows.
 *
 * The gradients of gamma and beta are sums over rows: each block of HNP_SUM_ROWS rows sums into its own rows of
 *
 *     partial [blocks][gamma, beta if centred][C]
 *
 * and the blocks are added in order, column ranges in parallel. So bits depend on T only. */
#ifndef HONE_KERNELS_NORM_H
#define HONE_KERNELS_NORM_H

#include <math.h>

#include "core/error.h"
#include "kernels/dropout_vec.h"
#include "kernels/scratch.h"

typedef struct hnp_norm {
    const hn_tensor *y, *h, *x, *residual; /* h NULL: y serves, whose row is h until the last pass */
    const hn_tensor *gamma, *beta;
    float *mean, *rstd; /* may be NULL */
    int64_t groups;
    float epsilon;
    const hn_dropout *dropout;
} hnp_norm;

typedef struct hnp_norm_backward {
    const hn_tensor *dx, *d_residual, *dy, *dh_in, *h, *gamma;
    const float *mean, *rstd;
    int64_t groups;
    const hn_dropout *dropout;
    float *partial; /* NULL: no gradient of gamma and beta is wanted */
} hnp_norm_backward;

static inline bool hnp_norm_same(const hn_tensor *a, const hn_tensor *b)
{
    return !a || !a->data || (a->dtype == b->dtype && a->shape[0] == b->shape[0] && a->shape[1] == b->shape[1]);
}

/* The columns of one group. */
static inline int64_t hnp_norm_width(const hn_tensor *h, int64_t groups, const hn_tensor *gamma, const hn_dropout *dropout)
{
    HN_ASSERT(groups >= 1 && gamma->shape[0] * groups == h->shape[1] && (groups == 1 || !hnp_drops(dropout)));
    return gamma->shape[0];
}

/* Group g, of `columns`, of row r; NULL of no tensor. */
HN_BODY void *hnp_norm_row(const hn_tensor *tensor, int64_t r, int64_t g, int64_t columns, hn_dtype type)
{
    return tensor ? (char *)hnp_row(tensor, r) + (size_t)(g * columns) * (type == HN_F32 ? 4 : 2) : NULL;
}

/* Sum of (h - m)^2 */
HN_BODY float hnp_norm_squares(const void *h, float m, int64_t columns, hn_dtype type)
{
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
    return vf_sum(squares);
}

HN_BODY void hnp_norm_forward_row(const hnp_norm *n, int64_t r, int64_t g, int64_t columns, bool centred, hn_dtype type)
{
    void *y = hnp_norm_row(n->y, r, g, columns, type), *h = hnp_norm_row(n->h, r, g, columns, type);
    const void *x = hnp_norm_row(n->x, r, g, columns, type), *residual = hnp_norm_row(n->residual, r, g, columns, type);
    hnp_drop_row drop;
    hnp_drop_start(&drop, n->dropout, r, columns);
    vf sum = {0};
    for (int64_t c = 0; c < columns; c += HN_LANES) {
        int64_t left = columns - c;
        vf v = hnp_drop_apply(&drop, vf_get(x, type, c, left), c, left);
        if (residual) v += vf_get(residual, type, c, left);
        if (type == HN_BF16) v = vf_widen(vf_narrow(v));
        vf_put(h, type, c, left, v);
        sum += v;
    }
    float m = centred ? vf_sum(sum) / (float)columns : 0.0f;
    float s = 1.0f / sqrtf(hnp_norm_squares(h, m, columns, type) / (float)columns + n->epsilon);
    for (int64_t c = 0; c < columns; c += HN_LANES) {
        int64_t left = columns - c;
        vf v = (vf_get(h, type, c, left) - m) * s, gamma = vf_get(n->gamma->data, n->gamma->dtype, c, left);
        if (centred) v = v * gamma + vf_get(n->beta->data, n->beta->dtype, c, left);
        else v *= gamma;
        vf_put(y, type, c, left, v);
    }
    if (centred && n->mean) n->mean[r] = m;
    if (n->rstd) n->rstd[r * n->groups + g] = s;
}

HN_BODY void hnp_norm_forward_rows(const hnp_norm *n, bool centred, hn_dtype type)
{
    int64_t columns = n->gamma->shape[0];
#pragma omp parallel for schedule(static) if (n->x->shape[0] * n->x->shape[1] > HNP_ALONE)
    for (int64_t r = 0; r < n->x->shape[0]; r++)
        for (int64_t g = 0; g < n->groups; g++) hnp_norm_forward_row(n, r, g, columns, centred, type);
}

/* n as the caller has it: h and residual may be NULL or without data. */
HN_BODY void hnp_norm_forward_run(hnp_norm *n, bool centred)
{
    HN_ASSERT(hnp_norm_same(n->x, n->y) && hnp_norm_same(n->h, n->y) && hnp_norm_same(n->residual, n->y));
    hnp_norm_width(n->x, n->groups, n->gamma, n->dropout);
    if (!hnp_present(n->h)) n->h = n->y;
    n->residual = hnp_present(n->residual);
    if (n->x->dtype == HN_F32) hnp_norm_forward_rows(n, centred, HN_F32);
    else hnp_norm_forward_rows(n, centred, HN_BF16);
}

HN_BODY void hnp_norm_backward_row(const hnp_norm_backward *b, int64_t r, int64_t g, int64_t columns, float *dgamma,
                                   float *dbeta, bool centred, hn_dtype type)
{
    const void *dy = hnp_norm_row(b->dy, r, g, columns, type), *h = hnp_norm_row(b->h, r, g, columns, type);
    const void *dh_in = hnp_norm_row(b->dh_in, r, g, columns, type), *gamma = b->gamma->data;
    void *dx = hnp_norm_row(b->dx, r, g, columns, type), *dres = hnp_norm_row(b->d_residual, r, g, columns, type);
    hn_dtype gamma_type = b->gamma->dtype;
    float m = centred ? b->mean[r] : 0.0f, s = b->rstd[r * b->groups + g];
    vf sum_g = {0}, sum_gn = {0};
    for (int64_t c = 0; c < columns; c += HN_LANES) {
        int64_t left = columns - c;
        vf d = vf_get(dy, type, c, left), n = (vf_get(h, type, c, left) - m) * s;
        vf slope = d * vf_get(gamma, gamma_type, c, left); /* 0 in lanes beyond the row */
        sum_g += slope;
        sum_gn += slope * n;
        if (dgamma) vf_put(dgamma, HN_F32, c, left, vf_get(dgamma, HN_F32, c, left) + d * n);
        if (dgamma && centred) vf_put(dbeta, HN_F32, c, left, vf_get(dbeta, HN_F32, c, left) + d);
    }
    float mean_g = centred ? vf_sum(sum_g) / (float)columns : 0.0f, mean_gn = vf_sum(sum_gn) / (float)columns;
    hnp_drop_row drop;
    hnp_drop_start(&drop, b->dropout, r, columns);
    for (int64_t c = 0; c < columns; c += HN_LANES) {
        int64_t left = columns - c;
        vf n = (vf_get(h, type, c, left) - m) * s;
        vf slope = vf_get(dy, type, c, left) * vf_get(gamma, gamma_type, c, left);
        vf dh = s * (slope - mean_g - n * mean_gn);
        if (dh_in) dh += vf_get(dh_in, type, c, left);
        if (dres) vf_put(dres, type, c, left, dh);
        if (dx) vf_put(dx, type, c, left, hnp_drop_apply(&drop, dh, c, left));
    }
}

HN_BODY void hnp_norm_backward_rows(const hnp_norm_backward *b, bool centred, hn_dtype type)
{
    int64_t rows = b->h->shape[0], columns = b->gamma->shape[0], sums = (centred ? 2 : 1) * columns;
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < rows; first += HNP_SUM_ROWS) {
        float *dgamma = b->partial ? b->partial + first / HNP_SUM_ROWS * sums : NULL;
        if (dgamma) memset(dgamma, 0, (size_t)sums * sizeof *dgamma);
        int64_t end = hnp_least(first + HNP_SUM_ROWS, rows);
        for (int64_t r = first; r < end; r++)
            for (int64_t g = 0; g < b->groups; g++)
                hnp_norm_backward_row(b, r, g, columns, dgamma, dgamma ? dgamma + columns : NULL, centred, type);
    }
}

/* d += the blocks' sums, each `step` floats from the next. */
static void hnp_norm_add_partials(float *d, const float *partial, int64_t blocks, int64_t step, int64_t columns)
{
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < columns; c += HN_LANES) {
        vf sum = {0};
        int64_t left = columns - c;
        for (int64_t i = 0; i < blocks; i++) sum += vf_get(partial, HN_F32, i * step + c, left);
        vf_put(d, HN_F32, c, left, vf_get(d, HN_F32, c, left) + sum);
    }
}

HN_BODY void hnp_norm_backward_run(hn_ops_context *ctx, hnp_norm_backward *b, float *dgamma, float *dbeta, bool centred)
{
    const hn_tensor *h = b->h;
    int64_t columns = hnp_norm_width(h, b->groups, b->gamma, b->dropout), blocks = hnp_ceil_div(h->shape[0], HNP_SUM_ROWS);
    HN_ASSERT(hnp_norm_same(b->dy, h) && hnp_norm_same(b->dx, h) && hnp_norm_same(b->d_residual, h) && hnp_norm_same(b->dh_in, h));
    if (!h->shape[0]) return;
    b->dx = hnp_present(b->dx);
    b->d_residual = hnp_present(b->d_residual);
    b->dh_in = hnp_present(b->dh_in);
    /* without dropout dx and d_residual may be one tensor; with it, d_residual must be another */
    HN_ASSERT(!b->dx || !b->d_residual || b->dx->data != b->d_residual->data || !hnp_drops(b->dropout));
    if (dgamma || dbeta) {
        hnp_scratch scratch = {.ctx = ctx};
        b->partial = hnp_scratch_take(&scratch, (size_t)(blocks * (centred ? 2 : 1) * columns) * sizeof *b->partial);
        if (!b->partial) return;
    }
    if (h->dtype == HN_F32) hnp_norm_backward_rows(b, centred, HN_F32);
    else hnp_norm_backward_rows(b, centred, HN_BF16);
    if (dgamma) hnp_norm_add_partials(dgamma, b->partial, blocks, (centred ? 2 : 1) * columns, columns);
    if (dbeta) hnp_norm_add_partials(dbeta, b->partial + columns, blocks, 2 * columns, columns);
}

#endif
