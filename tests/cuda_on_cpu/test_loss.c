/* loss.cu on the emulator against the formulas in double: few classes and many, rows without a target, labels out of range. */
#include "core/batch.h"
#include "tests/cuda_on_cpu/device.h"

/* What kernels read and write beside matrices: from malloc. */
typedef struct sums {
    double loss;
    int64_t count;
    float scale, *value;
    int32_t *label;
} sums;

static sums *sums_new(int64_t rows, double loss, int64_t count, float scale)
{
    sums *s = malloc(sizeof *s);
    *s = (sums){loss, count, scale, floats_new(rows), malloc((size_t)rows * sizeof *s->label)};
    return s;
}

static void sums_free(sums *s)
{
    free(s->value), free(s->label), free(s);
}

typedef struct entropy_case {
    int64_t rows, classes, gap, gradient_gap; /* more between the rows of the gradient */
    float smoothing;
    hn_dtype dtype, gradient;
    bool in_place, no_gradient;
} entropy_case;

/* Loss of row r; z becomes the gradient. */
static double expect_row(double *z, const entropy_case *c, const hn_tensor *logits, int64_t r, int32_t label, double scale)
{
    double highest = -INFINITY, sum = 0, loss = 0, smoothing = (double)c->smoothing, count = (double)c->classes;
    for (int64_t k = 0; k < c->classes; k++) highest = fmax(highest, z[k] = get(logits, r, k));
    for (int64_t k = 0; k < c->classes; k++) sum += exp(z[k] - highest);
    for (int64_t k = 0; k < c->classes; k++) {
        double q = smoothing / count + (k == label ? 1 - smoothing : 0);
        loss -= q * (z[k] - highest - log(sum));
        z[k] = (exp(z[k] - highest) / sum - q) * scale;
    }
    return loss;
}

static void check_entropy(const entropy_case *c)
{
    if (!case_wanted()) return;
    double expected = 100, *slopes = calloc((size_t)(c->rows * c->classes) + 1, sizeof *slopes);
    int64_t targets = 1000, stride = c->classes + c->gap;
    sums *s = sums_new(c->rows, 100, 1000, 0.7f);
    device d;
    device_open(&d, hnp_cuda_loss_workspace(c->rows));
    hn_tensor logits = matrix_random(c->dtype, c->rows, c->classes, stride, 4),
              gradient = matrix_new(c->gradient, c->rows, c->classes, stride + c->gradient_gap);
    for (int64_t r = 0; r < c->rows; r++) {
        s->label[r] = r % 4 == 1 ? HN_NO_TARGET : (int32_t)((r * 7 + c->classes - 1) % c->classes);
        if (s->label[r] == HN_NO_TARGET) continue;
        expected += expect_row(slopes + r * c->classes, c, &logits, r, s->label[r], (double)s->scale);
        targets++;
    }
    hn_tensor *to = c->no_gradient ? NULL : c->in_place ? &logits : &gradient;
    d.ops->cross_entropy(&d.ctx, &s->loss, &s->count, to, &logits, s->label, c->smoothing, to ? &s->scale : NULL);
    device_wait(&d);
    CHECK_TEXT(d.error.message, "");
    CHECK_NEAR(s->loss, expected, 1e-5 * expected);
    CHECK_INT(s->count, targets);
    if (to) {
        CHECK_MATRIX(to, slopes, tolerance(to->dtype));
        CHECK(gaps_untouched(to));
    }
    free(logits.data), free(gradient.data), free(slopes);
    sums_free(s);
    device_close(&d);
}

/* Numbers of classes around those where a vector, a warp, a batch of vectors and the threads of a row change. */
TEST(cross_entropy_at_odd_sizes)
{
    static const int64_t rows[] = {0, 1, 31, 33, 257}, classes[] = {1, 2, 3, 30, 33, 128, 515, 1024, 1025, 5000, 16384, 16385, 50001};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t k = 0; k < sizeof classes / sizeof *classes; k++)
            for (int type = 0; type < 2; type++)
                if (rows[i] * classes[k] <= 9000 || rows[i] == 1)
                    check_entropy(&(entropy_case){.rows = rows[i], .classes = classes[k], .gap = k % 2 ? 0 : 24 - classes[k] % 8,
                                                  .smoothing = k % 3 ? 0.1f : 0, .dtype = type ? HN_BF16 : HN_F32,
                                                  .gradient = i % 2 ? HN_BF16 : HN_F32});
}

