/* Attention over sequences laid end to end (Vaswani et al. 2017; backward by the log of the sum of exponents as in Dao et al. 2022).
 *
 *     s_ij = scale q_i . k_j      p = softmax_j(s)      o_i = sum over j of dropout(p)_ij v_j      per head
 *
 * q, o [Tq, heads * D], k, v [Tk, kv_heads * D], strided views of one type; heads / kv_heads query heads in a row share one K/V
 * head. D is a multiple of 8 up to 256, scale is positive. With `causal` query i sees the keys j <= q_position[i]. A query that sees no key gets
 * o = 0. With k_count the keys of a sequence are the first so many of its places (a cache that fills up); forward only. lse fp32 [heads, Tq]: log sum over j of exp(s_ij), -inf for a query without a key; NULL: not kept.
 * With ctx->few_rows the only query of a sequence with k_count is computed another way, with other last bits.
 * Dropout of the probability of query i and key j of a head: site + head, element random->position[i] * 65536 + j. */
#ifndef HONE_KERNELS_ATTENTION_H
#define HONE_KERNELS_ATTENTION_H

#include "kernels/isa.h"
#include "kernels/ops.h"

void HN_ISA_NAME(hnp_attention_forward)(hn_ops_context *ctx, const hn_tensor *o, float *lse, const hn_tensor *q,
                                        const hn_tensor *k, const hn_tensor *v, const hn_attention *attention);
/* Overwrites dq, dk, dv. With P the dropped-out probabilities, delta_i = do_i . o_i:
 *
 *     dv = P^T do      ds = p (dropout(do v^T) - delta) scale      dq = ds k      dk = ds^T q
 *
 * summed over the query heads of a K/V head for dk and dv. */
void HN_ISA_NAME(hnp_attention_backward)(hn_ops_context *ctx, const hn_tensor *dq, const hn_tensor *dk,
                                         const hn_tensor *dv, const hn_tensor *d_o, const hn_tensor *o,
                                         const float *lse, const hn_tensor *q, const hn_tensor *k, const hn_tensor *v,
                                         const hn_attention *attention);
size_t HN_ISA_NAME(hnp_attention_workspace)(int64_t longest, int64_t head_size, int threads);

#endif
