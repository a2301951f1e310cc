/* config.json: every family's fields, defaults, and what is refused with which words. */
#include "models/model.h"

#include "tests/models/tiny.h"
#include "tests/test.h"

TEST(bert_fields)
{
    hn_model_config c;
    hn_error error = {0};
    CHECK_OK(
        tiny_config(&c,
                    "{\"model_type\": \"bert\", \"hidden_size\": 384, \"num_hidden_layers\": 6, "
                    "\"num_attention_heads\": 12, \"intermediate_size\": 1536, \"vocab_size\": 30522, "
                    "\"max_position_embeddings\": 512, \"type_vocab_size\": 2, \"hidden_act\": \"gelu\", "
                    "\"hidden_dropout_prob\": 0.2, \"attention_probs_dropout_prob\": 0.3, "
                    "\"classifier_dropout\": null, \"layer_norm_eps\": 1e-12, \"initializer_range\": 0.05, "
                    "\"position_embedding_type\": \"absolute\", \"pad_token_id\": 0}",
                    &error));
    CHECK_INT(c.family, HN_FAMILY_BERT);
    CHECK_INT(c.hidden, 384);
    CHECK_INT(c.layers, 6);
    CHECK_INT(c.heads, 12);
    CHECK_INT(c.intermediate, 1536);
    CHECK_INT(c.vocabulary, 30522);
    CHECK_INT(c.positions, 512);
    CHECK_INT(c.types, 2);
    CHECK_INT(c.position_offset, 0);
    CHECK_INT(c.activation, HN_ACT_GELU);
    CHECK_INT(c.head_activation, HN_ACT_TANH);
    CHECK_NEAR(c.hidden_dropout, 0.2, 1e-6);
    CHECK_NEAR(c.attention_out_dropout, 0.2, 1e-6);
    CHECK_NEAR(c.attention_dropout, 0.3, 1e-6);
    CHECK_NEAR(c.head_dropout, 0.2, 1e-6);
    CHECK_NEAR(c.head_input_dropout, 0, 0);
    CHECK_NEAR(c.init_range, 0.05, 1e-6);
    CHECK(c.norm_epsilon == 1e-12f);
}

TEST(roberta_positions_start_behind_the_padding)
{
    hn_model_config c;
    hn_error error = {0};
    CHECK_OK(tiny_config(&c, TINY_ROBERTA, &error));
    CHECK_INT(c.family, HN_FAMILY_ROBERTA);
    CHECK_INT(c.position_offset, 2);
    CHECK_INT(c.types, 1);
    CHECK(c.norm_epsilon == 1e-5f);
    CHECK_NEAR(c.head_input_dropout, 0.1, 1e-6);
}

TEST(distilbert_fields)
{
    hn_model_config c;
    hn_error error = {0};
    CHECK_OK(tiny_config(&c, TINY_DISTILBERT, &error));
    CHECK_INT(c.family, HN_FAMILY_DISTILBERT);
    CHECK_INT(c.hidden, 32);
    CHECK_INT(c.intermediate, 48);
    CHECK_INT(c.types, 0);
    CHECK_INT(c.head_activation, HN_ACT_RELU);
    CHECK_NEAR(c.attention_out_dropout, 0, 0);
    CHECK_NEAR(c.head_dropout, 0.2, 1e-6);
}

