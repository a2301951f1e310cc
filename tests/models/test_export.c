/* What a model gives to a file: of frozen bf16 matrices what the checkpoint holds, not what is left of it; of an adapter just PEFT's
 * tensors. */
#include "tests/models/golden.h"

/* The export's values, tensor after tensor, some rows at a time; free. */
static float *values_of(const hn_exported *exported)
{
    size_t total = 0;
    for (size_t i = 0; i < exported->count; i++) total += (size_t)hn_tensor_count(&exported->tensors[i].tensor);
    float *values = malloc(total * sizeof *values), *to = values;
    for (size_t i = 0; i < exported->count; i++) {
        const hn_tensor *tensor = &exported->tensors[i].tensor;
        int64_t count = hn_tensor_count(tensor), step = tensor->rank == 2 ? 5 * tensor->shape[1] : count;
        for (int64_t done = 0; done < count; done += step)
            if (hn_exported_fill((void *)(size_t)exported, to + done, i, done, count - done < step ? count - done : step, NULL)) abort();
        to += count;
    }
    return values;
}

/* Values that are not in memory, as those of a GGUF file. */
static hn_status fill_from(void *context, float *out, size_t index, int64_t first, int64_t n, hn_error *error)
{
    const hn_named_tensor *tensors = context;
    (void)error;
    memcpy(out, (const float *)tensors[index].tensor.data + first, (size_t)n * sizeof *out);
    return HN_OK;
}

/* A family's model in bf16 of which group 1 never trains, exported whole. */
static void frozen(const char *family, bool lazy)
{
    rig r = {.bounds = {MAX_TOKENS, MAX_EXAMPLES, 24, 0}};
    char path[128];
    hn_folder *folder = NULL;
    hn_model_config config;
    hn_strbuf initialised, ignored;
    size_t count;
    snprintf(path, sizeof path, GOLDEN "%s", family);
    CHECK_INT(hn_folder_open(&folder, path, &r.error), HN_OK);
    CHECK_INT(hn_model_config_read(&config, hn_folder_config(folder), "config.json", &r.error), HN_OK);
    const hn_named_tensor *base = hn_folder_tensors(folder, &count);
    if (config.head != HN_HEAD_LM) hn_model_config_head(&config, HN_HEAD_CLASSIFY, 3);
    hn_backend_cpu_init(&r.backend);
    hn_arena_init(&r.parameters, "parameters", &r.backend);
    CHECK_INT(hn_model_open(&r.model, &config, HN_BF16, &r.backend, hn_ops_cpu(), &r.error), HN_OK);
    hn_model_freeze(r.model, 1);
    CHECK_INT(rig_place(&r.parameters, &r, rig_place_parameters), HN_OK);
    hn_strbuf_init(&initialised), hn_strbuf_init(&ignored);
    CHECK_INT(hn_model_load(r.model, base, count, NULL, family, 0, &initialised, &ignored, &r.error), HN_OK);
    hn_strbuf_close(&initialised), hn_strbuf_close(&ignored);
    float *masters = hn_model_master(r.model); /* as after a step */
    for (int64_t i = 0; i < hn_model_param_elements(r.model); i++) masters[i] += 1;

    hn_exported exported;
    hn_named_tensor bare[64];
    hn_tensor_source source = {fill_from, (void *)(size_t)base};
    CHECK(count <= 64);
    memcpy(bare, base, count * sizeof *bare);
    for (size_t i = 0; i < count; i++) bare[i].tensor.data = NULL;
    CHECK_INT(hn_exported_init(&exported, r.model, HN_EXPORT_WHOLE, lazy ? bare : base, count, lazy ? &source : NULL, &r.error), HN_OK);
    float *values = values_of(&exported), *got = values;
    int kept = 0;
    for (size_t i = 0; i < exported.count; i++) {
        const hn_named_tensor *tensor = &exported.tensors[i], *from = NULL;
        for (size_t k = 0; k < count && !from; k++)
            if (!strcmp(base[k].name, tensor->name)) from = &base[k];
        CHECK(from && from->tensor.dtype == HN_F32);
        bool stays = tensor->tensor.rank == 2 && strstr(tensor->name, ".0.");
        for (int64_t e = 0; e < hn_tensor_count(&tensor->tensor); e++)
            if (*got++ != ((const float *)from->tensor.data)[e] + (stays ? 0.0f : 1.0f))
                TEST_FAIL("%s: %s[%lld] is %g", family, tensor->name, (long long)e, (double)got[-1]);
        kept += stays;
    }
    CHECK(kept >= 4);
    free(values);
    hn_exported_close(&exported);
    hn_folder_free(folder);
    rig_close(&r);
}

TEST(frozen_matrices_go_out_as_they_came)
{
    static const char *const families[] = {"bert", "gpt2", "llama"};
    for (int f = 0; f < 6; f++) frozen(families[f / 2], f % 2);
}

/* Names and values of the file that it was loaded from, and nothing else. */
TEST(adapters)
{
    static const char *const families[] = {"bert", "llama", "gpt2"};
    for (int f = 0; f < 3; f++) {
        golden g;
        hn_exported exported;
        size_t count;
        CHECK(golden_open_with(&g, families[f], true, HN_BF16));
        const hn_named_tensor *peft = hn_peft_tensors(g.peft, &count);
        CHECK_INT(hn_exported_init(&exported, g.r.model, HN_EXPORT_ADAPTER, NULL, 0, NULL, &g.r.error), HN_OK);
        CHECK_INT(exported.count, count);
        float *values = values_of(&exported), *got = values;
        for (size_t i = 0; i < count; i++) {
            const hn_named_tensor *one = NULL;
            for (size_t k = 0; k < count && !one; k++)
                if (!strcmp(peft[k].name, exported.tensors[i].name)) one = &peft[k];
            if (!one) TEST_FAIL("%s: %s is not in PEFT's file", families[f], exported.tensors[i].name);
            CHECK(!memcmp(got, one->tensor.data, hn_tensor_bytes(&one->tensor)));
            got += hn_tensor_count(&one->tensor);
        }
        free(values);
        hn_exported_close(&exported);
        golden_close(&g);
    }
}

TEST_MAIN(hn_json_init(); RUN(frozen_matrices_go_out_as_they_came); RUN(adapters))
