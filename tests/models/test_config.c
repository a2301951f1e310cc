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
        {"{\"model_type\": \"llama\"}", "model_type", "llama", HN_ERR_UNSUPPORTED},
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

TEST_MAIN(hn_json_init(); RUN(bert_fields); RUN(roberta_positions_start_behind_the_padding);
          RUN(distilbert_fields); RUN(refused_by_name); RUN(null_means_the_default);
          RUN(export_names_the_class))
