/* The golden files of tests/golden (make_encoders.py, make_decoders.py): a tiny model, its batches, and what the reference
 * implementation computes of them. */
#ifndef HONE_TESTS_MODELS_GOLDEN_H
#define HONE_TESTS_MODELS_GOLDEN_H

#include "infer/source.h"
#include "tests/models/rig.h"
#include "tests/test.h"

#define GOLDEN "tests/golden/"

typedef struct golden {
    hn_folder *folder;
    hn_safetensors *expected;
    hn_peft *peft;
    hn_model_config config;
    rig r;
} golden;

static inline const hn_tensor *expected(const golden *g, const char *format, int batch)
{
    char name[64];
    snprintf(name, sizeof name, format, batch);
    const hn_named_tensor *tensor = hn_safetensors_find(g->expected, name);
    return tensor ? &tensor->tensor : NULL;
}

/* Adapters of tests/golden/lora_<family> on the family's model. */
static inline hn_status golden_adapter(golden *g, const char *family)
{
    char path[128];
    snprintf(path, sizeof path, GOLDEN "lora_%s", family);
    hn_status status = hn_peft_open(&g->peft, path, &g->r.error);
    if (status != HN_OK) return status;
    g->config.lora = hn_lora_of_peft(hn_peft_get_config(g->peft));
    return HN_OK;
}

/* Dropout is off: the reference ran without. `lora`: with adapters. */
static inline bool golden_open_with(golden *g, const char *family, bool lora, hn_dtype precision)
{
    char path[128];
    hn_error *error = &g->r.error;
    hn_strbuf initialised, ignored;
    size_t count;
    *g = (golden){0};
    snprintf(path, sizeof path, GOLDEN "%s", family);
    if (hn_folder_open(&g->folder, path, error) != HN_OK) return false;
    snprintf(path, sizeof path, GOLDEN "%s%s/expected.safetensors", lora ? "lora_" : "", family);
    if (hn_safetensors_open(&g->expected, path, error) != HN_OK) return false;
    hn_model_config *c = &g->config;
    if (hn_model_config_read(c, hn_folder_config(g->folder), "config.json", error) != HN_OK) return false;
    c->labels = (int)expected(g, "%d.logits", 0)->shape[1];
    if (expected(g, "%d.target", 0) && c->head != HN_HEAD_LM) hn_model_config_head(c, c->labels == c->vocabulary ? HN_HEAD_MASKED : HN_HEAD_TAGS, c->labels);
    else if (c->head != HN_HEAD_LM) c->head = c->labels == 1 ? HN_HEAD_REGRESS : HN_HEAD_CLASSIFY;
    c->embedding_dropout = c->hidden_dropout = c->attention_dropout = c->attention_out_dropout = c->head_dropout =
        c->head_input_dropout = 0;
    if (lora && golden_adapter(g, family) != HN_OK) return false;
    if (rig_open(&g->r, c, precision, (hn_bounds){MAX_TOKENS, MAX_EXAMPLES, 24, 0}) != HN_OK) return false;
    hn_strbuf_init(&initialised);
    hn_strbuf_init(&ignored);
    const hn_named_tensor *tensors = hn_folder_tensors(g->folder, &count);
    hn_status status = hn_model_load(g->r.model, tensors, count, NULL, family, 0, &initialised, &ignored, error);
    if (lora && status == HN_OK) {
        const hn_named_tensor *adapter = hn_peft_tensors(g->peft, &count);
        status = hn_model_load_adapter(g->r.model, adapter, count, "adapter", error);
    }
    hn_model_refresh_copy(g->r.model, &g->r.ctx);
    bool clean = initialised.length == 0 && ignored.length == 0;
    hn_strbuf_close(&initialised);
    hn_strbuf_close(&ignored);
    return status == HN_OK && clean;
}

static inline bool golden_open(golden *g, const char *family, hn_dtype precision)
{
    return golden_open_with(g, family, false, precision);
}

static inline void golden_close(golden *g)
{
    hn_peft_free(g->peft);
    rig_close(&g->r);
    hn_folder_free(g->folder);
    hn_safetensors_free(g->expected);
}