TEST(cross_entropy_variants)
{
    for (int bits = 0; bits < 64; bits++) {
        entropy_case c = {.rows = 6, .classes = bits & 32 ? 1100 : 21, .dtype = bits & 1 ? HN_BF16 : HN_F32, .gap = 3};
        c.in_place = bits & 2, c.no_gradient = bits & 4;
        c.gradient = bits & 8 || c.in_place ? c.dtype : HN_F32;
        if (bits & 16) c.gap = 24 - c.classes % 8, c.smoothing = 0.2f;
        check_entropy(&c);
    }
}

/* logits (0, log 3): -log of 1/4 or of 3/4. */
TEST(cross_entropy_by_hand)
{
    sums *s = sums_new(2, 0, 0, 2);
    device d;
    device_open(&d, hnp_cuda_loss_workspace(2));
    hn_tensor z = matrix_new(HN_F32, 2, 2, 2), dz = matrix_new(HN_F32, 2, 2, 2);
    for (int i = 0; i < 4; i++) put(&z, i / 2, i % 2, i % 2 ? log(3) : 0);
    s->label[0] = 0, s->label[1] = 1;
    d.ops->cross_entropy(&d.ctx, &s->loss, &s->count, &dz, &z, s->label, 0, &s->scale);
    CHECK_NEAR(s->loss, log(4) + log(4.0 / 3), 1e-6);
    CHECK_NEAR(get(&dz, 0, 0), -1.5, 1e-6);
    CHECK_NEAR(get(&dz, 1, 1), -0.5, 1e-6);
    CHECK_INT(s->count, 2);
    free(z.data), free(dz.data);
    sums_free(s);
    device_close(&d);
}

/* The row is left out with a gradient of zeros, the others are as ever, and synchronize says what the CPU says. */
TEST(a_label_outside_is_told)
{
    static const int32_t labels[] = {3, -1};
    for (int i = 0; i < 2; i++) {
        entropy_case c = {.rows = 3, .classes = 3};
        double z[3];
        sums *s = sums_new(3, 0, 0, 1);
        device d;
        device_open(&d, hnp_cuda_loss_workspace(3));
        hn_tensor logits = matrix_random(HN_F32, 3, 3, 3, 1), gradient = matrix_new(HN_F32, 3, 3, 3);
        s->label[0] = 2, s->label[1] = labels[i], s->label[2] = 1;
        d.ops->cross_entropy(&d.ctx, &s->loss, &s->count, &gradient, &logits, s->label, 0, &s->scale);
        CHECK_INT(d.backend.synchronize(&d.backend, &d.error), HN_ERR_MISMATCH);
        CHECK_TEXT(d.error.message, i ? "cross entropy: row 1 has the label -1, expected 0 to 2"
                                      : "cross entropy: row 1 has the label 3, expected 0 to 2");
        double expected = expect_row(z, &c, &logits, 0, 2, 1);
        CHECK_NEAR(get(&gradient, 0, 0), z[0], 1e-5);
        CHECK_NEAR(s->loss, expected + expect_row(z, &c, &logits, 2, 1, 1), 1e-5);
        for (int k = 0; k < 3; k++) CHECK(get(&gradient, 1, k) == 0);
        CHECK_INT(s->count, 2);
        free(logits.data), free(gradient.data);
        sums_free(s);
        device_close(&d);
    }
}

