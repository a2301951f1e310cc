/* Tiny configs for tests, as the texts of their config.json. */
#ifndef HONE_TESTS_MODELS_TINY_H
#define HONE_TESTS_MODELS_TINY_H

#include <string.h>

#include "core/json.h"
#include "models/model.h"

#define TINY_BERT                                                                                                      \
    "{\"model_type\": \"bert\", \"hidden_size\": 32, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "           \
    "\"intermediate_size\": 48, \"vocab_size\": 60, \"max_position_embeddings\": 40, \"type_vocab_size\": 2}"
#define TINY_ROBERTA                                                                                                   \
    "{\"model_type\": \"roberta\", \"hidden_size\": 32, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "        \
    "\"intermediate_size\": 48, \"vocab_size\": 60, \"max_position_embeddings\": 40, \"type_vocab_size\": 1, "         \
    "\"pad_token_id\": 1, \"layer_norm_eps\": 1e-5}"
#define TINY_DISTILBERT                                                                                                \
    "{\"model_type\": \"distilbert\", \"dim\": 32, \"n_layers\": 2, \"n_heads\": 4, \"hidden_dim\": 48, "              \
    "\"vocab_size\": 60, \"max_position_embeddings\": 40}"

#define TINY_GPT2                                                                                                      \
    "{\"model_type\": \"gpt2\", \"n_embd\": 32, \"n_layer\": 2, \"n_head\": 4, \"n_inner\": 48, \"vocab_size\": 60, "       \
    "\"n_positions\": 40}"
#define TINY_GATED(type_, more_)                                                                                       \
    "{\"model_type\": \"" type_ "\", \"hidden_size\": 32, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "           \
    "\"intermediate_size\": 48, \"vocab_size\": 60, \"max_position_embeddings\": 40" more_ "}"
#define TINY_LLAMA TINY_GATED("llama", ", \"num_key_value_heads\": 2")
#define TINY_QWEN2 TINY_GATED("qwen2", ", \"num_key_value_heads\": 4, \"tie_word_embeddings\": true")
/* heads of 48, all on one K and V */
#define TINY_QWEN3 TINY_GATED("qwen3", ", \"num_key_value_heads\": 1, \"head_dim\": 48, \"tie_word_embeddings\": true")

static inline hn_status tiny_config(hn_model_config *out, const char *text, hn_error *error)
{
    json_t *root = NULL;
    hn_status status = hn_json_parse(&root, text, strlen(text), "config.json", HN_JSON_LIMITS_SMALL, error);
    if (status == HN_OK) status = hn_model_config_read(out, root, "config.json", error);
    json_decref(root);
    return status;
}

#endif
