/* Tensors without data load as those with data do: a source gives their values, in rows, or whole where a family has its matrices
 * turned. */
#include "core/mem.h"
#include "tests/models/golden.h"

typedef struct reserve {
    const hn_named_tensor *tensors;
    int64_t next, calls, fail_at; /* the element that is due; calls until it fails, 0: never */
    size_t index;
} reserve;

static hn_status give(void *context, float *out, size_t index, int64_t first, int64_t n, hn_error *error)
{
    reserve *from = context;
    const hn_tensor *tensor = &from->tensors[index].tensor;
    int64_t columns = tensor->shape[tensor->rank - 1];
    if (first == 0) from->index = index, from->next = 0;
    if (index != from->index || first != from->next || n % columns || n <= 0 || first + n > hn_tensor_count(tensor)) abort();
    if (++from->calls == from->fail_at) return hn_fail(error, HN_ERR_IO, "the disk is gone");
    memcpy(out, (const float *)tensor->data + first, (size_t)n * sizeof *out);
    from->next += n;
    return HN_OK;
}

/* Loads a golden model again from a source into zeroed masters. */
static hn_status load_again(golden *g, reserve *from)
{
    size_t count;
    hn_strbuf initialised, ignored;
    const hn_named_tensor *tensors = hn_folder_tensors(g->folder, &count);
    hn_named_tensor *named = hn_memdup(tensors, count * sizeof *named);
    hn_tensor_source source = {give, from};
    if (!named) abort();
    from->tensors = tensors;
    for (size_t i = 0; i < count; i++) named[i].tensor.data = NULL;
    memset(hn_model_master(g->r.model), 0, (size_t)hn_model_param_elements(g->r.model) * sizeof(float));
    hn_strbuf_init(&initialised);
    hn_strbuf_init(&ignored);
    hn_status status = hn_model_load(g->r.model, named, count, &source, "source", 0, &initialised, &ignored, &g->r.error);
    hn_strbuf_close(&initialised);
    hn_strbuf_close(&ignored);
    hn_free(named);
    return status;
}

TEST(a_source_gives_the_same_masters)
{
    static const char *const families[] = {"bert", "gpt2", "llama", "qwen3"};
    for (int f = 0; f < 4; f++) {
        golden g;
        reserve from = {0};
        CHECK(golden_open(&g, families[f], HN_F32));
        size_t size = (size_t)hn_model_param_elements(g.r.model) * sizeof(float);
        float *before = hn_memdup(hn_model_master(g.r.model), size);
        CHECK(before);
        CHECK_INT(load_again(&g, &from), HN_OK);
        CHECK(!memcmp(before, hn_model_master(g.r.model), size));
        CHECK(from.calls > 20);
        hn_free(before);
        golden_close(&g);
    }
}

TEST(what_a_source_fails_with_is_reported)
{
    golden g;
    CHECK(golden_open(&g, "gpt2", HN_F32));
    for (int64_t nth = 1; nth < 5; nth++) {
        reserve from = {.fail_at = nth};
        CHECK_INT(load_again(&g, &from), HN_ERR_IO);
        CHECK_TEXT(g.r.error.message, "the disk is gone");
        hn_error_reset(&g.r.error);
    }
    for (size_t nth = 1;; nth++) {
        reserve from = {0};
        hn_mem_fail_at(nth + 1); /* the test's own copy comes first */
        hn_status status = load_again(&g, &from);
        hn_mem_fail_at(0);
        if (status == HN_OK) break;
        CHECK_INT(status, HN_ERR_MEMORY);
        hn_error_reset(&g.r.error);
        CHECK(nth < 100);
    }
    golden_close(&g);
}

TEST_MAIN(RUN(a_source_gives_the_same_masters); RUN(what_a_source_fails_with_is_reported))
