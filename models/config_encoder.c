/* config.json of the encoder families. A family is one row of a table: which names its fields have, which of them
 * are fixed, and what its classifier does. */
#include "models/config_internal.h"

#include <string.h>

typedef struct family {
    const char *model_type;   /* in config.json */
    const char *architecture; /* what the classes of transformers that an export names begin with */
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
     .architecture = "Bert",
     .family = HN_FAMILY_BERT,
     BERT_NAMES},
    {.model_type = "roberta", .architecture = "Roberta", ROBERTA_NAMES},
    {.model_type = "xlm-roberta", .architecture = "XLMRoberta", ROBERTA_NAMES},
    {.model_type = "camembert", .architecture = "Camembert", ROBERTA_NAMES},
    {.model_type = "distilbert",
     .architecture = "DistilBert",
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

static const family *find_family(const char *model_type)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (!strcmp(model_type, families[i].model_type)) return &families[i];
    return NULL;
}

const char *hnp_encoder_architecture(const char *model_type)
{
    const family *f = find_family(model_type);
    return f ? f->architecture : NULL;
}

static hn_status refuse_others(const json_t *root, const char *where, hn_error *error)
{
    const char *position = "absolute";
    hn_status status = hn_json_get_string(&position, root, "position_embedding_type", where, error);
    if (status == HN_OK && strcmp(position, "absolute"))
        status = hn_fail(error, HN_ERR_UNSUPPORTED,
                         "%s: \"position_embedding_type\": expected \"absolute\", got \"%.80s\"", where, position);
    if (status == HN_OK) status = hnp_config_flag(root, "is_decoder", false, "an encoder", where, error);
    if (status == HN_OK)
        status = hnp_config_flag(root, "add_cross_attention", false, "an encoder", where, error);
    return status;
}

static hn_status get_sizes(hn_model_config *config, const family *f, const json_t *root, const char *where,
                           hn_error *error)
{
    hn_status status;
    if ((status = hnp_config_size(&config->hidden, root, f->hidden, 8, 65536, where, error)) != HN_OK ||
        (status = hnp_config_size(&config->layers, root, f->layers, 1, 1024, where, error)) != HN_OK ||
        (status = hnp_config_size(&config->heads, root, f->heads, 1, 256, where, error)) != HN_OK ||
        (status = hnp_config_size(&config->intermediate, root, f->intermediate, 1, 1 << 20, where, error)) !=
            HN_OK ||
        (status = hnp_config_size(&config->vocabulary, root, "vocab_size", 1, 1 << 24, where, error)) != HN_OK ||
        (status = hnp_config_size(&config->positions, root, "max_position_embeddings", 1, 65536, where, error)) !=
            HN_OK)
        return status;
    config->kv_heads = config->heads;
    if ((status = hnp_config_head_size(config, f->hidden, f->heads, where, error)) != HN_OK) return status;
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
    hn_status status = hn_json_get_double(&hidden, root, f->hidden_dropout, 0, HNP_MAX_DROPOUT, where, error);
    if (status != HN_OK) return status;
    status = hn_json_get_double(&attention, root, f->attention_dropout, 0, HNP_MAX_DROPOUT, where, error);
    if (status != HN_OK) return status;
    double head = f->head_dropout_default < 0 ? hidden : f->head_dropout_default;
    status = hn_json_get_double(&head, root, f->head_dropout, 0, HNP_MAX_DROPOUT, where, error);
    config->hidden_dropout = config->embedding_dropout = (float)hidden;
    config->attention_dropout = (float)attention;
    config->attention_out_dropout = f->drops_attention_out ? (float)hidden : 0;
    config->head_dropout = (float)head;
    config->head_input_dropout = f->drops_head_input ? (float)head : 0;
    return status;
}

hn_status hnp_encoder_config_read(hn_model_config *out, const char *model_type, const json_t *root, const char *where,
                                  hn_error *error)
{
    static const char *const names[] = {"gelu", "gelu_new", "gelu_pytorch_tanh", "relu", NULL};
    const family *f = find_family(model_type);
    hn_model_config config = {.family = f->family, .head = HN_HEAD_CLASSIFY, .labels = 2};
    hn_status status;
    config.head_activation = f->head_activation;
    if ((status = refuse_others(root, where, error)) != HN_OK ||
        (status = get_sizes(&config, f, root, where, error)) != HN_OK ||
        (status = get_dropouts(&config, f, root, where, error)) != HN_OK)
        return status;
    status = hnp_config_activation(&config.activation, root, f->activation, "gelu", names, where, error);
    if (status == HN_OK) status = hnp_config_numbers(&config, root, f->norm_epsilon, 1e-12, where, error);
    if (status == HN_OK) *out = config;
    return status;
}
