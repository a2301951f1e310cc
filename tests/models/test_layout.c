/* Where parameters and gradients stand is nobody's business: permuted and padded, a model gives the same losses, gradients, logits and
 * exported bytes as in the order of the list; and in that order its places and sizes are those that they have always been. */
#include "tests/models/rig.h"
#include "tests/test.h"

enum { PARAMS = 128, GROUPS = 4, TAGS = 3 };

typedef struct scenario {
    const char *name, *text;
    hn_head head;
    bool adapters, untied;
    const char *frozen; /* groups that never train: '1' at their place */
} scenario;

static const scenario scenarios[] = {
    {"BERT", TINY_BERT, HN_HEAD_CLASSIFY, false, false, "0000"},
    {"BERT, frozen groups", TINY_BERT, HN_HEAD_CLASSIFY, false, false, "1010"},
    {"BERT, adapters", TINY_BERT, HN_HEAD_CLASSIFY, true, false, "0000"},
    {"BERT, hidden tokens", TINY_BERT, HN_HEAD_MASKED, false, false, "0000"},
    {"DistilBERT, tags", TINY_DISTILBERT, HN_HEAD_TAGS, false, false, "0100"},
    {"GPT-2", TINY_GPT2, HN_HEAD_LM, false, false, "0000"},
    {"GPT-2, adapters", TINY_GPT2, HN_HEAD_LM, true, false, "0000"},
    {"Llama", TINY_LLAMA, HN_HEAD_LM, false, true, "0000"},
    {"Llama, frozen groups", TINY_LLAMA, HN_HEAD_LM, false, true, "1100"},
    {"Qwen3", TINY_QWEN3, HN_HEAD_LM, false, false, "0000"},
};
enum { SCENARIOS = sizeof scenarios / sizeof *scenarios };

static hn_status config_of(hn_model_config *c, const scenario *s, hn_error *error)
{
    static const char *const targets[] = {"all-linear"};
    hn_status status = tiny_config(c, s->text, error);
    if (s->head != HN_HEAD_LM) hn_model_config_head(c, s->head, TAGS);
    HN_ASSERT(s->head != HN_HEAD_LM || c->tied == !s->untied);
    if (s->adapters) c->lora = (hn_lora_config){.rank = 3, .alpha = 6, .dropout = 0.2f, .targets = targets, .target_count = 1};
    return status;
}

static int64_t room_of(const hn_param *param)
{
    return (param->rows * param->columns + 31) / 32 * 32;
}

/* From the last parameter to the first in one array, every second one first in the next, and back in the last; gaps everywhere. */
typedef struct layout {
    int64_t offset[PARAMS], copy_offset[PARAMS], gradient_offset[PARAMS];
    hn_model_places places;
} layout;

static void permute(layout *l, const hn_model *model)
{
    int count;
    const hn_param *params = hn_model_params(model, &count);
    int64_t used[3] = {64, 96, 32};
    HN_ASSERT(count <= PARAMS);
    for (int k = 0; k < count; k++) {
        int order[3] = {count - 1 - k, 2 * k < count ? 2 * k : 2 * (k - (count + 1) / 2) + 1, count - 1 - k};
        int64_t *at[3] = {&l->offset[order[0]], &l->copy_offset[order[1]], &l->gradient_offset[order[2]]};
        bool has[3] = {params[order[0]].offset >= 0, params[order[1]].copy_offset >= 0, !params[order[2]].frozen};
        for (int i = 0; i < 3; i++) {
            *at[i] = has[i] ? used[i] : -1;
            if (has[i]) used[i] += room_of(&params[order[i]]) + 32 * ((k + i) % 3);
        }
    }
    l->places = (hn_model_places){l->offset, l->copy_offset, l->gradient_offset, used[0] + 64, used[1] + 64, used[2] + 64};
}

