/* config.json from the keys of a GGUF file. Numbers are stored there as fp32, so that 1e-5 has become
 * 9.99999974e-06; what is written is the shortest decimal that is the same fp32, which is what the author
 * wrote.
 *
 * Llama 3's stretched rotation stands in no key: it is a tensor, rope_freqs.weight, one divisor a frequency.
 * Several settings give the same divisors, so the ones that its makers ship are tried (low 1, high 4, and the
 * original length from the key, or 8192), and taken only if they give every divisor of the file. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "formats/gguf_internal.h"

/* An object that is filled; allocations that fail are asked after once, at the end. */
typedef struct object {
    json_t *json;
    bool failed;
} object;

static void set(object *out, const char *key, json_t *value)
{
    out->failed |= json_object_set_new(out->json, key, value) != 0;
}

static json_t *shortest(double value)
{
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtof(text, NULL) == (float)value) break;
    }
    return json_real(strtod(text, NULL));
}

static hn_status get_real(double *out, const hnp_gguf_model *model, const char *name, double min, double max,
                          bool required, hn_error *error)
{
    hnp_gguf_key key = hnp_gguf_key_of(model, name);
    hn_status status = required ? hn_gguf_require(model->file, key.text, error) : HN_OK;
    return status == HN_OK ? hn_gguf_get_double(out, model->file, key.text, min, max, error) : status;
}

/* Llama 3's divisor of a frequency. */
static double divisor(double frequency, double factor, double low, double high, double original)
{
    double length = 2 * 3.14159265358979323846 / frequency;
    if (length < original / high) return 1;
    if (length > original / low) return factor;
    double smooth = (original / length - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
}

static hn_status add_divisors(object *config, const hn_gguf_tensor *freqs, const hnp_gguf_model *model,
                              double theta, int64_t original, hn_error *error)
{
    const double low = 1, high = 4;
    int64_t n = freqs->shape[0];
    float *values = hn_reallocarray(NULL, (size_t)n, sizeof *values);
    if (!values) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", hn_gguf_path(model->file));
    hn_gguf_dequantise(values, freqs->type, freqs->data, n);
    double factor = values[n - 1];
    bool same = factor >= 1 && factor <= 1024;
    for (int64_t i = 0; i < n && same; i++) {
        double expected = divisor(pow(theta, -(double)i / (double)n), factor, low, high, (double)original);
        same = fabs(values[i] - expected) <= 1e-4 * expected; /* converters compute in fp32 */
    }
    hn_free(values);
    if (!same)
        return hn_fail(error, HN_ERR_UNSUPPORTED,
                       "%s: tensor rope_freqs.weight: expected Llama 3's divisors (low_freq_factor 1, "
                       "high_freq_factor 4, "
                       "original length %" PRId64 "), got others",
                       hn_gguf_path(model->file), original);
    set(config, "rope_scaling",
        json_pack("{s:s, s:o, s:f, s:f, s:I}", "rope_type", "llama3", "factor", shortest(factor),
                  "low_freq_factor", low, "high_freq_factor", high, "original_max_position_embeddings",
                  (json_int_t)original));
    return HN_OK;
}

static bool is(hn_gguf_text text, const char *word)
{
    return text.length == strlen(word) && !memcmp(text.text, word, text.length);
}

static hn_status add_scaling(object *config, hn_gguf_text type, double factor, int64_t original,
                             const hnp_gguf_model *model, hn_error *error)
{
    json_t *scaling = NULL;
    if (is(type, "linear"))
        scaling = json_pack("{s:s, s:o}", "rope_type", "linear", "factor", shortest(factor));
    else if (is(type, "yarn"))
        scaling = json_pack("{s:s, s:o, s:I}", "rope_type", "yarn", "factor", shortest(factor),
                            "original_max_position_embeddings", (json_int_t)original);
    else
        return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: key %s: expected none, linear or yarn, got \"%.*s\"",
                       hn_gguf_path(model->file), hnp_gguf_key_of(model, "rope.scaling.type").text,
                       type.length > 64 ? 64 : (int)type.length, type.text);
    set(config, "rope_scaling", scaling);
    return HN_OK;
}

static hn_status add_rope(object *config, const hnp_gguf_model *model, hn_error *error)
{
    double theta = 10000, factor = 1, old_factor = 1;
    int64_t original = 0;
    hn_gguf_text type = {"none", 4};
    const hn_gguf_tensor *freqs = hn_gguf_tensor_find(model->file, "rope_freqs.weight");
    hn_status status = get_real(&theta, model, "rope.freq_base", 1, 1e12, false, error);
    if (status == HN_OK) status = get_real(&factor, model, "rope.scaling.factor", 1, 1024, false, error);
    if (status == HN_OK) status = get_real(&old_factor, model, "rope.scale_linear", 1, 1024, false, error);
    if (status == HN_OK)
        status = hn_gguf_get_int(&original, model->file,
                                 hnp_gguf_key_of(model, "rope.scaling.original_context_length").text, 1,
                                 INT32_MAX, error);
    if (status == HN_OK)
        status =
            hn_gguf_get_string(&type, model->file, hnp_gguf_key_of(model, "rope.scaling.type").text, error);
    if (status != HN_OK) return status;
    if (is(type, "none") && old_factor != 1) {
        type = (hn_gguf_text){"linear", 6};
        factor = old_factor;
    }
    set(config, "rope_theta", shortest(theta));
    if (freqs && !is(type, "none"))
        return hn_fail(error, HN_ERR_UNSUPPORTED,
                       "%s: tensor rope_freqs.weight: expected it or a rope.scaling.type, got both",
                       hn_gguf_path(model->file));
    if (freqs) return add_divisors(config, freqs, model, theta, original ? original : 8192, error);
    if (is(type, "none")) return HN_OK;
    return add_scaling(config, type, factor, original ? original : model->positions, model, error);
}

