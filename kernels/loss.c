/* See loss.h. A block of HNP_SUM_ROWS rows adds up its own loss and count; blocks are added in order. */
#include "kernels/loss.h"

#include <math.h>

#include "core/error.h"
#include "kernels/scratch.h"
#include "kernels/vecmath.h"

typedef struct partial {
    double loss;
    int64_t count;
} partial;

static partial *take_partials(hn_ops_context *ctx, int64_t rows)
{
    hnp_scratch scratch = {.ctx = ctx};
    return hnp_scratch_take(&scratch, (size_t)hnp_ceil_div(rows, HNP_SUM_ROWS) * sizeof(partial));
}

static void add_partials(double *loss, int64_t *count, const partial *partials, int64_t rows)
{
    for (int64_t b = 0; b < hnp_ceil_div(rows, HNP_SUM_ROWS); b++) {
        *loss += partials[b].loss;
        *count += partials[b].count;
    }
}

static bool labels_in_range(hn_ops_context *ctx, const int32_t *label, int64_t rows, int64_t classes)
{
    for (int64_t r = 0; r < rows; r++) {
        if (label[r] == HN_NO_TARGET || (label[r] >= 0 && label[r] < classes)) continue;
        hn_fail(ctx->error, HN_ERR_MISMATCH, "cross entropy: row %lld has the label %d, expected 0 to %lld",
                (long long)r, label[r], (long long)classes - 1);
        return false;
    }
    return true;
}

static float row_highest(const void *row, hn_dtype type, int64_t classes)
{
    vf most = vf_all(-INFINITY);
    int64_t c = 0;
    for (; c + HN_LANES <= classes; c += HN_LANES) most = vf_max(vf_get(row, type, c, HN_LANES), most);
    for (; c < classes; c++) most = vf_max(vf_all(vf_get(row, type, c, 1)[0]), most);
    return vf_highest(most);
}

/* -sum q log softmax of one row, in fp64, and its gradient. */
static double entropy_row(void *d, hn_dtype d_type, const void *row, hn_dtype type, int64_t classes, int32_t label,
                          float smoothing, float scale)
{
    float highest = row_highest(row, type, classes), at_label = 0;
    double sum = 0, linear = 0;
    for (int64_t c = 0; c < classes; c += HN_LANES) {
        int64_t left = hnp_least(classes - c, HN_LANES);
        float e[HN_LANES], v[HN_LANES];
        vf logit = vf_get(row, type, c, classes - c) - highest;
        vf_store(v, logit);
        vf_store(e, vf_exp(logit));
        for (int i = 0; i < left; i++) {
            sum += (double)e[i];
            linear += (double)v[i];
        }
        if (label >= c && label < c + left) at_label = v[label - c];
    }
    double lse = log(sum), each = (double)smoothing / (double)classes;
    for (int64_t c = 0; d && c < classes; c += HN_LANES) {
        float q[HN_LANES];
        for (int i = 0; i < HN_LANES; i++) q[i] = (float)each + (c + i == label ? 1.0f - smoothing : 0.0f);
        vf probability = vf_exp(vf_get(row, type, c, classes - c) - highest - (float)lse);
        vf_put(d, d_type, c, classes - c, (probability - vf_load(q)) * scale);
    }
    return lse - (1.0 - (double)smoothing) * (double)at_label - each * linear;
}

static void clear_row(void *row, hn_dtype type, int64_t columns)
{
    memset(row, 0, (size_t)columns * hn_dtype_size(type));
}

void HN_ISA_NAME(hnp_cross_entropy)(hn_ops_context *ctx, double *loss, int64_t *count, const hn_tensor *dlogits,
                                    const hn_tensor *logits, const int32_t *label, float smoothing,
                                    const float *scale)
{
    int64_t rows = logits->shape[0], classes = logits->shape[1];
    if (dlogits && !dlogits->data) dlogits = NULL;
    HN_ASSERT(!dlogits || (dlogits->shape[0] == rows && dlogits->shape[1] == classes && scale));
    if (!rows || !labels_in_range(ctx, label, rows, classes)) return;
    partial *partials = take_partials(ctx, rows);
    if (!partials) return;
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < rows; first += HNP_SUM_ROWS) {
        partial sum = {0, 0};
        for (int64_t r = first; r < hnp_least(first + HNP_SUM_ROWS, rows); r++) {
            void *d = dlogits ? hnp_row(dlogits, r) : NULL;
            if (label[r] == HN_NO_TARGET) {
                if (d) clear_row(d, dlogits->dtype, classes);
                continue;
            }
            sum.loss += entropy_row(d, dlogits ? dlogits->dtype : HN_F32, hnp_row(logits, r), logits->dtype, classes,
                                    label[r], smoothing, dlogits ? *scale : 0.0f);
            sum.count++;
        }
        partials[first / HNP_SUM_ROWS] = sum;
    }
    add_partials(loss, count, partials, rows);
}

void HN_ISA_NAME(hnp_mean_squared_error)(hn_ops_context *ctx, double *loss, int64_t *count, const hn_tensor *dlogits,
                                         const hn_tensor *logits, const float *value, const float *scale)
{
    (void)ctx;
    int64_t rows = logits->shape[0];
    if (dlogits && !dlogits->data) dlogits = NULL;
    HN_ASSERT(logits->shape[1] == 1 && (!dlogits || (dlogits->shape[0] == rows && dlogits->shape[1] == 1 && scale)));
    for (int64_t r = 0; r < rows; r++) { /* one number a row: not worth a thread */
        bool target = !isnan(value[r]);
        float difference = target ? vf_get(hnp_row(logits, r), logits->dtype, 0, 1)[0] - value[r] : 0.0f;
        *loss += (double)difference * (double)difference;
        *count += target;
        if (dlogits) vf_put(hnp_row(dlogits, r), dlogits->dtype, 0, 1, vf_all(target ? 2.0f * difference * *scale : 0.0f));
    }
}
