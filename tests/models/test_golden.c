/* Encoders against the reference implementation: logits, loss, every gradient and 20 training losses of tiny models. */
#include "tests/models/golden.h"

static const char *const families[] = {"bert",        "roberta",        "distilbert",
                                       "bert_masked", "roberta_masked", "distilbert_masked",
                                       "bert_tags",   "roberta_tags",   "distilbert_tags"};

TEST(fp32)
{
    for (int f = 0; f < 3; f++) golden_compare(families[f], false, HN_F32, 1e-5, 1e-5);
}

TEST(bf16)
{
    for (int f = 0; f < 3; f++) golden_compare(families[f], false, HN_BF16, 2e-2, 6e-2);
}

/* Hidden tokens and tags: loss and every gradient. */
TEST(tokens)
{
    for (int f = 3; f < 9; f++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            golden g;
            if (!golden_open(&g, families[f], bf16 ? HN_BF16 : HN_F32)) TEST_FAIL("%s: %s", families[f], g.r.error.message);
            golden_gradients(&g, families[f], bf16 ? 2e-2 : 1e-5, bf16 ? 6e-2 : 1e-5);
            golden_close(&g);
        }
}

TEST(twenty_training_losses)
{
    for (int f = 0; f < 9; f++) {
        golden g;
        if (!golden_open(&g, families[f], HN_F32)) TEST_FAIL("%s: %s", families[f], g.r.error.message);
        golden_losses(&g, families[f]);
        golden_close(&g);
    }
}

TEST_MAIN(hn_json_init(); RUN(fp32); RUN(bf16); RUN(tokens); RUN(twenty_training_losses))
