/* Which linear layers get adapters and what trains beside them, by the words of a config; that every pair has its own dropout and,
 * where it trains, its own activations; the share of the branch that a part of a layer's outputs has. */
#include "tests/models/rig.h"
#include "tests/test.h"

enum { NAMES = 3, RANK = 2 };

typedef struct words {
    const char *model;
    hn_head head;
    const char *targets[NAMES], *saved[NAMES];
} words;

static hn_model_config config_of(const words *w)
{
    hn_model_config c = {0};
    hn_error error = {0};
    if (tiny_config(&c, w->model, &error) != HN_OK) abort();
    if (c.head != HN_HEAD_LM) hn_model_config_head(&c, w->head, 3);
    c.lora = (hn_lora_config){.rank = RANK, .alpha = 6, .dropout = 0.25f, .targets = w->targets, .saved = w->saved};
    while (c.lora.target_count < NAMES && w->targets[c.lora.target_count]) c.lora.target_count++;
    while (c.lora.saved_count < NAMES && w->saved[c.lora.saved_count]) c.lora.saved_count++;
    return c;
}

/* "q v | o | ..." : the last words of the modules with adapters, a bar behind each pair, and what trains whole behind a slash. */
static void describe(const hn_model *model, hn_strbuf *out)
{
    int count;
    const hn_param *params = hn_model_params(model, &count);
    for (int p = 0; p < count; p++) {
        size_t length = strlen(params[p].name);
        if (!params[p].adapter || params[p].name[length - 1] != 'a') continue;
        for (int s = 0; s < params[p].source_count; s++) {
            const char *end = strstr(params[p].sources[s].name, ".lora_A.weight"), *start = end;
            while (start[-1] != '.') start--;
            hn_strbuf_printf(out, "%.*s ", (int)(end - start), start);
        }
        hn_strbuf_puts(out, "| ");
    }
    hn_strbuf_puts(out, "/");
    for (int p = 0; p < count; p++)
        if (!params[p].adapter && !params[p].held) hn_strbuf_printf(out, " %s", params[p].name);
}

