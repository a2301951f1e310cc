/* What must hold of any model: slopes by finite differences with dropout on, packing, freezing, the trunk's
 * cache, the last layer's shortcut, evaluation in less memory. */
#include "tests/models/rig.h"
#include "tests/test.h"

static const char *const texts[] = {TINY_BERT, TINY_ROBERTA, TINY_DISTILBERT};
#define THREE_LAYERS                                                                                         \
    "{\"model_type\": \"bert\", \"hidden_size\": 32, \"num_hidden_layers\": 3, \"num_attention_heads\": 4, " \
    "\"intermediate_size\": 48, \"vocab_size\": 60, \"max_position_embeddings\": 40, \"type_vocab_size\": "  \
    "2}"
static const int lengths[] = {6, 1, 11, 4};
#define EXAMPLES 4
#define LOGITS 3

/* A model with wild weights and a batch. `dropout` scales every dropout to this. */
static bool setup(rig *r, rig_batch *b, const char *text, hn_dtype precision, float dropout, hn_head head)
{
    hn_model_config c;
    hn_error error = {0};
    if (tiny_config(&c, text, &error) != HN_OK) return false;
    c.labels = head == HN_HEAD_REGRESS ? 1 : LOGITS;
    c.head = head;
    c.embedding_dropout = c.hidden_dropout = c.attention_dropout = dropout;
    c.head_dropout = dropout;
    if (c.attention_out_dropout > 0) c.attention_out_dropout = dropout;
    if (c.head_input_dropout > 0) c.head_input_dropout = dropout;
    rig_batch_make(b, lengths, EXAMPLES, LOGITS);
    return rig_open(r, &c, precision, (hn_bounds){MAX_TOKENS, MAX_EXAMPLES, 16, 0}) == HN_OK &&
           rig_randomise(r, 21) == HN_OK;
}

/* Slope of the loss along `direction` over one parameter, by central differences. */
static double slope(rig *r, const rig_batch *b, int64_t offset, int64_t count, const float *direction,
                    float step)
{
    float *master = hn_model_master(r->model) + offset,
          *saved = hn_memdup(master, (size_t)count * sizeof *saved);
    double loss[2];
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < count; i++) master[i] = saved[i] + (side ? step : -step) * direction[i];
        rig_run(r, &b->batch);
        loss[side] = r->loss;
    }
    memcpy(master, saved, (size_t)count * sizeof *saved);
    hn_free(saved);
    return (loss[1] - loss[0]) / (2 * (double)step);
}

TEST(gradients_are_slopes_with_dropout)
{
    for (int t = 0; t < 3; t++) {
        rig r;
        rig_batch b;
        CHECK(setup(&r, &b, texts[t], HN_F32, 0.3f, t == 1 ? HN_HEAD_REGRESS : HN_HEAD_CLASSIFY));
        int count;
        const hn_param *params = hn_model_params(r.model, &count);
        rig_run(&r, &b.batch);
        float *gradients = hn_memdup(rig_gradients(&r), rig_gradient_bytes(&r));
        for (int p = 0; p < count; p++) {
            int64_t elements = params[p].rows * params[p].columns;
            float *direction = gradients + params[p].offset;
            double norm = 0;
            for (int64_t i = 0; i < elements; i++) norm += (double)direction[i] * direction[i];
            norm = sqrt(norm);
            CHECK(isfinite(norm));
            if (norm < 1e-4) continue;
            for (int64_t i = 0; i < elements; i++) direction[i] = (float)(direction[i] / norm);
            double got = slope(&r, &b, params[p].offset, elements, direction, 2e-3f);
            if (!(fabs(got - norm) < 1e-2 * norm + 2e-3))
                TEST_FAIL("model %d: %s: slope %.6g, gradient %.6g", t, params[p].name, got, norm);
        }
        CHECK_INT(r.error.status, HN_OK);
        hn_free(gradients);
        rig_close(&r);
    }
}

