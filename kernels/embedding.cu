/* Embeddings on the GPU, as embedding.h defines them.
 *
 * Forward is one pass: a row's indices are read once, and its up to three table rows are on their way
 * together. A row with an index outside a table is left as it was, its neighbours are written, and
 * synchronize says which it was.
 *
 * Backward adds each row of dy to the table row of its id, without atomics and in an order that depends on
 * the ids alone. For each table:
 *
 *     sort    pairs (id, row), 64 bits each, so that no two are equal and any sort is stable: chunks of 2,048
 * by a bitonic network in shared memory. One chunk, and that is all; else a pair's place in the whole is its
 * place in its chunk and, by bisection, the pairs below it in each other chunk pieces  sorted pairs in pieces
 * of `length` (32, or what makes 256 pieces): a warp has a piece and 32 vectors of columns, with the rows of
 * dy of eight pairs on their way. A run of equal ids that lies within a piece is added to its table row by
 * this warp, in rising order of rows: the CPU's order and its bits join    a run that goes on into other
 * pieces leaves a partial sum in each: the tail of the piece it begins in (which holds the table's row too)
 * and the head of those it goes on through; a block per such run adds the heads, every eighth one a warp,
 *             then the eight sums to the tail, and writes the table's row
 *
 *     sorted   | 5 5 7 7 | 7 7 7 7 | 7 8 9 9 |       pieces of four
 *     partial    - tail7   head7 -   head7 -         5, 8 and 9 are added at once; 7 is tail + (head + head)
 *
 * So the most frequent id, or the two rows of a type table, keep as many warps busy as there are pieces. Bits
 * depend on the ids, never on timing. Bytes moved, for a table: dy once, 8 bytes of pair a row and tile of
 * columns, each table row that is met read and written once, and at most two rows of partial sums a piece,
 * which is a sixteenth of dy (fp32) or an eighth (bf16) at 32 pairs a piece, written and read. A row whose
 * index is outside a table adds nothing to that one, and synchronize says so. */
#include "kernels/cuda/fault.cuh"
#include "kernels/cuda/rowwise.cuh"

extern "C" {
#include "kernels/embedding.h"
}

namespace {

constexpr int TABLES = 3;

/* Where the rows of a table are asked for. */
struct lookup {
    any_matrix table;
    const int32_t *index;
    int64_t offset, limit;
    hn_cuda_fault_kind kind;

    /* The table's row that r asks for; -1, and told, when there is none. */
    __device__ int64_t row(volatile hn_cuda_fault *fault, int64_t r) const
    {
        const int64_t i = index[r] + offset;
        return in_table(fault, kind, r, i, limit) ? i : -1;
    }
};

/* The tables that are there, token first. */
struct lookups {
    lookup of[TABLES];
    int count;
    volatile hn_cuda_fault *fault;
};

lookups lookups_of(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *const (&tables)[TABLES],
                   const int32_t *const (&index)[TABLES], int32_t position_offset)
{
    static const hn_cuda_fault_kind kinds[TABLES] = {HN_FAULT_TOKEN, HN_FAULT_POSITION, HN_FAULT_TYPE};
    lookups at = {};
    at.fault = fault_of(ctx);
    for (int i = 0; i < TABLES; i++) {
        if (!present(tables[i])) continue;
        HN_ASSERT(tables[i]->shape[1] == y->shape[1]);
        at.of[at.count++] = {any_matrix_of(tables[i]), index[i], i == 1 ? position_offset : 0,
                             tables[i]->shape[0], kinds[i]};
    }
    return at;
}

/* --- forward --- */

template <class T, int WIDTH> struct sum_pass {
    static constexpr int N = WIDTH;
    matrix<T> y;
    lookups at;

    struct key {
        int64_t r;
        int row[TABLES];
    };
    struct vector {
        any_vector<N> part[TABLES];
    };
    __device__ bool begin(key &k, int64_t r) const
    {
        k.r = r;
        HN_UNROLL
        for (int i = 0; i < TABLES; i++) {
            k.row[i] = i < at.count ? (int)at.of[i].row(at.fault, r) : 0;
            if (k.row[i] < 0) return false;
        }
        return true;
    }
    __device__ void fetch(vector &v, const key &k, int c) const
    {
        HN_UNROLL
        for (int i = 0; i < TABLES; i++)
            if (i < at.count)
                load_any(v.part[i], at.of[i].table, k.row[i], c);
            else
                v.part[i] = {};
    }
    __device__ void finish(const key &k, int c, vector &v) const
    {
        float sum[N] = {};
        HN_UNROLL
        for (int t = 0; t < TABLES; t++) {
            HN_UNROLL
            for (int i = 0; i < N; i++)
                if (t < at.count) sum[i] += any_element(v.part[t], at.of[t].table, i);
        }
        store(y.row(k.r) + c, sum);
    }
};

/* --- sort --- */

constexpr int CHUNK = 2048, RANK_THREADS = 256;
constexpr uint32_t NOBODY = 0xffffffffu; /* the id of rows that add nothing, after all others */

struct sort_job {
    lookups at;
    uint64_t *pairs; /* [tables][2][padded]: sorted chunks, sorted pairs; id << 32 | row */
    int64_t rows, padded;

