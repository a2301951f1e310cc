/* Choosing tokens: each rule worked out by hand, all of them against a plain version that sorts everything, and how often tokens are
 * drawn. */
#include "tests/kernels/ops_test.h"

enum { MOST = 512, DRAWS = 4000 };

/* One row; its logits are kept. */
static int32_t choose(const float *logits, int32_t count, hn_sampling sampling, uint32_t example, uint32_t position)
{
    float copy[MOST];
    int32_t id = -2;
    memcpy(copy, logits, (size_t)count * sizeof *copy);
    hn_tensor t = hn_tensor_2d(copy, HN_F32, 1, count);
    hn_next_tokens next = {.example = &example, .position = &position};
    ops_now->choose_tokens(&context_now, &id, &t, &next, &sampling);
    return id;
}

/* Which of the tokens come out in many draws, as a string of 0 and 1; "" when one fails. */
static const char *drawn(const float *logits, int32_t count, hn_sampling sampling)
{
    static char found[MOST + 1];
    memset(found, '0', sizeof found);
    found[count] = '\0';
    for (uint32_t i = 0; i < DRAWS; i++) {
        int32_t id = choose(logits, count, sampling, 3, i);
        if (id < 0) found[0] = '\0';
        else found[id] = '1';
    }
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
    float logits[12] = {1, 3, 3, -1, /**/ 1, 1.5f, 2, -1, /**/ 5, 1, 1, 1};
    int32_t id[3], place[3] = {2, 0, 1};
    uint32_t seen[3] = {1u << 1 | 1u << 3, 0, 1u << 1 | 1u << 3}, key[3] = {0};
    hn_tensor t = hn_tensor_2d(logits, HN_F32, 3, 4);
    hn_next_tokens next = {key, key, place, seen};
    hn_sampling s = HN_SAMPLING_GREEDY;
    CHECK_INT(choose(logits, 4, s, 0, 0), 1); /* the lower id of two */
    s.repetition_penalty = 2;                 /* 3 / 2 = 1.5 below 3; -1 becomes -2 */
    t.shape[0] = 1;
    ops_now->choose_tokens(&context_now, id, &t, &next, &s);
    CHECK_INT(id[0], 2);
    CHECK_INT(seen[2], 1 << 1 | 1 << 2 | 1 << 3);
    t.shape[0] = 3;
    s.repetition_penalty = 0.5f; /* likelier: row 1 is that of place 0, row 2 of place 1, which has nothing */
    seen[2] = 0;
    ops_now->choose_tokens(&context_now, id, &t, &next, &s);
    CHECK_INT(id[1], 1);
    CHECK_INT(seen[0], 1 << 1 | 1 << 3);
    CHECK_INT(id[2], 0);
    CHECK_INT(seen[1], 1);
}

/* Bits of the last word, and of words in between. */
TEST(tokens_that_were_there)
{
    uint32_t seen[4] = {0, 1u << 31, 0, 1u << 3}, key = 0; /* 63 and 99 */
    float logits[100];
    int32_t id, place = 0;
    hn_sampling s = HN_SAMPLING_GREEDY;
    hn_next_tokens next = {&key, &key, &place, seen};
    hn_tensor t = hn_tensor_2d(logits, HN_F32, 1, 100);
    s.repetition_penalty = 1.5f;
    static const int32_t order[] = {63, 99, 40, 0, 32};
    for (int32_t round = 2; round < 5; round++) {
        for (int i = 0; i < 100; i++) logits[i] = -1;
        for (int i = 0; i < 5; i++) logits[order[i]] = 5 - 0.1f * (float)i;
        ops_now->choose_tokens(&context_now, &id, &t, &next, &s);
        CHECK_INT(id, order[round]);
    }
    CHECK(seen[0] == 1 && seen[1] == (1u << 31 | 1u << 8 | 1) && seen[2] == 0 && seen[3] == 1u << 3);
}

