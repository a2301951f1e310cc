/* The parameter tables of the families: for every parameter its name, shape, init rule, whether it decays, where it
 * stands in the model's structs, and the Hugging Face tensors that it is made of. Everything that loops over parameters
 * (allocation, init, import, export, freezing, decay, optimizer) loops over the list that params.c makes of these rows.
 *
 * BERT and RoBERTa share their trunk's names but for the prefix; a row is written once as a macro of the prefix. */
#include "models/internal.h"

#include <stddef.h>

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))
#define TABLE(array) {array, COUNT(array)}

/* A parameter's sources are written (name, size of their rows). */
#define MATRIX(name_, rows_, columns_, init_, offset_, missing_, ...)                                                  \
    {.name = name_ ".weight", .rows = rows_, .columns = columns_, .init = init_, .decays = true, .adaptable = true,    \
     .may_be_missing = missing_, .offset = offset_, .sources = {__VA_ARGS__}}
#define VECTOR(name_, rows_, init_, offset_, missing_, ...)                                                            \
    {.name = name_, .rows = rows_, .columns = HNP_ONE, .init = init_, .decays = false, .may_be_missing = missing_,     \
     .offset = offset_, .sources = {__VA_ARGS__}}

/* A linear layer with one source, and a norm: weight and bias. */
#define LINEAR(owner_, field_, name_, rows_, columns_, missing_, source_)                                              \
    MATRIX(name_, rows_, columns_, HN_INIT_NORMAL, offsetof(owner_, field_.weight), missing_,                          \
           {source_ ".weight", rows_}),                                                                                \
        VECTOR(name_ ".bias", rows_, HN_INIT_ZERO, offsetof(owner_, field_.bias), missing_, {source_ ".bias", rows_})
#define GAIN(owner_, field_, name_, rows_, source_)                                                                    \
    VECTOR(name_ ".weight", rows_, HN_INIT_ONE, offsetof(owner_, field_.gamma), false, {source_ ".weight", rows_})
#define NORM(owner_, field_, name_, source_)                                                                           \
    GAIN(owner_, field_, name_, HNP_HIDDEN, source_),                                                                  \
        VECTOR(name_ ".bias", HNP_HIDDEN, HN_INIT_ZERO, offsetof(owner_, field_.beta), false,                          \
               {source_ ".bias", HNP_HIDDEN})
#define TABLE_OF(field_, name_, rows_, source_)                                                                        \
    {.name = name_ ".weight", .rows = rows_, .columns = HNP_HIDDEN, .init = HN_INIT_NORMAL, .decays = true,            \
     .offset = offsetof(hnp_embeddings, field_), .sources = {{source_ ".weight", rows_}}}

/* The three products of attention as one, Q above K above V. */
#define FUSED(kind_, q_, k_, v_) {q_ kind_, HNP_QUERIES}, {k_ kind_, HNP_KEYS}, {v_ kind_, HNP_KEYS}
#define QKV_WEIGHT(name_, q_, k_, v_)                                                                                  \
    MATRIX(name_, HNP_QKV, HNP_HIDDEN, HN_INIT_NORMAL, offsetof(hnp_layer, qkv.weight), false,                         \
           FUSED(".weight", q_, k_, v_))
#define QKV_BIAS(name_, q_, k_, v_)                                                                                    \
    VECTOR(name_ ".bias", HNP_QKV, HN_INIT_ZERO, offsetof(hnp_layer, qkv.bias), false, FUSED(".bias", q_, k_, v_))
#define QKV(name_, q_, k_, v_) QKV_WEIGHT(name_, q_, k_, v_), QKV_BIAS(name_, q_, k_, v_)

#define BERT_EMBEDDINGS(prefix)                                                                                        \
    TABLE_OF(token, "embeddings.token", HNP_VOCABULARY, prefix "embeddings.word_embeddings"),                          \
        TABLE_OF(position, "embeddings.position", HNP_POSITIONS, prefix "embeddings.position_embeddings"),             \
        TABLE_OF(type, "embeddings.type", HNP_TYPES, prefix "embeddings.token_type_embeddings"),                       \
        NORM(hnp_embeddings, norm, "embeddings.norm", prefix "embeddings.LayerNorm")

