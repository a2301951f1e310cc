/* Choosing tokens: each rule worked out by hand, all of them against a plain version that sorts everything, and how often tokens are
 * drawn. */
#include "infer/sample.h"

#include <stdbool.h>

#include "core/mem.h"
#include "core/philox.h"
#include "tests/test.h"

enum { MOST = 512, DRAWS = 4000 };

/* Which of the tokens come out in many draws, as a string of 0 and 1; "" when one fails. */
static const char *drawn(const float *logits, int32_t count, hn_sampling sampling)
{
    static char found[MOST + 1];
    hn_error error = {0};
    hn_sampler sampler;
    if (hn_sampler_init(&sampler, count, &error) != HN_OK) return "";
    memset(found, '0', sizeof found);
    found[count] = '\0';
    for (uint32_t i = 0; i < DRAWS; i++) {
        float copy[MOST];
        int32_t id = -1;
        memcpy(copy, logits, (size_t)count * sizeof *copy);
        if (hn_sampler_choose(&sampler, &id, copy, &sampling, NULL, 0, (hn_sample_key){3, i}, &error) != HN_OK) found[0] = '\0';
        else found[id] = '1';
    }
    hn_sampler_close(&sampler);
    return found;
}

static hn_sampling sampled(void)
{
    return (hn_sampling){.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 5};
}

/* Probabilities 0.4, 0.3, 0.2, 0.1. */
static void four(float out[4])
{
    static const double p[4] = {0.2, 0.4, 0.1, 0.3};
    for (int i = 0; i < 4; i++) out[i] = (float)log(p[i]);
}

TEST(filters_by_hand)
{
    float logits[4], ties[5] = {1, 2, 2, 2, 0};
    hn_sampling s = sampled();
    four(logits);
    CHECK_TEXT(drawn(logits, 4, s), "1111");
    s.top_k = 2;
    CHECK_TEXT(drawn(logits, 4, s), "0101");
    CHECK_TEXT(drawn(ties, 5, s), "01110"); /* what equals the second stays */
    s.top_k = 9;
    CHECK_TEXT(drawn(logits, 4, s), "1111");
    s = sampled(), s.top_p = 0.65f;
    CHECK_TEXT(drawn(logits, 4, s), "0101");
    s.top_p = 0.75f;
    CHECK_TEXT(drawn(logits, 4, s), "1101");
    s.top_p = 1e-6f;
    CHECK_TEXT(drawn(logits, 4, s), "0100"); /* the likeliest always stays */
    CHECK_TEXT(drawn(ties, 5, s), "01000");  /* the lowest id of equals */
    s = sampled(), s.min_p = 0.6f;
    CHECK_TEXT(drawn(logits, 4, s), "0101");
    s.min_p = 1;
    CHECK_TEXT(drawn(logits, 4, s), "0100");
    s = sampled(), s.top_k = 3, s.top_p = 0.5f; /* of 0.9: 0.44, 0.33, 0.22 */
    CHECK_TEXT(drawn(logits, 4, s), "0101");
    s.top_k = 3, s.top_p = 0.44f;
    CHECK_TEXT(drawn(logits, 4, s), "0100");
    s = sampled(), s.min_p = 0.6f, s.temperature = 2; /* the temperature comes first: roots, 1 : 0.87 : 0.71 : 0.5 */
    CHECK_TEXT(drawn(logits, 4, s), "1101");
}

