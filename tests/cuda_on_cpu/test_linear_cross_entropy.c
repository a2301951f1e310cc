/* linear_cross_entropy.cu on the emulator against the formula in double: over several pieces and chunks, with rows that have no target,
 * ties, a NaN, labels out of range; and against the CPU's table. */
#include "core/batch.h"
#include "tests/cuda_on_cpu/cublas_lt.h"
#include "tests/cuda_on_cpu/device.h"

typedef struct sizes {
    int64_t n, width, words, gap;
    bool bias, dx, dw;
    float smoothing;
    int every;      /* each row that is no multiple of this has a target; negative: each that is; 0: all have */
    bool mixed, quiet; /* x of the other type than w; nothing but the loss is wanted */
    bool told;         /* how many targets there are */
} sizes;

/* What kernels read and write beside matrices: from malloc. */
typedef struct sums {
    double loss;
    int64_t count, correct;
    float scale;
} sums;

typedef struct problem {
    sizes s;
    hn_dtype type;
    hn_tensor x, w, bias, dx, dw, dbias;
    int32_t *label;
    sums *sums;
    float *row_loss;
    bool *row_correct;
    int64_t targets;
} problem;

static problem problem_new(hn_dtype type, sizes s)
{
    problem p = {.s = s, .type = type};
    hn_dtype other = type == HN_F32 ? HN_BF16 : HN_F32, outer = s.mixed ? other : type;
    p.x = matrix_random(outer, s.n, s.width, s.width + s.gap, 1);
    p.w = matrix_random(type, s.words, s.width, s.width + s.gap, 3 / sqrt((double)s.width));
    p.bias = matrix_random(outer, 1, s.words, s.words, 1), p.bias.rank = 1, p.bias.shape[0] = s.words;
    p.dx = matrix_new(outer, s.n, s.width, s.width + s.gap);
    p.dw = matrix_random(HN_F32, s.words, s.width, s.width + s.gap, 1);
    p.dbias = matrix_random(HN_F32, 1, s.words, s.words, 1), p.dbias.rank = 1, p.dbias.shape[0] = s.words;
    p.label = malloc((size_t)s.n * sizeof *p.label);
    p.sums = malloc(sizeof *p.sums);
    *p.sums = (sums){100, 1000, 10, 0.7f};
    p.row_loss = floats_new(s.n);
    p.row_correct = malloc((size_t)s.n + 1);
    for (int64_t r = 0; r < s.n; r++) {
        p.label[r] = s.every && (r % s.every == 0) == (s.every > 0) ? HN_NO_TARGET : (int32_t)((r * 37 + 5) % s.words);
        p.targets += p.label[r] != HN_NO_TARGET;
    }
    return p;
}

