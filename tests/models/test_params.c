/* The parameter list: names, shapes, places, groups; init; import with its errors; export and back; failing
 * memory. */
#include "models/model.h"

#include "core/mem.h"
#include "tests/models/tiny.h"
#include "tests/test.h"

typedef struct fixture {
    hn_model *model;
    hn_arena arena;
    hn_backend backend;
    hn_strbuf initialised, ignored;
    hn_error error;
} fixture;

static bool setup(fixture *f, const char *text, hn_dtype precision, int labels)
{
    hn_model_config config;
    *f = (fixture){0};
    hn_backend_cpu_init(&f->backend);
    hn_strbuf_init(&f->initialised);
    hn_strbuf_init(&f->ignored);
    if (tiny_config(&config, text, &f->error) != HN_OK) return false;
    if (config.head != HN_HEAD_LM) config.labels = labels;
    if (hn_model_open(&f->model, &config, precision, &f->backend, NULL, &f->error) != HN_OK) return false;
    hn_arena_init(&f->arena, "parameters", &f->backend);
    hn_model_place_parameters(f->model, &f->arena);
    if (hn_arena_alloc(&f->arena, &f->error) != HN_OK) return false;
    hn_model_place_parameters(f->model, &f->arena);
    return true;
}

static void teardown(fixture *f)
{
    hn_model_free(f->model);
    hn_arena_close(&f->arena);
    hn_strbuf_close(&f->initialised);
    hn_strbuf_close(&f->ignored);
}

static const hn_param *find(const fixture *f, const char *name)
{
    int count;
    const hn_param *params = hn_model_params(f->model, &count);
    for (int i = 0; i < count; i++)
        if (!strcmp(params[i].name, name)) return &params[i];
    return NULL;
}

static const char *const tiny_texts[] = {TINY_BERT, TINY_ROBERTA, TINY_DISTILBERT, TINY_GPT2, TINY_LLAMA, TINY_QWEN2, TINY_QWEN3};
enum { TEXTS = 7 };

TEST(places_do_not_overlap)
{
    static const int counts[TEXTS] = {5 + 2 * 12 + 4, 5 + 2 * 12 + 4, 4 + 2 * 12 + 4, 2 + 2 * 12 + 2,
                                      1 + 2 * 6 + 2,  1 + 2 * 7 + 1,  1 + 2 * 8 + 1};
    for (int t = 0; t < TEXTS; t++) {
        fixture f;
        CHECK(setup(&f, tiny_texts[t], HN_BF16, 3));
        int count, group = 0;
        int64_t end = 0;
        const hn_param *params = hn_model_params(f.model, &count);
        CHECK_INT(count, counts[t]);
        for (int i = 0; i < count; i++) {
            CHECK_INT(params[i].offset % 32, 0);
            CHECK(params[i].offset >= end && params[i].offset < end + 32);
            CHECK(params[i].group == group || params[i].group == group + 1);
            CHECK_INT(params[i].rank, params[i].columns > 1 ? 2 : 1);
            CHECK_INT(params[i].decays, params[i].rank == 2);
            group = params[i].group;
            end = params[i].offset + params[i].rows * params[i].columns;
            int64_t rows = 0;
            for (int s = 0; s < params[i].source_count; s++) {
                CHECK_INT(params[i].sources[s].row, rows);
                rows += params[i].sources[s].rows;
            }
            CHECK_INT(rows, params[i].rows);
        }
        CHECK(hn_model_param_elements(f.model) >= end);
        CHECK_INT(f.arena.used, f.arena.size);
        CHECK((char *)hn_model_copy(f.model) >= (char *)(hn_model_master(f.model) + end));
        teardown(&f);
    }
}

