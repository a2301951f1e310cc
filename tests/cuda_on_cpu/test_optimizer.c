/* optimizer.cu on the emulator: AdamW and the sum of squares against plain loops in double and against the CPU's table, the bits of
 * random rounding against core/philox.h, the decision about a step against the CPU's, and passes over plain memory. */
#include "tests/cuda_on_cpu/device.h"

static const int64_t sizes[] = {0, 1, 3, 31, 33, 257, 4095, 4096, 4097, 9001};
enum { SIZES = sizeof sizes / sizeof *sizes, GROUPS = 3 };

/* `count` floats that begin `off` bytes behind a multiple of 16. */
static void *block_new(size_t bytes, size_t off)
{
    unsigned char *raw = malloc(bytes + off);
    memset(raw, 0xFF, bytes + off);
    return raw + off;
}

/* One segment's arrays, and what they must become. */
typedef struct run {
    float *w, *g;
    void *m, *v;
    uint16_t *copy;
    double *ew, *em, *ev;
    size_t off;
} run;

static double moment(const run *r, const void *array, int64_t i, hn_dtype type)
{
    (void)r;
    return type == HN_F32 ? ((const float *)array)[i] : hn_bf16_to_float(((const uint16_t *)array)[i]);
}

static void run_new(run *r, int64_t count, hn_dtype moments, bool copy, size_t off)
{
    size_t n = (size_t)count, wide = hn_dtype_size(moments);
    *r = (run){.off = off};
    r->w = block_new(n * 4, off), r->g = block_new(n * 4, off);
    r->m = block_new(n * wide, off), r->v = block_new(n * wide, off);
    r->copy = copy ? block_new(n * 2, off) : NULL;
    r->ew = malloc(n * 8 + 8), r->em = malloc(n * 8 + 8), r->ev = malloc(n * 8 + 8);
    for (int64_t i = 0; i < count; i++) {
        r->w[i] = (float)uniform(), r->g[i] = (float)uniform();
        float m = (float)uniform(), v = (float)fabs(uniform());
        if (moments == HN_F32) {
            ((float *)r->m)[i] = m, ((float *)r->v)[i] = v;
        } else {
            ((uint16_t *)r->m)[i] = hn_bf16_from_float(m), ((uint16_t *)r->v)[i] = hn_bf16_from_float(v);
        }
    }
}

static void run_free(run *r)
{
    void *all[] = {r->w, r->g, r->m, r->v, r->copy};
    for (int i = 0; i < 5; i++)
        if (all[i]) free((char *)all[i] - r->off);
    free(r->ew), free(r->em), free(r->ev);
}

static void expect_run(run *r, const hn_adamw_segment *s, const hn_adamw_step *step)
{
    double lr = (double)step->lr * s->lr_scale * (step->group_lr ? step->group_lr[s->group] : 1);
    for (int64_t i = 0; i < s->count; i++) {
        double g = (double)r->g[i] * step->gradient_scale, m = moment(r, r->m, i, s->moments), v = moment(r, r->v, i, s->moments);
        r->em[i] = m += (1 - (double)step->beta1) * (g - m);
        r->ev[i] = v += (1 - (double)step->beta2) * (g * g - v);
        r->ew[i] = r->w[i] * (1 - lr * s->weight_decay) - lr * (m / step->correction1[s->group]) /
                   (sqrt(v / step->correction2[s->group]) + step->epsilon);
    }
}

/* An element's stored bf16 moment is a neighbour of what it must be, and the one that the word chooses unless the sum stands at the edge. */
static bool rounded_as(double stored, double exact, uint32_t noise)
{
    float nearest = (float)exact;
    uint32_t bits, around[3];
    memcpy(&bits, &nearest, 4);
    for (int i = 0; i < 3; i++) around[i] = (bits + (uint32_t)(i - 1) * 8 + noise) >> 16; /* a few units of fp32 apart */
    uint16_t got = hn_bf16_from_float((float)stored);
    return got == around[0] || got == around[1] || got == around[2];
}

