/* What the files of models/ share: the model's struct, the rows of the families' parameter tables, and the
 * activations.
 *
 *     config*.c -> families.c (tables) -> params.c, adapters.c (one list of parameters, views into arrays) -> load.c, export.c
 *     model.c (the public calls) -> encoder*.c, head.c, activations.c  |  decoder*.c, lm_head.c, kv_cache.c */
#ifndef HONE_MODELS_INTERNAL_H
#define HONE_MODELS_INTERNAL_H

#include <math.h>

#include "core/philox.h"
#include "core/upload.h"
#include "models/kv_cache.h"
#include "models/linear.h"
#include "models/model.h"

/* Q of `heads` heads and K and V of `kv_heads` are one below the other; so are gate and up. A weight that a
 * family lacks has no data. An encoder's norms stand behind its sums, a decoder's before its branches. */
typedef struct hnp_layer {
    hn_linear qkv;           /* [(heads + 2 kv_heads) D, C] */
    hn_norm q_norm, k_norm;  /* [D] */
    hn_linear attention_out; /* [C, heads D] */
    hn_norm attention_norm;
    hn_linear up;   /* [I, C], gated [2I, C] */
    hn_linear down; /* [C, I] */
    hn_norm mlp_norm;
} hnp_layer;

typedef struct hnp_embeddings {
    hn_weight token, position, type; /* [V, C], [P, C], [S, C] or no data */
    hn_norm norm;
} hnp_embeddings;

typedef struct hnp_head {
    hn_norm norm;    /* a decoder's last, or that of hidden tokens */
    hn_linear dense; /* [C, C] an encoder's */
    hn_linear out;   /* [labels, C]; without a weight when it is tied to the table of tokens */
} hnp_head;

/* Strings one behind the other; without memory it only counts, so the same calls size and fill it. */
typedef struct hnp_pool {
    char *base;
    size_t used;
} hnp_pool;
/* A name with the layer in the place of its "%d"; NULL while counting. */
char *hnp_pool_name(hnp_pool *names, const char *format, int layer);

/* A size that a table names; model-dependent. */
typedef enum hnp_size {
    HNP_ONE, /* columns of a vector */
    HNP_HIDDEN,
    HNP_QUERIES, /* heads * head size */
    HNP_KEYS,    /* kv heads * head size; values are as many */
    HNP_QKV,     /* all three */
    HNP_HEAD,
    HNP_INTERMEDIATE,
    HNP_GATED, /* 2 * intermediate: gate and up */
    HNP_VOCABULARY,
    HNP_POSITIONS,
    HNP_TYPES,
    HNP_LABELS
} hnp_size;

int64_t hnp_size_of(const hn_model_config *config, hnp_size size);

/* One row of a family's table. "%d" in a name is the layer. `offset` is where the parameter's hn_weight
 * stands in hnp_embeddings, hnp_layer or hnp_head. Its sources are runs of its rows, one below the other. */
typedef struct hnp_entry {
    const char *name;
    hnp_size rows, columns;
    hn_init init;
    bool decays;
    bool may_be_missing;
    bool adaptable; /* the weight of a linear layer that may have adapters: its hn_weight is the first of a hn_linear */
    bool untied; /* only in a model whose head is not tied */
    bool turned; /* the file has rows as columns */
    size_t offset;
    struct {
        const char *name;
        hnp_size rows;
    } sources[HN_PARAM_SOURCES];
} hnp_entry;

typedef struct hnp_table {
    const hnp_entry *entries;
    int count;
} hnp_table;

/* A family: its tables, the prefix that a checkpoint's names may have, and the names that it may hold and
 * hone has no use for (without the prefix; a name that ends in "." stands for all that begin with it, one that
 * begins with "." for all that end with it; NULL ends the list). */
typedef struct hnp_architecture hnp_architecture;
typedef struct hnp_family {
    const hnp_architecture *architecture;
    const char *prefix;
    hnp_table embeddings, layer, head;
    const char *const *unused;
    /* Of encoders: the heads that predict hidden tokens and tags, and what they have no use for. */
    hnp_table masked;
    const char *const *masked_unused;
    hnp_table tags;
    const char *const *tags_unused;
} hnp_family;
const hnp_family *hnp_family_get(hn_family family);
const hnp_table *hnp_head_table(const hn_model *model);
const char *const *hnp_unused_names(const hn_model *model);

/* A source by its name without the prefix, sorted by it. */
typedef struct hnp_source {
    const char *key;
    int param, index;
} hnp_source;

/* The adapters of one linear layer. */
typedef struct hnp_pair {
    hn_linear *linear;
    int group;
    int param; /* A's number; B's is the next */
} hnp_pair;

