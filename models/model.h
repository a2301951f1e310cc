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
#include "core/mirror.h"
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
/* An encoder has a head on whole sequences, or one on tokens: it predicts those that were hidden, or classes (TAGS). A decoder
 * predicts the next token. */
typedef enum hn_head { HN_HEAD_CLASSIFY, HN_HEAD_REGRESS, HN_HEAD_LM, HN_HEAD_MASKED, HN_HEAD_TAGS } hn_head;

/* Low-rank adapters (LoRA, Hu et al. 2021): W x + scale B A dropout(x), scale = alpha / rank, or alpha / sqrt(rank)
 * (rank-stabilised, Kalajdzievski 2023). Everything else is frozen but what `saved` names. The lists are borrowed and read by
 * hn_model_open. */
typedef struct hn_lora_config {
    int rank; /* 0: no adapters */
    float alpha, dropout;
    bool rank_stabilised;
    const char *const *targets; /* Hugging Face modules, whole or by their last words ("q_proj"), or "all-linear" alone */
    int target_count;
    const char *const *saved; /* modules that train whole; none: all of an encoder's head */
    int saved_count;
    const char *where; /* the adapter that errors name; NULL: the user's own */
} hn_lora_config;

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
    int labels; /* outputs of the head; 1 for regression, the vocabulary for tokens */
    /* Of decoders: */
    bool tied;         /* the table of tokens is the weight of the language model's head too */
    bool gated;        /* RMS norms without bias, rotary positions, down(act(gate x) * up x); else as GPT-2 */
    bool qk_norm;      /* an RMS norm of every head of Q and K before they are turned */
    hn_rope rope;      /* of gated ones */
    hn_lora_config lora; /* the caller's */
} hn_model_config;

/* Reads and checks config.json (`where` names it in errors). What hone lacks is refused by name. head and labels are the
 * task's and set by the caller afterwards. */
hn_status hn_model_config_read(hn_model_config *out, const json_t *root, const char *where, hn_error *error);

/* Whether training drops anything out. */
bool hn_model_config_drops(const hn_model_config *config);
/* Sets the head of an encoder, its labels, and what it takes from the rest of the config. */
void hn_model_config_head(hn_model_config *config, hn_head head, int labels);
/* Whether the head reads tokens: then targets are hn_batch.target, a row a token. */
bool hn_head_reads_tokens(hn_head head);

/* NORMAL_BY_DEPTH: what is added to the residual stream, over the root of its number of summands (GPT-2). UNIFORM: within
 * 1 / sqrt(columns) (He et al. 2015 with a = sqrt(5), as PEFT draws A). */
typedef enum hn_init { HN_INIT_NORMAL, HN_INIT_NORMAL_BY_DEPTH, HN_INIT_ZERO, HN_INIT_ONE, HN_INIT_UNIFORM } hn_init;

#define HN_PARAM_SOURCES 3
/* What PEFT puts before a name; names of adapters' sources have it. */
#define HN_PEFT_PREFIX "base_model.model."

