/* What must hold of a decoder: slopes by finite differences with dropout on, packing, freezing, the trunk's cache, the cache of
 * keys and values, evaluation in less memory. */
#include "tests/models/alike.h"
#include "tests/test.h"

static const char *const texts[] = {TINY_GPT2, TINY_LLAMA, TINY_QWEN2, TINY_QWEN3};
enum { TEXTS = 4, WIDTH = 32, VOCABULARY = 60, EXAMPLES = 4, GROUPS = 4 };
static const int lengths[EXAMPLES] = {6, 1, 11, 4};

/* A model with wild weights and a batch whose targets are the next tokens, but of some that count as a prompt. */
static bool setup(rig *r, rig_batch *b, const char *text, hn_dtype precision, float dropout)
{
    hn_model_config c;
    hn_error error = {0};
    int32_t target[MAX_TOKENS];
    if (tiny_config(&c, text, &error) != HN_OK) return false;
    c.attention_dropout = dropout;
    if (!c.gated) c.embedding_dropout = c.hidden_dropout = c.attention_out_dropout = dropout;
    rig_batch_make(b, lengths, EXAMPLES, 1);
    for (int s = 0; s < EXAMPLES; s++)
        for (int i = b->cu_seqlens[s]; i < b->cu_seqlens[s + 1]; i++)
            target[i] = i + 1 == b->cu_seqlens[s + 1] || b->position[i] == 1 ? HN_NO_TARGET : b->token[i + 1];
    rig_batch_targets(b, target);
    return rig_open(r, &c, precision, (hn_bounds){MAX_TOKENS, MAX_EXAMPLES, 24, MAX_TOKENS}) == HN_OK && rig_randomise(r, 21) == HN_OK;
}

static double loss_at(rig *r, const rig_batch *b, float *master, const float *saved, const float *direction, int64_t count,
                      float step)
{
    for (int64_t i = 0; i < count; i++) master[i] = saved[i] + step * direction[i];
    rig_run(r, &b->batch);
    memcpy(master, saved, (size_t)count * sizeof *saved);
    return r->loss;
}

TEST(gradients_are_slopes_with_dropout)
{
    for (int t = 0; t < TEXTS; t++) {
        rig r;
        rig_batch b;
        CHECK(setup(&r, &b, texts[t], HN_F32, 0.3f));
        int count;
        const hn_param *params = hn_model_params(r.model, &count);
        rig_run(&r, &b.batch);
        CHECK_INT(r.count, 15);
        float *gradients = hn_memdup(rig_gradients(&r), rig_gradient_bytes(&r));
        for (int p = 0; p < count; p++) {
            int64_t elements = params[p].rows * params[p].columns;
            float *direction = gradients + params[p].offset, *master = hn_model_master(r.model) + params[p].offset;
            float *saved = hn_memdup(master, (size_t)elements * sizeof *saved);
            double norm = 0;
            for (int64_t i = 0; i < elements; i++) norm += (double)direction[i] * direction[i];
            norm = sqrt(norm);
            CHECK(isfinite(norm));
            for (int64_t i = 0; i < elements && norm >= 1e-4; i++) direction[i] = (float)(direction[i] / norm);
            double got = loss_at(&r, &b, master, saved, direction, elements, 1e-3f) -
                         loss_at(&r, &b, master, saved, direction, elements, -1e-3f);
            if (norm >= 1e-4 && !(fabs(got / 2e-3 - norm) < 2e-2 * norm + 5e-3))
                TEST_FAIL("model %d: %s: slope %.6g, gradient %.6g", t, params[p].name, got / 2e-3, norm);
            hn_free(saved);
        }
        CHECK_INT(r.error.status, HN_OK);
        hn_free(gradients);
        rig_close(&r);
    }
}