/* What one layer keeps, or uses and forgets. R rows: T tokens, but n in the last layer. Layers that keep
 * nothing share one set, and write a sum where its norm's output goes; what backward makes again is shared too
 * (activations.c says what that is). */
typedef struct hnp_layer_state {
    hn_tensor input;         /* [T, C] set by forward: the output of the group below, or a cache's */
    hn_tensor qkv;           /* [T, 3C]; in the last layer K and V only, [T, 2C] */
    hn_tensor attention;     /* [R, C] what attention gives */
    float *lse;              /* [heads, R] */
    hn_tensor attention_sum; /* [R, C] input of the first norm */
    float *attention_mean, *attention_rstd;
    hn_tensor middle;  /* [R, C] output of the first norm */
    hn_tensor z, a;    /* [R, I] before and after the activation */
    hn_tensor mlp_sum; /* [R, C] input of the second norm */
    float *mlp_mean, *mlp_rstd;
    hn_tensor y; /* [R, C] the layer's output */
} hnp_layer_state;

/* What both architectures have. */
typedef struct hnp_activations {
    hn_bounds bounds;
    bool training;
    int first;             /* lowest group that keeps what backward needs */
    hn_recompute recompute; /* NONE where nothing is kept */
    uint32_t *row_example; /* [T] the example of each token */
    int32_t *zeros;        /* [max(T, n)] */
    hn_tensor logits;      /* fp32 [n, labels] */
} hnp_activations;

typedef struct hnp_encoder_activations {
    int32_t *iota;                      /* [n + 1] 0, 1, 2, ... */
    hn_tensor embedding_sum, embedding; /* [T, C] input and output of the embeddings' norm */
    hn_tensor y;                        /* [T, C] output of the layer that ran last, where none keeps its own */
    float *embedding_mean, *embedding_rstd;
    hnp_layer_state *layers;  /* [L], host memory of the model */
    hn_tensor last_x, last_q; /* [n, C] the last layer's input at the rows that the head reads, and its Q */
    hn_tensor head_rows;      /* [n, C] set by forward: what the head reads */
    hn_tensor head_input;     /* [n, C] the same after dropout */
    hn_tensor dense, dropped; /* [n, C] the head's hidden layer, before and after dropout */
    hn_tensor d_logits;       /* [n, labels] */
    hn_tensor d_head;         /* [n, C] */
    /* Of a head on tokens, [T, C]: its hidden layer before and after the activation; what its last product reads, and the gradient
     * of that. */
    hn_tensor masked_z, masked_a, masked, d_masked;
    float *masked_mean, *masked_rstd;
    hn_tensor d_rows[3];      /* [T, C] gradients on their way down */
    hn_tensor d_qkv;          /* [T, 3C] */
    hn_tensor d_q;            /* [n, C] */
} hnp_encoder_activations;

/* What a decoder's layer keeps; layers that keep nothing share one set, and write the residual stream in place. What backward
 * makes again is shared too (decoder_activations.c). */
typedef struct hnp_block_state {
    hn_tensor input; /* [T, C] set by forward: the stream as the layer finds it, in `stream` or in a cache */
    hn_tensor stream, middle; /* [T, C] the stream before the first and before the second norm */
    float *mean, *rstd, *middle_mean, *middle_rstd;
    hn_tensor qkv;            /* [T, (heads + 2 kv_heads) D], Q and K normed and turned */
    hn_tensor qk;             /* [T, (heads + kv_heads) D] Q and K before their norms */
    float *q_rstd, *k_rstd;   /* [T, heads], [T, kv_heads] */
    hn_tensor attention;      /* [T, heads D] */
    float *lse;               /* [heads, T] */
    hn_tensor z;              /* [T, I], gated [T, 2I]: before the activation */
    hn_tensor a;              /* [T, I] after it; shared by all layers when it is gated or made again */
} hnp_block_state;

typedef struct hnp_decoder_activations {
    hn_tensor rope_table;    /* fp32 [longest, D] of gated ones */
    hnp_block_state *layers; /* [L], host memory of the model */
    hn_tensor stream;        /* [T, C] of the layers that keep nothing */
    hn_tensor norm, branch;  /* [T, C] what a norm gave, after forward the last one; what is to be added to the stream next */
    hn_tensor a;             /* [T, I] of layers that keep none of their own */
    hn_tensor last;          /* [T, C] the stream before the last norm: its place */
    hn_tensor last_input;    /* the same, set by forward */
    float *last_mean, *last_rstd;
    hn_tensor rows;          /* [n, C] what logits are made of */
    hn_tensor d_stream, d_branch, d_norm; /* [T, C]; d_branch only where there is dropout */
    hn_tensor d_attention;   /* [T, heads D] */
    hn_tensor d_qkv;
    hn_tensor kv, d_kv;      /* [keys, 2 K D] K and V of every sequence's tokens, where sequences share rows */
} hnp_decoder_activations;

