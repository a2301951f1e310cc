/* Rows by index on the GPU: passes over the rows that are moved, each read once and written once
 * (scatter_add_rows: twice read). gather and scatter move bytes, in units of 16 where pointers, strides and
 * widths allow it, whatever the type is.
 *
 * An index outside its matrix is found on the way: gather leaves that row of y as it was, the scatters leave
 * its row of y out, sum_rows leaves the whole row of x as it was; synchronize says which entry it was.
 * expand_rows gives a block to a sequence. */
#include "kernels/cuda/fault.cuh"
#include "kernels/cuda/rowwise.cuh"

extern "C" {
#include "kernels/rows.h"
}

namespace {

/* Rows of a matrix named by `index`, each entry of which is checked. */
struct chosen_rows {
    const int32_t *index;
    int64_t limit;
    volatile hn_cuda_fault *fault;

    __device__ bool has(int64_t entry) const
    {
        return in_table(fault, HN_FAULT_ROW, entry, index[entry], limit);
    }
};

chosen_rows chosen(hn_ops_context *ctx, const hn_tensor *x, const int32_t *index)
{
    return {index, x->shape[0], fault_of(ctx)};
}

/* --- gather_rows, scatter_rows --- */

template <class UNIT> struct move_pass {
    static constexpr int N = 1;
    matrix<UNIT> to, from;
    chosen_rows rows;
    bool scatter; /* the index names rows of `to` */

    struct key {
        UNIT *to;
        const UNIT *from;
    };
    struct vector {
        UNIT unit;
    };
    __device__ bool begin(key &k, int64_t r) const
    {
        if (!rows.has(r)) return false;
        const int64_t i = rows.index[r];
        k = {to.row(scatter ? i : r), from.row(scatter ? r : i)};
        return true;
    }
    __device__ void fetch(vector &v, const key &k, int c) const { v.unit = k.from[c]; }
    __device__ void finish(const key &k, int c, vector &v) const { k.to[c] = v.unit; }
};

template <class UNIT> bool units_fit(std::initializer_list<const hn_tensor *> matrices)
{
    bool fit = true;
    for (const hn_tensor *m : matrices) {
        const size_t size = hn_dtype_size(m->dtype);
        fit = fit && (uintptr_t)m->data % sizeof(UNIT) == 0 && (size_t)m->stride * size % sizeof(UNIT) == 0 &&
              (size_t)m->shape[1] * size % sizeof(UNIT) == 0;
    }
    return fit;
}

template <class UNIT>
void move_units(hn_ops_context *ctx, const char *name, const hn_tensor *to, const hn_tensor *from,
                const chosen_rows &rows, bool scatter)
{
    const int64_t size = (int64_t)hn_dtype_size(to->dtype), unit = (int64_t)sizeof(UNIT);
    const move_pass<UNIT> pass = {{(UNIT *)to->data, to->stride * size / unit},
                                  {(UNIT *)from->data, from->stride * size / unit},
                                  rows,
                                  scatter};
    rowwise(ctx, name, pass, scatter ? from->shape[0] : to->shape[0], to->shape[1] * size / unit);
}

void move(hn_ops_context *ctx, const char *name, const hn_tensor *to, const hn_tensor *from,
          const chosen_rows &rows, bool scatter)
{
    HN_ASSERT(to->dtype == from->dtype && to->shape[1] == from->shape[1]);
    if (units_fit<uint4>({to, from}))
        move_units<uint4>(ctx, name, to, from, rows, scatter);
    else if (units_fit<uint32_t>({to, from}))
        move_units<uint32_t>(ctx, name, to, from, rows, scatter);
    else if (units_fit<uint16_t>({to, from}))
        move_units<uint16_t>(ctx, name, to, from, rows, scatter);
    else
        move_units<uint8_t>(ctx, name, to, from, rows, scatter);
}

/* --- scatter_add_rows --- */

template <class T, int WIDTH> struct add_pass {
    static constexpr int N = WIDTH;
    matrix<T> x;
    any_matrix y;
    chosen_rows rows;

    struct key {
        int64_t to, r;
    };
    struct vector {
        float x[N];
        any_vector<N> y;
    };
    __device__ bool begin(key &k, int64_t r) const
    {
        if (!rows.has(r)) return false;
        k = {rows.index[r], r};
        return true;
    }
    __device__ void fetch(vector &v, const key &k, int c) const
    {
        load(v.x, x.row(k.to) + c);
        load_any(v.y, y, k.r, c);
    }
    __device__ void finish(const key &k, int c, vector &v) const
    {
        HN_UNROLL
        for (int i = 0; i < N; i++) v.x[i] += any_element(v.y, y, i);
        store(x.row(k.to) + c, v.x);
    }
};

/* --- sum_rows --- */

template <class T, int WIDTH> struct sum_pass {
    static constexpr int N = WIDTH;
    matrix<T> x, y;
    const int32_t *cu;
    chosen_rows rows;

    struct key {
        T *to;
        int first, end;
    };
    struct vector {
        float sum[N];
    };
    __device__ bool begin(key &k, int64_t r) const
    {
        k = {x.row(r), cu[r], cu[r + 1]};
        for (int e = k.first; e < k.end; e++)
            if (!rows.has(e)) return false;
        return true;
    }
    __device__ void fetch(vector &v, const key &k, int c) const
    {
        HN_UNROLL
        for (int i = 0; i < N; i++) v.sum[i] = 0.0f;
        HN_ROLLED /* few entries; unrolled it spills */
        for (int e = k.first; e < k.end; e++) {
            float one[N];
            load(one, y.row(rows.index[e]) + c);
            HN_UNROLL
            for (int i = 0; i < N; i++) v.sum[i] += one[i];
        }
    }
    __device__ void finish(const key &k, int c, vector &v) const { store(k.to + c, v.sum); }
};

/* --- expand_rows --- */

constexpr int EXPAND_THREADS = 128;

__global__ void __launch_bounds__(EXPAND_THREADS)
    expand_kernel(uint32_t *row, const uint32_t *value, const int32_t *cu)
{
    const uint32_t v = value[blockIdx.x];
    for (int r = cu[blockIdx.x] + (int)threadIdx.x; r < cu[blockIdx.x + 1]; r += EXPAND_THREADS) row[r] = v;
}

} // namespace

