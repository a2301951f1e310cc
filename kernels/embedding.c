/* See embedding.h. */
#include "kernels/embedding.h"

#include "core/error.h"
#include "kernels/scratch.h"
#include "kernels/vec.h"

/* Columns that one task of the backward pass owns: two cache lines of gradients. */
enum { OWNED = 32 };

typedef struct lookup {
    const hn_tensor *table;
    const int32_t *index;
    int32_t offset;
} lookup;

static bool in_range(hn_ops_context *ctx, const lookup *at, const char *what, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++) {
        int64_t i = (int64_t)at->index[r] + at->offset;
        if (i >= 0 && i < at->table->shape[0]) continue;
        hn_fail(ctx->error, HN_ERR_MISMATCH, "embedding: row %lld asks for %s %lld, the table has 0 to %lld",
                (long long)r, what, (long long)i, (long long)at->table->shape[0] - 1);
        return false;
    }
    return true;
}

/* The tables that are there, token first; -1 when an index is out of range. */
static int collect(hn_ops_context *ctx, lookup out[3], const hn_tensor *const tables[3],
                   const int32_t *const index[3], int32_t position_offset, const hn_tensor *y)
{
    static const char *const what[3] = {"token", "position", "type"};
    int count = 0;
    for (int i = 0; i < 3; i++) {
        if (!tables[i] || !tables[i]->data) continue;
        HN_ASSERT(tables[i]->shape[1] == y->shape[1]);
        out[count] = (lookup){tables[i], index[i], i == 1 ? position_offset : 0};
        if (!in_range(ctx, &out[count], what[i], y->shape[0])) return -1;
        count++;
    }
    return count;
}

void HN_ISA_NAME(hnp_embedding_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *token_table,
                                        const hn_tensor *position_table, const hn_tensor *type_table,
                                        const int32_t *ids, const int32_t *positions, const int32_t *types,
                                        int32_t position_offset)
{
    lookup at[3];
    int count = collect(ctx, at, (const hn_tensor *[]){token_table, position_table, type_table},
                        (const int32_t *[]){ids, positions, types}, position_offset, y);
    int64_t columns = y->shape[1];
#pragma omp parallel for schedule(static) if (y->shape[0] * columns > HNP_ALONE)
    for (int64_t r = 0; r < (count < 0 ? 0 : y->shape[0]); r++) {
        const void *row[3];
        for (int i = 0; i < count; i++) row[i] = hnp_row(at[i].table, (int64_t)at[i].index[r] + at[i].offset);
        for (int64_t c = 0; c < columns; c += HN_LANES) {
            vf sum = {0};
            for (int i = 0; i < count; i++) sum += vf_get(row[i], at[i].table->dtype, c, columns - c);
            vf_put(hnp_row(y, r), y->dtype, c, columns - c, sum);
        }
    }
}

static void add_columns(const lookup *at, const hn_tensor *dy, int64_t first, int64_t end)
{
    HN_ASSERT(at->table->dtype == HN_F32);
    for (int64_t r = 0; r < dy->shape[0]; r++) {
        float *to = hnp_row(at->table, (int64_t)at->index[r] + at->offset);
        for (int64_t c = first; c < end; c += HN_LANES) {
            vf sum = vf_get(to, HN_F32, c, end - c) + vf_get(hnp_row(dy, r), dy->dtype, c, end - c);
            vf_put(to, HN_F32, c, end - c, sum);
        }
    }
}

void HN_ISA_NAME(hnp_embedding_backward)(hn_ops_context *ctx, const hn_tensor *d_token, const hn_tensor *d_position,
                                         const hn_tensor *d_type, const hn_tensor *dy, const int32_t *ids,
                                         const int32_t *positions, const int32_t *types, int32_t position_offset)
{
    lookup at[3];
    int count = collect(ctx, at, (const hn_tensor *[]){d_token, d_position, d_type},
                        (const int32_t *[]){ids, positions, types}, position_offset, dy);
    int64_t columns = dy->shape[1];
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < columns; first += OWNED)
        for (int i = 0; i < count; i++) add_columns(&at[i], dy, first, hnp_least(first + OWNED, columns));
}
