/* attention.cu on the emulator against plain loops in double precision, and against the CPU's operation.
 * Every case runs forward and, from what that stored, backward. Views are those of a fused buffer with room
 * between the rows. */
#include "tests/cuda_on_cpu/device.h"

typedef struct attention_case {
    hn_dtype dtype;
    int head_size, heads, kv_heads;
    int n, q_length[6], k_length[6];
    bool causal, drop, no_lse;
    const int32_t *q_position;
} attention_case;

/* One batch: tensors, keys of the random numbers, expected results. */
typedef struct batch {
    attention_case c;
    int64_t tq, tk, wide, narrow; /* rows; columns of q and o, of k and v */
    int32_t cu_q[7], cu_k[7], *position;
    uint32_t *example, step;
    hn_random random;
    hn_attention attention;
    hn_tensor q, k, v, o, d_o, dq, dk, dv;
    float *lse;
    double *expect_o, *expect_lse, *expect_dq, *expect_dk, *expect_dv;
    device d;
} batch;

static void lay_out(batch *b)
{
    const attention_case *c = &b->c;
    int longest_q = 0, longest_k = 0;
    for (int s = 0; s < c->n; s++) {
        b->cu_q[s + 1] = b->cu_q[s] + c->q_length[s];
        b->cu_k[s + 1] = b->cu_k[s] + c->k_length[s];
        if (c->q_length[s] > longest_q) longest_q = c->q_length[s];
        if (c->k_length[s] > longest_k) longest_k = c->k_length[s];
    }
    b->tq = b->cu_q[c->n];
    b->tk = b->cu_k[c->n];
    b->wide = c->heads * c->head_size;
    b->narrow = c->kv_heads * c->head_size;
    b->position = malloc((size_t)b->tq * 4 + 4);
    b->example = malloc((size_t)b->tq * 4 + 4);
    for (int s = 0; s < c->n; s++)
        for (int i = 0; i < c->q_length[s]; i++) {
            b->position[b->cu_q[s] + i] = c->k_length[s] + i; /* any number will do as a key */
            b->example[b->cu_q[s] + i] = (uint32_t)(1000 + s);
        }
    b->step = 3;
    b->random = (hn_random){77, &b->step, b->example, b->position};
    b->attention =
        (hn_attention){.heads = c->heads,
                       .kv_heads = c->kv_heads,
                       .head_size = c->head_size,
                       .scale = 3 / sqrtf((float)c->head_size),
                       .causal = c->causal,
                       .n = c->n,
                       .longest_q = longest_q,
                       .longest_k = longest_k,
                       .cu_q = b->cu_q,
                       .cu_k = b->cu_k,
                       .dropout = {c->drop ? 0.2f : 0, HN_SITE(1, HN_SITE_ATTENTION, 0), &b->random},
                       .q_position = c->q_position};
}

static void batch_open(batch *b, const attention_case *c)
{
    memset(b, 0, sizeof *b);
    b->c = *c;
    lay_out(b);
    int64_t stride = b->wide + 2 * b->narrow + 8, gap = 8;
    b->q = matrix_random(c->dtype, b->tq, b->wide, stride, 1);
    b->k = matrix_random(c->dtype, b->tk, b->narrow, stride, 1);
    b->v = matrix_random(c->dtype, b->tk, b->narrow, stride, 1);
    b->d_o = matrix_random(c->dtype, b->tq, b->wide, b->wide + gap, 1);
    b->o = matrix_new(c->dtype, b->tq, b->wide, b->wide + gap);
    b->dq = matrix_new(c->dtype, b->tq, b->wide, stride);
    b->dk = matrix_new(c->dtype, b->tk, b->narrow, stride);
    b->dv = matrix_new(c->dtype, b->tk, b->narrow, stride);
    b->lse = floats_new(c->heads * b->tq);
    b->expect_o = calloc((size_t)(b->tq * b->wide) + 1, 8);
    b->expect_dq = calloc((size_t)(b->tq * b->wide) + 1, 8);
    b->expect_dk = calloc((size_t)(b->tk * b->narrow) + 1, 8);
    b->expect_dv = calloc((size_t)(b->tk * b->narrow) + 1, 8);
    b->expect_lse = calloc((size_t)(c->heads * b->tq) + 1, 8);
    device_open(&b->d, hnp_cuda_attention_workspace(b->tq, c->heads));
}