struct hn_model {
    hn_model_config config;
    hn_dtype precision;
    hn_backend *backend;
    const hn_ops *ops;
    const hnp_family *family;

    hn_param *params;
    hn_weight **weights; /* [count] where each parameter's views stand */
    int count;
    int64_t elements;
    char *names; /* of params, sources and groups */
    char **group_names;
    hnp_source *sources; /* sorted by key */
    size_t source_count;
    hnp_pair *pairs;
    int pair_count;
    bool *group_trains; /* [groups] */
    int64_t copy_elements;
    int64_t gradient_elements; /* -1: gradients stand in the order of the parameters that train */

    hnp_embeddings embeddings;
    hnp_layer *layers;
    hnp_head head;
    float *master;
    uint16_t *copy;
    hn_upload upload; /* of parameters */
    hnp_activations act;
    hnp_encoder_activations enc;
    hnp_decoder_activations dec;
};

/* Rows of the vocabulary that one product for logits takes. */
#define HNP_LOGITS_CHUNK 1024
/* The weight of a language model's head: its own, or the table of tokens. */
const hn_weight *hnp_lm_weight(const hn_model *model);

/* Name without the family's prefix, and with the norm's old words ("gamma", "beta") replaced, in `buffer`. */
const char *hnp_source_key(char *buffer, size_t size, const hn_model *model, const char *name);

/* By its name in a checkpoint; NULL: none. */
const hnp_source *hnp_source_find(const hn_model *model, const char *name);
/* The shape that a file has it in. */
hn_tensor hnp_source_shape(const hn_param *param, int s);

/* Fills rows [row, row + rows) of a parameter by its init rule. */
hn_status hnp_param_init(hn_model *model, int param, int64_t row, int64_t rows, uint64_t seed,
                         hn_error *error);

/* The fp32 values of a parameter, or NULL where it has bf16 ones alone. */
float *hnp_param_master(const hn_model *model, int param);
uint16_t *hnp_param_copy(const hn_model *model, int param);
/* Writes elements [first, first + count) of a parameter where it stands; they have arrived after hn_upload_finish(&model->upload). */
hn_status hnp_param_write(hn_model *model, int param, int64_t first, const float *values, int64_t count, hn_error *error);
/* Elements [first, first + count) of a dense tensor of F32, F16, BF16 or F64 as floats; of its transpose when `turned`. */
void hnp_to_floats(float *out, const hn_tensor *tensor, bool turned, int64_t first, int64_t count);

/* Sizes of one placing of activations, and pieces of its arena. */
typedef struct hnp_layout {
    hn_model *model;
    hn_arena *arena;
    int64_t tokens, examples;
} hnp_layout;
hn_tensor hnp_take(const hnp_layout *layout, int64_t rows, int64_t columns); /* in the model's precision */
float *hnp_take_floats(const hnp_layout *layout, int64_t rows, int64_t columns);
/* Integers 0, step, 2 step, ... in the backend's memory. */
int32_t *hnp_take_series(const hnp_layout *layout, int64_t count, int32_t step);

/* adapters.c: parameters of LoRA behind those of the checkpoint; whether what the config names is there, and what it freezes;
 * columns of the widest branch; places for what branches keep. */
void hnp_adapters_add(hn_model *model, hnp_pool *names);
hn_status hnp_adapters_check(hn_model *model, hn_error *error);
int64_t hnp_adapters_widest(const hn_model *model);
void hnp_adapters_place(const hnp_layout *layout);

/* One forward, or the backward that belongs to it. */
typedef struct hnp_pass {
    hn_model *model;
    const hn_ops *ops;
    hn_ops_context *ctx;
    const hn_batch *batch;
    const hn_forward *forward;
    bool training;
    int first;          /* lowest trainable group; groups below are the trunk */
    hn_random tokens;   /* keys of the rows of [T, C] */
    hn_random examples; /* keys of the rows of [n, C]: first tokens */
} hnp_pass;

/* What model.c calls; a family names its own. */
struct hnp_architecture {
    bool causal; /* a token sees those before it, and the head reads tokens; else it reads the first of each sequence */
    void (*place)(const hnp_layout *layout);
    int64_t (*widest)(const hn_model_config *config); /* columns or rows of a matrix in a product */
    hn_tensor (*forward)(const hnp_pass *pass);
    void (*loss)(hn_model *model, hn_ops_context *ctx, const hn_target_loss *out, const hn_batch *batch, float smoothing,
                 const float *scale, bool training);
    void (*backward)(const hnp_pass *pass);
};
extern const hnp_architecture hnp_encoder, hnp_decoder;

