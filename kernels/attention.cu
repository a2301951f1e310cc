/* Attention on the GPU, forward, as attention.h defines it: FlashAttention-2's algorithm (Dao 2023). Nothing
 * of size [T, T] is stored. A block has one head of one sequence and up to 64 queries, 16 a warp; it goes
 * over the keys tile by tile with an online softmax in base 2:
 *
 *     s = q k^T scale log2(e)    top' = max(top, s)    p = 2^(s - top')    sum = sum 2^(top - top') + p out =
 * out 2^(...) + p v
 *
 *     shared memory     q [16 warps][D], then STAGES pairs of tiles k, v [COLUMNS][D]
 *
 * The next pair is on its way (cp.async) while this one is used. Short sequences: a block has only as many
 * warps, and one stage only, as the longest sequence needs; warps without rows skip the products, and so are
 * pieces of 16 columns without content. Head sizes are rounded up to 32, 64, 128 or 256 with zeros. fp32 runs
 * the same kernel on multiply-add instead of tensor cores (tile.cuh). */
#include "kernels/cuda/attention.cuh"

extern "C" {
#include "kernels/attention.h"
}

namespace {

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
        if (!piece_used(n, columns)) continue;
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

template <class T, int D> void forward_launch(hn_ops_context *ctx, job<T> a, const hn_attention *p)
{
    const block_size size = block_size_of<T, D>(1, shape<T, D>::COLUMNS, p->longest_q, p->longest_k);
    a.tiles = (int)size.tiles;
    launch(ctx, "attention_forward", a.drop.step ? forward_kernel<T, D, true> : forward_kernel<T, D, false>,
           dim3((unsigned)(size.tiles * p->n), (unsigned)p->heads), size.warps * 32, size.shared, a);
}

} // namespace

void HN_ISA_NAME(hnp_attention_forward)(hn_ops_context *ctx, const hn_tensor *o, float *lse, const hn_tensor *q,
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
