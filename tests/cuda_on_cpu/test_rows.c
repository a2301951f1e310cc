/* rows.cu on the emulator against plain loops and against the CPU's table: every unit that bytes may move in, strided views, odd sizes,
 * indices outside their matrix. */
#include "tests/cuda_on_cpu/device.h"

typedef struct rows_case {
    hn_dtype x, y;
    int64_t rows, picked, columns, gap;
} rows_case;

typedef struct rows_data {
    hn_tensor x, y, x_cpu, y_cpu;
    int32_t *index; /* [picked], distinct */
    double *expected;
    device d;
    table cpu;
} rows_data;

static hn_tensor twin(const hn_tensor *t)
{
    hn_tensor copy = matrix_new(t->dtype, t->shape[0], t->shape[1], t->stride);
    for (int64_t r = 0; r < t->shape[0]; r++)
        for (int64_t c = 0; c < t->shape[1]; c++) put(&copy, r, c, get(t, r, c));
    return copy;
}

/* In place: contexts point into it. */
static void data_init(rows_data *o, const rows_case *c)
{
    *o = (rows_data){.x = matrix_random(c->x, c->rows, c->columns, c->columns + c->gap, 1),
                     .y = matrix_random(c->y, c->picked, c->columns, c->columns + c->gap, 1)};
    o->x_cpu = twin(&o->x);
    o->y_cpu = twin(&o->y);
    o->index = malloc((size_t)c->picked * sizeof *o->index);
    for (int64_t i = 0; i < c->picked; i++) o->index[i] = (int32_t)((i * 5 + 3) % c->rows); /* 5 does not divide the rows */
    o->expected = malloc((size_t)((c->rows + c->picked) * c->columns) * sizeof *o->expected + 8);
    device_open(&o->d, 0);
    cpu_open(&o->cpu);
}

static void data_free(rows_data *o)
{
    void *all[] = {o->x.data, o->y.data, o->x_cpu.data, o->y_cpu.data, o->index, o->expected};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    cpu_close(&o->cpu);
    device_close(&o->d);
}

static void check_gather(const rows_case *c)
{
    if (!case_wanted()) return;
    rows_data o;
    data_init(&o, c);
    for (int64_t i = 0; i < c->picked * c->columns; i++)
        o.expected[i] = get(&o.x, o.index[i / c->columns], i % c->columns);
    o.d.ops->gather_rows(&o.d.ctx, &o.y, &o.x, o.index);
    hn_ops_cpu()->gather_rows(&o.cpu.ctx, &o.y_cpu, &o.x_cpu, o.index);
    CHECK_TEXT(o.d.error.message, "");
    CHECK_MATRIX(&o.y, o.expected, 0);
    CHECK(gaps_untouched(&o.y) && apart(&o.y_cpu, &o.y) == 0);
    data_free(&o);
}

static void check_scatter(const rows_case *c, bool add)
{
    if (!case_wanted()) return;
    rows_data o;
    data_init(&o, c);
    for (int64_t i = 0; i < c->rows * c->columns; i++) o.expected[i] = get(&o.x, i / c->columns, i % c->columns);
    for (int64_t i = 0; i < c->picked * c->columns; i++) {
        double *to = &o.expected[o.index[i / c->columns] * c->columns + i % c->columns];
        *to = get(&o.y, i / c->columns, i % c->columns) + (add ? *to : 0);
    }
    if (add) {
        o.d.ops->scatter_add_rows(&o.d.ctx, &o.x, &o.y, o.index);
        hn_ops_cpu()->scatter_add_rows(&o.cpu.ctx, &o.x_cpu, &o.y_cpu, o.index);
    } else {
        o.d.ops->scatter_rows(&o.d.ctx, &o.x, &o.y, o.index);
        hn_ops_cpu()->scatter_rows(&o.cpu.ctx, &o.x_cpu, &o.y_cpu, o.index);
    }
    CHECK_TEXT(o.d.error.message, "");
    CHECK_MATRIX(&o.x, o.expected, add ? tolerance(c->x) : 0);
    CHECK(gaps_untouched(&o.x) && apart(&o.x_cpu, &o.x) == 0);
    data_free(&o);
}