TEST(llama_fields)
{
    hn_model_config c;
    hn_error error = {0};
    CHECK_OK(tiny_config(&c,
                         "{\"model_type\": \"llama\", \"hidden_size\": 2048, \"num_hidden_layers\": 16, "
                         "\"num_attention_heads\": 32, \"num_key_value_heads\": 8, \"intermediate_size\": 8192, "
                         "\"vocab_size\": 128256, \"max_position_embeddings\": 131072, \"rms_norm_eps\": 1e-05, "
                         "\"tie_word_embeddings\": true, \"rope_theta\": 500000.0, \"hidden_act\": \"silu\", "
                         "\"rope_scaling\": {\"factor\": 32.0, \"high_freq_factor\": 4.0, \"low_freq_factor\": 1.0, "
                         "\"original_max_position_embeddings\": 8192, \"rope_type\": \"llama3\"}, "
                         "\"pretraining_tp\": 1, \"attention_bias\": false, \"head_dim\": 64}",
                         &error));
    CHECK_INT(c.family, HN_FAMILY_LLAMA);
    CHECK_INT(c.head, HN_HEAD_LM);
    CHECK_INT(c.kv_heads, 8);
    CHECK_INT(c.head_size, 64);
    CHECK_INT(c.labels, 128256);
    CHECK_INT(c.positions, 65536);
    CHECK(c.tied && c.gated && !c.qk_norm);
    CHECK_INT(c.activation, HN_ACT_SILU);
    CHECK_INT(c.rope.kind, HN_ROPE_LLAMA3);
    CHECK_NEAR(c.rope.theta, 500000, 0);
    CHECK_NEAR(c.rope.factor, 32, 0);
    CHECK_NEAR(c.rope.low_freq_factor, 1, 0);
    CHECK_NEAR(c.rope.high_freq_factor, 4, 0);
    CHECK_INT(c.rope.original_positions, 8192);
    CHECK_NEAR(c.embedding_dropout + c.hidden_dropout + c.attention_dropout + c.attention_out_dropout, 0, 0);
}

TEST(defaults_of_decoders)
{
    hn_model_config c;
    hn_error error = {0};
    CHECK_OK(tiny_config(&c, TINY_GATED("llama", ""), &error));
    CHECK_INT(c.kv_heads, 4);
    CHECK_INT(c.head_size, 8);
    CHECK(!c.tied && c.norm_epsilon == 1e-6f);
    CHECK_NEAR(c.rope.theta, 10000, 0);
    CHECK_INT(c.rope.kind, HN_ROPE_DEFAULT);
    CHECK_OK(tiny_config(&c, TINY_GATED("qwen3", ", \"num_key_value_heads\": null"), &error));
    CHECK_INT(c.head_size, 128);
    CHECK_INT(c.kv_heads, 4);
    CHECK(c.qk_norm);
    CHECK_OK(tiny_config(&c, TINY_GATED("llama", ", \"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 2, \"rope_theta\": 99}"), &error));
    CHECK_INT(c.rope.kind, HN_ROPE_LINEAR);
    CHECK_NEAR(c.rope.theta, 99, 0);
    CHECK_OK(tiny_config(&c, TINY_GATED("qwen2", ", \"num_key_value_heads\": 2, \"sliding_window\": 8, \"use_sliding_window\": false"), &error));
    CHECK_OK(tiny_config(&c, TINY_GATED("mistral", ", \"num_key_value_heads\": 2, \"sliding_window\": null"), &error));
    CHECK_OK(tiny_config(&c, TINY_GATED("mistral", ", \"num_key_value_heads\": 2, \"sliding_window\": 40"), &error));
    CHECK_OK(tiny_config(&c, "{\"model_type\": \"gpt2\", \"n_embd\": 32, \"n_layer\": 2, \"n_head\": 4, \"n_inner\": null, "
                             "\"vocab_size\": 60, \"n_positions\": 40, \"resid_pdrop\": 0.2, \"embd_pdrop\": 0.3, \"attn_pdrop\": 0.4}", &error));
    CHECK_INT(c.intermediate, 128);
    CHECK_INT(c.activation, HN_ACT_GELU_TANH);
    CHECK(c.tied && !c.gated && c.norm_epsilon == 1e-5f);
    CHECK_NEAR(c.embedding_dropout, 0.3, 1e-6);
    CHECK_NEAR(c.hidden_dropout, 0.2, 1e-6);
    CHECK_NEAR(c.attention_out_dropout, 0.2, 1e-6);
    CHECK_NEAR(c.attention_dropout, 0.4, 1e-6);
}