TEST(names_of_the_families)
{
    fixture f;
    CHECK(setup(&f, TINY_BERT, HN_F32, 3));
    const hn_param *p = find(&f, "layer.1.attention.qkv.weight");
    CHECK(p && p->rows == 96 && p->columns == 32 && p->group == 2);
    CHECK_TEXT(p->sources[1].name, "bert.encoder.layer.1.attention.self.key.weight");
    CHECK_INT(p->sources[1].row, 32);
    p = find(&f, "head.dense.bias");
    CHECK(p && p->may_be_missing);
    CHECK_TEXT(p->sources[0].name, "bert.pooler.dense.bias");
    CHECK_INT(hn_model_group_count(f.model), 4);
    CHECK_TEXT(hn_model_group_name(f.model, 0), "embeddings");
    CHECK_TEXT(hn_model_group_name(f.model, 2), "layer.1");
    CHECK_INT(hn_model_group_find(f.model, "head"), 3);
    CHECK_INT(hn_model_group_find(f.model, "layer.2"), -1);
    teardown(&f);
    CHECK(setup(&f, TINY_ROBERTA, HN_F32, 3));
    CHECK_TEXT(find(&f, "head.out.weight")->sources[0].name, "classifier.out_proj.weight");
    CHECK_TEXT(find(&f, "embeddings.norm.bias")->sources[0].name, "roberta.embeddings.LayerNorm.bias");
    teardown(&f);
    CHECK(setup(&f, TINY_DISTILBERT, HN_F32, 3));
    CHECK(!find(&f, "embeddings.type.weight"));
    CHECK_TEXT(find(&f, "layer.0.attention.qkv.bias")->sources[2].name,
               "distilbert.transformer.layer.0.attention.v_lin.bias");
    teardown(&f);
}

TEST(init_follows_the_rule)
{
    fixture f, g;
    CHECK(setup(&f, TINY_BERT, HN_F32, 3));
    CHECK(setup(&g, TINY_BERT, HN_F32, 3));
    hn_error error = {0};
    CHECK_OK(hn_model_init(f.model, 1, &error));
    CHECK_OK(hn_model_init(g.model, 1, &error));
    size_t bytes = (size_t)hn_model_param_elements(f.model) * sizeof(float);
    CHECK(!memcmp(hn_model_master(f.model), hn_model_master(g.model), bytes));
    CHECK_OK(hn_model_init(g.model, 2, &error));
    CHECK(memcmp(hn_model_master(f.model), hn_model_master(g.model), bytes));
    const hn_param *p = find(&f, "layer.0.attention.qkv.weight");
    const float *w = hn_model_master(f.model) + p->offset;
    double sum = 0, squares = 0;
    int64_t n = p->rows * p->columns, outside = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += w[i];
        squares += (double)w[i] * w[i];
        outside += fabsf(w[i]) > 0.04f; /* two standard deviations: 4.55 % */
    }
    CHECK(fabs(sum / (double)n) < 4 * 0.02 / sqrt((double)n));
    CHECK_NEAR(sqrt(squares / (double)n) / 0.02, 1, 0.05);
    CHECK_NEAR((double)outside / (double)n, 0.0455, 0.015);
    CHECK(hn_model_master(f.model)[find(&f, "layer.0.mlp.norm.weight")->offset] == 1);
    CHECK(hn_model_master(f.model)[find(&f, "layer.0.mlp.norm.bias")->offset] == 0);
    teardown(&f);
    teardown(&g);
}

/* A checkpoint: an array of tensors with their memory, made by exporting a model; there is room for two more. */
typedef struct checkpoint {
    hn_named_tensor tensors[80];
    size_t count;
    hn_exported exported;
    float *values;
    fixture from;
} checkpoint;

/* The values of all tensors of an export, one behind the other, which their views then show. */
static float *materialise(hn_exported *exported)
{
    size_t total = 0;
    for (size_t i = 0; i < exported->count; i++) total += (size_t)hn_tensor_count(&exported->tensors[i].tensor);
    float *values = malloc(total * sizeof *values), *to = values;
    for (size_t i = 0; i < exported->count; i++) {
        hn_tensor *tensor = &exported->tensors[i].tensor;
        int64_t row = tensor->rank == 2 ? tensor->shape[1] : tensor->shape[0], count = hn_tensor_count(tensor);
        for (int64_t done = 0; done < count; done += row)
            if (hn_exported_fill(exported, to + done, i, done, row, NULL) != HN_OK) abort();
        tensor->data = to;
        to += count;
    }
    return values;
}

