/* Attention on the GPU, as attention.h defines it: FlashAttention-2's algorithm (Dao 2023). Nothing of size
 * [T, T] is stored.
 *
 * Forward. A block has one head of one sequence and up to 64 queries, 16 a warp; it goes over the keys tile
 * by tile with an online softmax in base 2:
 *
 *     s = q k^T scale log2(e)    top' = max(top, s)    p = 2^(s - top')    sum = sum 2^(top - top') + p out =
 * out 2^(...) + p v
 *
 * Backward, in three kernels, each with a fixed order of summation and without atomics: delta = do . o; then
 * dq, a block has queries and goes over keys; then dk and dv, a block has keys and goes over the queries of
 * all heads that share them. Both make p again from lse. (One pass over both would save two of seven products
 * and need atomics or a buffer for dq.) The last works on the transposed tile, keys as rows, so that p^T and
 * ds^T are left operands in the registers where they arise.
 *
 *     shared memory     own rows [16 warps][D] (q; q and do; k and v), then STAGES pairs of tiles
 * [COLUMNS][D] (k and v; q and do)
 *
 * The next pair is on its way (cp.async) while this one is used. Short sequences: a block has only as many
 * warps, and one stage only, as the longest sequence needs; warps without rows skip the products, pieces of
 * 16 columns without content too. Head sizes are rounded up to 32, 64, 128 or 256 with zeros. At 256 dk and
 * dv are made in two halves by two blocks (registers).
 *
 * fp32 runs the same kernels on multiply-add instead of tensor cores (tile.cuh). */
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/random.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/tile.cuh"
#include "kernels/cuda/vector.cuh"

#include <math.h>

#include <type_traits>

namespace {

constexpr float LOG2E = 1.4426950408889634f, LN2 = 0.6931471805599453f;

/* What fits registers and sm_80's shared memory, for each type and padded head size. */
template <class T, int D> struct shape {
    static constexpr bool BF16 = sizeof(T) == 2;
    static constexpr int WARPS = !BF16 && D == 256 ? 2 : 4;
    static constexpr int STAGES = BF16 ? 2 : 1;
    static constexpr int COLUMNS = BF16 && D <= 128 ? 64 : 32;         /* keys a tile, forward */
    static constexpr int BACKWARD_COLUMNS = BF16 && D <= 64 ? 64 : 32; /* keys or queries a tile */
    static constexpr int PART = D < 128 ? D : 128;                     /* columns of dk and dv a block */
    static constexpr int BLOCKS = D <= 64 ? 3 : D == 128 ? 2 : 1; /* of a multiprocessor: bounds registers */
};

template <class T> struct job {
    matrix<T> q, k, v, o, d_o, dq, dk, dv;
    float *lse, *delta; /* [heads, query_rows] */
    const int32_t *cu_q, *cu_k, *q_position;
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
    return {q, a.cu_q[number + 1] - q, k, a.cu_k[number + 1] - k};
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

__device__ __forceinline__ int round_up(int n, int to)
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

/* --- forward --- */

template <int D> struct running {
    float top[2], sum[2], out[D / 8][4]; /* of rows g and g + 8; sum of this lane's columns only */
};

/* Scores to probabilities against the new maximum; what was summed before is scaled to it. */
template <int D, int N>
__device__ __forceinline__ void online_softmax(float (&s)[N][4], running<D> &state, const int (&limit)[2],
                                               int key, float scale)
{
    HN_UNROLL
    for (int r = 0; r < 2; r++) {
        float top = state.top[r];
        HN_UNROLL
        for (int i = 0; i < 2 * N; i++) {
            float &x = s[i / 2][2 * r + i % 2];
            x = key + i / 2 * 8 + i % 2 < limit[r] ? x * scale : -INFINITY;
            top = fmaxf(top, x);
        }
        top = lanes_max<4>(top);
        const float base = top == -INFINITY ? 0.0f : top, factor = ptx_exp2(state.top[r] - base);
        state.top[r] = top;
        state.sum[r] *= factor;
        HN_UNROLL
        for (int i = 0; i < 2 * N; i++) {
            float &x = s[i / 2][2 * r + i % 2];
            x = ptx_exp2(x - base);
            state.sum[r] += x;
        }
        HN_UNROLL
        for (int i = 0; i < D / 4; i++) state.out[i / 2][2 * r + i % 2] *= factor;
    }
}

template <int N>
__device__ __forceinline__ void drop_probabilities(float (&p)[N][4], const drop_site &site, int head,
                                                   uint32_t step, const drop_query (&query)[2], int key,
                                                   int columns)
{
    HN_UNROLL
    for (int n = 0; n < N; n++) {
        if (8 * n >= columns) continue;
        const uint32_t kept = drop_piece(site, (uint32_t)head, step, query, key + 8 * n);
        HN_UNROLL
        for (int i = 0; i < 4; i++) p[n][i] = kept >> i & 1 ? p[n][i] : 0.0f;
    }
}

template <class T, int D>
__device__ __forceinline__ void forward_store(const job<T> &a, const running<D> &state, const place &at,
                                              int head)
{
    const int first = at.first + at.warp_first;
    float factor[2];
    HN_UNROLL
    for (int r = 0; r < 2; r++) {
        const float sum = lanes_sum<4>(state.sum[r]);
        const int i = first + at.lane / 4 + 8 * r;
        factor[r] = sum > 0.0f ? a.drop.scale / sum : 0.0f;
        if (a.lse && at.lane % 4 == 0 && i < at.s.q_count)
            a.lse[head * a.query_rows + at.s.q_first + i] =
                sum > 0.0f ? (state.top[r] + log2f(sum)) * LN2 : -INFINITY;
    }
    tile_store(a.o.row(at.s.q_first + first) + (int64_t)head * a.head_size, a.o.stride, state.out, factor,
               at.s.q_count - first, a.head_size);
}

template <class T, int D, bool DROP>
__global__ void __launch_bounds__(128, shape<T, D>::BLOCKS) forward_kernel(const job<T> a)
{
    using S = shape<T, D>;
    constexpr int COLUMNS = S::COLUMNS, PAIR = 2 * COLUMNS * PITCH<T, D>;
    HN_DYNAMIC_SHARED(memory);
    const place at = place_of(a, true);
    const sequence &s = at.s;
    if (at.first >= s.q_count) return;
    const int head = (int)blockIdx.y, kv_head = head / a.group, seen = visible_most(a, s, at.first, at.rows);
    T *own = (T *)memory, *pairs = own + at.rows * PITCH<T, D>;

    int limit[2];
    drop_query query[2] = {};
    HN_UNROLL
    for (int r = 0; r < 2; r++) {
        const int i = at.first + at.warp_first + at.lane / 4 + 8 * r;
        limit[r] = visible(a, s, i);
        if (DROP && i < s.q_count) query[r] = drop_query_of(a.drop, s.q_first + i);
    }
    const int warp_seen = lanes_max<32>(max(limit[0], limit[1]));
    const uint32_t step = DROP ? *a.drop.step : 0;

    running<D> state = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}, {}};
    auto start = [&](int turn) {
        const int key = turn * COLUMNS;
        load_pair<T, D>(pairs + turn % S::STAGES * PAIR, COLUMNS, a.k, a.v, s.k_first + key,
                        (int64_t)kv_head * a.head_size, s.k_count - key, a.head_size);
    };
    auto use = [&](int turn) {
        const int key = turn * COLUMNS, columns = min(COLUMNS, warp_seen - key);
        const T *keys = pairs + turn % S::STAGES * PAIR, *values = keys + COLUMNS * PITCH<T, D>;
        if (columns <= 0) return;
        float p[COLUMNS / 8][4] = {};
        product<D>(p, own + at.warp_first * PITCH<T, D>, keys, columns);
        online_softmax(p, state, limit, key + at.lane % 4 * 2, a.scale * LOG2E);
        if (DROP) drop_probabilities(p, a.drop, head, step, query, key, columns);
        accumulate<D>(state.out, p, values, columns);
    };
    if (seen > 0) {
        tile_load<T, D>(own, a.q.row(s.q_first + at.first) + (int64_t)head * a.head_size, a.q.stride, at.rows,
                        s.q_count - at.first, a.head_size);
        start(0);
        ptx_copy_commit();
        stream<S::STAGES>((seen + COLUMNS - 1) / COLUMNS, start, use);
    }
    forward_store(a, state, at, head);
}

