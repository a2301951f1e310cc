/* See metrics.h. Counts are integers and sums are taken in the order of the set, so the figures do not depend on batching. */
#include "eval/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/batch.h"
#include "core/json.h"
#include "core/mem.h"

hn_status hn_metrics_init(hn_metrics *metrics, int labels, int64_t expected, hn_error *error)
{
    HN_ASSERT(labels >= 0);
    *metrics = (hn_metrics){.labels = labels};
    if (labels > 1) {
        metrics->confusion = hn_calloc((size_t)labels * (size_t)labels, sizeof *metrics->confusion);
        if (!metrics->confusion) return hn_fail(error, HN_ERR_MEMORY, "out of memory for a confusion matrix");
    } else if (labels == 1 && expected <= HN_METRICS_RANKED) {
        metrics->ranked_capacity = expected;
        metrics->ranked_x = hn_malloc((size_t)expected * sizeof *metrics->ranked_x);
        metrics->ranked_y = hn_malloc((size_t)expected * sizeof *metrics->ranked_y);
        if (!metrics->ranked_x || !metrics->ranked_y) {
            hn_metrics_close(metrics);
            return hn_fail(error, HN_ERR_MEMORY, "out of memory for the ranks of %lld examples", (long long)expected);
        }
    }
    return HN_OK;
}

void hn_metrics_reset(hn_metrics *metrics)
{
    if (metrics->confusion)
        memset(metrics->confusion, 0, (size_t)metrics->labels * (size_t)metrics->labels * sizeof *metrics->confusion);
    metrics->loss_sum = 0;
    metrics->count = metrics->correct = metrics->ranked = 0;
    metrics->mean_x = metrics->mean_y = metrics->m_xx = metrics->m_yy = metrics->m_xy = 0;
}

void hn_metrics_close(hn_metrics *metrics)
{
    hn_free(metrics->confusion);
    hn_free(metrics->ranked_x);
    hn_free(metrics->ranked_y);
    *metrics = (hn_metrics){0};
}

int32_t hn_metrics_predict(const float *logits, int labels)
{
    int32_t best = 0;
    for (int k = 1; k < labels; k++)
        if (logits[k] > logits[best]) best = k;
    return best;
}

void hn_metrics_add_class(hn_metrics *metrics, const float *logits, int32_t label)
{
    if (label != HN_NO_TARGET) hn_metrics_add_prediction(metrics, hn_metrics_predict(logits, metrics->labels), label);
}

void hn_metrics_add_prediction(hn_metrics *metrics, int32_t prediction, int32_t label)
{
    HN_ASSERT(metrics->labels > 1 && label >= 0 && label < metrics->labels && prediction >= 0 && prediction < metrics->labels);
    metrics->confusion[(int64_t)label * metrics->labels + prediction]++;
    metrics->count++;
}

void hn_metrics_add_value(hn_metrics *metrics, float prediction, float value)
{
    HN_ASSERT(metrics->labels == 1);
    if (isnan(value)) return;
    double n = (double)++metrics->count;
    double dx = prediction - metrics->mean_x, dy = value - metrics->mean_y;
    metrics->mean_x += dx / n;
    metrics->mean_y += dy / n;
    metrics->m_xx += dx * (prediction - metrics->mean_x);
    metrics->m_yy += dy * (value - metrics->mean_y);
    metrics->m_xy += dx * (value - metrics->mean_y);
    if (metrics->ranked < metrics->ranked_capacity) {
        metrics->ranked_x[metrics->ranked] = prediction;
        metrics->ranked_y[metrics->ranked++] = value;
    }
}

void hn_metrics_add_tokens(hn_metrics *metrics, int64_t count, int64_t correct)
{
    HN_ASSERT(metrics->labels == HN_METRICS_TOKENS);
    metrics->count += count;
    metrics->correct += correct;
}

void hn_metrics_add_loss(hn_metrics *metrics, double sum)
{
    metrics->loss_sum += sum;
}

static double ratio(double numerator, double denominator)
{
    return denominator != 0 ? numerator / denominator : 0;
}

double hn_metrics_loss(const hn_metrics *metrics)
{
    return metrics->count ? metrics->loss_sum / (double)metrics->count : NAN;
}

double hn_metrics_perplexity(const hn_metrics *metrics)
{
    return exp(hn_metrics_loss(metrics));
}

static int64_t cell(const hn_metrics *metrics, int label, int predicted)
{
    return metrics->confusion[(int64_t)label * metrics->labels + predicted];
}

double hn_metrics_accuracy(const hn_metrics *metrics)
{
    int64_t right = metrics->correct;
    for (int k = 0; metrics->confusion && k < metrics->labels; k++) right += cell(metrics, k, k);
    return ratio((double)right, (double)metrics->count);
}

/* How often class `label` is the true one and the predicted one. */
static void class_totals(const hn_metrics *metrics, int label, int64_t *truth, int64_t *predicted)
{
    *truth = *predicted = 0;
    for (int k = 0; k < metrics->labels; k++) {
        *truth += cell(metrics, label, k);
        *predicted += cell(metrics, k, label);
    }
}

hn_class_metrics hn_metrics_class(const hn_metrics *metrics, int label)
{
    int64_t truth, predicted;
    class_totals(metrics, label, &truth, &predicted);
    double hits = (double)cell(metrics, label, label);
    return (hn_class_metrics){.precision = ratio(hits, (double)predicted),
                              .recall = ratio(hits, (double)truth),
                              .f1 = ratio(2 * hits, (double)(truth + predicted)),
                              .support = truth};
}

