/* A model with all that a forward and a backward need, for tests: arenas, workspace, loss, plan, a batch. */
#ifndef HONE_TESTS_MODELS_RIG_H
#define HONE_TESTS_MODELS_RIG_H

#include <math.h>

#include "core/mem.h"
#include "formats/folder.h"
#include "formats/safetensors.h"
#include "models/internal.h"
#include "tests/models/tiny.h"

#define RIG_GROUPS 32

typedef struct rig {
    hn_backend backend;
    hn_model *model;
    hn_ops_context ctx;
    hn_arena parameters, gradients, activations, workspace;
    hn_bounds bounds;
    hn_error error;
    double loss;
    int64_t count;
    float scale;
    uint32_t step;
    bool trainable[RIG_GROUPS];
    hn_forward forward;
} rig;

static inline hn_status rig_place(hn_arena *arena, rig *r, void (*place)(rig *r))
{
    if (arena->base) {
        hn_arena_rewind(arena, 0);
        place(r);
        return HN_OK;
    }
    place(r);
    hn_status status = hn_arena_alloc(arena, &r->error);
    if (status == HN_OK) place(r);
    return status;
}

static inline void rig_place_parameters(rig *r)
{
    hn_model_place_parameters(r->model, &r->parameters);
}

static inline void rig_place_gradients(rig *r)
{
    static const bool all[RIG_GROUPS] = {[0 ... RIG_GROUPS - 1] = true};
    hn_model_place_gradients(r->model, &r->gradients, all);
}

static inline void rig_place_activations(rig *r)
{
    hn_model_place_activations(r->model, &r->activations, r->bounds, r->forward.training,
                               hn_train_plan_first(r->model, &r->forward.plan));
}

/* Lays the activations out again, in an arena of its own size, after a change of the plan or of training. */
static inline hn_status rig_replace(rig *r)
{
    hn_arena_close(&r->activations);
    return rig_place(&r->activations, r, rig_place_activations);
}

/* Everything trains, weights are zero. */
static inline hn_status rig_open(rig *r, const hn_model_config *config, hn_dtype precision, hn_bounds bounds)
{
    *r = (rig){.bounds = bounds, .scale = 1, .step = 3};
    hn_backend_cpu_init(&r->backend);
    r->ctx = (hn_ops_context){.backend = &r->backend, .error = &r->error};
    hn_status status = hn_model_open(&r->model, config, precision, &r->backend, hn_ops_cpu(), &r->error);
    if (status != HN_OK) return status;
    for (int g = 0; g < RIG_GROUPS; g++) r->trainable[g] = true;
    r->forward = (hn_forward){.training = true, .plan = {r->trainable}, .seed = 11, .step = &r->step};
    hn_arena_init(&r->parameters, "parameters", &r->backend);
    hn_arena_init(&r->gradients, "gradients", &r->backend);
    hn_arena_init(&r->activations, "activations", &r->backend);
    hn_arena_init(&r->workspace, "workspace", &r->backend);
    r->ctx.workspace_size = hn_model_workspace(r->model, bounds);
    hn_arena_take(&r->workspace, r->ctx.workspace_size);
    if ((status = rig_place(&r->parameters, r, rig_place_parameters)) != HN_OK ||
        (status = rig_place(&r->gradients, r, rig_place_gradients)) != HN_OK ||
        (status = rig_place(&r->activations, r, rig_place_activations)) != HN_OK ||
        (status = hn_arena_alloc(&r->workspace, &r->error)) != HN_OK)
        return status;
    r->ctx.workspace = hn_arena_take(&r->workspace, r->ctx.workspace_size);
    return hn_ops_cpu()->open(&r->ctx, &r->error);
}

static inline void rig_close(rig *r)
{
    if (r->ctx.state) hn_ops_cpu()->close(&r->ctx);
    hn_model_free(r->model);
    hn_arena_close(&r->parameters);
    hn_arena_close(&r->gradients);
    hn_arena_close(&r->activations);
    hn_arena_close(&r->workspace);
}

static inline size_t rig_gradient_bytes(const rig *r)
{
    return r->gradients.used;
}

/* All gradients, in the places of the parameters where none is frozen. */
static inline float *rig_gradients(const rig *r)
{
    return (float *)(void *)r->gradients.base;
}

