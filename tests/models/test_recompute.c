/* What backward makes again has the bits that it had: loss and every gradient are those of a run that keeps everything, for every
 * family and head, with dropout, adapters, frozen groups, a trunk from a cache and shared rows, in both precisions. And what each
 * setting keeps of a layer is what model.h says, to the byte. */
#include "tests/models/alike.h"
#include "tests/test.h"

enum { LAYERS = 4, GROUPS = LAYERS + 2, EXAMPLES = 4, TAGS = 3, RANK = 3 };
static const int lengths[EXAMPLES] = {6, 1, 11, 4};
static const char *const names[] = {"none", "selective", "full"};

typedef struct scenario {
    const char *name, *text;
    hn_head head;
    float dropout;
    bool adapters, alike;
} scenario;

static const scenario scenarios[] = {
    {"BERT", TINY_BERT, HN_HEAD_CLASSIFY, 0, false, false},
    {"BERT, dropout", TINY_BERT, HN_HEAD_CLASSIFY, 0.2f, false, false},
    {"BERT, adapters", TINY_BERT, HN_HEAD_CLASSIFY, 0.2f, true, false},
    {"BERT, hidden tokens", TINY_BERT, HN_HEAD_MASKED, 0.2f, false, false},
    {"BERT, hidden tokens, adapters", TINY_BERT, HN_HEAD_MASKED, 0.2f, true, false},
    {"RoBERTa, regression", TINY_ROBERTA, HN_HEAD_REGRESS, 0.2f, false, false},
    {"RoBERTa, tags", TINY_ROBERTA, HN_HEAD_TAGS, 0.2f, false, false},
    {"DistilBERT", TINY_DISTILBERT, HN_HEAD_CLASSIFY, 0.2f, false, false},
    {"DistilBERT, tags, adapters", TINY_DISTILBERT, HN_HEAD_TAGS, 0.2f, true, false},
    {"GPT-2", TINY_GPT2, HN_HEAD_LM, 0, false, false},
    {"GPT-2, dropout", TINY_GPT2, HN_HEAD_LM, 0.2f, false, false},
    {"GPT-2, adapters", TINY_GPT2, HN_HEAD_LM, 0.2f, true, false},
    {"GPT-2, shared rows", TINY_GPT2, HN_HEAD_LM, 0, false, true},
    {"Llama", TINY_LLAMA, HN_HEAD_LM, 0, false, false},
    {"Llama, dropout", TINY_LLAMA, HN_HEAD_LM, 0.2f, false, false},
    {"Llama, adapters", TINY_LLAMA, HN_HEAD_LM, 0.2f, true, false},
    {"Llama, shared rows, adapters", TINY_LLAMA, HN_HEAD_LM, 0, true, true},
    {"Qwen2, dropout", TINY_QWEN2, HN_HEAD_LM, 0.2f, false, false},
    {"Qwen3, dropout", TINY_QWEN3, HN_HEAD_LM, 0.2f, false, false},
    {"Qwen3, adapters", TINY_QWEN3, HN_HEAD_LM, 0.2f, true, false},
    {"Qwen3, shared rows", TINY_QWEN3, HN_HEAD_LM, 0, false, true},
};
enum { SCENARIOS = sizeof scenarios / sizeof *scenarios };

/* Over embeddings, four layers, head. */
static const bool plans[][GROUPS] = {{true, true, true, true, true, true},     {false, true, true, true, true, true},
                                     {false, false, true, false, true, true},  {false, false, false, true, true, false},
                                     {false, false, false, false, true, true}, {false, false, false, false, false, true}};
enum { PLANS = sizeof plans / sizeof *plans };

static hn_status make_config(hn_model_config *c, const scenario *s, int layers, hn_error *error)
{
    static const char *const targets[] = {"all-linear"};
    hn_status status = tiny_config(c, s->text, error);
    c->layers = layers;
    if (s->head != HN_HEAD_LM) hn_model_config_head(c, s->head, s->head == HN_HEAD_REGRESS ? 1 : TAGS);
    c->attention_dropout = c->head_dropout = s->dropout;
    if (!c->gated) c->embedding_dropout = c->hidden_dropout = s->dropout;
    if (c->attention_out_dropout > 0) c->attention_out_dropout = s->dropout;
    if (c->head_input_dropout > 0) c->head_input_dropout = s->dropout;
    if (s->adapters)
        c->lora = (hn_lora_config){.rank = RANK, .alpha = 6, .dropout = s->dropout, .targets = targets, .target_count = 1};
    return status;
}