/* f of every number of rows, width and unit of 16, 4 and 2 bytes. */
static void sweep(void (*f)(const rows_case *))
{
    static const int64_t picked[] = {0, 1, 31, 33, 257}, columns[] = {1, 8, 24, 31, 96};
    for (size_t i = 0; i < 5; i++)
        for (size_t k = 0; k < 5; k++)
            for (int bits = 0; bits < 4; bits++) {
                hn_dtype type = bits & 1 ? HN_BF16 : HN_F32;
                if (picked[i] * columns[k] > 257 * 24) continue;
                f(&(rows_case){type, type, picked[i] + 6 + (picked[i] + 1) % 5, picked[i], columns[k], bits & 2 ? 8 : 3});
            }
    f(&(rows_case){HN_F32, HN_F32, 71, 70, 1032, 0}); /* more rows than blocks, vectors than threads */
}

static void scatter(const rows_case *c)
{
    check_scatter(c, false);
}
static void scatter_add(const rows_case *c)
{
    rows_case mixed = *c;
    check_scatter(c, true);
    mixed.y = c->y == HN_F32 ? HN_BF16 : HN_F32;
    if (c->picked < 40) check_scatter(&mixed, true);
}

TEST(gather_at_odd_sizes)
{
    sweep(check_gather);
}
TEST(scatter_at_odd_sizes)
{
    sweep(scatter);
}
TEST(scatter_add_at_odd_sizes)
{
    sweep(scatter_add);
}

/* Bytes move as they are, whatever they would be as numbers, and in units of one where nothing larger fits. */
TEST(gather_moves_bytes)
{
    uint8_t x[3][5] = {{1, 2, 3, 4, 5}, {0x7f, 0x80, 0xff, 0x81, 0}, {6, 7, 8, 9, 10}}, y[2][5];
    int32_t index[2] = {1, 0};
    hn_tensor tx = hn_tensor_2d(x, HN_U8, 3, 5), ty = hn_tensor_2d(y, HN_U8, 2, 5);
    device d;
    device_open(&d, 0);
    d.ops->gather_rows(&d.ctx, &ty, &tx, index);
    CHECK_TEXT(d.error.message, "");
    CHECK(!memcmp(y[0], x[1], 5) && !memcmp(y[1], x[0], 5));
    device_close(&d);
}

/* Columns from the second on: rows that lie 16 bytes apart, at places that do not. */
TEST(gather_from_columns)
{
    hn_tensor whole = matrix_random(HN_BF16, 3, 16, 16, 1), x = hn_tensor_columns(&whole, 1, 8), y = matrix_new(HN_BF16, 2, 8, 8);
    int32_t index[2] = {2, 1};
    device d;
    device_open(&d, 0);
    d.ops->gather_rows(&d.ctx, &y, &x, index);
    CHECK_TEXT(d.error.message, "");
    for (int i = 0; i < 16; i++) CHECK(get(&y, i / 8, i % 8) == get(&x, index[i / 8], i % 8));
    free(whole.data);
    free(y.data);
    device_close(&d);
}

/* Row r of x is the sum of r % 4 rows of y, some of which come several times. */
static void check_sum(hn_dtype type, int64_t rows, int64_t columns, int64_t gap)
{
    if (!case_wanted()) return;
    rows_case c = {type, type, rows, 9, columns, gap};
    int32_t *cu = malloc((size_t)(rows + 1) * sizeof *cu), *index = malloc((size_t)(rows * 3) * sizeof *index + 4);
    rows_data o;
    data_init(&o, &c);
    cu[0] = 0;
    for (int64_t r = 0; r < rows; r++) {
        cu[r + 1] = cu[r] + (int32_t)(r % 4);
        for (int32_t e = cu[r]; e < cu[r + 1]; e++) index[e] = (e * 4 + 1) % 9;
        for (int64_t i = 0; i < columns; i++) {
            o.expected[r * columns + i] = 0;
            for (int32_t e = cu[r]; e < cu[r + 1]; e++) o.expected[r * columns + i] += get(&o.y, index[e], i);
        }
    }
    o.d.ops->sum_rows(&o.d.ctx, &o.x, &o.y, cu, index);
    hn_ops_cpu()->sum_rows(&o.cpu.ctx, &o.x_cpu, &o.y_cpu, cu, index);
    CHECK_TEXT(o.d.error.message, "");
    CHECK_MATRIX(&o.x, o.expected, tolerance(type));
    CHECK(gaps_untouched(&o.x) && apart(&o.x_cpu, &o.x) == 0);
    data_free(&o);
    free(cu);
    free(index);
}

