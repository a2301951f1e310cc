/* The GPU's entries of the operation table against the CPU's, called with the same arguments: what one
 * backend wrote, the other must have written too, dropout's masks included. */
#include "tests/cuda_on_cpu/device.h"

enum { ROWS = 37, COLUMNS = 48, QUERIES = 33 };

typedef struct keys {
    hn_random random;
    uint32_t step, example[ROWS];
    int32_t position[ROWS];
} keys;

static void keys_init(keys *k)
{
    *k = (keys){.step = 11};
    for (int r = 0; r < ROWS; r++) {
        k->example[r] = 900u + (uint32_t)r / 20;
        k->position[r] = r % 20;
    }
    k->random = (hn_random){0xabcdef0123456789u, &k->step, k->example, k->position};
}

#define CHECK_AGREES(which, limit)                                                                                     \
    do {                                                                                                               \
        double apart_ = apart(&c[which], &g[which]);                                                                   \
        if (!(apart_ <= (limit))) TEST_FAIL("%s tensor %d: apart by %.3g", hn_dtype_name(type), which, apart_);        \
    } while (0)

static void release(hn_tensor *tensors, int count)
{
    for (int i = 0; i < count; i++) free(tensors[i].data);
}

static void layernorm_agrees(hn_dtype type)
{
    enum { X, RESIDUAL, GAMMA, BETA, DY, Y, H, DX, DR, DG, DB, TENSORS };
    device d;
    table cpu;
    keys k;
    keys_init(&k);
    hn_dropout drop = {0.25f, HN_SITE(1, HN_SITE_ATTENTION_OUT, 0), &k.random};
    float mean[2][ROWS], rstd[2][ROWS];
    hn_tensor t[2][TENSORS];
    for (int side = 0; side < 2; side++) {
        test_random = 42;
        for (int i = 0; i < TENSORS; i++) {
            bool row = i == GAMMA || i == BETA || i == DG || i == DB;
            t[side][i] = matrix_random(i >= DG ? HN_F32 : type, row ? 1 : ROWS, COLUMNS, COLUMNS, 1);
            if (row) t[side][i].rank = 1, t[side][i].shape[0] = COLUMNS;
        }
    }
    cpu_open(&cpu);
    device_open(&d, hnp_cuda_norm_workspace(COLUMNS));
    hn_tensor *c = t[0], *g = t[1];
    hn_ops_cpu()->layernorm_forward(&cpu.ctx, &c[Y], &c[H], mean[0], rstd[0], &c[X], &c[RESIDUAL], &c[GAMMA],
                                    &c[BETA], 1e-12f, &drop);
    d.ops->layernorm_forward(&d.ctx, &g[Y], &g[H], mean[1], rstd[1], &g[X], &g[RESIDUAL], &g[GAMMA],
                              &g[BETA], 1e-12f, &drop);
    hn_ops_cpu()->layernorm_backward(&cpu.ctx, &c[DX], &c[DR], c[DG].data, c[DB].data, &c[DY], &c[X], &c[H],
                                     mean[0], rstd[0], &c[GAMMA], &drop);
    d.ops->layernorm_backward(&d.ctx, &g[DX], &g[DR], g[DG].data, g[DB].data, &g[DY], &g[X], &g[H], mean[1],
                               rstd[1], &g[GAMMA], &drop);
    CHECK_TEXT(cpu.error.message, "");
    CHECK_TEXT(d.error.message, "");
    for (int i = Y; i <= DR; i++) CHECK_AGREES(i, tolerance(type));
    for (int i = 0; i < COLUMNS; i++) {
        CHECK_NEAR(((float *)g[DG].data)[i], ((float *)c[DG].data)[i], 10 * tolerance(type));
        CHECK_NEAR(((float *)g[DB].data)[i], ((float *)c[DB].data)[i], 1e-5);
    }
    for (int r = 0; r < ROWS; r++) CHECK_NEAR(rstd[1][r], rstd[0][r], tolerance(type));
    release(c, TENSORS);
    release(g, TENSORS);
    cpu_close(&cpu);
    device_close(&d);
}

TEST(layernorm)
{
    layernorm_agrees(HN_F32);
}
TEST(layernorm_bf16)
{
    layernorm_agrees(HN_BF16);
}

static void attention_agrees(hn_dtype type, bool causal, bool own_places)
{
    enum { Q, DO, O, DQ, K, V, DK, DV, TENSORS };
    static const int32_t cu_q[] = {0, 20, 21, QUERIES}, cu_k[] = {0, 20, 31, ROWS},
                         places[QUERIES] = {3, 0, 9, -1, 19, 4, 4, 50};
    device d;
    table cpu;
    keys k;
    keys_init(&k);
    hn_attention a = {.heads = 4,
                      .kv_heads = 2,
                      .head_size = 24,
                      .scale = 0.3f,
                      .causal = causal,
                      .n = 3,
                      .longest_q = 20,
                      .longest_k = 20,
                      .cu_q = cu_q,
                      .cu_k = cu_k,
                      .dropout = {0.15f, HN_SITE(5, HN_SITE_ATTENTION, 0), &k.random},
                      .q_position = own_places ? places : NULL};
    float lse[2][4 * QUERIES];
    hn_tensor t[2][TENSORS];
    for (int side = 0; side < 2; side++) {
        test_random = 43;
        for (int i = 0; i < TENSORS; i++)
            t[side][i] = matrix_random(type, i < K ? QUERIES : ROWS, i < K ? 96 : 48, 104, 2);
    }
    cpu_open(&cpu);
    device_open(&d, hnp_cuda_attention_workspace(QUERIES, 4));
    hn_tensor *c = t[0], *g = t[1];
    hn_ops_cpu()->attention_forward(&cpu.ctx, &c[O], lse[0], &c[Q], &c[K], &c[V], &a);
    d.ops->attention_forward(&d.ctx, &g[O], lse[1], &g[Q], &g[K], &g[V], &a);
    hn_ops_cpu()->attention_backward(&cpu.ctx, &c[DQ], &c[DK], &c[DV], &c[DO], &c[O], lse[0], &c[Q], &c[K],
                                     &c[V], &a);
    d.ops->attention_backward(&d.ctx, &g[DQ], &g[DK], &g[DV], &g[DO], &g[O], lse[1], &g[Q], &g[K], &g[V],
                               &a);
    CHECK_TEXT(cpu.error.message, "");
    CHECK_TEXT(d.error.message, "");
    for (int i = O; i < TENSORS; i++) CHECK_AGREES(i, 3 * tolerance(type)); /* bf16: delta is out of o there, of p here */
    for (int i = 0; i < 4 * QUERIES; i++)
        if (isinf(lse[0][i]))
            CHECK(lse[1][i] == lse[0][i]);
        else
            CHECK_NEAR(lse[1][i], lse[0][i], 1e-5);
    release(c, TENSORS);
    release(g, TENSORS);
    cpu_close(&cpu);
    device_close(&d);
}

TEST(attention)
{
    for (int causal = 0; causal < 2; causal++)
        for (int own = 0; own <= causal; own++) {
            attention_agrees(HN_F32, causal, own);
            attention_agrees(HN_BF16, causal, own);
        }
}

TEST_MAIN(RUN(layernorm); RUN(layernorm_bf16); RUN(attention))
