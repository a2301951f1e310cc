/* kernels/cuda/product.c: every layout, type and epilogue against plain loops in double; and its plans, over the double of cuBLASLt. */
#include "tests/cuda_on_cpu/device.h"

#include "core/mem.h"
#include "kernels/cuda/product.h"
#include "tests/cuda_on_cpu/cublas_lt.h"

enum { BIAS = 4, GELU = 32, GELU_AUX = 32 | 128, GELU_BIAS = 32 | 4, GELU_AUX_BIAS = 32 | 128 | 4, DGELU = 64 | 128, BGRADB = 512 }; /* cublasLtEpilogue_t */

typedef struct product_case {
    int64_t m, n, k, gap, z_gap;
    int unaligned; /* bits: A, B, D, bias, z begin one element into a wider matrix, whose rows are aligned if theirs would be */
    hn_dtype in, out;
    bool a_turned, b_turned, add, bias, z;
    float scale;
    hnp_cuda_epilogue epilogue;
} product_case;

/* A case's tensors, and what is expected of them. */
typedef struct product_test {
    product_case c;
    hn_tensor a, b, d, bias, z;
    float *sums;
    double *bare, *full, *kept, *expected_sums; /* [m, n] before and after the epilogue, z; [m] */
    void *memory[5];
    hnp_cuda_product product;
} product_test;