static bool make_checkpoint(checkpoint *c, const char *text)
{
    if (!setup(&c->from, text, HN_F32, 3)) return false;
    if (hn_model_init(c->from.model, 5, &c->from.error) != HN_OK) return false;
    if (hn_exported_init(&c->exported, c->from.model, HN_EXPORT_WHOLE, NULL, 0, NULL, &c->from.error) != HN_OK) return false;
    c->values = materialise(&c->exported);
    c->count = c->exported.count;
    if (c->count > 78) return false;
    memcpy(c->tensors, c->exported.tensors, c->count * sizeof *c->tensors);
    return true;
}

static void free_checkpoint(checkpoint *c)
{
    hn_exported_close(&c->exported);
    free(c->values);
    teardown(&c->from);
}

static size_t index_of(const checkpoint *c, const char *name)
{
    size_t i = 0;
    while (i < c->count && strcmp(c->tensors[i].name, name)) i++;
    return i;
}

static hn_status load(fixture *f, const checkpoint *c)
{
    hn_error_reset(&f->error);
    return hn_model_load(f->model, c->tensors, c->count, NULL, "model.safetensors", 7, &f->initialised, &f->ignored,
                         &f->error);
}

static bool same_masters(const fixture *f, const fixture *g)
{
    return !memcmp(hn_model_master(f->model), hn_model_master(g->model),
                   (size_t)hn_model_param_elements(f->model) * sizeof(float));
}

TEST(export_and_load_are_inverse)
{
    for (int t = 0; t < TEXTS; t++) {
        checkpoint c;
        fixture f;
        CHECK(make_checkpoint(&c, tiny_texts[t]));
        CHECK(setup(&f, tiny_texts[t], HN_BF16, 3));
        CHECK_INT(load(&f, &c), HN_OK);
        CHECK(same_masters(&f, &c.from));
        CHECK_TEXT(f.initialised.text, "");
        CHECK_TEXT(f.ignored.text, "");
        teardown(&f);
        free_checkpoint(&c);
    }
}

TEST(names_of_the_decoders)
{
    fixture f;
    CHECK(setup(&f, TINY_LLAMA, HN_F32, 3));
    const hn_param *p = find(&f, "layer.1.attention.qkv.weight");
    CHECK(p && p->rows == 64 && p->columns == 32 && p->group == 2 && p->source_count == 3);
    CHECK_TEXT(p->sources[2].name, "model.layers.1.self_attn.v_proj.weight");
    CHECK_INT(p->sources[1].row, 32);
    CHECK_INT(p->sources[1].rows, 16);
    CHECK_INT(p->sources[2].row, 48);
    p = find(&f, "layer.0.mlp.up.weight");
    CHECK(p && p->rows == 96 && p->source_count == 2);
    CHECK_TEXT(p->sources[0].name, "model.layers.0.mlp.gate_proj.weight");
    p = find(&f, "head.out.weight");
    CHECK(p && p->group == 3 && p->rows == 60 && !p->may_be_missing);
    CHECK(!find(&f, "layer.0.attention.qkv.bias"));
    teardown(&f);
    CHECK(setup(&f, TINY_QWEN2, HN_F32, 3));
    CHECK(!find(&f, "head.out.weight"));
    CHECK_TEXT(find(&f, "layer.0.attention.qkv.bias")->sources[1].name, "model.layers.0.self_attn.k_proj.bias");
    teardown(&f);
    CHECK(setup(&f, TINY_QWEN3, HN_F32, 3));
    CHECK_INT(find(&f, "layer.0.attention.qkv.weight")->rows, 4 * 48 + 2 * 48);
    CHECK_INT(find(&f, "layer.0.attention.out.weight")->columns, 4 * 48);
    CHECK_INT(find(&f, "layer.1.attention.k_norm.weight")->rows, 48);
    teardown(&f);
}

