/* Linear layers on the GPU, as linear.h defines them: products by cuBLASLt (cuda/product.h), and around them what it can fuse or, where it
 * cannot, one pass of ours.
 *
 *     forward           bias alone            in the product when the bias has y's type; biases are fp32, so for bf16 it is narrowed
 *                                             first (as PyTorch's autocast does) from FUSE_FROM elements of y on, and added by
 *                                             the pass below them, where a launch more costs as much as it saves
 *                       GELU by tanh          in the product on sm_90 and later, for bf16: what is fused there is not exact enough
 *                                             for fp32, and did not pay on sm_80 (llm.c, PR 653)
 *                       all else              the product, then one pass: y = act(z = y + bias), read and written once
 *     backward_input    GELU by tanh's slope  as above; all other slopes are activation_backward in place
 *     backward_weight   dw += dy^T x          accumulated by the product (beta 1)
 *                       dbias                 on sm_90 by the product as well (its sums go to scratch, for they overwrite), else by
 *                                             two passes over dy and partial sums
 *
 * Bytes beside the product's own, for bf16 y [M, N]: nothing when it is fused; 6 M N for the pass with z kept, 4 M N without; 2 M N
 * for the column sums.
 *
 * A low-rank branch goes first, and the product adds itself to it: so what is fused stays fused, and the branch costs one write and
 * one read of its columns. Columns that no part covers are zeroed. With dropout (backward) the branch lies in scratch as fp32, 8 MiB
 * at a time, which the second-level cache holds, and joins by a pass.
 *
 * Column sums have a fixed order without atomics: a warp has a strip of 32 vectors, and every eighth row of its block's rows, four of
 * them under way; a block adds its warps in turn; the blocks' sums are a matrix, whose column sums are taken the same way by one
 * block. The number of blocks depends on the sizes alone. */
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/linear.cuh"

extern "C" {
#include "kernels/activation.h"
#include "kernels/linear.h"
}

