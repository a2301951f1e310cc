/* The parameter tables of the encoder families: for every parameter its name, shape, init rule, whether it decays, where it
 * stands in the model's structs, and the Hugging Face tensors that it is made of. Everything that loops over parameters
 * (allocation, init, import, export, freezing, decay, optimizer) loops over the list that params.c makes of these rows.
 *
 * BERT and RoBERTa share their trunk's names but for the prefix; a row is written once as a macro of the prefix. */
#include "models/internal.h"

#include <stddef.h>

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))
#define TABLE(array) {array, COUNT(array)}

#define MATRIX(name_, rows_, columns_, offset_, missing_, ...)                                                         \
    {.name = name_ ".weight", .rows = rows_, .columns = columns_, .init = HN_INIT_NORMAL, .decays = true,              \
     .may_be_missing = missing_, .offset = offset_, .sources = {__VA_ARGS__}}
#define VECTOR(name_, rows_, init_, offset_, missing_, ...)                                                            \
    {.name = name_, .rows = rows_, .columns = HNP_ONE, .init = init_, .decays = false, .may_be_missing = missing_,     \
     .offset = offset_, .sources = {__VA_ARGS__}}

/* A linear layer with one source, and a norm: weight and bias. */
#define LINEAR(owner_, field_, name_, rows_, columns_, missing_, source_)                                              \
    MATRIX(name_, rows_, columns_, offsetof(owner_, field_.weight), missing_, source_ ".weight"),                      \
        VECTOR(name_ ".bias", rows_, HN_INIT_ZERO, offsetof(owner_, field_.bias), missing_, source_ ".bias")
#define NORM(owner_, field_, name_, source_)                                                                           \
    VECTOR(name_ ".weight", HNP_HIDDEN, HN_INIT_ONE, offsetof(owner_, field_.gamma), false, source_ ".weight"),        \
        VECTOR(name_ ".bias", HNP_HIDDEN, HN_INIT_ZERO, offsetof(owner_, field_.beta), false, source_ ".bias")
#define TABLE_OF(field_, name_, rows_, source_)                                                                        \
    MATRIX(name_, rows_, HNP_HIDDEN, offsetof(hnp_embeddings, field_), false, source_ ".weight")

/* The three products of attention as one, Q above K above V. */
#define FUSED(name_, q_, k_, v_)                                                                                       \
    MATRIX(name_, HNP_QKV, HNP_HIDDEN, offsetof(hnp_layer, qkv.weight), false, q_ ".weight", k_ ".weight",             \
           v_ ".weight"),                                                                                              \
        VECTOR(name_ ".bias", HNP_QKV, HN_INIT_ZERO, offsetof(hnp_layer, qkv.bias), false, q_ ".bias", k_ ".bias",     \
               v_ ".bias")

#define BERT_EMBEDDINGS(prefix)                                                                                        \
    TABLE_OF(token, "embeddings.token", HNP_VOCABULARY, prefix "embeddings.word_embeddings"),                          \
        TABLE_OF(position, "embeddings.position", HNP_POSITIONS, prefix "embeddings.position_embeddings"),             \
        TABLE_OF(type, "embeddings.type", HNP_TYPES, prefix "embeddings.token_type_embeddings"),                       \
        NORM(hnp_embeddings, norm, "embeddings.norm", prefix "embeddings.LayerNorm")

#define BERT_LAYER(prefix)                                                                                             \
    FUSED("layer.%d.attention.qkv", prefix "encoder.layer.%d.attention.self.query",                                    \
          prefix "encoder.layer.%d.attention.self.key", prefix "encoder.layer.%d.attention.self.value"),               \
        LINEAR(hnp_layer, attention_out, "layer.%d.attention.out", HNP_HIDDEN, HNP_HIDDEN, false,                      \
               prefix "encoder.layer.%d.attention.output.dense"),                                                      \
        NORM(hnp_layer, attention_norm, "layer.%d.attention.norm",                                                     \
             prefix "encoder.layer.%d.attention.output.LayerNorm"),                                                    \
        LINEAR(hnp_layer, up, "layer.%d.mlp.up", HNP_INTERMEDIATE, HNP_HIDDEN, false,                                  \
               prefix "encoder.layer.%d.intermediate.dense"),                                                          \
        LINEAR(hnp_layer, down, "layer.%d.mlp.down", HNP_HIDDEN, HNP_INTERMEDIATE, false,                              \
               prefix "encoder.layer.%d.output.dense"),                                                                \
        NORM(hnp_layer, mlp_norm, "layer.%d.mlp.norm", prefix "encoder.layer.%d.output.LayerNorm")

