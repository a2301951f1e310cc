/* See optimizer.h. The skip of a bad step is decided here on the host, once loss and norm are known: AdamW is then not called
 * at all, so no bit of weights, moments or step counts moves.
 *
 * Zeroing and the norm take the arena of gradients as one array: what lies between two parameters, and the place of a group
 * that does not train yet, is zero. */
#include "train/optimizer.h"

#include <math.h>

#include "core/mem.h"

hn_status hn_optimizer_init(hn_optimizer *optimizer, const hn_train_config *config, const hn_freeze_plan *plan,
                            hn_model *model, const hn_ops *ops, const hn_arena *gradients, hn_error *error)
{
    int params;
    hn_model_params(model, &params);
    size_t count = (size_t)params, groups = (size_t)plan->groups;
    *optimizer = (hn_optimizer){.config = config, .plan = plan, .model = model, .ops = ops, .gradients = gradients,
                                .moments = config->optim.moments == HN_PRECISION_BF16 ? HN_BF16 : HN_F32};
    optimizer->segments = hn_calloc(count, sizeof *optimizer->segments);
    optimizer->m = hn_calloc(count, sizeof *optimizer->m);
    optimizer->v = hn_calloc(count, sizeof *optimizer->v);
    optimizer->applied = hn_calloc(groups, sizeof *optimizer->applied);
    optimizer->trainable = hn_calloc(groups, sizeof *optimizer->trainable);
    if (optimizer->segments && optimizer->m && optimizer->v && optimizer->applied && optimizer->trainable) return HN_OK;
    hn_optimizer_close(optimizer);
    return hn_fail(error, HN_ERR_MEMORY, "out of memory for the optimizer's lists of %d parameters", params);
}

void hn_optimizer_close(hn_optimizer *optimizer)
{
    hn_free(optimizer->segments);
    hn_free(optimizer->m);
    hn_free(optimizer->v);
    hn_free(optimizer->applied);
    hn_free(optimizer->trainable);
    *optimizer = (hn_optimizer){0};
}

void hn_optimizer_place(hn_optimizer *optimizer, hn_arena *arena)
{
    int params;
    const hn_param *param = hn_model_params(optimizer->model, &params);
    size_t groups = (size_t)optimizer->plan->groups * sizeof(float);
    optimizer->listed = hn_arena_take(arena, (size_t)params * sizeof *optimizer->listed);
    optimizer->step = hn_arena_take(arena, sizeof *optimizer->step);
    optimizer->correction1 = hn_arena_take(arena, groups);
    optimizer->correction2 = hn_arena_take(arena, groups);
    optimizer->group_lr = hn_arena_take(arena, groups);
    optimizer->norm_squared = hn_arena_take(arena, sizeof *optimizer->norm_squared);
    for (int p = 0; p < params; p++) {
        if (!optimizer->plan->ever[param[p].group] || param[p].frozen) continue;
        optimizer->m[p] = hn_arena_tensor(arena, optimizer->moments, param[p].rows, param[p].columns).data;
        optimizer->v[p] = hn_arena_tensor(arena, optimizer->moments, param[p].rows, param[p].columns).data;
    }
}

void hn_optimizer_select(hn_optimizer *optimizer, int64_t step)
{
    int params;
    const hn_param *param = hn_model_params(optimizer->model, &params);
    float *master = hn_model_master(optimizer->model);
    uint16_t *copy = hn_model_copy(optimizer->model);
    hn_freeze_plan_at(optimizer->plan, step, optimizer->trainable);
    optimizer->segment_count = 0;
    for (int p = 0; p < params; p++) {
        int group = param[p].group;
        if (!optimizer->trainable[group] || param[p].frozen) continue;
        optimizer->segments[optimizer->segment_count++] = (hn_adamw_segment){
            .master = master + param[p].offset,
            .gradient = hn_model_gradient(optimizer->model, p),
            .m = optimizer->m[p],
            .v = optimizer->v[p],
            .copy = param[p].copy_offset >= 0 ? copy + param[p].copy_offset : NULL,
            .count = param[p].rows * param[p].columns,
            .lr_scale = optimizer->plan->lr_scale[group],
            .weight_decay = param[p].decays ? (float)optimizer->config->optim.weight_decay : 0,
            .group = group,
            .moments = optimizer->moments,
            .parameter = (uint32_t)p,
        };
    }
    hn_backend *backend = optimizer->gradients->backend;
    optimizer->chunks = hn_adamw_chunks(optimizer->segments, optimizer->segment_count);
    backend->copy_in(backend, optimizer->listed, optimizer->segments, (size_t)optimizer->segment_count * sizeof *optimizer->segments);
}

