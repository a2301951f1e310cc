/* Classes that a model was never trained on, by inference (Yin, Hay, Roth 2019, section 5): an encoder that knows which of two texts
 * entails the other reads a text beside one sentence a label, "This example is sports.", and the label whose sentence it finds most
 * entailed is chosen.
 *
 *     e[k] = logit of entailment, c[k] = that of contradiction, of the pair (text, sentence of label k)
 *     one label fits:        score[k] = exp(e[k]) / sum_j exp(e[j])
 *     each may fit or not:   score[k] = exp(e[k]) / (exp(e[k]) + exp(c[k]))
 *
 * which is what transformers' ZeroShotClassificationPipeline computes. The text is cut where a pair is too long, never the sentence. */
#ifndef HONE_EVAL_ZERO_SHOT_H
#define HONE_EVAL_ZERO_SHOT_H

#include "core/config.h"
#include "data/dataset.h"
#include "data/reader.h"
#include "infer/runner.h"

#define HN_ZERO_SHOT_LABELS 1024 /* at most */

typedef struct hn_zero_shot_options {
    const hn_list *files; /* "-" is standard input */
    hn_data_format format;
    const char *text, *label; /* fields; label NULL: "label", where the first row has it */
    const hn_list *names;     /* the labels */
    const hn_labels *labels;  /* the same, to tell rows' by; NULL: labels of rows are not read */
    const char *hypothesis;   /* with one {}, where the label goes */
    bool multi_label;
    int entailment, contradiction; /* the model's outputs; contradiction is read for multi_label */
    int32_t max_tokens;            /* of a pair */
    int threads;                   /* that encode; 0: one a core */
} hn_zero_shot_options;

typedef struct hn_zero_shot_row {
    const char *path;
    int64_t line;
    const double *score; /* [names] */
    const float *margin; /* [names] what the scores go by: e, or e - c */
    int32_t chosen;      /* of equal margins the first */
    int32_t answer;      /* the row's own label, or HN_NO_TARGET */
    double loss;         /* where it has one: minus the log of its score; for multi_label the mean over the labels of minus the log
                            of each being right */
} hn_zero_shot_row;
typedef hn_status (*hn_zero_shot_callback)(void *context, const hn_zero_shot_row *row, hn_error *error);

typedef struct hn_zero_shot_report {
    hn_bad_rows bad;    /* bad.skip is the caller's */
    int64_t rows;       /* that were good */
    int64_t unlabeled;  /* of these, in files with labels: "-" or -1 */
    int64_t cut;        /* pairs */
    bool labelled;      /* rows have labels: known before the first is told of */
} hn_zero_shot_report;

/* Checks the labels. *out (hn_labels_free) tells those of rows, through `map`; NULL when there is one alone, which multi_label allows. */
hn_status hn_zero_shot_labels(hn_labels **out, const hn_list *names, const hn_map *map, bool multi_label, hn_error *error);
hn_status hn_zero_shot_check_hypothesis(const char *hypothesis, hn_error *error);
/* The outputs of a model whose classes are `labels` that mean entailment and, for multi_label, contradiction: those of the names given;
 * else (NULL) the one that begins with "entail", and "contra" or the only other one, in any case. */
hn_status hn_zero_shot_outputs(int *entailment, int *contradiction, const hn_labels *labels, const char *entailed,
                               const char *contradicted, bool multi_label, hn_error *error);
/* Calls `callback` for each text in order. The model has a head for classes; `buffer` is as for hn_evaluate, and both hold a sequence of
 * max_tokens. Memory does not grow with the files. *stop (may be NULL) ends it with HN_ERR_INTERRUPTED. */
hn_status hn_zero_shot_run(hn_runner *runner, hn_batch_buffer *buffer, const hn_tokenizer *tokenizer,
                           const hn_zero_shot_options *options, hn_zero_shot_report *report, hn_zero_shot_callback callback,
                           void *context, const volatile int *stop, hn_error *error);

#endif