typedef struct hn_param {
    const char *name; /* "layer.0.attention.qkv.weight" */
    int rank;         /* 1 or 2 */
    int64_t rows, columns; /* columns = 1 for vectors */
    hn_init init;
    bool decays;
    bool may_be_missing; /* head: initialised when the checkpoint has none */
    bool adapter;        /* A or B of LoRA: no part of the checkpoint that it is for */
    bool held;           /* by LoRA: of the checkpoint, and never trained */
    bool frozen;         /* never trained in this run: held, or of a group that never is */
    int group;
    /* Elements from the start of their arrays, multiples of 32; -1: it has no place there. */
    int64_t offset;      /* of the fp32 values */
    int64_t copy_offset; /* of the bf16 values that products read */
    int64_t gradient_offset; /* of the gradients, once they are placed */
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
int64_t hn_model_param_elements(const hn_model *model); /* length of the fp32 array, with alignment */
int hn_model_group_count(const hn_model *model);
const char *hn_model_group_name(const hn_model *model, int group);
int hn_model_group_find(const hn_model *model, const char *name); /* -1: none */

/* The group never trains in this run. Parameters are placed after it, or again; what hn_model_lay_out said is forgotten. */
void hn_model_freeze(hn_model *model, int group);
/* Whether any parameter of the group may train. */
bool hn_model_group_trains(const hn_model *model, int group);

/* Where the parameters stand in their three arrays, with an entry a parameter: elements from the start, multiples of 32, apart from each
 * other; -1: not there. What is between them stays zero. */
typedef struct hn_model_places {
    const int64_t *offset, *copy_offset; /* -1 where hn_param has it, and only there */
    const int64_t *gradient_offset;      /* -1: it never trains in this run */
    int64_t elements, copy_elements, gradient_elements; /* lengths of the arrays */
} hn_model_places;
/* The parameters stand there (nothing is borrowed), instead of in the order of the list; NULL: in that order, which is the rule unless
 * somebody asks for another. They and their gradients are placed after it, or again. */
void hn_model_lay_out(hn_model *model, const hn_model_places *places);

/* Parameters: one fp32 array of hn_model_param_elements (the masters), and one of bf16 values that products read when the
 * precision is bf16. A vector stands in the first alone; a matrix in both, but a frozen one of a bf16 model in the second alone. */
void hn_model_place_parameters(hn_model *model, hn_arena *arena);
float *hn_model_master(const hn_model *model);
uint16_t *hn_model_copy(const hn_model *model); /* NULL in fp32 */
/* Writes the bf16 values from the masters (after loading); AdamW keeps them up to date afterwards. Nothing in fp32. */
void hn_model_refresh_copy(hn_model *model, hn_ops_context *ctx);

/* Fills the parameters from a checkpoint's tensors (any of F32, F16, BF16, F64; host memory; or F32 without data, whose values
 * come from `source`, which is NULL when all have data). Every tensor's name and shape is
 * checked; a tensor that belongs to nothing is an error unless it is known to be unused (pooler of another head, position_ids,
 * cls.* of pretraining), a missing one is an error unless may_be_missing: then it is initialised by the family's rule with
 * `seed` and named in `initialised` (borrowed names, newline-separated, into a strbuf). A name may come with or without the
 * family's prefix ("bert."). Adapters are always initialised, by which the model computes what it would without them. */
hn_status hn_model_load(hn_model *model, const hn_named_tensor *tensors, size_t count, const hn_tensor_source *source,
                        const char *where, uint64_t seed, hn_strbuf *initialised, hn_strbuf *ignored, hn_error *error);
/* Fills the adapters, and what else an adapter's file holds, over what hn_model_load filled: PEFT's names
 * ("base_model.model.<module>.lora_A.weight"). A missing or unknown tensor is an error. */
hn_status hn_model_load_adapter(hn_model *model, const hn_named_tensor *tensors, size_t count, const char *where,
                                hn_error *error);
/* All parameters by the init rule. Nothing in them depends on the batch, the backend or the order of the calls. */
hn_status hn_model_init(hn_model *model, uint64_t seed, hn_error *error);

/* What a model gives to a file. */
typedef enum hn_export_kind {
    HN_EXPORT_WHOLE,   /* every parameter of the checkpoint, adapters left out */
    HN_EXPORT_MERGED,  /* the same with W + scale B A, summed in fp32 */
    HN_EXPORT_ADAPTER, /* adapters and what trains beside them, under PEFT's names */
} hn_export_kind;

/* One named tensor a source, fp32, shaped as its file has it, without data: hn_exported_fill gives its values, from the masters
 * or, where a frozen parameter has none, from the checkpoint that it was loaded from (borrowed), so that it goes out as it came in. */
typedef struct hn_exported {
    hn_named_tensor *tensors;
    size_t count;
    const hn_model *model;
    const hn_tensor_source *base_source;
    struct hnp_export_place *places; /* where each comes from */
    hn_named_tensor arrays[2];       /* all masters, and all bf16 copies */
    hn_mirror values;                /* the same for the host */
    char *names;
} hn_exported;
/* The values are those that the parameters have now. */
hn_status hn_exported_init(hn_exported *out, const hn_model *model, hn_export_kind kind, const hn_named_tensor *base,
                           size_t base_count, const hn_tensor_source *base_source, hn_error *error);
/* Elements [first, first + n) of tensors[index], multiples of its last dimension; `context` is the hn_exported. */
hn_status hn_exported_fill(void *context, float *out, size_t index, int64_t first, int64_t n, hn_error *error);
void hn_exported_close(hn_exported *exported);
/* Makes `root`, a copy of the original config.json, say what this model is: architectures and problem_type (labels are the
 * caller's id2label); the type of the weights is left to the weights. */
hn_status hn_model_export_config(const hn_model *model, json_t *root, hn_error *error);

/* What a run trains, fixed for a span of steps. Frozen groups at the bottom (all below `first`) are the trunk: it runs without
 * dropout and keeps no activations, and backward stops above it. */
typedef struct hn_train_plan {
    const bool *trainable; /* [groups] */
} hn_train_plan;
/* Lowest trainable group that has something to train; the number of groups when there is none. */
int hn_train_plan_first(const hn_model *model, const hn_train_plan *plan);

typedef struct hn_bounds {
    int32_t tokens, examples, longest; /* of one batch: rows, sequences, tokens of a sequence */
    int32_t keys; /* of a batch that shares rows (hn_batch.key_row): tokens of all sequences; 0: it never does */
} hn_bounds;

/* What backward makes again where forward did not keep it, by the same operations on the same values and random numbers: loss
 * and gradients have the same bits (Chen et al. 2016; SELECTIVE as Korthikanti et al. 2022 mean it, though it drops what
 * products gave and keeps what attention gave).
 *
 *     NONE        nothing
 *     SELECTIVE   Q, K and V, and what is inside the MLP: two of a layer's four products. Its inputs of attention and MLP are
 *                 kept, and the output of attention, whose price an element grows with the length of the sequences
 *     FULL        the whole layer but its last product. One [T, C] a layer is kept */
typedef enum hn_recompute { HN_RECOMPUTE_NONE, HN_RECOMPUTE_SELECTIVE, HN_RECOMPUTE_FULL } hn_recompute;

/* Activations for batches within `bounds`; training keeps what backward needs from group `first` up (0: from the embeddings)
 * and does not make again, the groups below and evaluation (training false) reuse one layer's worth. May be run again at any
 * time, as when the arena was used for something else in between: nothing lives in it from one step to the next. */
void hn_model_place_activations(hn_model *model, hn_arena *arena, hn_bounds bounds, bool training, int first,
                                hn_recompute recompute);
/* Scratch of all operations; `longest` counts what a cache holds. */
size_t hn_model_workspace(const hn_model *model, hn_bounds bounds);

/* Gradients: an fp32 array of the parameters of groups with trainable[g] that are not frozen, in parameter order, or where
 * hn_model_lay_out put them; hn_model_gradient gives a parameter's place or NULL. */
void hn_model_place_gradients(hn_model *model, hn_arena *arena, const bool *trainable);
float *hn_model_gradient(const hn_model *model, int param);

/* Whether the trunk's output has one row an example (the first tokens: only the head trains) instead of one a token. */
bool hn_model_trunk_pooled(const hn_model *model, int first);

typedef struct hn_kv_cache hn_kv_cache; /* models/kv_cache.h */

/* Told while a pass is enqueued, on the caller's thread; either may be NULL. A tied head's weight is group 0's.
 *
 *     before   forward: nothing that is enqueued earlier in the pass reads the group's parameters; what is enqueued later, and backward,
 *              may. Once for every group that is run, rising; behind a trunk from a cache also for group 0, before the head that reads its
 *              table
 *     after    backward: nothing is added to the gradients of this group, nor of those above, any more. Once for every group from
 *              the head down to the lowest that trains, falling */
typedef struct hn_pass_listener {
    void (*before)(void *context, int group);
    void (*after)(void *context, int group);
    void *context;
} hn_pass_listener;

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
    const hn_pass_listener *listener; /* or NULL */
} hn_forward;

/* Of heads on whole sequences: the logits of a batch, fp32 [n, labels]. The last layer computes only the rows that the head
 * reads. Of tags, in evaluation: fp32 [T, labels]. Of a language model: what its head reads, [T, C]; hn_model_loss and hn_model_logits go on from there. Either stands
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