namespace {

constexpr int64_t FUSE_FROM = (int64_t)1 << 20; /* elements of a result */
constexpr int FUSED_CAPABILITY = 90;

/* --- what cannot be fused --- */

/* y = act(z = from + bias); `from` may be y or z. */
template <class T, int WIDTH> struct finish_pass : every_row {
    static constexpr int N = WIDTH;
    matrix<T> y;
    any_matrix z, from, bias; /* z and bias may be absent; bias has one row */
    hn_activation activation;

    struct vector {
        float v[N], bias[N] = {};
    };
    __device__ void fetch(vector &v, const key &k, int c) const
    {
        load_any(v.v, from, k.r, c);
        if (bias.data) load_any(v.bias, bias, 0, c);
    }
    __device__ void finish(const key &k, int c, vector &v) const
    {
        HN_UNROLL
        for (int i = 0; i < N; i++) v.v[i] += v.bias[i];
        if (z.data) store_any(z, k.r, c, v.v);
        activate(v.v, activation);
        store(y.row(k.r) + c, v.v);
    }
};

void finish(hn_ops_context *ctx, const char *name, const hn_tensor *y, const hn_tensor *z, const hn_tensor *from,
            const hn_tensor *bias, hn_activation activation)
{
    with_vectors(y->dtype, y->shape[1], {y, z, from, bias}, [&](auto zero, auto n) {
        using T = decltype(zero);
        finish_pass<T, n.value> pass;
        pass.y = matrix_of<T>(y);
        pass.z = any_matrix_of(z);
        pass.from = any_matrix_of(from);
        pass.bias = any_matrix_of(bias);
        pass.activation = activation;
        rowwise(ctx, name, pass, y->shape[0], y->shape[1]);
    });
}

template <class T, int WIDTH> struct zero_pass : every_row {
    static constexpr int N = WIDTH;
    matrix<T> y;

    struct vector {};
    __device__ void fetch(vector &, const key &, int) const {}
    __device__ void finish(const key &k, int c, vector &) const
    {
        const float zeros[N] = {};
        store(y.row(k.r) + c, zeros);
    }
};

void zero_columns(hn_ops_context *ctx, const char *name, const hn_tensor *y, int64_t first, int64_t end)
{
    if (first >= end) return;
    const hn_tensor gap = hn_tensor_columns(y, first, end - first);
    with_vectors(gap.dtype, gap.shape[1], {&gap}, [&](auto zero, auto n) {
        zero_pass<decltype(zero), n.value> pass;
        pass.y = matrix_of<decltype(zero)>(&gap);
        rowwise(ctx, name, pass, gap.shape[0], gap.shape[1]);
    });
}

static_assert(SUM_BLOCKS * 32 * 8 * sizeof(float) <= LINEAR_PIECE, "the sums of all blocks lie in a piece of scratch");

/* --- branches --- */

/* to = low_part B_part^T in the columns of the parts, 0 elsewhere. */
void branch_forward(hn_ops_context *ctx, const char *name, const hn_tensor *to, const hn_low_rank *low, const linear_scratch &scratch)
{
    const int64_t rank = low->weight->shape[1];
    int64_t covered = 0, row = 0;
    for (int i = 0; i < low->parts; i++) {
        const int64_t first = low->part[i].row, count = low->part[i].rows;
        const hn_tensor d = hn_tensor_columns(to, first, count), a = hn_tensor_columns(low->low, i * rank, rank),
                        b = hn_tensor_rows(low->weight, row, count);
        hnp_cuda_product p = {};
        p.d = &d, p.a = &a, p.b = &b, p.b_turned = true, p.scale = 1.0f;
        zero_columns(ctx, name, to, covered, first);
        product_of_any(ctx, name, p, scratch);
        covered = first + count;
        row += count;
    }
    zero_columns(ctx, name, to, covered, to->shape[1]);
}

/* dx (+)= dropout(low A), by rows that fit into scratch when there is dropout. */
void branch_backward(hn_ops_context *ctx, const char *name, const hn_tensor *dx, const hn_low_rank *low, bool add,
                     const linear_scratch &scratch)
{
    hnp_cuda_product p = {};
    p.d = dx, p.a = low->low, p.b = low->weight, p.add = add, p.scale = 1.0f;
    if (!drops(low->dropout)) {
        product_of_any(ctx, name, p, scratch);
        return;
    }
    const int64_t rows = dx->shape[0], columns = dx->shape[1];
    const int64_t most = (int64_t)(LINEAR_PIECE / sizeof(float)) / columns;
    HN_ASSERT(most > 0);
    p.add = false;
    for (int64_t r = 0; r < rows; r += most) {
        const int64_t count = rows - r < most ? rows - r : most;
        const hn_tensor piece = hn_tensor_2d(scratch.piece, HN_F32, count, columns), a = hn_tensor_rows(low->low, r, count),
                        to = hn_tensor_rows(dx, r, count);
        p.d = &piece, p.a = &a;
        product_of_any(ctx, name, p, scratch);
        join(ctx, name, &to, &piece, drop_site_from(low->dropout, r), add);
    }
}

/* --- choices --- */

bool fuses_gelu(const hn_ops_context *ctx, hn_activation activation, const hn_tensor *result, const hn_tensor *z)
{
    return activation == HN_ACT_GELU_TANH && result->dtype == HN_BF16 && (!z || z->dtype == HN_BF16) &&
           hn_cuda_device_of(ctx->backend)->capability >= FUSED_CAPABILITY;
}

/* A bias as the product takes it: of y's type. NULL: the pass adds it. */
const hn_tensor *bias_to_fuse(hn_ops_context *ctx, const char *name, const hn_tensor *y, const hn_tensor *bias, hn_tensor *copy,
                              const linear_scratch &scratch)
{
    if (bias->dtype == y->dtype) return bias;
    if (hn_tensor_count(y) < FUSE_FROM) return nullptr;
    *copy = hn_tensor_2d(scratch.piece, y->dtype, 1, bias->shape[0]);
    const hn_tensor row = hn_tensor_2d(bias->data, bias->dtype, 1, bias->shape[0]);
    HN_ASSERT(hn_tensor_bytes(copy) <= LINEAR_PIECE);
    convert(ctx, name, copy, &row);
    *copy = hn_tensor_1d(scratch.piece, y->dtype, bias->shape[0]);
    return copy;
}

} // namespace

