/* Runs a model over a data set in file order and sums its metrics. Memory does not depend on the size of the set: the
 * runner's activations serve, laid out for evaluation here (a trainer calls hn_runner_use again afterwards). Nothing of a
 * training run is changed: no random number is drawn, and the order is the file's. */
#ifndef HONE_EVAL_EVALUATOR_H
#define HONE_EVAL_EVALUATOR_H

#include "data/dataset.h"
#include "eval/metrics.h"
#include "infer/runner.h"

/* Called with the logits of each batch, in order: [n, labels], of tags [T, labels], and the host batch. A failure ends the evaluation. Not for
 * models of language, whose logits are never all there. */
typedef hn_status (*hn_logits_callback)(void *context, const float *logits, int labels, const hn_batch *batch,
                                        hn_error *error);

/* Adds the whole set to `metrics` (reset first by the caller when it should be). `buffer` is the
 * host side of a batch, at least the evaluation bounds. `callback` may be NULL; *stop (may be NULL)
 * ends early with HN_ERR_INTERRUPTED. */
hn_status hn_evaluate(hn_runner *runner, hn_batch_buffer *buffer, const hn_dataset *dataset, hn_metrics *metrics,
                      hn_logits_callback callback, void *context, const volatile int *stop, hn_error *error);

#endif