static void batch_close(batch *b)
{
    void *all[] = {b->q.data,     b->k.data,    b->v.data,    b->o.data,   b->d_o.data, b->dq.data,
                   b->dk.data,    b->dv.data,   b->lse,       b->position, b->example,  b->expect_o,
                   b->expect_lse, b->expect_dq, b->expect_dk, b->expect_dv};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    device_close(&b->d);
}

static int seen(const batch *b, int s, int i)
{
    int keys = b->c.k_length[s], position = i + keys - b->c.q_length[s];
    if (!b->c.causal) return keys;
    if (b->c.q_position) position = b->c.q_position[b->cu_q[s] + i];
    return position < 0 ? 0 : position + 1 < keys ? position + 1 : keys;
}

/* The definition, one query of one head at a time. */
static void expect_query(batch *b, int s, int head, int i)
{
    int D = b->c.head_size, count = seen(b, s, i), kv = head / (b->c.heads / b->c.kv_heads);
    int64_t row = b->cu_q[s] + i, key = b->cu_k[s], qc = (int64_t)head * D, kc = (int64_t)kv * D;
    double *p = calloc((size_t)count + 1, 8), *factor = calloc((size_t)count + 1, 8), top = -INFINITY,
           sum = 0, delta = 0;
    for (int j = 0; j < count; j++) {
        for (int d = 0; d < D; d++)
            p[j] += get(&b->q, row, qc + d) * get(&b->k, key + j, kc + d) * b->attention.scale;
        top = fmax(top, p[j]);
        factor[j] = drop_factor(&b->attention.dropout, (uint32_t)head, row,
                                (uint64_t)b->position[row] * 65536 + (uint64_t)j);
    }
    for (int j = 0; j < count; j++) sum += exp(p[j] - top);
    b->expect_lse[head * b->tq + row] = top + log(sum);
    for (int j = 0; j < count; j++) {
        p[j] = exp(p[j] - top) / sum;
        for (int d = 0; d < D; d++)
            b->expect_o[row * b->wide + qc + d] += p[j] * factor[j] * get(&b->v, key + j, kc + d);
    }
    for (int d = 0; d < D; d++) delta += get(&b->d_o, row, qc + d) * b->expect_o[row * b->wide + qc + d];
    for (int j = 0; j < count; j++) {
        double dp = 0, *dk = b->expect_dk + (key + j) * b->narrow + kc,
               *dv = b->expect_dv + (key + j) * b->narrow + kc;
        for (int d = 0; d < D; d++) dp += get(&b->d_o, row, qc + d) * get(&b->v, key + j, kc + d);
        double ds = p[j] * (dp * factor[j] - delta) * b->attention.scale;
        for (int d = 0; d < D; d++) {
            b->expect_dq[row * b->wide + qc + d] += ds * get(&b->k, key + j, kc + d);
            dk[d] += ds * get(&b->q, row, qc + d);
            dv[d] += p[j] * factor[j] * get(&b->d_o, row, qc + d);
        }
    }
    free(p);
    free(factor);
}

static void expect_all(batch *b)
{
    for (int s = 0; s < b->c.n; s++)
        for (int head = 0; head < b->c.heads; head++)
            for (int i = 0; i < b->c.q_length[s]; i++) expect_query(b, s, head, i);
}

/* NULL, or what is wrong: relative L2 error over the tensor, and every element against the tensor's largest.
 */