void HN_ISA_NAME(hnp_gather_rows)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *x,
                                  const int32_t *index)
{
    move(ctx, "gather_rows", y, x, chosen(ctx, x, index), false);
}

void HN_ISA_NAME(hnp_scatter_add_rows)(hn_ops_context *ctx, const hn_tensor *x, const hn_tensor *y,
                                       const int32_t *index)
{
    HN_ASSERT(x->shape[1] == y->shape[1]);
    with_vectors(x->dtype, x->shape[1], {x, y}, [&](auto zero, auto n) {
        using T = decltype(zero);
        const add_pass<T, n.value> pass = {matrix_of<T>(x), any_matrix_of(y), chosen(ctx, x, index)};
        rowwise(ctx, "scatter_add_rows", pass, y->shape[0], y->shape[1]);
    });
}

void HN_ISA_NAME(hnp_scatter_rows)(hn_ops_context *ctx, const hn_tensor *x, const hn_tensor *y,
                                   const int32_t *index)
{
    move(ctx, "scatter_rows", x, y, chosen(ctx, x, index), true);
}

void HN_ISA_NAME(hnp_sum_rows)(hn_ops_context *ctx, const hn_tensor *x, const hn_tensor *y, const int32_t *cu,
                               const int32_t *index)
{
    HN_ASSERT(x->dtype == y->dtype && x->shape[1] == y->shape[1]);
    with_vectors(x->dtype, x->shape[1], {x, y}, [&](auto zero, auto n) {
        using T = decltype(zero);
        const sum_pass<T, n.value> pass = {matrix_of<T>(x), matrix_of<T>(y), cu, chosen(ctx, y, index)};
        rowwise(ctx, "sum_rows", pass, x->shape[0], x->shape[1]);
    });
}

void HN_ISA_NAME(hnp_expand_rows)(hn_ops_context *ctx, uint32_t *row, const uint32_t *value,
                                  const int32_t *cu, int32_t n)
{
    if (n) launch(ctx, "expand_rows", expand_kernel, dim3((unsigned)n), EXPAND_THREADS, 0, row, value, cu);
}