TEST(greedy_and_penalties)
{
    hn_error error = {0};
    hn_sampler sampler;
    int32_t id;
    hn_sampling s = HN_SAMPLING_GREEDY;
    CHECK_OK(hn_sampler_init(&sampler, 4, &error));
    float logits[4] = {1, 3, 3, -1};
    CHECK_OK(hn_sampler_choose(&sampler, &id, logits, &s, NULL, 0, (hn_sample_key){0, 0}, &error));
    CHECK_INT(id, 1);
    /* 3 / 2 = 1.5 below 3; once only, however often it was there */
    int32_t there[] = {1, 1, 3};
    s.repetition_penalty = 2;
    CHECK_OK(hn_sampler_choose(&sampler, &id, logits, &s, there, 3, (hn_sample_key){0, 0}, &error));
    CHECK_INT(id, 2);
    CHECK(logits[0] == 1 && logits[1] == 1.5f && logits[2] == 3 && logits[3] == -2);
    for (int i = 0; i < 4; i++) CHECK_INT(sampler.seen[i], 0);
    s.repetition_penalty = 0.5f; /* likelier */
    float again[4] = {1, 1.5f, 2, -1};
    CHECK_OK(hn_sampler_choose(&sampler, &id, again, &s, there, 3, (hn_sample_key){0, 0}, &error));
    CHECK_INT(id, 1);
    hn_sampler_close(&sampler);
}

TEST(what_is_no_number_is_refused)
{
    static const float broken[][3] = {{0, NAN, 0}, {INFINITY, 0, 0}, {-INFINITY, -INFINITY, -INFINITY}};
    hn_error error = {0};
    hn_sampler sampler;
    hn_sampling s[2] = {HN_SAMPLING_GREEDY, sampled()};
    CHECK_OK(hn_sampler_init(&sampler, 3, &error));
    for (int i = 0; i < 6; i++) {
        float logits[3];
        int32_t id;
        memcpy(logits, broken[i / 2], sizeof logits);
        hn_error_reset(&error);
        CHECK_INT(hn_sampler_choose(&sampler, &id, logits, &s[i % 2], NULL, 0, (hn_sample_key){0, 0}, &error), HN_ERR_NUMERIC);
    }
    float masked[3] = {-INFINITY, 1, -INFINITY};
    int32_t id;
    CHECK_OK(hn_sampler_choose(&sampler, &id, masked, &s[1], NULL, 0, (hn_sample_key){0, 0}, &error));
    CHECK_INT(id, 1);
    s[1].temperature = 1e-38f; /* 1e38 / 1e-38 is no number any more */
    float high[3] = {1e38f, 1, 2};
    hn_error_reset(&error);
    CHECK_INT(hn_sampler_choose(&sampler, &id, high, &s[1], NULL, 0, (hn_sample_key){0, 0}, &error), HN_ERR_NUMERIC);
    hn_sampler_close(&sampler);
}

/* The rules once more, on tokens in order. */
static const float *order_scores;
static int by_score(const void *a, const void *b)
{
    int left = *(const int *)a, right = *(const int *)b;
    float x = order_scores[left], y = order_scores[right];
    return x > y ? -1 : x < y ? 1 : left - right;
}

static void plain(bool *kept, const float *scores, int count, hn_sampling s)
{
    int order[MOST], left = count;
    double weight[MOST], all = 0, before = 0;
    for (int i = 0; i < count; i++) order[i] = i;
    order_scores = scores;
    qsort(order, (size_t)count, sizeof *order, by_score);
    for (int i = 0; i < count; i++) weight[i] = exp((double)scores[order[i]] - (double)scores[order[0]]);
    if (s.top_k > 0 && s.top_k < count)
        for (left = s.top_k; left < count && scores[order[left]] == scores[order[s.top_k - 1]];) left++;
    for (int i = 0; i < left; i++) all += weight[i];
    int of_p = left;
    for (int i = 0; i < left; before += weight[i++])
        if (i > 0 && before >= (double)s.top_p * all && s.top_p < 1) {
            of_p = i;
            break;
        }
    for (int i = 0; i < count; i++) kept[order[i]] = i < of_p && weight[i] >= (double)s.min_p;
}

