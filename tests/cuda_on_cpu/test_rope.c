/* rope.cu on the emulator against the formula in double and against the CPU's table: head sizes with and without vectors, a view of q
 * and k in a wider matrix, turning back, positions outside the table. */
#include "tests/cuda_on_cpu/device.h"

enum { POSITIONS = 40 };

typedef struct rope_case {
    hn_dtype type;
    int64_t rows, heads, size, before, gap; /* `before` columns stand in front of the view, `gap` behind it */
    bool backward;
} rope_case;

/* table [POSITIONS, size]: cosines, then sines, of angles that are the tests' own. */
static hn_tensor table_new(int64_t size)
{
    hn_tensor t = matrix_new(HN_F32, POSITIONS, size, size);
    for (int64_t p = 0; p < POSITIONS; p++)
        for (int64_t i = 0; i < size / 2; i++) {
            double angle = (double)p * pow(100, -2.0 * (double)i / (double)size);
            put(&t, p, i, cos(angle));
            put(&t, p, size / 2 + i, sin(angle));
        }
    return t;
}

static void expect(double *out, const rope_case *c, const hn_tensor *x, const hn_tensor *t, const int32_t *position)
{
    int64_t half = c->size / 2, columns = c->heads * c->size;
    for (int64_t r = 0; r < c->rows; r++)
        for (int64_t h = 0; h < c->heads; h++)
            for (int64_t i = 0; i < half; i++) {
                int64_t at = h * c->size + i;
                double a = get(x, r, at), b = get(x, r, at + half);
                double cosine = get(t, position[r], i), sine = get(t, position[r], half + i) * (c->backward ? -1 : 1);
                out[r * columns + at] = a * cosine - b * sine;
                out[r * columns + at + half] = b * cosine + a * sine;
            }
}

static void check(const rope_case *c)
{
    if (!case_wanted()) return;
    int64_t columns = c->heads * c->size, stride = c->before + columns + c->gap;
    device d;
    table cpu;
    device_open(&d, 0);
    cpu_open(&cpu);
    hn_tensor angles = table_new(c->size), whole = matrix_random(c->type, c->rows, stride, stride, 1),
              x = hn_tensor_columns(&whole, c->before, columns), copy = matrix_new(c->type, c->rows, stride, stride),
              by_cpu = hn_tensor_columns(&copy, c->before, columns);
    int32_t *position = malloc((size_t)c->rows * sizeof *position);
    double *expected = malloc((size_t)(c->rows * columns) * sizeof *expected + 8);
    if (c->rows) memcpy(copy.data, whole.data, (size_t)(c->rows * stride) * hn_dtype_size(c->type));
    for (int64_t r = 0; r < c->rows; r++) position[r] = (int32_t)(r * 7 % POSITIONS);
    expect(expected, c, &x, &angles, position);
    hn_ops_cpu()->rope(&cpu.ctx, &by_cpu, &angles, position, c->backward);
    d.ops->rope(&d.ctx, &x, &angles, position, c->backward);
    CHECK_TEXT(d.error.message, "");
    CHECK_MATRIX(&x, expected, tolerance(c->type));
    double off = apart(&copy, &whole); /* what stands beside the view too */
    if (!(off <= tolerance(c->type))) TEST_FAIL("heads of %lld: %g from the CPU's", (long long)c->size, off);
    void *all[] = {angles.data, whole.data, copy.data, position, expected};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    cpu_close(&cpu);
    device_close(&d);
}

TEST(odd_sizes)
{
    static const int64_t rows[] = {0, 1, 31, 33, 257}, sizes[] = {2, 8, 18, 24, 48, 64};
    for (size_t i = 0; i < 5; i++)
        for (size_t k = 0; k < 6; k++)
            for (int bits = 0; bits < 4; bits++) {
                int64_t heads = (int64_t)(i + k) % 3 + 1;
                if (rows[i] * heads * sizes[k] > 33 * 200) continue;
                check(&(rope_case){bits & 1 ? HN_BF16 : HN_F32, rows[i], heads, sizes[k], bits & 2 ? 16 : 0, bits & 2 ? 3 : 8,
                                   (i + (size_t)bits) % 2});
            }
}

/* Twelve heads of q and k beside v, as models have them: two vectors a thread under way, and more rows than blocks have turns. */
TEST(heads_of_models)
{
    for (int type = 0; type < 2; type++)
        for (int backward = 0; backward < 2; backward++)
            check(&(rope_case){type ? HN_BF16 : HN_F32, 9, 12, 64, 0, 192, backward});
    check(&(rope_case){HN_F32, 65, 32, 64, 0, 0, false});
}

TEST(turning_back_restores)
{
    hn_tensor angles = table_new(16), x = matrix_random(HN_F32, 1, 32, 32, 1);
    double before[32];
    int32_t position = 23;
    for (int i = 0; i < 32; i++) before[i] = get(&x, 0, i);
    device d;
    device_open(&d, 0);
    d.ops->rope(&d.ctx, &x, &angles, &position, false);
    CHECK(fabs(get(&x, 0, 0) - before[0]) > 1e-3);
    d.ops->rope(&d.ctx, &x, &angles, &position, true);
    CHECK_MATRIX(&x, before, 1e-6);
    free(angles.data);
    free(x.data);
    device_close(&d);
}

/* Position 0 turns by nothing; a quarter turn takes (a, b) to (-b, a). */
TEST(by_hand)
{
    float table_of[2][2] = {{1, 0}, {0, 1}}, x[2][2] = {{3, 4}, {3, 4}};
    int32_t position[2] = {0, 1};
    hn_tensor t = hn_tensor_2d(table_of, HN_F32, 2, 2), tx = hn_tensor_2d(x, HN_F32, 2, 2);
    device d;
    device_open(&d, 0);
    d.ops->rope(&d.ctx, &tx, &t, position, false);
    CHECK(x[0][0] == 3 && x[0][1] == 4 && x[1][0] == -4 && x[1][1] == 3);
    device_close(&d);
}

/* The CPU's words; the row itself is left alone, its neighbours are turned. */
TEST(a_position_outside_the_table_is_told)
{
    static const int32_t bad[] = {-1, POSITIONS, 1 << 30};
    for (int i = 0; i < 3; i++) {
        device d;
        table cpu;
        device_open(&d, 0);
        cpu_open(&cpu);
        hn_tensor angles = table_new(8), x = matrix_random(HN_F32, 5, 8, 8, 1), y = matrix_new(HN_F32, 5, 8, 8);
        memcpy(y.data, x.data, 5 * 8 * sizeof(float));
        int32_t position[5] = {1, 2, 3, bad[i], 5};
        d.ops->rope(&d.ctx, &x, &angles, position, false);
        CHECK_TEXT(d.error.message, "");
        device_wait(&d);
        hn_ops_cpu()->rope(&cpu.ctx, &y, &angles, position, false);
        CHECK_CONTAINS(d.error.message, "rope: row 3 is at position");
        CHECK_TEXT(d.error.message, cpu.error.message);
        for (int r = 0; r < 5; r++)
            CHECK_INT(!memcmp((float *)x.data + 8 * r, (float *)y.data + 8 * r, 8 * sizeof(float)), r == 3);
        free(angles.data);
        free(x.data);
        free(y.data);
        cpu_close(&cpu);
        device_close(&d);
    }
}

TEST_MAIN(RUN(by_hand); RUN(odd_sizes); RUN(heads_of_models); RUN(turning_back_restores);
          RUN(a_position_outside_the_table_is_told))
