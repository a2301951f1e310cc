/* A model: a table of parameters, and forward and backward through the operation table. Sizes and variants come from the
 * fields of config.json, never from a model's name.
 *
 * Freeze groups, bottom to top: 0 "embeddings", 1 .. L "layer.0" .. "layer.L-1", L + 1 "head".
 *
 * Life of a model: hn_model_config_read -> hn_model_open -> place parameters (hn_model_place_parameters) -> hn_model_load ->
 * place activations -> forward / loss / backward per batch. Every placing function is run on a counting arena first
 * (core/arena.h); `hone plan` stops there. */
#ifndef HONE_MODELS_MODEL_H
#define HONE_MODELS_MODEL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/batch.h"
#include "core/error.h"
#include "core/strbuf.h"
#include "core/tensor.h"
#include "kernels/ops.h"
#include "kernels/rope_table.h"

/* Encoders, then decoders; Mistral's parameters are Llama's. */
typedef enum hn_family {
    HN_FAMILY_BERT,
    HN_FAMILY_ROBERTA,
    HN_FAMILY_DISTILBERT,
    HN_FAMILY_GPT2,
    HN_FAMILY_LLAMA,
    HN_FAMILY_QWEN2,
    HN_FAMILY_QWEN3
} hn_family;
/* An encoder has a head on whole sequences; a decoder predicts the next token. */
typedef enum hn_head { HN_HEAD_CLASSIFY, HN_HEAD_REGRESS, HN_HEAD_LM } hn_head;

typedef struct hn_model_config {
    hn_family family;
    int layers, hidden, heads, intermediate, vocabulary, positions, types;
    int kv_heads, head_size; /* heads / kv_heads query heads share one K and V */
    int position_offset; /* RoBERTa: pad_token_id + 1 */
    hn_activation activation;
    float norm_epsilon, init_range;
    /* Dropout: of embeddings; of MLP outputs; of attention probabilities; of attention outputs; of the head's hidden layer; of
     * what the head reads. */
    float embedding_dropout, hidden_dropout, attention_dropout, attention_out_dropout, head_dropout, head_input_dropout;
    hn_activation head_activation; /* of the head's hidden layer */
    hn_head head;
    int labels; /* outputs of the head; 1 for regression, the vocabulary for a language model */
    /* Of decoders: */
    bool tied;         /* the table of tokens is the weight of the language model's head too */
    bool gated;        /* RMS norms without bias, rotary positions, down(act(gate x) * up x); else as GPT-2 */
    bool qk_norm;      /* an RMS norm of every head of Q and K before they are turned */
    hn_rope rope;      /* of gated ones */
} hn_model_config;

/* Reads and checks config.json (`where` names it in errors). What hone lacks is refused by name. head and labels are the
 * task's and set by the caller afterwards. */
hn_status hn_model_config_read(hn_model_config *out, const json_t *root, const char *where, hn_error *error);

/* NORMAL_BY_DEPTH: what is added to the residual stream, over the root of its number of summands (GPT-2). */
typedef enum hn_init { HN_INIT_NORMAL, HN_INIT_NORMAL_BY_DEPTH, HN_INIT_ZERO, HN_INIT_ONE } hn_init;

#define HN_PARAM_SOURCES 3

typedef struct hn_param {
    const char *name; /* "layer.0.attention.qkv.weight" */
    int rank;         /* 1 or 2 */
    int64_t rows, columns; /* columns = 1 for vectors */
    hn_init init;
    bool decays;
    bool may_be_missing; /* head: initialised when the checkpoint has none */
    int group;
    int64_t offset; /* elements from the start of the parameter array, a multiple of 32 */
    struct {
        const char *name; /* Hugging Face name, with the family's prefix */
        int64_t row, rows; /* rows of this parameter that it is */
        bool turned;       /* its file has them as columns (GPT-2's matrices are [in, out]) */
    } sources[HN_PARAM_SOURCES];
    int source_count;
} hn_param;

typedef struct hn_model hn_model;

hn_status hn_model_open(hn_model **out, const hn_model_config *config, hn_dtype precision /* F32 or BF16 */,
                        hn_backend *backend, const hn_ops *ops, hn_error *error);
void hn_model_free(hn_model *model);
const hn_model_config *hn_model_get_config(const hn_model *model);
const hn_param *hn_model_params(const hn_model *model, int *count);
int64_t hn_model_param_elements(const hn_model *model); /* length of the parameter array, with alignment */
int hn_model_group_count(const hn_model *model);
const char *hn_model_group_name(const hn_model *model, int group);
int hn_model_group_find(const hn_model *model, const char *name); /* -1: none */

/* Parameters: one fp32 array of hn_model_param_elements (the master), and its bf16 copy when the precision is bf16. */
void hn_model_place_parameters(hn_model *model, hn_arena *arena);
float *hn_model_master(const hn_model *model);
uint16_t *hn_model_copy(const hn_model *model); /* NULL in fp32 */
/* Writes the bf16 copy from the masters (after loading); AdamW keeps it up to date afterwards. Nothing in fp32. */
void hn_model_refresh_copy(hn_model *model, hn_ops_context *ctx);