static double largest_difference(const float *a, const float *b, int64_t count)
{
    double worst = 0;
    for (int64_t i = 0; i < count; i++)
        if (!(fabs((double)a[i] - b[i]) <= worst)) worst = fabs((double)a[i] - b[i]);
    return worst;
}

/* A sequence's logits are the same bits alone and packed, with dropout; gradients are the sum. */
TEST(packing_changes_nothing)
{
    for (int t = 0; t < 6; t++) {
        rig r;
        rig_batch b, one;
        CHECK(setup(&r, &b, texts[t % 3], t < 3 ? HN_F32 : HN_BF16, 0.2f, HN_HEAD_CLASSIFY));
        float packed[EXAMPLES * LOGITS];
        memcpy(packed, rig_run(&r, &b.batch).data, sizeof packed);
        int64_t count = hn_model_param_elements(r.model);
        float *gradients = hn_memdup(rig_gradients(&r), rig_gradient_bytes(&r));
        float *sum = hn_calloc((size_t)count, sizeof *sum);
        double loss = r.loss, alone = 0;
        for (int s = 0; s < EXAMPLES; s++) {
            rig_batch_pick(&one, &b, s);
            hn_tensor logits = rig_run(&r, &one.batch);
            CHECK(!memcmp(logits.data, packed + s * LOGITS, LOGITS * sizeof *packed));
            for (int64_t i = 0; i < count; i++) sum[i] += rig_gradients(&r)[i];
            alone += r.loss;
        }
        CHECK_INT(r.error.status, HN_OK);
        CHECK_NEAR(alone, loss, 1e-12);
        CHECK(largest_difference(sum, gradients, count) < 2e-5);
        hn_free(gradients);
        hn_free(sum);
        rig_close(&r);
    }
}

TEST(step_and_seed_change_the_masks)
{
    rig r;
    rig_batch b;
    CHECK(setup(&r, &b, TINY_BERT, HN_F32, 0.2f, HN_HEAD_CLASSIFY));
    float first[EXAMPLES * LOGITS];
    memcpy(first, rig_run(&r, &b.batch).data, sizeof first);
    CHECK(!memcmp(first, rig_run(&r, &b.batch).data, sizeof first));
    r.step++;
    CHECK(memcmp(first, rig_run(&r, &b.batch).data, sizeof first));
    r.step--;
    r.forward.seed++;
    CHECK(memcmp(first, rig_run(&r, &b.batch).data, sizeof first));
    rig_close(&r);
}

/* The plans of the tests below, over embeddings, layer.0, layer.1, head. */
static const bool plans[][4] = {{false, true, true, true},   {false, false, true, true},
                                {false, false, false, true}, {true, false, true, false},
                                {false, true, false, false}, {true, false, false, false}};
#define PLANS (int)(sizeof plans / sizeof *plans)

TEST(frozen_groups_do_not_change_the_others_gradients)
{
    for (int t = 0; t < 3; t++) {
        rig r;
        rig_batch b;
        CHECK(setup(&r, &b, texts[t], HN_F32, 0, HN_HEAD_CLASSIFY));
        int count;
        const hn_param *params = hn_model_params(r.model, &count);
        rig_run(&r, &b.batch);
        float *all = hn_memdup(rig_gradients(&r), rig_gradient_bytes(&r));
        for (int p = 0; p < PLANS; p++) {
            memcpy(r.trainable, plans[p], sizeof plans[p]);
            CHECK_INT(rig_replace(&r), HN_OK);
            rig_run(&r, &b.batch);
            for (int i = 0; i < count; i++) {
                const float *got = hn_model_gradient(r.model, i), *want = all + params[i].offset;
                for (int64_t e = 0; e < params[i].rows * params[i].columns; e++)
                    if (got[e] != (plans[p][params[i].group] ? want[e] : 0))
                        TEST_FAIL("plan %d: %s[%lld] is %g", p, params[i].name, (long long)e, got[e]);
            }
        }
        CHECK_INT(r.error.status, HN_OK);
        hn_free(all);
        rig_close(&r);
    }
}

