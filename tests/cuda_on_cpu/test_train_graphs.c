/* train/graphs.h: which call is enqueued plainly, captured, or launched; a full table; a capture that fails. And the one sequence more that
 * rounds a batch. */
#include "tests/cuda_on_cpu/device.h"
#include "train/graphs.h"

static char said[512];
static int notices;
static void notice(const char *text)
{
    snprintf(said, sizeof said, "%s", text);
    notices++;
}

typedef struct rig {
    device d;
    hnp_graphs graphs;
    float *x, *two;
    double expected;
    int calls;
    int64_t replays; /* before */
    bool breaks;     /* what is enqueued waits, which no graph can hold */
    bool records;    /* ... fails */
} rig;

static void rig_open(rig *r, bool wanted)
{
    memset(r, 0, sizeof *r);
    device_open(&r->d, 0);
    hn_cuda_device_of(&r->d.backend)->synchronous = false;
    r->x = floats_new(1), r->two = floats_new(1);
    *r->x = 1, *r->two = 2, r->expected = 1;
    r->replays = emu_replays();
    notices = said[0] = 0;
    hnp_graphs_init(&r->graphs, &r->d.backend, wanted, notice);
}

static void rig_close(rig *r)
{
    hnp_graphs_close(&r->graphs);
    device_close(&r->d);
    free(r->x);
    free(r->two);
}

static void enqueue(void *context)
{
    rig *r = context;
    r->calls++;
    r->d.ops->scale(&r->d.ctx, r->x, 1, r->two);
    if (r->breaks) r->d.backend.synchronize(&r->d.backend, NULL);
    if (r->records) hn_fail(r->d.ctx.error, HN_ERR_DEVICE, "an operation refused");
}

static void run_key(rig *r, int32_t tokens)
{
    hnp_graph_key key = {.batch = {.tokens = tokens}};
    hnp_graphs_run(&r->graphs, &key, enqueue, r, &r->d.error);
    r->expected *= 2;
}

static int64_t replays(const rig *r)
{
    return emu_replays() - r->replays;
}

static bool as_expected(rig *r)
{
    device_wait(&r->d);
    return *r->x == (float)r->expected && r->d.error.status == HN_OK;
}

TEST(seen_captured_launched)
{
    rig r;
    rig_open(&r, true);
    run_key(&r, 1);
    CHECK(r.calls == 1 && replays(&r) == 0);
    run_key(&r, 2);
    CHECK(r.calls == 2 && replays(&r) == 0);
    run_key(&r, 1);
    CHECK(r.calls == 3 && replays(&r) == 1);
    for (int i = 0; i < 5; i++) run_key(&r, 1);
    CHECK(r.calls == 3 && replays(&r) == 6);
    CHECK(as_expected(&r));
    hnp_graphs_reset(&r.graphs);
    run_key(&r, 1);
    CHECK(r.calls == 4 && replays(&r) == 6);
    CHECK(as_expected(&r) && notices == 0);
    rig_close(&r);
}

/* Every part of the key counts. */
TEST(another_key)
{
    static int32_t place;
    const hnp_graph_key keys[] = {{.batch = {.n = 1}},
                                  {.batch = {.tokens = 1}},
                                  {.batch = {.longest = 1}},
                                  {.batch = {.keys = 1}},
                                  {.batch = {.label = &place}},
                                  {.batch = {.cu_uses = &place}},
                                  {.trunk = &place},
                                  {.trunk = &place, .trunk_read = true}};
    rig r;
    rig_open(&r, true);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) hnp_graphs_run(&r.graphs, &keys[i], enqueue, &r, &r.d.error);
    CHECK(replays(&r) == 0 && r.calls == sizeof keys / sizeof *keys);
    rig_close(&r);
}

TEST(not_wanted)
{
    rig r;
    hn_backend cpu;
    rig_open(&r, false);
    for (int i = 0; i < 3; i++) run_key(&r, 1);
    CHECK(r.calls == 3 && replays(&r) == 0 && as_expected(&r));
    hn_backend_cpu_init(&cpu);
    hnp_graphs_init(&r.graphs, &cpu, true, notice);
    CHECK(!r.graphs.on);
    rig_close(&r);
}

/* As run_key, from one again, so that nothing grows out of its type. */
static void run_small(rig *r, int32_t tokens)
{
    device_wait(&r->d);
    *r->x = 1, r->expected = 1;
    run_key(r, tokens);
}

/* Keys seen once make room for others; graphs stay, and when there are as many as may be the rest is enqueued plainly. */
TEST(a_full_table)
{
    rig r;
    rig_open(&r, true);
    run_key(&r, 7);
    run_key(&r, 7);
    for (int i = 0; i < 3 * HNP_GRAPHS; i++) run_small(&r, 100 + i);
    CHECK_INT(replays(&r), 1);
    run_key(&r, 7);
    CHECK_INT(replays(&r), 2);
    for (int i = 0; i < HNP_GRAPHS; i++)
        for (int twice = 0; twice < 2; twice++) run_small(&r, 1000 + i);
    CHECK_INT(replays(&r), 2 + HNP_GRAPHS - 1);
    int calls = r.calls;
    run_key(&r, 1000);
    run_key(&r, 1000 + HNP_GRAPHS - 1);
    CHECK(r.calls == calls + 1 && replays(&r) == 2 + HNP_GRAPHS);
    CHECK(as_expected(&r) && notices == 0);
    rig_close(&r);
}

