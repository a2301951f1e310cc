/* config.json to hn_model_config. Here the model's type is looked at and what all families share is read;
 * config_encoder.c and config_decoder.c have a row for each family. The rest of models/ reads only
 * hn_model_config and never asks for the family again (but for the parameter table, families.c).
 *
 * Sizes must be given and stand in ranges that the rest of hone relies on: a layer fits 16 bits and a head 8
 * bits of a random site (core/philox.h), a position fits 16 bits, and no product of two sizes overflows 64
 * bits. What would silently give other numbers than transformers (relative positions, sliding windows,
 * experts, pruned heads, quantized weights) is refused by name. */
#include "models/config_internal.h"

#include <string.h>

static const struct {
    const char *name;
    hn_activation activation;
} activations[] = {{"gelu", HN_ACT_GELU},
                   {"gelu_new", HN_ACT_GELU_TANH},
                   {"gelu_pytorch_tanh", HN_ACT_GELU_TANH},
                   {"relu", HN_ACT_RELU},
                   {"silu", HN_ACT_SILU}};

hn_status hnp_config_size(int *out, const json_t *root, const char *key, int64_t min, int64_t max,
                          const char *where, hn_error *error)
{
    int64_t value = min - 1;
    hn_status status = hn_json_get_int(&value, root, key, min, max, where, error);
    if (status != HN_OK) return status;
    if (value < min)
        return hn_fail(error, HN_ERR_FORMAT, "%s: \"%s\": expected an integer from %lld to %lld, got nothing",
                       where, key, (long long)min, (long long)max);
    *out = (int)value;
    return HN_OK;
}

hn_status hnp_config_head_size(hn_model_config *config, const char *hidden_key, const char *heads_key,
                               const char *where, hn_error *error)
{
    if (!config->head_size) {
        if (config->hidden % config->heads)
            return hn_fail(error, HN_ERR_FORMAT, "%s: \"%s\": expected a divisor of %s (%d), got %d", where,
                           heads_key, hidden_key, config->hidden, config->heads);
        config->head_size = config->hidden / config->heads;
    }
    if (config->head_size % 8 || config->head_size > 256)
        return hn_fail(error, HN_ERR_UNSUPPORTED,
                       "%s: \"%s\" / \"%s\": expected a head size that is a multiple of 8 up to 256, got %d",
                       where, hidden_key, heads_key, config->head_size);
    return HN_OK;
}

hn_status hnp_config_flag(const json_t *root, const char *key, bool expected, const char *what,
                          const char *where, hn_error *error)
{
    bool value = expected;
    hn_status status = hn_json_get_bool(&value, root, key, where, error);
    if (status != HN_OK || value == expected) return status;
    return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: \"%s\": expected %s (%s), got %s", where, key,
                   expected ? "true" : "false", what, value ? "true" : "false");
}

hn_status hnp_config_activation(hn_activation *out, const json_t *root, const char *key, const char *name,
                                const char *const *names, const char *where, hn_error *error)
{
    hn_strbuf list;
    hn_status status = hn_json_get_string(&name, root, key, where, error);
    if (status != HN_OK) return status;
    for (int i = 0; names[i]; i++)
        for (size_t a = 0; a < sizeof activations / sizeof *activations && !strcmp(name, names[i]); a++)
            if (!strcmp(name, activations[a].name)) {
                *out = activations[a].activation;
                return HN_OK;
            }
    hn_strbuf_init(&list);
    for (int i = 0; names[i]; i++)
        hn_strbuf_printf(&list, "%s%s", !i ? "" : names[i + 1] ? ", " : " or ", names[i]);
    status = hn_fail(error, HN_ERR_UNSUPPORTED, "%s: \"%s\": expected %s, got \"%.80s\"", where, key, list.text,
                     name);
    hn_strbuf_close(&list);
    return status;
}

hn_status hnp_config_numbers(hn_model_config *config, const json_t *root, const char *epsilon_key,
                             double epsilon, const char *where, hn_error *error)
{
    double range = 0.02;
    hn_status status = hn_json_get_double(&range, root, "initializer_range", 0, 10, where, error);
    if (status == HN_OK && epsilon_key)
        status = hn_json_get_double(&epsilon, root, epsilon_key, 1e-20, 1, where, error);
    config->norm_epsilon = (float)epsilon;
    config->init_range = (float)range;
    return status;
}