/* Fills the masters from a checkpoint's tensors (any of F32, F16, BF16, F64; host memory; or F32 without data, whose values
 * come from `source`, which is NULL when all have data). Every tensor's name and shape is
 * checked; a tensor that belongs to nothing is an error unless it is known to be unused (pooler of another head, position_ids,
 * cls.* of pretraining), a missing one is an error unless may_be_missing: then it is initialised by the family's rule with
 * `seed` and named in `initialised` (borrowed names, newline-separated, into a strbuf). A name may come with or without the
 * family's prefix ("bert."). */
hn_status hn_model_load(hn_model *model, const hn_named_tensor *tensors, size_t count, const hn_tensor_source *source,
                        const char *where, uint64_t seed, hn_strbuf *initialised, hn_strbuf *ignored, hn_error *error);
/* All parameters by the init rule. Nothing in them depends on the batch, the backend or the order of the calls. */
hn_status hn_model_init(hn_model *model, uint64_t seed, hn_error *error);

/* The Hugging Face view of the masters: one named tensor a source, a view into the parameter array (host memory on the CPU),
 * but a copy for a source that stands turned in its file. */
typedef struct hn_exported {
    hn_named_tensor *tensors;
    size_t count;
    float *turned; /* the copies */
} hn_exported;
hn_status hn_exported_init(hn_exported *out, const hn_model *model, hn_error *error);
void hn_exported_close(hn_exported *exported);
/* Makes `root`, a copy of the original config.json, say what this model is: architectures and problem_type (labels are the
 * caller's id2label); the type of the weights is left to the weights. */
hn_status hn_model_export_config(const hn_model *model, json_t *root, hn_error *error);

/* What a run trains, fixed for a span of steps. Frozen groups at the bottom (all below `first`) are the trunk: it runs without
 * dropout and keeps no activations, and backward stops above it. */
typedef struct hn_train_plan {
    const bool *trainable; /* [groups] */
} hn_train_plan;
int hn_train_plan_first(const hn_model *model, const hn_train_plan *plan); /* lowest trainable group; groups when none */

typedef struct hn_bounds {
    int32_t tokens, examples, longest; /* of one batch */
} hn_bounds;

/* Activations for batches within `bounds`; training keeps what backward needs from group `first` up (0: from the embeddings),
 * the groups below and evaluation (training false) reuse one layer's worth. May be run again at any time, as when the arena
 * was used for something else in between: nothing lives in it from one step to the next. */
void hn_model_place_activations(hn_model *model, hn_arena *arena, hn_bounds bounds, bool training, int first);
/* Scratch of all operations; `longest` counts what a cache holds. */
size_t hn_model_workspace(const hn_model *model, hn_bounds bounds);

/* Gradients: an fp32 array of the parameters of groups with trainable[g], in parameter order; hn_model_gradient gives a
 * parameter's place or NULL. */
void hn_model_place_gradients(hn_model *model, hn_arena *arena, const bool *trainable);
float *hn_model_gradient(const hn_model *model, int param);

/* Whether the trunk's output has one row an example (the first tokens: only the head trains) instead of one a token. */
bool hn_model_trunk_pooled(const hn_model *model, int first);

typedef struct hn_kv_cache hn_kv_cache; /* models/kv_cache.h */

typedef struct hn_forward {
    bool training;      /* dropout above the trunk, activations kept */
    hn_train_plan plan; /* read when training, or when one of the next two is there */
    uint64_t seed;
    const uint32_t *step; /* backend memory */
    /* The output of the trunk (group first - 1), [T, C], or [n, C] when pooled, in the model's precision, dense, in the
     * backend's memory. It is read there by backward too. */
    const hn_tensor *trunk_output; /* from a cache: groups below `first` are not run; or NULL */
    hn_tensor *trunk_keep;         /* when not NULL: the trunk's output is written there (to fill a cache) */
    hn_kv_cache *cache;            /* a decoder's evaluation: the batch goes on from what it holds; or NULL */
} hn_forward;

/* Of heads on whole sequences: the logits of a batch, fp32 [n, labels]. The last layer computes only the rows that the head
 * reads. Of a language model: what its head reads, [T, C]; hn_model_loss and hn_model_logits go on from there. Either stands
 * in the model's activations until backward or the next forward. The batch's arrays stand in the backend's memory; so does
 * everything else. Fails through ctx->error. */
hn_tensor hn_model_forward(hn_model *model, hn_ops_context *ctx, const hn_batch *batch, const hn_forward *forward);

/* A language model's logits of tokens of the last forward's batch, fp32 [count, vocabulary], until the next call. row [count]
 * stands in the backend's memory; count is at most the examples of the bounds. In activations placed for evaluation. */
hn_tensor hn_model_logits(hn_model *model, hn_ops_context *ctx, const int32_t *row, int32_t count);

/* Loss of the last forward: out->loss += sum, out->count += targets (hn_batch.label or value; of a language model
 * hn_batch.target, a row a token, and then the other fields of `out` serve too); when training, the gradient of what
 * the head reads, times *scale, and of a language model's head's weight. */
void hn_model_loss(hn_model *model, hn_ops_context *ctx, const hn_target_loss *out, const hn_batch *batch, float smoothing,
                   const float *scale, bool training);
/* Adds to the gradients of the plan's groups. After hn_model_loss with training true, with the same batch and forward. */
void hn_model_backward(hn_model *model, hn_ops_context *ctx, const hn_batch *batch, const hn_forward *forward);

#endif
