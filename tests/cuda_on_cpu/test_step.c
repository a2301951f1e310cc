/* The optimizer's half of a training step on the emulated GPU beside the CPU's: steps are enqueued one after the other, outcomes
 * read one step late, gradients now and then not finite, a group thaws on the way. Decisions and counts must be the same, weights and moments
 * within the tolerance. The emulated GPU runs as late as it may, so whatever is written before it was read differs every time. */
#include "core/mem.h"
#include "tests/cuda_on_cpu/device.h"
#include "tests/models/tiny.h"
#include "train/optimizer.h"
#include "train/reduce.h"

enum { STEPS = 9, NAN_GRADIENT = 2, BAD_LOSS = 3, THAW = 5, GROUPS = 4 };

typedef struct side {
    hn_backend backend;
    hn_ops_context ctx;
    hn_error error;
    hn_train_config config;
    hn_freeze_plan plan;
    hn_model *model;
    hn_arena parameters, gradients, moments, workspace;
    hn_optimizer optimizer;
    int64_t thaw[GROUPS];
    bool ever[GROUPS];
    float lr_scale[GROUPS];
    hnp_reduce reduce;
    hn_adamw_outcome outcome[STEPS];
    hn_adamw_step last; /* as the last step was made */
    bool unread;        /* outcomes are not read on the way: the host runs ahead as far as pinned memory lets it */
    size_t elements, gradient_bytes;
    float *weights, *gradient[STEPS]; /* host */
    double host_loss[STEPS];
    hn_sums sums[STEPS];
} side;

static void place(side *s)
{
    hn_model_place_parameters(s->model, &s->parameters);
    hn_model_place_gradients(s->model, &s->gradients, s->ever);
    hn_optimizer_place(&s->optimizer, &s->moments);
    hnp_reduce_place(&s->reduce, &s->moments);
    s->ctx.workspace_size = 1 << 20;
    s->ctx.workspace = hn_arena_take(&s->workspace, s->ctx.workspace_size);
}

/* Groups 0 (embeddings) and 2, 3 train from the start, 1 from step THAW. */
static void side_open(side *s, const hn_ops *ops, hn_precision moments, double clip)
{
    hn_model_config config;
    s->config = (hn_train_config){.train = {.seed = 77}, .optim = {.clip = clip, .beta1 = 0.9, .beta2 = 0.98, .epsilon = 1e-6,
                                                                   .weight_decay = 0.1, .moments = moments}};
    s->plan = (hn_freeze_plan){.groups = GROUPS, .thaw = s->thaw, .ever = s->ever, .lr_scale = s->lr_scale, .warmup = 3};
    for (int g = 0; g < GROUPS; g++) s->thaw[g] = g == 1 ? THAW : 0, s->ever[g] = true, s->lr_scale[g] = 1 - 0.1f * (float)g;
    HN_ASSERT(tiny_config(&config, TINY_BERT, &s->error) == HN_OK);
    hn_model_config_head(&config, HN_HEAD_CLASSIFY, 3);
    HN_ASSERT(hn_model_open(&s->model, &config, HN_BF16, &s->backend, ops, &s->error) == HN_OK);
    HN_ASSERT(hn_model_group_count(s->model) == GROUPS);
    hn_arena *arenas[] = {&s->parameters, &s->gradients, &s->moments, &s->workspace};
    for (int i = 0; i < 4; i++) hn_arena_init(arenas[i], "test", &s->backend);
    HN_ASSERT(hnp_reduce_init(&s->reduce, &(hnp_parts){.parts = 1, .ranks = 1}, ops, &s->backend, &s->gradients, s->model, &s->plan, HN_BF16,
                              &s->error) == HN_OK);
    HN_ASSERT(hn_optimizer_init(&s->optimizer, &s->config, &s->plan, s->model, ops, &s->backend, &s->reduce.zero, &s->error) == HN_OK);
    place(s);
    for (int i = 0; i < 4; i++) HN_ASSERT(hn_arena_alloc(arenas[i], &s->error) == HN_OK);
    place(s);
    HN_ASSERT(hn_optimizer_alloc(&s->optimizer, &s->error) == HN_OK);
    HN_ASSERT(ops->open(&s->ctx, &s->error) == HN_OK);
}