static void check_run(const run *r, const hn_adamw_segment *s, const hn_adamw_step *step)
{
    for (int64_t i = 0; i < s->count; i++) {
        uint32_t word = hn_philox(step->seed, (uint32_t)(i / 4), HN_SITE(0, HN_SITE_ROUNDING, 0), s->parameter, step->step).word[i % 4];
        double m = moment(r, r->m, i, s->moments), v = moment(r, r->v, i, s->moments);
        CHECK_NEAR(r->w[i], r->ew[i], tolerance(HN_F32));
        if (s->copy) CHECK_INT(s->copy[i], hn_bf16_from_float(r->w[i]));
        if (s->moments == HN_F32) {
            CHECK_NEAR(m, r->em[i], 1e-6);
            CHECK_NEAR(v, r->ev[i], 1e-6);
        } else {
            CHECK(rounded_as(m, r->em[i], word & 0xffff));
            CHECK(rounded_as(v, r->ev[i], word >> 16));
        }
    }
}

static hn_adamw_segment segment_of(const run *r, int64_t count, hn_dtype moments, int number)
{
    return (hn_adamw_segment){.master = r->w, .gradient = r->g, .m = r->m, .v = r->v, .copy = r->copy, .count = count,
                              .lr_scale = 0.8f, .weight_decay = number % 2 ? 0.05f : 0, .group = number % GROUPS,
                              .moments = moments, .parameter = 40u + (uint32_t)number};
}

static const float correction1[GROUPS] = {0.1f, 0.19f, 0.5f}, correction2[GROUPS] = {0.001f, 0.002f, 0.25f},
                   group_lr[GROUPS] = {1, 0.5f, 0.25f};
static const hn_adamw_step plain_step = {.lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f, .gradient_scale = 0.7f,
                                         .correction1 = correction1, .correction2 = correction2, .group_lr = group_lr,
                                         .seed = 0x123456789abcdef0u, .step = 9};

/* `count` segments of every size in one launch; types, copies and alignments by turns. */
static void many_segments(int count)
{
    enum { MOST = 70 };
    run runs[MOST];
    hn_adamw_segment list[MOST];
    device d;
    device_open(&d, 0);
    for (int s = 0; s < count; s++) {
        int64_t n = sizes[(s * 7 + 3) % SIZES];
        if (count > 20 && n > 300) n = 5; /* the search matters there, not the elements */
        hn_dtype moments = s % 3 == 1 ? HN_BF16 : HN_F32;
        run_new(&runs[s], n, moments, s % 4 < 2, s % 5 == 4 ? 8 : 0);
        list[s] = segment_of(&runs[s], n, moments, s);
        expect_run(&runs[s], &list[s], &plain_step);
    }
    int64_t chunks = hn_adamw_chunks(list, count);
    hn_adamw_step step = plain_step;
    step.skip = 1;
    d.ops->adamw(&d.ctx, list, count, chunks, &step);
    step.skip = 0;
    d.ops->adamw(&d.ctx, list, count, chunks, &step);
    CHECK_TEXT(d.error.message, "");
    for (int s = 0; s < count; s++) check_run(&runs[s], &list[s], &step);
    for (int s = 0; s < count; s++) run_free(&runs[s]);
    device_close(&d);
}

TEST(segments)
{
    static const int counts[] = {0, 1, 2, 10, 31, 32, 33, 65, 70};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) many_segments(counts[i]);
}

/* A parameter cut into segments, at places that are multiples of 32: the bits of one segment. */
static void cut_alike(int64_t count, hn_dtype moments, bool copy, const int64_t *cut /* rising, ends with count */, int parts)
{
    run whole, cut_up;
    hn_adamw_segment list[16];
    size_t wide = hn_dtype_size(moments), n = (size_t)count;
    device d;
    device_open(&d, 0);
    test_random = 11, run_new(&whole, count, moments, copy, 0);
    test_random = 11, run_new(&cut_up, count, moments, copy, 0);
    list[0] = segment_of(&whole, count, moments, 1);
    d.ops->adamw(&d.ctx, list, 1, hn_adamw_chunks(list, 1), &plain_step);
    for (int p = 0; p < parts; p++) {
        int64_t at = p ? cut[p - 1] : 0;
        list[p] = segment_of(&cut_up, cut[p] - at, moments, 1);
        list[p].master += at, list[p].gradient += at, list[p].offset = at;
        list[p].m = (char *)list[p].m + (size_t)at * wide, list[p].v = (char *)list[p].v + (size_t)at * wide;
        if (copy) list[p].copy += at;
    }
    d.ops->adamw(&d.ctx, list, parts, hn_adamw_chunks(list, parts), &plain_step);
    CHECK_TEXT(d.error.message, "");
    CHECK(!memcmp(whole.w, cut_up.w, n * 4) && !memcmp(whole.m, cut_up.m, n * wide) && !memcmp(whole.v, cut_up.v, n * wide));
    CHECK(!copy || !memcmp(whole.copy, cut_up.copy, n * 2));
    run_free(&whole), run_free(&cut_up);
    device_close(&d);
}

