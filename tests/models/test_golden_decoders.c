/* Decoders against the reference implementation: logits of every token, loss, every gradient and 20 training losses of tiny
 * models of each family. */
#include "tests/models/golden.h"

static const char *const families[] = {"gpt2", "llama", "mistral", "qwen2", "qwen3"};
#define FAMILIES (int)(sizeof families / sizeof *families)

TEST(fp32)
{
    for (int f = 0; f < FAMILIES; f++) golden_compare(families[f], false, HN_F32, 1e-5, 1e-5);
}

TEST(bf16)
{
    for (int f = 0; f < FAMILIES; f++) golden_compare(families[f], false, HN_BF16, 2e-2, 6e-2);
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
