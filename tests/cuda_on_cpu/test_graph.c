/* Graphs of the CUDA backend: what is enqueued between begin and end runs when it is launched and not before, again and again, with what
 * then stands at its addresses; what cannot be captured is refused and leaves the backend as it was. */
#include "tests/cuda_on_cpu/device.h"

enum { COUNT = 100, ROWS = 33, WIDTH = 64 };

static void open_free(device *d, size_t workspace)
{
    device_open(d, workspace);
    hn_cuda_device_of(&d->backend)->synchronous = false;
}

TEST(runs_when_it_is_launched)
{
    device d;
    open_free(&d, 0);
    float *x = floats_new(COUNT), *factor = floats_new(1);
    for (int i = 0; i < COUNT; i++) x[i] = (float)i;
    CHECK_INT(d.backend.graph_begin(&d.backend, &d.error), HN_OK);
    d.ops->scale(&d.ctx, x, COUNT, factor);
    d.ops->scale(&d.ctx, x, COUNT, factor);
    void *graph = d.backend.graph_end(&d.backend, &d.error);
    CHECK(graph);
    device_wait(&d);
    CHECK(x[1] == 1 && x[COUNT - 1] == COUNT - 1);
    float product = 1;
    for (int run = 0; run < 3; run++) {
        *factor = (float)(run + 2);
        d.backend.graph_launch(&d.backend, graph);
        device_wait(&d);
        product *= *factor * *factor;
        for (int i = 0; i < COUNT; i++) CHECK(x[i] == product * (float)i);
    }
    d.backend.graph_free(&d.backend, graph);
    CHECK_TEXT(d.error.message, "");
    free(x);
    free(factor);
    device_close(&d);
}

/* In order with what is enqueued before and behind it, and freed while a launch is under way. */
TEST(stands_in_the_queue)
{
    device d;
    open_free(&d, 0);
    float *x = floats_new(COUNT), *two = floats_new(1);
    for (int i = 0; i < COUNT; i++) x[i] = 1;
    *two = 2;
    CHECK_INT(d.backend.graph_begin(&d.backend, &d.error), HN_OK);
    d.ops->zero(&d.ctx, x, COUNT / 2 * sizeof *x);
    void *graph = d.backend.graph_end(&d.backend, &d.error);
    d.ops->scale(&d.ctx, x, COUNT, two);
    d.backend.graph_launch(&d.backend, graph);
    d.ops->scale(&d.ctx, x, COUNT, two);
    d.backend.graph_free(&d.backend, graph);
    device_wait(&d);
    CHECK_TEXT(d.error.message, "");
    CHECK(x[0] == 0 && x[COUNT / 2 - 1] == 0 && x[COUNT / 2] == 4 && x[COUNT - 1] == 4);
    free(x);
    free(two);
    device_close(&d);
}

/* A product by cuBLASLt and a kernel with much shared memory or none, beside the same enqueued plainly: same bits. */
TEST(products_and_kernels)
{
    device d;
    open_free(&d, hnp_cuda_linear_workspace());
    hn_tensor x = matrix_random(HN_BF16, ROWS, WIDTH, WIDTH, 1), w = matrix_random(HN_BF16, WIDTH, WIDTH, WIDTH, 1);
    hn_tensor y[2];
    for (int i = 0; i < 2; i++) {
        y[i] = matrix_new(HN_BF16, ROWS, WIDTH, WIDTH);
        void *graph = NULL;
        if (i) CHECK_INT(d.backend.graph_begin(&d.backend, &d.error), HN_OK);
        d.ops->linear_forward(&d.ctx, &y[i], NULL, &x, &w, NULL, HN_ACT_NONE);
        d.ops->activation_backward(&d.ctx, &y[i], &y[i], &x, HN_ACT_GELU);
        if (i) graph = d.backend.graph_end(&d.backend, &d.error);
        if (i) d.backend.graph_launch(&d.backend, graph);
        d.backend.graph_free(&d.backend, graph);
    }
    device_wait(&d);
    CHECK_TEXT(d.error.message, "");
    CHECK(!memcmp(y[0].data, y[1].data, ROWS * WIDTH * sizeof(uint16_t)));
    for (int i = 0; i < 2; i++) free(y[i].data);
    free(x.data);
    free(w.data);
    device_close(&d);
}