TEST(cut_into_segments)
{
    enum { N = 9001 };
    static const int64_t cuts[][6] = {{32, N}, {8992, N}, {4096, N}, {32, 64, 4128, 4160, 8224, N}, {992, 5088, 5088, N}};
    static const int parts[] = {2, 2, 2, 6, 4};
    for (int c = 0; c < 5; c++)
        for (int kind = 0; kind < 4; kind++) cut_alike(N, kind % 2 ? HN_BF16 : HN_F32, kind / 2, cuts[c], parts[c]);
    cut_alike(1, HN_BF16, true, (const int64_t[]){0, 1}, 2);
}

/* A list that takes three rounds of the search: one element each. */
TEST(long_list)
{
    enum { LIST = 1030 };
    static float w[LIST], g[LIST], m[LIST], v[LIST];
    static hn_adamw_segment list[LIST];
    device d;
    device_open(&d, 0);
    for (int s = 0; s < LIST; s++) {
        run r = {.w = w + s, .g = g + s, .m = m + s, .v = v + s};
        list[s] = segment_of(&r, s % 11 != 5, HN_F32, s);
        list[s].group = 0, list[s].weight_decay = 0;
        w[s] = (float)s, g[s] = 1;
    }
    d.ops->adamw(&d.ctx, list, LIST, hn_adamw_chunks(list, LIST), &plain_step);
    CHECK_TEXT(d.error.message, "");
    for (int s = 0; s < LIST; s++) {
        CHECK_NEAR(m[s], s % 11 == 5 ? 0 : 0.07, 1e-6);
        CHECK(s % 11 == 5 ? w[s] == (float)s : w[s] < (float)s);
    }
    device_close(&d);
}

/* The CPU's table over the same bits: bf16 moments are the same but where two ways of rounding a sum part. */
TEST(agrees_with_the_cpu)
{
    enum { N = 20001 };
    run runs[2];
    hn_backend backend;
    hn_error error = {0};
    hn_ops_context cpu = {.backend = &backend, .error = &error};
    hn_backend_cpu_init(&backend);
    device d;
    device_open(&d, 0);
    int64_t apart = 0;
    for (int side = 0; side < 2; side++) {
        test_random = 3;
        run_new(&runs[side], N, HN_BF16, true, 0);
        hn_adamw_segment s = segment_of(&runs[side], N, HN_BF16, 1);
        memset(&runs[side].g[17], 0xFF, sizeof(float)); /* a NaN that noise would carry over to zero */
        if (side == 0) hn_ops_cpu()->adamw(&cpu, &s, 1, hn_adamw_chunks(&s, 1), &plain_step);
        else d.ops->adamw(&d.ctx, &s, 1, hn_adamw_chunks(&s, 1), &plain_step);
    }
    for (int64_t i = 0; i < N; i++) {
        apart += ((uint16_t *)runs[0].m)[i] != ((uint16_t *)runs[1].m)[i];
        apart += ((uint16_t *)runs[0].v)[i] != ((uint16_t *)runs[1].v)[i];
        if (i == 17) CHECK(isnan(runs[0].w[i]) && isnan(runs[1].w[i]) && isnan(moment(&runs[1], runs[1].m, i, HN_BF16)));
        else CHECK_NEAR(runs[1].w[i], runs[0].w[i], 1e-6);
    }
    CHECK(apart <= N / 1000);
    run_free(&runs[0]), run_free(&runs[1]);
    device_close(&d);
}

