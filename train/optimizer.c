/* See optimizer.h. The host never knows loss and norm of a step before the next one is enqueued: whether a step is skipped is decided
 * where the numbers are (adamw_decide), and no bit of weights, moments or step counts moves then. */
#include "train/optimizer.h"

#include <string.h>

#include "core/mem.h"

hn_status hn_optimizer_init(hn_optimizer *optimizer, const hn_train_config *config, const hn_freeze_plan *plan,
                            hn_model *model, const hn_ops *ops, hn_backend *backend, const hnp_zero *zero, hn_error *error)
{
    size_t groups = (size_t)plan->groups;
    *optimizer = (hn_optimizer){.config = config, .plan = plan, .model = model, .ops = ops, .backend = backend, .zero = zero,
                                .moments = config->optim.moments == HN_PRECISION_BF16 ? HN_BF16 : HN_F32};
    optimizer->segments = hn_calloc((size_t)zero->runs, sizeof *optimizer->segments);
    optimizer->applied = hn_calloc(groups, sizeof *optimizer->applied);
    optimizer->trainable = hn_calloc(groups, sizeof *optimizer->trainable);
    if (optimizer->segments && optimizer->applied && optimizer->trainable) return HN_OK;
    hn_optimizer_close(optimizer);
    return hn_fail(error, HN_ERR_MEMORY, "out of memory for the optimizer's lists");
}

void hn_optimizer_close(hn_optimizer *optimizer)
{
    hn_staging_close(&optimizer->values_staging);
    hn_staging_close(&optimizer->outcome_staging);
    hn_free(optimizer->segments);
    hn_free(optimizer->applied);
    hn_free(optimizer->trainable);
    *optimizer = (hn_optimizer){0};
}

/* The step's values with the groups' warm-up factors and whether they train. */
static size_t values_bytes(const hn_optimizer *optimizer)
{
    return sizeof(hn_step_values) + (size_t)optimizer->plan->groups * (sizeof(float) + sizeof(int32_t));
}

hn_status hn_optimizer_alloc(hn_optimizer *optimizer, hn_error *error)
{
    hn_backend *backend = optimizer->backend;
    hn_status status = hn_staging_alloc(&optimizer->values_staging, backend, 2, values_bytes(optimizer), error);
    if (status == HN_OK) status = hn_staging_alloc(&optimizer->outcome_staging, backend, 2, sizeof(hn_adamw_outcome), error);
    return status;
}

void hn_optimizer_place(hn_optimizer *optimizer, hn_arena *arena)
{
    size_t groups = (size_t)optimizer->plan->groups, moments = (size_t)optimizer->zero->kept * hn_dtype_size(optimizer->moments);
    unsigned char *values = hn_arena_take(arena, values_bytes(optimizer));
    optimizer->values = (hn_step_values *)values;
    optimizer->groups = (hn_adamw_groups){
        .count = optimizer->plan->groups,
        .lr = values ? (float *)(values + sizeof(hn_step_values)) : NULL,
        .trains = values ? (int32_t *)(values + sizeof(hn_step_values)) + groups : NULL,
        .applied = hn_arena_take(arena, groups * sizeof(int64_t)),
        .correction1 = hn_arena_take(arena, groups * sizeof(float)),
        .correction2 = hn_arena_take(arena, groups * sizeof(float)),
    };
    optimizer->listed = hn_arena_take(arena, (size_t)optimizer->zero->runs * sizeof *optimizer->listed);
    optimizer->step = hn_arena_take(arena, sizeof *optimizer->step);
    optimizer->outcome = hn_arena_take(arena, sizeof *optimizer->outcome);
    optimizer->m = hn_arena_take(arena, moments);
    optimizer->v = hn_arena_take(arena, moments);
}

void *hn_optimizer_moment(const hn_optimizer *optimizer, unsigned char *moments, int param)
{
    int64_t at = optimizer->zero->gradient[param];
    HN_ASSERT(optimizer->zero->kept == optimizer->zero->gradients);
    return at < 0 ? NULL : moments + (size_t)at * hn_dtype_size(optimizer->moments);
}

