/* Decoders against the reference implementation: logits of every token, loss, every gradient and 20 training losses of tiny
 * models of each family. */
#include "tests/models/golden.h"

static const char *const families[] = {"gpt2", "llama", "mistral", "qwen2", "qwen3"};
#define FAMILIES (int)(sizeof families / sizeof *families)

/* Logits of every token of a batch, a few rows at a time. */
static void all_logits(rig *r, const rig_batch *b, float *out)
{
    int32_t row[MAX_TOKENS];
    for (int32_t i = 0; i < MAX_TOKENS; i++) row[i] = i;
    hn_model_forward(r->model, &r->ctx, &b->batch, &r->forward);
    for (int32_t done = 0; done < b->batch.tokens;) {
        int32_t count = b->batch.tokens - done < MAX_EXAMPLES ? b->batch.tokens - done : MAX_EXAMPLES;
        hn_tensor logits = hn_model_logits(r->model, &r->ctx, row + done, count);
        memcpy(out + done * logits.shape[1], logits.data, hn_tensor_bytes(&logits));
        done += count;
    }
}

static void compare(const char *family, hn_dtype precision, double logit_tolerance, double gradient_tolerance)
{
    golden g;
    if (!golden_open(&g, family, precision)) TEST_FAIL("%s: %s", family, g.r.error.message);
    golden_gradients(&g, family, logit_tolerance, gradient_tolerance);
    g.r.forward.training = false;
    CHECK_INT(rig_replace(&g.r), HN_OK);
    for (int i = 0; i < 3; i++) {
        rig_batch b;
        float logits[MAX_TOKENS * 50];
        golden_batch(&g, &b, i);
        all_logits(&g.r, &b, logits);
        CHECK_INT(g.r.error.status, HN_OK);
        const hn_tensor *want = expected(&g, "%d.logits", i);
        double e = relative_error(logits, want->data, hn_tensor_count(want));
        if (!(e < logit_tolerance)) TEST_FAIL("%s: logits of batch %d are off by %g", family, i, e);
    }
    golden_close(&g);
}

TEST(fp32)
{
    for (int f = 0; f < FAMILIES; f++) compare(families[f], HN_F32, 1e-5, 1e-5);
}

TEST(bf16)
{
    for (int f = 0; f < FAMILIES; f++) compare(families[f], HN_BF16, 2e-2, 6e-2);
}

TEST(twenty_training_losses)
{
    for (int f = 0; f < FAMILIES; f++) {
        golden g;
        if (!golden_open(&g, families[f], HN_F32)) TEST_FAIL("%s: %s", families[f], g.r.error.message);
        golden_losses(&g, families[f]);
        golden_close(&g);
    }
}

TEST_MAIN(hn_json_init(); RUN(fp32); RUN(bf16); RUN(twenty_training_losses))