static void fill(side *s)
{
    s->elements = (size_t)hn_model_param_elements(s->model);
    s->gradient_bytes = s->gradients.used;
    s->weights = hn_malloc(s->elements * sizeof(float));
    test_random = 5;
    for (size_t i = 0; i < s->elements; i++) s->weights[i] = (float)uniform();
    s->backend.copy_in(&s->backend, hn_model_master(s->model), s->weights, s->elements * sizeof(float));
    for (int step = 0; step < STEPS; step++) {
        size_t count = s->gradient_bytes / sizeof(float);
        s->gradient[step] = hn_malloc(s->gradient_bytes);
        for (size_t i = 0; i < count; i++) s->gradient[step][i] = (float)uniform();
        if (step == NAN_GRADIENT) s->gradient[step][count / 2] = NAN;
        s->host_loss[step] = step == BAD_LOSS ? INFINITY : 1.5 + step;
    }
}

static void read_outcome(side *s, int step, int before)
{
    const hn_adamw_outcome *outcome;
    HN_ASSERT(hn_optimizer_outcome(&s->optimizer, before, &outcome, &s->error) == HN_OK);
    s->outcome[step] = *outcome;
}

static void run_side(side *s)
{
    hn_optimizer_select(&s->optimizer, 0);
    for (int step = 0; step < STEPS; step++) {
        if (step == THAW) {
            read_outcome(s, step - 1, 0);
            hn_optimizer_select(&s->optimizer, step);
        }
        HN_ASSERT(hn_optimizer_begin(&s->optimizer, &s->ctx, step, 0.01 * (step + 1), 1.0f / 12, &s->error) == HN_OK);
        s->backend.copy_in(&s->backend, s->gradients.base, s->gradient[step], s->gradient_bytes);
        s->sums[step] = (hn_sums){.loss = s->host_loss[step], .count = 12};
        s->backend.copy_in(&s->backend, s->reduce.part, &s->sums[step], sizeof s->sums[step]);
        hnp_reduce_close_part(&s->reduce, &s->ctx, 0);
        HN_ASSERT(hnp_reduce_finish(&s->reduce, &s->ctx, &s->error) == HN_OK);
        hn_optimizer_decide(&s->optimizer, &s->ctx, s->reduce.total);
        HN_ASSERT(hn_optimizer_apply(&s->optimizer, &s->ctx, &s->error) == HN_OK);
        if (step > 0 && step != THAW && !s->unread) read_outcome(s, step - 1, 1);
    }
    read_outcome(s, STEPS - 1, 0);
    HN_ASSERT(hn_optimizer_fetch(&s->optimizer, &s->error) == HN_OK);
    s->backend.copy_out(&s->backend, s->weights, hn_model_master(s->model), s->elements * sizeof(float));
    s->backend.copy_out(&s->backend, &s->last, s->optimizer.step, sizeof s->last);
    s->backend.synchronize(&s->backend, &s->error);
}

static void side_close(side *s, const hn_ops *ops)
{
    for (int step = 0; step < STEPS; step++) hn_free(s->gradient[step]);
    hn_free(s->weights);
    ops->close(&s->ctx);
    hn_optimizer_close(&s->optimizer);
    hnp_reduce_close(&s->reduce);
    hn_model_free(s->model);
    hn_arena *arenas[] = {&s->parameters, &s->gradients, &s->moments, &s->workspace};
    for (int i = 0; i < 4; i++) hn_arena_close(arenas[i]);
    s->backend.close(&s->backend);
}

static void compare(const side *cpu, const side *gpu)
{
    CHECK_TEXT(cpu->error.message, "");
    CHECK_TEXT(gpu->error.message, "");
    for (int step = gpu->unread ? STEPS - 1 : 0; step < STEPS; step++) {
        const hn_adamw_outcome *a = &cpu->outcome[step], *b = &gpu->outcome[step];
        bool bad = step == NAN_GRADIENT || step == BAD_LOSS;
        CHECK(a->skipped == bad && b->skipped == bad);
        CHECK(a->loss == b->loss && a->loss == cpu->host_loss[step]);
        CHECK(step == NAN_GRADIENT ? isnan(a->norm) && isnan(b->norm) : fabs(a->norm / b->norm - 1) < 1e-12);
        CHECK_INT(b->count, 12);
    }
    for (int g = 0; g < GROUPS; g++) {
        CHECK_INT(cpu->optimizer.applied[g], g == 1 ? STEPS - THAW : STEPS - 2);
        CHECK_INT(gpu->optimizer.applied[g], cpu->optimizer.applied[g]);
    }
    CHECK(gpu->last.step == STEPS - 1 && gpu->last.seed == 77 && gpu->last.lr == (float)(0.01 * STEPS));
    for (size_t i = 0; i < cpu->elements; i++) CHECK_NEAR(gpu->weights[i], cpu->weights[i], 2e-5);
}