/* GPT-2's matrices stand turned in its files; its old files hold masks, and the head though it is tied. */
TEST(gpt2_is_turned)
{
    checkpoint c;
    fixture f;
    float mask[4] = {1, 0, 1, 1};
    CHECK(make_checkpoint(&c, TINY_GPT2));
    CHECK(setup(&f, TINY_GPT2, HN_F32, 3));
    size_t at = index_of(&c, "transformer.h.1.attn.c_attn.weight");
    const hn_tensor *file = &c.tensors[at].tensor;
    const hn_param *p = find(&c.from, "layer.1.attention.qkv.weight");
    const float *master = hn_model_master(c.from.model) + p->offset;
    CHECK(p->sources[0].turned && p->rows == 96 && p->columns == 32);
    CHECK_INT(file->shape[0], 32);
    CHECK_INT(file->shape[1], 96);
    for (int i = 0; i < 32; i++)
        for (int j = 0; j < 96; j++) CHECK(((float *)file->data)[i * 96 + j] == master[j * 32 + i]);
    c.tensors[c.count++] = (hn_named_tensor){"h.0.attn.bias", hn_tensor_2d(mask, HN_F32, 2, 2)};
    c.tensors[c.count++] = (hn_named_tensor){"lm_head.weight", hn_tensor_2d(mask, HN_F32, 2, 2)};
    CHECK_INT(load(&f, &c), HN_OK);
    CHECK(same_masters(&f, &c.from));
    CHECK_TEXT(f.ignored.text, "h.0.attn.bias\nlm_head.weight\n");

    hn_tensor good = *file;
    c.tensors[at].tensor = hn_tensor_2d(good.data, HN_F32, 96, 32);
    CHECK_INT(load(&f, &c), HN_ERR_MISMATCH);
    CHECK_CONTAINS(f.error.message, "expected shape [32, 96], got [96, 32]");
    c.tensors[at].tensor = good;
    ((float *)good.data)[97] = INFINITY; /* row 1, column 1 of the file */
    CHECK_INT(load(&f, &c), HN_ERR_NUMERIC);
    CHECK_CONTAINS(f.error.message, "element 33 of its transpose");
    teardown(&f);
    free_checkpoint(&c);
}

TEST(init_by_depth)
{
    fixture f;
    double squares[2] = {0};
    CHECK(setup(&f, TINY_GPT2, HN_F32, 3));
    CHECK_INT(hn_model_init(f.model, 1, &f.error), HN_OK);
    const hn_param *p[2] = {find(&f, "layer.0.mlp.up.weight"), find(&f, "layer.0.mlp.down.weight")};
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < 48 * 32; i++) {
            double value = hn_model_master(f.model)[p[k]->offset + i];
            squares[k] += value * value / (48 * 32);
        }
    CHECK_NEAR(sqrt(squares[0]) / 0.02, 1, 0.06);
    CHECK_NEAR(sqrt(squares[1]) / 0.01, 1, 0.06); /* 0.02 / sqrt(2 * 2 layers) */
    teardown(&f);
}

TEST(names_without_prefix_and_old_norm_names)
{
    checkpoint c;
    fixture f;
    CHECK(make_checkpoint(&c, TINY_BERT));
    CHECK(setup(&f, TINY_BERT, HN_F32, 3));
    for (size_t i = 0; i < c.count; i++)
        if (!strncmp(c.tensors[i].name, "bert.", 5)) c.tensors[i].name += 5;
    c.tensors[index_of(&c, "embeddings.LayerNorm.weight")].name = "embeddings.LayerNorm.gamma";
    c.tensors[index_of(&c, "encoder.layer.1.output.LayerNorm.bias")].name =
        "bert.encoder.layer.1.output.LayerNorm.beta";
    CHECK_INT(load(&f, &c), HN_OK);
    CHECK(same_masters(&f, &c.from));
    teardown(&f);
    free_checkpoint(&c);
}

