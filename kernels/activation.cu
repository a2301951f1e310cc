/* What an activation does to a gradient, on the GPU: one pass, dy and z read, dz written, nothing else. dz
 * decides the width of a vector; dy and z may be of the other type. */
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/rowwise.cuh"

extern "C" {
#include "kernels/activation.h"
}

namespace {

template <class T, int WIDTH> struct slope_pass : every_row {
    static constexpr int N = WIDTH;
    matrix<T> dz;
    any_matrix dy, z;
    hn_activation activation;

    struct vector {
        any_vector<N> dy, z;
    };
    __device__ void fetch(vector &v, const key &k, int c) const
    {
        load_any(v.dy, dy, k.r, c);
        load_any(v.z, z, k.r, c);
    }
    __device__ void finish(const key &k, int c, vector &v) const
    {
        float d[N], at[N];
        HN_UNROLL
        for (int i = 0; i < N; i++) {
            d[i] = any_element(v.dy, dy, i);
            at[i] = any_element(v.z, z, i);
        }
        apply_slope(d, at, activation);
        store(dz.row(k.r) + c, d);
    }
};

} // namespace

void HN_ISA_NAME(hnp_activation_backward)(hn_ops_context *ctx, const hn_tensor *dz, const hn_tensor *dy,
                                          const hn_tensor *z, hn_activation activation)
{
    HN_ASSERT(dz->shape[0] == dy->shape[0] && dz->shape[1] == dy->shape[1]);
    HN_ASSERT(z->shape[0] == dy->shape[0] && z->shape[1] == dy->shape[1]);
    with_vectors(dz->dtype, dz->shape[1], {dz, dy, z}, [&](auto zero, auto n) {
        using T = decltype(zero);
        const slope_pass<T, n.value> pass = {
            {}, matrix_of<T>(dz), any_matrix_of(dy), any_matrix_of(z), activation};
        rowwise(ctx, "activation_backward", pass, dz->shape[0], dz->shape[1]);
    });
}
