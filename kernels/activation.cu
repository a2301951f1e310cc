/* What an activation does to a gradient, on the GPU: one pass, dy and z read, dz written, nothing else. dz
 * decides the width of a vector; dy and z may be of the other type. */
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/rowwise.cuh"

extern "C" {
#include "kernels/activation.h"
}

namespace {

template <class T, int WIDTH> struct slope_pass {
    static constexpr int N = WIDTH;
    matrix<T> dz;
    any_matrix dy, z;
    hn_activation activation;

    struct key {
        int64_t r;
    };
    struct vector {
        float d[N], z[N];
    };
    __device__ bool begin(key &k, int64_t r) const
    {
        k.r = r;
        return true;
    }
    __device__ void fetch(vector &v, const key &k, int c) const
    {
        load_any(v.d, dy, k.r, c);
        load_any(v.z, z, k.r, c);
    }
    __device__ void finish(const key &k, int c, vector &v) const
    {
        apply_slope(v.d, v.z, activation);
        store(dz.row(k.r) + c, v.d);
    }
};

template <class T>
void backward(hn_ops_context *ctx, const hn_tensor *dz, const hn_tensor *dy, const hn_tensor *z,
              hn_activation activation)
{
    constexpr int N = 16 / sizeof(T);
    const int64_t rows = dy->shape[0], columns = dy->shape[1];
    if (rows_fit(columns, N, {dz, dy, z})) {
        const slope_pass<T, N> pass = {matrix_of<T>(dz), any_matrix_of(dy), any_matrix_of(z), activation};
        rowwise(ctx, "activation_backward", pass, rows, columns);
    } else {
        const slope_pass<T, 1> pass = {matrix_of<T>(dz), any_matrix_of(dy), any_matrix_of(z), activation};
        rowwise(ctx, "activation_backward", pass, rows, columns);
    }
}

} // namespace

void HN_ISA_NAME(hnp_activation_backward)(hn_ops_context *ctx, const hn_tensor *dz, const hn_tensor *dy,
                                          const hn_tensor *z, hn_activation activation)
{
    HN_ASSERT(dz->shape[0] == dy->shape[0] && dz->shape[1] == dy->shape[1]);
    HN_ASSERT(z->shape[0] == dy->shape[0] && z->shape[1] == dy->shape[1]);
    if (dz->dtype == HN_F32)
        backward<float>(ctx, dz, dy, z, activation);
    else
        backward<bf16>(ctx, dz, dy, z, activation);
}
