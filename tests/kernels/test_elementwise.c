/* Embeddings, rows, activations' backward, losses, the optimizer and passes over memory. */
#include "core/philox.h"
#include "kernels/profile.h"
#include "tests/kernels/ops_test.h"

static const int64_t sizes[] = {0, 1, 31, 33, 257};
enum { SIZES = 5 };

static void embedding_size(hn_dtype type, int64_t rows, int64_t columns)
{
    enum { V = 11, P = 9, S = 2, OFFSET = 2 };
    matrix token = matrix_random(type, V, columns, 1), position = matrix_random(type, P, columns, 1);
    matrix kind = matrix_random(type, S, columns, 1), y = matrix_random(type, rows, columns, 1);
    matrix d[3] = {matrix_random(HN_F32, V, columns, 1), matrix_random(HN_F32, P, columns, 1),
                   matrix_random(HN_F32, S, columns, 1)};
    int32_t *ids = calloc((size_t)rows + 1, 4), *at = calloc((size_t)rows + 1, 4), *types = calloc((size_t)rows + 1, 4);
    for (int64_t r = 0; r < rows; r++) ids[r] = (int32_t)(r * 7 % V), at[r] = (int32_t)(r % 7), types[r] = (int32_t)(r & 1);
    ops_now->embedding_forward(&context_now, &y.t, &token.t, &position.t, &kind.t, ids, at, types, OFFSET);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            y.d[r * columns + c] = token.d[ids[r] * columns + c] + position.d[(at[r] + OFFSET) * columns + c] +
                                   kind.d[types[r] * columns + c];
    CHECK_CLOSE(&y.t, y.d, tolerance(type));
    ops_now->embedding_forward(&context_now, &y.t, &token.t, NULL, NULL, ids, NULL, NULL, 0);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) CHECK_NEAR(value_at(&y.t, r, c), token.d[ids[r] * columns + c], 0);
    matrix_sync(&y);
    ops_now->embedding_backward(&context_now, &d[0].t, &d[1].t, &d[2].t, &y.t, ids, at, types, OFFSET);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) {
            double g = y.d[r * columns + c];
            d[0].d[ids[r] * columns + c] += g;
            d[1].d[(at[r] + OFFSET) * columns + c] += g;
            d[2].d[types[r] * columns + c] += g;
        }
    for (int i = 0; i < 3; i++) CHECK_CLOSE(&d[i].t, d[i].d, tolerance(HN_F32));
    ops_now->embedding_backward(&context_now, NULL, NULL, &d[2].t, &y.t, ids, at, types, OFFSET); /* frozen tables */
    matrix_free(&token), matrix_free(&position), matrix_free(&kind), matrix_free(&y);
    for (int i = 0; i < 3; i++) matrix_free(&d[i]);
    free(ids), free(at), free(types);
}

static void embedding_all(hn_dtype type)
{
    for (int i = 0; i < SIZES; i++) embedding_size(type, sizes[i], 33), embedding_size(type, 33, sizes[SIZES - 1 - i]);
    matrix table = matrix_random(type, 4, 8, 1), y = matrix_random(type, 2, 8, 1);
    ops_now->embedding_forward(&context_now, &y.t, &table.t, NULL, NULL, (int32_t[]){3, 4}, NULL, NULL, 0);
    CHECK_CONTAINS(error_now.message, "row 1 asks for token 4, the table has 0 to 3");
    for (int c = 0; c < 8; c++) CHECK_NEAR(value_at(&y.t, 0, c), y.d[c], 0); /* nothing was written */
    hn_error_reset(&error_now);
    matrix_free(&table), matrix_free(&y);
}

