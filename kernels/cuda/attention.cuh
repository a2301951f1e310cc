/* What both directions of attention share: the job as kernels see it, where a block stands, which keys a
 * query sees, and the streaming of tiles through shared memory. The method stands in attention.cu and
 * attention_backward.cu. */
#ifndef HONE_KERNELS_CUDA_ATTENTION_CUH
#define HONE_KERNELS_CUDA_ATTENTION_CUH

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/random.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/tile.cuh"
#include "kernels/cuda/vector.cuh"

#include <math.h>

#include <type_traits>

/* What fits registers and sm_80's shared memory, for each type and padded head size. */
template <class T, int D> struct shape {
    static constexpr bool BF16 = sizeof(T) == 2;
    static constexpr int WARPS = !BF16 && D == 256 ? 2 : 4;
    static constexpr int STAGES = BF16 ? 2 : 1;
    static constexpr int COLUMNS = BF16 && D <= 128 ? 64 : 32;         /* keys a tile, forward */
    static constexpr int BACKWARD_COLUMNS = BF16 && D <= 64 ? 64 : 32; /* keys or queries a tile */
    static constexpr int PART = D < 128 ? D : 128;                     /* columns of dk and dv a block */
    /* Blocks of a multiprocessor: bounds registers. dk and dv need two results and two scores. */
    static constexpr int BLOCKS = D <= 64 ? 3 : D == 128 ? 2 : 1;
    static constexpr int KEY_BLOCKS = D <= 32 ? 3 : D <= 128 ? 2 : 1;
};

template <class T> struct job {
    matrix<T> q, k, v, o, d_o, dq, dk, dv;
    float *lse, *delta; /* [heads, query_rows] */
    const int32_t *cu_q, *cu_k, *q_position, *k_count;
    int64_t query_rows;
    int group, head_size, tiles; /* query heads a K/V head; tiles of own rows of the longest sequence */
    float scale;
    bool causal;
    drop_site drop;
};

struct sequence {
    int q_first, q_count, k_first, k_count;
};

template <class T> __device__ __forceinline__ sequence sequence_of(const job<T> &a, int number)
{
    const int q = a.cu_q[number], k = a.cu_k[number];
    return {q, a.cu_q[number + 1] - q, k, a.k_count ? a.k_count[number] : a.cu_k[number + 1] - k};
}

/* How many keys query i of the sequence sees; none when there is no such query. */
template <class T> __device__ __forceinline__ int visible(const job<T> &a, const sequence &s, int i)
{
    if (i >= s.q_count) return 0;
    if (!a.causal) return s.k_count;
    const int position = a.q_position ? a.q_position[s.q_first + i] : i + s.k_count - s.q_count;
    return position < 0 ? 0 : min(position + 1, s.k_count);
}

/* The most keys that one of the block's `rows` queries (at most 64) sees. */
template <class T>
__device__ __forceinline__ int visible_most(const job<T> &a, const sequence &s, int first, int rows)
{
    if (!a.causal) return s.k_count;
    const int lane = (int)threadIdx.x % 32;
    int most = lane < rows ? visible(a, s, first + lane) : 0;
    if (lane + 32 < rows) most = max(most, visible(a, s, first + lane + 32));
    return lanes_max<32>(most);
}

__host__ __device__ __forceinline__ int round_up(int n, int to)
{
    return (n + to - 1) / to * to;
}

/* Starts copying rows [first, first + rows) of x and y (columns of one head) into a pair of tiles, up to the
 * last valid one. */
template <class T, int D>
__device__ __forceinline__ void load_pair(T *tiles, int rows, const matrix<T> &x, const matrix<T> &y,
                                          int64_t row, int64_t column, int valid, int width)
{
    const int used = min(rows, round_up(valid, WARP_ROWS));
    tile_load<T, D>(tiles, x.row(row) + column, x.stride, used, valid, width);
    tile_load<T, D>(tiles + rows * PITCH<T, D>, y.row(row) + column, y.stride, used, valid, width);
}

/* use(0), use(1), ... use(count - 1), each with its pair in shared memory and the next one on its way. The
 * caller has started and committed pair 0 (with whatever else the block needs once); pair t lies in stage t %
 * STAGES. */