/* Returns how many examples, or tokens, are trained on. */
static inline int golden_batch(const golden *g, rig_batch *b, int batch)
{
    const hn_tensor *token = expected(g, "%d.token", batch), *cu = expected(g, "%d.cu_seqlens", batch);
    const hn_tensor *label = expected(g, "%d.label", batch), *value = expected(g, "%d.value", batch);
    const hn_tensor *type = expected(g, "%d.type", batch), *target = expected(g, "%d.target", batch);
    *b = (rig_batch){.cu_seqlens = {0}};
    memcpy(b->token, token->data, hn_tensor_bytes(token));
    if (type) memcpy(b->type, type->data, hn_tensor_bytes(token));
    memcpy(b->cu_seqlens, cu->data, hn_tensor_bytes(cu));
    if (label) memcpy(b->label, label->data, hn_tensor_bytes(label));
    if (value) memcpy(b->value, value->data, hn_tensor_bytes(value));
    rig_batch_finish(b, (int)cu->shape[0] - 1);
    return target ? rig_batch_targets(b, target->data) : b->batch.n;
}

/* |got - expected| / |expected| in the Euclidean norm; NaN when something is not finite. */
static inline double relative_error(const float *got, const float *want, int64_t count)
{
    double difference = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        size += (double)want[i] * want[i];
    }
    return sqrt(difference) / (sqrt(size) + 1e-30);
}

/* Expected gradient of a whole parameter, from its sources. */
static inline bool expected_gradient(const golden *g, const hn_param *param, float *out)
{
    for (int s = 0; s < param->source_count; s++) {
        char name[160];
        snprintf(name, sizeof name, "gradient.%s", param->sources[s].name);
        const hn_named_tensor *tensor = hn_safetensors_find(g->expected, name);
        if (!tensor) return false;
        const float *from = tensor->tensor.data;
        float *to = out + param->sources[s].row * param->columns;
        int64_t rows = param->sources[s].rows, columns = param->columns;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < columns; c++)
                to[r * columns + c] = param->sources[s].turned ? from[c * rows + r] : from[r * columns + c];
    }
    return true;
}

/* Loss and every gradient of batch 0. */
static inline void golden_gradients(golden *g, const char *family, double loss_tolerance, double gradient_tolerance)
{
    rig_batch b;
    int targets = golden_batch(g, &b, 0);
    g->r.scale = 1.0f / (float)targets;
    rig_run(&g->r, &b.batch);
    CHECK_INT(g->r.count, targets);
    CHECK_NEAR(g->r.loss / (double)g->r.count, *(const float *)expected(g, "%d.loss", 0)->data,
               loss_tolerance);
    int count;
    const hn_param *params = hn_model_params(g->r.model, &count);
    double worst = 0, whole = 0, size = 0;
    for (int p = 0; p < count; p++) {
        float want[8192];
        int64_t elements = params[p].rows * params[p].columns;
        if (params[p].frozen) {
            CHECK(!rig_gradient(&g->r, p));
            continue;
        }
        CHECK(elements <= 8192 && expected_gradient(g, &params[p], want));
        double e = relative_error(rig_gradient(&g->r, p), want, elements), norm = 0;
        for (int64_t i = 0; i < elements; i++) norm += (double)want[i] * want[i];
        if (!(e < gradient_tolerance))
            TEST_FAIL("%s: gradient of %s is off by %g", family, params[p].name, e);
        if (e > worst) worst = e;
        whole += e * e * norm;
        size += norm;
    }
    printf("%s %s: gradients off by at most %.2g, as a whole by %.2g\n", family, hn_dtype_name(g->r.model->precision),
           worst, sqrt(whole / size));
}

/* Logits of every row that a batch has: examples of an encoder, tokens of a decoder. */
static inline int64_t golden_logits(golden *g, const rig_batch *b, float *out)
{
    hn_tensor logits = rig_forward(&g->r, &b->batch);
    if (g->config.head != HN_HEAD_LM) {
        memcpy(out, logits.data, hn_tensor_bytes(&logits));
        return hn_tensor_count(&logits);
    }
    for (int32_t done = 0, count; done < b->batch.tokens; done += count) {
        count = b->batch.tokens - done < MAX_EXAMPLES ? b->batch.tokens - done : MAX_EXAMPLES;
        logits = rig_logits(&g->r, done, count);
        memcpy(out + done * logits.shape[1], logits.data, hn_tensor_bytes(&logits));
    }
    return b->batch.tokens * (int64_t)g->config.vocabulary;
}