/* One notice, and everything is enqueued plainly from then on; nothing is done twice or left out. */
TEST(a_capture_that_fails)
{
    static const char *const reasons[] = {"making a graph: operation failed due to a previous error", "an operation refused",
                                          "making a graph: out of memory", "HN_CUDA_SYNC=1"};
    for (int how = 0; how < 4; how++) {
        rig r;
        rig_open(&r, true);
        run_key(&r, 1);
        r.breaks = how == 0, r.records = how == 1;
        if (how == 2) emu_graphs(true, 0);
        if (how == 3) hn_cuda_device_of(&r.d.backend)->synchronous = true;
        run_key(&r, 1);
        CHECK_INT(notices, 1);
        CHECK_CONTAINS(said, "train.graphs: going on without graphs: ");
        CHECK_CONTAINS(said, reasons[how]);
        CHECK_INT(r.d.error.status, how == 1 ? HN_ERR_DEVICE : HN_OK); /* it fails without a graph too */
        hn_error_reset(&r.d.error);
        r.breaks = r.records = false;
        emu_graphs(false, 0);
        for (int i = 0; i < 3; i++) run_key(&r, 1);
        CHECK(replays(&r) == 0 && notices == 1 && as_expected(&r));
        rig_close(&r);
    }
}

/* After a failure that is recorded already nothing is enqueued, and no empty graph is made of it. */
TEST(after_a_failure)
{
    rig r;
    rig_open(&r, true);
    run_key(&r, 1);
    hn_fail(&r.d.error, HN_ERR_DEVICE, "earlier");
    run_key(&r, 1);
    CHECK(replays(&r) == 0 && notices == 0);
    CHECK_TEXT(r.d.error.message, "earlier");
    rig_close(&r);
}

TEST(rounding)
{
    hn_backend cpu, gpu = {.graphs = true};
    hn_model_config model = {.positions = 130, .position_offset = 2, .head = HN_HEAD_CLASSIFY}, short_model = model, lm = model;
    short_model.positions = 65, lm.head = HN_HEAD_LM;
    hn_backend_cpu_init(&cpu);
    CHECK(hnp_batch_rounds(&gpu, &model) && !hnp_batch_rounds(&cpu, &model));
    CHECK(!hnp_batch_rounds(&gpu, &short_model) && !hnp_batch_rounds(&gpu, &lm));
    static const struct {
        int32_t tokens, longest, rounded, longest_rounded;
    } cases[] = {{1, 1, 64, 64}, {63, 40, 64, 64}, {64, 64, 128, 64}, {65, 65, 128, 96}, {300, 97, 320, 128}, {300, 128, 320, 128}, {200, 129, 256, 129}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t cu[4] = {0, 0, 0, -1}, token[400], position[400], type[400], label[3] = {1, 2, 1};
        uint32_t example[3] = {5, 6, 7};
        float value[3] = {1, 2, 3};
        for (int t = 0; t < 400; t++) token[t] = position[t] = type[t] = 9;
        hn_batch batch = {.n = 2, .tokens = cases[i].tokens, .longest = cases[i].longest, .keys = cases[i].tokens, .cu_seqlens = cu, .token = token,
                          .position = position, .type = type, .example = example, .label = label, .value = value};
        cu[2] = batch.tokens;
        hn_bounds bounds = hnp_batch_round_bounds((hn_bounds){.tokens = batch.tokens, .examples = 2, .longest = batch.longest}, &model);
        hnp_batch_round(&batch, &model);
        CHECK(bounds.tokens == batch.tokens && bounds.examples == batch.n && bounds.longest == batch.longest && bounds.keys == 0);
        CHECK(batch.tokens == cases[i].rounded && batch.keys == batch.tokens && batch.longest == cases[i].longest_rounded);
        CHECK(batch.n == 3 && cu[2] == cases[i].tokens && cu[3] == batch.tokens);
        CHECK(label[1] == 2 && label[2] == HN_NO_TARGET && value[1] == 2 && isnan(value[2]) && example[1] == 6);
        for (int t = 0; t < 400; t++) {
            int32_t expected = t >= cases[i].tokens && t < batch.tokens ? 0 : 9;
            CHECK(token[t] == expected && position[t] == expected && type[t] == expected);
        }
    }
}

TEST_MAIN(RUN(seen_captured_launched); RUN(another_key); RUN(not_wanted); RUN(a_full_table); RUN(a_capture_that_fails); RUN(after_a_failure);
          RUN(rounding))
