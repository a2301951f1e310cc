/* config.json of the decoder families. A family is one row of a table: which names its fields have and what it
 * always does; defaults are those of transformers.
 *
 * Rotary embeddings: older files say "rope_theta" and "rope_scaling", newer ones put both into "rope_parameters".
 * Of the ways to stretch them the linear one and Llama 3's are known here. A sliding window is refused unless no sequence could
 * be longer than it, or the file says that it is not used. */
#include "models/config_internal.h"

#include <string.h>

typedef struct family {
    const char *model_type, *architecture;
    hn_family family;
    const char *hidden, *layers, *heads, *intermediate, *positions, *activation, *norm_epsilon;
    double norm_epsilon_default;
    bool tied;           /* when the file does not say */
    bool gated;          /* down(silu(gate x) * up x), RMS norms, rotary positions */
    bool qk_norm;        /* an RMS norm of every head of Q and K */
    int head_size;       /* when the file does not say; 0: width by heads */
    int kv_heads;        /* when the file does not say; 0: as many as heads */
    int window;          /* when the file does not say */
    bool window_by_flag; /* only with use_sliding_window */
} family;

#define LLAMA_NAMES                                                                                          \
    .hidden = "hidden_size", .layers = "num_hidden_layers", .heads = "num_attention_heads",                  \
    .intermediate = "intermediate_size", .positions = "max_position_embeddings", .activation = "hidden_act", \
    .norm_epsilon = "rms_norm_eps", .norm_epsilon_default = 1e-6, .gated = true

static const family families[] = {
    {.model_type = "gpt2",
     .architecture = "GPT2LMHeadModel",
     .family = HN_FAMILY_GPT2,
     .hidden = "n_embd",
     .layers = "n_layer",
     .heads = "n_head",
     .intermediate = "n_inner",
     .positions = "n_positions",
     .activation = "activation_function",
     .norm_epsilon = "layer_norm_epsilon",
     .norm_epsilon_default = 1e-5,
     .tied = true},
    {.model_type = "llama", .architecture = "LlamaForCausalLM", .family = HN_FAMILY_LLAMA, LLAMA_NAMES},
    {.model_type = "mistral",
     .architecture = "MistralForCausalLM",
     .family = HN_FAMILY_LLAMA,
     LLAMA_NAMES,
     .kv_heads = 8,
     .window = 4096},
    {.model_type = "qwen2",
     .architecture = "Qwen2ForCausalLM",
     .family = HN_FAMILY_QWEN2,
     LLAMA_NAMES,
     .kv_heads = 32,
     .window = 4096,
     .window_by_flag = true},
    {.model_type = "qwen3",
     .architecture = "Qwen3ForCausalLM",
     .family = HN_FAMILY_QWEN3,
     LLAMA_NAMES,
     .kv_heads = 32,
     .window = 4096,
     .window_by_flag = true,
     .qk_norm = true,
     .head_size = 128},
};

static const family *find_family(const char *model_type)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (!strcmp(model_type, families[i].model_type)) return &families[i];
    return NULL;
}

const char *hnp_decoder_architecture(const char *model_type)
{
    const family *f = find_family(model_type);
    return f ? f->architecture : NULL;
}

static hn_status refuse_window(const hn_model_config *config, const family *f, const json_t *root,
                               const char *where, hn_error *error)
{
    bool used = !f->window_by_flag;
    int64_t window = f->window;
    hn_status status = HN_OK;
    if (!f->window) return HN_OK;
    if (f->window_by_flag) status = hn_json_get_bool(&used, root, "use_sliding_window", where, error);
    if (status != HN_OK) return status;
    /* the default holds for a missing member, not for null */
    if (json_is_null(json_object_get(root, "sliding_window"))) used = false;
    status = hn_json_get_int(&window, root, "sliding_window", 1, INT32_MAX, where, error);
    if (status == HN_OK && used && window < config->positions)
        status = hn_fail(error, HN_ERR_UNSUPPORTED,
                         "%s: \"sliding_window\": expected null or at least max_position_embeddings (%d), as hone's "
                         "attention sees all tokens before, got %lld",
                         where, config->positions, (long long)window);
    return status;
}

static hn_status refuse_experts(const json_t *root, const char *where, hn_error *error)
{
    static const char *const keys[] = {"num_experts", "num_local_experts", "n_routed_experts"};
    hn_status status = HN_OK;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && status == HN_OK; i++) {
        int64_t experts = 0;
        status = hn_json_get_int(&experts, root, keys[i], 0, INT32_MAX, where, error);
        if (status == HN_OK && experts > 1)
            status = hn_fail(error, HN_ERR_UNSUPPORTED, "%s: \"%s\": expected none (one feed-forward a layer), got %lld",
                             where, keys[i], (long long)experts);
    }
    return status;
}