#define BERT_LAYER(prefix)                                                                                             \
    QKV("layer.%d.attention.qkv", prefix "encoder.layer.%d.attention.self.query",                                    \
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

/* The head that predicts hidden tokens: a linear layer with an activation, a norm, and the table of tokens with a bias of its
 * own. A checkpoint of the bare trunk has none of it. */
#define NEW_VECTOR(name_, rows_, init_, field_, source_)                                                               \
    VECTOR(name_, rows_, init_, offsetof(hnp_head, field_), true, {source_, rows_})
#define MASKED(dense_, norm_, bias_)                                                                                   \
    LINEAR(hnp_head, dense, "head.dense", HNP_HIDDEN, HNP_HIDDEN, true, dense_),                                       \
        NEW_VECTOR("head.norm.weight", HNP_HIDDEN, HN_INIT_ONE, norm.gamma, norm_ ".weight"),                          \
        NEW_VECTOR("head.norm.bias", HNP_HIDDEN, HN_INIT_ZERO, norm.beta, norm_ ".bias"),                              \
        NEW_VECTOR("head.out.bias", HNP_VOCABULARY, HN_INIT_ZERO, out.bias, bias_)

/* A class for every token. Its product is fused with the loss, so it has no adapters: with LoRA it trains whole. */
static const hnp_entry tags_head[] = {
    {.name = "head.out.weight", .rows = HNP_LABELS, .columns = HNP_HIDDEN, .init = HN_INIT_NORMAL, .decays = true, .may_be_missing = true,
     .offset = offsetof(hnp_head, out.weight), .sources = {{"classifier.weight", HNP_LABELS}}},
    VECTOR("head.out.bias", HNP_LABELS, HN_INIT_ZERO, offsetof(hnp_head, out.bias), true, {"classifier.bias", HNP_LABELS})};
static const char *const bert_tags_unused[] = {"embeddings.position_ids", "cls.", "lm_head.", "pooler.", "classifier.dense.",
                                               "classifier.out_proj.", "qa_outputs.", NULL};
static const char *const distilbert_tags_unused[] = {"embeddings.position_ids", "vocab_transform.", "vocab_layer_norm.",
                                                     "vocab_projector.", "pre_classifier.", "qa_outputs.", NULL};

static const hnp_entry bert_embeddings[] = {BERT_EMBEDDINGS("bert.")};
static const hnp_entry bert_layer[] = {BERT_LAYER("bert.")};
static const hnp_entry bert_head[] = {HEAD("bert.pooler.dense", "classifier")};
static const hnp_entry bert_masked[] = {
    MASKED("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias")};
static const char *const bert_masked_unused[] = {"embeddings.position_ids", "cls.predictions.decoder.", "cls.seq_relationship.",
                                                 "pooler.", "classifier.", "qa_outputs.", NULL};
static const char *const bert_unused[] = {"embeddings.position_ids", "cls.", "qa_outputs.", NULL};

static const hnp_entry roberta_embeddings[] = {BERT_EMBEDDINGS("roberta.")};
static const hnp_entry roberta_layer[] = {BERT_LAYER("roberta.")};
static const hnp_entry roberta_head[] = {HEAD("classifier.dense", "classifier.out_proj")};
static const hnp_entry roberta_masked[] = {MASKED("lm_head.dense", "lm_head.layer_norm", "lm_head.bias")};
static const char *const roberta_masked_unused[] = {"embeddings.position_ids", "lm_head.decoder.", "pooler.", "classifier.",
                                                    "qa_outputs.", NULL};
static const char *const roberta_unused[] = {"embeddings.position_ids", "lm_head.", "pooler.", "qa_outputs.", NULL};

#define DISTIL "distilbert.transformer.layer.%d."
static const hnp_entry distilbert_embeddings[] = {
    TABLE_OF(token, "embeddings.token", HNP_VOCABULARY, "distilbert.embeddings.word_embeddings"),
    TABLE_OF(position, "embeddings.position", HNP_POSITIONS, "distilbert.embeddings.position_embeddings"),
    NORM(hnp_embeddings, norm, "embeddings.norm", "distilbert.embeddings.LayerNorm"),
};
static const hnp_entry distilbert_layer[] = {
    QKV("layer.%d.attention.qkv", DISTIL "attention.q_lin", DISTIL "attention.k_lin", DISTIL "attention.v_lin"),
    LINEAR(hnp_layer, attention_out, "layer.%d.attention.out", HNP_HIDDEN, HNP_HIDDEN, false, DISTIL "attention.out_lin"),
    NORM(hnp_layer, attention_norm, "layer.%d.attention.norm", DISTIL "sa_layer_norm"),
    LINEAR(hnp_layer, up, "layer.%d.mlp.up", HNP_INTERMEDIATE, HNP_HIDDEN, false, DISTIL "ffn.lin1"),
    LINEAR(hnp_layer, down, "layer.%d.mlp.down", HNP_HIDDEN, HNP_INTERMEDIATE, false, DISTIL "ffn.lin2"),
    NORM(hnp_layer, mlp_norm, "layer.%d.mlp.norm", DISTIL "output_layer_norm"),
};
static const hnp_entry distilbert_head[] = {HEAD("pre_classifier", "classifier")};
static const hnp_entry distilbert_masked[] = {MASKED("vocab_transform", "vocab_layer_norm", "vocab_projector.bias")};
static const char *const distilbert_masked_unused[] = {"embeddings.position_ids", "vocab_projector.weight", "pre_classifier.",
                                                       "classifier.", "qa_outputs.", NULL};
static const char *const distilbert_unused[] = {"embeddings.position_ids", "vocab_transform.", "vocab_layer_norm.",
                                                "vocab_projector.",        "qa_outputs.",      NULL};

/* GPT-2's linear layers stand as [in, out] in its files. */
#define TURNED(field_, name_, rows_, columns_, init_, source_)                                                         \
    {.name = name_ ".weight", .rows = rows_, .columns = columns_, .init = init_, .decays = true, .turned = true,       \
     .adaptable = true,                                                                                                \
     .offset = offsetof(hnp_layer, field_.weight), .sources = {{source_ ".weight", rows_}}},                           \
        VECTOR(name_ ".bias", rows_, HN_INIT_ZERO, offsetof(hnp_layer, field_.bias), false, {source_ ".bias", rows_})
/* The head's matrix, when it has one of its own. */
#define LM_HEAD                                                                                                        \
    {.name = "head.out.weight", .rows = HNP_VOCABULARY, .columns = HNP_HIDDEN, .init = HN_INIT_NORMAL, .decays = true, \
     .untied = true, .offset = offsetof(hnp_head, out.weight), .sources = {{"lm_head.weight", HNP_VOCABULARY}}}

static const hnp_entry gpt2_embeddings[] = {
    TABLE_OF(token, "embeddings.token", HNP_VOCABULARY, "transformer.wte"),
    TABLE_OF(position, "embeddings.position", HNP_POSITIONS, "transformer.wpe"),
};
static const hnp_entry gpt2_layer[] = {
    NORM(hnp_layer, attention_norm, "layer.%d.attention.norm", "transformer.h.%d.ln_1"),
    TURNED(qkv, "layer.%d.attention.qkv", HNP_QKV, HNP_HIDDEN, HN_INIT_NORMAL, "transformer.h.%d.attn.c_attn"),
    TURNED(attention_out, "layer.%d.attention.out", HNP_HIDDEN, HNP_QUERIES, HN_INIT_NORMAL_BY_DEPTH,
           "transformer.h.%d.attn.c_proj"),
    NORM(hnp_layer, mlp_norm, "layer.%d.mlp.norm", "transformer.h.%d.ln_2"),
    TURNED(up, "layer.%d.mlp.up", HNP_INTERMEDIATE, HNP_HIDDEN, HN_INIT_NORMAL, "transformer.h.%d.mlp.c_fc"),
    TURNED(down, "layer.%d.mlp.down", HNP_HIDDEN, HNP_INTERMEDIATE, HN_INIT_NORMAL_BY_DEPTH, "transformer.h.%d.mlp.c_proj"),
};
static const hnp_entry gpt2_head[] = {NORM(hnp_head, norm, "head.norm", "transformer.ln_f"), LM_HEAD};
/* Old files hold the causal mask as a tensor. */
static const char *const gpt2_unused[] = {"lm_head.weight", ".attn.bias", ".attn.masked_bias", NULL};

#define LLAMA "model.layers.%d."
#define LLAMA_QKV                                                                                                      \
    "layer.%d.attention.qkv", LLAMA "self_attn.q_proj", LLAMA "self_attn.k_proj", LLAMA "self_attn.v_proj"
#define EXPAND(macro_, ...) macro_(__VA_ARGS__)
#define LLAMA_LAYER                                                                                                    \
    GAIN(hnp_layer, attention_norm, "layer.%d.attention.norm", HNP_HIDDEN, LLAMA "input_layernorm"),                   \
        EXPAND(QKV_WEIGHT, LLAMA_QKV),                                                                                 \
        MATRIX("layer.%d.attention.out", HNP_HIDDEN, HNP_QUERIES, HN_INIT_NORMAL,                                      \
               offsetof(hnp_layer, attention_out.weight), false, {LLAMA "self_attn.o_proj.weight", HNP_HIDDEN}),       \
        GAIN(hnp_layer, mlp_norm, "layer.%d.mlp.norm", HNP_HIDDEN, LLAMA "post_attention_layernorm"),                  \
        MATRIX("layer.%d.mlp.up", HNP_GATED, HNP_HIDDEN, HN_INIT_NORMAL, offsetof(hnp_layer, up.weight), false,        \
               {LLAMA "mlp.gate_proj.weight", HNP_INTERMEDIATE}, {LLAMA "mlp.up_proj.weight", HNP_INTERMEDIATE}),      \
        MATRIX("layer.%d.mlp.down", HNP_HIDDEN, HNP_INTERMEDIATE, HN_INIT_NORMAL, offsetof(hnp_layer, down.weight),    \
               false, {LLAMA "mlp.down_proj.weight", HNP_HIDDEN})

static const hnp_entry llama_embeddings[] = {
    TABLE_OF(token, "embeddings.token", HNP_VOCABULARY, "model.embed_tokens"),
};
static const hnp_entry llama_layer[] = {LLAMA_LAYER};
static const hnp_entry qwen2_layer[] = {LLAMA_LAYER, EXPAND(QKV_BIAS, LLAMA_QKV)};
static const hnp_entry qwen3_layer[] = {
    LLAMA_LAYER,
    GAIN(hnp_layer, q_norm, "layer.%d.attention.q_norm", HNP_HEAD, LLAMA "self_attn.q_norm"),
    GAIN(hnp_layer, k_norm, "layer.%d.attention.k_norm", HNP_HEAD, LLAMA "self_attn.k_norm"),
};
static const hnp_entry llama_head[] = {GAIN(hnp_head, norm, "head.norm", HNP_HIDDEN, "model.norm"), LM_HEAD};
static const char *const llama_unused[] = {"lm_head.weight", ".rotary_emb.inv_freq", NULL};

#define NO_OTHER_HEADS {NULL, 0}, NULL, {NULL, 0}, NULL

static const hnp_family families[] = {
    [HN_FAMILY_BERT] = {&hnp_encoder, "bert.", TABLE(bert_embeddings), TABLE(bert_layer), TABLE(bert_head), bert_unused,
                        TABLE(bert_masked), bert_masked_unused,
                        TABLE(tags_head), bert_tags_unused},
    [HN_FAMILY_ROBERTA] = {&hnp_encoder, "roberta.", TABLE(roberta_embeddings), TABLE(roberta_layer), TABLE(roberta_head),
                           roberta_unused, TABLE(roberta_masked), roberta_masked_unused,
                        TABLE(tags_head), bert_tags_unused},
    [HN_FAMILY_DISTILBERT] = {&hnp_encoder, "distilbert.", TABLE(distilbert_embeddings), TABLE(distilbert_layer),
                              TABLE(distilbert_head), distilbert_unused, TABLE(distilbert_masked),
                              distilbert_masked_unused,
                        TABLE(tags_head), distilbert_tags_unused},
    [HN_FAMILY_GPT2] = {&hnp_decoder, "transformer.", TABLE(gpt2_embeddings), TABLE(gpt2_layer), TABLE(gpt2_head), gpt2_unused,
                         NO_OTHER_HEADS},
    [HN_FAMILY_LLAMA] = {&hnp_decoder, "model.", TABLE(llama_embeddings), TABLE(llama_layer), TABLE(llama_head), llama_unused,
                         NO_OTHER_HEADS},
    [HN_FAMILY_QWEN2] = {&hnp_decoder, "model.", TABLE(llama_embeddings), TABLE(qwen2_layer), TABLE(llama_head), llama_unused,
                         NO_OTHER_HEADS},
    [HN_FAMILY_QWEN3] = {&hnp_decoder, "model.", TABLE(llama_embeddings), TABLE(qwen3_layer), TABLE(llama_head), llama_unused,
                         NO_OTHER_HEADS},
};

const hnp_family *hnp_family_get(hn_family family)
{
    HN_ASSERT((unsigned)family < COUNT(families));
    return &families[family];
}