/* A family's gradients, and the logits that it gives in evaluation; those of hidden tokens are never all there. */
static inline void golden_compare(const char *family, bool lora, hn_dtype precision, double logit_tolerance,
                                  double gradient_tolerance)
{
    golden g;
    if (!golden_open_with(&g, family, lora, precision)) TEST_FAIL("%s: %s", family, g.r.error.message);
    golden_gradients(&g, family, logit_tolerance, gradient_tolerance);
    g.r.forward.training = false;
    CHECK_INT(rig_replace(&g.r), HN_OK);
    for (int i = 0; i < 3 && g.config.head != HN_HEAD_MASKED; i++) {
        rig_batch b;
        float logits[MAX_TOKENS * 50];
        golden_batch(&g, &b, i);
        int64_t count = golden_logits(&g, &b, logits);
        CHECK_INT(g.r.error.status, HN_OK);
        const hn_tensor *want = expected(&g, "%d.logits", i);
        CHECK_INT(count, hn_tensor_count(want));
        double e = relative_error(logits, want->data, count);
        if (!(e < logit_tolerance)) TEST_FAIL("%s: logits of batch %d are off by %g", family, i, e);
    }
    golden_close(&g);
}

/* One segment a parameter. */
static inline int segments_of(golden *g, hn_adamw_segment *segments, float *m, float *v)
{
    int count, trained = 0;
    const hn_param *params = hn_model_params(g->r.model, &count);
    for (int i = 0; i < count; i++) {
        if (params[i].frozen) continue;
        segments[trained++] = (hn_adamw_segment){.master = hn_model_master(g->r.model) + params[i].offset,
                                         .gradient = hn_model_gradient(g->r.model, i),
                                         .m = m + params[i].offset,
                                         .v = v + params[i].offset,
                                         .copy = hnp_param_copy(g->r.model, i),
                                         .count = params[i].rows * params[i].columns,
                                         .lr_scale = 1,
                                         .weight_decay = params[i].decays ? 0.01f : 0};
    }
    return trained;
}

#define GOLDEN_STEPS 20

/* Steps of AdamW over the batches in turn, and the loss before each. */
static inline void golden_train(golden *g, double losses[GOLDEN_STEPS])
{
    hn_adamw_segment segments[128];
    rig *r = &g->r;
    int64_t elements = hn_model_param_elements(r->model);
    float *moments = rig_put(r, NULL, 2 * (size_t)elements * sizeof *moments), *corrections = rig_put(r, NULL, 3 * sizeof *corrections);
    int count = segments_of(g, segments, moments, moments + elements);
    int64_t chunks = hn_adamw_chunks(segments, count);
    hn_adamw_step *step_at = rig_put(r, NULL, sizeof *step_at);
    hn_adamw_segment *segments_at = rig_put(r, segments, (size_t)count * sizeof *segments);
    for (int step = 0; step < GOLDEN_STEPS; step++) {
        rig_batch b;
        int targets = golden_batch(g, &b, step % 3);
        r->scale = 1.0f / (float)targets;
        rig_run(r, &b.batch);
        CHECK_INT(r->error.status, HN_OK);
        losses[step] = r->loss / targets;
        const float values[3] = {1 - powf(0.9f, (float)(step + 1)), 1 - powf(0.999f, (float)(step + 1)), 1};
        const hn_adamw_step now = {.lr = 2e-3f,
                                   .beta1 = 0.9f,
                                   .beta2 = 0.999f,
                                   .epsilon = 1e-8f,
                                   .gradient_scale = 1,
                                   .correction1 = corrections,
                                   .correction2 = corrections + 1,
                                   .group_lr = corrections + 2};
        r->backend.copy_in(&r->backend, corrections, values, sizeof values);
        r->backend.copy_in(&r->backend, step_at, &now, sizeof now);
        r->ops->adamw(&r->ctx, segments_at, count, chunks, step_at);
        r->backend.synchronize(&r->backend, &r->error);
    }
}

static inline void golden_losses(golden *g, const char *family)
{
    double got[GOLDEN_STEPS];
    const float *want = expected(g, "losses", 0)->data;
    golden_train(g, got);
    for (int step = 0; step < GOLDEN_STEPS; step++)
        if (!(fabs(got[step] - want[step]) < 1e-4 * fmax(0.1, want[step])))
            TEST_FAIL("%s: loss of step %d is %.7g, expected %.7g", family, step, got[step], want[step]);
}

#endif