/* Logits and summed loss of a batch; with training also the gradients, from zero. */
static inline hn_tensor rig_run(rig *r, const hn_batch *batch)
{
    r->loss = 0;
    r->count = 0;
    memset(rig_gradients(r), 0, rig_gradient_bytes(r));
    hn_tensor logits = hn_model_forward(r->model, &r->ctx, batch, &r->forward);
    hn_target_loss out = {.loss = &r->loss, .count = &r->count};
    hn_model_loss(r->model, &r->ctx, &out, batch, 0, &r->scale, r->forward.training);
    if (r->forward.training) hn_model_backward(r->model, &r->ctx, batch, &r->forward);
    return logits;
}

#define MAX_TOKENS 64
#define MAX_EXAMPLES 8

typedef struct rig_batch {
    hn_batch batch;
    int32_t cu_seqlens[MAX_EXAMPLES + 1], token[MAX_TOKENS], position[MAX_TOKENS], type[MAX_TOKENS],
        target[MAX_TOKENS], label[MAX_EXAMPLES];
    uint32_t example[MAX_EXAMPLES];
    float value[MAX_EXAMPLES];
} rig_batch;

/* Positions and examples of sequences whose cu_seqlens is filled. */
static inline void rig_batch_finish(rig_batch *b, int n)
{
    b->batch = (hn_batch){.n = n,
                          .tokens = b->cu_seqlens[n],
                          .cu_seqlens = b->cu_seqlens,
                          .token = b->token,
                          .position = b->position,
                          .type = b->type,
                          .example = b->example,
                          .label = b->label,
                          .value = b->value};
    for (int s = 0; s < n; s++) {
        int length = b->cu_seqlens[s + 1] - b->cu_seqlens[s];
        if (length > b->batch.longest) b->batch.longest = length;
        for (int i = 0; i < length; i++) b->position[b->cu_seqlens[s] + i] = i;
    }
}

/* Makes it a language model's batch; returns how many tokens have a target. */
static inline int rig_batch_targets(rig_batch *b, const int32_t *target)
{
    int count = 0;
    memcpy(b->target, target, (size_t)b->batch.tokens * sizeof *target);
    b->batch.target = b->target;
    for (int32_t i = 0; i < b->batch.tokens; i++) count += target[i] != HN_NO_TARGET;
    return count;
}

/* Made-up sequences of the given lengths, of a vocabulary of 50 and with labels below `labels`. */
static inline void rig_batch_make(rig_batch *b, const int *lengths, int n, int labels)
{
    *b = (rig_batch){.cu_seqlens = {0}};
    for (int s = 0; s < n; s++) {
        b->cu_seqlens[s + 1] = b->cu_seqlens[s] + lengths[s];
        b->label[s] = s % labels;
        b->value[s] = 0.5f * (float)s - 1;
        b->example[s] = 100 + 7 * (uint32_t)s;
        for (int i = b->cu_seqlens[s]; i < b->cu_seqlens[s + 1]; i++) {
            b->token[i] = (i * 29 + s * 5) % 50;
            b->type[i] = i >= b->cu_seqlens[s] + lengths[s] / 2;
        }
    }
    rig_batch_finish(b, n);
}

/* One sequence of a batch, alone. */
static inline void rig_batch_pick(rig_batch *out, const rig_batch *from, int s)
{
    int start = from->cu_seqlens[s], length = from->cu_seqlens[s + 1] - start;
    *out = (rig_batch){.cu_seqlens = {0, length}};
    memcpy(out->token, from->token + start, (size_t)length * sizeof *out->token);
    memcpy(out->type, from->type + start, (size_t)length * sizeof *out->type);
    out->example[0] = from->example[s];
    out->label[0] = from->label[s];
    out->value[0] = from->value[s];
    rig_batch_finish(out, 1);
}

/* Weights far from the init rule, so that attention and activations are not near their linear middle. */
static inline hn_status rig_randomise(rig *r, uint64_t seed)
{
    int count;
    const hn_param *params = hn_model_params(r->model, &count);
    hn_status status = hn_model_init(r->model, seed, &r->error);
    float *master = hn_model_master(r->model);
    for (int i = 0; i < count; i++)
        for (int64_t e = 0; e < params[i].rows * params[i].columns; e++) {
            float *value = &master[params[i].offset + e];
            *value = params[i].rank == 2 ? *value * 10 : *value + 0.1f * sinf((float)(e + i));
        }
    hn_model_refresh_copy(r->model, &r->ctx);
    return status;
}

#endif