static void rows_all(hn_dtype type)
{
    for (int i = 0; i < SIZES; i++) {
        int64_t n = sizes[i];
        matrix x = matrix_strided(type, 2 * n + 1, 37, 40, 1), y = matrix_random(type, n, 37, 1);
        int32_t *index = calloc((size_t)n + 1, 4);
        for (int64_t r = 0; r < n; r++) index[r] = (int32_t)(2 * (n - r));
        ops_now->gather_rows(&context_now, &y.t, &x.t, index);
        for (int64_t r = 0; r < n; r++)
            for (int64_t c = 0; c < 37; c++) CHECK_NEAR(value_at(&y.t, r, c), x.d[index[r] * 37 + c], 0);
        ops_now->scatter_add_rows(&context_now, &x.t, &y.t, index);
        for (int64_t r = 0; r < n; r++)
            for (int64_t c = 0; c < 37; c++) x.d[index[r] * 37 + c] *= 2;
        CHECK_CLOSE(&x.t, x.d, tolerance(type));
        for (int64_t r = 0; r < n; r++) index[r] = (int32_t)(n - r);
        ops_now->scatter_rows(&context_now, &x.t, &y.t, index);
        for (int64_t r = 0; r < n; r++)
            for (int64_t c = 0; c < 37; c++) CHECK_NEAR(value_at(&x.t, index[r], c), value_at(&y.t, r, c), 0);
        for (int64_t c = 0; c < 37 && n; c++) CHECK_NEAR(value_at(&x.t, n + 1, c), x.d[(n + 1) * 37 + c], tolerance(type));
        matrix_free(&x), matrix_free(&y), free(index);
    }
}

static void activation_backward_all(hn_dtype type)
{
    for (int i = 0; i < SIZES; i++) {
        matrix dy = matrix_random(type, 3, sizes[i], 1), z = matrix_random(type, 3, sizes[i], 1);
        ops_now->activation_backward(&context_now, &dy.t, &dy.t, &z.t, HN_ACT_TANH);
        for (int64_t j = 0; j < 3 * sizes[i]; j++) dy.d[j] *= 1 - z.d[j] * z.d[j];
        CHECK_CLOSE(&dy.t, dy.d, tolerance(type));
        matrix_sync(&dy);
        ops_now->activation_backward(&context_now, &dy.t, &dy.t, &z.t, HN_ACT_RELU);
        for (int64_t j = 0; j < 3 * sizes[i]; j++) dy.d[j] *= z.d[j] > 0;
        CHECK_CLOSE(&dy.t, dy.d, tolerance(type));
        matrix_free(&dy), matrix_free(&z);
    }
}

/* Loss and slope of one row in double. */
static double entropy(const double *logits, int64_t classes, int32_t label, double smoothing, double *d)
{
    double sum = 0, loss = 0;
    for (int64_t k = 0; k < classes; k++) sum += exp(logits[k]);
    for (int64_t k = 0; k < classes; k++) {
        double q = smoothing / (double)classes + (k == label ? 1 - smoothing : 0);
        loss -= q * (logits[k] - log(sum));
        d[k] = exp(logits[k]) / sum - q;
    }
    return loss;
}

static void cross_entropy_size(hn_dtype type, int64_t rows, int64_t classes, float smoothing)
{
    matrix logits = matrix_random(type, rows, classes, 3), d = matrix_random(HN_F32, rows, classes, 1);
    int32_t *label = calloc((size_t)rows + 1, 4);
    double loss = 5, expected = 5;
    int64_t count = 1, expected_count = 1;
    float scale = 0.25f;
    for (int64_t r = 0; r < rows; r++) label[r] = r % 5 == 4 ? HN_NO_TARGET : (int32_t)(r * 3 % classes);
    ops_now->cross_entropy(&context_now, &loss, &count, &d.t, &logits.t, label, smoothing, &scale);
    for (int64_t r = 0; r < rows; r++) {
        double *row = d.d + r * classes;
        if (label[r] == HN_NO_TARGET) {
            for (int64_t k = 0; k < classes; k++) row[k] = 0;
            continue;
        }
        expected += entropy(logits.d + r * classes, classes, label[r], (double)smoothing, row);
        expected_count++;
        for (int64_t k = 0; k < classes; k++) row[k] *= 0.25;
    }
    CHECK_NEAR(loss, expected, 1e-5);
    CHECK_INT(count, expected_count);
    CHECK_CLOSE(&d.t, d.d, tolerance(HN_F32));
    double again = 5;
    count = 0;
    ops_now->cross_entropy(&context_now, &again, &count, NULL, &logits.t, label, smoothing, NULL);
    CHECK(again == loss);
    matrix_free(&logits), matrix_free(&d), free(label);
}

