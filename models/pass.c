/* What forward and backward of one batch share: who trains, which rows have which random keys, and where
 * dropout is off.
 *
 * A frozen trunk runs without dropout, whether its output comes from a cache or not, so both give the same
 * bits. The random keys of a row are its token's (example, position); rows that were gathered carry their
 * own, so a row has the same mask wherever it stands. */
#include <math.h>

#include "core/philox.h"
#include "models/internal.h"

static void mark_trainable(hn_model *model, const hn_train_plan *plan)
{
    for (int i = 0; i < model->count; i++)
        model->weights[i]->trainable = plan->trainable[model->params[i].group] && !model->params[i].frozen;
}

hnp_pass hnp_pass_make(hn_model *model, hn_ops_context *ctx, const hn_batch *batch, const hn_forward *forward)
{
    hnp_activations *act = &model->act;
    hnp_pass pass = {
        .model = model, .ops = model->ops, .ctx = ctx, .batch = batch, .forward = forward, .training = forward->training};
    HN_ASSERT(batch->tokens <= act->bounds.tokens && batch->n <= act->bounds.examples);
    HN_ASSERT(!batch->key_row || (batch->keys <= act->bounds.keys && !forward->cache));
    bool planned = forward->training || forward->trunk_output || forward->trunk_keep;
    if (planned) pass.first = hn_train_plan_first(model, &forward->plan);
    if (forward->training) {
        HN_ASSERT(act->training && act->first <= pass.first && pass.first < hn_model_group_count(model));
        mark_trainable(model, &forward->plan);
    }
    pass.tokens = (hn_random){forward->seed, forward->step, act->row_example, batch->position};
    pass.examples = (hn_random){forward->seed, forward->step, batch->example, act->zeros};
    return pass;
}

void hnp_pass_before(const hnp_pass *pass, int group)
{
    const hn_pass_listener *listener = pass->forward->listener;
    if (listener && listener->before) listener->before(listener->context, group);
}

void hnp_pass_before_head(const hnp_pass *pass)
{
    const hn_model *model = pass->model;
    bool table = hn_head_reads_tokens(model->config.head) && hnp_lm_weight(model) == &model->embeddings.token;
    if (table && pass->forward->trunk_output) hnp_pass_before(pass, 0);
    hnp_pass_before(pass, model->config.layers + 1);
}

void hnp_pass_after(const hnp_pass *pass, int group)
{
    const hn_pass_listener *listener = pass->forward->listener;
    if (listener && listener->after) listener->after(listener->context, group);
}

bool hnp_pass_keeps(const hnp_pass *pass, int group)
{
    return pass->training && group >= pass->first;
}

const hn_random *hnp_pass_random(const hnp_pass *pass, int group, const hn_random *random)
{
    return hnp_pass_keeps(pass, group) ? random : NULL;
}

hn_dropout hnp_pass_dropout(const hnp_pass *pass, int group, float probability, uint32_t site,
                            const hn_random *random)
{
    if (!hnp_pass_keeps(pass, group)) probability = 0;
    return (hn_dropout){.probability = probability, .site = site, .random = random};
}

hn_attention hnp_pass_attention(const hnp_pass *pass, int layer)
{
    const hn_model_config *c = &pass->model->config;
    const hn_batch *batch = pass->batch;
    bool causal = pass->model->family->architecture->causal, few = !causal && hnp_encoder_few(pass->model, layer);
    hn_attention attention = {.heads = c->heads,
                              .kv_heads = c->kv_heads,
                              .head_size = c->head_size,
                              .scale = 1.0f / sqrtf((float)c->head_size),
                              .causal = causal,
                              .n = batch->n,
                              .longest_q = few ? 1 : batch->longest,
                              .longest_k = batch->longest,
                              .cu_q = few ? pass->model->enc.iota : batch->cu_seqlens,
                              .cu_k = batch->key_row ? batch->cu_keys : batch->cu_seqlens,
                              .q_position = causal ? batch->position : NULL,
                              .dropout = hnp_pass_dropout(pass, layer + 1, c->attention_dropout,
                                                          HN_SITE(layer, HN_SITE_ATTENTION, 0),
                                                          few ? &pass->examples : &pass->tokens)};
    const hn_kv_cache *cache = pass->forward->cache;
    if (cache) {
        attention.cu_k = cache->cu;
        attention.k_count = cache->count;
        attention.longest_k = cache->longest;
    }
    return attention;
}

hn_tensor hnp_pass_trunk(const hnp_pass *pass, const hn_tensor *tensor)
{
    bool pooled = hn_model_trunk_pooled(pass->model, pass->first);
    HN_ASSERT(pass->first > 0 && tensor->dtype == pass->model->precision);
    HN_ASSERT(tensor->shape[1] == pass->model->config.hidden && hn_tensor_dense(tensor));
    return hn_tensor_rows(tensor, 0, pooled ? pass->batch->n : pass->batch->tokens);
}
