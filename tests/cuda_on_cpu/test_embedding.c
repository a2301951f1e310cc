/* embedding.cu on the emulator against plain loops in double and against the CPU's table. Backward: one chunk of pairs and several, pieces
 * of 32 and of more, runs that end at a piece's end, go on into the next or through many, one id everywhere. */
#include "tests/cuda_on_cpu/device.h"

enum { TABLES = 3, TOKENS = 61, PLACES = 19, TYPES = 2, OFFSET = 2 };
static const int64_t limit_of[TABLES] = {TOKENS, PLACES, TYPES};

typedef struct lookup_case {
    hn_dtype type, table[TABLES]; /* of y or dy; of the tables, forward */
    int64_t rows, columns, gap;
    bool absent[TABLES];
    int frequent; /* of a hundred rows so many have token 7 */
} lookup_case;

typedef struct lookup_data {
    hn_tensor table[TABLES], twin[TABLES], *given[TABLES], *given_twin[TABLES];
    int32_t *index[TABLES];
    double *expected; /* of y, or of one table */
    device d;
    table cpu;
} lookup_data;

/* Token ids crowd towards 0, positions rise and begin again, types change twice. */
static int32_t index_of(const lookup_case *c, int which, int64_t r)
{
    double u = uniform();
    if (which == 1) return (int32_t)(r % (PLACES - OFFSET));
    if (which == 2) return (int32_t)(3 * r / (c->rows + 1) % TYPES);
    return r * 37 % 100 < c->frequent ? 7 : (int32_t)(u * u * TOKENS);
}

/* In place: contexts point into it. */
static void data_init(lookup_data *o, const lookup_case *c, bool gradients)
{
    memset(o, 0, sizeof *o);
    for (int i = 0; i < TABLES; i++) {
        hn_dtype type = gradients ? HN_F32 : c->table[i];
        o->table[i] = matrix_random(type, limit_of[i], c->columns, c->columns + c->gap, 1);
        o->twin[i] = matrix_new(type, limit_of[i], c->columns, c->columns);
        for (int64_t r = 0; r < limit_of[i]; r++)
            for (int64_t k = 0; k < c->columns; k++) put(&o->twin[i], r, k, get(&o->table[i], r, k));
        o->index[i] = malloc((size_t)c->rows * sizeof(int32_t));
        for (int64_t r = 0; r < c->rows; r++) o->index[i][r] = index_of(c, i, r);
        o->given[i] = c->absent[i] ? NULL : &o->table[i];
        o->given_twin[i] = c->absent[i] ? NULL : &o->twin[i];
    }
    int64_t most = c->rows > TOKENS ? c->rows : TOKENS;
    o->expected = malloc((size_t)(most * c->columns) * sizeof *o->expected);
    device_open(&o->d, gradients ? hnp_cuda_embedding_workspace(c->rows, c->columns) : 0);
    cpu_open(&o->cpu);
}

static void data_free(lookup_data *o)
{
    for (int i = 0; i < TABLES; i++) {
        free(o->table[i].data);
        free(o->twin[i].data);
        free(o->index[i]);
    }
    free(o->expected);
    cpu_close(&o->cpu);
    device_close(&o->d);
}

static void check_forward(const lookup_case *c)
{
    if (!case_wanted()) return;
    lookup_data o;
    data_init(&o, c, false);
    hn_tensor y = matrix_new(c->type, c->rows, c->columns, c->columns + c->gap),
              by_cpu = matrix_new(c->type, c->rows, c->columns, c->columns);
    for (int64_t i = 0; i < c->rows * c->columns; i++) {
        o.expected[i] = 0;
        for (int t = 0; t < TABLES; t++)
            if (!c->absent[t]) o.expected[i] += get(&o.table[t], o.index[t][i / c->columns] + (t == 1 ? OFFSET : 0), i % c->columns);
    }
    o.d.ops->embedding_forward(&o.d.ctx, &y, o.given[0], o.given[1], o.given[2], o.index[0], o.index[1], o.index[2], OFFSET);
    hn_ops_cpu()->embedding_forward(&o.cpu.ctx, &by_cpu, o.given_twin[0], o.given_twin[1], o.given_twin[2], o.index[0], o.index[1],
                                    o.index[2], OFFSET);
    CHECK_TEXT(o.d.error.message, "");
    CHECK_MATRIX(&y, o.expected, tolerance(c->type));
    CHECK(gaps_untouched(&y) && apart(&by_cpu, &y) == 0);
    free(y.data);
    free(by_cpu.data);
    data_free(&o);
}