static void losses_all(hn_dtype type)
{
    for (int i = 0; i < SIZES; i++) cross_entropy_size(type, sizes[i], 3, 0), cross_entropy_size(type, 33, sizes[i] + 2, 0.1f);
    double loss = 0;
    int64_t count = 0;
    float scale = 3;
    matrix l = matrix_random(type, 3, 1, 0), d = matrix_random(type, 3, 1, 0);
    value_set(&l.t, 0, 0, 2), value_set(&l.t, 1, 0, 5), value_set(&l.t, 2, 0, 1);
    ops_now->mean_squared_error(&context_now, &loss, &count, &d.t, &l.t, (float[]){1.5f, NAN, 3}, &scale);
    CHECK_NEAR(loss, 0.25 + 4, 1e-12);
    CHECK_INT(count, 2);
    CHECK_NEAR(value_at(&d.t, 0, 0), 3, 0);
    CHECK_NEAR(value_at(&d.t, 1, 0), 0, 0);
    CHECK_NEAR(value_at(&d.t, 2, 0), -12, 0);
    value_set(&l.t, 0, 0, NAN);
    ops_now->mean_squared_error(&context_now, &loss, &count, NULL, &l.t, (float[]){1.5f, NAN, 3}, NULL);
    CHECK(isnan(loss));
    matrix nan = matrix_random(type, 2, 3, 1), dn = matrix_random(type, 2, 3, 1);
    value_set(&nan.t, 0, 2, NAN);
    loss = 0;
    ops_now->cross_entropy(&context_now, &loss, &count, &dn.t, &nan.t, (int32_t[]){0, 1}, 0, &scale);
    CHECK(isnan(loss) && isnan(value_at(&dn.t, 0, 0)) && !isnan(value_at(&dn.t, 1, 0)));
    ops_now->cross_entropy(&context_now, &loss, &count, &dn.t, &nan.t, (int32_t[]){0, 3}, 0, &scale);
    CHECK_CONTAINS(error_now.message, "row 1 has the label 3, expected 0 to 2");
    hn_error_reset(&error_now);
    matrix_free(&l), matrix_free(&d), matrix_free(&nan), matrix_free(&dn);
}

static void adamw_size(int64_t count, bool with_copy)
{
    matrix w = matrix_random(HN_F32, 1, count, 1), g = matrix_random(HN_F32, 1, count, 1), m = matrix_random(HN_F32, 1, count, 1);
    matrix v = matrix_random(HN_F32, 1, count, 1), copy = matrix_random(HN_BF16, 1, count, 1);
    for (int64_t i = 0; i < count; i++) value_set(&v.t, 0, i, fabs(v.d[i])), v.d[i] = fabs(v.d[i]);
    float c1[] = {0, 0.1f}, c2[] = {0, 0.002f}, group_lr[] = {0, 0.5f};
    hn_adamw_segment segment = {.master = w.block, .gradient = g.block, .m = m.block, .v = v.block,
                                .copy = with_copy ? copy.block : NULL, .count = count, .lr_scale = 0.8f, .weight_decay = 0.05f,
                                .group = 1};
    hn_adamw_step step = {.lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f, .gradient_scale = 0.7f, .skip = 1,
                          .correction1 = c1, .correction2 = c2, .group_lr = group_lr};
    ops_now->adamw(&context_now, &segment, 1, hn_adamw_chunks(&segment, 1), &step);
    for (int64_t i = 0; i < count; i++) CHECK(value_at(&w.t, 0, i) == w.d[i] && value_at(&m.t, 0, i) == m.d[i]);
    step.skip = 0;
    ops_now->adamw(&context_now, &segment, 1, hn_adamw_chunks(&segment, 1), &step);
    double lr = 0.01 * 0.8 * 0.5;
    for (int64_t i = 0; i < count; i++) {
        double grad = g.d[i] * (double)0.7f;
        m.d[i] = (double)0.9f * m.d[i] + (1 - (double)0.9f) * grad;
        v.d[i] = (double)0.999f * v.d[i] + (1 - (double)0.999f) * grad * grad;
        w.d[i] = w.d[i] * (1 - lr * 0.05) - lr * (m.d[i] / (double)c1[1]) / (sqrt(v.d[i] / (double)c2[1]) + 1e-8);
        if (with_copy) CHECK_INT(((uint16_t *)copy.block)[i], hn_bf16_from_float(((float *)w.block)[i]));
        else CHECK_NEAR(value_at(&copy.t, 0, i), copy.d[i], 0);
    }
    CHECK_CLOSE(&m.t, m.d, tolerance(HN_F32));
    CHECK_CLOSE(&v.t, v.d, tolerance(HN_F32));
    CHECK_CLOSE(&w.t, w.d, tolerance(HN_F32));
    matrix_free(&w), matrix_free(&g), matrix_free(&m), matrix_free(&v), matrix_free(&copy);
}

