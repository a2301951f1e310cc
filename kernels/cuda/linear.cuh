/* What the operations made of products share (linear.cu, low_rank.cu): their scratch, products of operands that cuBLASLt does not take
 * as they are, and the passes over a result that it cannot fuse. */
#ifndef HONE_KERNELS_CUDA_LINEAR_CUH
#define HONE_KERNELS_CUDA_LINEAR_CUH

#include "kernels/cuda/random.cuh"
#include "kernels/cuda/rowwise.cuh"

extern "C" {
#include "kernels/cuda/product.h"
}

/* Their own scratch, behind cuBLASLt's share: two pieces that stay in the second-level cache (40 MiB on sm_80, 50 on sm_90) from the
 * kernel that writes one to the product that reads it. */
static constexpr size_t LINEAR_PIECE = (size_t)8 << 20;
struct linear_scratch {
    void *piece; /* the operation's: dropped rows, sums, a bias */
    void *tiles; /* product_of_any's */
};

/* false: the workspace is too small, which is recorded. */
static inline bool linear_scratch_take(linear_scratch *scratch, hn_ops_context *ctx, const char *name)
{
    char *own = (char *)hnp_cuda_product_own(ctx, name, 2 * LINEAR_PIECE);
    *scratch = {own, own ? own + LINEAR_PIECE : nullptr};
    return own != nullptr;
}

/* --- passes --- */

/* y = x, whatever their types. */
template <class T, int WIDTH> struct convert_pass : every_row {
    static constexpr int N = WIDTH;
    matrix<T> y;
    any_matrix x;

    struct vector {
        float v[N];
    };
    __device__ void fetch(vector &v, const key &k, int c) const { load_any(v.v, x, k.r, c); }
    __device__ void finish(const key &k, int c, vector &v) const { store(y.row(k.r) + c, v.v); }
};

static inline void convert(hn_ops_context *ctx, const char *name, const hn_tensor *y, const hn_tensor *x)
{
    with_vectors(y->dtype, y->shape[1], {y, x}, [&](auto zero, auto n) {
        convert_pass<decltype(zero), n.value> pass;
        pass.y = matrix_of<decltype(zero)>(y);
        pass.x = any_matrix_of(x);
        rowwise(ctx, name, pass, y->shape[0], y->shape[1]);
    });
}

/* y = dropout(x), or y += dropout(x). */
template <class T, int WIDTH> struct join_pass {
    static constexpr int N = WIDTH;
    matrix<T> y;
    any_matrix x;
    drop_site site;
    int columns;
    bool add;

    struct key {
        int64_t r;
        drop_row drawn;
    };
    struct vector {
        float x[N], y[N] = {};
    };
    __device__ bool begin(key &k, int64_t r) const
    {
        k = {r, drop_row_of(site, r, columns)};
        return true;
    }
    __device__ void fetch(vector &v, const key &k, int c) const
    {
        load_any(v.x, x, k.r, c);
        if (add) load(v.y, y.row(k.r) + c);
    }
    __device__ void finish(const key &k, int c, vector &v) const
    {
        drop_apply(v.x, site, k.drawn, c);
        HN_UNROLL
        for (int i = 0; i < N; i++) v.x[i] += v.y[i];
        store(y.row(k.r) + c, v.x);
    }
};

static inline void join(hn_ops_context *ctx, const char *name, const hn_tensor *y, const hn_tensor *x, const drop_site &site,
                        bool add)
{
    with_vectors(y->dtype, y->shape[1], {y, x}, [&](auto zero, auto n) {
        using T = decltype(zero);
        const join_pass<T, n.value> pass = {matrix_of<T>(y), any_matrix_of(x), site, (int)y->shape[1], add};
        rowwise(ctx, name, pass, y->shape[0], y->shape[1]);
    });
}

static inline bool drops(const hn_dropout *dropout)
{
    return dropout && dropout->random && dropout->probability > 0.0f;
}

/* The dropout of the rows from `first` on. */
static inline drop_site drop_site_from(const hn_dropout *dropout, int64_t first)
{
    drop_site site = drop_site_of(dropout);
    site.example += first;
    site.position += first;
    return site;
}

/* --- products --- */

/* Whether cuBLASLt takes the operands: of one type, and a bf16 result from bf16 alone. */
static inline bool direct(const hnp_cuda_product &p)
{
    return p.a->dtype == p.b->dtype && (p.d->dtype == HN_F32 || p.a->dtype == HN_BF16);
}

/* Rows or columns [first, first + count) of an operand, as bf16: where they stand, or copied to `memory`. */
static inline hn_tensor tile_of(hn_ops_context *ctx, const char *name, const hn_tensor *whole, bool columns, int64_t first,
                                int64_t count, void *memory)
{
    const hn_tensor part = columns ? hn_tensor_columns(whole, first, count) : hn_tensor_rows(whole, first, count);
    if (part.dtype == HN_BF16) return part;
    const hn_tensor copy = hn_tensor_2d(memory, HN_BF16, part.shape[0], part.shape[1]);
    convert(ctx, name, &copy, &part);
    return copy;
}

/* hnp_cuda_product_run for operands of any types. Those that cuBLASLt does not take are multiplied as bf16, a tile of D at a time,
 * with what is fp32 narrowed into scratch: no model does this, so it need not be fast. */
static inline bool product_of_any(hn_ops_context *ctx, const char *name, const hnp_cuda_product &p, const linear_scratch &scratch)
{
    if (direct(p)) return hnp_cuda_product_run(ctx, name, &p);
    const int64_t m = p.d->shape[0], n = p.d->shape[1], k = p.a->shape[p.a_turned ? 0 : 1];
    const int64_t side = (int64_t)(LINEAR_PIECE / 2 / sizeof(bf16)) / k;
    HN_ASSERT(side > 0);
    for (int64_t i = 0; i < m; i += side) {
        const int64_t rows = m - i < side ? m - i : side;
        const hn_tensor a = tile_of(ctx, name, p.a, p.a_turned, i, rows, scratch.tiles), d = hn_tensor_rows(p.d, i, rows);
        for (int64_t j = 0; j < n; j += side) {
            const int64_t columns = n - j < side ? n - j : side;
            const hn_tensor b = tile_of(ctx, name, p.b, !p.b_turned, j, columns, (char *)scratch.tiles + LINEAR_PIECE / 2);
            const hn_tensor tile = hn_tensor_columns(&d, j, columns);
            hnp_cuda_product q = p;
            q.d = &tile, q.a = &a, q.b = &b;
            q.epilogue = HNP_CUDA_PLAIN;
            hnp_cuda_product_run(ctx, name, &q);
        }
    }
    return p.epilogue == HNP_CUDA_PLAIN;
}

#endif