/* One decision by both tables; corrections of fp64 powers may part by a unit in the last place of fp32. */
static void decide_within(double squared, double loss, double clip, double most_loss, double most_norm, bool skipped, double norm,
                          double scale)
{
    enum { GROUPS_HERE = 70 };
    static const double beta[2] = {0.9, 0.999};
    hn_backend backend;
    hn_error error = {0};
    hn_ops_context cpu = {.backend = &backend, .error = &error};
    int64_t applied[2][GROUPS_HERE], count = 77;
    float correction[2][2][GROUPS_HERE], lr[GROUPS_HERE] = {0};
    int32_t trains[GROUPS_HERE];
    hn_adamw_step step[2];
    hn_adamw_outcome outcome[2];
    hn_adamw_control control = {.clip = clip, .beta1 = beta[0], .beta2 = beta[1], .most_loss = most_loss, .most_norm = most_norm,
                                .lr = 0.01f, .epsilon = 1e-6f, .seed = 0xfedcba9876543210u, .step = 12};
    device d;
    device_open(&d, 0);
    hn_backend_cpu_init(&backend);
    for (int g = 0; g < GROUPS_HERE; g++) applied[0][g] = applied[1][g] = g % 7 ? g * g : 0, trains[g] = g % 3 != 1;
    for (int side = 0; side < 2; side++) {
        hn_adamw_groups groups = {GROUPS_HERE, trains, lr, applied[side], correction[side][0], correction[side][1]};
        memset(&step[side], 0xFF, sizeof step[side]), memset(&outcome[side], 0xFF, sizeof outcome[side]);
        if (side) d.ops->adamw_decide(&d.ctx, &step[1], &outcome[1], &groups, &squared, &loss, &count, &control);
        else hn_ops_cpu()->adamw_decide(&cpu, &step[0], &outcome[0], &groups, &squared, &loss, &count, &control);
        CHECK(outcome[side].skipped == skipped && step[side].skip == skipped);
        CHECK(outcome[side].norm == norm || (isnan(norm) && isnan(outcome[side].norm)));
        CHECK(outcome[side].loss == loss || (isnan(loss) && isnan(outcome[side].loss)));
        CHECK_INT(outcome[side].count, 77);
        if (!skipped) CHECK_NEAR(step[side].gradient_scale, scale, 1e-7);
        CHECK(step[side].lr == 0.01f && step[side].beta1 == 0.9f && step[side].beta2 == 0.999f && step[side].epsilon == 1e-6f);
        CHECK(step[side].seed == control.seed && step[side].step == 12);
        CHECK(step[side].correction1 == correction[side][0] && step[side].correction2 == correction[side][1]);
        CHECK(step[side].group_lr == lr);
        for (int g = 0; g < GROUPS_HERE; g++) {
            int64_t t = (g % 7 ? g * g : 0) + (!skipped && g % 3 != 1);
            CHECK_INT(applied[side][g], t);
            for (int k = 0; k < 2; k++) CHECK_NEAR(correction[side][k][g], 1 - pow(beta[k], (double)t), 1e-7);
        }
    }
    CHECK_TEXT(d.error.message, "");
    CHECK(step[0].gradient_scale == step[1].gradient_scale || isnan(norm));
    device_close(&d);
}

static void decide_alike(double squared, double loss, double clip, bool skipped, double norm, double scale)
{
    decide_within(squared, loss, clip, 0, 0, skipped, norm, scale);
    if (!skipped) decide_within(squared, loss, clip, loss / 77 * 1.0001, norm * 1.0001, false, norm, scale);
}

TEST(steps_beyond_a_limit_are_skipped)
{
    decide_within(4, 77, 0, 1, 2, false, 2, 1);
    decide_within(4, 77, 0, 0.999, 2, true, 2, 1);
    decide_within(4, 77, 0, 1, 1.999, true, 2, 0);
    decide_within(4, 77, 0, 0, 1.999, true, 2, 0);
    decide_within(4, 77, 0, 0.999, 0, true, 2, 0);
    decide_within(NAN, 77, 0, 1, 2, true, NAN, 0);
    decide_within(4, NAN, 0, 1, 2, true, 2, 0);
}