TEST(forward_at_odd_sizes)
{
    static const int64_t rows[] = {0, 1, 31, 33, 257}, columns[] = {1, 8, 31, 96, 264};
    for (size_t i = 0; i < 5; i++)
        for (size_t k = 0; k < 5; k++)
            for (int bits = 0; bits < 4; bits++) {
                hn_dtype type = bits & 1 ? HN_BF16 : HN_F32;
                if (rows[i] * columns[k] > 33 * 264) continue;
                check_forward(&(lookup_case){type, {type, type, type}, rows[i], columns[k], bits & 2 ? 8 : 3, {0}, 0});
            }
    check_forward(&(lookup_case){HN_F32, {HN_F32, HN_F32, HN_F32}, 70, 1032, 0, {0}, 0}); /* more rows than blocks */
}

TEST(forward_with_all_types_and_absences)
{
    for (int bits = 0; bits < 64; bits++) {
        lookup_case c = {bits & 1 ? HN_BF16 : HN_F32, {0}, 5, 40, bits % 3 * 4, {0}, 0};
        for (int t = 0; t < TABLES; t++) {
            c.table[t] = bits >> t & 2 ? HN_BF16 : HN_F32;
            c.absent[t] = bits / 16 == t + 1;
        }
        check_forward(&c);
    }
}

/* Both tables' gradients, and what the CPU's are: the same bits where every run lies within a piece. */
static void check_backward(const lookup_case *c)
{
    if (!case_wanted()) return;
    lookup_data o;
    data_init(&o, c, true);
    int64_t gap = c->rows % 2 ? c->gap : 8; /* 8: rows of dy that allow vectors beside tables that may not */
    hn_tensor dy = matrix_random(c->type, c->rows, c->columns, c->columns + gap, 1);
    double *expected[TABLES];
    for (int t = 0; t < TABLES; t++) {
        expected[t] = malloc((size_t)(limit_of[t] * c->columns) * sizeof(double));
        for (int64_t i = 0; i < limit_of[t] * c->columns; i++) expected[t][i] = get(&o.table[t], i / c->columns, i % c->columns);
        for (int64_t i = 0; i < c->rows * c->columns && !c->absent[t]; i++)
            expected[t][(o.index[t][i / c->columns] + (t == 1 ? OFFSET : 0)) * c->columns + i % c->columns] +=
                get(&dy, i / c->columns, i % c->columns);
    }
    o.d.ops->embedding_backward(&o.d.ctx, o.given[0], o.given[1], o.given[2], &dy, o.index[0], o.index[1], o.index[2], OFFSET);
    hn_ops_cpu()->embedding_backward(&o.cpu.ctx, o.given_twin[0], o.given_twin[1], o.given_twin[2], &dy, o.index[0], o.index[1],
                                     o.index[2], OFFSET);
    CHECK_TEXT(o.d.error.message, "");
    for (int t = 0; t < TABLES; t++) {
        CHECK_MATRIX(&o.table[t], expected[t], c->rows > 1000 ? 1e-4 : 1e-5);
        CHECK(gaps_untouched(&o.table[t]));
        if (!c->absent[t]) CHECK(apart(&o.twin[t], &o.table[t]) <= (c->rows <= 32 ? 0 : 1e-5));
        free(expected[t]);
    }
    free(dy.data);
    data_free(&o);
}

