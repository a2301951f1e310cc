/* Which models of GGUF hone imports, and what their tensors are called elsewhere.
 *
 * A family is a table of rules: a tensor's name here, its name in Hugging Face's folder, its shape in
 * letters, and the order of its rows. Reading goes both ways over it: every tensor of the file must have a
 * rule (a tensor that nobody asks for would change what the model computes), and every rule must find its
 * tensors, of the shape that the sizes say. In the same way every key of the architecture must be known.
 * Nothing is passed over in silence.
 *
 * The file's Llama has the rows of q and k of a head in pairs (x0 y0 x1 y1 ...), as its rotation takes them;
 * Hugging Face has all x before all y. GPT-2 keeps its matrices there as [in, out], here as [out, in]. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "formats/gguf_internal.h"
#include "formats/printable.h"

#define LAYERS_MAX 1024
#define SIZE_MAX_MODEL 4194304

/* clang-format off */
#define ONCE(gguf, name, shape)            {gguf, name, shape, HNP_GGUF_PLAIN, false, false}
#define OPTIONAL(gguf, name, shape)        {gguf, name, shape, HNP_GGUF_PLAIN, false, true}
#define LAYER(gguf, name, shape)           {gguf, name, shape, HNP_GGUF_PLAIN, true, false}
#define LAYER_IN(order, gguf, name, shape) {gguf, name, shape, order, true, false}
#define PAIR(gguf, name, shape, out)       LAYER(gguf ".weight", name ".weight", shape), LAYER(gguf ".bias", name ".bias", out)
#define NORM(gguf, name)                   ONCE(gguf ".weight", name ".weight", "C"), ONCE(gguf ".bias", name ".bias", "C")
#define DECODER \
    ONCE("token_embd.weight", "model.embed_tokens.weight", "VC"), \
    ONCE("output_norm.weight", "model.norm.weight", "C"), \
    OPTIONAL("output.weight", "lm_head.weight", "VC"), \
    LAYER("attn_norm.weight", "input_layernorm.weight", "C"), \
    LAYER("attn_v.weight", "self_attn.v_proj.weight", "KC"), \
    LAYER("attn_output.weight", "self_attn.o_proj.weight", "CQ"), \
    LAYER("ffn_norm.weight", "post_attention_layernorm.weight", "C"), \
    LAYER("ffn_gate.weight", "mlp.gate_proj.weight", "IC"), \
    LAYER("ffn_up.weight", "mlp.up_proj.weight", "IC"), \
    LAYER("ffn_down.weight", "mlp.down_proj.weight", "CI")

