/* See rows.h. */
#include "kernels/rows.h"

#include "core/error.h"
#include "kernels/scratch.h"
#include "kernels/vec.h"

void HN_ISA_NAME(hnp_gather_rows)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *x, const int32_t *index)
{
    (void)ctx;
    HN_ASSERT(x->dtype == y->dtype && x->shape[1] == y->shape[1]);
    size_t size = (size_t)x->shape[1] * hn_dtype_size(x->dtype);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < y->shape[0]; r++) {
        HN_ASSERT(index[r] >= 0 && index[r] < x->shape[0]);
        memcpy(hnp_row(y, r), hnp_row(x, index[r]), size);
    }
}

void HN_ISA_NAME(hnp_scatter_add_rows)(hn_ops_context *ctx, const hn_tensor *x, const hn_tensor *y,
                                       const int32_t *index)
{
    (void)ctx;
    HN_ASSERT(x->shape[1] == y->shape[1]);
    int64_t columns = x->shape[1];
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < y->shape[0]; r++) {
        HN_ASSERT(index[r] >= 0 && index[r] < x->shape[0]);
        void *to = hnp_row(x, index[r]);
        const void *from = hnp_row(y, r);
        for (int64_t c = 0; c < columns; c += HN_LANES) {
            int64_t left = columns - c;
            vf_put(to, x->dtype, c, left, vf_get(to, x->dtype, c, left) + vf_get(from, y->dtype, c, left));
        }
    }
}

void HN_ISA_NAME(hnp_scatter_rows)(hn_ops_context *ctx, const hn_tensor *x, const hn_tensor *y, const int32_t *index)
{
    (void)ctx;
    HN_ASSERT(x->dtype == y->dtype && x->shape[1] == y->shape[1]);
    size_t size = (size_t)x->shape[1] * hn_dtype_size(x->dtype);
#pragma omp parallel for schedule(static) if (y->shape[0] * y->shape[1] > HNP_ALONE)
    for (int64_t r = 0; r < y->shape[0]; r++) {
        HN_ASSERT(index[r] >= 0 && index[r] < x->shape[0]);
        memcpy(hnp_row(x, index[r]), hnp_row(y, r), size);
    }
}

void HN_ISA_NAME(hnp_sum_rows)(hn_ops_context *ctx, const hn_tensor *x, const hn_tensor *y, const int32_t *cu, const int32_t *index)
{
    (void)ctx;
    HN_ASSERT(x->dtype == y->dtype && x->shape[1] == y->shape[1]);
    int64_t columns = x->shape[1];
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < x->shape[0]; r++) {
        void *to = hnp_row(x, r);
        for (int32_t e = cu[r]; e < cu[r + 1]; e++) HN_ASSERT(index[e] >= 0 && index[e] < y->shape[0]);
        for (int64_t c = 0; c < columns; c += HN_LANES) {
            vf sum = {0};
            for (int32_t e = cu[r]; e < cu[r + 1]; e++) sum += vf_get(hnp_row(y, index[e]), y->dtype, c, columns - c);
            vf_put(to, x->dtype, c, columns - c, sum);
        }
    }
}

void HN_ISA_NAME(hnp_expand_rows)(hn_ops_context *ctx, uint32_t *row, const uint32_t *value, const int32_t *cu, int32_t n)
{
    (void)ctx;
    for (int32_t s = 0; s < n; s++)
        for (int32_t r = cu[s]; r < cu[s + 1]; r++) row[r] = value[s];
}