/* Marks the parameters of the plan as trainable and checks that the placed activations fit. */
hnp_pass hnp_pass_make(hn_model *model, hn_ops_context *ctx, const hn_batch *batch, const hn_forward *forward);
/* Dropout at a site of a group: none in evaluation and in the trunk. */
hn_dropout hnp_pass_dropout(const hnp_pass *pass, int group, float probability, uint32_t site,
                            const hn_random *random);
/* What attention runs over: causally the tokens before (and the cache's), or all of a sequence. */
hn_attention hnp_pass_attention(const hnp_pass *pass, int layer);
/* The keys of rows for the adapters of a group: NULL where nothing is dropped. */
const hn_random *hnp_pass_random(const hnp_pass *pass, int group, const hn_random *random);
/* Tells the listener that a group's parameters are about to be read; the head's with the table that it may read; that a group's
 * gradients are complete. */
void hnp_pass_before(const hnp_pass *pass, int group);
void hnp_pass_before_head(const hnp_pass *pass);
void hnp_pass_after(const hnp_pass *pass, int group);
/* Whether a group keeps what backward needs. */
bool hnp_pass_keeps(const hnp_pass *pass, int group);
/* The trunk's output as a cache holds it, or where to write it. */
hn_tensor hnp_pass_trunk(const hnp_pass *pass, const hn_tensor *tensor);

/* encoder: activations.c, encoder.c, encoder_backward.c, head.c, token_head.c */
/* Whether a layer has a row a sequence: the last one, below a head that reads first tokens. */
static inline bool hnp_encoder_few(const hn_model *model, int layer)
{
    return layer == model->config.layers - 1 && !hn_head_reads_tokens(model->config.head);
}
void hnp_encoder_place(const hnp_layout *layout);
int64_t hnp_encoder_widest(const hn_model_config *config);
hn_tensor hnp_encoder_forward(const hnp_pass *pass);
/* Makes again what backward of a layer is about to read and forward did not keep (hn_recompute). */
void hnp_encoder_again(const hnp_pass *pass, int layer);
void hnp_encoder_backward(const hnp_pass *pass);
void hnp_head_loss(hn_model *model, hn_ops_context *ctx, const hn_target_loss *out, const hn_batch *batch, float smoothing,
                   const float *scale, bool training);
/* From what the last layer (or a cache) gave for the first tokens to logits; and back to its gradient in `dx`
 * (NULL: not wanted). */
hn_tensor hnp_head_forward(const hnp_pass *pass, const hn_tensor *rows);
void hnp_head_backward(const hnp_pass *pass, const hn_tensor *dx);
/* The same from and to all rows of the last layer, for hidden tokens and tags. */
void hnp_token_head_place(const hnp_layout *layout);
hn_tensor hnp_token_head_forward(const hnp_pass *pass, const hn_tensor *x);
void hnp_token_head_backward(const hnp_pass *pass, const hn_tensor *dx);
void hnp_token_head_loss(hn_model *model, hn_ops_context *ctx, const hn_target_loss *out, const hn_batch *batch, float smoothing,
                     const float *scale, bool training);

/* lm_head.c: the loss of the vocabulary's product of x [T, C], with the gradient dx (NULL: not wanted, nor the weights'). bias
 * NULL: none. */
void hnp_vocabulary_loss(hn_model *model, hn_ops_context *ctx, const hn_target_loss *out, const hn_tensor *dx,
                         const hn_tensor *x, const hn_weight *bias, const hn_batch *batch, float smoothing, const float *scale);

/* decoder: decoder_activations.c, decoder.c, decoder_backward.c, decoder_attention.c, lm_head.c */
void hnp_decoder_place(const hnp_layout *layout);
int64_t hnp_decoder_widest(const hn_model_config *config);
hn_tensor hnp_decoder_forward(const hnp_pass *pass);
void hnp_decoder_backward(const hnp_pass *pass);
void hnp_lm_loss(hn_model *model, hn_ops_context *ctx, const hn_target_loss *out, const hn_batch *batch, float smoothing,
                 const float *scale, bool training);
/* As hnp_encoder_again; not for the layer that forward ran last, of which everything is still there. */
void hnp_decoder_again(const hnp_pass *pass, int layer);
/* Q, K and V of a layer, normed and turned, from x [T, C], its input's norm. */
hn_tensor hnp_attend_project(const hnp_pass *pass, int layer, const hn_tensor *x);
/* Attention of a layer: x to o [T, heads D]; and the gradient of o to that of Q, K and V as the product gave them, in d_qkv. */
void hnp_attend(const hnp_pass *pass, int layer, const hn_tensor *o, const hn_tensor *x);
void hnp_attend_backward(const hnp_pass *pass, int layer, const hn_tensor *d_qkv, const hn_tensor *d_o);

#endif