/* The trunk's output read back instead of computed: the same bits in logits, loss and gradients, with dropout
 * above. */
TEST(cached_trunk_gives_the_same_bits)
{
    for (int t = 0; t < 6; t++) {
        rig r;
        rig_batch b;
        hn_dtype precision = t < 3 ? HN_F32 : HN_BF16;
        CHECK(setup(&r, &b, texts[t % 3], precision, 0.2f, HN_HEAD_CLASSIFY));
        for (int p = 0; p < 3; p++) {
            float logits[EXAMPLES * LOGITS], cache[MAX_TOKENS * 32];
            memcpy(r.trainable, plans[p], sizeof plans[p]);
            CHECK_INT(rig_replace(&r), HN_OK);
            bool pooled = hn_model_trunk_pooled(r.model, hn_train_plan_first(r.model, &r.forward.plan));
            CHECK_INT(pooled, p == 2);
            memcpy(logits, rig_run(&r, &b.batch).data, sizeof logits);
            float *gradients = hn_memdup(rig_gradients(&r), rig_gradient_bytes(&r));
            double loss = r.loss;
            hn_tensor trunk = hn_tensor_2d(cache, precision, pooled ? EXAMPLES : b.batch.tokens, 32);
            memset(cache, 0xff, sizeof cache);
            for (int pass = 0; pass < 2; pass++) {
                r.forward.trunk_keep = pass == 0 ? &trunk : NULL;
                r.forward.trunk_output = pass == 1 ? &trunk : NULL;
                CHECK(!memcmp(logits, rig_run(&r, &b.batch).data, sizeof logits));
                CHECK(!memcmp(gradients, rig_gradients(&r), rig_gradient_bytes(&r)));
                CHECK(loss == r.loss);
                /* what lies below is not read */
                memset(hn_model_master(r.model), 0, 32 * sizeof(float));
                hn_model_refresh_copy(r.model, &r.ctx);
            }
            r.forward.trunk_output = NULL;
            CHECK(memcmp(logits, rig_run(&r, &b.batch).data, sizeof logits) != 0 || p > 2);
            CHECK_INT(rig_randomise(&r, 21), HN_OK);
            hn_free(gradients);
        }
        CHECK_INT(r.error.status, HN_OK);
        rig_close(&r);
    }
}

/* The trunk's output, computed while training with dropout configured, is that of evaluation; through several
 * layers. */
TEST(the_trunk_runs_without_dropout)
{
    rig r;
    rig_batch b;
    float cache[3][MAX_TOKENS * 32];
    CHECK(setup(&r, &b, THREE_LAYERS, HN_F32, 0.2f, HN_HEAD_CLASSIFY));
    for (int first = 1; first < 5; first++) {
        int rows = first == 4 ? EXAMPLES : b.batch.tokens;
        size_t size = (size_t)rows * 32 * sizeof(float);
        for (int g = 0; g < 5; g++) r.trainable[g] = g >= first;
        for (int way = 0; way < 3; way++) { /* training; evaluation in training's layout and in its own */
            hn_tensor trunk = hn_tensor_2d(cache[way], HN_F32, rows, 32);
            r.forward.training = way == 0;
            r.forward.trunk_keep = &trunk;
            if (way != 1) CHECK_INT(rig_replace(&r), HN_OK);
            rig_run(&r, &b.batch);
        }
        CHECK(!memcmp(cache[0], cache[1], size));
        CHECK(!memcmp(cache[0], cache[2], size));
    }
    CHECK_INT(r.error.status, HN_OK);
    rig_close(&r);
}

