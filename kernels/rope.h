/* Rotary position embedding (Su et al. 2021, section 3.4), in the layout that halves a head (GPT-NeoX, Hugging Face's Llama). In
 * place, for each head (a, b) of D columns, a and b its halves, and each i < D / 2, with p the row's position:
 *
 *     a_i' = a_i cos(p f_i) - b_i sin(p f_i)        b_i' = b_i cos(p f_i) + a_i sin(p f_i)
 *
 * x [T, heads * D], fp32 or bf16, usually a view: the columns of q, of k, or of both at once where they are neighbours. table fp32
 * [P, D], dense: row p holds the D / 2 cosines, then the sines (kernels/rope_table.h fills it); its width says D, which is even.
 * position [T]; one outside [0, P) is an error and nothing is rotated. `backward` turns by the negative angle, which is
 * the transpose: it makes the gradient of x out of that of x'. */
#ifndef HONE_KERNELS_ROPE_H
#define HONE_KERNELS_ROPE_H

#include "kernels/isa.h"
#include "kernels/ops.h"

void HN_ISA_NAME(hnp_rope)(hn_ops_context *ctx, const hn_tensor *x, const hn_tensor *table, const int32_t *position,
                           bool backward);

#endif