void hn_optimizer_zero_gradients(hn_optimizer *optimizer, hn_ops_context *ctx)
{
    optimizer->ops->zero(ctx, optimizer->gradients->base, optimizer->gradients->used);
}

/* Beyond this the second moment, the square, leaves fp32; clipping brings any finite gradient below. */
static const double LARGEST_NORM = 1e18;

/* *norm = global norm of all gradients, on the host. */
static hn_status gradient_norm(hn_optimizer *optimizer, hn_ops_context *ctx, double *norm, hn_error *error)
{
    const hn_ops *ops = optimizer->ops;
    hn_backend *backend = ctx->backend;
    double squared = 0;
    ops->zero(ctx, optimizer->norm_squared, sizeof squared);
    ops->sum_squares(ctx, optimizer->norm_squared, (const float *)optimizer->gradients->base,
                     (int64_t)(optimizer->gradients->used / sizeof(float)));
    backend->copy_out(backend, &squared, optimizer->norm_squared, sizeof squared);
    hn_status status = backend->synchronize(backend, error);
    *norm = sqrt(squared);
    return status;
}

hn_status hn_optimizer_step(hn_optimizer *optimizer, hn_ops_context *ctx, int64_t step, double rate, double loss,
                            double *norm, bool *applied, hn_error *error)
{
    const hn_ops *ops = optimizer->ops;
    hn_backend *backend = ctx->backend;
    const hn_freeze_plan *plan = optimizer->plan;
    double clip = optimizer->config->optim.clip, beta1 = optimizer->config->optim.beta1,
           beta2 = optimizer->config->optim.beta2;
    *applied = false;
    hn_status status = gradient_norm(optimizer, ctx, norm, error);
    if (clip <= 0 && *norm > LARGEST_NORM) *norm = INFINITY;
    if (status != HN_OK || !isfinite(*norm) || !isfinite(loss)) return status;
    for (int g = 0; g < plan->groups; g++) {
        if (optimizer->trainable[g]) optimizer->applied[g]++;
        double t = (double)optimizer->applied[g];
        float values[3] = {(float)(1 - pow(beta1, t)), (float)(1 - pow(beta2, t)), hn_freeze_plan_warmup(plan, g, step)};
        backend->copy_in(backend, optimizer->correction1 + g, &values[0], sizeof(float));
        backend->copy_in(backend, optimizer->correction2 + g, &values[1], sizeof(float));
        backend->copy_in(backend, optimizer->group_lr + g, &values[2], sizeof(float));
    }
    hn_adamw_step values = {
        .lr = (float)rate,
        .beta1 = (float)beta1,
        .beta2 = (float)beta2,
        .epsilon = (float)optimizer->config->optim.epsilon,
        .gradient_scale = clip > 0 && *norm > clip ? (float)(clip / (*norm + 1e-6)) : 1,
        .correction1 = optimizer->correction1,
        .correction2 = optimizer->correction2,
        .group_lr = optimizer->group_lr,
        .seed = (uint64_t)optimizer->config->train.seed,
        .step = (uint32_t)step,
    };
    backend->copy_in(backend, optimizer->step, &values, sizeof values);
    ops->adamw(ctx, optimizer->listed, optimizer->segment_count, optimizer->chunks, optimizer->step);
    *applied = true;
    return backend->synchronize(backend, error);
}