static const char *compare(const hn_tensor *got, const double *expected)
{
    static char text[256];
    double errors = 0, squares = 0, largest = 0, limit = tolerance(got->dtype);
    int64_t columns = got->shape[1], count = got->shape[0] * columns;
    for (int64_t i = 0; i < count; i++) largest = fmax(largest, fabs(expected[i]));
    if (largest < 1e-9) {
        largest = 1;
        squares = (double)count;
    }
    for (int64_t i = 0; i < count; i++) {
        double value = get(got, i / columns, i % columns), error = fabs(value - expected[i]);
        errors += error * error;
        squares += expected[i] * expected[i];
        if (!(error <= 2 * limit * largest)) {
            snprintf(text, sizeof text, "row %lld column %lld: got %.9g, expected %.9g, largest %.3g",
                     (long long)(i / columns), (long long)(i % columns), value, expected[i], largest);
            return text;
        }
    }
    if (!(sqrt(errors) <= limit * sqrt(squares))) {
        snprintf(text, sizeof text, "relative error %.3g", sqrt(errors / squares));
        return text;
    }
    return gaps_untouched(got) ? NULL : "written between the rows";
}

#define CHECK_RESULT(name)                                                                                   \
    do {                                                                                                     \
        const char *wrong_ = compare(&b.name, b.expect_##name);                                              \
        if (wrong_) {                                                                                        \
            fprintf(stderr, "%s %s, head size %d, %d/%d heads%s%s: ", #name, hn_dtype_name(c->dtype),        \
                    c->head_size, c->heads, c->kv_heads, c->causal ? ", causal" : "",                        \
                    c->drop ? ", dropout" : "");                                                             \
            TEST_FAIL("%s", wrong_);                                                                         \
        }                                                                                                    \
    } while (0)

static void check(const attention_case *c)
{
    if (!case_wanted()) return;
    batch b;
    batch_open(&b, c);
    expect_all(&b);
    b.d.ops->attention_forward(&b.d.ctx, &b.o, c->no_lse ? NULL : b.lse, &b.q, &b.k, &b.v, &b.attention);
    CHECK_TEXT(b.d.error.message, "");
    CHECK_RESULT(o);
    if (!c->no_lse) {
        for (int64_t i = 0; i < c->heads * b.tq; i++)
            if (isinf(b.expect_lse[i]))
                CHECK(b.lse[i] == -INFINITY);
            else
                CHECK_NEAR(b.lse[i], b.expect_lse[i], c->dtype == HN_F32 ? 1e-5 : 1e-4);
        b.d.ops->attention_backward(&b.d.ctx, &b.dq, &b.dk, &b.dv, &b.d_o, &b.o, b.lse, &b.q, &b.k, &b.v,
                                   &b.attention);
        CHECK_TEXT(b.d.error.message, "");
        CHECK_RESULT(dq);
        CHECK_RESULT(dk);
        CHECK_RESULT(dv);
    }
    batch_close(&b);
}

static void both_types(attention_case c)
{
    c.dtype = HN_F32;
    check(&c);
    c.dtype = HN_BF16;
    check(&c);
}

TEST(every_head_size)
{
    for (int size = 8; size <= 256; size += size < 72 ? 8 : 40) {
        attention_case c = {
            .head_size = size, .heads = 1, .kv_heads = 1, .n = 2, .q_length = {3, 18}, .k_length = {3, 18}};
        c.drop = size % 16 == 0;
        both_types(c);
    }
    both_types((attention_case){.head_size = 128,
                                .heads = 1,
                                .kv_heads = 1,
                                .n = 1,
                                .q_length = {34},
                                .k_length = {34},
                                .causal = true});
    both_types((attention_case){.head_size = 256,
                                .heads = 1,
                                .kv_heads = 1,
                                .n = 1,
                                .q_length = {34},
                                .k_length = {34},
                                .causal = true});
}

/* One more and one less than what a warp, a block and a tile hold. */
TEST(every_length)
{
    static const int lengths[] = {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        attention_case c = {.head_size = 32,
                            .heads = 1,
                            .kv_heads = 1,
                            .n = 1,
                            .q_length = {lengths[i]},
                            .k_length = {lengths[i]}};
        c.causal = i % 2;
        c.drop = i % 3 == 0;
        both_types(c);
        c.causal = !c.causal;
        c.drop = !c.drop;
        c.dtype = HN_BF16;
        check(&c);
    }
}

TEST(longer_than_two_tiles_among_short_ones)
{
    attention_case c = {.head_size = 64,
                        .heads = 1,
                        .kv_heads = 1,
                        .n = 4,
                        .q_length = {5, 150, 1, 40},
                        .k_length = {5, 150, 1, 40}};
    both_types(c);
    c.causal = c.drop = true;
    both_types(c);
}

TEST(heads_share_keys)
{
    attention_case c = {.head_size = 16,
                        .heads = 6,
                        .kv_heads = 2,
                        .n = 2,
                        .q_length = {9, 35},
                        .k_length = {9, 35},
                        .drop = true};
    for (int i = 0; i < 2; i++) {
        c.causal = i;
        c.q_length[1] = c.k_length[1] = 35;
        both_types(c);
        c.q_length[1] = c.k_length[1] = 70; /* longer than what one kernel's backward takes whole */
        both_types(c);
    }
}

TEST(fewer_queries_than_keys)
{
    attention_case c = {.head_size = 32,
                        .heads = 2,
                        .kv_heads = 2,
                        .n = 3,
                        .q_length = {1, 1, 20},
                        .k_length = {7, 90, 70},
                        .drop = true};
    for (int i = 0; i < 2; i++) {
        c.causal = i;
        c.k_length[1] = 90;
        c.k_length[2] = 70;
        both_types(c);
        c.k_length[1] = 50; /* all of a sequence in one block */
        c.k_length[2] = 60;
        both_types(c);
    }
}

TEST(more_queries_than_keys)
{
    attention_case c = {.head_size = 32,
                        .heads = 1,
                        .kv_heads = 1,
                        .n = 1,
                        .q_length = {70},
                        .k_length = {20},
                        .causal = true};
    both_types(c);
}

/* The second set sees so few keys that only a part of a pair of pieces counts: what the mask leaves out must not be summed. */
TEST(queries_with_places_of_their_own)
{
    static const int32_t mixed[] = {5, -1, 69, 3, 200, 0, 64, 33, 10, 2}, low[] = {0, 3, 7, 1, 0, 6, 2, 0, 0, 1};
    attention_case c = {.head_size = 32,
                        .heads = 2,
                        .kv_heads = 1,
                        .n = 2,
                        .q_length = {7, 3},
                        .k_length = {70, 11},
                        .causal = true,
                        .q_position = mixed,
                        .drop = true};
    both_types(c);
    c.q_position = low;
    both_types(c);
}

TEST(empty_sequences)
{
    attention_case c = {.head_size = 16,
                        .heads = 2,
                        .kv_heads = 2,
                        .n = 5,
                        .q_length = {3, 0, 2, 0, 4},
                        .k_length = {3, 0, 0, 5, 4}};
    both_types(c);
    both_types((attention_case){.head_size = 16, .heads = 2, .kv_heads = 2});
    both_types((attention_case){
        .head_size = 16, .heads = 2, .kv_heads = 2, .n = 1, .q_length = {0}, .k_length = {5}});
    both_types((attention_case){
        .head_size = 16, .heads = 2, .kv_heads = 2, .n = 1, .q_length = {5}, .k_length = {0}});
}

TEST(evaluation_keeps_no_lse)
{
    both_types((attention_case){.head_size = 32,
                                .heads = 2,
                                .kv_heads = 2,
                                .n = 1,
                                .q_length = {20},
                                .k_length = {20},
                                .no_lse = true});
}

/* Two equal keys, q = 0: o is the mean of v, lse log 2, and dv half of do each. */
TEST(by_hand)
{
    attention_case c = {.head_size = 8, .heads = 1, .kv_heads = 1, .n = 1, .q_length = {1}, .k_length = {2}};
    batch b;
    batch_open(&b, &c);
    for (int i = 0; i < 8; i++) {
        put(&b.q, 0, i, 0);
        put(&b.v, 0, i, i);
        put(&b.v, 1, i, 10);
    }
    b.d.ops->attention_forward(&b.d.ctx, &b.o, b.lse, &b.q, &b.k, &b.v, &b.attention);
    b.d.ops->attention_backward(&b.d.ctx, &b.dq, &b.dk, &b.dv, &b.d_o, &b.o, b.lse, &b.q, &b.k, &b.v,
                               &b.attention);
    CHECK_TEXT(b.d.error.message, "");
    CHECK_NEAR(b.lse[0], 0.69314718, 1e-6);
    for (int i = 0; i < 8; i++) {
        CHECK_NEAR(get(&b.o, 0, i), (i + 10) / 2.0, 1e-6);
        CHECK_NEAR(get(&b.dv, 0, i), get(&b.d_o, 0, i) / 2, 1e-6);
        CHECK_NEAR(get(&b.dk, 1, i), 0, 1e-6);
    }
    batch_close(&b);
}

TEST(same_bits_in_any_order_of_warps)
{
    attention_case c = {.dtype = HN_BF16,
                        .head_size = 32,
                        .heads = 4,
                        .kv_heads = 1,
                        .n = 1,
                        .q_length = {80},
                        .k_length = {80},
                        .drop = true};
    unsigned char *first[4] = {0};
    for (uint64_t seed = 1; seed < 4; seed++) {
        batch b;
        test_random = 5;
        batch_open(&b, &c);
        emu_seed(seed);
        b.d.ops->attention_forward(&b.d.ctx, &b.o, b.lse, &b.q, &b.k, &b.v, &b.attention);
        b.d.ops->attention_backward(&b.d.ctx, &b.dq, &b.dk, &b.dv, &b.d_o, &b.o, b.lse, &b.q, &b.k, &b.v,
                                   &b.attention);
        CHECK_TEXT(b.d.error.message, "");
        hn_tensor *results[] = {&b.o, &b.dq, &b.dk, &b.dv};
        for (int i = 0; i < 4; i++) {
            size_t size =
                (size_t)((results[i]->shape[0] - 1) * results[i]->stride + results[i]->shape[1]) * 2;
            if (!first[i]) {
                first[i] = malloc(size);
                memcpy(first[i], results[i]->data, size);
            }
            CHECK_INT(memcmp(first[i], results[i]->data, size), 0);
        }
        batch_close(&b);
    }
    for (int i = 0; i < 4; i++) free(first[i]);
}

TEST(rows_that_no_vector_fits_are_an_error)
{
    attention_case c = {.dtype = HN_BF16,
                        .head_size = 8,
                        .heads = 1,
                        .kv_heads = 1,
                        .n = 1,
                        .q_length = {2},
                        .k_length = {2}};
    batch b;
    batch_open(&b, &c);
    hn_tensor odd = b.k;
    odd.stride = 9;
    b.d.ops->attention_forward(&b.d.ctx, &b.o, b.lse, &b.q, &odd, &b.v, &b.attention);
    CHECK_CONTAINS(b.d.error.message, "with rows 9 elements apart, expected multiples of 16 bytes");
    batch_close(&b);
}

TEST(workspace_too_small_is_an_error)
{
    attention_case c = {.dtype = HN_BF16,
                        .head_size = 8,
                        .heads = 1,
                        .kv_heads = 1,
                        .n = 1,
                        .q_length = {2},
                        .k_length = {2}};
    batch b;
    batch_open(&b, &c);
    b.d.ctx.workspace_size = 4;
    b.d.ops->attention_backward(&b.d.ctx, &b.dq, &b.dk, &b.dv, &b.d_o, &b.o, b.lse, &b.q, &b.k, &b.v,
                               &b.attention);
    CHECK_CONTAINS(b.d.error.message, "attention_backward: needs 8 bytes of workspace, has 4");
    batch_close(&b);
}

TEST_MAIN(RUN(by_hand); RUN(every_head_size); RUN(every_length); RUN(longer_than_two_tiles_among_short_ones);
          RUN(heads_share_keys); RUN(fewer_queries_than_keys); RUN(more_queries_than_keys);
          RUN(queries_with_places_of_their_own); RUN(empty_sequences); RUN(evaluation_keeps_no_lse);
          RUN(same_bits_in_any_order_of_warps); RUN(rows_that_no_vector_fits_are_an_error);
          RUN(workspace_too_small_is_an_error))
