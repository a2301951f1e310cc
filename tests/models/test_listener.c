/* Who listens to a pass is told of every group once and in order; what forward reads is there by then (it is spoiled until it is told),
 * and what backward has told of never changes afterwards. */
#include "tests/models/rig.h"
#include "tests/test.h"

enum { LAYERS = 3, GROUPS = LAYERS + 2, TAGS = 3 };

typedef struct scenario {
    const char *name, *text;
    hn_head head;
    bool adapters, reads_table; /* of tokens, in the head */
} scenario;

static const scenario scenarios[] = {
    {"BERT", TINY_BERT, HN_HEAD_CLASSIFY, false, false},   {"BERT, adapters", TINY_BERT, HN_HEAD_CLASSIFY, true, false},
    {"BERT, hidden tokens", TINY_BERT, HN_HEAD_MASKED, false, true}, {"DistilBERT, tags", TINY_DISTILBERT, HN_HEAD_TAGS, false, false},
    {"GPT-2", TINY_GPT2, HN_HEAD_LM, false, true},         {"GPT-2, adapters", TINY_GPT2, HN_HEAD_LM, true, true},
    {"Llama", TINY_LLAMA, HN_HEAD_LM, false, false},       {"Qwen2", TINY_QWEN2, HN_HEAD_LM, false, true},
};
enum { SCENARIOS = sizeof scenarios / sizeof *scenarios };

static const bool plans[][GROUPS] = {{true, true, true, true, true},     {false, true, true, true, true}, {false, false, true, false, true},
                                     {false, false, false, true, false}, {false, false, false, false, true}};
enum { PLANS = sizeof plans / sizeof *plans };

static hn_status setup(rig *r, rig_batch *b, const scenario *s, hn_recompute recompute, hn_dtype precision)
{
    static const char *const targets[] = {"all-linear"};
    static const int lengths[] = {6, 1, 11, 4};
    int32_t target[MAX_TOKENS];
    hn_model_config c;
    hn_error error = {0};
    rig_batch_make(b, lengths, 4, TAGS);
    for (int i = 0; i < b->batch.tokens; i++) target[i] = i % 5 == 1 ? HN_NO_TARGET : i * 7 % (s->head == HN_HEAD_TAGS ? TAGS : 50);
    if (s->head != HN_HEAD_CLASSIFY) rig_batch_targets(b, target);
    if (tiny_config(&c, s->text, &error) != HN_OK) return error.status;
    c.layers = LAYERS;
    if (s->head != HN_HEAD_LM) hn_model_config_head(&c, s->head, TAGS);
    if (s->adapters) c.lora = (hn_lora_config){.rank = 3, .alpha = 6, .dropout = 0.2f, .targets = targets, .target_count = 1};
    hn_status status = rig_open(r, &c, precision, (hn_bounds){MAX_TOKENS, MAX_EXAMPLES, 24, 0});
    r->recompute = recompute;
    if (status == HN_OK) status = rig_replace(r);
    return status == HN_OK ? rig_randomise(r, 21) : status;
}

/* What is told, and what stands there then. */
typedef struct ear {
    rig *r;
    float *master, *gradients; /* whole; gradients of groups that were told of */
    uint16_t *copy;
    int told[32], count, backward_from; /* forward's, then backward's */
} ear;

static void note(ear *e, int group)
{
    if (e->count < 32) e->told[e->count] = group;
    e->count++;
}

/* Gives a group its values, or takes them. */
static void give(ear *e, int group, bool there)
{
    int count;
    const hn_param *params = hn_model_params(e->r->model, &count);
    for (int i = 0; i < count; i++) {
        size_t n = (size_t)(params[i].rows * params[i].columns);
        float *master = hnp_param_master(e->r->model, i);
        uint16_t *copy = hnp_param_copy(e->r->model, i);
        if (params[i].group != group) continue;
        if (master && there) memcpy(master, e->master + params[i].offset, n * sizeof *master);
        else if (master) memset(master, 0xff, n * sizeof *master);
        if (copy && there) memcpy(copy, e->copy + params[i].copy_offset, n * sizeof *copy);
        else if (copy) memset(copy, 0xff, n * sizeof *copy);
    }
}

static void hear_before(void *context, int group)
{
    ear *e = context;
    note(e, group);
    give(e, group, true);
    e->backward_from = e->count;
}

static void hear_after(void *context, int group)
{
    ear *e = context;
    int count;
    const hn_param *params = hn_model_params(e->r->model, &count);
    note(e, group);
    for (int i = 0; i < count; i++) {
        const float *g = hn_model_gradient(e->r->model, i);
        if (params[i].group == group && g)
            memcpy(e->gradients + params[i].gradient_offset, g, (size_t)(params[i].rows * params[i].columns) * sizeof *g);
    }
}

/* As rig_run, with what is to be told of (groups from `from` up, and the table) spoiled until then. */
static void listen(ear *e, const rig_batch *b, int from)
{
    rig *r = e->r;
    for (int g = 0; g < GROUPS; g++)
        if (g >= from || g == 0) give(e, g, false);
    r->forward.listener = &(hn_pass_listener){hear_before, hear_after, e};
    memset(e->gradients, 0, rig_gradient_bytes(r));
    rig_run(r, &b->batch);
    r->forward.listener = NULL;
    for (int g = 0; g < GROUPS; g++) give(e, g, true);
}