/* What the head reads of a sequence has the same bits alone and packed, with dropout; gradients are the sum. */
TEST(packing_changes_nothing)
{
    for (int t = 0; t < 2 * TEXTS; t++) {
        rig r;
        rig_batch b, one;
        static char packed[MAX_TOKENS * WIDTH * sizeof(float)];
        CHECK(setup(&r, &b, texts[t % TEXTS], t < TEXTS ? HN_F32 : HN_BF16, 0.2f));
        hn_tensor read = rig_forward(&r, &b.batch);
        size_t row = WIDTH * hn_dtype_size(read.dtype);
        memcpy(packed, read.data, (size_t)b.batch.tokens * row);
        rig_run(&r, &b.batch);
        int64_t count = hn_model_param_elements(r.model);
        float *gradients = hn_memdup(rig_gradients(&r), rig_gradient_bytes(&r));
        float *sum = hn_calloc((size_t)count, sizeof *sum);
        double loss = r.loss, alone = 0, worst = 0;
        for (int s = 0; s < EXAMPLES; s++) {
            rig_batch_pick(&one, &b, s);
            rig_batch_targets(&one, b.target + b.cu_seqlens[s]);
            read = rig_forward(&r, &one.batch);
            CHECK(!memcmp(read.data, packed + (size_t)b.cu_seqlens[s] * row, (size_t)lengths[s] * row));
            rig_run(&r, &one.batch);
            for (int64_t i = 0; i < count; i++) sum[i] += rig_gradients(&r)[i];
            alone += r.loss;
        }
        CHECK_INT(r.error.status, HN_OK);
        CHECK_NEAR(alone, loss, 1e-9);
        for (int64_t i = 0; i < count; i++)
            if (!(fabsf(sum[i] - gradients[i]) <= worst)) worst = fabsf(sum[i] - gradients[i]);
        CHECK(worst < 1e-4);
        hn_free(gradients);
        hn_free(sum);
        rig_close(&r);
    }
}

/* What the head reads has the same bits; a gradient is the same sum in another order. */
TEST(shared_rows_change_nothing)
{
    for (int t = 0; t < 2 * TEXTS; t++) {
        rig r;
        rig_batch b, whole;
        shared_rows rows;
        static char all[MAX_TOKENS * WIDTH * sizeof(float)];
        CHECK(setup(&r, &b, texts[t % TEXTS], t < TEXTS ? HN_F32 : HN_BF16, 0));
        make_alike(&whole);
        share_rows(&b, &rows, &whole);
        CHECK_INT(b.batch.tokens, whole.batch.tokens - 19);
        hn_tensor read = rig_forward(&r, &whole.batch);
        size_t row = WIDTH * hn_dtype_size(read.dtype);
        memcpy(all, read.data, (size_t)whole.batch.tokens * row);
        rig_run(&r, &whole.batch);
        int64_t count = hn_model_param_elements(r.model);
        float *gradients = hn_memdup(rig_gradients(&r), rig_gradient_bytes(&r)), largest = 0, worst = 0;
        double loss = r.loss;
        read = rig_forward(&r, &b.batch);
        for (int32_t i = 0; i < b.batch.tokens; i++)
            CHECK(!memcmp((const char *)read.data + (size_t)i * row, all + (size_t)rows.row[i] * row, row));
        rig_run(&r, &b.batch);
        CHECK(r.loss == loss);
        for (int64_t i = 0; i < count; i++) {
            float apart = fabsf(rig_gradients(&r)[i] - gradients[i]);
            if (!(apart <= worst)) worst = apart;
            if (fabsf(gradients[i]) > largest) largest = fabsf(gradients[i]);
        }
        CHECK(worst < (t < TEXTS ? 1e-5f : 2e-2f) * largest);
        CHECK_INT(r.error.status, HN_OK);
        hn_free(gradients);
        rig_close(&r);
    }
}

/* The plans of the tests below, over embeddings, layer.0, layer.1, head. */
static const bool plans[][GROUPS] = {{false, true, true, true},   {false, false, true, true}, {false, false, false, true},
                                     {true, false, true, false},  {false, true, false, false}, {true, false, false, false},
                                     {false, false, true, false}};
#define PLANS (int)(sizeof plans / sizeof *plans)

TEST(frozen_groups_do_not_change_the_others_gradients)
{
    for (int t = 0; t < TEXTS; t++) {
        rig r;
        rig_batch b;
        CHECK(setup(&r, &b, texts[t], HN_F32, 0));
        int count;
        size_t sizes[PLANS];
        const hn_param *params = hn_model_params(r.model, &count);
        rig_run(&r, &b.batch);
        float *all = hn_memdup(rig_gradients(&r), rig_gradient_bytes(&r));
        for (int p = 0; p < PLANS; p++) {
            memcpy(r.trainable, plans[p], sizeof plans[p]);
            CHECK_INT(rig_replace(&r), HN_OK);
            sizes[p] = r.activations.size;
            memset(r.activations.base, 0xff, r.activations.size);
            rig_place_activations((hn_arena_rewind(&r.activations, 0), &r)); /* as after another use of the arena */
            rig_run(&r, &b.batch);
            for (int i = 0; i < count; i++) {
                const float *got = hn_model_gradient(r.model, i), *want = all + params[i].offset;
                for (int64_t e = 0; e < params[i].rows * params[i].columns; e++)
                    if (got[e] != (plans[p][params[i].group] ? want[e] : 0))
                        TEST_FAIL("model %d, plan %d: %s[%lld] is %g", t, p, params[i].name, (long long)e, got[e]);
            }
        }
        CHECK(sizes[2] < sizes[1] && sizes[1] < sizes[0]);
        CHECK_INT(r.error.status, HN_OK);
        hn_free(all);
        rig_close(&r);
    }
}

