/* A model with all that a forward and a backward need, for tests: arenas, workspace, loss, plan, a batch. With HONE_TEST_DEVICE=cuda in the
 * environment it stands on the GPU, and rig_run, rig_forward, rig_logits, rig_gradient and rig_put stand between the host and it; what
 * touches the model's memory otherwise is for the CPU. */
#ifndef HONE_TESTS_MODELS_RIG_H
#define HONE_TESTS_MODELS_RIG_H

#include <math.h>

#include "core/mem.h"
#include "formats/folder.h"
#include "formats/safetensors.h"
#include "kernels/device.h"
#include "models/internal.h"
#include "tests/models/tiny.h"

#define RIG_GROUPS 32
#define MAX_TOKENS 64
#define MAX_EXAMPLES 8

/* What stands in the backend's memory for each run. */
typedef struct rig_inputs {
    double loss;
    int64_t count;
    float scale;
    uint32_t step;
    int32_t cu_seqlens[MAX_EXAMPLES + 1], token[MAX_TOKENS], position[MAX_TOKENS], type[MAX_TOKENS], target[MAX_TOKENS],
        label[MAX_EXAMPLES], row[MAX_TOKENS], key_row[MAX_TOKENS], cu_keys[MAX_EXAMPLES + 1], use[MAX_TOKENS], cu_uses[MAX_TOKENS + 1];
    uint32_t example[MAX_EXAMPLES];
    float value[MAX_EXAMPLES];
} rig_inputs;

typedef struct rig {
    hn_backend backend;
    const hn_ops *ops;
    rig_inputs *inputs; /* in the backend's memory */
    float *host_gradients, *host_logits; /* NULL: the backend's memory is the host's */
    void *put[8]; /* by rig_put */
    int put_count;
    hn_model *model;
    hn_ops_context ctx;
    hn_arena parameters, gradients, activations, workspace;
    hn_bounds bounds;
    hn_error error;
    double loss;
    int64_t count;
    float scale;
    uint32_t step;
    hn_recompute recompute;
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
                               hn_train_plan_first(r->model, &r->forward.plan), r->recompute);
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
    const char *device = getenv("HONE_TEST_DEVICE");
    *r = (rig){.bounds = bounds, .scale = 1, .step = 3};
    hn_status status = hn_device_open(&r->backend, &r->ops, device && !strcmp(device, "cuda") ? HN_DEVICE_CUDA : HN_DEVICE_CPU, NULL,
                                      &r->error);
    if (status != HN_OK) return status;
    r->inputs = r->backend.alloc(&r->backend, sizeof *r->inputs, false, &r->error);
    if (!r->inputs) return r->error.status;
    r->ctx = (hn_ops_context){.backend = &r->backend, .error = &r->error};
    status = hn_model_open(&r->model, config, precision, &r->backend, r->ops, &r->error);
    if (status != HN_OK) return status;
    for (int g = 0; g < RIG_GROUPS; g++) r->trainable[g] = true;
    r->forward = (hn_forward){.training = true, .plan = {r->trainable}, .seed = 11, .step = &r->inputs->step};
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
    if (!r->backend.host) r->host_gradients = malloc(r->gradients.used);
    return r->ops->open(&r->ctx, &r->error);
}

/* A copy in the backend's memory, which lives as long as the rig. */
static inline void *rig_put(rig *r, const void *data, size_t size)
{
    void *memory = r->backend.alloc(&r->backend, size, false, &r->error);
    HN_ASSERT(memory && r->put_count < (int)(sizeof r->put / sizeof *r->put));
    r->put[r->put_count++] = memory;
    if (data) r->backend.copy_in(&r->backend, memory, data, size);
    r->backend.synchronize(&r->backend, &r->error);
    return memory;
}

static inline void rig_close(rig *r)
{
    if (r->ctx.state) r->ops->close(&r->ctx);
    hn_model_free(r->model);
    hn_arena_close(&r->parameters);
    hn_arena_close(&r->gradients);
    hn_arena_close(&r->activations);
    hn_arena_close(&r->workspace);
    for (int i = 0; i < r->put_count; i++) r->backend.free(&r->backend, r->put[i]);
    if (r->inputs) r->backend.free(&r->backend, r->inputs);
    free(r->host_gradients);
    free(r->host_logits);
    if (r->backend.close) r->backend.close(&r->backend);
}

static inline size_t rig_gradient_bytes(const rig *r)
{
    return r->gradients.used;
}

/* All gradients, in the places of the parameters where none is frozen. */
static inline float *rig_gradients(const rig *r)
{
    return r->host_gradients ? r->host_gradients : (float *)(void *)r->gradients.base;
}