TEST(modules)
{
    static const struct {
        words words;
        const char *expected; /* of both layers, or a part of the error */
    } cases[] = {
        {{TINY_LLAMA, 0, {"q_proj"}, {0}}, "q_proj | q_proj | /"},
        {{TINY_LLAMA, 0, {"v_proj", "q_proj", "q_proj"}, {0}}, "q_proj v_proj | q_proj v_proj | /"},
        {{TINY_LLAMA, 0, {"self_attn.k_proj", "layers.1.mlp.up_proj"}, {0}}, "k_proj | k_proj | up_proj | /"},
        {{TINY_LLAMA, 0, {"proj"}, {0}}, "\"proj\" names no linear layer that is free for an adapter"},
        {{TINY_LLAMA, 0, {"lm_head"}, {0}}, "\"lm_head\" names no linear layer"},
        {{TINY_LLAMA, 0, {"all-linear"}, {0}},
         "q_proj k_proj v_proj | o_proj | gate_proj up_proj | down_proj | q_proj k_proj v_proj | o_proj | gate_proj up_proj | "
         "down_proj | /"},
        {{TINY_LLAMA, 0, {"all-linear"}, {"mlp", "lm_head", "model.norm"}},
         "q_proj k_proj v_proj | o_proj | q_proj k_proj v_proj | o_proj | / layer.0.mlp.up.weight layer.0.mlp.down.weight "
         "layer.1.mlp.up.weight layer.1.mlp.down.weight head.norm.weight head.out.weight"},
        {{TINY_LLAMA, 0, {"q_proj"}, {"norm"}}, "q_proj | q_proj | / head.norm.weight"},
        {{TINY_LLAMA, 0, {"q_proj"}, {"layernorm"}}, "\"layernorm\", which is to train whole, names no module"},
        {{TINY_LLAMA, 0, {"q_proj"}, {"self_att"}}, "\"self_att\", which is to train whole, names no module"},
        {{TINY_LLAMA, 0, {"q_proj"}, {"v_proj"}}, "layer.0.attention.qkv.weight holds as one"},
        {{TINY_LLAMA, 0, {"q_proj"}, {"q_proj"}}, "\"q_proj\" names no linear layer that is free for an adapter"},
        {{TINY_LLAMA, 0, {"q_proj"}, {"classifier", "score"}}, "q_proj | q_proj | /"},
        {{TINY_LLAMA, 0, {0}, {0}}, "no targets; expected all-linear, or some of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, "
                                    "down_proj"},
        {{TINY_GPT2, 0, {"c_proj"}, {0}}, "c_proj | c_proj | c_proj | c_proj | /"},
        {{TINY_GPT2, 0, {"attn.c_proj"}, {"wpe"}}, "c_proj | c_proj | / embeddings.position.weight"},
        {{TINY_BERT, HN_HEAD_CLASSIFY, {"query", "dense"}, {0}},
         "query | dense | dense | dense | query | dense | dense | dense | / head.dense.weight head.dense.bias head.out.weight "
         "head.out.bias"},
        {{TINY_BERT, HN_HEAD_CLASSIFY, {"pooler.dense", "value"}, {"classifier"}},
         "value | value | dense | / head.out.weight head.out.bias"},
        {{TINY_BERT, HN_HEAD_CLASSIFY, {"pooler.dense"}, {0}}, "\"pooler.dense\" names no linear layer"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hn_model *model = NULL;
        hn_error error = {0};
        hn_backend backend;
        hn_strbuf text;
        hn_model_config config = config_of(&cases[i].words);
        hn_backend_cpu_init(&backend);
        hn_strbuf_init(&text);
        if (hn_model_open(&model, &config, HN_F32, &backend, hn_ops_cpu(), &error) == HN_OK) {
            describe(model, &text);
            CHECK_TEXT(text.text, cases[i].expected);
        } else {
            CHECK_CONTAINS(error.message, cases[i].expected);
        }
        hn_strbuf_close(&text);
        hn_model_free(model);
    }
}

/* What an adapter's file asks for is refused by its name. */
TEST(refused_by_the_name_of_its_file)
{
    static const words wrong = {TINY_BERT, HN_HEAD_CLASSIFY, {"query"}, {"classifi~er"}};
    hn_model *model = NULL;
    hn_error error = {0};
    hn_backend backend;
    hn_model_config config = config_of(&wrong);
    config.lora.where = "runs/adapter";
    hn_backend_cpu_init(&backend);
    CHECK_INT(hn_model_open(&model, &config, HN_F32, &backend, hn_ops_cpu(), &error), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "runs/adapter: \"classifi~er\", which is to train whole, names no module of this model");
}

static hn_status open_adapters(rig *r, const words *w)
{
    hn_model_config config = config_of(w);
    return rig_open(r, &config, HN_F32, (hn_bounds){MAX_TOKENS, MAX_EXAMPLES, 24, 0});
}

/* What config and table say of a pair stands in its layer; no two have the same dropout mask. */
TEST(every_pair)
{
    static const words all = {TINY_LLAMA, 0, {"all-linear"}, {0}};
    rig r;
    CHECK_INT(open_adapters(&r, &all), HN_OK);
    CHECK_INT(r.model->pair_count, 8);
    for (int i = 0; i < 8; i++) {
        const hn_lora *one = &r.model->pairs[i].linear->lora;
        CHECK(one->dropout == 0.25f && one->scale == 3);
        for (int k = 0; k < i; k++) CHECK(one->site != r.model->pairs[k].linear->lora.site);
        const hn_param *a = &r.model->params[r.model->pairs[i].param], *b = a + 1;
        CHECK_INT(a->init, HN_INIT_UNIFORM);
        CHECK_INT(b->init, HN_INIT_ZERO);
        CHECK(a->decays && b->decays);
    }
    CHECK_INT(hnp_adapters_widest(r.model), 3 * RANK);
    rig_close(&r);
    static const words few = {TINY_LLAMA, 0, {"o_proj", "gate_proj", "up_proj"}, {0}}; /* the widest is not the first */
    CHECK_INT(open_adapters(&r, &few), HN_OK);
    CHECK_INT(hnp_adapters_widest(r.model), 2 * RANK);
    rig_close(&r);
}

/* Pairs of the groups that train, from the lowest on, keep what dB is made of; those below share one place. */
TEST(what_is_kept)
{
    static const words targets = {TINY_LLAMA, 0, {"o_proj", "down_proj"}, {0}};
    rig r;
    CHECK_INT(open_adapters(&r, &targets), HN_OK);
    for (int first = 0; first < 4; first++) { /* embeddings, layer.0, layer.1, head */
        for (int g = 0; g < 4; g++) r.trainable[g] = g >= first;
        CHECK_INT(rig_replace(&r), HN_OK);
        for (int i = 0; i < 4; i++)
            for (int k = 0; k < i; k++) {
                const hnp_pair *one = &r.model->pairs[i], *two = &r.model->pairs[k];
                bool apart = one->group >= first || two->group >= first;
                CHECK_INT(one->linear->lora.low.data != two->linear->lora.low.data, apart);
                CHECK(one->linear->lora.d_low.data == two->linear->lora.d_low.data);
            }
    }
    rig_close(&r);
}

/* Evaluation drops nothing, whatever the adapters' dropout. */
TEST(evaluation_drops_nothing)
{
    static const int lengths[] = {5, 9};
    static const words targets = {TINY_BERT, HN_HEAD_CLASSIFY, {"all-linear"}, {0}};
    rig r;
    rig_batch b;
    float first[6];
    CHECK_INT(open_adapters(&r, &targets), HN_OK);
    CHECK_INT(rig_randomise(&r, 4), HN_OK);
    for (int i = 0; i < r.model->pair_count; i++) {
        const hn_tensor *weight = &r.model->pairs[i].linear->lora.b.value;
        for (int64_t k = 0; k < hn_tensor_count(weight); k++) ((float *)weight->data)[k] = 0.1f * (float)(k % 7 - 3);
    }
    rig_batch_make(&b, lengths, 2, 3);
    r.forward.training = false;
    CHECK_INT(rig_replace(&r), HN_OK);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < r.model->pair_count; i++) r.model->pairs[i].linear->lora.dropout = round ? 0.4f : 0;
        r.step = (uint32_t)round;
        r.forward.training = round == 2;
        if (r.forward.training) CHECK_INT(rig_replace(&r), HN_OK);
        hn_tensor logits = rig_forward(&r, &b.batch);
        if (!round) memcpy(first, logits.data, sizeof first);
        CHECK_INT(!memcmp(first, logits.data, sizeof first), round < 2);
    }
    rig_close(&r);
}

