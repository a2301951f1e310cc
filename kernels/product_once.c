/* See product.h. A plan holds its primitive and, for every thread, the memory objects through which oneDNN is given pointers:
 * making them takes longer than a small product, and they are not safe to share. */
#include "kernels/product.h"

#include <dnnl.h>
#include <omp.h>
#include <string.h>

#include "core/mem.h"

enum { A, B, C, SCRATCH, ARGUMENTS };
enum { SCRATCH_ALIGN = 64 };

typedef struct run {
    dnnl_memory_t memory[ARGUMENTS];
} run;

struct hnp_plan {
    hnp_products *products;
    hnp_product shape;
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t desc[ARGUMENTS];
    run *runs; /* [threads] */
};

struct hnp_products {
    dnnl_engine_t engine;
    dnnl_stream_t *streams; /* [threads] */
    int threads, count;
    bool narrow;
    void **scratch; /* [threads], each of scratch_size */
    size_t scratch_size;
    hnp_plan *plans[HNP_PRODUCT_PLANS];
};

hn_status hnp_products_open(hnp_products **out, int threads, hn_error *error)
{
    hnp_products *products = hn_calloc(1, sizeof *products);
    hn_status status = HN_OK;
    if (products) {
        products->threads = threads;
        products->narrow = hnp_products_bf16();
        products->streams = hn_calloc((size_t)threads, sizeof *products->streams);
        products->scratch = hn_calloc((size_t)threads, sizeof *products->scratch);
    }
    if (!products || !products->streams || !products->scratch) {
        status = hn_fail(error, HN_ERR_MEMORY, "out of memory for the matrix products of %d threads", threads);
        goto out;
    }
    dnnl_status_t result = dnnl_engine_create(&products->engine, dnnl_cpu, 0);
    for (int i = 0; i < threads && result == dnnl_success; i++)
        result = dnnl_stream_create(&products->streams[i], products->engine, dnnl_stream_default_flags);
    if (result != dnnl_success) {
        status = hn_fail(error, HN_ERR_DEVICE, "oneDNN could not be started: status %d", (int)result);
        goto out;
    }
    *out = products;
    products = NULL;
out:
    hnp_products_free(products);
    return status;
}

static void plan_free(hnp_plan *plan)
{
    if (!plan) return;
    for (int t = 0; plan->runs && t < plan->products->threads; t++)
        for (int i = 0; i < ARGUMENTS; i++)
            if (plan->runs[t].memory[i]) dnnl_memory_destroy(plan->runs[t].memory[i]);
    if (plan->primitive) dnnl_primitive_destroy(plan->primitive);
    hn_free(plan->runs);
    hn_free(plan);
}

void hnp_products_free(hnp_products *products)
{
    if (!products) return;
    for (int i = 0; i < products->count; i++) plan_free(products->plans[i]);
    for (int i = 0; products->streams && i < products->threads; i++)
        if (products->streams[i]) dnnl_stream_destroy(products->streams[i]);
    for (int i = 0; products->scratch && i < products->threads; i++) hn_free(products->scratch[i]);
    if (products->engine) dnnl_engine_destroy(products->engine);
    hn_free(products->scratch);
    hn_free(products->streams);
    hn_free(products);
}

int hnp_products_threads(const hnp_products *products)
{
    return products->threads;
}

bool hnp_products_narrow(const hnp_products *products)
{
    return products->narrow;
}

int hnp_products_count(const hnp_products *products)
{
    return products->count;
}

static dnnl_status_t describe(dnnl_memory_desc_t *desc, int64_t rows, int64_t columns, int64_t row, int64_t column,
                              bool bf16)
{
    return dnnl_memory_desc_init_by_strides(desc, 2, (dnnl_dims_t){rows, columns}, bf16 ? dnnl_bf16 : dnnl_f32,
                                            (dnnl_dims_t){row, column});
}

static dnnl_status_t attributes(dnnl_primitive_attr_t attr, bool add)
{
    dnnl_status_t result = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    dnnl_post_ops_t post = NULL;
    if (result != dnnl_success || !add) return result;
    result = dnnl_post_ops_create(&post);
    if (result == dnnl_success) result = dnnl_post_ops_append_sum(post, 1.0f);
    if (result == dnnl_success) result = dnnl_primitive_attr_set_post_ops(attr, post);
    dnnl_post_ops_destroy(post);
    return result;
}

static dnnl_status_t make_primitive(hnp_plan *plan)
{
    const hnp_product *s = &plan->shape;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_matmul_desc_t operation;
    dnnl_status_t result = describe(&plan->desc[A], s->m, s->k, s->a_row, s->a_column, s->bf16);
    if (result == dnnl_success) result = describe(&plan->desc[B], s->k, s->n, s->b_row, s->b_column, s->bf16);
    if (result == dnnl_success) result = describe(&plan->desc[C], s->m, s->n, s->c_row, 1, false);
    if (result == dnnl_success)
        result = dnnl_matmul_desc_init(&operation, &plan->desc[A], &plan->desc[B], NULL, &plan->desc[C]);
    if (result == dnnl_success) result = dnnl_primitive_attr_create(&attr);
    if (result == dnnl_success) result = attributes(attr, s->add);
    if (result == dnnl_success)
        result = dnnl_primitive_desc_create(&desc, &operation, attr, plan->products->engine, NULL);
    if (result == dnnl_success) {
        plan->desc[SCRATCH] = *dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
        result = dnnl_primitive_create(&plan->primitive, desc);
    }
    if (desc) dnnl_primitive_desc_destroy(desc);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return result;
}

