/* Rotary positions: the rotation against the formula in double on odd sizes and views, its transpose by <d, R x> = <R' d, x>, and
 * tables against values worked out by hand and by transformers. */
#include "kernels/rope_table.h"
#include "tests/kernels/ops_test.h"

enum { P = 50 };

static void table_fill(matrix *table)
{
    hn_rope rope = {.theta = 100};
    hn_rope_table_fill(table->block, &rope, 0, table->t.shape[0], (int)table->t.shape[1]);
    matrix_sync(table);
}

static int32_t *positions_make(int64_t rows)
{
    int32_t *out = calloc((size_t)rows + 1, sizeof *out);
    for (int64_t r = 0; r < rows; r++) out[r] = (int32_t)(r * 13 % P);
    return out;
}

/* R x of every head, or R' x. */
static void rotate(double *y, const double *x, const matrix *table, const int32_t *position, int64_t rows, int64_t columns,
                   double sign)
{
    int64_t size = table->t.shape[1], half = size / 2;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t h = 0; h < columns; h += size)
            for (int64_t i = 0; i < half; i++) {
                const double *angle = table->d + position[r] * size, *v = x + r * columns + h;
                double c = angle[i], s = sign * angle[half + i];
                y[r * columns + h + i] = v[i] * c - v[half + i] * s;
                y[r * columns + h + half + i] = v[half + i] * c + v[i] * s;
            }
}

static void rope_case(hn_dtype type, int64_t rows, int64_t heads, int64_t size, int64_t pad)
{
    int64_t C = heads * size;
    matrix table = matrix_random(HN_F32, P, size, 1), x = matrix_strided(type, rows, C, C + pad, 1);
    matrix d = matrix_strided(type, rows, C, C + pad, 1);
    int32_t *position = positions_make(rows);
    double *y = calloc((size_t)(rows * C) + 1, sizeof *y), *dx = calloc((size_t)(rows * C) + 1, sizeof *dx);
    double forward = 0, backward = 0;
    table_fill(&table);
    rotate(y, x.d, &table, position, rows, C, 1);
    rotate(dx, d.d, &table, position, rows, C, -1);
    for (int64_t i = 0; i < rows * C; i++) forward += d.d[i] * y[i], backward += dx[i] * x.d[i];
    CHECK_NEAR(forward, backward, 1e-9 * (1 + (double)(rows * C)));
    ops_now->rope(&context_now, &x.t, &table.t, position, false);
    ops_now->rope(&context_now, &d.t, &table.t, position, true);
    CHECK_CLOSE(&x.t, y, tolerance(type));
    CHECK_CLOSE(&d.t, dx, tolerance(type));
    matrix_free(&table), matrix_free(&x), matrix_free(&d);
    free(position), free(y), free(dx);
}

