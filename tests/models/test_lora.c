/* LoRA against PEFT: logits, loss, every gradient and 20 training losses of tiny models with adapters; dropout's gradients by finite
 * differences; what is frozen, and in which type it stands; merging. */
#include "tests/models/golden.h"

static const char *const families[] = {"bert", "llama", "gpt2", "bert_tags", "bert_masked"};
enum { FAMILIES = sizeof families / sizeof *families };

TEST(fp32)
{
    for (int f = 0; f < FAMILIES; f++) golden_compare(families[f], true, HN_F32, 1e-5, 1e-5);
}

TEST(bf16)
{
    for (int f = 0; f < FAMILIES; f++) { /* the branches are as large as the base; bert_masked has ReLUs behind them: 0.17 */
        bool relu = !strcmp(families[f], "bert_masked");
        golden_compare(families[f], true, HN_BF16, 3e-2, relu ? 0.25 : 6e-2);
    }
}

TEST(twenty_training_losses)
{
    for (int f = 0; f < FAMILIES; f++) {
        golden g;
        if (!golden_open_with(&g, families[f], true, HN_F32)) TEST_FAIL("%s: %s", families[f], g.r.error.message);
        golden_losses(&g, families[f]);
        golden_close(&g);
    }
}

/* A frozen matrix stands once, in the model's precision; vectors in fp32; what trains has a master and a gradient. */
TEST(places)
{
    golden g;
    CHECK(golden_open_with(&g, "llama", true, HN_BF16));
    int count, adapters = 0;
    const hn_param *params = hn_model_params(g.r.model, &count);
    int64_t masters = 0, narrow = 0;
    for (int p = 0; p < count; p++) {
        int64_t size = (params[p].rows * params[p].columns + 31) & ~(int64_t)31;
        CHECK_INT(params[p].frozen, !params[p].adapter);
        CHECK_INT(params[p].offset >= 0, params[p].rank == 1 || params[p].adapter);
        CHECK_INT(params[p].copy_offset >= 0, params[p].rank == 2);
        CHECK_INT(hn_model_gradient(g.r.model, p) != NULL, params[p].adapter);
        if (params[p].offset >= 0) masters += size;
        if (params[p].copy_offset >= 0) narrow += size;
        adapters += params[p].adapter;
    }
    CHECK_INT(adapters, 2 * 2 * 4); /* of two layers: q and v, out, up, down */
    CHECK_INT(hn_model_param_elements(g.r.model), masters);
    CHECK_INT(g.r.parameters.used, (size_t)masters * 4 + (size_t)narrow * 2);
    golden_close(&g);
}

static double loss_at(golden *g, const rig_batch *b)
{
    rig *r = &g->r;
    r->loss = 0;
    r->count = 0;
    rig_forward(r, &b->batch);
    hn_model_loss(r->model, &r->ctx, &(hn_target_loss){.loss = &r->loss, .count = &r->count}, &b->batch, 0, &r->scale, true);
    return r->loss;
}

/* With dropout: the slope of the loss along each adapter's gradient. */
static void check_slopes(const char *family, bool drops)
{
    golden g = {0};
    rig_batch b;
    if (!golden_open_with(&g, family, true, HN_F32)) TEST_FAIL("%s: %s", family, g.r.error.message);
    for (int i = 0; i < g.r.model->pair_count; i++) g.r.model->pairs[i].linear->lora.dropout = drops ? 0.5f : 0;
    golden_batch(&g, &b, 0);
    rig_run(&g.r, &b.batch);
    int count;
    const hn_param *params = hn_model_params(g.r.model, &count);
    for (int p = 0; p < count; p++) {
        if (!params[p].adapter) continue;
        float *value = hnp_param_master(g.r.model, p), *gradient = hn_model_gradient(g.r.model, p);
        int64_t size = params[p].rows * params[p].columns;
        double squared = 0;
        for (int64_t i = 0; i < size; i++) squared += (double)gradient[i] * gradient[i];
        float step = (float)(1e-3 / sqrt(squared));
        for (int64_t i = 0; i < size; i++) value[i] += step * gradient[i];
        double above = loss_at(&g, &b);
        for (int64_t i = 0; i < size; i++) value[i] -= 2 * step * gradient[i];
        double below = loss_at(&g, &b), slope = (above - below) / (2 * (double)step);
        for (int64_t i = 0; i < size; i++) value[i] += step * gradient[i];
        if (!(fabs(slope - squared) < 2e-2 * squared))
            TEST_FAIL("%s: slope along %s is %g, its gradient says %g", family, params[p].name, slope, squared);
    }
    golden_close(&g);
}

