/* Choosing the next token from logits, as transformers' generate does it (generation/logits_process.py of transformers 5), its
 * processors in its order:
 *
 *     1  repetition_penalty  of every token that is there already (prompt and answer): score / p when it is positive, else score * p
 *                            (Keskar et al. 2019, "CTRL", section 4.1)
 *        temperature 0: the highest score, the lowest id among equals, and nothing of the rest
 *     2  temperature         score / temperature
 *     3  top_k               only tokens whose score is among the k highest; ties with the last of them stay
 *     4  top_p               only the likeliest tokens: those before which less than top_p of the probability stands
 *                            (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration")
 *     5  min_p               only tokens at least min_p times as likely as the likeliest (Nguyen et al. 2024, "Min-p Sampling")
 *     6  one of what is left, by its probability
 *
 * Where the reference leaves the order of equal scores open, the lower id comes first. */
#ifndef HONE_INFER_SAMPLE_H
#define HONE_INFER_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

typedef struct hn_sampling {
    float temperature;        /* 0: greedy */
    int32_t top_k;            /* 0: off */
    float top_p;              /* (0, 1]; 1: off */
    float min_p;              /* [0, 1]; 0: off */
    float repetition_penalty; /* above 0; 1: off */
    uint64_t seed;
} hn_sampling;
#define HN_SAMPLING_GREEDY ((hn_sampling){.top_p = 1, .repetition_penalty = 1})

/* What a draw is keyed by beside the seed, so that it depends on nothing that ran before or beside it. */
typedef struct hn_sample_key {
    uint32_t example; /* number of the prompt */
    uint32_t position; /* of the token that is chosen, in its sequence */
} hn_sample_key;

/* Scratch for one vocabulary. */
typedef struct hn_sampler {
    int32_t vocabulary;
    struct hn_candidate {
        float score;
        int32_t id;
    } *candidates; /* [vocabulary] */
    uint8_t *seen; /* [vocabulary] zeros between calls */
} hn_sampler;
#define HN_SAMPLER_BYTES (sizeof(struct hn_candidate) + 1) /* of scratch, a token of the vocabulary */

hn_status hn_sampler_init(hn_sampler *sampler, int32_t vocabulary, hn_error *error);
void hn_sampler_close(hn_sampler *sampler);
/* Chooses from logits [vocabulary], which are changed. `there`: the ids of the sequence so far, for the penalty. A NaN or
 * no finite logit at all is an error. */
hn_status hn_sampler_choose(hn_sampler *sampler, int32_t *out, float *logits, const hn_sampling *sampling,
                            const int32_t *there, size_t count, hn_sample_key key, hn_error *error);

#endif