/* The same weights with one more layer on top: there the second layer computes every row. */
TEST(last_layer_computes_the_rows_that_a_full_one_would)
{
    for (int precision = 0; precision < 2; precision++) {
        rig two, three;
        rig_batch b;
        hn_dtype dtype = precision ? HN_BF16 : HN_F32;
        CHECK(setup(&two, &b, TINY_BERT, dtype, 0.2f, HN_HEAD_CLASSIFY));
        CHECK(setup(&three, &b, THREE_LAYERS, dtype, 0.2f, HN_HEAD_CLASSIFY));
        rig_run(&two, &b.batch);
        rig_run(&three, &b.batch);
        const hn_tensor *few = &two.model->enc.layers[1].y, *all = &three.model->enc.layers[1].y;
        size_t row = 32 * hn_dtype_size(dtype);
        for (int s = 0; s < EXAMPLES; s++)
            CHECK(!memcmp((char *)few->data + (size_t)s * row,
                          (char *)all->data + (size_t)b.cu_seqlens[s] * row, row));
        rig_close(&two);
        rig_close(&three);
    }
}

TEST(evaluation_needs_less_and_gives_the_same_logits)
{
    for (int t = 0; t < 6; t++) {
        rig r;
        rig_batch b;
        float logits[EXAMPLES * LOGITS];
        CHECK(setup(&r, &b, texts[t % 3], t < 3 ? HN_F32 : HN_BF16, 0, HN_HEAD_CLASSIFY));
        memcpy(logits, rig_run(&r, &b.batch).data, sizeof logits);
        size_t training = r.activations.size;
        r.forward.training = false;
        CHECK(!memcmp(logits, rig_run(&r, &b.batch).data, sizeof logits)); /* in training's layout */
        CHECK_INT(rig_replace(&r), HN_OK);
        CHECK(r.activations.size * 2 < training);
        memset(r.activations.base, 0xff, r.activations.size);
        rig_place_activations(
            (hn_arena_rewind(&r.activations, 0), &r)); /* as after another use of the arena */
        double loss = r.loss;
        CHECK(!memcmp(logits, rig_run(&r, &b.batch).data, sizeof logits));
        CHECK(loss == r.loss);
        rig_close(&r);
    }
}

TEST(one_layer_and_one_segment)
{
#define ONE_LAYER                                                                                            \
    "{\"model_type\": \"bert\", \"hidden_size\": 32, \"num_hidden_layers\": 1, \"num_attention_heads\": 4, " \
    "\"intermediate_size\": 48, \"vocab_size\": 60, \"max_position_embeddings\": 40, \"type_vocab_size\": "  \
    "1}"
    rig r;
    rig_batch b;
    float logits[EXAMPLES * LOGITS];
    CHECK(setup(&r, &b, ONE_LAYER, HN_F32, 0, HN_HEAD_CLASSIFY));
    memcpy(logits, rig_run(&r, &b.batch).data, sizeof logits);
    memset(b.type, 0, sizeof b.type);
    CHECK(!memcmp(logits, rig_run(&r, &b.batch).data, sizeof logits));
    r.forward.training = false;
    CHECK_INT(rig_replace(&r), HN_OK);
    CHECK(!memcmp(logits, rig_run(&r, &b.batch).data, sizeof logits));
    rig_close(&r);
}

TEST(too_long_a_sequence_is_an_error)
{
    rig r;
    rig_batch b;
    CHECK(setup(&r, &b, TINY_ROBERTA, HN_F32, 0, HN_HEAD_CLASSIFY));
    rig_batch_make(&b, (int[]){39}, 1, LOGITS);
    rig_run(&r, &b.batch);
    CHECK_INT(r.error.status, HN_ERR_MISMATCH);
    CHECK_CONTAINS(r.error.message, "39 tokens, the model has positions for 38");
    rig_close(&r);
}

TEST_MAIN(hn_json_init(); RUN(gradients_are_slopes_with_dropout); RUN(packing_changes_nothing);
          RUN(step_and_seed_change_the_masks); RUN(frozen_groups_do_not_change_the_others_gradients);
          RUN(cached_trunk_gives_the_same_bits); RUN(the_trunk_runs_without_dropout);
          RUN(last_layer_computes_the_rows_that_a_full_one_would);
          RUN(evaluation_needs_less_and_gives_the_same_logits); RUN(one_layer_and_one_segment);
          RUN(too_long_a_sequence_is_an_error))