TEST(backward_at_odd_sizes)
{
    static const int64_t rows[] = {0, 1, 31, 32, 33, 64, 257}, columns[] = {1, 8, 31, 96, 264};
    for (size_t i = 0; i < 7; i++)
        for (size_t k = 0; k < 5; k++)
            for (int bits = 0; bits < 4; bits++) {
                if (rows[i] * columns[k] > 64 * 96) continue;
                check_backward(&(lookup_case){.type = bits & 1 ? HN_BF16 : HN_F32, .rows = rows[i], .columns = columns[k],
                                              .gap = bits & 2 ? 8 : 3, .frequent = 30 * (bits / 2)});
            }
}

/* Two chunks and five, runs through many pieces, pieces of 64. */
TEST(backward_of_many_rows)
{
    check_backward(&(lookup_case){.type = HN_F32, .rows = 2049, .columns = 3, .frequent = 30});
    check_backward(&(lookup_case){.type = HN_BF16, .rows = 4096, .columns = 8, .frequent = 100});
    check_backward(&(lookup_case){.type = HN_F32, .rows = 8500, .columns = 4, .absent = {false, true, true}, .frequent = 30});
}

TEST(backward_of_frozen_tables)
{
    for (int bits = 0; bits < 8; bits++)
        check_backward(&(lookup_case){.type = HN_F32, .rows = 70, .columns = 8, .absent = {bits & 1, bits & 2, bits & 4}});
}

/* Rows 1, 2 and 3 of one token, worked out by hand: 10 + (1 + 2 + 3), and a NaN that stays with its token. */
TEST(backward_by_hand)
{
    float d_token[3][1] = {{0}, {10}, {100}}, dy[5][1] = {{7}, {1}, {2}, {3}, {NAN}};
    int32_t ids[5] = {2, 1, 1, 1, 0};
    hn_tensor table_of = hn_tensor_2d(d_token, HN_F32, 3, 1), t = hn_tensor_2d(dy, HN_F32, 5, 1);
    device d;
    device_open(&d, hnp_cuda_embedding_workspace(5, 1));
    d.ops->embedding_backward(&d.ctx, &table_of, NULL, NULL, &t, ids, NULL, NULL, 0);
    CHECK_TEXT(d.error.message, "");
    CHECK(d_token[1][0] == 16 && d_token[2][0] == 107 && isnan(d_token[0][0]));
    device_close(&d);
}

/* Whatever the order of blocks and warps; in the order of rows: 2^24 + 1 - 2^24 is 0 in fp32, 2^24 - 2^24 + 1 is 1. */
TEST(backward_gives_the_same_bits)
{
    enum { ROWS = 600, COLUMNS = 8 };
    hn_tensor dy = matrix_random(HN_F32, ROWS, COLUMNS, COLUMNS, 100);
    int32_t ids[ROWS];
    float d_token[2][10][COLUMNS] = {{{0}}};
    for (int r = 0; r < ROWS; r++) ids[r] = r % 3 ? 4 : r % 10;
    for (int run = 0; run < 2; run++) {
        device d;
        hn_tensor table_of = hn_tensor_2d(d_token[run], HN_F32, 10, COLUMNS);
        device_open(&d, hnp_cuda_embedding_workspace(ROWS, COLUMNS));
        emu_seed(500 + (uint64_t)run);
        d.ops->embedding_backward(&d.ctx, &table_of, NULL, NULL, &dy, ids, NULL, NULL, 0);
        CHECK_TEXT(d.error.message, "");
        device_close(&d);
    }
    CHECK_INT(memcmp(d_token[0], d_token[1], sizeof d_token[0]), 0);
    float big[4] = {0x1p24f, 5, 1, -0x1p24f}, two[2] = {0};
    int32_t order[4] = {0, 1, 0, 0};
    hn_tensor one = hn_tensor_2d(two, HN_F32, 2, 1), rows = hn_tensor_2d(big, HN_F32, 4, 1);
    device d;
    device_open(&d, hnp_cuda_embedding_workspace(4, 1));
    d.ops->embedding_backward(&d.ctx, &one, NULL, NULL, &rows, order, NULL, NULL, 0);
    CHECK(two[0] == 0 && two[1] == 5);
    device_close(&d);
    free(dy.data);
}