TEST(what_is_no_number_is_refused)
{
    static const float broken[][3] = {{0, NAN, 0}, {INFINITY, 0, 0}, {-INFINITY, -INFINITY, -INFINITY}};
    hn_sampling s[2] = {HN_SAMPLING_GREEDY, sampled()};
    for (int i = 0; i < 6; i++) CHECK_INT(choose(broken[i / 2], 3, s[i % 2], 0, 0), HN_NO_TOKEN);
    CHECK_INT(choose((float[]){-INFINITY, 1, -INFINITY}, 3, s[1], 0, 0), 1);
    s[1].temperature = 1e-38f; /* 1e38 / 1e-38 is no number any more */
    CHECK_INT(choose((float[]){1e38f, 1, 2}, 3, s[1], 0, 0), HN_NO_TOKEN);
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
    for (uint32_t run = 0; run < 60; run++) {
        int32_t count = 3 + (int32_t)(hn_philox(1, run, 0, 0, 0).word[0] % 400), id;
        float scores[MOST];
        bool kept[MOST];
        for (int i = 0; i < count; i++) { /* many equals in every third */
            float u = hn_uniform(hn_philox(2, run, 0, (uint32_t)i, 0).word[0]);
            scores[i] = run % 3 ? 12 * u * u - 4 : floorf(8 * u);
        }
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            plain(kept, scores, count, cases[c]);
            double all = 0, at, passed = 0;
            for (int i = 0; i < count; i++) all += kept[i] ? exp((double)scores[i] - (double)scores[0]) : 0;
            for (uint32_t d = 0; d < 40; d++) {
                id = choose(scores, count, cases[c], run, d);
                if (id < 0 || !kept[id]) TEST_FAIL("run %u case %zu: token %d was filtered out", run, c, id);
                /* the one that the number of this key falls on, in order of ids */
                hn_philox4 r = hn_philox(0, 0, HN_SITE(0, HN_SITE_SAMPLE, 0), run, d);
                at = ((double)(r.word[0] >> 5) * 67108864.0 + (double)(r.word[1] >> 6)) * 0x1p-53 * all;
                int want = 0;
                for (passed = 0; want < count; want++)
                    if (kept[want] && (passed += exp((double)scores[want] - (double)scores[0])) > at * (1 - 1e-12)) break;
                if (id != want && fabs(passed - at) > 1e-9 * all) TEST_FAIL("run %u case %zu draw %u: got %d, expected %d", run, c, d, id, want);
            }
        }
    }
}

TEST(draws_follow_the_probabilities)
{
    hn_sampling s = sampled();
    int counts[4] = {0}, same = 0;
    float logits[4];
    four(logits);
    for (uint32_t i = 0; i < 20000; i++) {
        int32_t id = choose(logits, 4, s, i % 7, i), other = choose(logits, 4, s, i % 7 + 1, i);
        CHECK(id >= 0 && id < 4);
        counts[id]++;
        same += id == other;
    }
    static const double p[4] = {0.2, 0.4, 0.1, 0.3};
    for (int i = 0; i < 4; i++) CHECK_NEAR(counts[i] / 20000.0, p[i], 0.015);
    CHECK_NEAR(same / 20000.0, 0.3, 0.02); /* other keys draw by themselves: the sum of p^2 */
}

TEST(rows_apart_and_none)
{
    float logits[3][7] = {{0, 1, 9, 0, 0, 7, 7}, {4, 1, 2, NAN, 0, 7, 7}, {0, 1, 2, 0, 8, 7, 7}};
    int32_t id[4] = {9, 9, 9, 9};
    hn_sampling s = HN_SAMPLING_GREEDY;
    hn_next_tokens next = {0};
    hn_tensor t = hn_tensor_2d(logits, HN_F32, 3, 5);
    t.stride = 7;
    ops_now->choose_tokens(&context_now, id, &t, &next, &s);
    CHECK(id[0] == 2 && id[1] == HN_NO_TOKEN && id[2] == 4 && id[3] == 9);
    t.shape[0] = 0;
    id[0] = 9;
    ops_now->choose_tokens(&context_now, id, &t, &next, &s);
    CHECK_INT(id[0], 9);
}

TEST(scratch_is_what_was_asked_for)
{
    float logits[MOST] = {0};
    hn_sampling s = sampled();
    size_t had = context_now.workspace_size;
    context_now.workspace_size = ops_now->choose_tokens_workspace(MOST);
    s.top_p = 0.5f;
    CHECK(choose(logits, MOST, s, 0, 0) >= 0);
    context_now.workspace_size = MOST;
    CHECK_INT(choose(logits, MOST, s, 0, 0), -2);
    CHECK_CONTAINS(error_now.message, "workspace too small");
    hn_error_reset(&error_now);
    context_now.workspace_size = had;
}

static void on_tables(void (*tests)(void))
{
    static const char *const isas[] = {"base", "avx2", "avx512"};
    for (int i = 0; i < 3; i++) {
        const hn_ops *ops = hnp_ops_cpu_named(isas[i]);
        if (!ops) continue;
        table_begin(ops, ops->choose_tokens_workspace(MOST));
        tests();
        table_end();
    }
}

static void all_tests(void)
{
    RUN(filters_by_hand);
    RUN(greedy_and_penalties);
    RUN(tokens_that_were_there);
    RUN(what_is_no_number_is_refused);
    RUN(all_of_them_as_in_a_plain_version);
    RUN(draws_follow_the_probabilities);
    RUN(rows_apart_and_none);
    RUN(scratch_is_what_was_asked_for);
}

TEST_MAIN(on_tables(all_tests))