static void rope_all(hn_dtype type)
{
    static const int64_t cases[][4] = {{0, 2, 8, 0},  {1, 1, 2, 0},   {31, 3, 64, 40}, {33, 5, 6, 1},
                                       {257, 1, 80, 0}, {3, 2, 128, 128}, {2, 1, 34, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        rope_case(type, cases[i][0], cases[i][1], cases[i][2], cases[i][3]);
}

/* Only the pair of a NaN is touched by it, and nothing between the rows of a view. */
static void nan_stays(hn_dtype type)
{
    matrix table = matrix_random(HN_F32, P, 8, 1), x = matrix_random(type, 5, 30, 1);
    int32_t position[5] = {0, 1, 2, 3, 49};
    table_fill(&table);
    value_set(&x.t, 2, 13, NAN); /* second head, column 1 of the first half */
    hn_tensor view = hn_tensor_columns(&x.t, 4, 16);
    ops_now->rope(&context_now, &view, &table.t, position, false);
    for (int64_t r = 0; r < 5; r++)
        for (int64_t c = 0; c < 30; c++) {
            CHECK_INT(isnan(value_at(&x.t, r, c)), r == 2 && (c == 13 || c == 17));
            if (c < 4 || c >= 20) CHECK_NEAR(value_at(&x.t, r, c), x.d[r * 30 + c], 0);
        }
    matrix_free(&table), matrix_free(&x);
}

static void out_of_range(hn_dtype type)
{
    matrix table = matrix_random(HN_F32, P, 8, 1), x = matrix_random(type, 2, 8, 1);
    for (int i = 0; i < 2; i++) {
        int32_t position[2] = {3, i ? -1 : P};
        ops_now->rope(&context_now, &x.t, &table.t, position, false);
        CHECK_INT(error_now.status, HN_ERR_MISMATCH);
        CHECK_CONTAINS(error_now.message, i ? "row 1 is at position -1" : "row 1 is at position 50, the table has 0 to 49");
        hn_error_reset(&error_now);
    }
    for (int64_t c = 0; c < 16; c++) CHECK_NEAR(value_at(&x.t, c / 8, c % 8), x.d[c], 0);
    matrix_free(&table), matrix_free(&x);
}

static void same_bits(hn_dtype type)
{
    enum { T = 100, C = 36 };
    matrix table = matrix_random(HN_F32, P, 12, 1), x[2];
    int32_t *position = positions_make(T);
    int threads = omp_get_max_threads();
    table_fill(&table);
    x[0] = matrix_random(type, T, C, 1), x[1] = matrix_random(type, T, C, 1);
    memcpy(x[1].block, x[0].block, hn_tensor_bytes(&x[0].t));
    for (int i = 0; i < 2; i++) {
        omp_set_num_threads(i + 1);
        ops_now->rope(&context_now, &x[i].t, &table.t, position, false);
    }
    omp_set_num_threads(threads);
    CHECK(!memcmp(x[0].block, x[1].block, hn_tensor_bytes(&x[0].t)));
    matrix_free(&table), matrix_free(&x[0]), matrix_free(&x[1]);
    free(position);
}

/* sin of the angle at `position` tells the frequency that transformers gives as inv_freq[i]. */
static void frequency_is(const hn_rope *rope, int size, int i, double frequency)
{
    float *table = calloc((size_t)(3 * size), sizeof *table);
    hn_rope_table_fill(table, rope, 0, 3, size);
    CHECK_NEAR((double)table[i], 1, 0);
    CHECK_NEAR((double)table[size / 2 + i], 0, 0);
    for (int p = 1; p < 3; p++) {
        CHECK_NEAR((double)table[p * size + i], cos(p * frequency), 1.5e-7);
        CHECK_NEAR((double)table[p * size + size / 2 + i], sin(p * frequency), 1.5e-7);
        CHECK_NEAR((double)table[p * size + size / 2 + i] / sin(p * frequency), 1, 1e-6);
    }
    free(table);
}

TEST(tables)
{
    hn_rope plain = {.theta = 100}, linear = {HN_ROPE_LINEAR, 10000, 4, 0, 0, 0};
    frequency_is(&plain, 4, 0, 1);
    frequency_is(&plain, 4, 1, 0.1);
    frequency_is(&linear, 80, 0, 0.25);
    frequency_is(&linear, 80, 9, 0.031473137);
    frequency_is(&linear, 80, 39, 3.147313e-05);
    hn_rope llama3 = {HN_ROPE_LLAMA3, 500000, 32, 1, 4, 8192}; /* Llama 3.2 1B: kept, blended, divided */
    frequency_is(&llama3, 64, 0, 1);
    frequency_is(&llama3, 64, 9, 0.024955409);
    frequency_is(&llama3, 64, 12, 0.007292665);
    frequency_is(&llama3, 64, 15, 0.001290548);
    frequency_is(&llama3, 64, 20, 8.570256e-06);
    frequency_is(&llama3, 64, 31, 9.4183065e-08);
}

TEST(values) { on_every_table(rope_all, 300, 600, 0, 0); }
TEST(nan) { on_every_table(nan_stays, 300, 600, 0, 0); }
TEST(range) { on_every_table(out_of_range, 300, 600, 0, 0); }
TEST(bits) { on_every_table(same_bits, 300, 600, 0, 0); }

TEST_MAIN(RUN(values); RUN(nan); RUN(range); RUN(bits); RUN(tables))