    __device__ uint64_t *chunks(int table) const { return pairs + 2 * table * padded; }
    __device__ uint64_t *sorted(int table) const { return chunks(table) + padded; }
};

__device__ uint64_t pair_of(const sort_job &a, int table, int64_t r)
{
    const int64_t id = r < a.rows ? a.at.of[table].row(a.at.fault, r) : -1;
    return (uint64_t)(id < 0 ? NOBODY : (uint32_t)id) << 32 | (uint64_t)r;
}

/* Block (x, y) sorts chunk x of table y, with two of its pairs a thread: after the turn of `size` runs of so
 * many are sorted, up and down by turns. */
__global__ void __launch_bounds__(CHUNK / 2) sort_chunk_kernel(const sort_job a)
{
    HN_DYNAMIC_SHARED(memory);
    uint64_t *pair = (uint64_t *)memory;
    const int half = (int)blockDim.x, t = (int)threadIdx.x;
    const int64_t first = (int64_t)blockIdx.x * 2 * half;
    pair[t] = pair_of(a, (int)blockIdx.y, first + t);
    pair[t + half] = pair_of(a, (int)blockIdx.y, first + t + half);
    __syncthreads();
    for (int size = 2; size <= 2 * half; size *= 2)
        for (int step = size / 2; step > 0; step /= 2) {
            const int i = 2 * t - t % step, j = i + step;
            const uint64_t low = pair[i], high = pair[j];
            if ((low > high) == !(i & size)) {
                pair[i] = high;
                pair[j] = low;
            }
            __syncthreads();
        }
    uint64_t *to = (gridDim.x == 1 ? a.sorted((int)blockIdx.y) : a.chunks((int)blockIdx.y)) + first;
    to[t] = pair[t];
    to[t + half] = pair[t + half];
}

/* Pairs of a sorted chunk that come before `mine`. */
__device__ int below(const uint64_t *chunk, uint64_t mine)
{
    int at = 0;
    for (int half = CHUNK / 2; half > 0; half /= 2) at += chunk[at + half - 1] < mine ? half : 0;
    return at + (chunk[at] < mine);
}

__global__ void __launch_bounds__(RANK_THREADS) rank_kernel(const sort_job a)
{
    const uint64_t *chunks = a.chunks((int)blockIdx.y);
    const int64_t place = (int64_t)blockIdx.x * RANK_THREADS + threadIdx.x, own = place / CHUNK * CHUNK;
    const uint64_t mine = chunks[place];
    int64_t rank = place - own;
    for (int64_t other = 0; other < a.padded; other += CHUNK)
        if (other != own) rank += below(chunks + other, mine);
    a.sorted((int)blockIdx.y)[rank] = mine;
}

/* --- pieces --- */

constexpr int PIECES = 256, PIECE_LEAST = 32, PIECE_WARPS = 4, AHEAD = 8;

template <class T> struct add_job {
    matrix<T> dy;
    matrix<float> table;
    const uint64_t *sorted;
    float *partial; /* [pieces][head, tail][columns] */
    int64_t rows;
    int columns, length, pieces;

    __device__ uint32_t id(int64_t place) const { return (uint32_t)(sorted[place] >> 32); }
    __device__ int64_t first(int piece) const { return (int64_t)piece * length; }
    __device__ float *head(int piece) const { return partial + 2 * (int64_t)piece * columns; }
    __device__ float *tail(int piece) const { return head(piece) + columns; }
};

/* A piece, and the ids on both sides of it: runs of those are shared with other pieces. */
struct piece_at {
    int number, count;
    uint32_t before, after;
};

template <class T> __device__ piece_at piece_of(const add_job<T> &a, int number)
{
    const int64_t first = a.first(number), left = a.rows - first;
    const int count = left < a.length ? (int)left : a.length;
    return {number, count, first ? a.id(first - 1) : NOBODY, left > count ? a.id(first + count) : NOBODY};
}

/* Where the sum of a run goes. */
template <class T> __device__ float *target(const add_job<T> &a, const piece_at &p, uint32_t id)
{
    return id == p.before ? a.head(p.number) : id == p.after ? a.tail(p.number) : a.table.row(id);
}

template <int N> struct run {
    uint32_t id; /* NOBODY: none */
    float sum[N];
};

/* Adds AHEAD pairs, of which this lane holds one: lane `from` the first. Loads of all are started before the
 * first is added. `inside`: the lane has columns. */
template <class T, int N>
__device__ __forceinline__ void add_pairs(run<N> &at, const add_job<T> &a, const piece_at &p, uint64_t mine,
                                          int from, int c, bool inside)
{
    uint32_t id[AHEAD];
    pack<T, N> dy[AHEAD];
    float start[AHEAD][N];
    HN_UNROLL
    for (int u = 0; u < AHEAD; u++) {
        id[u] = __shfl_sync(0xffffffffu, (uint32_t)(mine >> 32), from + u);
        const uint32_t row = __shfl_sync(0xffffffffu, (uint32_t)mine, from + u), last = u ? id[u - 1] : at.id;
        if (!inside || id[u] == NOBODY) continue;
        dy[u] = *reinterpret_cast<const pack<T, N> *>(a.dy.row(row) + c);
        if (id[u] != last && id[u] != p.before) load(start[u], a.table.row(id[u]) + c);
    }
    HN_UNROLL
    for (int u = 0; u < AHEAD; u++) {
        if (!inside || id[u] == NOBODY) continue;
        if (id[u] != at.id) {
            if (at.id != NOBODY) store(target(a, p, at.id) + c, at.sum);
            HN_UNROLL
            for (int i = 0; i < N; i++) at.sum[i] = id[u] == p.before ? 0.0f : start[u][i];
            at.id = id[u];
        }
        HN_UNROLL
        for (int i = 0; i < N; i++) at.sum[i] += to_float(dy[u].element[i]);
    }
}

template <class T, int N>
__global__ void __launch_bounds__(PIECE_WARPS * 32) add_pieces_kernel(const add_job<T> a, int tiles)
{
    const int lane = (int)threadIdx.x % 32, unit = (int)blockIdx.x * PIECE_WARPS + (int)threadIdx.x / 32;
    if (unit >= a.pieces * tiles) return; /* a whole warp */
    const piece_at p = piece_of(a, unit / tiles);
    const int c = (unit % tiles * 32 + lane) * N;
    run<N> at = {NOBODY, {}};
    for (int turn = 0; turn < p.count; turn += 32) {
        const int place = turn + lane;
        const uint64_t mine = place < p.count ? a.sorted[a.first(p.number) + place] : ~(uint64_t)0;
        for (int from = 0; from < 32 && turn + from < p.count; from += AHEAD)
            add_pairs(at, a, p, mine, from, c, c < a.columns);
    }
    if (at.id != NOBODY) store(target(a, p, at.id) + c, at.sum);
}

/* --- join --- */

constexpr int JOIN_WARPS = 8;

/* Pieces after `number` that go on with `id`; the whole warp must come. */
template <class T> __device__ int heads_after(const add_job<T> &a, int number, uint32_t id)
{
    int heads = 0;
    uint32_t found = 0xffffffffu;
    while (found == 0xffffffffu) {
        const int piece = number + 1 + heads + (int)threadIdx.x % 32;
        found = __ballot_sync(0xffffffffu, piece < a.pieces && a.id(a.first(piece)) == id);
        heads += __popc(found);
    }
    return heads;
}

/* Block (x, y): the run that begins in piece x and goes on, if there is one, and 32 vectors of columns. */
template <class T, int N> __global__ void __launch_bounds__(JOIN_WARPS * 32) join_kernel(const add_job<T> a)
{
    HN_SHARED(float, sums, [JOIN_WARPS][32 * N]);
    const piece_at p = piece_of(a, (int)blockIdx.x);
    const uint32_t id = a.id(a.first(p.number) + p.count - 1);
    if (id == NOBODY || id != p.after || id == p.before) return; /* the whole block */
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32,
              c = ((int)blockIdx.y * 32 + lane) * N;
    const int heads = heads_after(a, p.number, id);
    float sum[N] = {};
    for (int h = warp; h < heads && c < a.columns; h += JOIN_WARPS) {
        float one[N];
        load(one, a.head(p.number + 1 + h) + c);
        HN_UNROLL
        for (int i = 0; i < N; i++) sum[i] += one[i];
    }
    store(&sums[warp][lane * N], sum);
    __syncthreads();
    if (warp || c >= a.columns) return;
    load(sum, a.tail(p.number) + c);
    for (int w = 0; w < JOIN_WARPS; w++) {
        HN_UNROLL
        for (int i = 0; i < N; i++) sum[i] += sums[w][lane * N + i];
    }
    store(a.table.row(id) + c, sum);
}

/* --- launchers --- */

/* Pairs of a chunk, and of all chunks. */
int chunk_of(int64_t rows)
{
    int chunk = 64;
    while (chunk < CHUNK && chunk < rows) chunk *= 2;
    return chunk;
}

int64_t padded_of(int64_t rows)
{
    return ceil_div(rows, chunk_of(rows)) * chunk_of(rows);
}

void sort(hn_ops_context *ctx, const sort_job &a)
{
    const int chunk = chunk_of(a.rows);
    const unsigned tables = (unsigned)a.at.count, chunks = (unsigned)(a.padded / chunk);
    launch(ctx, "embedding_backward", sort_chunk_kernel, dim3(chunks, tables), chunk / 2,
           (size_t)chunk * sizeof(uint64_t), a);
    if (chunks > 1)
        launch(ctx, "embedding_backward", rank_kernel, dim3((unsigned)(a.padded / RANK_THREADS), tables),
               RANK_THREADS, 0, a);
}

template <class T, int N> void add(hn_ops_context *ctx, const add_job<T> &a)
{
    constexpr int JOINED = N == 1 ? 1 : 4;
    const int tiles = (int)ceil_div(a.columns, 32 * N);
    launch(ctx, "embedding_backward", add_pieces_kernel<T, N>,
           dim3((unsigned)ceil_div((int64_t)a.pieces * tiles, PIECE_WARPS)), PIECE_WARPS * 32, 0, a, tiles);
    if (a.pieces > 1)
        launch(ctx, "embedding_backward", join_kernel<T, JOINED>,
               dim3((unsigned)a.pieces - 1, (unsigned)ceil_div(a.columns, 32 * JOINED)), JOIN_WARPS * 32, 0,
               a);
}

} // namespace

