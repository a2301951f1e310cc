/* Dropout on the GPU: one pass, with the words that the CPU draws (kernels/cuda/random.cuh). A vector of four
 * elements is one drawing; single elements draw four words for one, which is why rows that allow vectors
 * should have them. */
#include "kernels/cuda/random.cuh"
#include "kernels/cuda/rowwise.cuh"

extern "C" {
#include "kernels/dropout.h"
}

namespace {

template <class T, int WIDTH> struct drop_pass {
    static constexpr int N = WIDTH;
    matrix<T> y, x;
    drop_site site;
    int columns;

    struct key {
        int64_t r;
        drop_row drawn;
    };
    struct vector {
        float v[N];
    };
    __device__ bool begin(key &k, int64_t r) const
    {
        k.r = r;
        k.drawn = drop_row_of(site, r, columns);
        return true;
    }
    __device__ void fetch(vector &v, const key &k, int c) const { load(v.v, x.row(k.r) + c); }
    __device__ void finish(const key &k, int c, vector &v) const
    {
        drop_apply(v.v, site, k.drawn, c);
        store(y.row(k.r) + c, v.v);
    }
};

} // namespace

void HN_ISA_NAME(hnp_dropout)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *x,
                              const hn_dropout *dropout)
{
    HN_ASSERT(x->dtype == y->dtype && x->shape[0] == y->shape[0] && x->shape[1] == y->shape[1]);
    with_vectors(x->dtype, x->shape[1], {y, x}, [&](auto zero, auto n) {
        using T = decltype(zero);
        const drop_pass<T, n.value> pass = {matrix_of<T>(y), matrix_of<T>(x), drop_site_of(dropout),
                                            (int)x->shape[1]};
        rowwise(ctx, "dropout", pass, x->shape[0], x->shape[1]);
    });
}