/* The trunk's output read back instead of computed: the same bits in loss and gradients, with dropout above. */
TEST(cached_trunk_gives_the_same_bits)
{
    for (int t = 0; t < 2 * TEXTS; t++) {
        rig r;
        rig_batch b;
        hn_dtype precision = t < TEXTS ? HN_F32 : HN_BF16;
        CHECK(setup(&r, &b, texts[t % TEXTS], precision, 0.2f));
        for (int p = 0; p < 3; p++) {
            static float cache[MAX_TOKENS * WIDTH];
            memcpy(r.trainable, plans[p], sizeof plans[p]);
            CHECK_INT(rig_replace(&r), HN_OK);
            CHECK(!hn_model_trunk_pooled(r.model, hn_train_plan_first(r.model, &r.forward.plan)));
            rig_run(&r, &b.batch);
            float *gradients = hn_memdup(rig_gradients(&r), rig_gradient_bytes(&r));
            double loss = r.loss;
            hn_tensor trunk = hn_tensor_2d(cache, precision, b.batch.tokens, WIDTH);
            memset(cache, 0xff, sizeof cache);
            for (int pass = 0; pass < 2; pass++) {
                r.forward.trunk_keep = pass == 0 ? &trunk : NULL;
                r.forward.trunk_output = pass == 1 ? &trunk : NULL;
                rig_run(&r, &b.batch);
                CHECK(!memcmp(gradients, rig_gradients(&r), rig_gradient_bytes(&r)));
                CHECK(loss == r.loss);
            }
            r.forward.trunk_output = NULL;
            hn_free(gradients);
        }
        CHECK_INT(r.error.status, HN_OK);
        rig_close(&r);
    }
}

/* A cache in an arena of its own. */
static hn_status cache_open(hn_kv_cache *cache, hn_arena *arena, rig *r, int32_t sequences, int32_t capacity)
{
    hn_arena_init(arena, "cache", &r->backend);
    hn_status status = hn_kv_cache_init(cache, sequences, capacity, MAX_TOKENS, &r->error);
    if (status != HN_OK) return status;
    hn_kv_cache_place(cache, r->model, arena);
    status = hn_arena_alloc(arena, &r->error);
    memset(arena->base, 0xff, arena->size); /* what was never written is never read */
    hn_kv_cache_place(cache, r->model, arena);
    return status;
}

/* Tokens [from, to) of every sequence that has them, as a batch. */
static void slice_batch(rig_batch *out, const rig_batch *all, const int *from, const int *to)
{
    *out = (rig_batch){.cu_seqlens = {0}};
    for (int s = 0; s < EXAMPLES; s++) {
        int at = out->cu_seqlens[s], count = to[s] - from[s];
        memcpy(out->token + at, all->token + all->cu_seqlens[s] + from[s], (size_t)count * sizeof *out->token);
        out->cu_seqlens[s + 1] = at + count;
    }
    rig_batch_finish(out, EXAMPLES);
}

/* Reads the sequences in three parts, one of them single tokens; some have nothing in a part. */
TEST(cache_equals_full_forward)
{
    static const int cuts[4][EXAMPLES] = {{0, 0, 0, 0}, {5, 0, 3, 4}, {6, 1, 4, 4}, {6, 1, 11, 4}};
    for (int t = 0; t < 2 * TEXTS; t++) {
        rig r;
        rig_batch b, part;
        hn_kv_cache cache;
        hn_arena arena;
        static char full[MAX_TOKENS * WIDTH * sizeof(float)];
        CHECK(setup(&r, &b, texts[t % TEXTS], t < TEXTS ? HN_F32 : HN_BF16, 0));
        r.forward.training = false;
        CHECK_INT(rig_replace(&r), HN_OK);
        hn_tensor read = rig_forward(&r, &b.batch);
        size_t row = WIDTH * hn_dtype_size(read.dtype);
        memcpy(full, read.data, (size_t)b.batch.tokens * row);
        CHECK_INT(cache_open(&cache, &arena, &r, EXAMPLES + 1, 12), HN_OK);
        r.forward.cache = &cache;
        for (int round = 0; round < 2; round++) { /* again after cutting back */
            for (int c = round; c < 3; c++) {
                slice_batch(&part, &b, cuts[c], cuts[c + 1]);
                CHECK_INT(hn_kv_cache_next(&cache, &r.backend, &part.batch, &r.error), HN_OK);
                read = rig_forward(&r, &part.batch);
                CHECK_INT(r.error.status, HN_OK);
                for (int s = 0; s < EXAMPLES; s++)
                    CHECK(!memcmp((char *)read.data + (size_t)part.cu_seqlens[s] * row,
                                  full + (size_t)(b.cu_seqlens[s] + cuts[c][s]) * row,
                                  (size_t)(cuts[c + 1][s] - cuts[c][s]) * row));
            }
            for (int s = 0; s < EXAMPLES; s++) hn_kv_cache_cut(&cache, s, cuts[1][s]);
        }
        hn_kv_cache_close(&cache);
        hn_arena_close(&arena);
        rig_close(&r);
    }
}

