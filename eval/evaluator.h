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

/* Several processes with the same model and set evaluate it together: each runs a share of its batches, and all of them add up what all have
 * found, in the order of the batches, to the same bits as one process alone. */
typedef struct hn_share {
    int part, parts;
    /* Called once, by each process, with what its batches came to: HN_OK and `mine`, or the status of `error`. When all were HN_OK, what the
     * processes gave, one behind the other in their order (hn_free); else a failure everywhere. */
    hn_status (*gather)(void *context, hn_status status, const void *mine, size_t size, void **all, size_t *all_size, hn_error *error);
    void *context;
} hn_share;

/* Adds the whole set to `metrics` (reset first by the caller when it should be). `buffer` is the
 * host side of a batch, at least the evaluation bounds. `callback` may be NULL; *stop (may be NULL)
 * ends early with HN_ERR_INTERRUPTED. `share`: NULL, or without a callback; then 24 bytes a batch and, but for tokens, 8 bytes a row with
 * a target are kept until the end. */
hn_status hn_evaluate(hn_runner *runner, hn_batch_buffer *buffer, const hn_dataset *dataset, hn_metrics *metrics,
                      hn_logits_callback callback, void *context, const hn_share *share, const volatile int *stop, hn_error *error);

#endif
