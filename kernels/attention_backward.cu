/* Attention on the GPU, backward. Sequences that fit a tile go another way (cuda/attention_short.cuh); the others in three kernels, each with a fixed order of summation and without atomics:
 *
 *     delta = do . o                          a warp a row and head
 *     dq = ds k                               a block has queries and goes over their keys
 *     dv = p^T do, dk = ds^T q                a block has keys and goes over the queries of all heads that
 * share them
 *
 * with ds = p (dropout(do v^T) - delta) scale. The last two make p again from lse: one pass over both would
 * save two of seven products and need atomics or a buffer for dq. The last works on the transposed tile, keys
 * as rows, so that p^T and ds^T are left operands in the registers where they arise; at head sizes above 128
 * two blocks make half of the columns each (registers).
 *
 *     shared memory     own rows, two tiles [16 warps][D] (q and do; k and v), then STAGES pairs [COLUMNS][D]
 * (k and v; q and do) */
#include "kernels/cuda/attention_short.cuh"

extern "C" {
#include "kernels/attention.h"
}

namespace {

/* delta = do . o: a warp a row and head. */
template <class T> __global__ void __launch_bounds__(128) delta_kernel(const job<T> a)
{
    const int64_t row = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    const int lane = (int)threadIdx.x % 32;
    const int64_t column = (int64_t)blockIdx.y * a.head_size;
    if (row >= a.query_rows) return;
    float sum = 0.0f;
    for (int c = 2 * lane; c < a.head_size; c += 64) {
        float x[2], y[2];
        load(x, a.d_o.row(row) + column + c);
        load(y, a.o.row(row) + column + c);
        sum += x[0] * y[0] + x[1] * y[1];
    }
    sum = lanes_sum<32>(sum);
    if (lane == 0) a.delta[blockIdx.y * a.query_rows + row] = sum;
}

/* What backward needs of a query. */
struct query_info {
    float lse, delta; /* lse in base 2 */
    int limit;        /* keys that it sees */
    drop_query drop;
};

template <class T>
__device__ __forceinline__ query_info query_info_of(const job<T> &a, const sequence &s, int head, int i,
                                                    bool drop)
{
    query_info info = {0.0f, 0.0f, visible(a, s, i), {0, 0}};
    if (i >= s.q_count) return info;
    const int64_t row = s.q_first + i;
    info.lse = a.lse[head * a.query_rows + row] * LOG2E;
    info.delta = a.delta[head * a.query_rows + row];
    if (drop) info.drop = drop_query_of(a.drop, row);
    return info;
}

/* Of one element: score and do . v to the dropped-out probability and ds / scale. */
__device__ __forceinline__ void differentiate(float &score, float &slope, const query_info &query, int key,
                                              bool kept, float scale, float kept_scale)
{
    const float p = key < query.limit ? ptx_exp2(score * scale - query.lse) : 0.0f,
                factor = kept ? kept_scale : 0.0f;
    score = p * factor;
    slope = p * (slope * factor - query.delta);
}

template <class T, int D, bool DROP>
__global__ void __launch_bounds__(128, shape<T, D>::BLOCKS) query_gradient_kernel(const job<T> a)
{
    using S = shape<T, D>;
    constexpr int COLUMNS = S::BACKWARD_COLUMNS, N = COLUMNS / 8, PAIR = 2 * COLUMNS * PITCH<T, D>;
    HN_DYNAMIC_SHARED(memory);
    const place at = place_of(a, true);
    const sequence &s = at.s;
    if (at.first >= s.q_count) return;
    const int head = (int)blockIdx.y, kv_head = head / a.group, seen = visible_most(a, s, at.first, at.rows);
    const int first = at.first + at.warp_first, i = first + at.lane / 4;
    const int64_t q_column = (int64_t)head * a.head_size;
    const query_info query[2] = {query_info_of(a, s, head, i, DROP), query_info_of(a, s, head, i + 8, DROP)};
    const drop_query drop[2] = {query[0].drop, query[1].drop};
    const int warp_seen = lanes_max<32>(max(query[0].limit, query[1].limit));
    const uint32_t step = DROP ? *a.drop.step : 0;
    T *own = (T *)memory, *pairs = own + 2 * at.rows * PITCH<T, D>;

    float dq[D / 8][4] = {};
    auto start = [&](int turn) {
        const int key = turn * COLUMNS;
        load_pair<T, D>(pairs + turn % S::STAGES * PAIR, COLUMNS, a.k, a.v, s.k_first + key,
                        (int64_t)kv_head * a.head_size, s.k_count - key, a.head_size);
    };
    auto use = [&](int turn) {
        const int key = turn * COLUMNS, columns = min(COLUMNS, warp_seen - key);
        const T *keys = pairs + turn % S::STAGES * PAIR, *values = keys + COLUMNS * PITCH<T, D>;
        if (columns <= 0) return;
        float p[N][4] = {}, ds[N][4] = {};
        product<D>(p, own + at.warp_first * PITCH<T, D>, keys, columns);
        product<D>(ds, own + (at.rows + at.warp_first) * PITCH<T, D>, values, columns);
        HN_UNROLL
        for (int n = 0; n < N; n++) {
            if (!piece_used(n, columns)) continue;
            const uint32_t kept = DROP ? drop_piece(a.drop, (uint32_t)head, step, drop, key + 8 * n) : 15;
            HN_UNROLL
            for (int e = 0; e < 4; e++)
                differentiate(p[n][e], ds[n][e], query[e / 2], key + 8 * n + at.lane % 4 * 2 + e % 2,
                              kept >> e & 1, a.scale * LOG2E, a.drop.scale);
        }
        accumulate<D>(dq, ds, keys, columns);
    };
    if (seen > 0) {
        load_pair<T, D>(own, at.rows, a.q, a.d_o, s.q_first + at.first, q_column, s.q_count - at.first,
                        a.head_size);
        start(0);
        ptx_copy_commit();
        stream<S::STAGES>((seen + COLUMNS - 1) / COLUMNS, start, use);
    }
    const float factor[2] = {a.scale, a.scale};
    tile_store(a.dq.row(s.q_first + first) + q_column, a.dq.stride, dq, factor, s.q_count - first,
               a.head_size);
}

/* The queries that a block of keys goes over: `tiles` tiles from query `first` on, of each of `group` heads.
 */
struct query_walk {
    int first, tiles;
};

template <class T>
__device__ __forceinline__ query_walk query_walk_of(const job<T> &a, const sequence &s, int key, int columns)
{
    int first = 0; /* with places of their own, any query may see the key */
    if (a.causal && !a.q_position) first = max(0, key - (s.k_count - s.q_count)) / columns * columns;
    return {first, first < s.q_count ? (s.q_count - first + columns - 1) / columns : 0};
}

template <class T, int D, bool DROP>
__global__ void __launch_bounds__(128, shape<T, D>::KEY_BLOCKS) key_gradient_kernel(const job<T> a)
{
    using S = shape<T, D>;
    constexpr int COLUMNS = S::BACKWARD_COLUMNS, N = COLUMNS / 8, PAIR = 2 * COLUMNS * PITCH<T, D>;
    HN_DYNAMIC_SHARED(memory);
    HN_SHARED(query_info, info, [S::STAGES][COLUMNS]);
    const place at = place_of(a, false);
    const sequence &s = at.s;
    if (at.first >= s.k_count) return;
    const int kv_head = (int)blockIdx.y, part = (int)blockIdx.z * S::PART, key = at.first + at.warp_first;
    const int64_t k_column = (int64_t)kv_head * a.head_size;
    const query_walk walk = query_walk_of(a, s, at.first, COLUMNS);
    const uint32_t step = DROP ? *a.drop.step : 0;
    T *own = (T *)memory, *pairs = own + 2 * at.rows * PITCH<T, D>;

    float dk[S::PART / 8][4] = {}, dv[S::PART / 8][4] = {};
    auto start = [&](int turn) {
        const int head = kv_head * a.group + turn / walk.tiles, i = walk.first + turn % walk.tiles * COLUMNS;
        load_pair<T, D>(pairs + turn % S::STAGES * PAIR, COLUMNS, a.q, a.d_o, s.q_first + i,
                        (int64_t)head * a.head_size, s.q_count - i, a.head_size);
        for (int c = (int)threadIdx.x; c < COLUMNS; c += (int)blockDim.x)
            info[turn % S::STAGES][c] = query_info_of(a, s, head, i + c, DROP);
    };
    auto use = [&](int turn) {
        const int head = kv_head * a.group + turn / walk.tiles, i = walk.first + turn % walk.tiles * COLUMNS;
        const T *queries = pairs + turn % S::STAGES * PAIR, *gradients = queries + COLUMNS * PITCH<T, D>;
        const int columns = min(COLUMNS, s.q_count - i);
        if (key >= s.k_count) return;
        float p[N][4] = {}, ds[N][4] = {};
        product<D>(p, own + at.warp_first * PITCH<T, D>, queries, columns);
        product<D>(ds, own + (at.rows + at.warp_first) * PITCH<T, D>, gradients, columns);
        HN_UNROLL
        for (int n = 0; n < N; n++) {
            if (!piece_used(n, columns)) continue;
            const query_info *query = info[turn % S::STAGES] + 8 * n + at.lane % 4 * 2;
            const drop_query drop[2] = {query[0].drop, query[1].drop};
            const uint32_t kept = DROP ? drop_piece_turned(a.drop, (uint32_t)head, step, drop, key) : 15;
            HN_UNROLL
            for (int e = 0; e < 4; e++)
                differentiate(p[n][e], ds[n][e], query[e % 2], key + at.lane / 4 + e / 2 * 8, kept >> e & 1,
                              a.scale * LOG2E, a.drop.scale);
        }
        accumulate<D>(dv, p, gradients + part, columns);
        accumulate<D>(dk, ds, queries + part, columns);
    };
    if (walk.tiles > 0) {
        load_pair<T, D>(own, at.rows, a.k, a.v, s.k_first + at.first, k_column, s.k_count - at.first,
                        a.head_size);
        start(0);
        ptx_copy_commit();
        stream<S::STAGES>(a.group * walk.tiles, start, use);
    }
    const float one[2] = {1.0f, 1.0f}, factor[2] = {a.scale, a.scale};
    const int valid = s.k_count - key, width = a.head_size - part;
    tile_store(a.dk.row(s.k_first + key) + k_column + part, a.dk.stride, dk, factor, valid, width);
    tile_store(a.dv.row(s.k_first + key) + k_column + part, a.dv.stride, dv, one, valid, width);
}

template <class T, int D> void backward_launch(hn_ops_context *ctx, job<T> a, const hn_attention *p)
{
    using S = shape<T, D>;
    const char *name = "attention_backward";
    if (p->longest_q > 0) {
        const block_size size = block_size_of<T, D>(2, S::BACKWARD_COLUMNS, p->longest_q, p->longest_k);
        a.tiles = (int)size.tiles;
        launch(ctx, name, delta_kernel<T>, dim3((unsigned)ceil_div(a.query_rows, 4), (unsigned)p->heads), 128,
               0, a);
        launch(ctx, name,
               a.drop.step ? query_gradient_kernel<T, D, true> : query_gradient_kernel<T, D, false>,
               dim3((unsigned)(size.tiles * p->n), (unsigned)p->heads), size.warps * 32, size.shared, a);
    }
    if (p->longest_k > 0) {
        const int64_t turns =
            p->longest_q * (int64_t)a.group; /* more than one tile as soon as heads share keys */
        const block_size size = block_size_of<T, D>(2, S::BACKWARD_COLUMNS, p->longest_k,
                                                    a.group == 1 ? turns : S::BACKWARD_COLUMNS + 1);
        a.tiles = (int)size.tiles;
        launch(ctx, name, a.drop.step ? key_gradient_kernel<T, D, true> : key_gradient_kernel<T, D, false>,
               dim3((unsigned)(size.tiles * p->n), (unsigned)p->kv_heads, (unsigned)(D / S::PART)),
               size.warps * 32, size.shared, a);
    }
}

} // namespace

