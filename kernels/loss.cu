/* Losses on the GPU, as loss.h defines them: rows by the passes of cuda/entropy.cuh, a row's loss stored in the workspace, and
 * one block that adds them up in order.
 *
 * A label outside [0, K) is written to the fault word and its row left out, with a gradient of zeros: the CPU, which can look first,
 * writes nothing at all then. Bytes: logits read once (rows of more than the cache holds, twice), gradient written, 16 bytes a row.
 * The squared error has one number a row, and one block for all of it. */
#include "kernels/cuda/entropy.cuh"

extern "C" {
#include "core/batch.h"
#include "kernels/loss.h"
}

namespace {

constexpr int FEW_ROWS = 4; /* a block, where a warp has a row */

template <class T> struct arguments {
    matrix<T> logits;
    any_matrix dlogits;
    const int32_t *label;
    const float *scale;
    entropy_result *results;
    volatile hn_cuda_fault *fault;
    int64_t rows;
    int classes;
    float smoothing;
};

template <int GROUP> constexpr int THREADS = GROUP == 32 ? FEW_ROWS * 32 : GROUP;

template <class T, int N, int GROUP>
__global__ void __launch_bounds__(THREADS<GROUP>, 1) cross_entropy_kernel(const arguments<T> a)
{
    const int lane = (int)threadIdx.x % GROUP;
    const int64_t r = (int64_t)blockIdx.x * (THREADS<GROUP> / GROUP) + threadIdx.x / GROUP;
    if (r >= a.rows) return; /* a whole group */
    entropy_row<T> row = {a.logits.row(r), {nullptr, 0, false}, a.classes, a.label[r], 0.0f, 0.0f, 0.0f};
    entropy_result result = {0.0, 0, 0};
    if (row.label != HN_NO_TARGET && in_table(a.fault, HN_FAULT_LABEL, r, row.label, a.classes)) {
        result = entropy_of<GROUP, N>(row, lane, a.smoothing);
        if (a.dlogits.data) entropy_slopes<GROUP, N>(a.dlogits, r, row, lane, a.smoothing, *a.scale);
    } else if (a.dlogits.data) {
        entropy_clear<GROUP, 1>(a.dlogits, r, a.classes, lane);
    }
    if (lane == 0) a.results[r] = result;
}

__global__ void __launch_bounds__(ENTROPY_ADDERS)
    squared_error_kernel(double *loss, int64_t *count, any_matrix dlogits, any_matrix logits, const float *value,
                         const float *scale, int64_t rows)
{
    double sum = 0.0, counted = 0.0;
    HN_ROLLED
    for (int64_t r = threadIdx.x; r < rows; r += ENTROPY_ADDERS) {
        float v[1];
        const bool target = !isnan(value[r]);
        load_any(v, logits, r, 0);
        const float difference = target ? v[0] - value[r] : 0.0f;
        sum += (double)difference * (double)difference;
        counted += target;
        if (!dlogits.data) continue;
        v[0] = target ? 2.0f * difference * *scale : 0.0f;
        store_any(dlogits, r, 0, v);
    }
    sum = entropy_total(sum);
    counted = entropy_total(counted);
    if (threadIdx.x) return;
    *loss += sum;
    *count += (int64_t)counted;
}

template <class T>
void cross_entropy(hn_ops_context *ctx, double *loss, int64_t *count, const hn_tensor *dlogits, const hn_tensor *logits,
                   const int32_t *label, float smoothing, const float *scale)
{
    constexpr int N = 16 / sizeof(T);
    const char *name = "cross_entropy";
    const int64_t rows = logits->shape[0], classes = logits->shape[1];
    entropy_result *results = (entropy_result *)scratch_take(ctx, name, hnp_cuda_loss_workspace(rows));
    if (!results) return;
    const arguments<T> a = {matrix_of<T>(logits), any_matrix_of(dlogits), label, scale,    results,
                            fault_of(ctx),        rows,                   (int)classes, smoothing};
    const bool vectors = rows_aligned(logits) && (!present(dlogits) || rows_aligned(dlogits));
    entropy_grouped(classes, [&](auto group) {
        constexpr int GROUP = decltype(group)::value;
        const dim3 blocks((unsigned)ceil_div(rows, THREADS<GROUP> / GROUP));
        launch(ctx, name, vectors ? cross_entropy_kernel<T, N, GROUP> : cross_entropy_kernel<T, 1, GROUP>, blocks,
               THREADS<GROUP>, 0, a);
    });
    launch(ctx, name, entropy_sum_kernel, dim3(1), ENTROPY_ADDERS, 0, loss, count, (int64_t *)nullptr,
           (const entropy_result *)results, rows);
}

} // namespace

size_t hnp_cuda_loss_workspace(int64_t rows)
{
    return (size_t)rows * sizeof(entropy_result);
}

void HN_ISA_NAME(hnp_cross_entropy)(hn_ops_context *ctx, double *loss, int64_t *count, const hn_tensor *dlogits,
                                    const hn_tensor *logits, const int32_t *label, float smoothing, const float *scale)
{
    HN_ASSERT(!present(dlogits) ||
              (dlogits->shape[0] == logits->shape[0] && dlogits->shape[1] == logits->shape[1] && scale));
    if (!logits->shape[0]) return;
    if (logits->dtype == HN_F32)
        cross_entropy<float>(ctx, loss, count, dlogits, logits, label, smoothing, scale);
    else
        cross_entropy<bf16>(ctx, loss, count, dlogits, logits, label, smoothing, scale);
}

void HN_ISA_NAME(hnp_mean_squared_error)(hn_ops_context *ctx, double *loss, int64_t *count, const hn_tensor *dlogits,
                                         const hn_tensor *logits, const float *value, const float *scale)
{
    HN_ASSERT(logits->shape[1] == 1);
    HN_ASSERT(!present(dlogits) || (dlogits->shape[0] == logits->shape[0] && dlogits->shape[1] == 1 && scale));
    if (!logits->shape[0]) return;
    launch(ctx, "mean_squared_error", squared_error_kernel, dim3(1), ENTROPY_ADDERS, 0, loss, count,
           any_matrix_of(dlogits), any_matrix_of(logits), value, scale, logits->shape[0]);
}