/* Freezes, lays out as asked, and gives every parameter values that its name and number alone decide. */
static hn_status setup(rig *r, const scenario *s, hn_dtype precision, bool permuted)
{
    hn_model_config c;
    hn_error error = {0};
    if (config_of(&c, s, &error) != HN_OK) return error.status;
    hn_status status = rig_open(r, &c, precision, (hn_bounds){MAX_TOKENS, MAX_EXAMPLES, 24, 0});
    if (status != HN_OK) return status;
    for (int g = 0; g < GROUPS; g++) {
        r->trainable[g] = s->frozen[g] == '0';
        if (!r->trainable[g]) hn_model_freeze(r->model, g);
    }
    if (permuted) {
        layout l;
        permute(&l, r->model);
        hn_model_lay_out(r->model, &l.places);
        memset(&l, 0xff, sizeof l); /* nothing is borrowed */
    }
    hn_arena_close(&r->parameters);
    hn_arena_close(&r->gradients);
    if ((status = rig_place(&r->parameters, r, rig_place_parameters)) != HN_OK ||
        (status = rig_place(&r->gradients, r, rig_place_gradients)) != HN_OK || (status = rig_replace(r)) != HN_OK)
        return status;
    return rig_randomise(r, 21);
}

static void make_batch(rig_batch *b, const scenario *s)
{
    static const int lengths[] = {6, 1, 11, 4};
    int32_t target[MAX_TOKENS];
    rig_batch_make(b, lengths, 4, TAGS);
    for (int i = 0; i < b->batch.tokens; i++) target[i] = i % 5 == 1 ? HN_NO_TARGET : i * 7 % (s->head == HN_HEAD_TAGS ? TAGS : 50);
    if (s->head != HN_HEAD_CLASSIFY) rig_batch_targets(b, target);
}

/* What a file would get, tensor after tensor. */
static void same_export(const rig *a, const rig *b, hn_export_kind kind)
{
    hn_exported from[2];
    hn_error error = {0};
    static float value[2][1 << 14];
    CHECK_INT(hn_exported_init(&from[0], a->model, kind, NULL, 0, NULL, &error), HN_OK);
    CHECK_INT(hn_exported_init(&from[1], b->model, kind, NULL, 0, NULL, &error), HN_OK);
    CHECK(from[0].count == from[1].count && from[0].count > 0);
    for (size_t i = 0; i < from[0].count; i++) {
        int64_t count = hn_tensor_count(&from[0].tensors[i].tensor);
        CHECK_TEXT(from[0].tensors[i].name, from[1].tensors[i].name);
        CHECK(count <= 1 << 14 && count == hn_tensor_count(&from[1].tensors[i].tensor));
        for (int side = 0; side < 2; side++) CHECK_INT(hn_exported_fill(&from[side], value[side], i, 0, count, &error), HN_OK);
        CHECK(!memcmp(value[0], value[1], (size_t)count * sizeof(float)));
    }
    for (int side = 0; side < 2; side++) hn_exported_close(&from[side]);
}

/* Loss and gradients of both, parameter by parameter, and that what lies between them stays zero. */
static void same_step(rig *a, rig *b, const rig_batch *batch)
{
    int count;
    const hn_param *params = hn_model_params(a->model, &count);
    rig_run(a, &batch->batch);
    rig_run(b, &batch->batch);
    CHECK_TEXT(b->error.message, "");
    CHECK(isfinite(a->loss) && a->loss == b->loss && a->count == b->count && a->count > 0);
    double inside = 0, all = 0;
    for (int i = 0; i < count; i++) {
        const float *g = rig_gradient(a, i), *h = rig_gradient(b, i);
        CHECK(!g == !h && !g == params[i].frozen);
        if (!g) continue;
        CHECK_INT(h - rig_gradients(b), hn_model_params(b->model, &count)[i].gradient_offset);
        for (int64_t e = 0; e < params[i].rows * params[i].columns; e++) inside += fabs((double)h[e]);
        if (memcmp(g, h, (size_t)(params[i].rows * params[i].columns) * sizeof *g)) TEST_FAIL("other gradients of %s", params[i].name);
    }
    for (size_t e = 0; e < rig_gradient_bytes(b) / sizeof(float); e++) all += fabs((double)rig_gradients(b)[e]);
    CHECK(inside > 0 && fabs(all - inside) <= 1e-9 * inside);
}