/* oneDNN wants cache lines; hn_malloc promises less, so the block is used from its first aligned byte. */
static bool grow_scratch(hnp_products *products, size_t size)
{
    if (size <= products->scratch_size) return true;
    for (int t = 0; t < products->threads; t++) {
        void *grown = hn_malloc(size + SCRATCH_ALIGN);
        if (!grown) return false;
        hn_free(products->scratch[t]);
        products->scratch[t] = grown;
    }
    products->scratch_size = size;
    return true;
}

static dnnl_status_t make_runs(hnp_plan *plan)
{
    for (int t = 0; t < plan->products->threads; t++)
        for (int i = 0; i < ARGUMENTS; i++) {
            dnnl_status_t result = dnnl_memory_create(&plan->runs[t].memory[i], &plan->desc[i],
                                                      plan->products->engine, DNNL_MEMORY_NONE);
            if (result != dnnl_success) return result;
        }
    return dnnl_success;
}

static hnp_plan *plan_make(hnp_products *products, const hnp_product *shape, hn_error *error)
{
    hnp_plan *plan = hn_calloc(1, sizeof *plan);
    run *runs = hn_calloc((size_t)products->threads, sizeof *runs);
    if (!plan || !runs) {
        hn_fail(error, HN_ERR_MEMORY, "out of memory for a matrix product's plan");
        hn_free(plan);
        hn_free(runs);
        return NULL;
    }
    plan->products = products;
    plan->shape = *shape;
    plan->runs = runs;
    int threads = omp_get_max_threads();
    omp_set_num_threads(1); /* blocking for one thread, whatever the machine has */
    dnnl_status_t result = make_primitive(plan);
    omp_set_num_threads(threads);
    if (result == dnnl_success && !grow_scratch(products, dnnl_memory_desc_get_size(&plan->desc[SCRATCH])))
        result = dnnl_out_of_memory;
    if (result == dnnl_success) result = make_runs(plan);
    if (result == dnnl_success) return plan;
    hn_fail(error, result == dnnl_out_of_memory ? HN_ERR_MEMORY : HN_ERR_DEVICE,
            "oneDNN refused a %s matrix product [%lld, %lld] x [%lld, %lld]: status %d",
            shape->bf16 ? "bf16" : "fp32", (long long)shape->m, (long long)shape->k, (long long)shape->k,
            (long long)shape->n, (int)result);
    plan_free(plan);
    return NULL;
}

hnp_plan *hnp_plan_get(hnp_products *products, const hnp_product *shape, hn_error *error)
{
    for (int i = 0; i < products->count; i++)
        if (!memcmp(&products->plans[i]->shape, shape, sizeof *shape)) return products->plans[i];
    if (products->count == HNP_PRODUCT_PLANS) {
        hn_fail(error, HN_ERR_UNSUPPORTED, "more than %d different matrix products are needed at a time",
                HNP_PRODUCT_PLANS);
        return NULL;
    }
    hnp_plan *plan = plan_make(products, shape, error);
    if (plan) products->plans[products->count++] = plan;
    return plan;
}

bool hnp_plan_run(hnp_plan *plan, int thread, float *c, const void *a, const void *b)
{
    dnnl_memory_t *memory = plan->runs[thread].memory;
    void *scratch =
        (void *)(((uintptr_t)plan->products->scratch[thread] + SCRATCH_ALIGN - 1) & ~(uintptr_t)(SCRATCH_ALIGN - 1));
    dnnl_exec_arg_t arguments[ARGUMENTS] = {{DNNL_ARG_SRC, memory[A]},
                                            {DNNL_ARG_WEIGHTS, memory[B]},
                                            {DNNL_ARG_DST, memory[C]},
                                            {DNNL_ARG_SCRATCHPAD, memory[SCRATCH]}};
    /* oneDNN's interface is not const-correct; A and B are only read */
    return dnnl_memory_set_data_handle(memory[A], (void *)(uintptr_t)a) == dnnl_success &&
           dnnl_memory_set_data_handle(memory[B], (void *)(uintptr_t)b) == dnnl_success &&
           dnnl_memory_set_data_handle(memory[C], c) == dnnl_success &&
           dnnl_memory_set_data_handle(memory[SCRATCH], scratch) == dnnl_success &&
           dnnl_primitive_execute(plan->primitive, plan->products->streams[thread], ARGUMENTS, arguments) ==
               dnnl_success;
}
