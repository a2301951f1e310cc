/* The next token of each row of logits, as transformers' generate chooses it (generation/logits_process.py of transformers 5), its
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
 * Where the reference leaves the order of equal scores open, the lower id comes first.
 *
 * id[r] = the token of row r, whose bit in `seen` is set; HN_NO_TOKEN for a row that holds a NaN or +inf, or nothing finite, also once
 * divided by the temperature. logits fp32 [n, V], one token at least, rows may be apart; they may be changed. A row knows nothing of the
 * others. Places are distinct and lie in `seen`.
 *
 * What is drawn: tokens in rising order of ids, each as wide as its weight exp(score - highest); u * the sum of all falls on one of them,
 * where u has 53 bits of Philox at (seed, HN_SITE_SAMPLE, example, position). Scores, and all that goes by their order (greedy, top_k), are
 * the same on the CPU and on a GPU, bit for bit. Weights are fp64 on the CPU, added up in the order of the walk; on a GPU they are whole
 * multiples of 2^-44 (the likeliest has 1), so that any order gives the same sum. So sums are apart by less than V 2^-44, and the choice
 * can differ only where the number falls so near to the end of a token, or the end of top_p so near to a token. */
#ifndef HONE_KERNELS_CHOOSE_TOKENS_H
#define HONE_KERNELS_CHOOSE_TOKENS_H

#include "kernels/isa.h"
#include "kernels/ops.h"

#define HNP_CHOOSE_MOST (1 << 19) /* tokens of a vocabulary, so that weights add up in 64 bits */

void HN_ISA_NAME(hnp_choose_tokens)(hn_ops_context *ctx, int32_t *id, const hn_tensor *logits, const hn_next_tokens *next,
                                    const hn_sampling *sampling);
/* Scratch on the CPU; a GPU takes none. */
size_t HN_ISA_NAME(hnp_choose_tokens_workspace)(int64_t vocabulary);

#endif