TEST(sums_at_odd_sizes)
{
    static const int64_t rows[] = {1, 31, 33, 257}, columns[] = {1, 8, 31, 136};
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < 4; k++)
            for (int type = 0; type < 2; type++)
                if (rows[i] * columns[k] <= 257 * 31) check_sum(type ? HN_BF16 : HN_F32, rows[i], columns[k], k % 2 ? 8 : 3);
    check_sum(HN_F32, 66, 1024, 0);
}

TEST(expand_at_odd_sizes)
{
    static const int32_t lengths[] = {1, 31, 33, 257, 128, 0, 2};
    int32_t cu[8] = {0}, n = 7;
    uint32_t value[7], *row;
    for (int32_t s = 0; s < n; s++) {
        cu[s + 1] = cu[s] + lengths[s];
        value[s] = 0xffffff00u + (uint32_t)s;
    }
    row = malloc((size_t)cu[n] * sizeof *row);
    device d;
    device_open(&d, 0);
    d.ops->expand_rows(&d.ctx, row, value, cu, 0);
    d.ops->expand_rows(&d.ctx, row, value, cu, n);
    CHECK_TEXT(d.error.message, "");
    for (int32_t s = 0; s < n; s++)
        for (int32_t r = cu[s]; r < cu[s + 1]; r++) CHECK(row[r] == value[s]);
    free(row);
    device_close(&d);
}

/* Every operation says which entry asked for which row, and touches no other memory; the good rows arrive. */
TEST(an_index_outside_is_told)
{
    static const char *const words[] = {"rows: entry 2 asks for row -1, there are 0 to 3", "rows: entry 2 asks for row 4, there are 0 to 3"};
    for (int which = 0; which < 8; which++) {
        float x[4] = {1, 2, 3, 4}, y[4] = {10, 20, 30, 40};
        int32_t index[4] = {3, 0, which % 2 ? 4 : -1, 1}, cu[5] = {0, 1, 3, 4, 4};
        hn_tensor tx = hn_tensor_2d(x, HN_F32, 4, 1), ty = hn_tensor_2d(y, HN_F32, 4, 1);
        device d;
        device_open(&d, 0);
        switch (which / 2) {
        case 0: d.ops->gather_rows(&d.ctx, &ty, &tx, index); break;
        case 1: d.ops->scatter_rows(&d.ctx, &tx, &ty, index); break;
        case 2: d.ops->scatter_add_rows(&d.ctx, &tx, &ty, index); break;
        case 3: d.ops->sum_rows(&d.ctx, &tx, &ty, cu, index); break;
        }
        CHECK_TEXT(d.error.message, "");
        device_wait(&d);
        CHECK_TEXT(d.error.message, words[which % 2]);
        static const float expected[4][4] = {{4, 1, 30, 2}, {20, 40, 3, 10}, {21, 42, 3, 14}, {40, 2, 20, 0}};
        for (int i = 0; i < 4; i++) CHECK((which < 2 ? y : x)[i] == expected[which / 2][i]);
        device_close(&d);
    }
}

TEST_MAIN(RUN(gather_at_odd_sizes); RUN(scatter_at_odd_sizes); RUN(scatter_add_at_odd_sizes); RUN(gather_moves_bytes); RUN(gather_from_columns);
          RUN(sums_at_odd_sizes); RUN(expand_at_odd_sizes); RUN(an_index_outside_is_told))
