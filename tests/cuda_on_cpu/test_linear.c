/* linear.cu on the emulator against plain loops in double: every activation, all types that models use and the mixtures that they do
 * not, odd sizes, strides, absences; fused by the library and by passes of ours. */
#include "tests/cuda_on_cpu/linear_test.h"

#include "tests/cuda_on_cpu/cublas_lt.h"

typedef struct types {
    hn_dtype x, w, y, z, bias;
} types;

typedef struct linear_case {
    int64_t m, n, k, gap;
    types type;
    hn_activation activation;
    bool bias, z;
} linear_case;

/* Products of operands that had to be narrowed are those of bf16. */
static double limit_of(const types *t, hn_dtype result)
{
    bool direct = t->x == t->w && (t->y == HN_F32 || t->x == HN_BF16);
    return tolerance(result == HN_BF16 || !direct ? HN_BF16 : HN_F32);
}

static double dot(const hn_tensor *x, const hn_tensor *w, int64_t r, int64_t n)
{
    double sum = 0;
    for (int64_t k = 0; k < x->shape[1]; k++) sum += get(x, r, k) * get(w, n, k);
    return sum;
}

static void check_forward(device *d, const linear_case *c)
{
    hn_tensor x = matrix_random(c->type.x, c->m, c->k, c->k + c->gap, 1);
    hn_tensor w = matrix_random(c->type.w, c->n, c->k, c->k + c->gap, 1 / sqrt((double)c->k));
    hn_tensor bias = vector_random(c->type.bias, c->n);
    hn_tensor y = matrix_new(c->type.y, c->m, c->n, c->n + c->gap), z = matrix_new(c->type.z, c->m, c->n, c->n + c->gap);
    double *ey = malloc((size_t)(c->m * c->n) * sizeof *ey + 8), *ez = malloc((size_t)(c->m * c->n) * sizeof *ez + 8);
    for (int64_t i = 0; i < c->m * c->n; i++) {
        ez[i] = dot(&x, &w, i / c->n, i % c->n) + (c->bias ? get(&bias, 0, i % c->n) : 0);
        ey[i] = act(ez[i], c->activation);
    }
    d->ops->linear_forward(&d->ctx, &y, c->z ? &z : NULL, &x, &w, c->bias ? &bias : NULL, c->activation);
    CHECK_TEXT(d->error.message, "");
    CHECK_MATRIX(&y, ey, limit_of(&c->type, c->type.y));
    CHECK(gaps_untouched(&y));
    if (c->z) {
        CHECK_MATRIX(&z, ez, limit_of(&c->type, c->type.z));
        CHECK(gaps_untouched(&z));
    }
    void *all[] = {x.data, w.data, bias.data, y.data, z.data, ey, ez};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static const types all_types[] = {
    {HN_F32, HN_F32, HN_F32, HN_F32, HN_F32},     {HN_BF16, HN_BF16, HN_BF16, HN_BF16, HN_F32},
    {HN_BF16, HN_BF16, HN_F32, HN_F32, HN_F32},   {HN_BF16, HN_BF16, HN_BF16, HN_F32, HN_BF16},
    {HN_BF16, HN_F32, HN_F32, HN_BF16, HN_F32},   {HN_F32, HN_BF16, HN_BF16, HN_F32, HN_BF16},
    {HN_F32, HN_F32, HN_BF16, HN_BF16, HN_F32},
};
static const int64_t sizes[][3] = {{0, 8, 8}, {1, 1, 1}, {1, 64, 31}, {31, 33, 1}, {33, 24, 40}, {257, 31, 33}};
enum { TYPES = sizeof all_types / sizeof *all_types, SIZES = sizeof sizes / sizeof *sizes };

TEST(forward)
{
    for (int capability = 80; capability <= 90; capability += 10) {
        device d;
        linear_open(&d, capability);
        for (int type = 0; type < TYPES; type++)
            for (int size = 0; size < SIZES; size++)
                for (int bits = 0; bits < 4; bits++) {
                    int odd = (type + size + bits) % 3;
                    linear_case c = {.m = sizes[size][0], .n = sizes[size][1], .k = sizes[size][2], .gap = odd == 0 ? 0 : odd == 1 ? 3 : 8,
                                     .type = all_types[type], .bias = bits & 1, .z = bits & 2};
                    for (int a = 0; a < ACTIVATIONS; a++) {
                        c.activation = (hn_activation)a;
                        check_forward(&d, &c);
                    }
                }
        device_close(&d);
    }
}

/* y worked out by hand: z = (1 2) (3 4)^T + 0.5 = 11.5, and ReLU cuts the second column. */
TEST(forward_by_hand)
{
    device d;
    linear_open(&d, 80);
    float x[2] = {1, 2}, w[4] = {3, 4, -5, 1}, bias[2] = {0.5f, 1}, y[2], z[2];
    hn_tensor tx = hn_tensor_2d(x, HN_F32, 1, 2), tw = hn_tensor_2d(w, HN_F32, 2, 2), tb = hn_tensor_1d(bias, HN_F32, 2),
              ty = hn_tensor_2d(y, HN_F32, 1, 2), tz = hn_tensor_2d(z, HN_F32, 1, 2);
    d.ops->linear_forward(&d.ctx, &ty, &tz, &tx, &tw, &tb, HN_ACT_RELU);
    CHECK_TEXT(d.error.message, "");
    CHECK_NEAR(z[0], 11.5, 0);
    CHECK_NEAR(z[1], -2, 0);
    CHECK_NEAR(y[0], 11.5, 0);
    CHECK_NEAR(y[1], 0, 0);
    device_close(&d);
}

/* A NaN stays in its row. */
TEST(nan_stays_in_its_row)
{
    for (int capability = 80; capability <= 90; capability += 10) {
        device d;
        linear_open(&d, capability);
        hn_tensor x = matrix_random(HN_BF16, 9, 16, 16, 1), w = matrix_random(HN_BF16, 24, 16, 16, 1), y = matrix_new(HN_BF16, 9, 24, 24);
        put(&x, 4, 3, NAN);
        d.ops->linear_forward(&d.ctx, &y, NULL, &x, &w, NULL, HN_ACT_GELU_TANH);
        CHECK_TEXT(d.error.message, "");
        for (int64_t i = 0; i < 9 * 24; i++) CHECK(isnan(get(&y, i / 24, i % 24)) == (i / 24 == 4));
        free(x.data), free(w.data), free(y.data);
        device_close(&d);
    }
}

/* From so many elements on a bias is narrowed and fused; as exact as bf16 is. */
TEST(a_large_result_takes_its_bias_fused)
{
    device d;
    emu_lt_reset();
    linear_open(&d, 80);
    linear_case c = {.m = 1024, .n = 1024, .k = 2, .type = all_types[1], .bias = true};
    check_forward(&d, &c);
    CHECK_INT(emu_lt_counted()->epilogue[4], 1);
    c.m = 1023;
    check_forward(&d, &c);
    CHECK_INT(emu_lt_counted()->epilogue[4], 1);
    device_close(&d);
}

TEST(what_is_fused)
{
    const hn_dtype B = HN_BF16;
    device d;
    emu_lt_reset();
    for (int capability = 80; capability <= 90; capability += 10) {
        emu_lt_reset();
        linear_open(&d, capability);
        int fused = capability == 90;
        linear_case c = {.m = 8, .n = 16, .k = 16, .type = {B, B, B, B, B}, .activation = HN_ACT_GELU_TANH, .bias = true, .z = true};
        check_forward(&d, &c);
        CHECK_INT(emu_lt_counted()->epilogue[32 | 128 | 4], fused);
        c.z = false;
        check_forward(&d, &c);
        CHECK_INT(emu_lt_counted()->epilogue[32 | 4], fused);
        c.bias = false;
        check_forward(&d, &c);
        CHECK_INT(emu_lt_counted()->epilogue[32], fused);
        c.type = all_types[0]; /* fp32 is to be exact */
        check_forward(&d, &c);
        c.type = (types){B, B, B, B, B}, c.activation = HN_ACT_GELU; /* the other formula */
        check_forward(&d, &c);
        CHECK_INT(emu_lt_counted()->epilogue[32], fused);
        c.activation = HN_ACT_NONE, c.bias = true;
        check_forward(&d, &c);
        CHECK_INT(emu_lt_counted()->epilogue[4], 1);
        device_close(&d);
    }
}

/* Without any epilogue everything still comes out. */
static void refuse_all(void)
{
    for (int epilogue = 2; epilogue < 1024; epilogue++) emu_lt_refuse(epilogue);
}

/* --- backward --- */

static void check_backward_input(device *d, const linear_case *c, bool add)
{
    hn_tensor dy = matrix_random(c->type.x, c->m, c->n, c->n + c->gap, 1);
    hn_tensor w = matrix_random(c->type.w, c->n, c->k, c->k + c->gap, 1 / sqrt((double)c->n));
    hn_tensor z = matrix_random(c->type.z, c->m, c->k, c->k + c->gap, c->activation == HN_ACT_TANH ? 1 : 2);
    hn_tensor dx = add ? matrix_random(c->type.y, c->m, c->k, c->k + c->gap, 1) : matrix_new(c->type.y, c->m, c->k, c->k + c->gap);
    double *expected = malloc((size_t)(c->m * c->k) * sizeof *expected + 8);
    for (int64_t i = 0; i < c->m * c->k; i++) {
        double sum = 0;
        for (int64_t n = 0; n < c->n; n++) sum += get(&dy, i / c->k, n) * get(&w, n, i % c->k);
        expected[i] = add ? sum + get(&dx, i / c->k, i % c->k) : sum * slope(get(&z, i / c->k, i % c->k), c->activation);
    }
    d->ops->linear_backward_input(&d->ctx, &dx, &dy, &w, c->activation == HN_ACT_NONE ? NULL : &z, c->activation, add);
    CHECK_TEXT(d->error.message, "");
    CHECK_MATRIX(&dx, expected, limit_of(&c->type, c->type.y));
    CHECK(gaps_untouched(&dx));
    void *all[] = {dy.data, w.data, z.data, dx.data, expected};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static void backward_input_on(device *d)
{
    for (int type = 0; type < TYPES; type++)
        for (int size = 0; size < SIZES; size++) {
            linear_case c = {.m = sizes[size][0], .n = sizes[size][1], .k = sizes[size][2], .type = all_types[type],
                             .gap = (type + size) % 3 * 4};
            check_backward_input(d, &c, true);
            for (int a = 0; a < ACTIVATIONS; a++) {
                c.activation = (hn_activation)a;
                check_backward_input(d, &c, false);
            }
        }
}

TEST(backward_input)
{
    for (int capability = 80; capability <= 90; capability += 10) {
        device d;
        linear_open(&d, capability);
        backward_input_on(&d);
        device_close(&d);
    }
}

typedef struct weight_case {
    int64_t m, n, k, gap;
    hn_dtype dy, x;
    bool dw, dbias;
} weight_case;

static void check_backward_weight(device *d, const weight_case *c)
{
    hn_tensor dy = matrix_random(c->dy, c->m, c->n, c->n + c->gap, 1), x = matrix_random(c->x, c->m, c->k, c->k + c->gap, 1 / sqrt((double)c->m + 1));
    hn_tensor dw = matrix_random(HN_F32, c->n, c->k, c->k + c->gap, 1), dbias = vector_random(HN_F32, c->n);
    double *ew = malloc((size_t)(c->n * c->k) * sizeof *ew), *eb = malloc((size_t)c->n * sizeof *eb);
    for (int64_t n = 0; n < c->n; n++) {
        eb[n] = get(&dbias, 0, n);
        for (int64_t r = 0; r < c->m; r++) eb[n] += get(&dy, r, n);
        for (int64_t k = 0; k < c->k; k++) {
            ew[n * c->k + k] = get(&dw, n, k);
            for (int64_t r = 0; r < c->m; r++) ew[n * c->k + k] += get(&dy, r, n) * get(&x, r, k);
        }
    }
    d->ops->linear_backward_weight(&d->ctx, c->dw ? &dw : NULL, c->dbias ? &dbias : NULL, &dy, &x);
    CHECK_TEXT(d->error.message, "");
    if (c->dw) CHECK_MATRIX(&dw, ew, tolerance(c->dy == c->x ? HN_F32 : HN_BF16));
    CHECK(gaps_untouched(&dw));
    for (int64_t n = 0; n < c->n && c->dbias; n++) CHECK_NEAR(((float *)dbias.data)[n], eb[n], 1e-5);
    void *all[] = {dy.data, x.data, dw.data, dbias.data, ew, eb};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static void backward_weight_on(device *d)
{
    static const int64_t weight_sizes[][3] = {{0, 8, 8}, {1, 1, 1}, {31, 33, 5}, {33, 300, 8}, {257, 31, 33}, {700, 264, 1}};
    for (int size = 0; size < 6; size++)
        for (int bits = 0; bits < 16; bits++) {
            weight_case c = {.m = weight_sizes[size][0], .n = weight_sizes[size][1], .k = weight_sizes[size][2],
                             .dy = bits & 4 ? HN_BF16 : HN_F32, .x = bits & 8 ? HN_BF16 : HN_F32, .dw = bits & 1, .dbias = bits & 2,
                             .gap = (size + bits) % 3 * 4};
            check_backward_weight(d, &c);
        }
}

TEST(backward_weight)
{
    for (int capability = 80; capability <= 90; capability += 10) {
        device d;
        linear_open(&d, capability);
        backward_weight_on(&d);
        device_close(&d);
    }
}

TEST(nothing_depends_on_an_epilogue)
{
    device d;
    emu_lt_reset();
    refuse_all();
    linear_open(&d, 90);
    for (int bits = 0; bits < 8; bits++) {
        linear_case c = {.m = 33, .n = 24, .k = 40, .type = all_types[bits & 4 ? 0 : 1], .bias = bits & 1, .z = bits & 2,
                         .activation = HN_ACT_GELU_TANH};
        c.type.bias = c.type.y; /* it would be fused */
        check_forward(&d, &c);
        check_backward_input(&d, &c, false);
        c.activation = HN_ACT_NONE, c.z = false;
        check_forward(&d, &c);
    }
    backward_weight_on(&d);
    CHECK_INT(emu_lt_counted()->epilogue[32], 0);
    CHECK_INT(emu_lt_counted()->epilogue[512], 0);
    emu_lt_reset();
    device_close(&d);
}

/* Sums in a fixed order: the order of blocks and warps does not show. More rows than a block takes. */
TEST(backward_gives_the_same_bits)
{
    enum { ROWS = 2311, COLUMNS = 40 };
    hn_tensor dy = matrix_random(HN_F32, ROWS, COLUMNS, COLUMNS, 100);
    float dbias[2][COLUMNS] = {{0}};
    double sum = 0;
    for (int run = 0; run < 2; run++) {
        device d;
        hn_tensor to = hn_tensor_1d(dbias[run], HN_F32, COLUMNS);
        emu_seed(100 + (uint64_t)run);
        linear_open(&d, 80);
        d.ops->linear_backward_weight(&d.ctx, NULL, &to, &dy, &dy);
        CHECK_TEXT(d.error.message, "");
        device_close(&d);
    }
    for (int r = 0; r < ROWS; r++) sum += get(&dy, r, 3);
    CHECK_NEAR(dbias[0][3], sum, 1e-5);
    CHECK_INT(memcmp(dbias[0], dbias[1], sizeof dbias[0]), 0);
    free(dy.data);
}

/* Operands too wide for one tile of scratch, of types that must be narrowed. */
TEST(narrowed_by_tiles)
{
    device d;
    linear_open(&d, 80);
    weight_case c = {.m = 200000, .n = 25, .k = 12, .dy = HN_BF16, .x = HN_F32, .dw = true};
    check_backward_weight(&d, &c);
    c.dy = HN_F32, c.x = HN_BF16, c.n = 12, c.k = 25;
    check_backward_weight(&d, &c);
    device_close(&d);
}

TEST(workspace_too_small_is_an_error)
{
    device d;
    float f[8] = {0};
    hn_tensor t = hn_tensor_2d(f, HN_F32, 1, 8), w = hn_tensor_2d(f, HN_F32, 1, 8), y = hn_tensor_2d(f, HN_F32, 1, 1);
    device_open(&d, 64);
    d.ops->linear_forward(&d.ctx, &y, NULL, &t, &w, NULL, HN_ACT_NONE);
    CHECK_TEXT(d.error.message, "linear_forward: needs 50331904 bytes of workspace, has 64");
    device_close(&d);
}

TEST_MAIN(RUN(forward_by_hand); RUN(forward); RUN(nan_stays_in_its_row); RUN(a_large_result_takes_its_bias_fused); RUN(what_is_fused);
          RUN(backward_input); RUN(backward_weight); RUN(nothing_depends_on_an_epilogue); RUN(backward_gives_the_same_bits);
          RUN(narrowed_by_tiles); RUN(workspace_too_small_is_an_error))