static const hnp_gguf_rule llama[] = {
    DECODER,
    LAYER_IN(HNP_GGUF_ROTATED, "attn_q.weight", "self_attn.q_proj.weight", "QC"),
    LAYER_IN(HNP_GGUF_ROTATED, "attn_k.weight", "self_attn.k_proj.weight", "KC"),
    OPTIONAL("rope_freqs.weight", NULL, "R"),
    {0},
};
static const hnp_gguf_rule qwen2[] = {
    DECODER,
    PAIR("attn_q", "self_attn.q_proj", "QC", "Q"),
    PAIR("attn_k", "self_attn.k_proj", "KC", "K"),
    LAYER("attn_v.bias", "self_attn.v_proj.bias", "K"),
    {0},
};
static const hnp_gguf_rule qwen3[] = {
    DECODER,
    LAYER("attn_q.weight", "self_attn.q_proj.weight", "QC"),
    LAYER("attn_k.weight", "self_attn.k_proj.weight", "KC"),
    LAYER("attn_q_norm.weight", "self_attn.q_norm.weight", "D"),
    LAYER("attn_k_norm.weight", "self_attn.k_norm.weight", "D"),
    {0},
};
static const hnp_gguf_rule gpt2[] = {
    ONCE("token_embd.weight", "transformer.wte.weight", "VC"),
    ONCE("position_embd.weight", "transformer.wpe.weight", "PC"),
    NORM("output_norm", "transformer.ln_f"),
    OPTIONAL("output.weight", "lm_head.weight", "VC"),
    LAYER("attn_norm.weight", "ln_1.weight", "C"),
    LAYER("attn_norm.bias", "ln_1.bias", "C"),
    LAYER_IN(HNP_GGUF_TRANSPOSED, "attn_qkv.weight", "attn.c_attn.weight", "3C"),
    LAYER("attn_qkv.bias", "attn.c_attn.bias", "3"),
    LAYER_IN(HNP_GGUF_TRANSPOSED, "attn_output.weight", "attn.c_proj.weight", "CC"),
    LAYER("attn_output.bias", "attn.c_proj.bias", "C"),
    LAYER("ffn_norm.weight", "ln_2.weight", "C"),
    LAYER("ffn_norm.bias", "ln_2.bias", "C"),
    LAYER_IN(HNP_GGUF_TRANSPOSED, "ffn_up.weight", "mlp.c_fc.weight", "IC"),
    LAYER("ffn_up.bias", "mlp.c_fc.bias", "I"),
    LAYER_IN(HNP_GGUF_TRANSPOSED, "ffn_down.weight", "mlp.c_proj.weight", "CI"),
    LAYER("ffn_down.bias", "mlp.c_proj.bias", "C"),
    {0},
};
static const hnp_gguf_rule bert[] = {
    ONCE("token_embd.weight", "embeddings.word_embeddings.weight", "VC"),
    ONCE("position_embd.weight", "embeddings.position_embeddings.weight", "PC"),
    ONCE("token_types.weight", "embeddings.token_type_embeddings.weight", "TC"),
    NORM("token_embd_norm", "embeddings.LayerNorm"),
    PAIR("attn_q", "attention.self.query", "QC", "Q"),
    PAIR("attn_k", "attention.self.key", "QC", "Q"),
    PAIR("attn_v", "attention.self.value", "QC", "Q"),
    PAIR("attn_output", "attention.output.dense", "CQ", "C"),
    PAIR("attn_output_norm", "attention.output.LayerNorm", "C", "C"),
    PAIR("ffn_up", "intermediate.dense", "IC", "I"),
    PAIR("ffn_down", "output.dense", "CI", "C"),
    PAIR("layer_output_norm", "output.LayerNorm", "C", "C"),
    {0},
};

static const hnp_gguf_family families[] = {
    {"llama", "llama", "LlamaForCausalLM", "model.layers.", NULL, llama},
    {"qwen2", "qwen2", "Qwen2ForCausalLM", "model.layers.", "qwen2", qwen2},
    {"qwen3", "qwen3", "Qwen3ForCausalLM", "model.layers.", "qwen2", qwen3},
    {"gpt2", "gpt2", "GPT2LMHeadModel", "transformer.h.", "gpt-2", gpt2},
    {"bert", "bert", "BertModel", "encoder.layer.", NULL, bert},
};
/* clang-format on */
enum { FAMILIES = sizeof families / sizeof *families };
#define FAMILY_NAMES "llama, qwen2, qwen3, gpt2, bert"

/* Keys behind the architecture's name: those that are read, and those that say nothing about the mathematics.
 */
static const char *const known_keys[] = {
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "vocab_size",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.causal",
    "attention.sliding_window",
    "expert_count",
    "expert_used_count",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "pooling_type",
    "tensor_data_layout",
};

hnp_gguf_key hnp_gguf_key_of(const hnp_gguf_model *model, const char *name)
{
    hnp_gguf_key key;
    snprintf(key.text, sizeof key.text, "%s.%s", model->family->architecture, name);
    return key;
}

static hn_status find_family(hnp_gguf_model *out, hn_error *error)
{
    hn_gguf_text name = {0};
    hn_status status = hn_gguf_require(out->file, "general.architecture", error);
    if (status == HN_OK) status = hn_gguf_get_string(&name, out->file, "general.architecture", error);
    if (status != HN_OK) return status;
    for (int i = 0; i < FAMILIES; i++)
        if (strlen(families[i].architecture) == name.length &&
            !memcmp(families[i].architecture, name.text, name.length)) {
            out->family = &families[i];
            return HN_OK;
        }
    return hn_fail(error, HN_ERR_UNSUPPORTED,
                   "%s: key general.architecture: expected one of %s, got \"%.*s\"", hn_gguf_path(out->file),
                   FAMILY_NAMES, name.length > 64 ? 64 : (int)name.length, name.text);
}