static double gelu(double x)
{
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}
static double gelu_slope(double x)
{
    double t = tanh(0.7978845608028654 * (x + 0.044715 * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x * x);
}

static double finished(const product_test *t, int64_t i, int64_t j, double v)
{
    double biased = v + (t->c.bias ? get(&t->bias, 0, j) : 0);
    switch (t->c.epilogue) {
    case HNP_CUDA_BIAS: return biased;
    case HNP_CUDA_GELU: return gelu(biased);
    case HNP_CUDA_GELU_SLOPE: return v * gelu_slope(get(&t->z, i, j));
    case HNP_CUDA_PLAIN:
    case HNP_CUDA_ROW_SUMS: break;
    }
    return v;
}

static void expect(product_test *t)
{
    const product_case *c = &t->c;
    for (int64_t i = 0; i < c->m; i++) {
        for (int64_t j = 0; j < c->n; j++) {
            double sum = 0;
            for (int64_t l = 0; l < c->k; l++)
                sum += (c->a_turned ? get(&t->a, l, i) : get(&t->a, i, l)) * (c->b_turned ? get(&t->b, j, l) : get(&t->b, l, j));
            sum = c->scale * sum + (c->add ? get(&t->d, i, j) : 0);
            t->bare[i * c->n + j] = sum;
            t->kept[i * c->n + j] = sum + (c->bias ? get(&t->bias, 0, j) : 0);
            t->full[i * c->n + j] = finished(t, i, j, sum);
        }
        t->expected_sums[i] = 0;
        for (int64_t l = 0; l < c->k; l++) t->expected_sums[i] += c->a_turned ? get(&t->a, l, i) : get(&t->a, i, l);
    }
}

enum { A = 1, B = 2, D = 4, VECTOR = 8, Z = 16, ALL = 31, WIDER = 8 };

/* Columns of a wider matrix when `which` is to be unaligned; the memory goes to *memory. */
static hn_tensor placed(void **memory, const product_case *c, int which, hn_dtype type, int64_t rows, int64_t columns, int64_t gap,
                        double spread)
{
    int64_t wider = c->unaligned & which ? WIDER : 0;
    hn_tensor whole = matrix_new(type, rows, columns + wider, columns + wider + gap);
    hn_tensor view = hn_tensor_columns(&whole, wider ? 1 : 0, columns);
    for (int64_t i = 0; spread > 0 && i < rows * columns; i++) put(&view, i / columns, i % columns, spread * uniform());
    *memory = whole.data;
    return view;
}

static void product_open(product_test *t, const product_case *c)
{
    size_t count = (size_t)(c->m * c->n) * sizeof(double);
    double spread = 1 / sqrt((double)c->k);
    t->c = *c;
    int64_t a_columns = c->a_turned ? c->m : c->k, b_columns = c->b_turned ? c->k : c->n;
    t->a = placed(&t->memory[0], c, A, c->in, c->a_turned ? c->k : c->m, a_columns, c->gap, 1);
    t->b = placed(&t->memory[1], c, B, c->in, c->b_turned ? c->n : c->k, b_columns, c->gap, spread);
    t->d = placed(&t->memory[2], c, D, c->out, c->m, c->n, c->gap, c->add);
    t->bias = placed(&t->memory[3], c, VECTOR, c->out, 1, c->n, 0, 1);
    t->bias.rank = 1, t->bias.shape[0] = c->n;
    t->z = placed(&t->memory[4], c, Z, c->out, c->m, c->n, c->z_gap, c->epilogue == HNP_CUDA_GELU_SLOPE ? 2 : 0);
    t->sums = floats_new(c->m);
    t->bare = malloc(count), t->full = malloc(count), t->kept = malloc(count);
    t->expected_sums = malloc((size_t)c->m * sizeof(double));
    expect(t);
    t->product = (hnp_cuda_product){.d = &t->d,
                                    .a = &t->a,
                                    .b = &t->b,
                                    .a_turned = c->a_turned,
                                    .b_turned = c->b_turned,
                                    .add = c->add,
                                    .scale = c->scale,
                                    .epilogue = c->epilogue,
                                    .bias = c->bias ? &t->bias : NULL,
                                    .z = c->z ? &t->z : NULL,
                                    .sums = t->sums};
}

static void product_close(product_test *t)
{
    void *all[] = {t->sums, t->bare, t->full, t->kept, t->expected_sums};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    for (size_t i = 0; i < sizeof t->memory / sizeof *t->memory; i++) free(t->memory[i]);
}

static void check(const product_test *t, bool done)
{
    bool gelu = t->c.epilogue == HNP_CUDA_GELU || t->c.epilogue == HNP_CUDA_GELU_SLOPE;
    double limit = fmax(tolerance(t->c.out), gelu ? 1e-3 : 0); /* a library's tanh may be an approximate one: linear.cu wants it for bf16 alone */
    CHECK_MATRIX(&t->d, done ? t->full : t->bare, limit);
    CHECK(gaps_untouched(&t->d));
    if (!done) return;
    if (t->c.epilogue == HNP_CUDA_GELU && t->c.z) {
        CHECK_MATRIX(&t->z, t->kept, limit);
        CHECK(gaps_untouched(&t->z));
    }
    for (int64_t i = 0; i < t->c.m && t->c.epilogue == HNP_CUDA_ROW_SUMS; i++) CHECK_NEAR(t->sums[i], t->expected_sums[i], 1e-5);
}

/* Runs a case; whether its epilogue was done. */
static bool run(device *d, const product_case *c)
{
    product_test t;
    product_open(&t, c);
    bool done = hnp_cuda_product_run(&d->ctx, "product", &t.product);
    device_wait(d);
    if (!d->error.status) check(&t, done);
    product_close(&t);
    return done;
}

static void open_products(device *d)
{
    device_open(d, hnp_cuda_product_workspace(0));
}

static const struct {
    hn_dtype in, out;
} types[] = {{HN_F32, HN_F32}, {HN_BF16, HN_BF16}, {HN_BF16, HN_F32}};
static const int64_t sizes[][3] = {{1, 1, 1}, {1, 33, 31}, {31, 1, 33}, {33, 31, 1}, {64, 32, 48}, {257, 24, 40}, {40, 257, 65}, {100, 72, 16}};
enum { TYPES = sizeof types / sizeof *types, SIZES = sizeof sizes / sizeof *sizes };

TEST(every_layout)
{
    device d;
    open_products(&d);
    for (int type = 0; type < TYPES; type++)
        for (int size = 0; size < SIZES; size++)
            for (int bits = 0; bits < 32; bits++) {
                product_case c = {.m = sizes[size][0], .n = sizes[size][1], .k = sizes[size][2], .in = types[type].in, .out = types[type].out,
                                  .a_turned = bits & 1, .b_turned = bits & 2, .add = bits & 4, .gap = bits & 8 ? 3 : 0, .unaligned = bits & 16 ? ALL : 0,
                                  .scale = bits & 4 ? -1.5f : 1.0f};
                CHECK(run(&d, &c));
                CHECK_TEXT(d.error.message, "");
            }
    device_close(&d);
}

TEST(one_operand_is_not_aligned)
{
    device d;
    open_products(&d);
    for (int type = 0; type < TYPES; type++)
        for (int which = A; which <= D; which *= 2) {
            product_case c = {.m = 64, .n = 32, .k = 48, .in = types[type].in, .out = types[type].out, .scale = 1, .unaligned = which};
            CHECK(run(&d, &c));
            CHECK_TEXT(d.error.message, "");
        }
    device_close(&d);
}

static const product_case epilogues[] = {
    {.epilogue = HNP_CUDA_BIAS, .bias = true},
    {.epilogue = HNP_CUDA_GELU},
    {.epilogue = HNP_CUDA_GELU, .z = true},
    {.epilogue = HNP_CUDA_GELU, .bias = true},
    {.epilogue = HNP_CUDA_GELU, .bias = true, .z = true},
    {.epilogue = HNP_CUDA_GELU_SLOPE, .z = true},
    {.epilogue = HNP_CUDA_ROW_SUMS},
};
static const int lt_epilogue[] = {BIAS, GELU, GELU_AUX, GELU_BIAS, GELU_AUX_BIAS, DGELU, BGRADB};
enum { EPILOGUES = sizeof epilogues / sizeof *epilogues };

static product_case epilogue_case(int which, int type)
{
    product_case c = epilogues[which];
    c.m = 50, c.n = 40, c.k = 24, c.gap = 8, c.z_gap = 16, c.scale = 1;
    c.in = types[type].in;
    c.out = c.epilogue == HNP_CUDA_ROW_SUMS ? HN_F32 : types[type].out;
    return c;
}

/* On any GPU: with the epilogue or without it, as run() says. */
TEST(every_epilogue)
{
    device d;
    open_products(&d);
    for (int type = 0; type < TYPES; type++)
        for (int which = 0; which < EPILOGUES; which++)
            for (int bits = 0; bits < 8; bits++) {
                product_case c = epilogue_case(which, type);
                c.a_turned = bits & 1, c.b_turned = bits & 2, c.add = bits & 4;
                run(&d, &c);
                c.n = 33, c.gap = 1, c.z_gap = 3;
                run(&d, &c);
                c.n = 40, c.gap = 0, c.z_gap = 0, c.unaligned = 1 << which % 5;
                run(&d, &c);
                CHECK_TEXT(d.error.message, "");
            }
    device_close(&d);
}

TEST(an_epilogue_is_fused_or_refused)
{
    device d;
    emu_lt_reset();
    open_products(&d);
    for (int type = 0; type < TYPES; type++)
        for (int which = 0; which < EPILOGUES; which++) {
            product_case c = epilogue_case(which, type);
            emu_lt_reset();
            CHECK(run(&d, &c));
            CHECK_INT(emu_lt_counted()->epilogue[lt_epilogue[which]], 1);
            emu_lt_refuse(lt_epilogue[which]);
            c.m = 51; /* a count whose plan is not known */
            CHECK(!run(&d, &c));
            CHECK(!run(&d, &c));
            CHECK_INT(emu_lt_counted()->epilogue[1], 2);
            CHECK_TEXT(d.error.message, "");
        }
    emu_lt_reset();
    product_case odd = epilogue_case(4, 0);
    odd.z_gap = 3; /* its rows are no multiple of 8 apart */
    CHECK(!run(&d, &odd));
    odd.z_gap = 0, odd.unaligned = Z;
    CHECK(!run(&d, &odd));
    odd.unaligned = VECTOR;
    CHECK(!run(&d, &odd));
    CHECK_TEXT(d.error.message, "");
    device_close(&d);
}

TEST(nothing_to_do)
{
    device d;
    open_products(&d);
    float one = 1;
    hn_tensor none = hn_tensor_2d(NULL, HN_F32, 0, 1), w = hn_tensor_2d(&one, HN_F32, 1, 1);
    CHECK(hnp_cuda_product_run(&d.ctx, "product", &(hnp_cuda_product){.d = &none, .a = &none, .b = &w, .scale = 1}));
    CHECK_INT(hnp_cuda_products_count(hnp_cuda_products_of(&d.ctx)), 0);
    device_close(&d);
}

/* --- plans --- */

static product_case rows_case(int64_t rows)
{
    return (product_case){.m = rows, .n = 16, .k = 64, .in = HN_F32, .out = HN_F32, .scale = 1, .b_turned = true};
}

/* A result's bits, for rows of one fixed random stream. */
static void bits_of(device *d, const product_case *c, float *out)
{
    product_test t;
    test_random = 5;
    product_open(&t, c);
    hnp_cuda_product_run(&d->ctx, "product", &t.product);
    device_wait(d);
    memcpy(out, t.d.data, (size_t)(c->m * c->n) * sizeof *out);
    product_close(&t);
}

TEST(counts_of_rows_share_plans)
{
    device d;
    emu_lt_reset();
    open_products(&d);
    const hnp_cuda_products *products = hnp_cuda_products_of(&d.ctx);
    for (int64_t rows = 200; rows <= 224; rows += 8) CHECK(run(&d, &(product_case){.m = rows, .n = 16, .k = 64, .in = HN_F32, .out = HN_F32, .scale = 1}));
    CHECK_INT(hnp_cuda_products_count(products), 1);
    CHECK_INT(emu_lt_counted()->queries, 1);
    for (int64_t k = 200; k <= 224; k += 8)
        CHECK(run(&d, &(product_case){.m = 16, .n = 16, .k = k, .in = HN_F32, .out = HN_F32, .scale = 1, .a_turned = true}));
    CHECK_INT(hnp_cuda_products_count(products), 2);
    for (int64_t k = 200; k <= 224; k += 8) /* k is no count of rows here */
        CHECK(run(&d, &(product_case){.m = 16, .n = 16, .k = k, .in = HN_F32, .out = HN_F32, .scale = 1, .a_turned = true, .b_turned = true}));
    CHECK_INT(hnp_cuda_products_count(products), 6);
    emu_lt_reset();
    product_case odd = rows_case(201); /* TILED, which the plan of 224 rows names, does not run it */
    CHECK(run(&d, &odd));
    CHECK(run(&d, &odd));
    CHECK_INT(emu_lt_counted()->queries, 2);
    CHECK_INT(emu_lt_counted()->products[EMU_LT_SPLIT], 2);
    CHECK_TEXT(d.error.message, "");
    device_close(&d);
}

/* What was asked for before, and what was forgotten since, has no influence. */
TEST(plans_come_back_the_same)
{
    enum { ROWS = 204, COUNT = ROWS * 16 };
    static float first[COUNT], again[COUNT];
    device d;
    emu_lt_reset();
    open_products(&d);
    product_case c = rows_case(ROWS);
    bits_of(&d, &c, first);
    for (int64_t n = 1; n <= 600; n++) {
        product_case other = {.m = 4, .n = n, .k = 1, .in = HN_F32, .out = HN_F32, .scale = 1};
        run(&d, &other);
    }
    CHECK(hnp_cuda_products_count(hnp_cuda_products_of(&d.ctx)) <= 512);
    int64_t asked = emu_lt_counted()->queries;
    bits_of(&d, &c, again);
    CHECK(emu_lt_counted()->queries > asked);
    CHECK_INT(memcmp(first, again, sizeof first), 0);
    CHECK_TEXT(d.error.message, "");
    device_close(&d);
}

/* --- tuning --- */

enum { ROWS = 64, COUNT = ROWS * 16 };

/* Tunes a table that has met one product, so that it takes the algorithm `fastest`; its text. */
static void tune(device *d, int fastest, hn_strbuf *text)
{
    size_t size = 1 << 20;
    void *memory = malloc(size);
    memset(memory, 0, size);
    product_case c = rows_case(ROWS);
    emu_lt_fastest(fastest);
    run(d, &c);
    HN_ASSERT(hnp_cuda_products_tune(&d->ctx, memory, size, &d->error) == HN_OK);
    hnp_cuda_products_export(hnp_cuda_products_of(&d->ctx), text);
    free(memory);
}

TEST(a_tuned_table_is_used_and_reused)
{
    static float by_rule[COUNT], tuned[COUNT], reread[COUNT];
    device d, other;
    hn_strbuf text;
    product_case c = rows_case(ROWS);
    hn_strbuf_init(&text);
    emu_lt_reset();
    open_products(&d);
    open_products(&other);
    bits_of(&d, &c, by_rule);
    tune(&d, EMU_LT_SPLIT, &text);
    bits_of(&d, &c, tuned);
    CHECK(memcmp(by_rule, tuned, sizeof tuned) != 0);
    emu_lt_reset();
    CHECK_INT(hnp_cuda_products_import(hnp_cuda_products_of(&other.ctx), text.text, "tuned.jsonl", &other.error), HN_OK);
    bits_of(&other, &c, reread);
    CHECK_INT(emu_lt_counted()->queries, 0);
    CHECK_INT(emu_lt_counted()->products[EMU_LT_SPLIT], 1);
    CHECK_INT(memcmp(tuned, reread, sizeof tuned), 0);
    hn_strbuf again;
    hn_strbuf_init(&again);
    hnp_cuda_products_export(hnp_cuda_products_of(&other.ctx), &again);
    CHECK_TEXT(again.text, text.text);
    hn_strbuf_close(&text);
    hn_strbuf_close(&again);
    device_close(&d);
    device_close(&other);
}

/* Tuned plans outlive those of the rule. */
TEST(tuned_plans_stay)
{
    device d;
    hn_strbuf text, after;
    hn_strbuf_init(&text);
    hn_strbuf_init(&after);
    emu_lt_reset();
    open_products(&d);
    tune(&d, EMU_LT_PLAIN, &text);
    emu_lt_reset();
    for (int64_t n = 1; n <= 600; n++) run(&d, &(product_case){.m = 4, .n = n, .k = 1, .in = HN_F32, .out = HN_F32, .scale = 1});
    hnp_cuda_products_export(hnp_cuda_products_of(&d.ctx), &after);
    CHECK_TEXT(after.text, text.text);
    hn_strbuf_close(&text);
    hn_strbuf_close(&after);
    device_close(&d);
}

/* Everything that tuning can meet runs: strides, odd alignments, epilogues, sums; what has no room is left alone. */
TEST(all_kinds_of_plans_are_tuned)
{
    enum { SIZE = 1 << 18 };
    device d;
    hn_strbuf text;
    char *memory = malloc(SIZE);
    hn_strbuf_init(&text);
    emu_lt_reset();
    open_products(&d);
    for (int type = 0; type < TYPES; type++)
        for (int which = 0; which < EPILOGUES; which++) {
            product_case c = epilogue_case(which, type);
            c.m = 48, c.gap = 3, c.add = which % 2, c.unaligned = c.epilogue == HNP_CUDA_ROW_SUMS ? ALL : 0;
            CHECK(run(&d, &c));
        }
    CHECK(run(&d, &(product_case){.m = 512, .n = 512, .k = 16, .in = HN_F32, .out = HN_F32, .scale = 1}));
    memset(memory, 0, SIZE);
    CHECK_INT(hnp_cuda_products_tune(&d.ctx, memory, SIZE, &d.error), HN_OK);
    hnp_cuda_products_export(hnp_cuda_products_of(&d.ctx), &text);
    int tuned = 0;
    for (const char *at = text.text; (at = strstr(at, "algorithm")); at++) tuned++;
    CHECK_INT(tuned, hnp_cuda_products_count(hnp_cuda_products_of(&d.ctx)) - 1);
    CHECK_INT(hnp_cuda_products_import(hnp_cuda_products_of(&d.ctx), text.text, "tuned", &d.error), HN_OK);
    hn_strbuf_close(&text);
    free(memory);
    device_close(&d);
}

static void refuses(device *d, const char *text, hn_status status, const char *part)
{
    hn_error error = {0};
    CHECK_INT(hnp_cuda_products_import(hnp_cuda_products_of(&d->ctx), text, "tuned", &error), status);
    CHECK_CONTAINS(error.message, part);
}

TEST(a_table_of_elsewhere_is_refused)
{
    device d;
    hn_strbuf text;
    hn_strbuf_init(&text);
    emu_lt_reset();
    open_products(&d);
    tune(&d, EMU_LT_PLAIN, &text);
    emu_lt_version(130200);
    refuses(&d, text.text, HN_ERR_MISMATCH, "tuned: products were tuned on \"emulated GPU\" by cuBLASLt 130100 with 33554432 bytes of "
                                            "scratch, here are \"emulated GPU\", 130200 and 33554432");
    emu_lt_version(0);
    char *digits = strstr(text.text, "algorithm\":\"") + strlen("algorithm\":\"");
    char digit = *digits;
    *digits = 'x';
    refuses(&d, text.text, HN_ERR_FORMAT, "an algorithm is 128 hexadecimal digits, got \"x");
    *digits = digit == '0' ? '1' : '0';
    refuses(&d, text.text, HN_ERR_MISMATCH, "cuBLASLt does not run the plan of [64, 16, 64]: an invalid value");
    *digits = digit;
    memcpy(strstr(text.text, "\"n\":"), "\"n\":\"", 5);
    refuses(&d, text.text, HN_ERR_FORMAT, "tuned");
    refuses(&d, "", HN_ERR_FORMAT, "tuned");
    hn_strbuf_reset(&text);
    hnp_cuda_products_export(hnp_cuda_products_of(&d.ctx), &text); /* nothing was taken, nothing lost */
    CHECK_CONTAINS(text.text, "\"m\":64,\"n\":16,\"k\":64");
    hn_strbuf_close(&text);
    device_close(&d);
}

/* --- failures --- */

TEST(a_failure_names_the_product)
{
    device d;
    emu_lt_reset();
    open_products(&d);
    product_case c = rows_case(8);
    emu_lt_fail(14);
    CHECK(!run(&d, &c));
    CHECK_TEXT(d.error.message, "product: cuBLASLt: an internal operation failed, product of [8, 64] and [64, 16], f32 to f32");
    CHECK_INT(d.error.status, HN_ERR_DEVICE);
    emu_lt_reset();
    CHECK(!run(&d, &c)); /* nothing runs after a failure */
    CHECK_INT(emu_lt_counted()->products[EMU_LT_TILED], 0);
    device_close(&d);
}

TEST(a_plain_product_that_is_refused_is_a_failure)
{
    device d;
    emu_lt_reset();
    open_products(&d);
    emu_lt_refuse(1);
    product_case c = rows_case(8);
    CHECK(!run(&d, &c));
    CHECK_CONTAINS(d.error.message, "product: cuBLASLt: the functionality is not supported, product of [8, 64]");
    device_close(&d);
}

TEST(workspace_too_small_is_an_error)
{
    device d;
    device_open(&d, 1 << 20);
    product_case c = rows_case(8);
    CHECK(!run(&d, &c));
    CHECK_TEXT(d.error.message, "product: needs 33554688 bytes of workspace, has 1048576");
    device_close(&d);
}

TEST(memory_runs_out)
{
    device d;
    hn_strbuf text;
    hn_strbuf_init(&text);
    emu_lt_reset();
    open_products(&d);
    tune(&d, EMU_LT_PLAIN, &text);
    for (size_t nth = 1;; nth++) {
        hnp_cuda_products *products = NULL;
        hn_error error = {0};
        hn_mem_fail_at(nth);
        hn_status status = hnp_cuda_products_open(&products, "emulated GPU", &error);
        if (status == HN_OK) status = hnp_cuda_products_import(products, text.text, "tuned", &error);
        hn_mem_fail_at(0);
        hnp_cuda_products_free(products);
        if (status == HN_OK) break;
        CHECK_INT(status, HN_ERR_MEMORY);
        CHECK(nth < 200);
    }
    hn_strbuf_close(&text);
    device_close(&d);
}

TEST_MAIN(RUN(every_layout); RUN(one_operand_is_not_aligned); RUN(every_epilogue); RUN(an_epilogue_is_fused_or_refused); RUN(nothing_to_do);
          RUN(counts_of_rows_share_plans); RUN(plans_come_back_the_same); RUN(a_tuned_table_is_used_and_reused);
          RUN(tuned_plans_stay); RUN(all_kinds_of_plans_are_tuned); RUN(a_table_of_elsewhere_is_refused);
          RUN(a_failure_names_the_product); RUN(a_plain_product_that_is_refused_is_a_failure);
          RUN(workspace_too_small_is_an_error); RUN(memory_runs_out))
