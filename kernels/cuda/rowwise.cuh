/* Passes over matrices that do the same to every element or row: what each operation needs is a struct (a
 * pass), and the walk is here.
 *
 *     struct pass {
 *         static constexpr int N;                          elements of a vector
 *         struct key; struct vector;
 *         bool begin(key &, int64_t r) const;               what row r needs once; false: the row is left
 * alone void fetch(vector &, const key &, int c) const;   loads elements [c, c + N) void finish(const key &,
 * int c, vector &) const;  computes and stores them
 *     };
 *
 * A row belongs to 2^k neighbouring threads of a block of 256, as many as its vectors keep busy, at least
 * eight where there are eight (a line of memory); blocks take rows by turns. A thread has two vectors of a
 * row under way, loaded before either is stored: outputs may alias inputs element by element. Vectors are of
 * 16 bytes where all rows allow it, else single elements. */
#ifndef HONE_KERNELS_CUDA_ROWWISE_CUH
#define HONE_KERNELS_CUDA_ROWWISE_CUH

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"

#include <limits.h>

#include <type_traits>

/* The key of passes that need nothing of a row but its number. */
struct every_row {
    struct key {
        int64_t r;
    };
    __device__ bool begin(key &k, int64_t r) const
    {
        k.r = r;
        return true;
    }
};

static constexpr int ROWWISE_THREADS = 256;
static constexpr int ROWWISE_WAVES = 32; /* blocks a multiprocessor, at most */

template <class P>
__global__ void __launch_bounds__(ROWWISE_THREADS)
    rowwise_kernel(const P pass, int64_t rows, int columns, int lanes)
{
    const int lane = (int)threadIdx.x % lanes, groups = ROWWISE_THREADS / lanes, step = lanes * P::N;
    for (int64_t r = (int64_t)blockIdx.x * groups + (int)threadIdx.x / lanes; r < rows;
         r += (int64_t)gridDim.x * groups) {
        typename P::key key;
        if (!pass.begin(key, r)) continue;
        int c = lane * P::N;
        for (; c < columns - step; c += 2 * step) {
            typename P::vector first, second;
            pass.fetch(first, key, c);
            pass.fetch(second, key, c + step);
            pass.finish(key, c, first);
            pass.finish(key, c + step, second);
        }
        if (c < columns) {
            typename P::vector last;
            pass.fetch(last, key, c);
            pass.finish(key, c, last);
        }
    }
}

/* Threads of a row that has so many vectors. */
static inline int rowwise_lanes(int64_t vectors)
{
    int lanes = ROWWISE_THREADS;
    while (lanes > 1 && lanes / 2 >= vectors) lanes /= 2;
    while (lanes > 8 && vectors % lanes) lanes /= 2;
    return lanes;
}

template <class P>
void rowwise(hn_ops_context *ctx, const char *name, const P &pass, int64_t rows, int64_t columns)
{
    if (!rows || !columns) return;
    HN_ASSERT(columns < INT_MAX / 2);
    const int lanes = rowwise_lanes(ceil_div(columns, P::N));
    const int64_t blocks = ceil_div(rows, ROWWISE_THREADS / lanes),
                  most = (int64_t)hn_cuda_device_of(ctx->backend)->multiprocessors * ROWWISE_WAVES;
    launch(ctx, name, rowwise_kernel<P>, dim3((unsigned)(blocks < most ? blocks : most)), ROWWISE_THREADS, 0,
           pass, rows, (int)columns, lanes);
}

/* f(a value of the element type, an integral_constant of the elements of a vector): 16 bytes of them when
 * `columns` is a multiple and the rows of all matrices that are there are aligned, else one. */
template <class F>
void with_vectors(hn_dtype type, int64_t columns, std::initializer_list<const hn_tensor *> matrices, F f)
{
    const int64_t n = 16 / (int64_t)hn_dtype_size(type);
    bool fit = columns % n == 0;
    for (const hn_tensor *m : matrices) fit = fit && (!present(m) || rows_aligned(m));
    if (type == HN_F32) {
        if (fit)
            f(float(), std::integral_constant<int, 4>());
        else
            f(float(), std::integral_constant<int, 1>());
    } else {
        if (fit)
            f(bf16(), std::integral_constant<int, 8>());
        else
            f(bf16(), std::integral_constant<int, 1>());
    }
}

#endif
