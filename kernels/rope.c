/* Rotary position embedding: a pass over memory, a row a task. The angles come from a table and not from sin and cos here: all
 * heads of all layers share them, and the reference rounds them its own way (rope_table_once.c). */
#include "kernels/rope.h"

#include "core/error.h"
#include "kernels/scratch.h"
#include "kernels/vec.h"

static bool positions_in_range(hn_ops_context *ctx, const int32_t *position, int64_t rows, int64_t count)
{
    for (int64_t r = 0; r < rows; r++) {
        if (position[r] >= 0 && position[r] < count) continue;
        hn_fail(ctx->error, HN_ERR_MISMATCH, "rope: row %lld is at position %d, the table has 0 to %lld", (long long)r,
                position[r], (long long)count - 1);
        return false;
    }
    return true;
}

HN_BODY void rotate_head(void *a, void *b, const float *cosine, const float *sine, int64_t half, bool backward, hn_dtype type)
{
    for (int64_t c = 0; c < half; c += HN_LANES) {
        int64_t left = half - c;
        vf first = vf_get(a, type, c, left), second = vf_get(b, type, c, left);
        vf turn = vf_get(cosine, HN_F32, c, left), cross = vf_get(sine, HN_F32, c, left);
        if (backward) cross = -cross;
        vf_put(a, type, c, left, first * turn - second * cross);
        vf_put(b, type, c, left, second * turn + first * cross);
    }
}

HN_BODY void rotate_rows(const hn_tensor *x, const hn_tensor *table, const int32_t *position, bool backward, hn_dtype type)
{
    int64_t size = table->shape[1], half = size / 2;
    size_t half_bytes = (size_t)half * (type == HN_F32 ? 4 : 2);
#pragma omp parallel for schedule(static) if (x->shape[0] * x->shape[1] > HNP_ALONE)
    for (int64_t r = 0; r < x->shape[0]; r++) {
        const float *cosine = hnp_row(table, position[r]);
        char *head = hnp_row(x, r);
        for (int64_t h = 0; h < x->shape[1]; h += size, head += 2 * half_bytes)
            rotate_head(head, head + half_bytes, cosine, cosine + half, half, backward, type);
    }
}

void HN_ISA_NAME(hnp_rope)(hn_ops_context *ctx, const hn_tensor *x, const hn_tensor *table, const int32_t *position,
                           bool backward)
{
    HN_ASSERT(table->dtype == HN_F32 && table->shape[1] > 0 && table->shape[1] % 2 == 0);
    HN_ASSERT(x->shape[1] % table->shape[1] == 0);
    if (!positions_in_range(ctx, position, x->shape[0], table->shape[0])) return;
    if (x->dtype == HN_F32) rotate_rows(x, table, position, backward, HN_F32);
    else rotate_rows(x, table, position, backward, HN_BF16);
}