TEST(dropout_by_finite_differences)
{
    for (int f = 0; f < FAMILIES; f++)
        for (int drops = 0; drops < 2; drops++) check_slopes(families[f], drops);
}

/* A merged model without adapters computes what the pair did. */
static void merge(const char *family)
{
    golden g, plain;
    rig_batch b;
    float logits[2][MAX_TOKENS * 50];
    hn_exported exported;
    hn_strbuf names, ignored;
    if (!golden_open_with(&g, family, true, HN_F32)) TEST_FAIL("%s: %s", family, g.r.error.message);
    CHECK(golden_open(&plain, family, HN_F32));
    CHECK_INT(hn_exported_init(&exported, g.r.model, HN_EXPORT_MERGED, NULL, 0, NULL, &g.r.error), HN_OK);
    size_t total = 0;
    for (size_t i = 0; i < exported.count; i++) total += (size_t)hn_tensor_count(&exported.tensors[i].tensor);
    float *values = malloc(total * sizeof *values), *to = values;
    for (size_t i = 0; i < exported.count; i++) {
        hn_tensor *tensor = &exported.tensors[i].tensor;
        int64_t row = tensor->rank == 2 ? tensor->shape[1] : tensor->shape[0], count = hn_tensor_count(tensor);
        int64_t step = tensor->rank == 2 && tensor->shape[0] > 3 ? 3 * row : row; /* several rows at a time */
        for (int64_t done = 0; done < count; done += step) {
            int64_t some = count - done < step ? count - done : step;
            CHECK_INT(hn_exported_fill(&exported, to + done, i, done, some, NULL), HN_OK);
        }
        tensor->data = to;
        to += count;
    }
    hn_strbuf_init(&names);
    hn_strbuf_init(&ignored);
    CHECK_INT(hn_model_load(plain.r.model, exported.tensors, exported.count, NULL, "merged", 0, &names, &ignored, &plain.r.error), HN_OK);
    CHECK(!names.length && !ignored.length);
    golden *both[] = {&g, &plain};
    golden_batch(&g, &b, 0);
    int64_t count = 0;
    for (int i = 0; i < 2; i++) {
        both[i]->r.forward.training = false;
        CHECK_INT(rig_replace(&both[i]->r), HN_OK);
        count = golden_logits(both[i], &b, logits[i]);
    }
    double e = relative_error(logits[1], logits[0], count);
    if (!(e < 2e-6)) TEST_FAIL("%s: merged logits are off by %g", family, e);
    hn_strbuf_close(&names);
    hn_strbuf_close(&ignored);
    hn_exported_close(&exported);
    free(values);
    golden_close(&g);
    golden_close(&plain);
}

TEST(merged)
{
    for (int f = 0; f < FAMILIES; f++) merge(families[f]);
}

/* Twenty steps leave every frozen byte as it was. */
TEST(the_base_stays)
{
    golden g;
    CHECK(golden_open_with(&g, "bert", true, HN_F32));
    int count;
    const hn_param *params = hn_model_params(g.r.model, &count);
    float *before = hn_memdup(hn_model_master(g.r.model), (size_t)hn_model_param_elements(g.r.model) * sizeof *before);
    golden_losses(&g, "bert");
    for (int p = 0; p < count; p++) {
        size_t size = (size_t)(params[p].rows * params[p].columns) * sizeof *before;
        bool same = !memcmp(before + params[p].offset, hnp_param_master(g.r.model, p), size);
        if (same != params[p].frozen) TEST_FAIL("%s: %s", params[p].name, same ? "did not train" : "moved");
    }
    hn_free(before);
    golden_close(&g);
}