static void check_plan(rig *r, const rig_batch *b, const scenario *s, const bool *plan, hn_tensor *trunk)
{
    memcpy(r->trainable, plan, GROUPS);
    int first = hn_train_plan_first(r->model, &r->forward.plan), from = trunk ? first : 0, at = 0;
    if (first == GROUPS || (trunk && first == 0)) return; /* a decoder's head is held by adapters; no trunk */
    CHECK_INT(rig_replace(r), HN_OK);
    if (trunk) {
        *trunk = hn_tensor_rows(trunk, 0, hn_model_trunk_pooled(r->model, first) ? b->batch.n : b->batch.tokens);
        r->forward.trunk_keep = trunk;
    }
    rig_run(r, &b->batch);
    double loss = r->loss;
    float *gradients = hn_memdup(rig_gradients(r), rig_gradient_bytes(r));
    r->forward.trunk_keep = NULL, r->forward.trunk_output = trunk;
    size_t masters = (size_t)hn_model_param_elements(r->model) * sizeof(float);
    ear e = {.r = r, .master = hn_memdup(hn_model_master(r->model), masters), .gradients = malloc(rig_gradient_bytes(r)),
             .copy = hn_model_copy(r->model) ? hn_memdup(hn_model_copy(r->model), (size_t)r->model->copy_elements * 2) : NULL};
    listen(&e, b, from);
    r->forward.trunk_output = NULL;
    bool table = trunk && s->reads_table;
    int told = (table ? 1 : 0) + GROUPS - from;
    CHECK_INT(e.backward_from, told);
    CHECK_INT(e.count, told + GROUPS - first);
    for (int g = from; g <= LAYERS; g++) CHECK_INT(e.told[at++], g);
    if (table) CHECK_INT(e.told[at++], 0);
    CHECK_INT(e.told[at++], LAYERS + 1);
    for (int g = LAYERS + 1; g >= first; g--) CHECK_INT(e.told[at++], g);
    CHECK(isfinite(loss) && r->loss == loss);
    CHECK(!memcmp(gradients, rig_gradients(r), rig_gradient_bytes(r))); /* as without a listener */
    CHECK(!memcmp(gradients, e.gradients, rig_gradient_bytes(r)));      /* as when they were told of */
    hn_free(e.master), hn_free(e.copy), hn_free(gradients), free(e.gradients);
}

static void check_scenario(const scenario *s, hn_recompute recompute, hn_dtype precision)
{
    rig r;
    rig_batch b;
    CHECK_INT(setup(&r, &b, s, recompute, precision), HN_OK);
    for (int p = 0; p < PLANS; p++) {
        hn_tensor trunk = hn_tensor_2d(rig_put(&r, NULL, MAX_TOKENS * 32 * sizeof(float)), precision, b.batch.tokens, 32);
        check_plan(&r, &b, s, plans[p], NULL);
        if (p) check_plan(&r, &b, s, plans[p], &trunk);
    }
    rig_close(&r);
}

TEST(every_group_once_and_in_order)
{
    for (int i = 0; i < SCENARIOS; i++) {
        int before = test_failures;
        check_scenario(&scenarios[i], HN_RECOMPUTE_NONE, HN_F32);
        check_scenario(&scenarios[i], i % 2 ? HN_RECOMPUTE_FULL : HN_RECOMPUTE_SELECTIVE, HN_BF16);
        if (test_failures != before) fprintf(stderr, "%s\n", scenarios[i].name);
    }
}

/* Either may be left out, and evaluation tells too. */
TEST(half_an_ear)
{
    rig r;
    rig_batch b;
    CHECK_INT(setup(&r, &b, &scenarios[4], HN_RECOMPUTE_NONE, HN_F32), HN_OK);
    ear e = {.r = &r, .master = hn_memdup(hn_model_master(r.model), (size_t)hn_model_param_elements(r.model) * sizeof(float)),
             .gradients = calloc(1, rig_gradient_bytes(&r))};
    r.forward.listener = &(hn_pass_listener){.after = hear_after, .context = &e};
    rig_run(&r, &b.batch);
    CHECK_INT(e.count, GROUPS);
    r.forward.listener = &(hn_pass_listener){.before = hear_before, .context = &e};
    rig_run(&r, &b.batch);
    CHECK_INT(e.count, 2 * GROUPS);
    r.forward.training = false;
    rig_run(&r, &b.batch);
    CHECK_INT(e.count, 3 * GROUPS);
    for (int g = 0; g < GROUPS; g++) CHECK(e.told[g] == GROUPS - 1 - g && e.told[GROUPS + g] == g && e.told[2 * GROUPS + g] == g);
    hn_free(e.master), free(e.gradients);
    rig_close(&r);
}

TEST_MAIN(RUN(every_group_once_and_in_order); RUN(half_an_ear))