static hn_status find_type(const char **out, const json_t *root, const char *where, hn_error *error)
{
    const char *type = NULL;
    if (!json_is_object(root))
        return hn_fail(error, HN_ERR_FORMAT, "%s: expected an object of model settings", where);
    hn_status status = hn_json_get_string(&type, root, "model_type", where, error);
    if (status != HN_OK) return status;
    if (!type || (!hnp_encoder_architecture(type) && !hnp_decoder_architecture(type)))
        return hn_fail(error, HN_ERR_UNSUPPORTED,
                       "%s: \"model_type\": expected bert, roberta, xlm-roberta, camembert or distilbert, or gpt2, "
                       "llama, mistral, qwen2 or qwen3, got %.80s",
                       where, type ? type : "nothing");
    *out = type;
    return HN_OK;
}

/* What no family has. */
static hn_status refuse_others(const json_t *root, const char *where, hn_error *error)
{
    const json_t *quantization = json_object_get(root, "quantization_config");
    if (quantization && !json_is_null(quantization))
        return hn_fail(
            error, HN_ERR_UNSUPPORTED,
            "%s: \"quantization_config\": hone trains F32, F16 and BF16 weights; this model's are quantized",
            where);
    if (json_object_size(json_object_get(root, "pruned_heads")))
        return hn_fail(error, HN_ERR_UNSUPPORTED,
                       "%s: \"pruned_heads\": expected none, got %zu layers with pruned heads", where,
                       json_object_size(json_object_get(root, "pruned_heads")));
    return HN_OK;
}

hn_status hn_model_config_read(hn_model_config *out, const json_t *root, const char *where, hn_error *error)
{
    const char *type = NULL;
    hn_status status = find_type(&type, root, where, error);
    if (status == HN_OK) status = refuse_others(root, where, error);
    if (status != HN_OK) return status;
    return hnp_encoder_architecture(type) ? hnp_encoder_config_read(out, type, root, where, error)
                                          : hnp_decoder_config_read(out, type, root, where, error);
}

bool hn_head_reads_tokens(hn_head head)
{
    return head == HN_HEAD_LM || head == HN_HEAD_MASKED || head == HN_HEAD_TAGS;
}

void hn_model_config_head(hn_model_config *config, hn_head head, int labels)
{
    config->head = head;
    config->labels = labels;
    if (head == HN_HEAD_TAGS && config->family == HN_FAMILY_DISTILBERT) config->head_dropout = config->hidden_dropout;
    if (head != HN_HEAD_MASKED) return;
    config->labels = config->vocabulary;
    config->tied = true;
    config->head_activation = config->family == HN_FAMILY_ROBERTA ? HN_ACT_GELU : config->activation;
}

hn_status hn_model_export_config(const hn_model *model, json_t *root, hn_error *error)
{
    static const char *const problems[] = {[HN_HEAD_CLASSIFY] = "single_label_classification",
                                           [HN_HEAD_REGRESS] = "regression"};
    static const char *const heads[] = {[HN_HEAD_CLASSIFY] = "SequenceClassification",
                                        [HN_HEAD_REGRESS] = "SequenceClassification",
                                        [HN_HEAD_MASKED] = "MaskedLM",
                                        [HN_HEAD_TAGS] = "TokenClassification"};
    const char *type = NULL;
    hn_status status = find_type(&type, root, "config.json", error);
    if (status != HN_OK) return status;
    hn_head head = hn_model_get_config(model)->head;
    bool sequence = !hn_head_reads_tokens(head);
    json_t *name = head == HN_HEAD_LM ? json_string(hnp_decoder_architecture(type))
                                      : json_sprintf("%sFor%s", hnp_encoder_architecture(type),
                                                     heads[head]);
    json_t *names = json_pack("[o]", name);
    /* transformers loads in the type that config.json names, whatever the weights are: let the weights speak.
     */
    json_object_del(root, "torch_dtype");
    json_object_del(root, "dtype");
    if (!sequence) json_object_del(root, "problem_type");
    if (json_object_set_new(root, "architectures", names) ||
        (sequence && json_object_set_new(root, "problem_type", json_string(problems[head]))))
        return hn_fail(error, HN_ERR_MEMORY, "config.json: out of memory");
    return HN_OK;
}

bool hn_model_config_drops(const hn_model_config *config)
{
    const float all[] = {config->embedding_dropout,     config->hidden_dropout, config->attention_dropout,
                         config->attention_out_dropout, config->head_dropout,   config->head_input_dropout,
                         config->lora.rank ? config->lora.dropout : 0};
    bool drops = false;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) drops |= all[i] > 0;
    return drops;
}