TEST(all_of_them_as_in_a_plain_version)
{
    static const hn_sampling cases[] = {{1, 0, 1, 0, 1, 0},      {1, 7, 1, 0, 1, 0},       {1, 0, 0.9f, 0, 1, 0},
                                        {1, 300, 0.99f, 0, 1, 0}, {1, 0, 1, 0.05f, 1, 0},   {1, 40, 0.95f, 0.01f, 1, 0},
                                        {1, 0, 0.999f, 0, 1, 0},  {1, 1, 0.5f, 0.5f, 1, 0}, {1, 65, 0.9999f, 0.0001f, 1, 0}};
    hn_error error = {0};
    for (uint32_t run = 0; run < 60; run++) {
        int32_t count = 3 + (int32_t)(hn_philox(1, run, 0, 0, 0).word[0] % 400), id;
        float scores[MOST], copy[MOST];
        bool kept[MOST];
        hn_sampler sampler;
        for (int i = 0; i < count; i++) { /* many equals in every third */
            float u = hn_uniform(hn_philox(2, run, 0, (uint32_t)i, 0).word[0]);
            scores[i] = run % 3 ? 12 * u * u - 4 : floorf(8 * u);
        }
        CHECK_OK(hn_sampler_init(&sampler, count, &error));
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            plain(kept, scores, count, cases[c]);
            double all = 0, at, passed = 0;
            for (int i = 0; i < count; i++) all += kept[i] ? exp((double)scores[i] - (double)scores[0]) : 0;
            for (uint32_t d = 0; d < 40; d++) {
                memcpy(copy, scores, sizeof copy);
                CHECK_OK(hn_sampler_choose(&sampler, &id, copy, &cases[c], NULL, 0, (hn_sample_key){run, d}, &error));
                if (!kept[id]) TEST_FAIL("run %u case %zu: token %d was filtered out", run, c, id);
                /* the one that the number of this key falls on, in order of ids */
                hn_philox4 r = hn_philox(0, 0, HN_SITE(0, HN_SITE_SAMPLE, 0), run, d);
                at = ((double)(r.word[0] >> 5) * 67108864.0 + (double)(r.word[1] >> 6)) * 0x1p-53 * all;
                int want = 0;
                for (passed = 0; want < count; want++)
                    if (kept[want] && (passed += exp((double)scores[want] - (double)scores[0])) > at * (1 - 1e-12)) break;
                if (id != want && fabs(passed - at) > 1e-9 * all) TEST_FAIL("run %u case %zu draw %u: got %d, expected %d", run, c, d, id, want);
            }
        }
        hn_sampler_close(&sampler);
    }
}

TEST(draws_follow_the_probabilities)
{
    hn_error error = {0};
    hn_sampler sampler;
    hn_sampling s = sampled();
    int counts[4] = {0}, same = 0;
    CHECK_OK(hn_sampler_init(&sampler, 4, &error));
    for (uint32_t i = 0; i < 20000; i++) {
        float logits[4];
        int32_t id, other;
        four(logits);
        CHECK_OK(hn_sampler_choose(&sampler, &id, logits, &s, NULL, 0, (hn_sample_key){i % 7, i}, &error));
        counts[id]++;
        four(logits);
        CHECK_OK(hn_sampler_choose(&sampler, &other, logits, &s, NULL, 0, (hn_sample_key){i % 7 + 1, i}, &error));
        same += id == other;
    }
    static const double p[4] = {0.2, 0.4, 0.1, 0.3};
    for (int i = 0; i < 4; i++) CHECK_NEAR(counts[i] / 20000.0, p[i], 0.015);
    CHECK_NEAR(same / 20000.0, 0.3, 0.02); /* other keys draw by themselves: the sum of p^2 */
    hn_sampler_close(&sampler);
}

TEST(memory_may_run_out)
{
    hn_error error = {0};
    hn_sampler sampler;
    for (size_t nth = 1; nth <= 2; nth++) {
        hn_mem_fail_at(nth);
        hn_status status = hn_sampler_init(&sampler, 100, &error);
        hn_mem_fail_at(0);
        CHECK_INT(status, HN_ERR_MEMORY);
        hn_error_reset(&error);
    }
}

TEST_MAIN(RUN(filters_by_hand); RUN(greedy_and_penalties); RUN(what_is_no_number_is_refused);
          RUN(all_of_them_as_in_a_plain_version); RUN(draws_follow_the_probabilities); RUN(memory_may_run_out))