static void problem_free(problem *p)
{
    void *all[] = {p->x.data, p->w.data, p->bias.data, p->dx.data, p->dw.data, p->dbias.data, p->label, p->sums, p->row_loss, p->row_correct};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static void problem_run(problem *p, const hn_ops *ops, hn_ops_context *ctx)
{
    hn_target_loss out = {&p->sums->loss, &p->sums->count, &p->sums->correct, p->row_loss, p->row_correct, p->s.told ? p->targets : 0};
    bool slopes = p->s.dx || p->s.dw;
    if (p->s.quiet) out.correct = NULL, out.row_loss = NULL, out.row_correct = NULL;
    ops->linear_cross_entropy(ctx, &out, p->s.dx ? &p->dx : NULL, p->s.dw ? &p->dw : NULL, p->s.bias && slopes ? &p->dbias : NULL,
                              &p->x, &p->w, p->s.bias ? &p->bias : NULL, p->label, p->s.smoothing, slopes ? &p->sums->scale : NULL);
}

/* With exactly the scratch that the plan is told of. */
static void problem_device(problem *p, device *d)
{
    device_open(d, d->ops->linear_cross_entropy_workspace(p->s.n, p->s.width, p->s.words));
    if (p->s.quiet) memset(d->ctx.workspace, 0, d->ctx.workspace_size); /* -1 and NaN otherwise: neither may be relied on */
    problem_run(p, d->ops, &d->ctx);
    device_wait(d);
}

/* Loss of a row in double; z becomes dz; whether the label is the arg max. */
static double row_reference(const problem *p, int64_t r, double *z, bool *correct)
{
    int64_t C = p->s.width, V = p->s.words, best = 0;
    double sum = 0, loss = 0, smoothing = (double)p->s.smoothing;
    for (int64_t v = 0; v < V; v++) {
        z[v] = p->s.bias ? get(&p->bias, 0, v) : 0;
        for (int64_t c = 0; c < C; c++) z[v] += rounded(p->type, get(&p->x, r, c)) * get(&p->w, v, c);
        sum += exp(z[v]);
        if (z[v] > z[best]) best = v;
    }
    for (int64_t v = 0; v < V; v++) {
        double q = smoothing / (double)V + (v == p->label[r] ? 1 - smoothing : 0);
        loss -= q * (z[v] - log(sum));
        z[v] = (exp(z[v]) / sum - q) * (double)p->sums->scale;
    }
    *correct = best == p->label[r];
    return loss;
}

/* What dx, dw and dbias must be, dense. */
typedef struct slopes {
    double *dx, *dw, *dbias;
} slopes;

static slopes slopes_new(const problem *p)
{
    int64_t C = p->s.width, V = p->s.words;
    slopes e = {calloc((size_t)(p->s.n * C) + 1, 8), calloc((size_t)(V * C), 8), calloc((size_t)V, 8)};
    for (int64_t i = 0; i < V * C; i++) e.dw[i] = get(&p->dw, i / C, i % C);
    for (int64_t i = 0; i < V; i++) e.dbias[i] = get(&p->dbias, 0, i);
    return e;
}

static void slopes_add(slopes *e, const problem *p, int64_t r, const double *dz)
{
    int64_t C = p->s.width;
    for (int64_t v = 0; v < p->s.words; v++) {
        e->dbias[v] += dz[v];
        for (int64_t c = 0; c < C; c++) {
            e->dx[r * C + c] += dz[v] * get(&p->w, v, c);
            e->dw[v * C + c] += dz[v] * rounded(p->type, get(&p->x, r, c));
        }
    }
}

/* Largest difference over the largest value; infinite with a NaN. expected is dense. */
static double apart_from(const hn_tensor *got, const double *expected)
{
    double most = 1, difference = 0;
    for (int64_t i = 0; i < got->shape[0] * got->shape[1]; i++) {
        double error = fabs(get(got, i / got->shape[1], i % got->shape[1]) - expected[i]);
        if (!(error < INFINITY)) return INFINITY;
        most = fmax(most, fabs(expected[i]));
        difference = fmax(difference, error);
    }
    return difference / most;
}

static void compare(hn_dtype type, sizes s)
{
    device d = {.ops = hn_ops_cuda()};
    problem p = problem_new(type, s);
    double *z = calloc((size_t)s.words, sizeof *z), loss = 100;
    float *of_rows = floats_new(s.n);
    bool *hits = calloc((size_t)s.n + 1, 1);
    int64_t correct = 10;
    slopes e = slopes_new(&p);
    for (int64_t r = 0; r < s.n; r++) {
        of_rows[r] = 0;
        if (p.label[r] == HN_NO_TARGET) continue;
        double of_row = row_reference(&p, r, z, &hits[r]);
        loss += of_row, correct += hits[r], of_rows[r] = (float)of_row;
        slopes_add(&e, &p, r, z);
    }
    problem_device(&p, &d);
    CHECK_TEXT(d.error.message, "");
    CHECK_NEAR(p.sums->loss, loss, 1e-5 * loss);
    CHECK_INT(p.sums->count, 1000 + p.targets);
    CHECK_INT(p.sums->correct, s.quiet ? 10 : correct);
    for (int64_t r = 0; r < s.n && !s.quiet; r++) {
        CHECK_NEAR((double)p.row_loss[r], (double)of_rows[r], 1e-4);
        CHECK_INT(p.row_correct[r], hits[r]);
    }
    double limit = tolerance(type), slack = s.mixed ? tolerance(HN_BF16) : limit;
    hn_tensor dbias = hn_tensor_2d(p.dbias.data, HN_F32, 1, s.words);
    if (s.dx) CHECK(apart_from(&p.dx, e.dx) <= slack && gaps_untouched(&p.dx));
    if (s.dw) CHECK(apart_from(&p.dw, e.dw) <= limit);
    if (s.bias && (s.dx || s.dw)) CHECK(apart_from(&dbias, e.dbias) <= limit);
    free(z), free(of_rows), free(hits), free(e.dx), free(e.dw), free(e.dbias);
    problem_free(&p);
    device_close(&d);
}

static void check(hn_dtype type, sizes s)
{
    if (case_wanted()) compare(type, s);
}

TEST(values_at_odd_sizes)
{
    static const sizes cases[] = {
        {.n = 0, .width = 8, .words = 20, .dx = true, .dw = true},
        {.n = 1, .width = 1, .words = 1, .dx = true, .dw = true},
        {.n = 31, .width = 33, .words = 257, .gap = 3, .bias = true, .dx = true, .dw = true, .smoothing = 0.1f, .every = 3},
        {.n = 33, .width = 31, .words = 256, .dx = true, .every = 2},
        {.n = 3, .width = 40, .words = 601, .gap = 8, .bias = true, .dw = true, .mixed = true},
        {.n = 5, .width = 8, .words = 33, .gap = 1, .dx = true, .dw = true},
        {.n = 257, .width = 12, .words = 40, .dx = true, .dw = true, .every = 5, .quiet = true},
        {.n = 33, .width = 16, .words = 1300, .bias = true, .every = 4},
        {.n = 5, .width = 8, .words = 4400, .dx = true, .dw = true, .smoothing = 0.2f, .mixed = true},
        {.n = 4, .width = 8, .words = 30, .bias = true, .dx = true, .dw = true, .every = 1},
        {.n = 2, .width = 4, .words = 16390, .bias = true, .dx = true, .dw = true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check(HN_F32, cases[i]);
        check(HN_BF16, cases[i]);
    }
}

/* More rows than a chunk of slopes, with several pieces of logits in it; and pieces of which the last has no target. */
TEST(several_chunks)
{
    check(HN_BF16, (sizes){.n = 2100, .width = 8, .words = 10, .bias = true, .dx = true, .dw = true, .every = 2099});
    check(HN_F32, (sizes){.n = 1100, .width = 4, .words = 9, .dx = true, .dw = true, .every = 2});
}

/* One row more than a bucket holds, as many as there are, one, none. */
TEST(rows_that_are_told)
{
    check(HN_BF16, (sizes){.n = 258, .width = 8, .words = 40, .bias = true, .dx = true, .dw = true, .every = -2, .told = true});
    check(HN_F32, (sizes){.n = 257, .width = 8, .words = 40, .bias = true, .dx = true, .dw = true, .every = -2, .told = true});
    check(HN_F32, (sizes){.n = 130, .width = 12, .words = 33, .dx = true, .dw = true, .told = true});
    check(HN_F32, (sizes){.n = 300, .width = 12, .words = 33, .dx = true, .dw = true, .every = -1000, .told = true});
    check(HN_F32, (sizes){.n = 5, .width = 12, .words = 33, .dx = true, .dw = true, .every = 1, .told = true});
}

TEST(rows_without_a_target_cost_no_products)
{
    for (int told = 0; told < 2; told++) {
        emu_lt_reset();
        compare(HN_F32, (sizes){.n = 1290, .width = 8, .words = 16, .dx = true, .dw = true, .every = -10, .told = told});
        int64_t products = 0;
        for (int i = 0; i < EMU_LT_ALGORITHMS; i++) products += emu_lt_counted()->products[i];
        CHECK_INT(products, told ? 3 : 5);
    }
}

/* Logits that the bias alone makes, so that they are exact: of equal ones the first is the prediction. */
TEST(ties)
{
    static const int32_t labels[] = {3, 7, 300, 8};
    device d = {.ops = hn_ops_cuda()};
    problem p = problem_new(HN_F32, (sizes){.n = 4, .width = 8, .words = 310, .bias = true});
    for (int64_t i = 0; i < 4 * 8; i++) put(&p.x, i / 8, i % 8, 0);
    for (int64_t v = 0; v < 310; v++) put(&p.bias, 0, v, v == 3 || v == 7 || v == 300 ? 2 : 1);
    memcpy(p.label, labels, sizeof labels);
    problem_device(&p, &d);
    for (int r = 0; r < 4; r++) CHECK_INT(p.row_correct[r], r == 0);
    CHECK_INT(p.sums->correct, 11);
    CHECK_NEAR((double)p.row_loss[3], log(307 + 3 * M_E), 1e-5);
    problem_free(&p);
    device_close(&d);
}

/* A NaN is its row's alone, but for the sum of the losses. */
TEST(a_nan_stays_in_its_row)
{
    device d = {.ops = hn_ops_cuda()};
    problem p = problem_new(HN_F32, (sizes){.n = 5, .width = 8, .words = 50, .dx = true});
    put(&p.x, 2, 3, (double)NAN);
    problem_device(&p, &d);
    for (int r = 0; r < 5; r++) {
        CHECK(isnan(p.row_loss[r]) == (r == 2));
        CHECK(isnan(get(&p.dx, r, 5)) == (r == 2));
    }
    CHECK(isnan(p.sums->loss) && !p.row_correct[2]);
    problem_free(&p);
    device_close(&d);
}

/* It is told when somebody waits; the row is left out, the others are as ever. */
TEST(a_label_outside_is_told)
{
    device d = {.ops = hn_ops_cuda()}, e = d;
    problem p = problem_new(HN_F32, (sizes){.n = 40, .width = 8, .words = 50, .dx = true}), q = p;
    problem_free(&q);
    sizes s = p.s;
    test_random = 5, p = problem_new(HN_F32, s);
    test_random = 5, q = problem_new(HN_F32, s);
    p.label[7] = 50, q.label[7] = HN_NO_TARGET;
    problem_device(&p, &d);
    problem_device(&q, &e);
    CHECK_TEXT(d.error.message, "cross entropy: row 7 has the label 50, expected 0 to 49");
    CHECK_TEXT(e.error.message, "");
    CHECK(p.sums->loss == q.sums->loss && p.sums->count == q.sums->count && p.row_loss[7] == 0);
    CHECK(!memcmp(p.dx.data, q.dx.data, 40 * 8 * sizeof(float)));
    problem_free(&p), problem_free(&q);
    device_close(&d), device_close(&e);
}

/* Another order of blocks and warps; and the rows of a batch among others: the bits of a row's loss are its own. */
TEST(same_bits)
{
    device d[3] = {{.ops = hn_ops_cuda()}, {.ops = hn_ops_cuda()}, {.ops = hn_ops_cuda()}};
    problem p[3];
    for (int run = 0; run < 2; run++) {
        test_random = 6;
        p[run] = problem_new(HN_F32, (sizes){.n = 150, .width = 8, .words = 300, .bias = true, .dx = true, .dw = true, .every = 6});
        emu_seed(300 + (uint64_t)run);
        problem_device(&p[run], &d[run]);
    }
    CHECK(p[0].sums->loss == p[1].sums->loss);
    CHECK(!memcmp(p[0].dx.data, p[1].dx.data, 150 * 8 * 4) && !memcmp(p[0].dw.data, p[1].dw.data, 300 * 8 * 4));
    CHECK(!memcmp(p[0].dbias.data, p[1].dbias.data, 300 * 4));
    p[2] = problem_new(HN_F32, (sizes){.n = 40, .width = 8, .words = 300, .bias = true});
    memcpy(p[2].w.data, p[0].w.data, 300 * 8 * 4), memcpy(p[2].bias.data, p[0].bias.data, 300 * 4);
    memcpy(p[2].x.data, (float *)p[0].x.data + 100 * 8, 40 * 8 * 4), memcpy(p[2].label, p[0].label + 100, 40 * 4);
    problem_device(&p[2], &d[2]);
    CHECK(!memcmp(p[2].row_loss, p[0].row_loss + 100, 40 * 4));
    for (int i = 0; i < 3; i++) problem_free(&p[i]), device_close(&d[i]);
}

static void agrees(hn_dtype type)
{
    table cpu;
    device d = {.ops = hn_ops_cuda()};
    problem p[2];
    cpu_open(&cpu);
    for (int side = 0; side < 2; side++) {
        test_random = 7;
        p[side] = problem_new(type, (sizes){.n = 45, .width = 24, .words = 310, .bias = true, .dx = true, .dw = true, .smoothing = 0.1f,
                                            .every = 4});
    }
    problem_run(&p[0], hn_ops_cpu(), &cpu.ctx);
    problem_device(&p[1], &d);
    CHECK_TEXT(cpu.error.message, "");
    CHECK_TEXT(d.error.message, "");
    CHECK_NEAR(p[1].sums->loss, p[0].sums->loss, 1e-5 * p[0].sums->loss);
    CHECK_INT(p[1].sums->count, p[0].sums->count);
    CHECK_INT(p[1].sums->correct, p[0].sums->correct);
    CHECK(apart(&p[0].dx, &p[1].dx) <= tolerance(type));
    CHECK(apart(&p[0].dw, &p[1].dw) <= tolerance(type));
    problem_free(&p[0]), problem_free(&p[1]);
    device_close(&d);
    cpu_close(&cpu);
}

TEST(agrees_with_the_cpu)
{
    agrees(HN_F32);
    agrees(HN_BF16);
}

/* The logits of a batch are never there whole: scratch stops growing with the rows. */
TEST(scratch_is_bounded)
{
    size_t (*size)(int64_t, int64_t, int64_t) = hn_ops_cuda()->linear_cross_entropy_workspace;
    CHECK(size(65536, 768, 50257) - size(4096, 768, 50257) < (65536 - 4096) * 24);
    CHECK(size(65536, 768, 50257) < (size_t)460 << 20);
    CHECK(size(65536, 640, 262144) < (size_t)830 << 20);
    CHECK(size(100, 768, 50257) < (size_t)90 << 20);
}

TEST_MAIN(RUN(values_at_odd_sizes); RUN(several_chunks); RUN(rows_that_are_told); RUN(rows_without_a_target_cost_no_products); RUN(ties); RUN(a_nan_stays_in_its_row); RUN(a_label_outside_is_told);
          RUN(same_bits); RUN(agrees_with_the_cpu); RUN(scratch_is_bounded))
