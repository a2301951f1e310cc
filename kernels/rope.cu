/* Rotary position embedding on the GPU, in place: x is read once and written once; a row's part of the table
 * (4 D bytes) comes from memory once and serves all heads out of the cache.
 *
 * The walk goes over pairs: "column" c of heads * D / 2 is the pair (a_i, b_i) with i = c mod D / 2 of head c
 * / (D / 2), and a vector is one of a and one of b. A row whose position is outside the table is left as it
 * was, and synchronize says so. */
#include "kernels/cuda/fault.cuh"
#include "kernels/cuda/rowwise.cuh"

extern "C" {
#include "kernels/rope.h"
}

namespace {

template <class T, int WIDTH> struct turn_pass {
    static constexpr int N = WIDTH;
    matrix<T> x;
    matrix<const float> table;
    int64_t positions;
    const int32_t *position;
    volatile hn_cuda_fault *fault;
    int half;
    float direction; /* -1: back */

    struct key {
        T *row;
        const float *cosine;
    };
    struct vector {
        float a[N], b[N], cosine[N], sine[N];
    };
    __device__ bool begin(key &k, int64_t r) const
    {
        const int p = position[r];
        if (!in_table(fault, HN_FAULT_ROPE, r, p, positions)) return false;
        k = {x.row(r), table.row(p)};
        return true;
    }
    /* Where a of pair c lies in its row; b is half a head on. */
    __device__ int place(int c) const { return c + (int)((unsigned)c / (unsigned)half) * half; }
    __device__ void fetch(vector &v, const key &k, int c) const
    {
        const int at = place(c), i = c - (at - c);
        load(v.a, k.row + at);
        load(v.b, k.row + at + half);
        load(v.cosine, k.cosine + i);
        load(v.sine, k.cosine + half + i);
    }
    __device__ void finish(const key &k, int c, vector &v) const
    {
        const int at = place(c);
        HN_UNROLL
        for (int i = 0; i < N; i++) {
            const float a = v.a[i], b = v.b[i], cross = direction * v.sine[i];
            v.a[i] = a * v.cosine[i] - b * cross;
            v.b[i] = b * v.cosine[i] + a * cross;
        }
        store(k.row + at, v.a);
        store(k.row + at + half, v.b);
    }
};

} // namespace

void HN_ISA_NAME(hnp_rope)(hn_ops_context *ctx, const hn_tensor *x, const hn_tensor *table,
                           const int32_t *position, bool backward)
{
    const int64_t size = table->shape[1];
    HN_ASSERT(table->dtype == HN_F32 && size > 0 && size % 2 == 0);
    HN_ASSERT(x->shape[1] % size == 0);
    with_vectors(x->dtype, size / 2, {x, table}, [&](auto zero, auto n) {
        using T = decltype(zero);
        const turn_pass<T, n.value> pass = {
            matrix_of<T>(x), matrix_of<const float>(table), table->shape[0], position, fault_of(ctx),
            (int)(size / 2), backward ? -1.0f : 1.0f};
        rowwise(ctx, "rope", pass, x->shape[0], x->shape[1] / 2);
    });
}