static hn_status check_keys(const hnp_gguf_model *model, hn_error *error)
{
    size_t count, length = strlen(model->family->architecture);
    const hn_gguf_entry *entries = hn_gguf_entries(model->file, &count);
    for (size_t i = 0; i < count; i++) {
        bool known = false;
        const char *key = entries[i].key;
        if (strncmp(key, model->family->architecture, length) || key[length] != '.') continue;
        for (size_t k = 0; k < sizeof known_keys / sizeof *known_keys && !known; k++)
            known = !strcmp(key + length + 1, known_keys[k]);
        hnp_printable name = hnp_printable_make(key);
        if (!known)
            return hn_fail(error, HN_ERR_UNSUPPORTED,
                           "%s: key %s: hone does not know what it changes in the model",
                           hn_gguf_path(model->file), name.text);
    }
    return HN_OK;
}

/* A size that must be there, unless it has a default. */
static hn_status read_size(int64_t *out, const hnp_gguf_model *model, const char *name, bool required,
                           hn_error *error)
{
    hnp_gguf_key key = hnp_gguf_key_of(model, name);
    hn_status status = required ? hn_gguf_require(model->file, key.text, error) : HN_OK;
    return status == HN_OK ? hn_gguf_get_int(out, model->file, key.text, 1, SIZE_MAX_MODEL, error) : status;
}

/* A number that may stand in the file, but only with one value. */
static hn_status expect(const hnp_gguf_model *model, const char *name, int64_t expected, const char *why,
                        hn_error *error)
{
    hnp_gguf_key key = hnp_gguf_key_of(model, name);
    int64_t got = expected;
    hn_status status = hn_gguf_get_int(&got, model->file, key.text, 0, INT64_MAX, error);
    if (status != HN_OK || got == expected) return status;
    return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: key %s: expected %" PRId64 " (%s), got %" PRId64,
                   hn_gguf_path(model->file), key.text, expected, why, got);
}

/* Rows of an embedding whose number no key tells. */
static int64_t rows_of(const hnp_gguf_model *model, const char *name, int64_t otherwise)
{
    const hn_gguf_tensor *tensor = hn_gguf_tensor_find(model->file, name);
    return tensor ? tensor->shape[0] : otherwise;
}

static hn_status read_heads(hnp_gguf_model *out, hn_error *error)
{
    hn_status status = read_size(&out->heads, out, "attention.head_count", true, error);
    out->kv_heads = out->heads;
    if (status == HN_OK) status = read_size(&out->kv_heads, out, "attention.head_count_kv", false, error);
    if (status != HN_OK) return status;
    out->head_size = out->width / out->heads;
    status = read_size(&out->head_size, out, "attention.key_length", false, error);
    bool split = out->family->rules == gpt2 || out->family->rules == bert; /* a head is a part of the width */
    bool wrong = split ? out->kv_heads != out->heads || out->head_size * out->heads != out->width
                       : out->heads % out->kv_heads || out->head_size < 2 || out->head_size % 2;
    if (status == HN_OK && wrong)
        status = hn_fail(error, HN_ERR_FORMAT,
                         "%s: key %s: expected %s, got %" PRId64 " heads, %" PRId64
                         " of keys, each of %" PRId64 ", for a width of %" PRId64,
                         hn_gguf_path(out->file), hnp_gguf_key_of(out, "attention.head_count").text,
                         split ? "heads that share the width"
                               : "a multiple of the heads of keys, each of even size",
                         out->heads, out->kv_heads, out->head_size, out->width);
    if (status == HN_OK)
        status = expect(out, "attention.value_length", out->head_size, "as long as a key", error);
    if (status == HN_OK)
        status = expect(out, "rope.dimension_count", out->head_size, "whole heads are rotated", error);
    return status;
}

