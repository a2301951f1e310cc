/* Keys of dropout for tests of the norms, and what a mask drawn from them keeps, element by element. */
#ifndef HONE_TESTS_KERNELS_KEYS_TEST_H
#define HONE_TESTS_KERNELS_KEYS_TEST_H

#include "tests/kernels/ops_test.h"

static uint32_t *examples, step_number = 7;
static int32_t *positions;
static hn_random random_now;
static hn_dropout dropout_now;

static inline const hn_dropout *keys_make(int64_t rows, float probability)
{
    examples = malloc((size_t)(rows + 1) * sizeof *examples);
    positions = malloc((size_t)(rows + 1) * sizeof *positions);
    for (int64_t r = 0; r < rows; r++) examples[r] = 1000u + (uint32_t)r / 7, positions[r] = (int32_t)r % 7;
    random_now = (hn_random){123456789012345ull, &step_number, examples, positions};
    dropout_now = (hn_dropout){probability, HN_SITE(1, HN_SITE_MLP_OUT, 0), &random_now};
    return &dropout_now;
}

static inline void keys_free(void)
{
    free(examples), free(positions);
}

static inline double kept(const hn_dropout *d, int64_t r, int64_t c, int64_t columns)
{
    if (!d) return 1;
    uint64_t element = (uint64_t)positions[r] * (uint64_t)columns + (uint64_t)c;
    hn_philox4 words = hn_philox(random_now.seed, (uint32_t)(element / 4), d->site, examples[r], step_number);
    return words.word[element % 4] < hn_drop_threshold(d->probability) ? 0 : 1 / (1 - (double)d->probability);
}

#endif