/* Waiting, memory: not while capturing. Afterwards all goes on. */
TEST(what_cannot_be_captured)
{
    for (int what = 0; what < 2; what++) {
        device d;
        hn_error error = {0};
        float *x = floats_new(1);
        open_free(&d, 0);
        CHECK_INT(d.backend.graph_begin(&d.backend, &d.error), HN_OK);
        d.ops->zero(&d.ctx, x, sizeof *x);
        if (what == 0) CHECK_INT(d.backend.synchronize(&d.backend, &error), HN_ERR_DEVICE);
        if (what == 1) CHECK(!d.backend.alloc(&d.backend, 64, false, &error));
        CHECK_CONTAINS(error.message, "not permitted when stream is capturing");
        CHECK(!d.backend.graph_end(&d.backend, &d.error));
        CHECK_CONTAINS(d.error.message, "making a graph");
        hn_error_reset(&d.error);
        *x = 3;
        d.ops->scale(&d.ctx, x, 1, x);
        device_wait(&d);
        CHECK_TEXT(d.error.message, "");
        CHECK(*x == 9);
        free(x);
        device_close(&d);
    }
}

/* HN_CUDA_SYNC=1 and graphs exclude each other. */
TEST(not_where_every_operation_is_waited_for)
{
    device d;
    device_open(&d, 0);
    CHECK(d.backend.graphs);
    CHECK_INT(d.backend.graph_begin(&d.backend, &d.error), HN_ERR_UNSUPPORTED);
    CHECK_CONTAINS(d.error.message, "HN_CUDA_SYNC=1");
    device_close(&d);
}

TEST(memory_for_it_runs_out)
{
    device d;
    float *x = floats_new(1);
    open_free(&d, 0);
    emu_graphs(true, 0);
    CHECK_INT(d.backend.graph_begin(&d.backend, &d.error), HN_OK);
    d.ops->zero(&d.ctx, x, sizeof *x);
    CHECK(!d.backend.graph_end(&d.backend, &d.error));
    CHECK_CONTAINS(d.error.message, "making a graph: out of memory");
    hn_error_reset(&d.error);
    d.ops->zero(&d.ctx, x, sizeof *x);
    device_wait(&d);
    CHECK_TEXT(d.error.message, "");
    CHECK(*x == 0);
    free(x);
    device_close(&d);
}

TEST(a_launch_that_fails)
{
    for (int late = 0; late < 2; late++) {
        device d;
        float *x = floats_new(1);
        open_free(&d, 0);
        CHECK_INT(d.backend.graph_begin(&d.backend, &d.error), HN_OK);
        d.ops->zero(&d.ctx, x, sizeof *x);
        void *graph = d.backend.graph_end(&d.backend, &d.error);
        if (late) emu_graphs(false, 1);
        else emu_fail_after(0, 719 /* a launch that failed */);
        d.backend.graph_launch(&d.backend, graph);
        CHECK_TEXT(d.error.message, "");
        device_wait(&d);
        CHECK_CONTAINS(d.error.message, late ? "waiting for the GPU: unspecified launch failure" : "launching a graph: unspecified launch failure");
        CHECK_CONTAINS(d.error.message, "the last operation started was a graph");
        d.backend.graph_free(&d.backend, graph);
        emu_reset();
        free(x);
        device_close(&d);
    }
}

TEST_MAIN(RUN(runs_when_it_is_launched); RUN(stands_in_the_queue); RUN(products_and_kernels); RUN(what_cannot_be_captured);
          RUN(not_where_every_operation_is_waited_for); RUN(memory_for_it_runs_out); RUN(a_launch_that_fails))