static hn_status refuse_layer_types(const json_t *root, const char *where, hn_error *error)
{
    const json_t *types = json_object_get(root, "layer_types");
    for (size_t i = 0; i < json_array_size(types); i++) {
        const json_t *type = json_array_get(types, i);
        if (json_is_string(type) && !strcmp(json_string_value(type), "full_attention")) continue;
        return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: \"layer_types\": expected \"full_attention\" of every layer, got %s for layer %zu",
                       where, hn_json_show(type).text, i);
    }
    return HN_OK;
}

static hn_status refuse_others(const hn_model_config *config, const family *f, const json_t *root,
                               const char *where, hn_error *error)
{
    static const struct {
        const char *key;
        bool expected;
        const char *what;
    } flags[] = {{"attention_bias", false, "attention without biases of its own"},
                 {"mlp_bias", false, "a feed-forward without biases"},
                 {"scale_attn_weights", true, "scores over the root of the head size"},
                 {"scale_attn_by_inverse_layer_idx", false, "the same scale in every layer"},
                 {"add_cross_attention", false, "a decoder of its own"}};
    hn_status status = HN_OK;
    for (size_t i = 0; i < sizeof flags / sizeof *flags && status == HN_OK; i++)
        status = hnp_config_flag(root, flags[i].key, flags[i].expected, flags[i].what, where, error);
    if (status == HN_OK) status = refuse_window(config, f, root, where, error);
    if (status == HN_OK) status = refuse_experts(root, where, error);
    if (status == HN_OK) status = refuse_layer_types(root, where, error);
    return status;
}

/* Of heads: how many there are of K and V, and their size. */
static hn_status get_heads(hn_model_config *config, const family *f, const json_t *root, const char *where,
                           hn_error *error)
{
    int64_t kv_heads = f->kv_heads ? f->kv_heads : config->heads, size = f->head_size;
    hn_status status = HN_OK;
    if (json_is_null(json_object_get(root, "num_key_value_heads"))) kv_heads = config->heads;
    if (f->gated) status = hn_json_get_int(&kv_heads, root, "num_key_value_heads", 1, 256, where, error);
    if (status == HN_OK && f->gated) status = hn_json_get_int(&size, root, "head_dim", 1, 65536, where, error);
    if (status != HN_OK) return status;
    if (config->heads % kv_heads)
        return hn_fail(error, HN_ERR_FORMAT, "%s: \"num_key_value_heads\": expected a divisor of %s (%d), got %lld",
                       where, f->heads, config->heads, (long long)kv_heads);
    config->kv_heads = (int)kv_heads;
    config->head_size = (int)size;
    return hnp_config_head_size(config, size ? "head_dim" : f->hidden, f->heads, where, error);
}

static hn_status get_sizes(hn_model_config *config, const family *f, const json_t *root, const char *where,
                           hn_error *error)
{
    int64_t most = f->gated ? 1 << 24 : 65536;
    hn_status status;
    if ((status = hnp_config_size(&config->hidden, root, f->hidden, 8, 65536, where, error)) != HN_OK ||
        (status = hnp_config_size(&config->layers, root, f->layers, 1, 1024, where, error)) != HN_OK ||
        (status = hnp_config_size(&config->heads, root, f->heads, 1, 256, where, error)) != HN_OK ||
        (status = hnp_config_size(&config->vocabulary, root, "vocab_size", 1, 1 << 24, where, error)) != HN_OK ||
        (status = hnp_config_size(&config->positions, root, f->positions, 1, most, where, error)) != HN_OK)
        return status;
    int64_t inner = 4 * (int64_t)config->hidden;
    status = f->gated ? hnp_config_size(&config->intermediate, root, f->intermediate, 1, 1 << 20, where, error)
                      : hn_json_get_int(&inner, root, f->intermediate, 1, 1 << 20, where, error);
    if (!f->gated) config->intermediate = (int)inner;
    return status == HN_OK ? get_heads(config, f, root, where, error) : status;
}

static hn_status get_dropouts(hn_model_config *config, const family *f, const json_t *root, const char *where,
                              hn_error *error)
{
    double attention = 0, hidden = 0.1, embedding = 0.1;
    hn_status status;
    if (f->gated) {
        status = hn_json_get_double(&attention, root, "attention_dropout", 0, HNP_MAX_DROPOUT, where, error);
        hidden = embedding = 0;
    } else {
        attention = 0.1;
        if ((status = hn_json_get_double(&attention, root, "attn_pdrop", 0, HNP_MAX_DROPOUT, where, error)) != HN_OK ||
            (status = hn_json_get_double(&hidden, root, "resid_pdrop", 0, HNP_MAX_DROPOUT, where, error)) != HN_OK)
            return status;
        status = hn_json_get_double(&embedding, root, "embd_pdrop", 0, HNP_MAX_DROPOUT, where, error);
    }
    config->attention_dropout = (float)attention;
    config->hidden_dropout = config->attention_out_dropout = (float)hidden;
    config->embedding_dropout = (float)embedding;
    return status;
}

