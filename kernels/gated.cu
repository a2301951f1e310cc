/* Gated linear units on the GPU, each way one pass over memory: forward reads gate and up and writes y;
 * backward reads dy, gate and up and writes dgate and dup, which may be the places of any of them. */
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/rowwise.cuh"

extern "C" {
#include "kernels/gated.h"
}

namespace {

template <class T, int WIDTH> struct forward_pass : every_row {
    static constexpr int N = WIDTH;
    matrix<T> y, gate, up;
    hn_activation activation;

    struct vector {
        float gate[N], up[N];
    };
    __device__ void fetch(vector &v, const key &k, int c) const
    {
        load(v.gate, gate.row(k.r) + c);
        load(v.up, up.row(k.r) + c);
    }
    __device__ void finish(const key &k, int c, vector &v) const
    {
        activate(v.gate, activation);
        HN_UNROLL
        for (int i = 0; i < N; i++) v.up[i] *= v.gate[i];
        store(y.row(k.r) + c, v.up);
    }
};

template <class T, int WIDTH> struct backward_pass : every_row {
    static constexpr int N = WIDTH;
    matrix<T> dgate, dup, dy, gate, up;
    hn_activation activation;

    struct vector {
        float d[N], gate[N], up[N];
    };
    __device__ void fetch(vector &v, const key &k, int c) const
    {
        load(v.d, dy.row(k.r) + c);
        load(v.gate, gate.row(k.r) + c);
        load(v.up, up.row(k.r) + c);
    }
    __device__ void finish(const key &k, int c, vector &v) const
    {
        with_activation(activation, [&](auto a) {
            HN_UNROLL
            for (int i = 0; i < N; i++) {
                const activated g = activated_at<decltype(a)::value>(v.gate[i]);
                v.gate[i] = v.d[i] * v.up[i] * g.slope;
                v.up[i] = v.d[i] * g.value;
            }
        });
        store(dgate.row(k.r) + c, v.gate);
        store(dup.row(k.r) + c, v.up);
    }
};

bool same(const hn_tensor *a, const hn_tensor *b)
{
    return a->dtype == b->dtype && a->shape[0] == b->shape[0] && a->shape[1] == b->shape[1];
}

} // namespace

void HN_ISA_NAME(hnp_gated_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *gate,
                                    const hn_tensor *up, hn_activation activation)
{
    HN_ASSERT(activation != HN_ACT_TANH && same(y, gate) && same(up, gate));
    with_vectors(gate->dtype, gate->shape[1], {y, gate, up}, [&](auto zero, auto n) {
        using T = decltype(zero);
        const forward_pass<T, n.value> pass = {
            {}, matrix_of<T>(y), matrix_of<T>(gate), matrix_of<T>(up), activation};
        rowwise(ctx, "gated_forward", pass, gate->shape[0], gate->shape[1]);
    });
}

void HN_ISA_NAME(hnp_gated_backward)(hn_ops_context *ctx, const hn_tensor *dgate, const hn_tensor *dup,
                                     const hn_tensor *dy, const hn_tensor *gate, const hn_tensor *up,
                                     hn_activation activation)
{
    HN_ASSERT(activation != HN_ACT_TANH && same(dgate, gate) && same(dup, gate) && same(dy, gate) &&
              same(up, gate));
    with_vectors(gate->dtype, gate->shape[1], {dgate, dup, dy, gate, up}, [&](auto zero, auto n) {
        using T = decltype(zero);
        const backward_pass<T, n.value> pass = {{},
                                                matrix_of<T>(dgate),
                                                matrix_of<T>(dup),
                                                matrix_of<T>(dy),
                                                matrix_of<T>(gate),
                                                matrix_of<T>(up),
                                                activation};
        rowwise(ctx, "gated_backward", pass, gate->shape[0], gate->shape[1]);
    });
}