static void both(hn_precision moments, double clip, bool unread)
{
    side *s = hn_calloc(2, sizeof *s);
    const hn_ops *ops[2] = {hn_ops_cpu(), hn_ops_cuda()};
    emu_reset();
    hn_backend_cpu_init(&s[0].backend);
    HN_ASSERT(hn_backend_cuda_init(&s[1].backend, &s[1].error) == HN_OK);
    for (int i = 0; i < 2; i++) {
        s[i].ctx = (hn_ops_context){.backend = &s[i].backend, .error = &s[i].error};
        s[i].unread = unread;
        side_open(&s[i], ops[i], moments, clip);
        fill(&s[i]);
        run_side(&s[i]);
    }
    compare(&s[0], &s[1]);
    for (int g = 0; g < GROUPS; g++) s[1].optimizer.applied[g] = 100 + g;
    HN_ASSERT(hn_optimizer_restore(&s[1].optimizer, &s[1].error) == HN_OK);
    for (int g = 0; g < GROUPS; g++) s[1].optimizer.applied[g] = 0;
    HN_ASSERT(hn_optimizer_fetch(&s[1].optimizer, &s[1].error) == HN_OK);
    bool restored = true;
    for (int g = 0; g < GROUPS; g++) restored = restored && s[1].optimizer.applied[g] == 100 + g;
    for (int i = 0; i < 2; i++) side_close(&s[i], ops[i]);
    hn_free(s);
    CHECK(restored);
}

TEST(clipped)
{
    both(HN_PRECISION_FP32, 1.0, false);
}
TEST(not_clipped)
{
    both(HN_PRECISION_FP32, 0, false);
}
TEST(moments_in_bf16)
{
    both(HN_PRECISION_BF16, 1.0, false);
}

TEST(far_ahead)
{
    both(HN_PRECISION_FP32, 1.0, true);
}

/* The GPU fails in the middle of a step: whoever waits for its outcome learns of it, with the operation. */
TEST(a_failing_gpu)
{
    side *s = hn_calloc(1, sizeof *s);
    const hn_adamw_outcome *outcome;
    emu_reset();
    HN_ASSERT(hn_backend_cuda_init(&s->backend, &s->error) == HN_OK);
    s->ctx = (hn_ops_context){.backend = &s->backend, .error = &s->error};
    side_open(s, hn_ops_cuda(), HN_PRECISION_FP32, 1);
    fill(s);
    hn_optimizer_select(&s->optimizer, 0);
    HN_ASSERT(hn_optimizer_begin(&s->optimizer, &s->ctx, 0, 0.1, 1, &s->error) == HN_OK);
    HN_ASSERT(hnp_reduce_finish(&s->reduce, &s->ctx, &s->error) == HN_OK);
    hn_optimizer_decide(&s->optimizer, &s->ctx, s->reduce.total);
    hn_status finished = hn_optimizer_apply(&s->optimizer, &s->ctx, &s->error);
    emu_fail_after(0, 700 /* an illegal address */);
    hn_status status = hn_optimizer_outcome(&s->optimizer, 0, &outcome, &s->error);
    bool named = strstr(s->error.message, "an illegal memory access") && strstr(s->error.message, "the last operation started was adamw");
    side_close(s, hn_ops_cuda());
    emu_reset(); /* what was under way is never run */
    hn_free(s);
    CHECK_INT(finished, HN_OK);
    CHECK_INT(status, HN_ERR_DEVICE);
    CHECK(named);
}

TEST_MAIN(RUN(clipped); RUN(not_clipped); RUN(moments_in_bf16); RUN(far_ahead); RUN(a_failing_gpu))