void hn_optimizer_select(hn_optimizer *optimizer, int64_t step)
{
    int params;
    const hn_param *param = hn_model_params(optimizer->model, &params);
    float *master = hn_model_master(optimizer->model);
    uint16_t *copy = hn_model_copy(optimizer->model);
    hn_freeze_plan_at(optimizer->plan, step, optimizer->trainable);
    optimizer->segment_count = 0;
    size_t width = hn_dtype_size(optimizer->moments);
    for (int64_t r = 0; r < optimizer->zero->runs; r++) {
        const hnp_run *run = &optimizer->zero->run[r];
        int p = run->param, group = param[p].group;
        if (!optimizer->trainable[group]) continue;
        optimizer->segments[optimizer->segment_count++] = (hn_adamw_segment){
            .master = master + param[p].offset + run->element,
            .gradient = hn_model_gradient(optimizer->model, p) + run->element,
            .m = optimizer->m + (size_t)run->at * width,
            .v = optimizer->v + (size_t)run->at * width,
            .copy = param[p].copy_offset >= 0 ? copy + param[p].copy_offset + run->element : NULL,
            .count = run->count,
            .offset = run->element,
            .lr_scale = optimizer->plan->lr_scale[group],
            .weight_decay = param[p].decays ? (float)optimizer->config->optim.weight_decay : 0,
            .group = group,
            .moments = optimizer->moments,
            .parameter = (uint32_t)p,
        };
    }
    hn_backend *backend = optimizer->backend;
    optimizer->chunks = hn_adamw_chunks(optimizer->segments, optimizer->segment_count);
    backend->copy_in(backend, optimizer->listed, optimizer->segments, (size_t)optimizer->segment_count * sizeof *optimizer->segments);
}

/* Fills a slot of pinned memory. */
static void write_values(const hn_optimizer *optimizer, unsigned char *slot, int64_t step, double rate, float loss_scale)
{
    const hn_train_config *config = optimizer->config;
    int groups = optimizer->plan->groups;
    float *lr = (float *)(slot + sizeof(hn_step_values));
    int32_t *trains = (int32_t *)lr + groups;
    *(hn_step_values *)slot = (hn_step_values){.control = {.clip = config->optim.clip,
                                                           .beta1 = config->optim.beta1,
                                                           .beta2 = config->optim.beta2,
                                                           .most_loss = optimizer->limits.loss,
                                                           .most_norm = optimizer->limits.norm,
                                                           .lr = (float)rate,
                                                           .epsilon = (float)config->optim.epsilon,
                                                           .seed = (uint64_t)config->train.seed,
                                                           .step = (uint32_t)step},
                                               .loss_scale = loss_scale};
    for (int g = 0; g < groups; g++) {
        lr[g] = hn_freeze_plan_warmup(optimizer->plan, g, step);
        trains[g] = optimizer->trainable[g];
    }
}

hn_status hn_optimizer_begin(hn_optimizer *optimizer, hn_ops_context *ctx, int64_t step, double rate, float loss_scale,
                             hn_error *error)
{
    void *slot;
    hn_status status = hn_staging_take(&optimizer->values_staging, &slot, error);
    if (status != HN_OK) return status;
    write_values(optimizer, slot, step, rate, loss_scale);
    ctx->backend->copy_in(ctx->backend, optimizer->values, slot, values_bytes(optimizer));
    hn_staging_mark(&optimizer->values_staging);
    return HN_OK;
}

void hn_optimizer_decide(hn_optimizer *optimizer, hn_ops_context *ctx, const hn_sums *sums)
{
    optimizer->ops->adamw_decide(ctx, optimizer->step, optimizer->outcome, &optimizer->groups, &sums->squares, &sums->loss, &sums->count,
                                 &optimizer->values->control);
}

hn_status hn_optimizer_apply(hn_optimizer *optimizer, hn_ops_context *ctx, hn_error *error)
{
    void *slot;
    optimizer->ops->adamw(ctx, optimizer->listed, optimizer->segment_count, optimizer->chunks, optimizer->step);
    hn_status status = hn_staging_take(&optimizer->outcome_staging, &slot, error);
    if (status != HN_OK) return status;
    ctx->backend->copy_out(ctx->backend, slot, optimizer->outcome, sizeof *optimizer->outcome);
    hn_staging_mark(&optimizer->outcome_staging);
    return HN_OK;
}

hn_status hn_optimizer_outcome(hn_optimizer *optimizer, int before, const hn_adamw_outcome **out, hn_error *error)
{
    void *slot;
    hn_status status = hn_staging_wait(&optimizer->outcome_staging, before, &slot, error);
    *out = slot;
    return status;
}

hn_status hn_optimizer_fetch(hn_optimizer *optimizer, hn_error *error)
{
    hn_backend *backend = optimizer->backend;
    backend->copy_out(backend, optimizer->applied, optimizer->groups.applied,
                      (size_t)optimizer->groups.count * sizeof *optimizer->applied);
    return backend->synchronize(backend, error);
}

hn_status hn_optimizer_restore(hn_optimizer *optimizer, hn_error *error)
{
    hn_backend *backend = optimizer->backend;
    backend->copy_in(backend, optimizer->groups.applied, optimizer->applied,
                     (size_t)optimizer->groups.count * sizeof *optimizer->applied);
    return backend->synchronize(backend, error);
}
