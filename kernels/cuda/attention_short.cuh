/* Attention's backward where no sequence is longer than a tile: 64 queries and 64 keys, head sizes up to 64. That is what pairs and
 * short instructions are made of, and there is room for all of a head in shared memory and registers at once:
 *
 *     a block has a K/V head of a sequence, and goes over the query heads that share it
 *         warp w, queries 16 w to 16 w + 15:    p = 2^(q k^T scale log2(e) - lse)    dp = do v^T    delta = sum of dropout(p) dp
 *                                               ds = p (dropout(dp) - delta)         dq = ds k
 *         p and ds go through shared memory
 *         warp w, keys 16 w to 16 w + 15:       dv += p^T do                         dk += ds^T q
 *
 *     shared memory     q, do [queries][D]    k, v [keys][D]    p, ds [queries][64]
 *
 * Five products instead of seven and one kernel instead of three; seven tensors move instead of thirteen: o is not read, since
 * delta = do . o = sum_j dropout(p)_j (do . v_j). */
#ifndef HONE_KERNELS_CUDA_ATTENTION_SHORT_CUH
#define HONE_KERNELS_CUDA_ATTENTION_SHORT_CUH

#include "kernels/cuda/attention.cuh"

constexpr int SHORT = 64, SHORT_HEAD = 64;

/* The tiles of a block, in the order in which they lie. */
template <class T, int D> struct short_tiles {
    T *q, *d_o, *k, *v, *p, *ds;

    __device__ short_tiles(unsigned char *memory, int q_rows, int k_rows)
    {
        q = (T *)memory;
        d_o = q + q_rows * PITCH<T, D>;
        k = d_o + q_rows * PITCH<T, D>;
        v = k + k_rows * PITCH<T, D>;
        p = v + k_rows * PITCH<T, D>;
        ds = p + q_rows * PITCH<T, SHORT>;
    }
    static size_t size(int q_rows, int k_rows)
    {
        return ((size_t)(2 * (q_rows + k_rows)) * PITCH<T, D> + (size_t)(2 * q_rows) * PITCH<T, SHORT>)*sizeof(T);
    }
};

/* A warp's 16 queries of a head: what they are, and what becomes of scores and slopes. */
template <bool DROP> struct short_queries {
    float lse[2], delta[2];
    int limit[2];
    drop_query drop[2];
    uint32_t kept; /* 4 bits a piece */

    template <class T> __device__ short_queries(const job<T> &a, const sequence &s, int head, int first)
    {
        kept = 0;
        HN_UNROLL
        for (int r = 0; r < 2; r++) {
            const int i = first + (int)threadIdx.x % 32 / 4 + 8 * r;
            limit[r] = visible(a, s, i);
            lse[r] = delta[r] = 0.0f;
            drop[r] = {0, 0};
            if (i >= s.q_count) continue;
            lse[r] = a.lse[head * a.query_rows + s.q_first + i] * LOG2E;
            if (DROP) drop[r] = drop_query_of(a.drop, s.q_first + i);
        }
    }
    __device__ int most() const { return lanes_max<32>(max(limit[0], limit[1])); }

    /* p and dp to dropout(p) and ds / scale. */
    template <class T, int N>
    __device__ __forceinline__ void differentiate(float (&p)[N][4], float (&ds)[N][4], const job<T> &a, int head, uint32_t step, int columns)
    {
        const int key = (int)threadIdx.x % 4 * 2;
        HN_UNROLL
        for (int n = 0; n < N; n++) {
            if (!piece_used(n, columns)) continue;
            const uint32_t bits = DROP ? drop_piece(a.drop, (uint32_t)head, step, drop, 8 * n) : 15;
            kept |= bits << 4 * n;
            HN_UNROLL
            for (int e = 0; e < 4; e++) {
                const float x = p[n][e] * (a.scale * LOG2E) - lse[e / 2];
                p[n][e] = 8 * n + key + e % 2 < limit[e / 2] ? ptx_exp2(x) : 0.0f;
                ds[n][e] = bits >> e & 1 ? ds[n][e] * a.drop.scale : 0.0f;
                delta[e / 2] += p[n][e] * ds[n][e];
            }
        }
        HN_UNROLL
        for (int r = 0; r < 2; r++) delta[r] = lanes_sum<4>(delta[r]);
        HN_UNROLL
        for (int n = 0; n < N; n++)
            HN_UNROLL
            for (int e = 0; e < 4; e++) {
                ds[n][e] = p[n][e] * (ds[n][e] - delta[e / 2]);
                p[n][e] = kept >> (4 * n + e) & 1 ? p[n][e] * a.drop.scale : 0.0f;
            }
    }
};

/* A warp's rows [16, 8 N] into a tile of SHORT columns, as far as `columns`. */
template <class T, int N> __device__ __forceinline__ void short_keep(T *tile, const float (&c)[N][4], int columns)
{
    const int lane = (int)threadIdx.x % 32;
    HN_UNROLL
    for (int n = 0; n < N; n++) {
        if (!piece_used(n, columns)) continue;
        HN_UNROLL
        for (int r = 0; r < 2; r++) {
            const float pair[2] = {c[n][2 * r], c[n][2 * r + 1]};
            store(tile + (lane / 4 + 8 * r) * PITCH<T, SHORT> + 8 * n + lane % 4 * 2, pair);
        }
    }
}

