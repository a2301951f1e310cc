/* dropout.cu on the emulator: masks and bits of the CPU's table, which core/philox.h defines. */
#include "tests/cuda_on_cpu/device.h"

typedef struct drop_case {
    hn_dtype type;
    int64_t rows, columns, gap;
    float probability;
    bool in_place;
} drop_case;

typedef struct row_keys {
    hn_random random;
    uint32_t step, *example;
    int32_t *position;
} row_keys;

static void keys_open(row_keys *k, int64_t rows)
{
    k->step = 12345;
    k->example = malloc((size_t)rows * sizeof *k->example);
    k->position = malloc((size_t)rows * sizeof *k->position);
    for (int64_t r = 0; r < rows; r++) {
        k->example[r] = 7000000u + (uint32_t)(r / 9);
        k->position[r] = (int32_t)(r % 9) * 1000;
    }
    k->random = (hn_random){0xfedcba9876543210u, &k->step, k->example, k->position};
}

static void keys_close(row_keys *k)
{
    free(k->example);
    free(k->position);
}

static bool same_bits(const hn_tensor *a, const hn_tensor *b)
{
    size_t size = hn_dtype_size(a->dtype);
    for (int64_t r = 0; r < a->shape[0]; r++)
        if (memcmp((char *)a->data + (size_t)(r * a->stride) * size, (char *)b->data + (size_t)(r * b->stride) * size,
                   (size_t)a->shape[1] * size))
            return false;
    return true;
}

static void check(const drop_case *c)
{
    if (!case_wanted()) return;
    int64_t stride = c->columns + c->gap, dropped = 0;
    device d;
    table cpu;
    row_keys k;
    keys_open(&k, c->rows);
    device_open(&d, 0);
    cpu_open(&cpu);
    hn_dropout drop = {c->probability, HN_SITE(3, HN_SITE_MLP_OUT, 0), &k.random};
    hn_tensor x = matrix_random(c->type, c->rows, c->columns, stride, 1), y = matrix_new(c->type, c->rows, c->columns, stride),
              by_cpu = matrix_new(c->type, c->rows, c->columns, stride), *to = c->in_place ? &x : &y;
    double *expected = malloc((size_t)(c->rows * c->columns) * sizeof *expected + 8);
    for (int64_t i = 0; i < c->rows * c->columns; i++) {
        int64_t r = i / c->columns, column = i % c->columns;
        double factor = drop_factor(&drop, 0, r, (uint64_t)k.position[r] * (uint64_t)c->columns + (uint64_t)column);
        expected[i] = get(&x, r, column) * factor;
        dropped += factor == 0;
    }
    hn_ops_cpu()->dropout(&cpu.ctx, &by_cpu, &x, &drop);
    d.ops->dropout(&d.ctx, to, &x, &drop);
    CHECK_TEXT(d.error.message, "");
    CHECK_MATRIX(to, expected, tolerance(c->type));
    CHECK(gaps_untouched(to));
    CHECK(same_bits(to, &by_cpu));
    if (c->rows * c->columns > 5000)
        CHECK_NEAR((double)dropped / (double)(c->rows * c->columns), (double)c->probability, 0.02);
    void *all[] = {x.data, y.data, by_cpu.data, expected};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    keys_close(&k);
    cpu_close(&cpu);
    device_close(&d);
}

TEST(same_bits_at_odd_sizes)
{
    static const int64_t rows[] = {0, 1, 31, 33, 257}, columns[] = {1, 7, 8, 24, 31, 96, 2056};
    for (size_t i = 0; i < 5; i++)
        for (size_t k = 0; k < 7; k++)
            for (int bits = 0; bits < 4; bits++) {
                if (rows[i] * columns[k] > 33 * 100) continue;
                check(&(drop_case){bits & 1 ? HN_BF16 : HN_F32, rows[i], columns[k], bits & 2 ? 5 : 8, bits & 2 ? 0.5f : 0.1f,
                                   bits & 2});
            }
    check(&(drop_case){HN_BF16, 64, 96, 0, 0.25f, false});
}

TEST(none_is_a_copy)
{
    check(&(drop_case){HN_F32, 3, 20, 4, 0, false});
    check(&(drop_case){HN_BF16, 3, 24, 3, 0, true});
    float x[2] = {1, NAN}, y[2] = {5, 5};
    hn_tensor tx = hn_tensor_2d(x, HN_F32, 1, 2), ty = hn_tensor_2d(y, HN_F32, 1, 2);
    hn_dropout off = {0.5f, 1, NULL};
    device d;
    device_open(&d, 0);
    d.ops->dropout(&d.ctx, &ty, &tx, &off);
    CHECK(y[0] == 1 && isnan(y[1]));
    device_close(&d);
}

/* The mask is read through the step's pointer: another step, another mask, with the same arguments. */
TEST(the_step_is_read_when_it_runs)
{
    enum { COLUMNS = 64 };
    row_keys k;
    keys_open(&k, 1);
    hn_dropout drop = {0.5f, HN_SITE(0, HN_SITE_MLP_OUT, 0), &k.random};
    hn_tensor x = matrix_random(HN_F32, 1, COLUMNS, COLUMNS, 1), y[3];
    device d;
    device_open(&d, 0);
    for (int i = 0; i < 3; i++) {
        y[i] = matrix_new(HN_F32, 1, COLUMNS, COLUMNS);
        k.step = i == 1 ? 8 : 7;
        d.ops->dropout(&d.ctx, &y[i], &x, &drop);
    }
    CHECK(same_bits(&y[0], &y[2]) && !same_bits(&y[0], &y[1]));
    for (int i = 0; i < 3; i++) free(y[i].data);
    free(x.data);
    device_close(&d);
    keys_close(&k);
}

TEST_MAIN(RUN(same_bits_at_odd_sizes); RUN(none_is_a_copy); RUN(the_step_is_read_when_it_runs))
