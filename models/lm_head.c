/* The head of a language model: the last norm's output times a matrix of the vocabulary, which is the table of tokens when it is
 * tied. The loss never stores logits: it is fused with the product, forward and backward at once, and rows without a target
 * cost nothing (kernels/linear_cross_entropy.h). Logits themselves, for generation, are made for few rows, a piece of the
 * vocabulary at a time. */
#include "models/internal.h"

const hn_weight *hnp_lm_weight(const hn_model *model)
{
    return model->config.tied ? &model->embeddings.token : &model->head.out.weight;
}

void hnp_vocabulary_loss(hn_model *model, hn_ops_context *ctx, const hn_target_loss *out, const hn_tensor *dx,
                         const hn_tensor *x, const hn_weight *bias, const hn_batch *batch, float smoothing, const float *scale)
{
    const hn_weight *weight = hnp_lm_weight(model);
    hn_target_loss counted = *out;
    HN_ASSERT(batch->target);
    counted.rows = batch->targets;
    model->ops->linear_cross_entropy(ctx, &counted, dx, dx && weight->trainable ? &weight->gradient : NULL,
                                     dx && bias && bias->trainable ? &bias->gradient : NULL, x, &weight->value,
                                     bias ? &bias->value : NULL, batch->target, smoothing, scale);
}

void hnp_lm_loss(hn_model *model, hn_ops_context *ctx, const hn_target_loss *out, const hn_batch *batch, float smoothing,
                 const float *scale, bool training)
{
    hn_tensor x = hn_tensor_rows(&model->dec.norm, 0, batch->tokens), dx = {0};
    if (training) dx = hn_tensor_rows(&model->dec.d_norm, 0, batch->tokens);
    hnp_vocabulary_loss(model, ctx, out, training ? &dx : NULL, &x, NULL, batch, smoothing, scale);
}

hn_tensor hn_model_logits(hn_model *model, hn_ops_context *ctx, const int32_t *row, int32_t count)
{
    HN_ASSERT(model->act.logits.data && count <= model->act.logits.shape[0]);
    hn_tensor rows = hn_tensor_rows(&model->dec.rows, 0, count);
    hn_tensor logits = hn_tensor_rows(&model->act.logits, 0, count);
    const hn_tensor *weight = &hnp_lm_weight(model)->value;
    model->ops->gather_rows(ctx, &rows, &model->dec.norm, row);
    for (int64_t v = 0; v < weight->shape[0]; v += HNP_LOGITS_CHUNK) {
        int64_t some = weight->shape[0] - v < HNP_LOGITS_CHUNK ? weight->shape[0] - v : HNP_LOGITS_CHUNK;
        hn_tensor part = hn_tensor_columns(&logits, v, some), w = hn_tensor_rows(weight, v, some);
        model->ops->linear_forward(ctx, &part, NULL, &rows, &w, NULL, HN_ACT_NONE);
    }
    return logits;
}