TEST(decisions)
{
    decide_alike(4, 1.5, 0, false, 2, 1);
    decide_alike(4, 1.5, 3, false, 2, 1);
    decide_alike(4, 1.5, 0.5, false, 2, 0.5 / (2 + 1e-6));
    decide_alike(0, 0, 1, false, 0, 1);
    decide_alike(4, NAN, 1, true, 2, 1);
    decide_alike(4, INFINITY, 0, true, 2, 1);
    decide_alike(NAN, 1, 1, true, NAN, 1);
    decide_alike(INFINITY, 1, 1, true, INFINITY, 1);
    decide_alike(1.0001e36, 1, 0, true, INFINITY, 1);
    decide_alike(0.9999e36, 1, 0, false, sqrt(0.9999e36), 1);
    decide_alike(1e38, 1, 1, false, sqrt(1e38), 1e-19);
}

TEST(squares)
{
    enum { N = 600001 };
    float *x = malloc(N * sizeof *x), *moved = block_new(N * sizeof *x, 4);
    device d;
    device_open(&d, hnp_cuda_sum_squares_workspace());
    static const int64_t counts[] = {0, 1, 3, 4, 5, 31, 33, 257, 1024, 1027, 524287, N};
    for (int64_t i = 0; i < N; i++) moved[i] = x[i] = (float)uniform();
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        double expected = 2, sum = 2, again = 2, other = 2;
        for (int64_t i = 0; i < counts[k]; i++) expected += (double)x[i] * x[i];
        d.ops->sum_squares(&d.ctx, &sum, x, counts[k]);
        emu_seed(k + 5);
        d.ops->sum_squares(&d.ctx, &again, x, counts[k]);
        d.ops->sum_squares(&d.ctx, &other, moved, counts[k]);
        CHECK_TEXT(d.error.message, "");
        CHECK_NEAR(sum / expected, 1, 1e-12);
        CHECK_NEAR(other / expected, 1, 1e-12);
        CHECK(sum == again);
    }
    double sum = 0;
    x[N - 1] = 1e30f;
    d.ops->sum_squares(&d.ctx, &sum, x, N);
    CHECK_NEAR(sum / 1e60, 1, 1e-6);
    x[7] = NAN;
    d.ops->sum_squares(&d.ctx, &sum, x, N);
    CHECK(isnan(sum));
    device_close(&d);
    device_open(&d, hnp_cuda_sum_squares_workspace() - 1);
    d.ops->sum_squares(&d.ctx, &sum, x, N);
    CHECK_CONTAINS(d.error.message, "sum_squares: needs 4096 bytes of workspace");
    device_close(&d);
    free(x), free((char *)moved - 4);
}

static void cast_between(hn_dtype from, hn_dtype to, size_t off)
{
    static const int64_t counts[] = {0, 1, 7, 8, 31, 33, 257, 2048, 2051};
    device d;
    device_open(&d, 0);
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        size_t n = (size_t)counts[k];
        hn_tensor x = hn_tensor_1d(block_new(n * hn_dtype_size(from), off), from, counts[k]),
                  y = hn_tensor_1d(block_new(n * hn_dtype_size(to), off), to, counts[k]);
        for (int64_t i = 0; i < counts[k]; i++) put(&x, 0, i, 100 * uniform());
        if (n > 3) put(&x, 0, 3, NAN);
        d.ops->cast(&d.ctx, &y, &x);
        CHECK_TEXT(d.error.message, "");
        for (int64_t i = 0; i < counts[k]; i++) {
            if (i == 3) CHECK(isnan(get(&y, 0, 3)));
            else CHECK_NEAR(get(&y, 0, i), rounded(to, get(&x, 0, i)), 0);
        }
        free((char *)x.data - off), free((char *)y.data - off);
    }
    device_close(&d);
}

TEST(cast)
{
    for (size_t off = 0; off <= 4; off += 4) {
        cast_between(HN_F32, HN_BF16, off);
        cast_between(HN_BF16, HN_F32, off);
        cast_between(HN_F32, HN_F32, off);
        cast_between(HN_BF16, HN_BF16, off);
    }
}

TEST(zero_and_scale)
{
    device d;
    device_open(&d, 0);
    float factor = 4;
    for (int k = 0; k < SIZES; k++)
        for (size_t off = 0; off <= 4; off += 4) {
            int64_t n = sizes[k];
            float *x = block_new((size_t)n * 4, off), *before = malloc((size_t)n * 4 + 4);
            for (int64_t i = 0; i < n; i++) before[i] = x[i] = (float)uniform();
            d.ops->scale(&d.ctx, x, n, &factor);
            for (int64_t i = 0; i < n; i++) CHECK(x[i] == 4 * before[i]);
            d.ops->zero(&d.ctx, x, (size_t)n * 4);
            for (int64_t i = 0; i < n; i++) CHECK(x[i] == 0);
            free((char *)x - off), free(before);
        }
    CHECK_TEXT(d.error.message, "");
    device_close(&d);
}