void HN_ISA_NAME(hnp_linear_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *z, const hn_tensor *x,
                                     const hn_tensor *w, const hn_tensor *bias, hn_activation activation, const hn_low_rank *low)
{
    const char *name = "linear_forward";
    linear_scratch scratch;
    hn_tensor copy, row = {};
    z = present(z) ? z : nullptr;
    bias = present(bias) ? bias : nullptr;
    HN_ASSERT(x->shape[1] == w->shape[1] && y->shape[0] == x->shape[0] && y->shape[1] == w->shape[0]);
    HN_ASSERT(!z || (z->shape[0] == y->shape[0] && z->shape[1] == y->shape[1]));
    HN_ASSERT(!bias || bias->shape[0] == w->shape[0]);
    HN_ASSERT(!low || (low->low->shape[0] == y->shape[0] && low->low->shape[1] == low->parts * low->weight->shape[1]));
    if (!hn_tensor_count(y) || !linear_scratch_take(&scratch, ctx, name)) return;
    /* The product goes where z can be made of it without loss. */
    const hn_tensor *to = z && z->dtype == HN_F32 ? z : y;
    hnp_cuda_product p = {};
    p.d = to, p.a = x, p.b = w, p.b_turned = true, p.add = low, p.scale = 1.0f;
    if (low) branch_forward(ctx, name, to, low, scratch);
    if (fuses_gelu(ctx, activation, y, z)) p.epilogue = HNP_CUDA_GELU, p.z = z;
    else if (activation == HN_ACT_NONE && bias && !z) p.epilogue = HNP_CUDA_BIAS;
    if (p.epilogue != HNP_CUDA_PLAIN && bias && !(p.bias = bias_to_fuse(ctx, name, y, bias, &copy, scratch)))
        p.epilogue = HNP_CUDA_PLAIN;
    const bool fused = product_of_any(ctx, name, p, scratch) && p.epilogue != HNP_CUDA_PLAIN;
    if (fused || (!bias && !z && activation == HN_ACT_NONE)) return;
    if (bias) row = hn_tensor_2d(bias->data, bias->dtype, 1, bias->shape[0]);
    finish(ctx, name, y, z, to, &row, activation);
}

void HN_ISA_NAME(hnp_linear_backward_input)(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *dy, const hn_tensor *w,
                                            const hn_tensor *z, hn_activation activation, bool add, const hn_low_rank *low)
{
    const char *name = "linear_backward_input";
    linear_scratch scratch;
    HN_ASSERT(dy->shape[1] == w->shape[0] && dx->shape[0] == dy->shape[0] && dx->shape[1] == w->shape[1]);
    HN_ASSERT(activation == HN_ACT_NONE ||
              (!add && present(z) && z->shape[0] == dx->shape[0] && z->shape[1] == dx->shape[1]));
    HN_ASSERT(!low || (low->low->shape[0] == dx->shape[0] && low->low->shape[1] == low->weight->shape[0] &&
                       low->weight->shape[1] == dx->shape[1]));
    if (!hn_tensor_count(dx) || !linear_scratch_take(&scratch, ctx, name)) return;
    if (low) branch_backward(ctx, name, dx, low, add, scratch);
    hnp_cuda_product p = {};
    p.d = dx, p.a = dy, p.b = w, p.add = add || low, p.scale = 1.0f;
    if (fuses_gelu(ctx, activation, dx, z)) p.epilogue = HNP_CUDA_GELU_SLOPE, p.z = z;
    const bool fused = product_of_any(ctx, name, p, scratch) && p.epilogue != HNP_CUDA_PLAIN;
    if (activation == HN_ACT_NONE || fused) return;
    HN_ISA_NAME(hnp_activation_backward)(ctx, dx, dx, z, activation);
}

size_t hnp_cuda_linear_workspace(void)
{
    return hnp_cuda_product_workspace(2 * LINEAR_PIECE);
}

void HN_ISA_NAME(hnp_linear_backward_weight)(hn_ops_context *ctx, const hn_tensor *dw, const hn_tensor *dbias,
                                             const hn_tensor *dy, const hn_tensor *x)
{
    const char *name = "linear_backward_weight";
    linear_scratch scratch;
    dw = present(dw) ? dw : nullptr;
    dbias = present(dbias) ? dbias : nullptr;
    HN_ASSERT(!dbias || (dbias->dtype == HN_F32 && dbias->shape[0] == dy->shape[1]));
    HN_ASSERT(!dw || (x->shape[0] == dy->shape[0] && dw->dtype == HN_F32 && dw->shape[0] == dy->shape[1] &&
                      dw->shape[1] == x->shape[1]));
    if (!dy->shape[0] || !dy->shape[1] || (!dw && !dbias) || !linear_scratch_take(&scratch, ctx, name)) return;
    float *sums = (float *)scratch.piece;
    bool summed = false;
    if (dw) {
        hnp_cuda_product p = {};
        p.d = dw, p.a = dy, p.b = x, p.a_turned = true, p.add = true, p.scale = 1.0f;
        if (dbias && hn_cuda_device_of(ctx->backend)->capability >= FUSED_CAPABILITY) p.epilogue = HNP_CUDA_ROW_SUMS, p.sums = sums;
        summed = product_of_any(ctx, name, p, scratch) && p.epilogue == HNP_CUDA_ROW_SUMS;
    }
    if (!dbias) return;
    if (summed) {
        const hn_tensor to = hn_tensor_2d(dbias->data, HN_F32, 1, dbias->shape[0]), from = hn_tensor_2d(sums, HN_F32, 1, dbias->shape[0]);
        join(ctx, name, &to, &from, drop_site_of(nullptr), true);
    } else {
        column_sums(ctx, name, (float *)dbias->data, dy, sums);
    }
}