/* A NaN or an infinite logit makes the loss NaN, wherever it stands; so do logits that are all -inf. One -inf is a class that cannot be. */
TEST(broken_logits)
{
    enum { CLASSES = 1100 };
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static const int at[] = {0, 700, 1099};
    for (int i = 0; i < 9; i++) {
        sums *s = sums_new(1, 0, 0, 1);
        device d;
        device_open(&d, hnp_cuda_loss_workspace(1));
        hn_tensor logits = matrix_random(HN_F32, 1, CLASSES, CLASSES, 1), gradient = matrix_new(HN_F32, 1, CLASSES, CLASSES);
        put(&logits, 0, at[i % 3], (double)bad[i / 3]);
        s->label[0] = 5;
        d.ops->cross_entropy(&d.ctx, &s->loss, &s->count, &gradient, &logits, s->label, 0, &s->scale);
        CHECK(isnan(s->loss) == (i < 6));
        CHECK(isnan(get(&gradient, 0, 9)) == (i < 6));
        if (i >= 6) CHECK(get(&gradient, 0, at[i % 3]) == 0);
        for (int k = 0; k < CLASSES; k++) put(&logits, 0, k, -INFINITY);
        s->loss = 0;
        d.ops->cross_entropy(&d.ctx, &s->loss, &s->count, &gradient, &logits, s->label, 0, &s->scale);
        CHECK(isnan(s->loss));
        free(logits.data), free(gradient.data);
        sums_free(s);
        device_close(&d);
    }
}

/* Logits that allow vectors, beside a gradient whose rows do not. */
TEST(a_gradient_out_of_line)
{
    for (int bf16 = 0; bf16 < 2; bf16++)
        check_entropy(&(entropy_case){.rows = 3, .classes = 40, .gradient_gap = 1, .dtype = bf16 ? HN_BF16 : HN_F32, .gradient = HN_F32});
}

/* Classes that cannot be, before all others: whole vectors of them come first to every thread. */
TEST(impossible_classes_come_first)
{
    enum { CLASSES = 1100, POSSIBLE = 1090 };
    sums *s = sums_new(1, 0, 0, 1);
    double sum = 0;
    device d;
    device_open(&d, hnp_cuda_loss_workspace(1));
    hn_tensor logits = matrix_random(HN_F32, 1, CLASSES, CLASSES, 1);
    for (int k = 0; k < POSSIBLE; k++) put(&logits, 0, k, -INFINITY);
    for (int k = POSSIBLE; k < CLASSES; k++) sum += exp(get(&logits, 0, k));
    s->label[0] = POSSIBLE + 3;
    d.ops->cross_entropy(&d.ctx, &s->loss, &s->count, NULL, &logits, s->label, 0, NULL);
    device_wait(&d);
    CHECK_TEXT(d.error.message, "");
    CHECK_NEAR(s->loss, log(sum) - get(&logits, 0, POSSIBLE + 3), 1e-5);
    free(logits.data);
    sums_free(s);
    device_close(&d);
}

TEST(same_bits_in_another_order)
{
    enum { ROWS = 300, CLASSES = 37 };
    double loss[2];
    hn_tensor logits = matrix_random(HN_F32, ROWS, CLASSES, CLASSES, 9);
    for (int run = 0; run < 2; run++) {
        sums *s = sums_new(ROWS, 0, 0, 1);
        device d;
        emu_seed(200 + (uint64_t)run);
        device_open(&d, hnp_cuda_loss_workspace(ROWS));
        for (int r = 0; r < ROWS; r++) s->label[r] = r % CLASSES;
        d.ops->cross_entropy(&d.ctx, &s->loss, &s->count, NULL, &logits, s->label, 0.1f, NULL);
        loss[run] = s->loss;
        sums_free(s);
        device_close(&d);
    }
    CHECK(loss[0] == loss[1] && loss[0] > 0);
    free(logits.data);
}