/* The queries' half of a head: dq goes out, dropout(p) and ds into the tiles. */
template <class T, int D, bool DROP>
__device__ __forceinline__ void short_query_half(const job<T> &a, const sequence &s, const short_tiles<T, D> &tiles, int head, int first)
{
    constexpr int N = SHORT / 8;
    if (first >= s.q_count) return;
    short_queries<DROP> queries(a, s, head, first);
    const int columns = queries.most();
    float p[N][4] = {}, ds[N][4] = {}, dq[D / 8][4] = {};
    if (columns > 0) {
        product<D>(p, tiles.q + first * PITCH<T, D>, tiles.k, columns);
        product<D>(ds, tiles.d_o + first * PITCH<T, D>, tiles.v, columns);
        queries.differentiate(p, ds, a, head, DROP ? *a.drop.step : 0, columns);
        accumulate<D>(dq, ds, tiles.k, columns);
    }
    short_keep(tiles.p + first * PITCH<T, SHORT>, p, s.k_count);
    short_keep(tiles.ds + first * PITCH<T, SHORT>, ds, s.k_count);
    const float factor[2] = {a.scale, a.scale};
    tile_store(a.dq.row(s.q_first + first) + (int64_t)head * a.head_size, a.dq.stride, dq, factor, s.q_count - first, a.head_size);
}

/* Blocks of a multiprocessor, which bounds registers. */
template <class T, int D, bool GROUPED>
constexpr int SHORT_BLOCKS = GROUPED ? 2 : D <= 32 && sizeof(T) == 2 ? 4 : 3;

/* GROUPED: several query heads share the K/V head. Else dk and dv need no registers while the queries' half runs. */
template <class T, int D, bool DROP, bool GROUPED>
__global__ void __launch_bounds__(128, (SHORT_BLOCKS<T, D, GROUPED>)) short_kernel(const job<T> a, int q_rows, int k_rows)
{
    HN_DYNAMIC_SHARED(memory);
    const sequence s = sequence_of(a, (int)blockIdx.x);
    const int kv_head = (int)blockIdx.y, first = (int)threadIdx.x / 32 * WARP_ROWS, heads = GROUPED ? a.group : 1;
    const int64_t k_column = (int64_t)kv_head * a.head_size;
    const short_tiles<T, D> tiles(memory, q_rows, k_rows);
    float dk[D / 8][4] = {}, dv[D / 8][4] = {};

    load_pair<T, D>(tiles.k, k_rows, a.k, a.v, s.k_first, k_column, s.k_count, a.head_size);
    for (int h = 0; h < heads; h++) {
        const int head = kv_head * heads + h;
        load_pair<T, D>(tiles.q, q_rows, a.q, a.d_o, s.q_first, (int64_t)head * a.head_size, s.q_count, a.head_size);
        ptx_copy_commit();
        ptx_copy_wait<0>();
        __syncthreads();
        short_query_half<T, D, DROP>(a, s, tiles, head, first);
        __syncthreads();
        if (first < s.k_count) {
            accumulate_turned<D, SHORT>(dv, tiles.p + first, tiles.d_o, s.q_count);
            accumulate_turned<D, SHORT>(dk, tiles.ds + first, tiles.q, s.q_count);
        }
        if (GROUPED) __syncthreads(); /* before the next head's tiles arrive */
    }
    const float one[2] = {1.0f, 1.0f}, factor[2] = {a.scale, a.scale};
    tile_store(a.dk.row(s.k_first + first) + k_column, a.dk.stride, dk, factor, s.k_count - first, a.head_size);
    tile_store(a.dv.row(s.k_first + first) + k_column, a.dv.stride, dv, one, s.k_count - first, a.head_size);
}

template <class T, int D> void short_launch(hn_ops_context *ctx, const job<T> &a, const hn_attention *p)
{
    const int q_rows = round_up(p->longest_q, WARP_ROWS), k_rows = round_up(p->longest_k, WARP_ROWS);
    const int warps = (q_rows > k_rows ? q_rows : k_rows) / WARP_ROWS;
    void (*kernel)(job<T>, int, int) = nullptr;
    if (a.group == 1)
        kernel = a.drop.step ? short_kernel<T, D, true, false> : short_kernel<T, D, false, false>;
    else
        kernel = a.drop.step ? short_kernel<T, D, true, true> : short_kernel<T, D, false, true>;
    launch(ctx, "attention_backward", kernel, dim3((unsigned)p->n, (unsigned)p->kv_heads), warps * 32,
           short_tiles<T, D>::size(q_rows, k_rows), a, q_rows, k_rows);
}

/* Whether the sequences of this call are short. */
static inline bool all_short(const hn_attention *p)
{
    const int32_t longest = p->longest_q > p->longest_k ? p->longest_q : p->longest_k;
    return p->head_size <= SHORT_HEAD && longest > 0 && longest <= SHORT;
}

#endif