template <int STAGES, class Start, class Use>
__device__ __forceinline__ void stream(int count, Start start, Use use)
{
    for (int turn = 0; turn < count; turn++) {
        const int next = turn + STAGES - 1;
        if (next > 0 && next < count) start(next);
        ptx_copy_commit();
        ptx_copy_wait<STAGES - 1>();
        __syncthreads();
        use(turn);
        __syncthreads(); /* before the stage is filled again */
    }
}

/* Where a block stands: rows [first, first + rows) of its sequence, the warp's from `warp_first` on within
 * them. */
struct place {
    sequence s;
    int first, rows, warp_first, lane;
};

template <class T> __device__ __forceinline__ place place_of(const job<T> &a, bool last_first)
{
    const int turn = (int)blockIdx.x % a.tiles, rows = (int)blockDim.x / 2;
    const int tile =
        last_first ? a.tiles - 1 - turn : turn; /* under a causal mask the last queries see most keys */
    return {sequence_of(a, (int)blockIdx.x / a.tiles), tile * rows, rows, (int)threadIdx.x / 32 * WARP_ROWS,
            (int)threadIdx.x % 32};
}

/* --- for the launchers --- */

/* Rows of one operand that a block owns, and its shared memory. */
struct block_size {
    int warps;
    size_t shared;
    int64_t tiles; /* of own rows, of the longest sequence */
};

template <class T, int D>
block_size block_size_of(int own, int columns, int64_t longest_own, int64_t longest_other)
{
    const int64_t needed = ceil_div(longest_own, WARP_ROWS);
    const int warps = (int)(needed < shape<T, D>::WARPS ? needed : shape<T, D>::WARPS);
    const int stages = longest_other <= columns ? 1 : shape<T, D>::STAGES;
    const size_t rows = (size_t)(own * warps * WARP_ROWS) + (size_t)(2 * stages * columns);
    return {warps, rows * PITCH<T, D> * sizeof(T), ceil_div(longest_own, warps * WARP_ROWS)};
}

/* f(an integral_constant of the padded head size). */
template <class F> void with_head_size(int head_size, F f)
{
    if (head_size <= 32)
        f(std::integral_constant<int, 32>());
    else if (head_size <= 64)
        f(std::integral_constant<int, 64>());
    else if (head_size <= 128)
        f(std::integral_constant<int, 128>());
    else
        f(std::integral_constant<int, 256>());
}

template <class T>
job<T> job_of(const hn_tensor *q, const hn_tensor *k, const hn_tensor *v, const hn_tensor *o,
              const hn_attention *p)
{
    job<T> a = {};
    a.q = matrix_of<T>(q);
    a.k = matrix_of<T>(k);
    a.v = matrix_of<T>(v);
    a.o = matrix_of<T>(o);
    a.cu_q = p->cu_q;
    a.cu_k = p->cu_k;
    a.q_position = p->q_position;
    a.k_count = p->k_count;
    a.query_rows = q->shape[0];
    a.group = p->heads / p->kv_heads;
    a.head_size = p->head_size;
    a.scale = p->scale;
    a.causal = p->causal;
    a.drop = drop_site_of(&p->dropout);
    return a;
}

/* Whether the kernels take these tensors; otherwise the failure is recorded. */
static inline bool accepted(hn_ops_context *ctx, const char *name, const hn_attention *p,
                            std::initializer_list<const hn_tensor *> tensors)
{
    HN_ASSERT(p->head_size >= 8 && p->head_size <= 256 && p->head_size % 8 == 0);
    HN_ASSERT(p->kv_heads > 0 && p->heads % p->kv_heads == 0);
    for (const hn_tensor *tensor : tensors) {
        HN_ASSERT(tensor->dtype == (*tensors.begin())->dtype);
        if (rows_aligned(tensor)) continue;
        hn_fail(ctx->error, HN_ERR_UNSUPPORTED,
                "%s: a tensor at %p with rows %lld elements apart, expected multiples of 16 bytes", name,
                tensor->data, (long long)tensor->stride);
        return false;
    }
    return p->n > 0;
}

#endif