double hn_metrics_macro_f1(const hn_metrics *metrics)
{
    double sum = 0;
    int present = 0;
    for (int k = 0; metrics->confusion && k < metrics->labels; k++) {
        int64_t truth, predicted;
        class_totals(metrics, k, &truth, &predicted);
        if (!truth && !predicted) continue;
        present++;
        sum += hn_metrics_class(metrics, k).f1;
    }
    return ratio(sum, present);
}

double hn_metrics_matthews(const hn_metrics *metrics)
{
    double n = (double)metrics->count, right = 0, cross = 0, truth2 = 0, predicted2 = 0;
    for (int k = 0; metrics->confusion && k < metrics->labels; k++) {
        int64_t truth, predicted;
        class_totals(metrics, k, &truth, &predicted);
        right += (double)cell(metrics, k, k);
        cross += (double)truth * (double)predicted;
        truth2 += (double)truth * (double)truth;
        predicted2 += (double)predicted * (double)predicted;
    }
    return ratio(right * n - cross, sqrt(n * n - predicted2) * sqrt(n * n - truth2));
}

double hn_metrics_pearson(const hn_metrics *metrics)
{
    return ratio(metrics->m_xy, sqrt(metrics->m_xx) * sqrt(metrics->m_yy));
}

typedef struct ranked_value {
    float value;
    int64_t index;
} ranked_value;

static int by_value(const void *a, const void *b)
{
    const ranked_value *left = a, *right = b;
    if (left->value != right->value) return left->value < right->value ? -1 : 1;
    return left->index < right->index ? -1 : left->index > right->index;
}

/* ranks[i] = rank of values[i], ties sharing their mean; `order` is scratch. */
static void rank(double *ranks, ranked_value *order, const float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) order[i] = (ranked_value){values[i], i};
    qsort(order, (size_t)count, sizeof *order, by_value);
    for (int64_t i = 0; i < count;) {
        int64_t end = i + 1;
        while (end < count && order[end].value == order[i].value) end++;
        for (int64_t j = i; j < end; j++) ranks[order[j].index] = 0.5 * (double)(i + end - 1);
        i = end;
    }
}

double hn_metrics_spearman(const hn_metrics *metrics)
{
    int64_t n = metrics->ranked;
    if (n != metrics->count || metrics->labels != 1) return NAN;
    double *x = hn_malloc((size_t)n * sizeof *x), *y = hn_malloc((size_t)n * sizeof *y);
    ranked_value *order = hn_malloc((size_t)n * sizeof *order);
    double result = NAN;
    if (x && y && order) {
        rank(x, order, metrics->ranked_x, n);
        rank(y, order, metrics->ranked_y, n);
        double mean = 0.5 * (double)(n - 1), xy = 0, xx = 0, yy = 0;
        for (int64_t i = 0; i < n; i++) {
            xy += (x[i] - mean) * (y[i] - mean);
            xx += (x[i] - mean) * (x[i] - mean);
            yy += (y[i] - mean) * (y[i] - mean);
        }
        result = ratio(xy, sqrt(xx) * sqrt(yy));
    }
    hn_free(x);
    hn_free(y);
    hn_free(order);
    return result;
}

const char *hn_metric_name(hn_metric metric)
{
    static const char *const names[] = {"loss",     "perplexity", "accuracy", "macro_f1", "matthews", "pearson", "spearman"};
    return names[metric];
}

double hn_metrics_value(const hn_metrics *metrics, hn_metric metric)
{
    switch (metric) {
    case HN_METRIC_LOSS: return hn_metrics_loss(metrics);
    case HN_METRIC_PERPLEXITY: return hn_metrics_perplexity(metrics);
    case HN_METRIC_ACCURACY: return hn_metrics_accuracy(metrics);
    case HN_METRIC_MACRO_F1: return hn_metrics_macro_f1(metrics);
    case HN_METRIC_MATTHEWS: return hn_metrics_matthews(metrics);
    case HN_METRIC_PEARSON: return hn_metrics_pearson(metrics);
    default: return hn_metrics_spearman(metrics);
    }
}

bool hn_metric_fits(hn_metric metric, int labels)
{
    switch (metric) {
    case HN_METRIC_LOSS: return true;
    case HN_METRIC_PERPLEXITY: return labels == HN_METRICS_TOKENS;
    case HN_METRIC_ACCURACY: return labels != 1;
    case HN_METRIC_PEARSON:
    case HN_METRIC_SPEARMAN: return labels == 1;
    default: return labels > 1;
    }
}

bool hn_metric_lower_is_better(hn_metric metric)
{
    return metric == HN_METRIC_LOSS || metric == HN_METRIC_PERPLEXITY;
}

void hn_metrics_describe_classes(const hn_metrics *metrics, const hn_labels *labels, hn_strbuf *out)
{
    for (int k = 0; k < metrics->labels; k++) {
        hn_class_metrics one = hn_metrics_class(metrics, k);
        const char *name = hn_labels_name(labels, k);
        hn_strbuf_puts(out, k ? ", " : "{");
        hn_json_quote(out, name, strlen(name));
        hn_strbuf_printf(out, ": {\"precision\": %.9g, \"recall\": %.9g, \"f1\": %.9g, \"support\": %lld}", one.precision,
                         one.recall, one.f1, (long long)one.support);
    }
    hn_strbuf_putc(out, '}');
}

void hn_metrics_describe_confusion(const hn_metrics *metrics, hn_strbuf *out)
{
    for (int k = 0; k < metrics->labels; k++)
        for (int j = 0; j < metrics->labels; j++)
            hn_strbuf_printf(out, "%s%lld", j ? ", " : k ? "], [" : "[[", (long long)cell(metrics, k, j));
    hn_strbuf_puts(out, "]]");
}