static hn_status check_absent_features(const hnp_gguf_model *model, hn_error *error)
{
    bool encoder = !strcmp(model->family->architecture, "bert"), causal = !encoder;
    hnp_gguf_key key = hnp_gguf_key_of(model, "attention.causal");
    hn_status status = expect(model, "expert_count", 0, "hone has no experts", error);
    if (status == HN_OK) status = expect(model, "expert_used_count", 0, "hone has no experts", error);
    if (status == HN_OK)
        status = expect(model, "attention.sliding_window", 0, "hone has no sliding window", error);
    if (status == HN_OK) status = hn_gguf_get_bool(&causal, model->file, key.text, error);
    if (status == HN_OK && causal == encoder)
        status =
            hn_fail(error, HN_ERR_UNSUPPORTED, "%s: key %s: expected %s, got %s", hn_gguf_path(model->file),
                    key.text, encoder ? "false" : "true", encoder ? "true" : "false");
    return status;
}

/* GPT-2 is always tied; its converters write the embedding once more as the head. */
static bool heads_are_same(const hnp_gguf_model *model)
{
    const hn_gguf_tensor *head = hn_gguf_tensor_find(model->file, "output.weight");
    const hn_gguf_tensor *embedding = hn_gguf_tensor_find(model->file, "token_embd.weight");
    if (!head) return true;
    return !strcmp(model->family->architecture, "gpt2") && embedding && embedding->type == head->type &&
           embedding->size == head->size && !memcmp(embedding->data, head->data, head->size);
}

hn_status hnp_gguf_model_read(hnp_gguf_model *out, const hn_gguf *file, hn_error *error)
{
    *out = (hnp_gguf_model){.file = file};
    hn_status status = find_family(out, error);
    if (status == HN_OK) status = check_keys(out, error);
    if (status == HN_OK) status = read_size(&out->layers, out, "block_count", true, error);
    if (status == HN_OK) status = read_size(&out->width, out, "embedding_length", true, error);
    if (status == HN_OK) status = read_size(&out->inner, out, "feed_forward_length", true, error);
    if (status == HN_OK) status = read_size(&out->positions, out, "context_length", true, error);
    if (status == HN_OK) status = read_heads(out, error);
    if (status == HN_OK) status = check_absent_features(out, error);
    if (status != HN_OK) return status;
    if (out->layers > LAYERS_MAX)
        return hn_fail(error, HN_ERR_FORMAT, "%s: key %s: expected at most %d layers, got %" PRId64,
                       hn_gguf_path(file), hnp_gguf_key_of(out, "block_count").text, LAYERS_MAX, out->layers);
    out->vocabulary = rows_of(out, "token_embd.weight", 0);
    out->types = rows_of(out, "token_types.weight", 0);
    out->tied = heads_are_same(out);
    return HN_OK;
}

/* The letters of a rule's shape. */
static int64_t size_of(const hnp_gguf_model *model, char letter)
{
    switch (letter) {
    case 'V': return model->vocabulary;
    case 'C': return model->width;
    case '3': return 3 * model->width;
    case 'I': return model->inner;
    case 'Q': return model->heads * model->head_size;
    case 'K': return model->kv_heads * model->head_size;
    case 'D': return model->head_size;
    case 'R': return model->head_size / 2;
    case 'P': return model->positions;
    default: return model->types; /* T */
    }
}

static hn_status check_tensor(const hn_gguf_tensor *tensor, const hnp_gguf_rule *rule,
                              const hnp_gguf_model *model, hn_error *error)
{
    int64_t rows = size_of(model, rule->shape[0]),
            columns = rule->shape[1] ? size_of(model, rule->shape[1]) : 1;
    int rank = (int)strlen(rule->shape);
    if (tensor->rank == rank && tensor->shape[0] == rows && tensor->shape[1] == columns) return HN_OK;
    return hn_fail(error, HN_ERR_FORMAT,
                   "%s: tensor %s: expected %d dimensions, %" PRId64 " x %" PRId64 ", got %d, %" PRId64
                   " x %" PRId64,
                   hn_gguf_path(model->file), tensor->name, rank, rows, columns, tensor->rank,
                   tensor->shape[0], tensor->shape[1]);
}