TEST(a_full_cache_is_an_error)
{
    rig r;
    rig_batch b;
    hn_kv_cache cache;
    hn_arena arena;
    CHECK(setup(&r, &b, TINY_LLAMA, HN_F32, 0));
    CHECK_INT(cache_open(&cache, &arena, &r, EXAMPLES, 10), HN_OK);
    CHECK_INT(hn_kv_cache_next(&cache, &r.backend, &b.batch, &r.error), HN_ERR_MISMATCH);
    CHECK_CONTAINS(r.error.message, "sequence 2 would have 11 tokens, its cache has room for 10");
    for (int s = 0; s < EXAMPLES; s++) CHECK_INT(cache.length[s], 0);
    hn_kv_cache_close(&cache);
    for (size_t nth = 1; nth < 3; nth++) {
        hn_error_reset(&r.error);
        hn_mem_fail_at(nth);
        CHECK_INT(hn_kv_cache_init(&cache, 4, 10, 8, &r.error), HN_ERR_MEMORY);
        hn_mem_fail_at(0);
    }
    hn_arena_close(&arena);
    rig_close(&r);
}

/* Sequence 1 becomes sequence 3, in every layer and in pieces; all else stays. */
TEST(a_sequence_is_copied)
{
    rig r;
    rig_batch b;
    hn_kv_cache cache;
    hn_arena arena;
    CHECK(setup(&r, &b, TINY_LLAMA, HN_F32, 0));
    CHECK_INT(cache_open(&cache, &arena, &r, EXAMPLES, 10), HN_OK);
    int64_t width = cache.rows.shape[1], rows = cache.rows.shape[0];
    float *data = cache.rows.data;
    for (int64_t i = 0; i < rows * width; i++) data[i] = (float)i;
    cache.length[1] = 5;
    cache.tokens = 2;
    CHECK_INT(hn_kv_cache_copy(&cache, r.model, &r.ctx, 1, 3, &r.error), HN_OK);
    CHECK_INT(cache.length[3], 5);
    for (int64_t i = 0; i < rows * width; i++) {
        int64_t row = i / width % (EXAMPLES * 10);
        CHECK_INT(data[i], row >= 30 && row < 35 ? i - 20 * width : i);
    }
    hn_kv_cache_close(&cache);
    hn_arena_close(&arena);
    rig_close(&r);
}

TEST(evaluation_needs_less_and_gives_the_same_loss)
{
    for (int t = 0; t < 2 * TEXTS; t++) {
        rig r;
        rig_batch b;
        CHECK(setup(&r, &b, texts[t % TEXTS], t < TEXTS ? HN_F32 : HN_BF16, 0));
        rig_run(&r, &b.batch);
        double loss = r.loss;
        size_t training = r.activations.size;
        r.forward.training = false;
        CHECK_INT(rig_replace(&r), HN_OK);
        CHECK(r.activations.size * 2 < training);
        memset(r.activations.base, 0xff, r.activations.size);
        rig_place_activations((hn_arena_rewind(&r.activations, 0), &r)); /* as after another use of the arena */
        rig_run(&r, &b.batch);
        CHECK(loss == r.loss);
        CHECK_INT(r.error.status, HN_OK);
        rig_close(&r);
    }
}

TEST(step_changes_the_masks)
{
    rig r;
    rig_batch b;
    CHECK(setup(&r, &b, TINY_GPT2, HN_F32, 0.2f));
    rig_run(&r, &b.batch);
    double first = r.loss;
    rig_run(&r, &b.batch);
    CHECK(first == r.loss);
    r.step++;
    rig_run(&r, &b.batch);
    CHECK(first != r.loss);
    rig_close(&r);
}

TEST_MAIN(hn_json_init(); RUN(gradients_are_slopes_with_dropout); RUN(packing_changes_nothing); RUN(shared_rows_change_nothing);
          RUN(frozen_groups_do_not_change_the_others_gradients); RUN(cached_trunk_gives_the_same_bits);
          RUN(cache_equals_full_forward); RUN(a_full_cache_is_an_error); RUN(a_sequence_is_copied);
          RUN(evaluation_needs_less_and_gives_the_same_loss); RUN(step_changes_the_masks))
