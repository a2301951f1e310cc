/* See dropout.h. */
#include "kernels/dropout.h"

#include "core/error.h"
#include "kernels/dropout_vec.h"

HN_BODY void rows(const hn_tensor *y, const hn_tensor *x, const hn_dropout *dropout, hn_dtype type)
{
    int64_t count = x->shape[0], columns = x->shape[1];
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < count; r++) {
        const void *from = hnp_row(x, r);
        void *to = hnp_row(y, r);
        hnp_drop_row drop;
        hnp_drop_start(&drop, dropout, r, columns);
        for (int64_t c = 0; c < columns; c += HN_LANES)
            vf_put(to, type, c, columns - c, hnp_drop_apply(&drop, vf_get(from, type, c, columns - c), c, columns - c));
    }
}

void HN_ISA_NAME(hnp_dropout)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *x, const hn_dropout *dropout)
{
    (void)ctx;
    HN_ASSERT(x->dtype == y->dtype && x->shape[0] == y->shape[0] && x->shape[1] == y->shape[1]);
    if (x->dtype == HN_F32) rows(y, x, dropout, HN_F32);
    else rows(y, x, dropout, HN_BF16);
}
