/* The public calls of a batch. What both architectures share stands here; the rest is the architecture's. */
#include "core/mem.h"
#include "models/internal.h"

const hnp_architecture hnp_encoder = {.place = hnp_encoder_place,
                                      .widest = hnp_encoder_widest,
                                      .forward = hnp_encoder_forward,
                                      .loss = hnp_head_loss,
                                      .backward = hnp_encoder_backward};
const hnp_architecture hnp_decoder = {.causal = true,
                                      .place = hnp_decoder_place,
                                      .widest = hnp_decoder_widest,
                                      .forward = hnp_decoder_forward,
                                      .loss = hnp_lm_loss,
                                      .backward = hnp_decoder_backward};

hn_tensor hnp_take(const hnp_layout *l, int64_t rows, int64_t columns)
{
    return hn_arena_tensor(l->arena, l->model->precision, rows, columns);
}

float *hnp_take_floats(const hnp_layout *l, int64_t rows, int64_t columns)
{
    return hn_arena_tensor(l->arena, HN_F32, rows, columns).data;
}

/* A device that fails here fails at the next call too, which says so. */
int32_t *hnp_take_series(const hnp_layout *l, int64_t count, int32_t step)
{
    int32_t piece[256];
    hn_backend *backend = l->model->backend;
    int32_t *series = hn_arena_tensor(l->arena, HN_I32, count, 1).data;
    for (int64_t done = 0; series && done < count; done += 256) {
        int64_t some = count - done < 256 ? count - done : 256;
        for (int64_t i = 0; i < some; i++) piece[i] = (int32_t)(done + i) * step;
        backend->copy_in(backend, series + done, piece, (size_t)some * sizeof *piece);
        backend->synchronize(backend, NULL);
    }
    return series;
}

void hn_model_place_activations(hn_model *model, hn_arena *arena, hn_bounds bounds, bool training, int first,
                                hn_recompute recompute)
{
    if (!training || first > model->config.layers) recompute = HN_RECOMPUTE_NONE;
    if (bounds.examples > bounds.tokens) bounds.examples = bounds.tokens; /* a sequence has a token */
    hnp_layout l = {model, arena, bounds.tokens, bounds.examples};
    hnp_activations *act = &model->act;
    *act = (hnp_activations){.bounds = bounds, .training = training, .first = first, .recompute = recompute};
    act->row_example = hn_arena_tensor(arena, HN_I32, l.tokens, 1).data;
    act->zeros = hnp_take_series(&l, l.tokens, 0);
    hnp_adapters_place(&l);
    model->family->architecture->place(&l);
}

size_t hn_model_workspace(const hn_model *model, hn_bounds bounds)
{
    const hn_model_config *c = &model->config;
    int64_t widest = model->family->architecture->widest(c), branch = hnp_adapters_widest(model);
    if (branch > widest) widest = branch;
    size_t most = model->ops->workspace(bounds.tokens, widest, bounds.longest, c->heads, model->precision);
    if (branch) most += model->ops->low_rank_workspace(widest, branch);
    if (!hn_head_reads_tokens(c->head)) return most;
    size_t loss = model->ops->linear_cross_entropy_workspace(bounds.tokens, c->hidden, c->vocabulary),
           choice = model->ops->choose_tokens_workspace(c->vocabulary);
    if (loss > most) most = loss;
    return choice > most ? choice : most;
}

bool hn_model_trunk_pooled(const hn_model *model, int first)
{
    return !hn_head_reads_tokens(model->config.head) && first > model->config.layers;
}

hn_tensor hn_model_forward(hn_model *model, hn_ops_context *ctx, const hn_batch *batch, const hn_forward *forward)
{
    hnp_pass pass = hnp_pass_make(model, ctx, batch, forward);
    int room = model->config.positions - model->config.position_offset;
    if (batch->longest > room)
        hn_fail(ctx->error, HN_ERR_MISMATCH, "a sequence has %d tokens, the model has positions for %d",
                batch->longest, room);
    if (forward->training)
        pass.ops->expand_rows(ctx, model->act.row_example, batch->example, batch->cu_seqlens, batch->n);
    return model->family->architecture->forward(&pass);
}

void hn_model_loss(hn_model *model, hn_ops_context *ctx, const hn_target_loss *out, const hn_batch *batch, float smoothing,
                   const float *scale, bool training)
{
    model->family->architecture->loss(model, ctx, out, batch, smoothing, scale, training);
}

void hn_model_backward(hn_model *model, hn_ops_context *ctx, const hn_batch *batch, const hn_forward *forward)
{
    HN_ASSERT(forward->training);
    hnp_pass pass = hnp_pass_make(model, ctx, batch, forward);
    model->family->architecture->backward(&pass);
}