/* Wild weights, of adapters too. */
static hn_status randomise(rig *r)
{
    int count;
    const hn_param *params = hn_model_params(r->model, &count);
    hn_status status = hn_model_init(r->model, 21, &r->error);
    for (int i = 0; i < count; i++) {
        static float value[1 << 14];
        float *there = hnp_param_master(r->model, i), factor = params[i].rank == 2 && !params[i].adapter ? 10 : 1;
        int64_t elements = params[i].rows * params[i].columns;
        if (!there) continue;
        HN_ASSERT((size_t)elements <= sizeof value / sizeof *value);
        r->backend.copy_out(&r->backend, value, there, (size_t)elements * sizeof *value);
        r->backend.synchronize(&r->backend, &r->error);
        for (int64_t e = 0; e < elements; e++) value[e] = value[e] * factor + 0.1f * sinf((float)(e + i));
        r->backend.copy_in(&r->backend, there, value, (size_t)elements * sizeof *value);
        r->backend.synchronize(&r->backend, &r->error);
    }
    hn_model_refresh_copy(r->model, &r->ctx);
    return status;
}

static void make_batch(rig_batch *b, shared_rows *rows, const scenario *s)
{
    int32_t target[MAX_TOKENS];
    rig_batch whole;
    if (s->alike) {
        make_alike(&whole);
        share_rows(b, rows, &whole);
        return;
    }
    rig_batch_make(b, lengths, EXAMPLES, TAGS);
    for (int i = 0; i < b->batch.tokens; i++) target[i] = i % 5 == 1 ? HN_NO_TARGET : i * 7 % (s->head == HN_HEAD_TAGS ? TAGS : 50);
    if (s->head != HN_HEAD_CLASSIFY && s->head != HN_HEAD_REGRESS) rig_batch_targets(b, target);
}

static bool setup(rig *r, rig_batch *b, shared_rows *rows, const scenario *s, hn_dtype precision)
{
    hn_model_config c;
    hn_error error = {0};
    make_batch(b, rows, s);
    return make_config(&c, s, LAYERS, &error) == HN_OK &&
           rig_open(r, &c, precision, (hn_bounds){MAX_TOKENS, MAX_EXAMPLES, 24, s->alike ? MAX_TOKENS : 0}) == HN_OK &&
           randomise(r) == HN_OK;
}

static void fill_with_rubbish(rig *r, void *memory, size_t size)
{
    unsigned char *rubbish = malloc(size);
    memset(rubbish, 0xff, size);
    r->backend.copy_in(&r->backend, memory, rubbish, size);
    r->backend.synchronize(&r->backend, &r->error);
    free(rubbish);
}

/* Lays the activations out over rubbish. */
static void lay_out(rig *r, hn_recompute recompute)
{
    r->recompute = recompute;
    if (rig_replace(r) != HN_OK) return;
    fill_with_rubbish(r, r->activations.base, r->activations.size);
    hn_arena_rewind(&r->activations, 0);
    rig_place_activations(r);
}

/* Loss and gradients of two steps, one after the other. */
typedef struct outcome {
    double loss[2];
    float *gradients[2];
} outcome;

static outcome run_two(rig *r, const rig_batch *b)
{
    outcome out;
    for (int i = 0; i < 2; i++) {
        r->step = 3 + (uint32_t)i;
        rig_run(r, &b->batch);
        out.loss[i] = r->loss;
        out.gradients[i] = hn_memdup(rig_gradients(r), rig_gradient_bytes(r));
    }
    return out;
}

static void outcome_close(outcome *o)
{
    for (int i = 0; i < 2; i++) hn_free(o->gradients[i]);
}

static bool same(const rig *r, const outcome *a, const outcome *b)
{
    bool equal = r->error.status == HN_OK;
    for (int i = 0; i < 2; i++) {
        equal = equal && isfinite(a->loss[i]) && a->loss[i] == b->loss[i] &&
                !memcmp(a->gradients[i], b->gradients[i], rig_gradient_bytes(r));
        for (size_t e = 0; e < rig_gradient_bytes(r) / sizeof(float); e++) equal = equal && isfinite(a->gradients[i][e]);
    }
    return equal;
}

/* Whether a run with a setting gives `expected`. */
static bool gives(rig *r, const rig_batch *b, const outcome *expected)
{
    outcome got = run_two(r, b);
    bool equal = same(r, &got, expected);
    outcome_close(&got);
    return equal;
}

