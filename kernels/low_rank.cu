/* Low-rank branches on the GPU, as low_rank.h defines them: products by cuBLASLt, as in linear.cu.
 *
 * Dropout of x goes through scratch, as many rows at a time as fill 8 MiB: written by a pass, read by the product, both in the
 * second-level cache. What is kept is kept as it is; the product multiplies by 1 / (1 - probability), so that nothing is rounded. From memory comes x, once, which is the least there is: [M, K] of 4,096 tokens is 2 to 4 MB a thousand
 * columns, the factors and `low` a hundredth of it. A kernel of our own that draws while it multiplies would save a pass through
 * that cache and one launch a piece, for a product with tensor cores written anew.
 *
 * The weight gradient adds one piece after another to dw, in that order; pieces depend on the sizes alone. */
#include "kernels/cuda/linear.cuh"

extern "C" {
#include "kernels/low_rank.h"
}

namespace {

/* Calls run(rows, first row, count, factor), rows * factor being those of dropout(x), piece by piece; once, with x itself, when
 * nothing is dropped. */
template <class F>
void by_pieces(hn_ops_context *ctx, const char *name, const hn_tensor *x, const hn_dropout *dropout, const linear_scratch &scratch, F run)
{
    const int64_t rows = x->shape[0], columns = x->shape[1];
    if (!drops(dropout)) {
        run(*x, 0, rows, 1.0f);
        return;
    }
    const int64_t most = (int64_t)(LINEAR_PIECE / hn_dtype_size(x->dtype)) / columns;
    HN_ASSERT(most > 0);
    for (int64_t r = 0; r < rows; r += most) {
        const int64_t count = rows - r < most ? rows - r : most;
        const hn_tensor part = hn_tensor_rows(x, r, count), piece = hn_tensor_2d(scratch.piece, x->dtype, count, columns);
        drop_site site = drop_site_from(dropout, r);
        const float factor = site.scale;
        site.scale = 1.0f;
        join(ctx, name, &piece, &part, site, false);
        run(piece, r, count, factor);
    }
}

} // namespace

void HN_ISA_NAME(hnp_low_rank_project)(hn_ops_context *ctx, const hn_tensor *low, const hn_tensor *x, const hn_tensor *w,
                                       bool transposed, float scale, const hn_dropout *dropout)
{
    const char *name = "low_rank_project";
    linear_scratch scratch;
    HN_ASSERT(x->shape[1] == w->shape[transposed ? 1 : 0] && low->shape[0] == x->shape[0]);
    HN_ASSERT(low->shape[1] == w->shape[transposed ? 0 : 1]);
    if (!hn_tensor_count(low) || !linear_scratch_take(&scratch, ctx, name)) return;
    by_pieces(ctx, name, x, dropout, scratch, [&](const hn_tensor &rows, int64_t first, int64_t count, float factor) {
        const hn_tensor d = hn_tensor_rows(low, first, count);
        hnp_cuda_product p = {};
        p.d = &d, p.a = &rows, p.b = w, p.b_turned = transposed, p.scale = scale * factor;
        product_of_any(ctx, name, p, scratch);
    });
}

void HN_ISA_NAME(hnp_low_rank_backward_weight)(hn_ops_context *ctx, const hn_tensor *dw, const hn_tensor *dy, const hn_tensor *x,
                                               const hn_dropout *dropout)
{
    const char *name = "low_rank_backward_weight";
    linear_scratch scratch;
    HN_ASSERT(x->shape[0] == dy->shape[0] && dw->dtype == HN_F32 && dw->shape[0] == dy->shape[1] && dw->shape[1] == x->shape[1]);
    if (!x->shape[0] || !hn_tensor_count(dw) || !linear_scratch_take(&scratch, ctx, name)) return;
    by_pieces(ctx, name, x, dropout, scratch, [&](const hn_tensor &rows, int64_t first, int64_t count, float factor) {
        const hn_tensor a = hn_tensor_rows(dy, first, count);
        hnp_cuda_product p = {};
        p.d = dw, p.a = &a, p.b = &rows, p.a_turned = true, p.add = true, p.scale = factor;
        product_of_any(ctx, name, p, scratch);
    });
}