/* That of one parameter, after rig_run. */
static inline float *rig_gradient(const rig *r, int param)
{
    float *there = hn_model_gradient(r->model, param);
    return there ? rig_gradients(r) + (there - (float *)(void *)r->gradients.base) : NULL;
}

/* The batch, scale and step in the backend's memory; loss and count 0. */
static inline hn_batch rig_upload(rig *r, const hn_batch *batch)
{
    rig_inputs host = {.scale = r->scale, .step = r->step}, *to = r->inputs;
    hn_batch there = *batch;
    size_t t = (size_t)batch->tokens * sizeof(int32_t), n = (size_t)batch->n * sizeof(int32_t), keys = (size_t)batch->keys * sizeof(int32_t);
#define RIG_PUT(name, size)                                                                                                                \
    if (batch->name) {                                                                                                                     \
        HN_ASSERT((size) <= sizeof host.name);                                                                                             \
        memcpy(host.name, batch->name, size);                                                                                              \
        there.name = to->name;                                                                                                             \
    }
    RIG_PUT(cu_seqlens, n + sizeof(int32_t))
    RIG_PUT(token, t)
    RIG_PUT(position, t)
    RIG_PUT(type, t)
    RIG_PUT(target, t)
    RIG_PUT(label, n)
    RIG_PUT(example, n)
    RIG_PUT(value, n)
    RIG_PUT(key_row, keys)
    RIG_PUT(cu_keys, n + sizeof(int32_t))
    RIG_PUT(use, keys)
    RIG_PUT(cu_uses, t + sizeof(int32_t))
#undef RIG_PUT
    for (int i = 0; i < MAX_TOKENS; i++) host.row[i] = i;
    r->backend.copy_in(&r->backend, to, &host, sizeof host);
    r->backend.synchronize(&r->backend, &r->error);
    return there;
}

/* Logits as the host reads them, until the next call. */
static inline hn_tensor rig_fetch(rig *r, hn_tensor logits)
{
    if (!r->backend.host && logits.data) {
        r->host_logits = realloc(r->host_logits, hn_tensor_bytes(&logits));
        r->backend.copy_out(&r->backend, r->host_logits, logits.data, hn_tensor_bytes(&logits));
        logits.data = r->host_logits;
    }
    r->backend.synchronize(&r->backend, &r->error);
    return logits;
}

static inline hn_tensor rig_forward(rig *r, const hn_batch *batch)
{
    hn_batch there = rig_upload(r, batch);
    return rig_fetch(r, hn_model_forward(r->model, &r->ctx, &there, &r->forward));
}

/* Those of tokens [first, first + count) of the batch of the last forward. */
static inline hn_tensor rig_logits(rig *r, int32_t first, int32_t count)
{
    return rig_fetch(r, hn_model_logits(r->model, &r->ctx, r->inputs->row + first, count));
}

/* Logits and summed loss of a batch; with training also the gradients, from zero. */
static inline hn_tensor rig_run(rig *r, const hn_batch *batch)
{
    hn_batch there = rig_upload(r, batch);
    r->ops->zero(&r->ctx, r->gradients.base, rig_gradient_bytes(r));
    hn_tensor logits = hn_model_forward(r->model, &r->ctx, &there, &r->forward);
    hn_target_loss out = {.loss = &r->inputs->loss, .count = &r->inputs->count};
    hn_model_loss(r->model, &r->ctx, &out, &there, 0, &r->inputs->scale, r->forward.training);
    if (r->forward.training) hn_model_backward(r->model, &r->ctx, &there, &r->forward);
    r->backend.copy_out(&r->backend, &r->loss, &r->inputs->loss, sizeof r->loss);
    r->backend.copy_out(&r->backend, &r->count, &r->inputs->count, sizeof r->count);
    if (r->host_gradients) r->backend.copy_out(&r->backend, r->host_gradients, r->gradients.base, rig_gradient_bytes(r));
    return rig_fetch(r, logits);
}

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

/* Weights far from the init rule, so that attention and activations are not near their linear middle; of what has a
 * master. */
static inline hn_status rig_randomise(rig *r, uint64_t seed)
{
    int count;
    const hn_param *params = hn_model_params(r->model, &count);
    hn_status status = hn_model_init(r->model, seed, &r->error);
    for (int i = 0; i < count; i++) {
        float *value = hnp_param_master(r->model, i);
        for (int64_t e = 0; value && e < params[i].rows * params[i].columns; e++)
            value[e] = params[i].rank == 2 && !params[i].adapter ? value[e] * 10 : value[e] + 0.1f * sinf((float)(e + i));
    }
    hn_model_refresh_copy(r->model, &r->ctx);
    return status;
}

#endif