/* --- backward --- */

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
            if (8 * n >= columns) continue;
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
__global__ void __launch_bounds__(128, shape<T, D>::BLOCKS) key_gradient_kernel(const job<T> a)
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
            if (8 * n >= columns) continue;
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

/* --- launchers --- */

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

template <class T, int D> void forward_launch(hn_ops_context *ctx, job<T> a, const hn_attention *p)
{
    const block_size size = block_size_of<T, D>(1, shape<T, D>::COLUMNS, p->longest_q, p->longest_k);
    a.tiles = (int)size.tiles;
    launch(ctx, "attention_forward", a.drop.step ? forward_kernel<T, D, true> : forward_kernel<T, D, false>,
           dim3((unsigned)(size.tiles * p->n), (unsigned)p->heads), size.warps * 32, size.shared, a);
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
    a.query_rows = q->shape[0];
    a.group = p->heads / p->kv_heads;
    a.head_size = p->head_size;
    a.scale = p->scale;
    a.causal = p->causal;
    a.drop = drop_site_of(&p->dropout);
    return a;
}

/* Whether the kernels take these tensors; otherwise the failure is recorded. */
bool accepted(hn_ops_context *ctx, const char *name, const hn_attention *p,
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

} // namespace

void hn_cuda_attention_forward(hn_ops_context *ctx, const hn_tensor *o, float *lse, const hn_tensor *q,
                               const hn_tensor *k, const hn_tensor *v, const hn_attention *attention)
{
    auto run = [&](auto a) {
        a.lse = lse;
        using T = std::remove_pointer_t<decltype(a.q.data)>;
        with_head_size(attention->head_size,
                       [&](auto d) { forward_launch<T, decltype(d)::value>(ctx, a, attention); });
    };
    if (!accepted(ctx, "attention_forward", attention, {o, q, k, v}) || attention->longest_q <= 0) return;
    if (q->dtype == HN_F32)
        run(job_of<float>(q, k, v, o, attention));
    else
        run(job_of<bf16>(q, k, v, o, attention));
}

size_t hn_cuda_attention_workspace(int64_t query_rows, int heads)
{
    return (size_t)query_rows * (size_t)heads * sizeof(float);
}

void hn_cuda_attention_backward(hn_ops_context *ctx, const hn_tensor *dq, const hn_tensor *dk,
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
            (float *)scratch_take(ctx, name, hn_cuda_attention_workspace(a.query_rows, attention->heads));
        if (a.delta || !a.query_rows)
            with_head_size(attention->head_size,
                           [&](auto d) { backward_launch<T, decltype(d)::value>(ctx, a, attention); });
    };
    if (!accepted(ctx, name, attention, {dq, dk, dv, d_o, o, q, k, v})) return;
    if (q->dtype == HN_F32)
        run(job_of<float>(q, k, v, o, attention));
    else
        run(job_of<bf16>(q, k, v, o, attention));
}
