/* The parts of the GPU's table that are no operations (kernels/table.h); compiled with HN_ISA=cuda beside kernels/table.c. */
#include <stdio.h>

#include "core/mem.h"
#include "core/pulse.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/product.h"
#include "kernels/cuda/range.h"
#include "kernels/cuda/sizes.h"
#include "kernels/cuda/timer.h"
#include "kernels/device.h"
#include "kernels/table.h"

/* ctx->state of the GPU's table. */
typedef struct table_state {
    char how[320]; /* hnp_table_products */
    hnp_cuda_products *products;
    hnp_cuda_timer *timer; /* NULL: nobody has asked for times */
} table_state;

hnp_cuda_products *hnp_cuda_products_of(const hn_ops_context *ctx)
{
    return ((const table_state *)ctx->state)->products;
}

/* The timer, made when the first operation asks for it; NULL: no time is wanted, or none can be had. */
static hnp_cuda_timer *timer_of(hn_ops_context *ctx)
{
    table_state *state = ctx->state;
    if (!ctx->profile) return NULL;
    if (!state->timer) hnp_cuda_timer_open(&state->timer, hn_cuda_device_of(ctx->backend), ctx->error);
    return state->timer;
}

double HN_ISA_NAME(hnp_operation_begin)(hn_ops_context *ctx, hn_operation operation)
{
    hnp_cuda_timer *timer = timer_of(ctx);
    hn_pulse(ctx->pulse);
    hn_cuda_device_of(ctx->backend)->operation = hn_operation_name(operation);
    hnp_cuda_range_begin(hn_operation_name(operation));
    if (timer) hnp_cuda_timer_begin(timer);
    return 0;
}

void HN_ISA_NAME(hnp_operation_end)(hn_ops_context *ctx, hn_operation operation, double begun, double flop)
{
    (void)begun;
    hnp_cuda_timer *timer = timer_of(ctx);
    if (timer) hnp_cuda_timer_end(timer, ctx->profile, operation, flop);
    hnp_cuda_range_end();
}

double HN_ISA_NAME(hnp_attention_flop)(const hn_attention *attention, int products)
{
    (void)attention, (void)products; /* lengths are in the GPU's memory */
    return 0;
}

size_t HN_ISA_NAME(hnp_table_workspace)(int64_t rows, int64_t widest, int64_t longest, int heads, hn_dtype dtype)
{
    (void)longest, (void)dtype;
    const size_t need[] = {hnp_cuda_norm_workspace(widest), hnp_cuda_attention_workspace(rows, heads), hnp_cuda_loss_workspace(rows),
                           hnp_cuda_sum_squares_workspace(), hnp_cuda_linear_workspace(), hnp_cuda_embedding_workspace(rows, widest)};
    size_t most = 0;
    for (size_t i = 0; i < sizeof need / sizeof *need; i++) most = need[i] > most ? need[i] : most;
    return most;
}

size_t HN_ISA_NAME(hnp_table_low_rank_workspace)(int64_t widest, int64_t width)
{
    (void)widest, (void)width; /* it takes what linear layers take */
    return 0;
}

size_t HN_ISA_NAME(hnp_table_linear_cross_entropy_workspace)(int64_t rows, int64_t width, int64_t vocabulary)
{
    return hnp_cuda_linear_cross_entropy_workspace(rows, width, vocabulary);
}

size_t HN_ISA_NAME(hnp_table_choose_tokens_workspace)(int64_t vocabulary)
{
    (void)vocabulary; /* a row's counts fit in shared memory */
    return 0;
}

const char *HN_ISA_NAME(hnp_table_products)(const hn_ops_context *ctx)
{
    return ((const table_state *)ctx->state)->how;
}

static void save_plans(const hn_ops_context *ctx, hn_strbuf *out)
{
    hnp_cuda_products_export(hnp_cuda_products_of(ctx), out);
}

static hn_status load_plans(hn_ops_context *ctx, const char *text, const char *name, hn_error *error)
{
    return hnp_cuda_products_import(hnp_cuda_products_of(ctx), text, name, error);
}

const hn_tuning *HN_ISA_NAME(hnp_table_tuning)(void)
{
    static const hn_tuning tuning = {.run = hnp_cuda_products_tune, .save = save_plans, .load = load_plans};
    return &tuning;
}

hn_status HN_ISA_NAME(hnp_table_open)(hn_ops_context *ctx, hn_error *error)
{
    const hn_cuda_device *device = hn_cuda_device_of(ctx->backend);
    table_state *state = hn_calloc(1, sizeof *state);
    if (!state) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the GPU's table");
    hn_status status = hnp_cuda_products_open(&state->products, device->name, error);
    if (status != HN_OK) {
        hn_free(state);
        return status;
    }
    snprintf(state->how, sizeof state->how, "cuda sm_%d, %s, cublaslt %zu", device->capability, device->name,
             hnp_cuda_products_version());
    ctx->state = state;
    return HN_OK;
}

void HN_ISA_NAME(hnp_table_close)(hn_ops_context *ctx)
{
    if (!ctx->state) return;
    hnp_cuda_timer_free(((table_state *)ctx->state)->timer);
    hnp_cuda_products_free(hnp_cuda_products_of(ctx));
    hn_free(ctx->state);
    ctx->state = NULL;
}

const hn_ops *hn_ops_cuda(void)
{
    return &hnp_ops_cuda;
}