/* The CPU's words for each table, both ways; other rows are written and added. */
TEST(an_index_outside_is_told)
{
    for (int which = 0; which < 2 * TABLES; which++)
        for (int backward = 0; backward < 2; backward++) {
            int32_t index[TABLES][3] = {{0, 1, 2}, {2, 1, 0}, {0, 1, 1}};
            float memory[TABLES][6] = {{0}}, y[2][6] = {{-1, -1, -1, -1, -1, -1}, {-1, -1, -1, -1, -1, -1}};
            hn_tensor t[TABLES], ty = hn_tensor_2d(y[0], HN_F32, 3, 2), tc = hn_tensor_2d(y[1], HN_F32, 3, 2);
            for (int i = 0; i < TABLES; i++) t[i] = hn_tensor_2d(memory[i], HN_F32, 3, 2);
            index[which / 2][1] = which % 2 ? 3 : -4;
            device d;
            table cpu;
            device_open(&d, hnp_cuda_embedding_workspace(3, 2));
            cpu_open(&cpu);
            if (backward)
                d.ops->embedding_backward(&d.ctx, &t[0], &t[1], &t[2], &ty, index[0], index[1], index[2], 0);
            else
                d.ops->embedding_forward(&d.ctx, &ty, &t[0], &t[1], &t[2], index[0], index[1], index[2], 0);
            CHECK_TEXT(d.error.message, "");
            device_wait(&d);
            hn_ops_cpu()->embedding_forward(&cpu.ctx, &tc, &t[0], &t[1], &t[2], index[0], index[1], index[2], 0);
            CHECK_CONTAINS(d.error.message, "embedding: row 1 asks for");
            CHECK_TEXT(d.error.message, cpu.error.message);
            for (int r = 0; r < 3 && !backward; r++) CHECK(y[0][2 * r] == (r == 1 ? -1 : 0));
            for (int i = 0; i < TABLES && backward; i++) {
                float sum = memory[i][0] + memory[i][2] + memory[i][4];
                CHECK(sum == (i == which / 2 ? -2 : -3));
            }
            cpu_close(&cpu);
            device_close(&d);
        }
}

TEST(workspace)
{
    float f[8] = {0};
    int32_t ids[1] = {0};
    hn_tensor t = hn_tensor_2d(f, HN_F32, 1, 8);
    device d;
    device_open(&d, 64);
    d.ops->embedding_backward(&d.ctx, &t, NULL, NULL, &t, ids, NULL, NULL, 0);
    CHECK_CONTAINS(d.error.message, "embedding_backward: needs 3136 bytes of workspace, has 64");
    for (int64_t rows = 1, last = 0; rows < 70000; rows = rows * 5 / 4 + 1) { /* a smaller batch needs no more than a larger one */
        int64_t size = (int64_t)hnp_cuda_embedding_workspace(rows, 384);
        CHECK(size >= last && (size_t)size <= d.ops->workspace(rows, 384, 1, 1, HN_F32));
        last = size;
    }
    device_close(&d);
}

TEST_MAIN(RUN(forward_at_odd_sizes); RUN(forward_with_all_types_and_absences); RUN(backward_by_hand); RUN(backward_at_odd_sizes);
          RUN(backward_of_many_rows); RUN(backward_of_frozen_tables); RUN(backward_gives_the_same_bits);
          RUN(an_index_outside_is_told); RUN(workspace))