static hn_status load(golden *g, const hn_named_tensor *tensors, size_t count)
{
    hn_error_reset(&g->r.error);
    return hn_model_load_adapter(g->r.model, tensors, count, "adapter", &g->r.error);
}

TEST(adapter_files)
{
    golden g;
    size_t count;
    CHECK(golden_open_with(&g, "llama", true, HN_BF16));
    const hn_named_tensor *good = hn_peft_tensors(g.peft, &count);
    hn_named_tensor bad[64];
    CHECK(count < 64);
    CHECK_INT(load(&g, good, count - 1), HN_ERR_MISMATCH);
    CHECK_CONTAINS(g.r.error.message, "missing");
    memcpy(bad, good, count * sizeof *bad);
    bad[3].name += strlen(HN_PEFT_PREFIX);
    CHECK_INT(load(&g, bad, count), HN_ERR_FORMAT);
    CHECK_CONTAINS(g.r.error.message, HN_PEFT_PREFIX);
    bad[3].name = HN_PEFT_PREFIX "model.layers.0.self_attn.k_proj.lora_A.weight"; /* no target of this model */
    CHECK_INT(load(&g, bad, count), HN_ERR_MISMATCH);
    CHECK_CONTAINS(g.r.error.message, "k_proj");
    bad[3].name = good[2].name;
    CHECK_INT(load(&g, bad, count), HN_ERR_FORMAT);
    CHECK_CONTAINS(g.r.error.message, "twice");
    memcpy(bad, good, count * sizeof *bad);
    bad[2].tensor.shape[0]--;
    CHECK_INT(load(&g, bad, count), HN_ERR_MISMATCH);
    CHECK_CONTAINS(g.r.error.message, "shape");
    CHECK_INT(load(&g, good, count), HN_OK);
    golden_close(&g);
}

/* New adapters: A within 1 / sqrt(K), by the seed alone; B zero, so that the model computes what it did. */
TEST(new_adapters)
{
    golden g;
    int count;
    CHECK(golden_open_with(&g, "gpt2", true, HN_F32));
    const hn_param *params = hn_model_params(g.r.model, &count);
    CHECK_INT(hn_model_init(g.r.model, 5, &g.r.error), HN_OK);
    for (int p = 0; p < count; p++) {
        const float *value = hnp_param_master(g.r.model, p);
        int64_t size = params[p].rows * params[p].columns;
        double most = 0, sum = 0;
        if (!params[p].adapter) continue;
        for (int64_t i = 0; i < size; i++) {
            most = fmax(most, fabs((double)value[i]));
            sum += value[i];
        }
        double bound = 1 / sqrt((double)params[p].columns);
        if (params[p].init == HN_INIT_ZERO) CHECK(most == 0);
        else CHECK(most > 0.8 * bound && most <= bound && fabs(sum / (double)size) < 0.3 * bound);
    }
    golden_close(&g);
}

TEST(out_of_memory)
{
    static const char *const targets[] = {"all-linear"};
    hn_error error = {0};
    hn_backend backend;
    hn_model_config config;
    bool passed = false;
    hn_backend_cpu_init(&backend);
    CHECK_OK(tiny_config(&config, TINY_LLAMA, &error));
    config.lora = (hn_lora_config){.rank = 2, .alpha = 4, .targets = targets, .target_count = 1};
    for (size_t nth = 1; !passed && nth < 100; nth++) {
        hn_model *model = NULL;
        hn_error_reset(&error);
        hn_mem_fail_at(nth);
        passed = hn_model_open(&model, &config, HN_F32, &backend, NULL, &error) == HN_OK;
        hn_mem_fail_at(0);
        CHECK(passed || error.status == HN_ERR_MEMORY);
        hn_model_free(model);
    }
    CHECK(passed);
}

TEST_MAIN(hn_json_init(); RUN(fp32); RUN(bf16); RUN(twenty_training_losses); RUN(places); RUN(dropout_by_finite_differences);
          RUN(merged); RUN(the_base_stays); RUN(adapter_files); RUN(new_adapters); RUN(out_of_memory))
