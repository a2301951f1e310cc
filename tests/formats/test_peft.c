/* PEFT folders: what is read, what is passed over, every variant that is refused by its field, and failing memory. */
#include "formats/peft.h"

#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "formats/safetensors.h"
#include "tests/test.h"

static char base[] = "/tmp/hone-peft-XXXXXX";
static char folder[64], path[192];
static hn_error error;

#define GOOD                                                                                                               \
    "\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 8, \"lora_dropout\": 0.1, \"target_modules\": [\"q_proj\", \"v_proj\"], " \
    "\"base_model_name_or_path\": \"some/base\", \"task_type\": \"CAUSAL_LM\", \"bias\": \"none\", \"use_dora\": false, "         \
    "\"rank_pattern\": {}, \"layers_to_transform\": null, \"peft_version\": \"0.21\", \"megatron_core\": \"megatron.core\", "     \
    "\"init_lora_weights\": true, \"inference_mode\": true"

static const char *in(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *file = fopen(in(name), "wb");
    if (!file || fputs(text, file) < 0 || fclose(file)) abort();
}

static void fresh(const char *config)
{
    static float values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    const hn_named_tensor tensor = {"base_model.model.a.lora_A.weight", hn_tensor_2d(values, HN_F32, 4, 2)};
    if (hn_folder_remove(folder, NULL) != HN_OK || mkdir(folder, 0700)) abort();
    put("adapter_config.json", config);
    if (hn_safetensors_save(in("adapter_model.safetensors"), &tensor, 1, HN_F32, NULL) != HN_OK) abort();
}

static hn_status open_config(hn_peft **out, const char *config)
{
    fresh(config);
    hn_error_reset(&error);
    *out = NULL;
    return hn_peft_open(out, folder, &error);
}

TEST(what_is_read)
{
    hn_peft *peft;
    size_t count;
    CHECK_INT(open_config(&peft, "{" GOOD ", \"use_rslora\": true, \"fan_in_fan_out\": true, \"modules_to_save\": [\"score\", \"score\"]}"),
              HN_OK);
    const hn_peft_config *config = hn_peft_get_config(peft);
    CHECK_INT(config->rank, 4);
    CHECK(config->alpha == 8 && config->dropout == 0.1 && config->rank_stabilised && config->turned);
    CHECK_INT(config->target_count, 2);
    CHECK_TEXT(config->targets[1], "v_proj");
    CHECK_INT(config->saved_count, 1);
    CHECK_TEXT(config->saved[0], "score");
    CHECK_TEXT(config->base, "some/base");
    CHECK_TEXT(config->task_type, "CAUSAL_LM");
    CHECK_TEXT(hn_peft_tensors(peft, &count)[0].name, "base_model.model.a.lora_A.weight");
    CHECK_INT(count, 1);
    CHECK_INT(hn_peft_intact(peft, &error), HN_OK);
    hn_peft_free(peft);
    CHECK_INT(open_config(&peft, "{\"peft_type\": \"LORA\", \"r\": 1, \"target_modules\": \"all-linear\"}"), HN_OK);
    CHECK_TEXT(hn_peft_get_config(peft)->targets[0], "all-linear");
    CHECK(hn_peft_get_config(peft)->alpha == 8 && !hn_peft_get_config(peft)->base);
    hn_peft_free(peft);
    CHECK(hn_peft_is_folder(folder));
    put("model.safetensors", "");
    CHECK(!hn_peft_is_folder(folder));
    CHECK(!hn_peft_is_folder(base));
}

/* A field in the place of GOOD's end, and what the message names. */
TEST(what_is_refused)
{
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"{" GOOD ", \"use_dora\": true}", "use_dora"},
        {"{" GOOD ", \"alpha_pattern\": {\"q_proj\": 3}}", "alpha_pattern"},
        {"{" GOOD ", \"lora_bias\": true}", "lora_bias"},
        {"{" GOOD ", \"exclude_modules\": \"x\"}", "exclude_modules"},
        {"{" GOOD ", \"trainable_token_indices\": [1]}", "trainable_token_indices"},
        {"{" GOOD ", \"of_tomorrow\": 7}", "of_tomorrow"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"target_modules\": [\"a\"], \"bias\": \"all\"}", "bias"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"target_modules\": [\"a\"], \"rank_pattern\": {\"a\": 2}}", "rank_pattern"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"target_modules\": [\"a\"], \"layers_to_transform\": [0]}", "layers_to_transform"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"target_modules\": [\"a\"], \"init_lora_weights\": \"pissa\"}", "init_lora_weights"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"target_modules\": \".*_proj\"}", "target_modules"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"target_modules\": [7]}", "target_modules"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"target_modules\": [\"\"]}", "target_modules"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"target_modules\": [\"a\\u0000b\"]}", "target_modules"},
        {"{\"peft_type\": \"LORA\", \"r\": 4}", "target_modules"},
        {"{\"peft_type\": \"LORA\", \"target_modules\": [\"a\"]}", "\"r\""},
        {"{\"peft_type\": \"LORA\", \"r\": 0, \"target_modules\": [\"a\"]}", "r"},
        {"{\"peft_type\": \"LORA\", \"r\": 4.5, \"target_modules\": [\"a\"]}", "r"},
        {"{\"peft_type\": \"LORA\", \"r\": 9223372036854775807, \"target_modules\": [\"a\"]}", "r"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"lora_dropout\": 1, \"target_modules\": [\"a\"]}", "lora_dropout"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": \"8\", \"target_modules\": [\"a\"]}", "lora_alpha"},
        {"{\"peft_type\": \"LOHA\", \"r\": 4, \"target_modules\": [\"a\"]}", "peft_type"},
        {"{\"r\": 4}", "peft_type"},
        {"[]", "object"},
        {"{", "adapter_config.json"},
        {"", "adapter_config.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hn_peft *peft;
        if (open_config(&peft, cases[i].text) == HN_OK) TEST_FAIL("%s: opened", cases[i].text);
        if (!strstr(error.message, cases[i].words)) TEST_FAIL("%s: %s", cases[i].text, error.message);
    }
}