TEST(other_types_are_converted)
{
    checkpoint c;
    fixture f;
    CHECK(make_checkpoint(&c, TINY_BERT));
    CHECK(setup(&f, TINY_BERT, HN_F32, 3));
    size_t norm = index_of(&c, "bert.embeddings.LayerNorm.weight"), bias = index_of(&c, "classifier.bias");
    size_t beta = index_of(&c, "bert.embeddings.LayerNorm.bias");
    uint16_t half[32], brain[32];
    double wide[3] = {0.1, -2, 3e-5};
    for (int i = 0; i < 32; i++) {
        half[i] = hn_f16_from_float(0.25f * (float)i);
        brain[i] = hn_bf16_from_float(-0.5f * (float)i);
    }
    c.tensors[norm].tensor = hn_tensor_1d(half, HN_F16, 32);
    c.tensors[beta].tensor = hn_tensor_1d(brain, HN_BF16, 32);
    c.tensors[bias].tensor = hn_tensor_1d(wide, HN_F64, 3);
    CHECK_INT(load(&f, &c), HN_OK);
    CHECK_NEAR(hn_model_master(f.model)[find(&f, "embeddings.norm.weight")->offset + 31], 7.75, 0);
    CHECK_NEAR(hn_model_master(f.model)[find(&f, "embeddings.norm.bias")->offset + 3], -1.5, 0);
    CHECK(hn_model_master(f.model)[find(&f, "head.out.bias")->offset + 2] == 3e-5f);
    teardown(&f);
    free_checkpoint(&c);
}

TEST(head_may_be_missing_and_extras_ignored)
{
    checkpoint c;
    fixture f, g;
    int64_t positions[40] = {0};
    CHECK(make_checkpoint(&c, TINY_BERT));
    CHECK(setup(&f, TINY_BERT, HN_F32, 3));
    CHECK(setup(&g, TINY_BERT, HN_F32, 3));
    c.count = index_of(&c, "classifier.weight");
    c.tensors[c.count++] =
        (hn_named_tensor){"bert.embeddings.position_ids", hn_tensor_2d(positions, HN_I64, 1, 40)};
    c.tensors[c.count++] = (hn_named_tensor){"cls.predictions.bias", hn_tensor_1d(positions, HN_F32, 60)};
    CHECK_INT(load(&f, &c), HN_OK);
    CHECK_TEXT(f.initialised.text, "classifier.bias\nclassifier.weight\n");
    CHECK_TEXT(f.ignored.text, "bert.embeddings.position_ids\ncls.predictions.bias\n");
    CHECK_INT(hn_model_init(g.model, 7, &g.error), HN_OK);
    const hn_param *out = find(&f, "head.out.weight");
    CHECK(!memcmp(hn_model_master(f.model) + out->offset, hn_model_master(g.model) + out->offset,
                  96 * sizeof(float)));
    CHECK(hn_model_master(f.model)[out->offset] != 0);
    teardown(&f);
    teardown(&g);
    free_checkpoint(&c);
}

TEST(wrong_checkpoints_are_refused)
{
    checkpoint c;
    fixture f;
    CHECK(make_checkpoint(&c, TINY_BERT));
    CHECK(setup(&f, TINY_BERT, HN_F32, 3));
    size_t value = index_of(&c, "bert.encoder.layer.1.attention.self.value.weight");
    hn_named_tensor good = c.tensors[value];

    c.tensors[value].name = "bert.encoder.layer.2.attention.self.value.weight";
    CHECK_INT(load(&f, &c), HN_ERR_MISMATCH);
    CHECK_CONTAINS(
        f.error.message,
        "model.safetensors: tensor bert.encoder.layer.2.attention.self.value.weight belongs to nothing");

    c.tensors[value].name = "cls.predictions.bias";
    CHECK_INT(load(&f, &c), HN_ERR_MISMATCH);
    CHECK_CONTAINS(f.error.message, "bert.encoder.layer.1.attention.self.value.weight is missing");

    c.tensors[value].name = "encoder.layer.1.attention.self.key.weight";
    CHECK_INT(load(&f, &c), HN_ERR_FORMAT);
    CHECK_CONTAINS(f.error.message, "twice");

    c.tensors[value] = good;
    c.tensors[value].tensor.shape[1] = 31;
    CHECK_INT(load(&f, &c), HN_ERR_MISMATCH);
    CHECK_CONTAINS(f.error.message, "expected shape [32, 32], got [32, 31]");

    c.tensors[value] = good;
    c.tensors[value].tensor.dtype = HN_I8;
    CHECK_INT(load(&f, &c), HN_ERR_FORMAT);
    CHECK_CONTAINS(f.error.message, "expected f32, f16, bf16 or f64, got i8");

    c.tensors[value] = good;
    ((float *)good.tensor.data)[33] = NAN;
    CHECK_INT(load(&f, &c), HN_ERR_NUMERIC);
    CHECK_CONTAINS(f.error.message, "element 33");

    c.count = 1;
    CHECK_INT(load(&f, &c), HN_ERR_MISMATCH);
    CHECK_CONTAINS(f.error.message, "and 35 more");
    teardown(&f);
    free_checkpoint(&c);
}