void HN_ISA_NAME(hnp_embedding_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *token_table,
                                        const hn_tensor *position_table, const hn_tensor *type_table,
                                        const int32_t *ids, const int32_t *positions, const int32_t *types,
                                        int32_t position_offset)
{
    const lookups at = lookups_of(ctx, y, {token_table, position_table, type_table}, {ids, positions, types},
                                  position_offset);
    with_vectors(y->dtype, y->shape[1], {y, token_table, position_table, type_table}, [&](auto zero, auto n) {
        using T = decltype(zero);
        const sum_pass<T, n.value> pass = {matrix_of<T>(y), at};
        rowwise(ctx, "embedding_forward", pass, y->shape[0], y->shape[1]);
    });
}

size_t hnp_cuda_embedding_workspace(int64_t rows, int64_t columns)
{
    const int64_t most = ceil_div(rows, PIECE_LEAST), pieces = most < PIECES ? most : PIECES;
    return TABLES * 2 * (size_t)padded_of(rows) * sizeof(uint64_t) +
           2 * (size_t)pieces * (size_t)columns * sizeof(float);
}

void HN_ISA_NAME(hnp_embedding_backward)(hn_ops_context *ctx, const hn_tensor *d_token,
                                         const hn_tensor *d_position, const hn_tensor *d_type,
                                         const hn_tensor *dy, const int32_t *ids, const int32_t *positions,
                                         const int32_t *types, int32_t position_offset)
{
    const int64_t rows = dy->shape[0], columns = dy->shape[1];
    const hn_tensor *const tables[TABLES] = {d_token, d_position, d_type};
    const lookups at = lookups_of(ctx, dy, tables, {ids, positions, types}, position_offset);
    if (!rows || !at.count) return;
    HN_ASSERT(rows <= INT32_MAX && columns < INT_MAX / 2);
    char *scratch =
        (char *)scratch_take(ctx, "embedding_backward", hnp_cuda_embedding_workspace(rows, columns));
    if (!scratch) return;
    const sort_job pairs = {at, (uint64_t *)scratch, rows, padded_of(rows)};
    sort(ctx, pairs);
    const int64_t length = ceil_div(ceil_div(rows, PIECES), PIECE_LEAST) * PIECE_LEAST;
    int number = 0;
    for (const hn_tensor *table : tables) {
        if (!present(table)) continue;
        HN_ASSERT(table->dtype == HN_F32);
        with_vectors(dy->dtype, columns, {dy, table}, [&](auto zero, auto n) {
            using T = decltype(zero);
            add<T, n.value>(ctx, {matrix_of<T>(dy), matrix_of<float>(table),
                                  pairs.pairs + (2 * number + 1) * pairs.padded,
                                  (float *)(pairs.pairs + 2 * TABLES * pairs.padded), rows, (int)columns,
                                  (int)length, (int)ceil_div(rows, length)});
        });
        number++;
    }
}
