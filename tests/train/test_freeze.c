/* The freezing plan: what trains when, by hand, on a model of three layers. */
#include "train/freeze.h"

#include "core/mem.h"
#include "tests/test.h"

enum { GROUPS = 5 }; /* embeddings, layer.0, layer.1, layer.2, head */

static hn_backend backend;
static hn_error error;

static hn_model *make_model(void)
{
    hn_model_config config = {.family = HN_FAMILY_BERT, .layers = 3, .hidden = 16, .heads = 2, .kv_heads = 2, .head_size = 8, .intermediate = 32,
                              .vocabulary = 20, .positions = 16, .types = 2, .activation = HN_ACT_GELU,
                              .norm_epsilon = 1e-12f, .init_range = 0.02f, .labels = 3};
    hn_model *model = NULL;
    hn_backend_cpu_init(&backend);
    if (hn_model_open(&model, &config, HN_F32, &backend, hn_ops_cpu(), &error)) abort();
    return model;
}

static hn_status make_plan(hn_freeze_plan *plan, const hn_train_config *config, int64_t total)
{
    hn_model *model = make_model();
    hn_error_reset(&error);
    hn_status status = hn_freeze_plan_init(plan, config, model, 100, total, &error);
    hn_model_free(model);
    return status;
}

/* What people read of a plan. */
static bool describes(const hn_train_config *config, const char *expected)
{
    hn_freeze_plan plan;
    hn_strbuf text;
    hn_strbuf_init(&text);
    hn_model *model = make_model();
    hn_error_reset(&error);
    if (hn_freeze_plan_init(&plan, config, model, 100, 170, &error)) abort();
    hn_freeze_plan_describe(&plan, model, &text);
    bool same = !strcmp(text.text, expected);
    if (!same) printf("expected \"%s\", got \"%s\"\n", expected, text.text);
    hn_freeze_plan_close(&plan);
    hn_model_free(model);
    hn_strbuf_close(&text);
    return same;
}

TEST(described_for_people)
{
    CHECK(describes(&(hn_train_config){.freeze = {.lr_decay = 1}}, "every group trains"));
    CHECK(describes(&(hn_train_config){.freeze = {.below = "layer.1", .lr_decay = 1}},
                    "trained from the start: head to layer.1; frozen: layer.0 embeddings"));
    CHECK(describes(&(hn_train_config){.freeze = {.below = "layer.0", .lr_decay = 1}},
                    "trained from the start: head to layer.0; frozen: embeddings"));
    CHECK(describes(&(hn_train_config){.freeze = {.unfreeze = {.value = 0.5, .unit = HN_INTERVAL_EPOCHS}, .lr_decay = 1}},
                    "trained from the start: head; layer.2 from step 50; layer.1 from step 100; layer.0 from step 150; "
                    "frozen: embeddings"));
}

TEST(nothing_frozen)
{
    hn_freeze_plan plan;
    hn_train_config config = {.freeze = {.lr_decay = 0.5}};
    CHECK_OK(make_plan(&plan, &config, 1000));
    CHECK_INT(plan.groups, GROUPS);
    for (int g = 0; g < GROUPS; g++) {
        CHECK_INT(plan.thaw[g], 0);
        CHECK(plan.ever[g]);
        CHECK_NEAR(plan.lr_scale[g], pow(0.5, GROUPS - 1 - g), 1e-7);
    }
    CHECK_INT(hn_freeze_plan_thaws(&plan, 0), -1);
    hn_freeze_plan_close(&plan);
}

TEST(frozen_below_a_group)
{
    hn_freeze_plan plan;
    hn_train_config config = {.freeze = {.below = "layer.1", .lr_decay = 1}};
    CHECK_OK(make_plan(&plan, &config, 1000));
    bool trainable[GROUPS];
    hn_freeze_plan_at(&plan, 999, trainable);
    CHECK(!trainable[0] && !trainable[1] && trainable[2] && trainable[3] && trainable[4]);
    CHECK(!plan.ever[0] && !plan.ever[1] && plan.ever[2]);
    hn_freeze_plan_close(&plan);
}

TEST(thaws_from_the_top)
{
    hn_freeze_plan plan;
    hn_train_config config = {
        .freeze = {.unfreeze = {.value = 0.5, .unit = HN_INTERVAL_EPOCHS}, .unfreeze_warmup = 4, .lr_decay = 1}};
    CHECK_OK(make_plan(&plan, &config, 170));
    CHECK_INT(plan.thaw[4], 0);
    CHECK_INT(plan.thaw[3], 50);
    CHECK_INT(plan.thaw[2], 100);
    CHECK_INT(plan.thaw[0], 200);
    bool trainable[GROUPS];
    hn_freeze_plan_at(&plan, 200, trainable);
    CHECK(trainable[1] && !trainable[0]);
    CHECK_INT(hn_freeze_plan_thaws(&plan, 200), -1);
    CHECK(plan.ever[1] && !plan.ever[0]); /* 150 comes, 200 does not */
    CHECK_INT(hn_freeze_plan_thaws(&plan, 50), 3);
    CHECK_INT(hn_freeze_plan_thaws(&plan, 51), -1);
    CHECK_NEAR(hn_freeze_plan_warmup(&plan, 3, 50), 0.25, 1e-7);
    CHECK_NEAR(hn_freeze_plan_warmup(&plan, 3, 53), 1, 1e-7);
    CHECK_NEAR(hn_freeze_plan_warmup(&plan, 4, 0), 1, 1e-7);
    hn_freeze_plan_close(&plan);
}

TEST(what_cannot_be_is_refused)
{
    hn_freeze_plan plan;
    const char *all[] = {"embeddings", "layer.0", "layer.1", "layer.2", "head"}, *wrong[] = {"layer.7"};
    hn_train_config config = {.freeze = {.groups = {all, 5}, .lr_decay = 1}};
    CHECK_INT(make_plan(&plan, &config, 100), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "every group is frozen");
    config.freeze.groups = (hn_list){wrong, 1};
    CHECK_INT(make_plan(&plan, &config, 100), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "layer.7");
    CHECK_CONTAINS(error.message, "layer.2");
    config = (hn_train_config){.freeze = {.cache = true, .lr_decay = 1}};
    CHECK_INT(make_plan(&plan, &config, 1000), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "the embeddings train");
    config = (hn_train_config){.freeze = {.unfreeze = {.value = 1, .unit = HN_INTERVAL_EPOCHS}, .cache = true, .lr_decay = 1}};
    CHECK_INT(make_plan(&plan, &config, 1000), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "freeze.cache");
}

TEST(out_of_memory)
{
    hn_freeze_plan plan;
    hn_train_config config = {.freeze = {.lr_decay = 1}};
    hn_model *model = make_model();
    hn_status status = HN_ERR_MEMORY;
    for (size_t n = 1; status != HN_OK; n++) {
        hn_error_reset(&error);
        hn_mem_fail_at(n);
        status = hn_freeze_plan_init(&plan, &config, model, 100, 1000, &error);
        hn_mem_fail_at(0);
        CHECK(status == HN_OK || status == HN_ERR_MEMORY);
    }
    hn_freeze_plan_close(&plan);
    hn_model_free(model);
}

TEST_MAIN(RUN(described_for_people); RUN(nothing_frozen); RUN(frozen_below_a_group); RUN(thaws_from_the_top); RUN(what_cannot_be_is_refused);
          RUN(out_of_memory))