/* More names than any model has modules; each would be compared with each. */
TEST(too_many_names)
{
    enum { MANY = 100000 };
    hn_peft *peft;
    char *text = malloc(MANY * 12 + 256), *at = text;
    CHECK(text);
    at += sprintf(at, "{\"peft_type\": \"LORA\", \"r\": 4, \"target_modules\": [\"m\"");
    for (int i = 0; i < MANY; i++) at += sprintf(at, ", \"m%d\"", i);
    sprintf(at, "]}");
    CHECK_INT(open_config(&peft, text), HN_ERR_UNSUPPORTED);
    CHECK_CONTAINS(error.message, "\"target_modules\": expected at most 8192 names of modules, got 100001");
    free(text);
}

TEST(files_that_are_not_there)
{
    hn_peft *peft = NULL;
    fresh("{" GOOD "}");
    unlink(in("adapter_model.safetensors"));
    hn_error_reset(&error);
    CHECK(hn_peft_open(&peft, folder, &error) != HN_OK);
    CHECK_CONTAINS(error.message, "adapter_model.safetensors");
    put("adapter_model.bin", "a pickle");
    hn_error_reset(&error);
    CHECK_INT(hn_peft_open(&peft, folder, &error), HN_ERR_UNSUPPORTED);
    CHECK_CONTAINS(error.message, "pickle");
    if (symlink("/etc/hostname", in("adapter_model.safetensors"))) abort();
    hn_error_reset(&error);
    CHECK(hn_peft_open(&peft, folder, &error) != HN_OK);
    CHECK(!peft);
}

/* Every prefix of a good config is refused. */
TEST(truncated)
{
    static const char good[] = "{" GOOD "}";
    char text[sizeof good];
    for (size_t length = 0; length + 1 < sizeof good; length++) {
        hn_peft *peft;
        memcpy(text, good, length);
        text[length] = 0;
        if (open_config(&peft, text) == HN_OK) TEST_FAIL("%zu bytes of the config opened", length);
    }
}

static hn_status fill(void *context, float *out, size_t index, int64_t first, int64_t n, hn_error *e)
{
    (void)context, (void)e;
    for (int64_t i = 0; i < n; i++) out[i] = (float)index + (float)(first + i);
    return HN_OK;
}

/* What is saved is what was read, whichever allocation fails on the way. */
TEST(save_and_open)
{
    static const char *const targets[] = {"q_proj"}, *const saved[] = {"classifier", "pooler.dense"};
    const hn_peft_config config = {.base = "the/base", .task_type = "SEQ_CLS", .rank = 2, .alpha = 3, .rank_stabilised = true,
                                   .targets = targets, .target_count = 1, .saved = saved, .saved_count = 2};
    const hn_named_tensor tensor = {"base_model.model.q_proj.lora_A.weight", hn_tensor_2d(NULL, HN_F32, 2, 5)};
    const hn_tensor_source source = {fill, NULL};
    bool passed = false;
    for (size_t nth = 1; !passed && nth < 2000; nth++) {
        hn_peft *peft = NULL;
        size_t count;
        if (hn_folder_remove(folder, NULL) != HN_OK) abort();
        hn_error_reset(&error);
        hn_mem_fail_at(nth);
        json_t *model = json_object();
        hn_status status = model ? hn_peft_save(folder, &config, model, &tensor, 1, &source, NULL, &error)
                                 : hn_fail(&error, HN_ERR_MEMORY, "json");
        if (status == HN_OK) status = hn_peft_open(&peft, folder, &error);
        hn_mem_fail_at(0);
        json_decref(model);
        passed = status == HN_OK;
        if (!passed) {
            CHECK_INT(error.status, HN_ERR_MEMORY);
            continue;
        }
        const hn_peft_config *got = hn_peft_get_config(peft);
        CHECK(got->rank == 2 && got->alpha == 3 && got->rank_stabilised && got->target_count == 1 && got->saved_count == 2);
        CHECK_TEXT(got->saved[1], "pooler.dense");
        CHECK_TEXT(got->base, "the/base");
        const hn_tensor *t = &hn_peft_tensors(peft, &count)->tensor;
        CHECK(t->shape[0] == 2 && t->shape[1] == 5 && ((const float *)t->data)[9] == 9);
        hn_peft_free(peft);
    }
    CHECK(passed);
}

static void begin(void)
{
    if (!mkdtemp(base)) abort();
    snprintf(folder, sizeof folder, "%s/adapter", base);
    hn_json_init();
}

TEST_MAIN(begin(); RUN(too_many_names); RUN(what_is_read); RUN(what_is_refused); RUN(files_that_are_not_there); RUN(truncated); RUN(save_and_open);
          hn_folder_remove(base, NULL))