/* Outputs [first, first + count) of a layer [40, 5] with pairs on outputs 0 to 7, 10 to 19 and 30 to 39. */
TEST(rows_of_a_layer)
{
    static float memory[2048];
    static const struct {
        int64_t first, count;
        int begin, parts;
        int64_t b_row, row[3], rows[3];
    } cases[] = {
        {0, 40, 0, 3, 0, {0, 10, 30}, {8, 10, 10}}, {0, 10, 0, 1, 0, {0}, {8}},           {10, 20, 1, 1, 8, {0}, {10}},
        {8, 32, 1, 2, 8, {2, 22}, {10, 10}},        {20, 20, 2, 1, 18, {10}, {10}},       {20, 10, 2, 0, 18, {0}, {0}},
    };
    hn_linear whole = {.weight = {.value = hn_tensor_2d(memory, HN_F32, 40, 5), .gradient = hn_tensor_2d(NULL, HN_F32, 40, 5)}};
    whole.lora = (hn_lora){.parts = 3, .part = {{0, 8}, {10, 10}, {30, 10}}};
    whole.lora.a.value = hn_tensor_2d(memory + 256, HN_F32, 3 * RANK, 5);
    whole.lora.b.value = hn_tensor_2d(memory + 512, HN_F32, 28, RANK);
    whole.lora.a.gradient = hn_tensor_2d(memory + 768, HN_F32, 3 * RANK, 5);
    whole.lora.b.gradient = hn_tensor_2d(memory + 1024, HN_F32, 28, RANK);
    whole.lora.low = hn_tensor_2d(memory + 1280, HN_F32, 4, 3 * RANK);
    whole.lora.d_low = hn_tensor_2d(memory + 1536, HN_F32, 4, 3 * RANK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hn_linear part = hn_linear_rows(&whole, cases[i].first, cases[i].count);
        const hn_lora *got = &part.lora;
        int begin = cases[i].begin * RANK, parts = cases[i].parts;
        CHECK_INT(part.weight.value.shape[0], cases[i].count);
        CHECK_INT(got->parts, parts);
        if (!parts) continue;
        int64_t rows = 0;
        for (int p = 0; p < parts; p++) {
            CHECK_INT(got->part[p].row, cases[i].row[p]);
            CHECK_INT(got->part[p].rows, cases[i].rows[p]);
            rows += got->part[p].rows;
        }
        const hn_tensor *of_a[] = {&got->a.value, &got->a.gradient}, *of_b[] = {&got->b.value, &got->b.gradient};
        for (int k = 0; k < 2; k++) {
            CHECK_INT((float *)of_a[k]->data - memory, 256 + 512 * k + begin * 5);
            CHECK_INT(of_a[k]->shape[0], parts * RANK);
            CHECK_INT((float *)of_b[k]->data - memory, 512 + 512 * k + cases[i].b_row * RANK);
            CHECK_INT(of_b[k]->shape[0], rows);
        }
        CHECK_INT((float *)got->low.data - memory, 1280 + begin);
        CHECK_INT((float *)got->d_low.data - memory, 1536 + begin);
        CHECK_INT(got->d_low.shape[1], parts * RANK);
    }
}

TEST_MAIN(hn_json_init(); RUN(refused_by_the_name_of_its_file); RUN(modules); RUN(every_pair); RUN(what_is_kept); RUN(evaluation_drops_nothing); RUN(rows_of_a_layer))