/* One rule, for a layer (or -1): its tensor is checked and gets its name. */
static hn_status apply(hnp_gguf_import_tensor *out, size_t *count, size_t *seen, const hnp_gguf_rule *rule,
                       int64_t layer, const hnp_gguf_model *model, hn_error *error)
{
    char gguf[64];
    hn_strbuf name;
    if (layer < 0)
        snprintf(gguf, sizeof gguf, "%s", rule->gguf);
    else
        snprintf(gguf, sizeof gguf, "blk.%" PRId64 ".%s", layer, rule->gguf);
    const hn_gguf_tensor *tensor = hn_gguf_tensor_find(model->file, gguf);
    if (!tensor && rule->optional) return HN_OK;
    if (!tensor)
        return hn_fail(error, HN_ERR_FORMAT,
                       "%s: tensor %s: expected it in a model of architecture %s, the file lacks it",
                       hn_gguf_path(model->file), gguf, model->family->architecture);
    hn_status status = check_tensor(tensor, rule, model, error);
    if (status != HN_OK) return status;
    ++*seen;
    if (!rule->name || (rule->optional && model->tied)) return HN_OK;
    hn_strbuf_init(&name);
    if (layer >= 0) hn_strbuf_printf(&name, "%s%" PRId64 ".", model->family->layer_prefix, layer);
    hn_strbuf_puts(&name, rule->name);
    hnp_gguf_import_tensor one = {hn_strbuf_take(&name), tensor, rule->order, model->head_size};
    if (!one.name)
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for names", hn_gguf_path(model->file));
    out[(*count)++] = one;
    return HN_OK;
}

/* Whether some rule asks for a tensor of this name. */
static bool is_known(const char *name, const hnp_gguf_model *model)
{
    char asked[64];
    int64_t layer = 0;
    bool layered = sscanf(name, "blk.%" SCNd64, &layer) == 1;
    for (const hnp_gguf_rule *rule = model->family->rules; rule->gguf; rule++) {
        if (rule->layered != layered) continue;
        if (layered)
            snprintf(asked, sizeof asked, "blk.%" PRId64 ".%s", layer, rule->gguf);
        else
            snprintf(asked, sizeof asked, "%s", rule->gguf);
        if (!strcmp(asked, name)) return layer >= 0 && layer < model->layers;
    }
    return false;
}

/* Names a tensor that no rule asks for; there is one. */
static hn_status refuse_unknown(const hnp_gguf_model *model, hn_error *error)
{
    size_t count, i = 0;
    const hn_gguf_tensor *tensors = hn_gguf_tensors(model->file, &count);
    while (i < count && is_known(tensors[i].name, model)) i++;
    HN_ASSERT(i < count);
    hnp_printable shown = hnp_printable_make(tensors[i].name);
    return hn_fail(error, HN_ERR_UNSUPPORTED,
                   "%s: tensor %s: hone knows none of this name in a model of architecture %s with %" PRId64
                   " layers",
                   hn_gguf_path(model->file), shown.text, model->family->architecture, model->layers);
}

hn_status hnp_gguf_model_tensors(hnp_gguf_import_tensor **out, size_t *count, const hnp_gguf_model *model,
                                 hn_error *error)
{
    size_t total, seen = 0;
    hn_status status = HN_OK;
    hn_gguf_tensors(model->file, &total);
    *count = 0;
    *out = hn_reallocarray(NULL, total, sizeof **out);
    if (!*out)
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for %zu tensors", hn_gguf_path(model->file),
                       total);
    for (const hnp_gguf_rule *rule = model->family->rules; rule->gguf; rule++) {
        int64_t first = rule->layered ? 0 : -1, end = rule->layered ? model->layers : 0;
        for (int64_t layer = first; layer < end && status == HN_OK; layer++)
            status = apply(*out, count, &seen, rule, layer, model, error);
    }
    return status == HN_OK && seen < total ? refuse_unknown(model, error) : status;
}

void hnp_gguf_tensors_free(hnp_gguf_import_tensor *tensors, size_t count)
{
    for (size_t i = 0; i < count; i++) hn_free(tensors[i].name);
    hn_free(tensors);
}
