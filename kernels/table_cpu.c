/* The parts of a CPU's table that are no operations: scratch, oneDNN's primitives, time by the clock. */
#include <omp.h>

#include "core/pulse.h"
#include "kernels/attention.h"
#include "kernels/choose_tokens.h"
#include "kernels/linear.h"
#include "kernels/linear_cross_entropy.h"
#include "kernels/low_rank.h"
#include "kernels/product.h"
#include "kernels/scratch.h"
#include "kernels/table.h"

double HN_ISA_NAME(hnp_operation_begin)(hn_ops_context *ctx, hn_operation operation)
{
    (void)operation;
    hn_pulse(ctx->pulse);
    return ctx->profile ? hn_profile_now() : 0;
}

void HN_ISA_NAME(hnp_operation_end)(hn_ops_context *ctx, hn_operation operation, double begun, double flop)
{
    if (ctx->profile) hn_profile_add(ctx->profile, operation, hn_profile_now() - begun, flop);
}

/* Multiply-adds of the products, dense over queries and keys. */
double HN_ISA_NAME(hnp_attention_flop)(const hn_attention *a, int products)
{
    double pairs = 0;
    for (int32_t s = 0; s < a->n; s++)
        pairs += (double)(a->cu_q[s + 1] - a->cu_q[s]) * (double)(a->cu_k[s + 1] - a->cu_k[s]);
    return 2.0 * products * pairs * a->heads * a->head_size;
}

/* The largest of what linear, attention, layernorm's and the losses' partial sums take. The sum of squares runs over all
 * gradients, whose number is not known here: 8 bytes for 65,536 of them, so a MiB covers 8.6 thousand million. */
size_t HN_ISA_NAME(hnp_table_workspace)(int64_t rows, int64_t widest, int64_t longest, int heads, hn_dtype dtype)
{
    (void)dtype; /* either type may stand in a tensor of its own */
    int threads = omp_get_max_threads();
    int64_t blocks = hnp_ceil_div(rows, HNP_SUM_ROWS), head_size = heads ? hnp_least(256, hnp_ceil_div(widest, heads)) : 0;
    size_t most = (size_t)1 << 20, need[] = {
        HN_ISA_NAME(hnp_linear_workspace)(widest, threads),
        heads ? HN_ISA_NAME(hnp_attention_workspace)(longest, head_size, threads) : 0,
        (size_t)blocks * 2 * (size_t)widest * sizeof(float) + HNP_SCRATCH_ALIGN,
        (size_t)blocks * 2 * sizeof(double) + HNP_SCRATCH_ALIGN,
    };
    for (size_t i = 0; i < sizeof need / sizeof *need; i++) most = need[i] > most ? need[i] : most;
    return most;
}

size_t HN_ISA_NAME(hnp_table_low_rank_workspace)(int64_t widest, int64_t width)
{
    return HN_ISA_NAME(hnp_low_rank_workspace)(widest, width, omp_get_max_threads());
}

size_t HN_ISA_NAME(hnp_table_linear_cross_entropy_workspace)(int64_t rows, int64_t width, int64_t vocabulary)
{
    return HN_ISA_NAME(hnp_linear_cross_entropy_workspace)(rows, width, vocabulary, omp_get_max_threads());
}

size_t HN_ISA_NAME(hnp_table_choose_tokens_workspace)(int64_t vocabulary)
{
    return HN_ISA_NAME(hnp_choose_tokens_workspace)(vocabulary);
}

hn_status HN_ISA_NAME(hnp_table_open)(hn_ops_context *ctx, hn_error *error)
{
    int threads = omp_get_num_procs() > omp_get_max_threads() ? omp_get_num_procs() : omp_get_max_threads();
    hnp_products *products;
    hn_status status = hnp_products_open(&products, threads, error);
    if (status == HN_OK) ctx->state = products;
    return status;
}

void HN_ISA_NAME(hnp_table_close)(hn_ops_context *ctx)
{
    hnp_products_free(ctx->state);
    ctx->state = NULL;
}

const char *HN_ISA_NAME(hnp_table_products)(const hn_ops_context *ctx)
{
    (void)ctx;
    return hn_ops_cpu_isa();
}

/* Products are cut by rule, whatever the machine's speed. */
const hn_tuning *HN_ISA_NAME(hnp_table_tuning)(void)
{
    return NULL;
}
