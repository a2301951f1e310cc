/* Twenty training steps of tiny models through the GPU's table beside the same steps through the CPU's: every loss, fp32 and bf16. */
#include "tests/models/golden.h"

static const char *const families[] = {"bert", "gpt2", "llama"};

static void train_on(const char *device, const char *family, hn_dtype precision, double losses[GOLDEN_STEPS])
{
    golden g;
    CHECK(!setenv("HONE_TEST_DEVICE", device, 1));
    if (!golden_open(&g, family, precision)) TEST_FAIL("%s: %s", family, g.r.error.message);
    golden_train(&g, losses);
    golden_close(&g);
}

/* bf16: what rounding of weights and activations does to a loss of about 3, as on either device against fp32. */
TEST(losses_are_the_cpus)
{
    for (size_t f = 0; f < sizeof families / sizeof *families; f++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            double cpu[GOLDEN_STEPS], gpu[GOLDEN_STEPS], worst = 0;
            hn_dtype precision = bf16 ? HN_BF16 : HN_F32;
            train_on("cpu", families[f], precision, cpu);
            train_on("cuda", families[f], precision, gpu);
            for (int step = 0; step < GOLDEN_STEPS; step++) {
                double apart = fabs(gpu[step] - cpu[step]) / fmax(0.1, cpu[step]);
                if (!(apart <= worst)) worst = apart;
            }
            printf("%s %s: %d losses, %.4f to %.4f, apart by at most %.2g\n", families[f], hn_dtype_name(precision), GOLDEN_STEPS, cpu[0],
                   cpu[GOLDEN_STEPS - 1], worst);
            CHECK(worst < (bf16 ? 1e-2 : 1e-5));
            CHECK(cpu[GOLDEN_STEPS - 1] < cpu[0]);
        }
}

TEST_MAIN(hn_json_init(); RUN(losses_are_the_cpus))
