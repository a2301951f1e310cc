/* config.json to hn_model_config. A family is one row of a table: which names its fields have, which of them
 * are fixed, and what its classifier does; the rest of models/ reads only hn_model_config and never asks for
 * the family again (but for the parameter table, families.c).
 *
 * Sizes must be given and stand in ranges that the rest of hone relies on: a layer fits 16 bits and a head 8
 * bits of a random site (core/philox.h), a position fits 16 bits, and no product of two sizes overflows 64
 * bits. What would silently give other numbers than transformers (relative positions, decoders, pruned heads,
 * quantized weights) is refused by name. */
#include "models/model.h"

#include <string.h>

#include "core/json.h"

typedef struct family {
    const char *model_type;   /* in config.json */
    const char *architecture; /* the class of transformers that an export names */
    hn_family family;
    const char *hidden, *layers, *heads, *intermediate, *activation;
    const char *hidden_dropout, *attention_dropout, *head_dropout;
    const char *types;           /* NULL: no segment embeddings */
    const char *norm_epsilon;    /* NULL: always 1e-12 */
    double head_dropout_default; /* negative: that of the hidden layers */
    bool offset_positions;       /* positions start behind pad_token_id */
    bool drops_attention_out;
    bool drops_head_input;
    hn_activation head_activation;
} family;

#define BERT_NAMES                                                                                           \
    .hidden = "hidden_size", .layers = "num_hidden_layers", .heads = "num_attention_heads",                  \
    .intermediate = "intermediate_size", .activation = "hidden_act",                                         \
    .hidden_dropout = "hidden_dropout_prob", .attention_dropout = "attention_probs_dropout_prob",            \
    .head_dropout = "classifier_dropout", .types = "type_vocab_size", .norm_epsilon = "layer_norm_eps",      \
    .head_dropout_default = -1, .drops_attention_out = true, .head_activation = HN_ACT_TANH
#define ROBERTA_NAMES                                                                                        \
    BERT_NAMES, .family = HN_FAMILY_ROBERTA, .offset_positions = true, .drops_head_input = true

static const family families[] = {
    {.model_type = "bert",
     .architecture = "BertForSequenceClassification",
     .family = HN_FAMILY_BERT,
     BERT_NAMES},
    {.model_type = "roberta", .architecture = "RobertaForSequenceClassification", ROBERTA_NAMES},
    {.model_type = "xlm-roberta", .architecture = "XLMRobertaForSequenceClassification", ROBERTA_NAMES},
    {.model_type = "camembert", .architecture = "CamembertForSequenceClassification", ROBERTA_NAMES},
    {.model_type = "distilbert",
     .architecture = "DistilBertForSequenceClassification",
     .family = HN_FAMILY_DISTILBERT,
     .hidden = "dim",
     .layers = "n_layers",
     .heads = "n_heads",
     .intermediate = "hidden_dim",
     .activation = "activation",
     .hidden_dropout = "dropout",
     .attention_dropout = "attention_dropout",
     .head_dropout = "seq_classif_dropout",
     .head_dropout_default = 0.2,
     .head_activation = HN_ACT_RELU},
};

static const struct {
    const char *name;
    hn_activation activation;
} activations[] = {{"gelu", HN_ACT_GELU},
                   {"gelu_new", HN_ACT_GELU_TANH},
                   {"gelu_pytorch_tanh", HN_ACT_GELU_TANH},
                   {"relu", HN_ACT_RELU}};

#define COUNT(array) (sizeof(array) / sizeof *(array))

#define MAX_DROPOUT 0.99

static hn_status find_family(const family **out, const json_t *root, const char *where, hn_error *error)
{
    const char *type = NULL;
    if (!json_is_object(root))
        return hn_fail(error, HN_ERR_FORMAT, "%s: expected an object of model settings", where);
    hn_status status = hn_json_get_string(&type, root, "model_type", where, error);
    if (status != HN_OK) return status;
    for (size_t i = 0; type && i < COUNT(families); i++)
        if (!strcmp(type, families[i].model_type)) {
            *out = &families[i];
            return HN_OK;
        }
    return hn_fail(
        error, HN_ERR_UNSUPPORTED,
        "%s: \"model_type\": expected bert, roberta, xlm-roberta, camembert or distilbert, got %.80s", where,
        type ? type : "nothing");
}

/* Everything that would change the numbers and that hone lacks. */
static hn_status refuse_others(const json_t *root, const char *where, hn_error *error)
{
    const char *position = "absolute";
    bool decoder = false, cross = false;
    hn_status status;
    if ((status = hn_json_get_string(&position, root, "position_embedding_type", where, error)) != HN_OK ||
        (status = hn_json_get_bool(&decoder, root, "is_decoder", where, error)) != HN_OK ||
        (status = hn_json_get_bool(&cross, root, "add_cross_attention", where, error)) != HN_OK)
        return status;
    if (strcmp(position, "absolute"))
        return hn_fail(error, HN_ERR_UNSUPPORTED,
                       "%s: \"position_embedding_type\": expected \"absolute\", got \"%.80s\"", where,
                       position);
    if (decoder)
        return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: \"is_decoder\": expected false (an encoder), got true",
                       where);
    if (cross)
        return hn_fail(error, HN_ERR_UNSUPPORTED,
                       "%s: \"add_cross_attention\": expected false (an encoder), got true", where);
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