/* One addition an element: the CPU's bits, from any alignment of either array. */
TEST(add)
{
    device d;
    device_open(&d, 0);
    for (int k = 0; k < SIZES * 4; k++) {
        int64_t n = sizes[k / 4];
        size_t y_off = k % 2 * 4u, x_off = k / 2 % 2 * 8u;
        float *y = block_new((size_t)n * 4, y_off), *x = block_new((size_t)n * 4, x_off), *sum = malloc((size_t)n * 4 + 4);
        for (int64_t i = 0; i < n; i++) {
            x[i] = i == 2 ? NAN : (float)uniform(), y[i] = 100 * (float)uniform();
            sum[i] = y[i] + x[i];
        }
        d.ops->add(&d.ctx, y, x, n);
        CHECK_TEXT(d.error.message, "");
        for (int64_t i = 0; i < n; i++) CHECK(i == 2 ? isnan(y[i]) : y[i] == sum[i]);
        free((char *)y - y_off), free((char *)x - x_off), free(sum);
    }
    device_close(&d);
}

/* Members that the order of additions shows in. */
TEST(add_sums)
{
    enum { MOST = 1000 };
    static const int64_t counts[] = {0, 1, 2, 31, 33, MOST};
    device d;
    device_open(&d, 0);
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        hn_sums *from = malloc((size_t)counts[k] * sizeof *from), to = {0.5, -3, 7}, expected = to;
        for (int64_t i = 0; i < counts[k]; i++) {
            from[i] = (hn_sums){pow(10, 16 * uniform()) * uniform(), i * ((int64_t)1 << 40), pow(10, 16 * uniform())};
            expected.loss += from[i].loss, expected.count += from[i].count, expected.squares += from[i].squares;
        }
        d.ops->add_sums(&d.ctx, &to, from, counts[k]);
        CHECK_TEXT(d.error.message, "");
        CHECK(to.loss == expected.loss && to.squares == expected.squares);
        CHECK_INT(to.count, expected.count);
        free(from);
    }
    hn_sums to = {1, 2, 3}, nan = {NAN, 4, 5};
    d.ops->add_sums(&d.ctx, &to, &nan, 1);
    CHECK(isnan(to.loss) && to.count == 6 && to.squares == 8);
    device_close(&d);
}

TEST(copy)
{
    device d;
    device_open(&d, 0);
    for (int k = 0; k < SIZES * 2; k++) {
        size_t size = (size_t)sizes[k / 2], off = k % 2 * 3u;
        unsigned char *to = block_new(size, off), *from = block_new(size, 1);
        for (size_t i = 0; i < size; i++) from[i] = (unsigned char)(i * 7 + 1);
        d.ops->copy(&d.ctx, to, from, size);
        CHECK_TEXT(d.error.message, "");
        CHECK(!memcmp(to, from, size));
        free(to - off), free(from - 1);
    }
    device_close(&d);
}

TEST(transfers_that_fail)
{
    device d;
    float x[2] = {1, 2};
    for (int k = 0; k < 4; k++) {
        bool copies = k % 2;
        device_open(&d, 0);
        hn_cuda_device_of(&d.backend)->synchronous = k / 2;
        emu_fail_after(0, 700 /* an illegal address */);
        if (copies) d.ops->copy(&d.ctx, x + 1, x, sizeof *x);
        else d.ops->zero(&d.ctx, x, sizeof *x);
        CHECK_CONTAINS(d.error.message, copies ? "copy: an illegal memory access" : "zero: an illegal memory access");
        emu_reset();
        device_close(&d);
    }
}

TEST_MAIN(RUN(segments); RUN(cut_into_segments); RUN(long_list); RUN(agrees_with_the_cpu); RUN(decisions); RUN(steps_beyond_a_limit_are_skipped); RUN(squares); RUN(cast); RUN(zero_and_scale);
          RUN(add); RUN(add_sums); RUN(copy); RUN(transfers_that_fail))