/* Both linear layers of a head; a checkpoint of the bare trunk has neither, or only BERT's pooler. */
#define HEAD(dense_, out_)                                                                                             \
    LINEAR(hnp_head, dense, "head.dense", HNP_HIDDEN, HNP_HIDDEN, true, dense_),                                       \
        LINEAR(hnp_head, out, "head.out", HNP_LABELS, HNP_HIDDEN, true, out_)

static const hnp_entry bert_embeddings[] = {BERT_EMBEDDINGS("bert.")};
static const hnp_entry bert_layer[] = {BERT_LAYER("bert.")};
static const hnp_entry bert_head[] = {HEAD("bert.pooler.dense", "classifier")};
static const char *const bert_unused[] = {"embeddings.position_ids", "cls.", "qa_outputs.", NULL};

static const hnp_entry roberta_embeddings[] = {BERT_EMBEDDINGS("roberta.")};
static const hnp_entry roberta_layer[] = {BERT_LAYER("roberta.")};
static const hnp_entry roberta_head[] = {HEAD("classifier.dense", "classifier.out_proj")};
static const char *const roberta_unused[] = {"embeddings.position_ids", "lm_head.", "pooler.", "qa_outputs.", NULL};

#define DISTIL "distilbert.transformer.layer.%d."
static const hnp_entry distilbert_embeddings[] = {
    TABLE_OF(token, "embeddings.token", HNP_VOCABULARY, "distilbert.embeddings.word_embeddings"),
    TABLE_OF(position, "embeddings.position", HNP_POSITIONS, "distilbert.embeddings.position_embeddings"),
    NORM(hnp_embeddings, norm, "embeddings.norm", "distilbert.embeddings.LayerNorm"),
};
static const hnp_entry distilbert_layer[] = {
    FUSED("layer.%d.attention.qkv", DISTIL "attention.q_lin", DISTIL "attention.k_lin", DISTIL "attention.v_lin"),
    LINEAR(hnp_layer, attention_out, "layer.%d.attention.out", HNP_HIDDEN, HNP_HIDDEN, false, DISTIL "attention.out_lin"),
    NORM(hnp_layer, attention_norm, "layer.%d.attention.norm", DISTIL "sa_layer_norm"),
    LINEAR(hnp_layer, up, "layer.%d.mlp.up", HNP_INTERMEDIATE, HNP_HIDDEN, false, DISTIL "ffn.lin1"),
    LINEAR(hnp_layer, down, "layer.%d.mlp.down", HNP_HIDDEN, HNP_INTERMEDIATE, false, DISTIL "ffn.lin2"),
    NORM(hnp_layer, mlp_norm, "layer.%d.mlp.norm", DISTIL "output_layer_norm"),
};
static const hnp_entry distilbert_head[] = {HEAD("pre_classifier", "classifier")};
static const char *const distilbert_unused[] = {"embeddings.position_ids", "vocab_transform.", "vocab_layer_norm.",
                                                "vocab_projector.",        "qa_outputs.",      NULL};

static const hnp_family families[] = {
    [HN_FAMILY_BERT] = {"bert.", TABLE(bert_embeddings), TABLE(bert_layer), TABLE(bert_head), bert_unused},
    [HN_FAMILY_ROBERTA] = {"roberta.", TABLE(roberta_embeddings), TABLE(roberta_layer), TABLE(roberta_head),
                           roberta_unused},
    [HN_FAMILY_DISTILBERT] = {"distilbert.", TABLE(distilbert_embeddings), TABLE(distilbert_layer),
                              TABLE(distilbert_head), distilbert_unused},
};

const hnp_family *hnp_family_get(hn_family family)
{
    HN_ASSERT((unsigned)family < COUNT(families));
    return &families[family];
}