static void check_scenario(const scenario *s, hn_dtype precision)
{
    rig r;
    rig_batch b;
    shared_rows rows;
    if (!setup(&r, &b, &rows, s, precision)) TEST_FAIL("%s: %s", s->name, r.error.message);
    for (int p = 0; p < PLANS; p++) {
        memcpy(r.trainable, plans[p], sizeof plans[p]);
        if (hn_train_plan_first(r.model, &r.forward.plan) == GROUPS) continue; /* nothing to train: a decoder's head is held */
        if (!case_wanted()) continue;
        lay_out(&r, HN_RECOMPUTE_NONE);
        outcome expected = run_two(&r, &b);
        CHECK(s->dropout == 0 || p == PLANS - 1 || expected.loss[0] != expected.loss[1]);
        for (hn_recompute recompute = HN_RECOMPUTE_SELECTIVE; recompute <= HN_RECOMPUTE_FULL; recompute++) {
            lay_out(&r, recompute);
            if (!gives(&r, &b, &expected))
                TEST_FAIL("%s, precision %d, plan %d: %s gives other bits", s->name, precision, p, names[recompute]);
        }
        outcome_close(&expected);
    }
    rig_close(&r);
}

TEST(every_setting_gives_the_same_bits)
{
    for (int i = 0; i < SCENARIOS; i++) {
        check_scenario(&scenarios[i], HN_F32);
        check_scenario(&scenarios[i], HN_BF16);
    }
}

/* The trunk kept for a cache, and read back from it. */
TEST(a_trunk_from_a_cache_gives_the_same_bits)
{
    for (int i = 0; i < SCENARIOS; i++)
        for (int p = 1; p < 5; p++) {
            rig r;
            rig_batch b;
            shared_rows rows;
            if (scenarios[i].alike) continue; /* a cache is by examples */
            if (!case_wanted()) continue;
            CHECK(setup(&r, &b, &rows, &scenarios[i], HN_BF16));
            memcpy(r.trainable, plans[p], sizeof plans[p]);
            lay_out(&r, HN_RECOMPUTE_NONE);
            outcome expected = run_two(&r, &b);
            hn_tensor trunk = hn_tensor_2d(rig_put(&r, NULL, MAX_TOKENS * 32 * sizeof(uint16_t)), HN_BF16, b.batch.tokens, 32);
            for (hn_recompute recompute = HN_RECOMPUTE_SELECTIVE; recompute <= HN_RECOMPUTE_FULL; recompute++) {
                fill_with_rubbish(&r, trunk.data, hn_tensor_bytes(&trunk));
                lay_out(&r, recompute);
                r.forward.trunk_keep = &trunk;
                CHECK(gives(&r, &b, &expected));
                r.forward.trunk_keep = NULL;
                r.forward.trunk_output = &trunk;
                CHECK(gives(&r, &b, &expected));
                r.forward.trunk_output = NULL;
            }
            outcome_close(&expected);
            rig_close(&r);
        }
}

/* A layout for all groups serves plans that train fewer, and evaluation. */
TEST(a_layout_for_more_serves_less)
{
    for (int i = 0; i < SCENARIOS; i++)
        for (int p = 1; p < 5; p++) {
            rig r;
            rig_batch b;
            shared_rows rows;
            if (!case_wanted()) continue;
            CHECK(setup(&r, &b, &rows, &scenarios[i], HN_F32));
            memcpy(r.trainable, plans[p], sizeof plans[p]);
            outcome expected = run_two(&r, &b);
            bool evaluates = scenarios[i].head != HN_HEAD_TAGS; /* its logits have a place in evaluation's layout alone */
            r.forward.training = false;
            if (evaluates) rig_run(&r, &b.batch);
            double loss = r.loss;
            for (hn_recompute recompute = HN_RECOMPUTE_SELECTIVE; recompute <= HN_RECOMPUTE_FULL; recompute++) {
                memcpy(r.trainable, plans[0], sizeof plans[0]);
                r.forward.training = true;
                lay_out(&r, recompute);
                memcpy(r.trainable, plans[p], sizeof plans[p]);
                CHECK(gives(&r, &b, &expected));
                r.forward.training = false;
                if (evaluates) rig_run(&r, &b.batch);
                CHECK(isfinite(loss) && (!evaluates || r.loss == loss));
            }
            outcome_close(&expected);
            rig_close(&r);
        }
}

/* Bytes of the activations of a model of so many layers, where `first` is the lowest group that trains. */
static size_t bytes_of(const scenario *s, hn_dtype precision, int layers, int first, hn_recompute recompute)
{
    hn_backend backend;
    hn_arena arena;
    hn_model *model = NULL;
    hn_model_config c;
    hn_error error = {0};
    hn_backend_cpu_init(&backend);
    hn_arena_init(&arena, "activations", &backend);
    if (make_config(&c, s, layers, &error) != HN_OK || hn_model_open(&model, &c, precision, &backend, hn_ops_cpu(), &error) != HN_OK)
        return 0;
    hn_model_place_activations(model, &arena, (hn_bounds){MAX_TOKENS, MAX_EXAMPLES, 24, 0}, true, first, recompute);
    hn_model_free(model);
    return arena.used;
}