TEST(gradients_of_trainable_groups_only)
{
    fixture f;
    CHECK(setup(&f, TINY_BERT, HN_F32, 3));
    hn_arena arena;
    hn_error error = {0};
    bool trainable[4] = {false, false, true, true};
    hn_arena_init(&arena, "gradients", &f.backend);
    hn_model_place_gradients(f.model, &arena, trainable);
    CHECK_OK(hn_arena_alloc(&arena, &error));
    hn_model_place_gradients(f.model, &arena, trainable);
    int count;
    const hn_param *params = hn_model_params(f.model, &count);
    int64_t begin = -1, end = 0;
    for (int i = 0; i < count; i++) {
        float *gradient = hn_model_gradient(f.model, i);
        CHECK_INT(gradient != NULL, trainable[params[i].group]);
        if (!gradient) continue;
        if (begin < 0) begin = params[i].offset;
        CHECK_INT(gradient - (float *)(void *)arena.base, params[i].offset - begin);
        end = params[i].offset + params[i].rows * params[i].columns;
    }
    CHECK(arena.size >= (size_t)(end - begin) * sizeof(float));
    hn_train_plan plan = {trainable};
    CHECK_INT(hn_train_plan_first(f.model, &plan), 2);
    bool none[4] = {false};
    CHECK_INT(hn_train_plan_first(f.model, &(hn_train_plan){none}), 4);
    hn_arena_close(&arena);
    teardown(&f);
}

static void fail_allocations(const char *text, size_t left_out)
{
    checkpoint c;
    CHECK(make_checkpoint(&c, text));
    c.count -= left_out;
    bool passed = false;
    for (size_t nth = 1; !passed && nth < 200; nth++) {
        fixture f = {0};
        hn_mem_fail_at(nth);
        hn_exported exported = {0};
        bool ready = setup(&f, text, HN_F32, 3);
        passed = ready && load(&f, &c) == HN_OK && hn_exported_init(&exported, f.model, HN_EXPORT_WHOLE, NULL, 0, NULL, &f.error) == HN_OK;
        hn_mem_fail_at(0);
        hn_exported_close(&exported);
        if (!passed && f.error.status == HN_OK) TEST_FAIL("allocation %zu failed without an error", nth);
        if (!passed) CHECK_INT(f.error.status, HN_ERR_MEMORY);
        teardown(&f);
    }
    CHECK(passed);
    free_checkpoint(&c);
}

TEST(every_allocation_may_fail)
{
    fail_allocations(TINY_ROBERTA, 2); /* so that names are written into `initialised` */
    fail_allocations(TINY_GPT2, 0);    /* its export makes copies */
}

TEST_MAIN(hn_json_init(); RUN(places_do_not_overlap); RUN(names_of_the_families); RUN(names_of_the_decoders); RUN(gpt2_is_turned); RUN(init_by_depth); RUN(init_follows_the_rule);
          RUN(export_and_load_are_inverse); RUN(names_without_prefix_and_old_norm_names);
          RUN(other_types_are_converted); RUN(head_may_be_missing_and_extras_ignored);
          RUN(wrong_checkpoints_are_refused); RUN(gradients_of_trainable_groups_only);
          RUN(every_allocation_may_fail))
