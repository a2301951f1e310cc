/* Metrics of a set, from sums that do not grow with it: a confusion matrix for classes, moments for regression, counts for
 * tokens.
 * Spearman's rank correlation alone needs every value; it is kept for sets of at most HN_METRICS_RANKED examples and is NaN
 * beyond. */
#ifndef HONE_EVAL_METRICS_H
#define HONE_EVAL_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/strbuf.h"
#include "data/labels.h"

#define HN_METRICS_RANKED (1 << 20)
#define HN_METRICS_TOKENS 0

typedef struct hn_metrics {
    int labels;         /* classes; 1: regression; HN_METRICS_TOKENS: tokens that are predicted */
    double loss_sum;
    int64_t count;      /* examples, or tokens, with a target */
    int64_t correct;    /* of tokens */
    int64_t *confusion; /* [labels, labels] rows true, columns predicted; NULL for regression */
    /* Regression: Welford's running mean and moments of prediction (x) and value (y). */
    double mean_x, mean_y, m_xx, m_yy, m_xy;
    float *ranked_x, *ranked_y; /* [ranked_capacity] */
    int64_t ranked, ranked_capacity;
} hn_metrics;

hn_status hn_metrics_init(hn_metrics *metrics, int labels, int64_t expected, hn_error *error);
void hn_metrics_reset(hn_metrics *metrics);
void hn_metrics_close(hn_metrics *metrics);

/* One row of logits (fp32 [labels]) and its label; the first of equal largest logits is predicted. HN_NO_TARGET: not counted. */
void hn_metrics_add_class(hn_metrics *metrics, const float *logits, int32_t label);
int32_t hn_metrics_predict(const float *logits, int labels);
/* The same of what is predicted. */
void hn_metrics_add_prediction(hn_metrics *metrics, int32_t prediction, int32_t label);
/* One prediction; a NaN value has no target. */
void hn_metrics_add_value(hn_metrics *metrics, float prediction, float value);
void hn_metrics_add_tokens(hn_metrics *metrics, int64_t count, int64_t correct);
void hn_metrics_add_loss(hn_metrics *metrics, double sum);

double hn_metrics_loss(const hn_metrics *metrics); /* mean over the targets */
double hn_metrics_perplexity(const hn_metrics *metrics); /* exp of the loss */
double hn_metrics_accuracy(const hn_metrics *metrics);
/* Precision, recall and F1 of one class; 0 where the denominator is 0, as scikit-learn's zero_division=0. */
typedef struct hn_class_metrics {
    double precision, recall, f1;
    int64_t support;
} hn_class_metrics;
hn_class_metrics hn_metrics_class(const hn_metrics *metrics, int label);
double hn_metrics_macro_f1(const hn_metrics *metrics); /* over classes that occur as label or as prediction */
/* Matthews correlation of K classes (Gorodkin 2004, R_K); 0 where undefined. */
double hn_metrics_matthews(const hn_metrics *metrics);
double hn_metrics_pearson(const hn_metrics *metrics);
double hn_metrics_spearman(const hn_metrics *metrics); /* ties get their mean rank; NaN when not kept or out of memory */

/* A metric by its config name: "loss", "perplexity", "accuracy", "macro_f1", "matthews", "pearson", "spearman". */
typedef enum hn_metric {
    HN_METRIC_LOSS,
    HN_METRIC_PERPLEXITY,
    HN_METRIC_ACCURACY,
    HN_METRIC_MACRO_F1,
    HN_METRIC_MATTHEWS,
    HN_METRIC_PEARSON,
    HN_METRIC_SPEARMAN
} hn_metric;
#define HN_METRIC_COUNT (HN_METRIC_SPEARMAN + 1)
#define HN_METRIC_CHOICES "loss|perplexity|accuracy|macro_f1|matthews|pearson|spearman"
const char *hn_metric_name(hn_metric metric);
double hn_metrics_value(const hn_metrics *metrics, hn_metric metric);
bool hn_metric_fits(hn_metric metric, int labels); /* labels as in hn_metrics: accuracy needs classes or tokens, ... */
bool hn_metric_lower_is_better(hn_metric metric);

/* As JSON: {"name": {"precision", "recall", "f1", "support"}, ...}, and the confusion matrix as an array of rows. */
void hn_metrics_describe_classes(const hn_metrics *metrics, const hn_labels *labels, hn_strbuf *out);
void hn_metrics_describe_confusion(const hn_metrics *metrics, hn_strbuf *out);

#endif