/* Bytes that a layer keeps a token: what model.h says, with the fp32 statistics that go with it. */
static size_t kept(const scenario *s, hn_dtype precision, hn_recompute recompute)
{
    hn_model_config c;
    hn_error error = {0};
    if (make_config(&c, s, LAYERS, &error) != HN_OK) return 0;
    bool encoder = s->head != HN_HEAD_LM;
    int width = c.hidden, queries = c.heads * c.head_size, keys = c.kv_heads * c.head_size, inner = c.intermediate;
    int values = width, floats = encoder ? 2 : 0;
    if (recompute != HN_RECOMPUTE_FULL) {
        values += queries + width;
        floats += c.heads + (encoder ? 2 : 0);
    }
    if (recompute == HN_RECOMPUTE_NONE) {
        values += queries + 2 * keys + 2 * inner + (encoder ? 2 * width : 0) + (c.qk_norm ? queries + keys : 0);
        floats += (encoder ? 0 : 4) + (c.qk_norm ? c.heads + c.kv_heads : 0);
        if (s->adapters) values += RANK * (encoder ? 6 : c.gated ? 7 : 4); /* a pair for each matrix of the checkpoint */
    }
    return (size_t)values * hn_dtype_size(precision) + (size_t)floats * 4;
}

/* One more layer costs what it keeps; whatever is shared is there once. */
TEST(a_layer_keeps_what_it_says)
{
    for (int i = 0; i < SCENARIOS; i++)
        for (int precision = 0; precision < 2; precision++)
            for (hn_recompute recompute = HN_RECOMPUTE_NONE; recompute <= HN_RECOMPUTE_FULL; recompute++)
                for (int first = 0; first < 4; first++) {
                    hn_dtype type = precision ? HN_BF16 : HN_F32;
                    const scenario *s = &scenarios[i];
                    size_t more = bytes_of(s, type, 7, first, recompute) - bytes_of(s, type, 6, first, recompute);
                    if (more != MAX_TOKENS * kept(s, type, recompute))
                        TEST_FAIL("%s, precision %d, first %d: %s keeps %zu bytes a layer, expected %zu", s->name, precision, first,
                                  names[recompute], more, MAX_TOKENS * kept(s, type, recompute));
                }
}

/* And no more than once: a decoder of one layer takes what it took, but for the place of what follows a plain activation, which
 * there is one of anyway. */
TEST(what_is_shared_is_there_once)
{
    for (int i = 0; i < SCENARIOS; i++) {
        const scenario *s = &scenarios[i];
        hn_model_config c;
        hn_error error = {0};
        CHECK_OK(make_config(&c, s, 1, &error));
        if (s->head != HN_HEAD_LM || s->adapters) continue;
        size_t none = bytes_of(s, HN_BF16, 1, 0, HN_RECOMPUTE_NONE), less = c.gated ? 0 : MAX_TOKENS * 2 * (size_t)c.intermediate;
        CHECK_INT(bytes_of(s, HN_BF16, 1, 0, HN_RECOMPUTE_SELECTIVE), none - less);
        CHECK_INT(bytes_of(s, HN_BF16, 1, 0, HN_RECOMPUTE_FULL), none - less);
    }
}

TEST(a_deep_model_needs_less)
{
    for (int i = 0; i < SCENARIOS; i++) {
        size_t sizes[3];
        for (int r = 0; r < 3; r++) sizes[r] = bytes_of(&scenarios[i], HN_BF16, 24, 0, (hn_recompute)r);
        CHECK(sizes[1] * 2 < sizes[0] && sizes[2] * 3 < sizes[1] * 2);
        for (int r = 1; r < 3; r++) /* nothing is kept, nothing is made again */
            CHECK_INT(bytes_of(&scenarios[i], HN_BF16, 24, 25, (hn_recompute)r),
                      bytes_of(&scenarios[i], HN_BF16, 24, 25, HN_RECOMPUTE_NONE));
    }
}

TEST_MAIN(hn_json_init(); RUN(every_setting_gives_the_same_bits); RUN(a_trunk_from_a_cache_gives_the_same_bits);
          RUN(a_layout_for_more_serves_less); RUN(a_layer_keeps_what_it_says); RUN(what_is_shared_is_there_once);
          RUN(a_deep_model_needs_less))