static hn_status decoder(object *config, const hnp_gguf_model *model, hn_error *error)
{
    double epsilon = 0;
    hn_status status = get_real(&epsilon, model, "attention.layer_norm_rms_epsilon", 0, 1, true, error);
    if (status != HN_OK) return status;
    set(config, "hidden_size", json_integer(model->width));
    set(config, "intermediate_size", json_integer(model->inner));
    set(config, "num_hidden_layers", json_integer(model->layers));
    set(config, "num_attention_heads", json_integer(model->heads));
    set(config, "num_key_value_heads", json_integer(model->kv_heads));
    set(config, "head_dim", json_integer(model->head_size));
    set(config, "max_position_embeddings", json_integer(model->positions));
    set(config, "rms_norm_eps", shortest(epsilon));
    set(config, "hidden_act", json_string("silu"));
    if (strcmp(model->family->architecture, "qwen2")) set(config, "attention_bias", json_false());
    if (!strcmp(model->family->architecture, "llama")) set(config, "mlp_bias", json_false());
    return add_rope(config, model, error);
}

static hn_status gpt2(object *config, const hnp_gguf_model *model, hn_error *error)
{
    double epsilon = 0;
    hn_status status = get_real(&epsilon, model, "attention.layer_norm_epsilon", 0, 1, true, error);
    if (status != HN_OK) return status;
    set(config, "n_embd", json_integer(model->width));
    set(config, "n_inner", json_integer(model->inner));
    set(config, "n_layer", json_integer(model->layers));
    set(config, "n_head", json_integer(model->heads));
    set(config, "n_positions", json_integer(model->positions));
    set(config, "n_ctx", json_integer(model->positions));
    set(config, "layer_norm_epsilon", shortest(epsilon));
    set(config, "activation_function", json_string("gelu_new"));
    return HN_OK;
}

static hn_status bert(object *config, const hnp_gguf_model *model, hn_error *error)
{
    double epsilon = 0;
    hn_status status = get_real(&epsilon, model, "attention.layer_norm_epsilon", 0, 1, true, error);
    if (status != HN_OK) return status;
    set(config, "hidden_size", json_integer(model->width));
    set(config, "intermediate_size", json_integer(model->inner));
    set(config, "num_hidden_layers", json_integer(model->layers));
    set(config, "num_attention_heads", json_integer(model->heads));
    set(config, "max_position_embeddings", json_integer(model->positions));
    set(config, "type_vocab_size", json_integer(model->types));
    set(config, "layer_norm_eps", shortest(epsilon));
    set(config, "hidden_act", json_string("gelu"));
    set(config, "position_embedding_type", json_string("absolute"));
    return HN_OK;
}

/* "bos_token_id" and its kin, which have the names of tokenizer_config.json with "_id". */
static hn_status add_special(object *config, const hnp_gguf_model *model, hn_error *error)
{
    int64_t ids[HNP_GGUF_SPECIALS];
    hn_status status = hnp_gguf_special_ids(ids, model, error);
    for (int i = HNP_GGUF_BOS; i <= HNP_GGUF_PAD && status == HN_OK; i++) {
        char name[32];
        if (ids[i] < 0 || i == HNP_GGUF_UNK) continue;
        snprintf(name, sizeof name, "%s_id", hnp_gguf_special_names[i]);
        set(config, name, json_integer(ids[i]));
    }
    return status;
}

hn_status hnp_gguf_config(json_t **out, const hnp_gguf_model *model, hn_dtype dtype, hn_error *error)
{
    static const char *const types[] = {[HN_F32] = "float32", [HN_BF16] = "bfloat16", [HN_F16] = "float16"};
    const char *architecture = model->family->architecture;
    bool encoder = !strcmp(architecture, "bert");
    object config = {.json = json_object()};
    set(&config, "architectures", json_pack("[s]", model->family->class_name));
    set(&config, "model_type", json_string(model->family->model_type));
    set(&config, "vocab_size", json_integer(model->vocabulary));
    set(&config, "torch_dtype", json_string(types[dtype]));
    if (!encoder) set(&config, "tie_word_embeddings", json_boolean(model->tied));
    hn_status status = add_special(&config, model, error);
    if (status == HN_OK && encoder)
        status = bert(&config, model, error);
    else if (status == HN_OK)
        status = !strcmp(architecture, "gpt2") ? gpt2(&config, model, error) : decoder(&config, model, error);
    if (status == HN_OK && config.failed)
        status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for a config", hn_gguf_path(model->file));
    if (status == HN_OK)
        *out = config.json;
    else
        json_decref(config.json);
    return status;
}