static hn_status get_size(int *out, const json_t *root, const char *key, int64_t min, int64_t max,
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

static hn_status get_sizes(hn_model_config *config, const family *f, const json_t *root, const char *where,
                           hn_error *error)
{
    hn_status status;
    if ((status = get_size(&config->hidden, root, f->hidden, 8, 65536, where, error)) != HN_OK ||
        (status = get_size(&config->layers, root, f->layers, 1, 1024, where, error)) != HN_OK ||
        (status = get_size(&config->heads, root, f->heads, 1, 256, where, error)) != HN_OK ||
        (status = get_size(&config->intermediate, root, f->intermediate, 1, 1 << 20, where, error)) !=
            HN_OK ||
        (status = get_size(&config->vocabulary, root, "vocab_size", 1, 1 << 24, where, error)) != HN_OK ||
        (status = get_size(&config->positions, root, "max_position_embeddings", 1, 65536, where, error)) !=
            HN_OK)
        return status;
    if (config->hidden % config->heads)
        return hn_fail(error, HN_ERR_FORMAT, "%s: \"%s\": expected a divisor of %s (%d), got %d", where,
                       f->heads, f->hidden, config->hidden, config->heads);
    int head_size = config->hidden / config->heads;
    if (head_size % 8 || head_size > 256)
        return hn_fail(error, HN_ERR_UNSUPPORTED,
                       "%s: \"%s\" / \"%s\": expected a head size that is a multiple of 8 up to 256, got %d",
                       where, f->hidden, f->heads, head_size);
    if (f->types) {
        int64_t types = 2;
        status = hn_json_get_int(&types, root, f->types, 1, 256, where, error);
        config->types = (int)types;
    }
    if (status == HN_OK && f->offset_positions) {
        int64_t pad = 1;
        status = hn_json_get_int(&pad, root, "pad_token_id", 0, config->positions - 2, where, error);
        if (status == HN_OK && pad > config->positions - 2)
            return hn_fail(error, HN_ERR_FORMAT,
                           "%s: \"max_position_embeddings\": expected more than pad_token_id + 1, got %d",
                           where, config->positions);
        config->position_offset = (int)pad + 1;
    }
    return status;
}

static hn_status get_dropouts(hn_model_config *config, const family *f, const json_t *root, const char *where,
                              hn_error *error)
{
    double hidden = 0.1, attention = 0.1;
    hn_status status = hn_json_get_double(&hidden, root, f->hidden_dropout, 0, MAX_DROPOUT, where, error);
    if (status != HN_OK) return status;
    status = hn_json_get_double(&attention, root, f->attention_dropout, 0, MAX_DROPOUT, where, error);
    if (status != HN_OK) return status;
    double head = f->head_dropout_default < 0 ? hidden : f->head_dropout_default;
    status = hn_json_get_double(&head, root, f->head_dropout, 0, MAX_DROPOUT, where, error);
    config->hidden_dropout = (float)hidden;
    config->attention_dropout = (float)attention;
    config->attention_out_dropout = f->drops_attention_out ? (float)hidden : 0;
    config->head_dropout = (float)head;
    config->head_input_dropout = f->drops_head_input ? (float)head : 0;
    return status;
}

static hn_status get_activation(hn_model_config *config, const family *f, const json_t *root,
                                const char *where, hn_error *error)
{
    const char *name = "gelu";
    hn_status status = hn_json_get_string(&name, root, f->activation, where, error);
    if (status != HN_OK) return status;
    for (size_t i = 0; i < COUNT(activations); i++)
        if (!strcmp(name, activations[i].name)) {
            config->activation = activations[i].activation;
            return HN_OK;
        }
    return hn_fail(error, HN_ERR_UNSUPPORTED,
                   "%s: \"%s\": expected gelu, gelu_new, gelu_pytorch_tanh or relu, got \"%.80s\"", where,
                   f->activation, name);
}

hn_status hn_model_config_read(hn_model_config *out, const json_t *root, const char *where, hn_error *error)
{
    const family *f = NULL;
    hn_status status = find_family(&f, root, where, error);
    if (status != HN_OK) return status;
    hn_model_config config = {.family = f->family, .head = HN_HEAD_CLASSIFY, .labels = 2};
    config.head_activation = f->head_activation;
    double epsilon = 1e-12, range = 0.02;
    if ((status = refuse_others(root, where, error)) != HN_OK ||
        (status = get_sizes(&config, f, root, where, error)) != HN_OK ||
        (status = get_dropouts(&config, f, root, where, error)) != HN_OK ||
        (status = get_activation(&config, f, root, where, error)) != HN_OK ||
        (status = hn_json_get_double(&range, root, "initializer_range", 0, 10, where, error)) != HN_OK)
        return status;
    if (f->norm_epsilon) status = hn_json_get_double(&epsilon, root, f->norm_epsilon, 1e-20, 1, where, error);
    if (status != HN_OK) return status;
    config.norm_epsilon = (float)epsilon;
    config.init_range = (float)range;
    *out = config;
    return HN_OK;
}

hn_status hn_model_export_config(const hn_model *model, json_t *root, hn_error *error)
{
    const family *f = NULL;
    hn_status status = find_family(&f, root, "config.json", error);
    if (status != HN_OK) return status;
    bool regress = hn_model_get_config(model)->head == HN_HEAD_REGRESS;
    /* transformers loads in the type that config.json names, whatever the weights are: let the weights speak.
     */
    json_object_del(root, "torch_dtype");
    json_object_del(root, "dtype");
    if (json_object_set_new(root, "architectures", json_pack("[s]", f->architecture)) ||
        json_object_set_new(root, "problem_type",
                            json_string(regress ? "regression" : "single_label_classification")))
        return hn_fail(error, HN_ERR_MEMORY, "config.json: out of memory");
    return HN_OK;
}