static void check_scenario(const scenario *s, hn_dtype precision)
{
    rig a, b;
    rig_batch batch;
    make_batch(&batch, s);
    CHECK_INT(setup(&a, s, precision, false), HN_OK);
    CHECK_INT(setup(&b, s, precision, true), HN_OK);
    CHECK(hn_model_param_elements(a.model) < hn_model_param_elements(b.model));
    layout l;
    int count;
    const hn_param *params = hn_model_params(b.model, &count);
    permute(&l, b.model);
    for (int i = 0; i < count; i++) CHECK(params[i].offset == l.offset[i] && params[i].copy_offset == l.copy_offset[i]);
    same_step(&a, &b, &batch);
    same_export(&a, &b, s->adapters ? HN_EXPORT_ADAPTER : HN_EXPORT_WHOLE);
    if (s->adapters && precision == HN_F32) same_export(&a, &b, HN_EXPORT_MERGED);
    if (s->head != HN_HEAD_TAGS) { /* in evaluation too */
        a.forward.training = b.forward.training = false;
        rig_run(&a, &batch.batch), rig_run(&b, &batch.batch);
        CHECK(isfinite(a.loss) && a.loss == b.loss);
    }
    rig_close(&a), rig_close(&b);
}

TEST(same_bits_wherever_parameters_stand)
{
    for (int i = 0; i < SCENARIOS; i++) {
        int before = test_failures;
        check_scenario(&scenarios[i], HN_F32);
        check_scenario(&scenarios[i], HN_BF16);
        if (test_failures != before) fprintf(stderr, "%s\n", scenarios[i].name);
    }
}

/* The rule: one after the other, masters without frozen matrices of a bf16 model, copies of matrices, gradients of what trains. */
TEST(in_order_unless_asked)
{
    for (int i = 0; i < SCENARIOS; i++)
        for (int k = 0; k < 2; k++) {
            rig r;
            layout l;
            int count;
            int64_t at = 0, copy_at = 0, gradient_at = 0;
            CHECK_INT(setup(&r, &scenarios[i], k ? HN_BF16 : HN_F32, true), HN_OK);
            permute(&l, r.model);
            hn_model_lay_out(r.model, NULL);
            hn_arena_close(&r.gradients);
            CHECK_INT(rig_place(&r.gradients, &r, rig_place_gradients), HN_OK);
            const hn_param *params = hn_model_params(r.model, &count);
            for (int p = 0; p < count; p++) {
                bool narrow = k && params[p].rank == 2, master = !narrow || !params[p].frozen;
                CHECK_INT(params[p].offset, master ? at : -1);
                CHECK_INT(params[p].copy_offset, narrow ? copy_at : -1);
                CHECK_INT(params[p].gradient_offset, params[p].frozen ? -1 : gradient_at);
                if (master) at += room_of(&params[p]);
                if (narrow) copy_at += room_of(&params[p]);
                if (!params[p].frozen) gradient_at += room_of(&params[p]);
            }
            CHECK_INT(hn_model_param_elements(r.model), at);
            CHECK_INT(r.gradients.used, (size_t)gradient_at * sizeof(float));
            hn_model_lay_out(r.model, &l.places);
            hn_model_freeze(r.model, 3); /* and so is another set of frozen groups */
            CHECK_INT(params[0].offset, params[0].frozen && k ? -1 : 0);
            rig_close(&r);
        }
}

TEST_MAIN(RUN(same_bits_wherever_parameters_stand); RUN(in_order_unless_asked))