TEST(decoders_refused_by_name)
{
    static const struct {
        const char *text, *field, *part;
        hn_status status;
    } cases[] = {
        {TINY_GATED("llama", ", \"num_key_value_heads\": 3"), "num_key_value_heads", "divisor of num_attention_heads (4), got 3", HN_ERR_FORMAT},
        {TINY_GATED("llama", ", \"head_dim\": 12"), "head_dim", "got 12", HN_ERR_UNSUPPORTED},
        {TINY_GATED("llama", ", \"attention_bias\": true"), "attention_bias", "got true", HN_ERR_UNSUPPORTED},
        {TINY_GATED("llama", ", \"mlp_bias\": true"), "mlp_bias", "got true", HN_ERR_UNSUPPORTED},
        {TINY_GATED("llama", ", \"hidden_act\": \"gelu\""), "hidden_act", "expected silu, got \"gelu\"", HN_ERR_UNSUPPORTED},
        {TINY_GATED("llama", ", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4}"), "rope_scaling", "yarn", HN_ERR_UNSUPPORTED},
        {TINY_GATED("llama", ", \"rope_parameters\": {\"rope_type\": \"longrope\"}"), "rope_parameters", "longrope", HN_ERR_UNSUPPORTED},
        {TINY_GATED("llama", ", \"rope_scaling\": {\"type\": \"linear\"}"), "factor", "nothing", HN_ERR_FORMAT},
        {TINY_GATED("llama", ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8}"), "original_max_position_embeddings", "nothing", HN_ERR_FORMAT},
        {TINY_GATED("llama", ", \"partial_rotary_factor\": 0.5"), "partial_rotary_factor", "0.5", HN_ERR_UNSUPPORTED},
        {TINY_GATED("llama", ", \"num_experts\": 8"), "num_experts", "got 8", HN_ERR_UNSUPPORTED},
        {TINY_GATED("mistral", ", \"num_key_value_heads\": 2, \"sliding_window\": 16"), "sliding_window", "got 16", HN_ERR_UNSUPPORTED},
        {TINY_GATED("qwen2", ", \"num_key_value_heads\": 2, \"sliding_window\": 16, \"use_sliding_window\": true"), "sliding_window", "got 16", HN_ERR_UNSUPPORTED},
        {TINY_GATED("qwen3", ", \"num_key_value_heads\": 2, \"layer_types\": [\"full_attention\", \"sliding_attention\"]"), "layer_types", "layer 1", HN_ERR_UNSUPPORTED},
        {TINY_GATED("qwen3", ", \"num_key_value_heads\": 2, \"attention_bias\": true"), "attention_bias", "got true", HN_ERR_UNSUPPORTED},
        {TINY_GATED("llama", ", \"quantization_config\": {\"bits\": 4}"), "quantization_config", "quantized", HN_ERR_UNSUPPORTED},
        {"{\"model_type\": \"gpt2\", \"n_embd\": 32, \"n_layer\": 2, \"n_head\": 4, \"vocab_size\": 60, \"n_positions\": 40, "
         "\"scale_attn_by_inverse_layer_idx\": true}", "scale_attn_by_inverse_layer_idx", "got true", HN_ERR_UNSUPPORTED},
        {"{\"model_type\": \"gpt2\", \"n_embd\": 32, \"n_layer\": 2, \"n_head\": 4, \"vocab_size\": 60, \"n_positions\": 40, "
         "\"scale_attn_weights\": false}", "scale_attn_weights", "got false", HN_ERR_UNSUPPORTED},
        {"{\"model_type\": \"gpt2\", \"n_embd\": 32, \"n_layer\": 2, \"n_head\": 4, \"vocab_size\": 60, \"n_positions\": 70000}",
         "n_positions", "got 70000", HN_ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hn_model_config c;
        hn_error error = {0};
        CHECK_INT(tiny_config(&c, cases[i].text, &error), cases[i].status);
        CHECK_CONTAINS(error.message, "config.json");
        CHECK_CONTAINS(error.message, cases[i].field);
        CHECK_CONTAINS(error.message, cases[i].part);
    }
}

#define BERT_WITH(fields)                                                                                    \
    "{\"model_type\": \"bert\", \"vocab_size\": 60, \"max_position_embeddings\": 40, " fields "}"
#define SIZES(hidden, layers, heads)                                                                         \
    "\"intermediate_size\": 48, \"hidden_size\": " hidden ", \"num_hidden_layers\": " layers                 \
    ", \"num_attention_heads\": " heads
#define GOOD SIZES("32", "2", "4")

TEST(refused_by_name)
{
    static const struct {
        const char *text, *field, *part;
        hn_status status;
    } cases[] = {
        {"[]", "object", "expected", HN_ERR_FORMAT},
        {"{}", "model_type", "nothing", HN_ERR_UNSUPPORTED},
        {"{\"model_type\": \"mixtral\"}", "model_type", "mixtral", HN_ERR_UNSUPPORTED},
        {"{\"model_type\": 3}", "model_type", "string", HN_ERR_FORMAT},
        {BERT_WITH(SIZES("2147483648", "2", "4")), "hidden_size", "2147483648", HN_ERR_FORMAT},
        {BERT_WITH(SIZES("32", "2", "0")), "num_attention_heads", "got 0", HN_ERR_FORMAT},
        {BERT_WITH(SIZES("32", "1000000000", "4")), "num_hidden_layers", "1000000000", HN_ERR_FORMAT},
        {BERT_WITH(SIZES("32", "-1", "4")), "num_hidden_layers", "-1", HN_ERR_FORMAT},
        {BERT_WITH(SIZES("32.0", "2", "4")), "hidden_size", "integer", HN_ERR_FORMAT},
        {BERT_WITH(SIZES("\"32\"", "2", "4")), "hidden_size", "integer", HN_ERR_FORMAT},
        {BERT_WITH(SIZES("9223372036854775808", "2", "4")), "config.json", "", HN_ERR_FORMAT},
        {BERT_WITH(SIZES("NaN", "2", "4")), "config.json", "", HN_ERR_FORMAT},
        {BERT_WITH(GOOD ", \"layer_norm_eps\": 1e999"), "config.json", "", HN_ERR_FORMAT},
        {BERT_WITH(GOOD ", \"hidden_size\": 32"), "config.json", "", HN_ERR_FORMAT},
        {BERT_WITH("\"hidden_size\": 32"), "num_hidden_layers", "nothing", HN_ERR_FORMAT},
        {BERT_WITH(SIZES("32", "2", "5")), "num_attention_heads", "divisor of hidden_size (32), got 5",
         HN_ERR_FORMAT},
        {BERT_WITH(SIZES("36", "2", "3")), "num_attention_heads", "got 12", HN_ERR_UNSUPPORTED},
        {BERT_WITH(SIZES("264", "2", "1")), "num_attention_heads", "got 264", HN_ERR_UNSUPPORTED},
        {BERT_WITH(GOOD ", \"layer_norm_eps\": 0"), "layer_norm_eps", "got 0", HN_ERR_FORMAT},
        {BERT_WITH(GOOD ", \"hidden_dropout_prob\": 1.0"), "hidden_dropout_prob", "got 1", HN_ERR_FORMAT},
        {BERT_WITH(GOOD ", \"classifier_dropout\": -0.5"), "classifier_dropout", "-0.5", HN_ERR_FORMAT},
        {BERT_WITH(GOOD ", \"type_vocab_size\": 0"), "type_vocab_size", "got 0", HN_ERR_FORMAT},
        {BERT_WITH(GOOD ", \"hidden_act\": \"silu\""), "hidden_act", "silu", HN_ERR_UNSUPPORTED},
        {BERT_WITH(GOOD ", \"position_embedding_type\": \"relative_key\""), "position_embedding_type",
         "relative_key", HN_ERR_UNSUPPORTED},
        {BERT_WITH(GOOD ", \"is_decoder\": true"), "is_decoder", "got true", HN_ERR_UNSUPPORTED},
        {BERT_WITH(GOOD ", \"add_cross_attention\": true"), "add_cross_attention", "got true",
         HN_ERR_UNSUPPORTED},
        {BERT_WITH(GOOD ", \"quantization_config\": {\"bits\": 4}"), "quantization_config", "quantized",
         HN_ERR_UNSUPPORTED},
        {BERT_WITH(GOOD ", \"pruned_heads\": {\"0\": [1]}"), "pruned_heads", "got 1", HN_ERR_UNSUPPORTED},
        {"{\"model_type\": \"roberta\", \"vocab_size\": 60, \"max_position_embeddings\": 40, "
         "\"pad_token_id\": 39, " GOOD "}",
         "pad_token_id", "39", HN_ERR_FORMAT},
        {"{\"model_type\": \"roberta\", \"vocab_size\": 60, \"max_position_embeddings\": 2, " GOOD "}",
         "max_position_embeddings", "got 2", HN_ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hn_model_config c = {.hidden = -7};
        hn_error error = {0};
        hn_status status = tiny_config(&c, cases[i].text, &error);
        if (status != cases[i].status)
            TEST_FAIL("%s: status %d, expected %d: %s", cases[i].text, (int)status, (int)cases[i].status,
                      error.message);
        CHECK_CONTAINS(error.message, cases[i].field);
        CHECK_CONTAINS(error.message, cases[i].part);
        CHECK_INT(c.hidden, -7);
    }
}

TEST(null_means_the_default)
{
    hn_model_config c;
    hn_error error = {0};
    CHECK_OK(tiny_config(
        &c, BERT_WITH(GOOD ", \"quantization_config\": null, \"hidden_act\": null, \"pruned_heads\": {}"),
        &error));
    CHECK_INT(c.activation, HN_ACT_GELU);
    CHECK_INT(c.types, 2);
}

TEST(export_names_the_class)
{
    static const struct {
        const char *text, *architecture;
    } cases[] = {{TINY_BERT, "BertForSequenceClassification"},
                 {TINY_ROBERTA, "RobertaForSequenceClassification"},
                 {TINY_DISTILBERT, "DistilBertForSequenceClassification"}};
    for (size_t i = 0; i < 3; i++) {
        hn_model_config c;
        hn_error error = {0};
        hn_model *model = NULL;
        json_t *root = json_loads(cases[i].text, 0, NULL);
        json_object_set_new(root, "torch_dtype", json_string("float16"));
        CHECK_OK(tiny_config(&c, cases[i].text, &error));
        c.head = HN_HEAD_REGRESS;
        c.labels = 1;
        CHECK_OK(hn_model_open(&model, &c, HN_F32, NULL, NULL, &error));
        CHECK_OK(hn_model_export_config(model, root, &error));
        CHECK_TEXT(json_string_value(json_array_get(json_object_get(root, "architectures"), 0)),
                   cases[i].architecture);
        CHECK_TEXT(json_string_value(json_object_get(root, "problem_type")), "regression");
        CHECK(!json_object_get(root, "torch_dtype"));
        json_decref(root);
        hn_model_free(model);
    }
}

TEST_MAIN(hn_json_init(); RUN(llama_fields); RUN(defaults_of_decoders); RUN(decoders_refused_by_name); RUN(bert_fields); RUN(roberta_positions_start_behind_the_padding);
          RUN(distilbert_fields); RUN(refused_by_name); RUN(null_means_the_default);
          RUN(export_names_the_class))