/* Moments of bf16: an element's word decides which neighbour is stored. The sums are exact: m ends a quarter, v half of the way
 * to the upper one. */
static void rounded_moments(hn_dtype type, int64_t count)
{
    matrix w = matrix_random(HN_F32, 1, count, 0), g = matrix_random(HN_F32, 1, count, 0), m = matrix_random(HN_BF16, 1, count, 0);
    matrix v = matrix_random(HN_BF16, 1, count, 0), copy = matrix_random(HN_BF16, 1, count, 0);
    for (int64_t i = 0; i < count; i++) {
        value_set(&m.t, 0, i, 1), value_set(&v.t, 0, i, 1), value_set(&g.t, 0, i, 1 + 0x1p-8);
        if (i % 7 == 3) value_set(&g.t, 0, i, NAN);
    }
    float one = 1;
    hn_adamw_segment segment = {.master = w.block, .gradient = g.block, .m = m.block, .v = v.block,
                                .copy = type == HN_BF16 ? copy.block : NULL, .count = count, .lr_scale = 1, .moments = HN_BF16,
                                .parameter = 5};
    hn_adamw_step step = {.lr = 0.5f, .beta1 = 0.5f, .beta2 = 0.5f, .gradient_scale = 1, .correction1 = &one, .correction2 = &one,
                          .seed = 0x123456789abcdef0u, .step = 9};
    ops_now->adamw(&context_now, &segment, 1, hn_adamw_chunks(&segment, 1), &step);
    int64_t up = 0, numbers = 0;
    double step_of_one = 0.5 * (1 + 0x1p-9) / sqrt(1 + 0x1p-8 + 0x1p-17); /* by the moments before they are rounded */
    for (int64_t i = 0; i < count; i++) {
        uint32_t word = hn_philox(step.seed, (uint32_t)(i / 4), HN_SITE(0, HN_SITE_ROUNDING, 0), 5, 9).word[i % 4];
        double low = value_at(&m.t, 0, i), square = value_at(&v.t, 0, i);
        if (i % 7 == 3) {
            CHECK(isnan(low) && isnan(square) && isnan(value_at(&w.t, 0, i)));
            continue;
        }
        CHECK_NEAR(low, 1 + ((word & 0xffff) >= 0xc000 ? 0x1p-7 : 0), 0);
        CHECK_NEAR(square, 1 + ((word >> 16) >= 0x7fc0 ? 0x1p-7 : 0), 0);
        CHECK_NEAR(value_at(&w.t, 0, i), -step_of_one, 1e-6);
        up += low > 1, numbers++;
    }
    if (count > 10000) CHECK_NEAR((double)up / (double)numbers, 0.25, 0.01);
    matrix_free(&w), matrix_free(&g), matrix_free(&m), matrix_free(&v), matrix_free(&copy);
}

/* The same step over a parameter in one piece and cut at multiples of 32; all its arrays end to end in `all`: 18 bytes an element. */
static void step_in_parts(unsigned char *all, int64_t count, hn_dtype moments, bool copy, const int64_t *cut, int parts)
{
    static const float correction[] = {0.1f, 0.002f};
    hn_adamw_step step = {.lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f, .gradient_scale = 0.7f,
                          .correction1 = correction, .correction2 = correction + 1, .seed = 77, .step = 3};
    hn_adamw_segment list[16];
    size_t wide = hn_dtype_size(moments), n = (size_t)(count + 31) / 32 * 32;
    for (int p = 0; p < parts; p++) {
        int64_t at = p ? cut[p - 1] : 0;
        list[p] = (hn_adamw_segment){.master = (float *)all + at, .gradient = (float *)all + n + at,
                                     .m = all + 8 * n + (size_t)at * wide, .v = all + 12 * n + (size_t)at * wide,
                                     .copy = copy ? (uint16_t *)(all + 16 * n) + at : NULL, .count = cut[p] - at, .lr_scale = 0.8f,
                                     .weight_decay = 0.05f, .moments = moments, .parameter = 5, .offset = at};
    }
    ops_now->adamw(&context_now, list, parts, hn_adamw_chunks(list, parts), &step);
}