static hn_status get_llama3(hn_rope *out, const json_t *object, const char *where, hn_error *error)
{
    int original = 0;
    hn_status status;
    if ((status = hn_json_get_double(&out->low_freq_factor, object, "low_freq_factor", 1e-6, 1e6, where, error)) != HN_OK ||
        (status = hn_json_get_double(&out->high_freq_factor, object, "high_freq_factor", 1e-6, 1e6, where, error)) != HN_OK ||
        (status = hnp_config_size(&original, object, "original_max_position_embeddings", 1, 1 << 24, where, error)) != HN_OK)
        return status;
    out->original_positions = original;
    if (out->low_freq_factor >= out->high_freq_factor)
        return hn_fail(error, HN_ERR_FORMAT, "%s: llama3: expected \"low_freq_factor\" below \"high_freq_factor\", got %g and %g",
                       where, out->low_freq_factor, out->high_freq_factor);
    return HN_OK;
}

/* How the frequencies are stretched. */
static hn_status get_stretch(hn_rope *out, const json_t *object, const char *name, const char *type, const char *where,
                             hn_error *error)
{
    if (!strcmp(type, "default")) return HN_OK;
    if (strcmp(type, "llama3") && strcmp(type, "linear"))
        return hn_fail(error, HN_ERR_UNSUPPORTED,
                       "%s: \"%s\": expected the rope_type default, linear or llama3, got \"%.80s\"", where, name, type);
    out->kind = strcmp(type, "linear") ? HN_ROPE_LLAMA3 : HN_ROPE_LINEAR;
    hn_status status = hn_json_get_double(&out->factor, object, "factor", 1, 1e6, where, error);
    if (status == HN_OK && out->factor == 0)
        status = hn_fail(error, HN_ERR_FORMAT, "%s: \"%s\": expected a \"factor\", got nothing", where, name);
    return status == HN_OK && out->kind == HN_ROPE_LLAMA3 ? get_llama3(out, object, where, error) : status;
}

/* The object that tells of rotary embeddings, and what it is called; NULL: none. */
static const json_t *rope_object(const json_t *root, const char **name)
{
    const json_t *parameters = json_object_get(root, "rope_parameters");
    *name = json_is_object(parameters) ? "rope_parameters" : "rope_scaling";
    return json_is_object(parameters) ? parameters : json_object_get(root, "rope_scaling");
}

static hn_status get_rope(hn_model_config *config, const json_t *root, const char *where, hn_error *error)
{
    const char *name, *type = "default";
    double theta = 10000, part = 1;
    const json_t *rope = rope_object(root, &name);
    hn_status status = hn_json_get_double(&theta, root, "rope_theta", 1, 1e12, where, error);
    if (status == HN_OK && json_is_object(rope) &&
        ((status = hn_json_get_double(&theta, rope, "rope_theta", 1, 1e12, where, error)) != HN_OK ||
         (status = hn_json_get_string(&type, rope, "type", where, error)) != HN_OK ||
         (status = hn_json_get_string(&type, rope, "rope_type", where, error)) != HN_OK ||
         (status = hn_json_get_double(&part, rope, "partial_rotary_factor", 0, 1, where, error)) != HN_OK))
        return status;
    if (status == HN_OK) status = hn_json_get_double(&part, root, "partial_rotary_factor", 0, 1, where, error);
    if (status != HN_OK) return status;
    if (part < 1)
        return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: \"partial_rotary_factor\": expected 1 (whole heads), got %g", where,
                       part);
    config->rope = (hn_rope){.theta = theta};
    return get_stretch(&config->rope, rope, name, type, where, error);
}

hn_status hnp_decoder_config_read(hn_model_config *out, const char *model_type, const json_t *root, const char *where,
                                  hn_error *error)
{
    static const char *const gates[] = {"silu", NULL}, *const plain[] = {"gelu", "gelu_new", "gelu_pytorch_tanh", "relu", NULL};
    const family *f = find_family(model_type);
    hn_model_config config = {
        .family = f->family, .head = HN_HEAD_LM, .tied = f->tied, .gated = f->gated, .qk_norm = f->qk_norm};
    hn_status status;
    if ((status = get_sizes(&config, f, root, where, error)) != HN_OK ||
        (status = refuse_others(&config, f, root, where, error)) != HN_OK ||
        (status = get_dropouts(&config, f, root, where, error)) != HN_OK ||
        (status = hn_json_get_bool(&config.tied, root, "tie_word_embeddings", where, error)) != HN_OK ||
        (f->gated && (status = get_rope(&config, root, where, error)) != HN_OK))
        return status;
    status = hnp_config_activation(&config.activation, root, f->activation, f->gated ? "silu" : "gelu_new",
                                   f->gated ? gates : plain, where, error);
    if (status == HN_OK)
        status = hnp_config_numbers(&config, root, f->norm_epsilon, f->norm_epsilon_default, where, error);
    if (status != HN_OK) return status;
    config.labels = config.vocabulary;
    /* Random numbers have 16 bits for a position (core/philox.h); a table of positions is as long as its file says. */
    if (f->gated && config.positions > 65536) config.positions = 65536;
    *out = config;
    return HN_OK;
}