static void check_squares(int64_t rows, hn_dtype dtype, hn_dtype gradient, bool in_place)
{
    double expected = 10, *slopes = malloc((size_t)rows * sizeof *slopes + 8);
    int64_t targets = 7;
    sums *s = sums_new(rows, 10, 7, 0.3f);
    device d;
    device_open(&d, 0);
    hn_tensor logits = matrix_random(dtype, rows, 1, 3, 2), to = matrix_new(gradient, rows, 1, 2);
    for (int64_t r = 0; r < rows; r++) {
        s->value[r] = r % 5 == 2 ? NAN : (float)uniform();
        double difference = r % 5 == 2 ? 0 : get(&logits, r, 0) - (double)s->value[r];
        expected += difference * difference;
        targets += r % 5 != 2;
        slopes[r] = 2 * difference * (double)s->scale;
    }
    hn_tensor *out = in_place ? &logits : &to;
    d.ops->mean_squared_error(&d.ctx, &s->loss, &s->count, NULL, &logits, s->value, NULL);
    CHECK_NEAR(s->loss, expected, 1e-6 * expected);
    d.ops->mean_squared_error(&d.ctx, &s->loss, &s->count, out, &logits, s->value, &s->scale);
    CHECK_NEAR(s->loss, 2 * expected - 10, 1e-6 * expected);
    CHECK_INT(s->count, 2 * targets - 7);
    CHECK_MATRIX(out, slopes, tolerance(out->dtype));
    CHECK(gaps_untouched(out));
    free(logits.data), free(to.data), free(slopes);
    sums_free(s);
    device_close(&d);
}

TEST(mean_squared_error)
{
    static const int64_t rows[] = {0, 1, 31, 33, 257, 600};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        check_squares(rows[i], HN_F32, HN_BF16, false);
        check_squares(rows[i], HN_BF16, HN_F32, i % 2);
    }
}

TEST(workspace_too_small_is_an_error)
{
    float f[4] = {0}; /* no kernel runs */
    double loss = 0;
    int64_t count = 0;
    int32_t label[2] = {0, 1};
    device d;
    device_open(&d, 16);
    hn_tensor logits = hn_tensor_2d(f, HN_F32, 2, 2);
    d.ops->cross_entropy(&d.ctx, &loss, &count, NULL, &logits, label, 0, NULL);
    CHECK_TEXT(d.error.message, "cross_entropy: needs 32 bytes of workspace, has 16");
    device_close(&d);
}

/* The same call on both tables. */
TEST(agrees_with_the_cpu)
{
    enum { ROWS = 40, CLASSES = 19 };
    sums *s[2];
    double squares[2];
    device d;
    table cpu;
    hn_tensor logits = matrix_random(HN_BF16, ROWS, CLASSES, CLASSES, 5), to[2], one = hn_tensor_columns(&logits, 0, 1);
    device_open(&d, hnp_cuda_loss_workspace(ROWS));
    cpu_open(&cpu);
    for (int side = 0; side < 2; side++) {
        const hn_ops *ops = side ? d.ops : hn_ops_cpu();
        hn_ops_context *ctx = side ? &d.ctx : &cpu.ctx;
        s[side] = sums_new(ROWS, 3, 0, 0.25f);
        for (int r = 0; r < ROWS; r++) s[side]->label[r] = r % 6 ? r % CLASSES : HN_NO_TARGET, s[side]->value[r] = (float)r / 9;
        to[side] = matrix_new(HN_F32, ROWS, CLASSES, CLASSES);
        ops->cross_entropy(ctx, &s[side]->loss, &s[side]->count, &to[side], &logits, s[side]->label, 0.1f, &s[side]->scale);
        squares[side] = s[side]->loss;
        ops->mean_squared_error(ctx, &s[side]->loss, &s[side]->count, NULL, &one, s[side]->value, NULL);
        squares[side] = s[side]->loss - squares[side];
    }
    CHECK_NEAR(s[1]->loss, s[0]->loss, 1e-5 * s[0]->loss);
    CHECK_NEAR(squares[1], squares[0], 1e-6 * squares[0]);
    CHECK_INT(s[1]->count, s[0]->count);
    CHECK(apart(&to[0], &to[1]) <= tolerance(HN_F32));
    free(logits.data), free(to[0].data), free(to[1].data);
    sums_free(s[0]), sums_free(s[1]);
    cpu_close(&cpu);
    device_close(&d);
}

TEST_MAIN(RUN(cross_entropy_by_hand); RUN(cross_entropy_at_odd_sizes); RUN(cross_entropy_variants); RUN(a_label_outside_is_told);
          RUN(broken_logits); RUN(a_gradient_out_of_line); RUN(impossible_classes_come_first); RUN(same_bits_in_another_order); RUN(mean_squared_error); RUN(workspace_too_small_is_an_error);
          RUN(agrees_with_the_cpu))
