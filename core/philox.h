/* Philox 4x32-10: a counter-based random generator (Salmon, Moraes, Dror, Shaw: "Parallel Random Numbers: As Easy as 1, 2, 3",
 * SC 2011, section 4). The same (key, counter) gives the same four words on every machine, so nothing depends on what ran
 * before.
 *
 * The one layout of the counter in hone; the key is the run's 64-bit seed:
 *
 *     word 0   block      element / 4 within the site; element % 4 picks the word of the result
 *     word 1   site       layer << 16 | kind << 8 | head   (HN_SITE)
 *     word 2   example    number of the example in its data set
 *     word 3   step       optimizer step, or epoch where the site is an order
 *
 * An element's number is fixed by its place in the example, never by its place in a batch: for a row of C values of the token
 * at position p it is p * C + c; for an attention probability of query i and key j it is i * 65536 + j. */
#ifndef HONE_CORE_PHILOX_H
#define HONE_CORE_PHILOX_H

#include <stdint.h>

enum {
    HN_SITE_EMBEDDING = 1,
    HN_SITE_ATTENTION = 2,   /* probabilities */
    HN_SITE_ATTENTION_OUT = 3,
    HN_SITE_MLP_OUT = 4,
    HN_SITE_HEAD = 5,
    HN_SITE_LORA = 6,
    HN_SITE_INIT = 7,        /* new parameters: example = number of the parameter */
    HN_SITE_ORDER = 8,       /* shuffling: step = epoch */
    HN_SITE_ROUNDING = 9,
    HN_SITE_MASK = 10,
    HN_SITE_SAMPLE = 11
};

#define HN_SITE(layer, kind, head) ((uint32_t)(layer) << 16 | (uint32_t)(kind) << 8 | (uint32_t)(head))

typedef struct hn_philox4 {
    uint32_t word[4];
} hn_philox4;

static inline hn_philox4 hn_philox(uint64_t seed, uint32_t block, uint32_t site, uint32_t example, uint32_t step)
{
    uint32_t c0 = block, c1 = site, c2 = example, c3 = step;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (hn_philox4){{c0, c1, c2, c3}};
}

/* Uniform in [0, 1) with 24 bits. */
static inline float hn_uniform(uint32_t word)
{
    return (float)(word >> 8) * 0x1p-24f;
}

/* An element is dropped when its word is below this. */
static inline uint32_t hn_drop_threshold(float probability)
{
    double scaled = (double)probability * 4294967296.0;
    return scaled >= 4294967295.0 ? 4294967295u : (uint32_t)scaled;
}

#endif
