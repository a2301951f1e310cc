/* What the files of models/ share: the model's struct, the rows of the families' parameter tables, and the
 * activations.
 *
 *     config.c -> families.c (tables) -> params.c (one list of parameters, views into arrays) -> load.c,
 * export.c activations.c (where everything of a batch stands) -> encoder.c, head.c (forward) ->
 * encoder_backward.c */
#ifndef HONE_MODELS_INTERNAL_H
#define HONE_MODELS_INTERNAL_H

#include "models/linear.h"
#include "models/model.h"

typedef struct hnp_layer {
    hn_linear qkv;           /* [3C, C]: Q, K and V one below the other */
    hn_linear attention_out; /* [C, C] */
    hn_norm attention_norm;
    hn_linear up;   /* [I, C] */
    hn_linear down; /* [C, I] */
    hn_norm mlp_norm;
} hnp_layer;

typedef struct hnp_embeddings {
    hn_weight token, position, type; /* [V, C], [P, C], [S, C] or no data */
    hn_norm norm;
} hnp_embeddings;

typedef struct hnp_head {
    hn_linear dense; /* [C, C] */
    hn_linear out;   /* [labels, C] */
} hnp_head;

/* A size that a table names; model-dependent. */
typedef enum hnp_size {
    HNP_ONE, /* columns of a vector */
    HNP_HIDDEN,
    HNP_QKV, /* 3 * hidden */
    HNP_INTERMEDIATE,
    HNP_VOCABULARY,
    HNP_POSITIONS,
    HNP_TYPES,
    HNP_LABELS
} hnp_size;

/* One row of a family's table. "%d" in a name is the layer. `offset` is where the parameter's hn_weight
 * stands in hnp_embeddings, hnp_layer or hnp_head. Several sources are equal runs of rows. */
typedef struct hnp_entry {
    const char *name;
    hnp_size rows, columns;
    hn_init init;
    bool decays;
    bool may_be_missing;
    size_t offset;
    const char *sources[HN_PARAM_SOURCES];
} hnp_entry;

typedef struct hnp_table {
    const hnp_entry *entries;
    int count;
} hnp_table;

/* A family: its tables, the prefix that a checkpoint's names may have, and the names that it may hold and
 * hone has no use for (without the prefix; a name that ends in "." stands for all that begin with it; NULL
 * ends the list). */
typedef struct hnp_family {
    const char *prefix;
    hnp_table embeddings, layer, head;
    const char *const *unused;
} hnp_family;
const hnp_family *hnp_family_get(hn_family family);

/* A source by its name without the prefix, sorted by it. */
typedef struct hnp_source {
    const char *key;
    int param, index;
} hnp_source;

/* What one layer keeps, or uses and forgets. R rows: T tokens, but n in the last layer. Layers that keep
 * nothing share one set, and write a sum where its norm's output goes. */
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

typedef struct hnp_activations {
    hn_bounds bounds;
    bool training;
    int first;                          /* lowest group that keeps what backward needs */
    uint32_t *row_example;              /* [T] the example of each token */
    int32_t *zeros;                     /* [max(T, n)] */
    int32_t *iota;                      /* [n + 1] 0, 1, 2, ... */
    hn_tensor embedding_sum, embedding; /* [T, C] input and output of the embeddings' norm */
    float *embedding_mean, *embedding_rstd;
    hnp_layer_state *layers;  /* [L], host memory of the model */
    hn_tensor last_x, last_q; /* [n, C] the last layer's input at the rows that the head reads, and its Q */
    hn_tensor head_rows;      /* [n, C] set by forward: what the head reads */
    hn_tensor head_input;     /* [n, C] the same after dropout */
    hn_tensor dense, dropped; /* [n, C] the head's hidden layer, before and after dropout */
    hn_tensor logits;         /* fp32 [n, labels] */
    hn_tensor d_logits;       /* [n, labels] */
    hn_tensor d_head;         /* [n, C] */
    hn_tensor d_rows[3];      /* [T, C] gradients on their way down */
    hn_tensor d_qkv;          /* [T, 3C] */
    hn_tensor d_q;            /* [n, C] */
} hnp_activations;

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

    hnp_embeddings embeddings;
    hnp_layer *layers;
    hnp_head head;
    float *master;
    uint16_t *copy;
    hnp_activations act;
};

/* Name without the family's prefix, and with the norm's old words ("gamma", "beta") replaced, in `buffer`. */
const char *hnp_source_key(char *buffer, size_t size, const hn_model *model, const char *name);

/* Fills rows [row, row + rows) of a parameter by its init rule. */
hn_status hnp_param_init(hn_model *model, int param, int64_t row, int64_t rows, uint64_t seed,
                         hn_error *error);

/* One forward, or the backward that belongs to it. */
typedef struct hnp_pass {
    hn_model *model;
    const hn_ops *ops;
    hn_ops_context *ctx;
    const hn_batch *batch;
    bool training;
    int first;          /* lowest trainable group; groups below are the trunk */
    hn_random tokens;   /* keys of the rows of [T, C] */
    hn_random examples; /* keys of the rows of [n, C]: first tokens */
} hnp_pass;

/* Marks the parameters of the plan as trainable and checks that the placed activations fit. */
hnp_pass hnp_pass_make(hn_model *model, hn_ops_context *ctx, const hn_batch *batch,
                       const hn_forward *forward);
/* Dropout at a site of a group: none in evaluation and in the trunk. */
hn_dropout hnp_pass_dropout(const hnp_pass *pass, int group, float probability, uint32_t site,
                            const hn_random *random);
/* What attention of a layer runs over: all rows, or in the last layer the queries of the first tokens. */
hn_attention hnp_pass_attention(const hnp_pass *pass, int layer);
/* Whether a group keeps what backward needs. */
bool hnp_pass_keeps(const hnp_pass *pass, int group);

/* From what the last layer (or a cache) gave for the first tokens to logits; and back to its gradient in `dx`
 * (NULL: not wanted). */
hn_tensor hnp_head_forward(const hnp_pass *pass, const hn_tensor *rows);
void hnp_head_backward(const hnp_pass *pass, const hn_tensor *dx);

#endif