size_t hnp_cuda_attention_workspace(int64_t query_rows, int heads)
{
    return (size_t)query_rows * (size_t)heads * sizeof(float);
}

void HN_ISA_NAME(hnp_attention_backward)(hn_ops_context *ctx, const hn_tensor *dq, const hn_tensor *dk,
                                const hn_tensor *dv, const hn_tensor *d_o, const hn_tensor *o,
                                const float *lse, const hn_tensor *q, const hn_tensor *k, const hn_tensor *v,
                                const hn_attention *attention)
{
    const char *name = "attention_backward";
    auto run = [&](auto a) {
        using T = std::remove_pointer_t<decltype(a.q.data)>;
        a.d_o = matrix_of<T>(d_o);
        a.dq = matrix_of<T>(dq);
        a.dk = matrix_of<T>(dk);
        a.dv = matrix_of<T>(dv);
        a.lse = const_cast<float *>(lse); /* backward only reads it */
        a.delta =
            (float *)scratch_take(ctx, name, hnp_cuda_attention_workspace(a.query_rows, attention->heads));
        if (!a.delta && a.query_rows) return;
        with_head_size(attention->head_size, [&](auto d) {
            constexpr int D = decltype(d)::value;
            if constexpr (D <= SHORT_HEAD)
                if (all_short(attention)) return short_launch<T, D>(ctx, a, attention);
            backward_launch<T, D>(ctx, a, attention);
        });
    };
    if (!accepted(ctx, name, attention, {dq, dk, dv, d_o, o, q, k, v})) return;
    if (q->dtype == HN_F32)
        run(job_of<float>(q, k, v, o, attention));
    else
        run(job_of<bf16>(q, k, v, o, attention));
}