static void cut_alike(hn_dtype moments, bool copy)
{
    enum { N = 33333, PARTS = 7, PLACES = 33344 };
    static const int64_t cuts[][PARTS] = {{N}, {32, N}, {33312, N}, {16384, N}, {512, 544, 16928, 16928, 16960, 33280, N}};
    static const int parts[] = {1, 2, 2, 2, 7};
    size_t size = (size_t)PLACES * 18;
    unsigned char *all = calloc(1, size), *whole = malloc(size);
    for (int c = 0; c < 5; c++) {
        unsigned char *m = all + 8 * PLACES, *v = all + 12 * PLACES;
        for (int64_t i = 0; i < N; i++) {
            hn_philox4 random = hn_philox(7, (uint32_t)i, 0, 0, 0);
            ((float *)all)[i] = hn_uniform(random.word[0]), ((float *)all)[PLACES + i] = hn_uniform(random.word[1]) - 0.5f;
            float first = hn_uniform(random.word[2]) - 0.5f, second = hn_uniform(random.word[3]);
            if (moments == HN_F32) ((float *)m)[i] = first, ((float *)v)[i] = second;
            else ((uint16_t *)m)[i] = hn_bf16_from_float(first), ((uint16_t *)v)[i] = hn_bf16_from_float(second);
        }
        step_in_parts(all, N, moments, copy, cuts[c], parts[c]);
        if (c == 0) memcpy(whole, all, size);
        else CHECK(!memcmp(whole, all, size));
    }
    free(all), free(whole);
}

static void cut_all(hn_dtype type)
{
    cut_alike(type, false), cut_alike(type, true);
}

static void optimizer_all(hn_dtype type)
{
    for (int i = 0; i < SIZES; i++) rounded_moments(type, sizes[i]);
    rounded_moments(type, 40000);
    for (int i = 0; i < SIZES; i++) adamw_size(sizes[i], type == HN_BF16);
    adamw_size(40000, type == HN_BF16);
    enum { N = 200001 };
    matrix x = matrix_random(HN_F32, 1, N, 1);
    double expected = 2, sum = 2, one_thread = 2;
    for (int i = 0; i < N; i++) expected += x.d[i] * x.d[i];
    ops_now->sum_squares(&context_now, &sum, x.block, N);
    CHECK_NEAR(sum / expected, 1, 1e-12);
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    ops_now->sum_squares(&context_now, &one_thread, x.block, N);
    omp_set_num_threads(threads);
    CHECK(one_thread == sum);
    ((float *)x.block)[N - 1] = 1e30f;
    ops_now->sum_squares(&context_now, &sum, x.block, N);
    CHECK_NEAR(sum / 1e60, 1, 1e-6);
    ((float *)x.block)[7] = NAN;
    ops_now->sum_squares(&context_now, &sum, x.block, N);
    CHECK(isnan(sum));
    matrix_free(&x);
}

static void memory_all(hn_dtype type)
{
    for (int i = 0; i < SIZES; i++) {
        int64_t n = sizes[i];
        matrix x = matrix_random(type, n, 3, 100), y = matrix_random(type == HN_F32 ? HN_BF16 : HN_F32, n, 3, 1);
        ops_now->cast(&context_now, &y.t, &x.t);
        CHECK_CLOSE(&y.t, x.d, 4e-3);
        matrix f = matrix_random(HN_F32, 1, n, 1);
        float factor = 4;
        ops_now->scale(&context_now, f.block, n, &factor);
        for (int64_t j = 0; j < n; j++) CHECK(value_at(&f.t, 0, j) == 4 * f.d[j]);
        ops_now->zero(&context_now, f.block, (size_t)n * 4);
        for (int64_t j = 0; j < n; j++) CHECK(value_at(&f.t, 0, j) == 0);
        matrix g = matrix_random(HN_F32, 1, n, 1);
        size_t odd = (size_t)n * 2 + (n > 0);
        ops_now->copy(&context_now, f.block, x.block, odd);
        CHECK(!memcmp(f.block, x.block, odd));
        ops_now->copy(&context_now, f.block, g.block, (size_t)n * 4);
        ops_now->add(&context_now, f.block, g.block, n);
        for (int64_t j = 0; j < n; j++) CHECK(value_at(&f.t, 0, j) == 2 * g.d[j] && value_at(&g.t, 0, j) == g.d[j]);
        matrix_free(&x), matrix_free(&y), matrix_free(&f), matrix_free(&g);
    }
}

