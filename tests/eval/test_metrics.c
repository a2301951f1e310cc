/* Metrics against values worked out by hand. */
#include "eval/metrics.h"

#include "core/batch.h"
#include "core/mem.h"
#include "tests/test.h"

/* Confusion (rows true): 3 1 0 / 0 2 2 / 1 0 1. */
static const int truth[] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2};
static const int predicted[] = {0, 0, 0, 1, 1, 1, 2, 2, 0, 2};

static void fill(hn_metrics *metrics)
{
    for (int i = 0; i < 10; i++) {
        float logits[4] = {0, 0, 0, 0};
        logits[predicted[i]] = 2;
        hn_metrics_add_class(metrics, logits, truth[i]);
    }
}

TEST(classes_by_hand)
{
    hn_metrics metrics;
    hn_error error = {0};
    CHECK_OK(hn_metrics_init(&metrics, 3, 10, &error));
    fill(&metrics);
    float ignored[3] = {9, 0, 0};
    hn_metrics_add_class(&metrics, ignored, HN_NO_TARGET);
    hn_metrics_add_loss(&metrics, 5);
    CHECK_INT(metrics.count, 10);
    CHECK_NEAR(hn_metrics_loss(&metrics), 0.5, 1e-12);
    CHECK_NEAR(hn_metrics_accuracy(&metrics), 0.6, 1e-12);
    hn_class_metrics one = hn_metrics_class(&metrics, 1);
    CHECK_NEAR(one.precision, 2.0 / 3, 1e-12);
    CHECK_NEAR(one.recall, 0.5, 1e-12);
    CHECK_NEAR(one.f1, 4.0 / 7, 1e-12);
    CHECK_INT(one.support, 4);
    CHECK_NEAR(hn_metrics_macro_f1(&metrics), (0.75 + 4.0 / 7 + 0.4) / 3, 1e-12);
    /* c n - sum t p = 60 - (16 + 12 + 6); squares: predictions 4 3 3, labels 4 4 2. */
    CHECK_NEAR(hn_metrics_matthews(&metrics), 26 / (sqrt(100.0 - 34) * sqrt(100.0 - 36)), 1e-12);
    hn_metrics_reset(&metrics);
    CHECK(isnan(hn_metrics_loss(&metrics)));
    CHECK_NEAR(hn_metrics_macro_f1(&metrics), 0, 0);
    hn_metrics_close(&metrics);
}

TEST(equal_logits_predict_the_first)
{
    hn_metrics metrics;
    hn_error error = {0};
    CHECK_OK(hn_metrics_init(&metrics, 3, 1, &error));
    float logits[3] = {1, 1, 1};
    hn_metrics_add_class(&metrics, logits, 0);
    CHECK_NEAR(hn_metrics_accuracy(&metrics), 1, 0);
    hn_metrics_close(&metrics);
}

TEST(a_class_that_never_occurs_does_not_count)
{
    hn_metrics metrics;
    hn_error error = {0};
    CHECK_OK(hn_metrics_init(&metrics, 4, 10, &error));
    fill(&metrics);
    CHECK_NEAR(hn_metrics_macro_f1(&metrics), (0.75 + 4.0 / 7 + 0.4) / 3, 1e-12);
    hn_metrics_close(&metrics);
}

TEST(regression_by_hand)
{
    hn_metrics metrics;
    hn_error error = {0};
    static const float x[] = {1, 2, 3, 4, 5}, y[] = {2, 1, 4, 4, 9};
    CHECK_OK(hn_metrics_init(&metrics, 1, 6, &error));
    for (int i = 0; i < 5; i++) hn_metrics_add_value(&metrics, x[i], y[i]);
    hn_metrics_add_value(&metrics, 7, NAN);
    CHECK_INT(metrics.count, 5);
    CHECK_NEAR(hn_metrics_pearson(&metrics), 17 / sqrt(10.0 * 38), 1e-9);
    CHECK_NEAR(hn_metrics_spearman(&metrics), 8.5 / sqrt(10 * 9.5), 1e-12); /* ranks of y: 1 0 2.5 2.5 4 */
    CHECK(hn_metric_fits(HN_METRIC_PEARSON, 1) && !hn_metric_fits(HN_METRIC_PEARSON, 3));
    CHECK(hn_metric_fits(HN_METRIC_LOSS, 1) && !hn_metric_fits(HN_METRIC_ACCURACY, 1));
    hn_metrics_close(&metrics);
}

TEST(tokens_by_hand)
{
    hn_metrics metrics;
    hn_error error = {0};
    CHECK_OK(hn_metrics_init(&metrics, HN_METRICS_TOKENS, 6, &error));
    CHECK(isnan(hn_metrics_loss(&metrics)));
    hn_metrics_add_tokens(&metrics, 5, 2);
    hn_metrics_add_tokens(&metrics, 3, 1);
    hn_metrics_add_loss(&metrics, 4);
    hn_metrics_add_loss(&metrics, 2);
    CHECK_NEAR(hn_metrics_loss(&metrics), 0.75, 0);
    CHECK_NEAR(hn_metrics_value(&metrics, HN_METRIC_PERPLEXITY), 2.117000016612675, 1e-12);
    CHECK_NEAR(hn_metrics_value(&metrics, HN_METRIC_ACCURACY), 0.375, 0);
    for (int m = 0; m < HN_METRIC_COUNT; m++) CHECK_INT(hn_metric_fits((hn_metric)m, HN_METRICS_TOKENS), m <= HN_METRIC_ACCURACY);
    CHECK(!hn_metric_fits(HN_METRIC_PERPLEXITY, 3) && !hn_metric_fits(HN_METRIC_PERPLEXITY, 1));
    CHECK(hn_metric_lower_is_better(HN_METRIC_PERPLEXITY) && !hn_metric_lower_is_better(HN_METRIC_ACCURACY));
    hn_metrics_reset(&metrics);
    CHECK_INT(metrics.count + metrics.correct, 0);
    hn_metrics_close(&metrics);
}

TEST(out_of_memory)
{
    hn_metrics metrics;
    hn_error error = {0};
    for (int labels = 1; labels <= 2; labels++) {
        hn_status status = HN_ERR_MEMORY;
        for (size_t n = 1; status != HN_OK; n++) {
            hn_mem_fail_at(n);
            hn_error_reset(&error);
            status = hn_metrics_init(&metrics, labels, 4, &error);
            hn_mem_fail_at(0);
            CHECK(status == HN_OK || (status == HN_ERR_MEMORY && error.message[0]));
        }
        hn_metrics_close(&metrics);
    }
}

TEST_MAIN(RUN(classes_by_hand); RUN(equal_logits_predict_the_first); RUN(a_class_that_never_occurs_does_not_count);
          RUN(regression_by_hand); RUN(tokens_by_hand); RUN(out_of_memory))