/* Longer than what a thread takes at a time: nothing is left out, nothing done twice, a NaN stays by itself. */
static void long_memory(hn_dtype type)
{
    enum { N = 50001 };
    (void)type;
    matrix x = matrix_random(HN_F32, 1, N, 100), y = matrix_random(HN_F32, 1, N, 1);
    value_set(&x.t, 0, 40000, NAN);
    ops_now->add(&context_now, y.block, x.block, N);
    for (int64_t j = 0; j < N; j++)
        CHECK(j == 40000 ? isnan(value_at(&y.t, 0, j)) : value_at(&y.t, 0, j) == (double)((float)y.d[j] + (float)x.d[j]));
    ops_now->copy(&context_now, y.block, x.block, N * sizeof(float) - 1);
    CHECK(!memcmp(y.block, x.block, N * sizeof(float) - 1));
    matrix_free(&x), matrix_free(&y);
}

/* One after the other, so that what is lost to rounding shows the order. */
static void sums_all(hn_dtype type)
{
    const hn_sums from[] = {{1e16, 3, 1}, {1, 5, 0x1p53}, {1, (int64_t)1 << 60, 1}, {-1e16, -1, 1}};
    hn_sums to = {1, 2, 4};
    (void)type;
    ops_now->add_sums(&context_now, &to, from, 0);
    CHECK(to.loss == 1 && to.count == 2 && to.squares == 4);
    ops_now->add_sums(&context_now, &to, from, 4);
    CHECK(to.loss == 0 && to.squares == 0x1p53 + 4);
    CHECK_INT(to.count, ((int64_t)1 << 60) + 9);
}

/* After a failure nothing runs; with a profile every call is counted under its name, and all of them move the pulse. */
static void door(hn_dtype type)
{
    (void)type;
    float x[3] = {1, 2, 3}, factor = 2;
    hn_profile profile = {0};
    hn_operation order[HN_OPERATIONS];
    uint64_t pulse = 40;
    context_now.profile = &profile, context_now.pulse = &pulse;
    ops_now->scale(&context_now, x, 3, &factor);
    hn_fail(&error_now, HN_ERR_NUMERIC, "earlier");
    ops_now->scale(&context_now, x, 3, &factor);
    hn_error_reset(&error_now);
    context_now.profile = NULL;
    ops_now->zero(&context_now, x, 0);
    context_now.pulse = NULL;
    ops_now->zero(&context_now, x, 0);
    CHECK(x[2] == 6);
    CHECK_INT(pulse, 42);
    CHECK_INT(hn_profile_order(&profile, order), 1);
    CHECK_TEXT(hn_operation_name(order[0]), "scale");
    CHECK_INT(profile.operation[order[0]].calls, 1);
    hn_profile_add(&profile, HN_OP_ADAMW, 1000, 0);
    CHECK_INT(hn_profile_order(&profile, order), 2);
    CHECK_INT(order[0], HN_OP_ADAMW);
}

TEST(embedding) { on_every_table(embedding_all, 300, 300, 0, 0); }
TEST(rows) { on_every_table(rows_all, 300, 300, 0, 0); }
TEST(activation_backward) { on_every_table(activation_backward_all, 300, 300, 0, 0); }
TEST(losses) { on_every_table(losses_all, 300, 300, 0, 0); }
TEST(optimizer) { on_every_table(optimizer_all, 300, 300, 0, 0); }
TEST(cut_into_segments) { on_every_table(cut_all, 300, 300, 0, 0); }
TEST(memory) { on_every_table(memory_all, 300, 300, 0, 0); }
TEST(long_memory) { on_every_table(long_memory, 300, 300, 0, 0); }
TEST(sums) { on_every_table(sums_all, 300, 300, 0, 0); }
TEST(one_door) { on_every_table(door, 300, 300, 0, 0); }

TEST_MAIN(RUN(embedding); RUN(rows); RUN(activation_backward); RUN(losses); RUN(optimizer); RUN(cut_into_segments); RUN(memory); RUN(long_memory); RUN(sums); RUN(one_door))
