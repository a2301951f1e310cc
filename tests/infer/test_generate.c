/* Generation on tiny models with random weights: greedy tokens are those of full forwards without a cache; an answer does not
 * depend on its neighbours or on threads; and everything that ends an answer. */
#include "infer/generate.h"

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "core/philox.h"
#include "data/dataset.h"
#include "tests/test.h"

enum { POSITIONS = 64, ANSWERS = 8, MOST = 64 };

typedef struct rig {
    hn_tokenizer *tokenizer;
    hn_model_config config;
    hn_runner runner;
    hn_generator *generator;
    hn_error error;
    /* what the listener heard */
    hn_strbuf text[ANSWERS], whole[ANSWERS];
    int32_t ids[ANSWERS][MOST], count[ANSWERS];
    hn_finish finish[ANSWERS];
    int ended;
} rig;

static hn_status read_model(rig *r, const char *family)
{
    char path[128], *text = NULL;
    size_t size;
    json_t *root = NULL;
    hn_status status = hn_file_read(&text, &size, "tests/golden/tokenizer/bytes.json", SIZE_MAX, &r->error);
    if (status == HN_OK) status = hn_tokenizer_open_json(&r->tokenizer, text, size, "bytes.json", &r->error);
    hn_free(text);
    snprintf(path, sizeof path, "tests/golden/%s/config.json", family);
    if (status == HN_OK) status = hn_json_load(&root, path, HN_JSON_LIMITS_SMALL, &r->error);
    if (status == HN_OK) status = hn_model_config_read(&r->config, root, path, &r->error);
    json_decref(root);
    r->config.vocabulary = r->config.labels = r->tokenizer ? hn_tokenizer_vocabulary(r->tokenizer) : 0;
    r->config.positions = POSITIONS;
    r->config.init_range = 0.3f; /* so that tokens differ */
    return status;
}

static hn_status rig_open(rig *r, const char *family, hn_dtype precision, int threads, hn_generator_options options)
{
    *r = (rig){0};
    for (int i = 0; i < ANSWERS; i++) hn_strbuf_init(&r->text[i]), hn_strbuf_init(&r->whole[i]);
    hn_status status = read_model(r, family);
    hn_runner_options how = {.precision = precision, .threads = threads, .evaluation = hn_generator_bounds(&options)};
    if (how.evaluation.tokens < POSITIONS) how.evaluation.tokens = POSITIONS; /* a full forward in one piece */
    if (status == HN_OK) status = hn_runner_init(&r->runner, &r->config, &how, &r->error);
    if (status == HN_OK) status = hn_generator_open(&r->generator, &r->runner, r->tokenizer, &options, &r->error);
    if (status == HN_OK) status = hn_runner_alloc(&r->runner, &r->error);
    if (status == HN_OK) status = hn_model_init(r->runner.model, 11, &r->error);
    if (status == HN_OK) hn_model_refresh_copy(r->runner.model, &r->runner.ctx);
    if (status == HN_OK) status = hn_generator_alloc(r->generator, &r->error);
    return status;
}

static void rig_close(rig *r)
{
    hn_generator_free(r->generator);
    hn_runner_close(&r->runner);
    hn_tokenizer_free(r->tokenizer);
    for (int i = 0; i < ANSWERS; i++) hn_strbuf_close(&r->text[i]), hn_strbuf_close(&r->whole[i]);
}

static hn_status hear_text(void *context, size_t prompt, const char *text, size_t length, hn_error *error)
{
    rig *r = context;
    (void)error;
    if (!hn_utf8_valid(text, length) || !length) abort();
    hn_strbuf_add(&r->text[prompt], text, length);
    return HN_OK;
}

static hn_status hear_end(void *context, size_t prompt, const hn_answer *answer, hn_error *error)
{
    rig *r = context;
    (void)error;
    r->ended++;
    hn_strbuf_add(&r->whole[prompt], answer->text, answer->length);
    memcpy(r->ids[prompt], answer->ids, (size_t)answer->count * sizeof(int32_t));
    r->count[prompt] = answer->count;
    r->finish[prompt] = answer->finish;
    return HN_OK;
}

static hn_generate_options greedy(int32_t tokens)
{
    return (hn_generate_options){.sampling = HN_SAMPLING_GREEDY, .max_tokens = tokens};
}

static hn_generate_stats stats;

static hn_status say(rig *r, const hn_prompt *prompts, size_t count, hn_generate_options options)
{
    hn_listener listener = {hear_text, hear_end, r};
    r->ended = 0;
    stats = (hn_generate_stats){0};
    for (int i = 0; i < ANSWERS; i++) hn_strbuf_reset(&r->text[i]), hn_strbuf_reset(&r->whole[i]);
    return hn_generate(r->generator, &stats, prompts, count, &options, &listener, &r->error);
}

/* Prompts of different lengths. */
static void prompts_of(hn_prompt *prompts, int32_t ids[][MOST], int count)
{
    for (int i = 0; i < count; i++) {
        prompts[i] = (hn_prompt){.ids = ids[i], .count = 1 + i * 7 % 23, .number = (uint32_t)i};
        for (int t = 0; t < prompts[i].count; t++) ids[i][t] = (int32_t)(10 + hn_philox(4, (uint32_t)t, 0, (uint32_t)i, 0).word[0] % 380);
    }
}

/* The likeliest next token by a forward over all of them, and how far it is above the second. */
static int32_t next_of_all(rig *r, const int32_t *ids, int32_t count, float *lead)
{
    hn_batch_buffer buffer;
    hn_forward forward = {0};
    int32_t row = count - 1, best = 0;
    if (hn_batch_buffer_init(&buffer, count, 1, NULL)) abort();
    hn_batch *batch = &buffer.batch;
    batch->n = 1, batch->tokens = batch->longest = batch->cu_seqlens[1] = count;
    memcpy(batch->token, ids, (size_t)count * sizeof *ids);
    for (int32_t t = 0; t < count; t++) batch->position[t] = t;
    hn_runner_use(&r->runner, false, 0);
    if (hn_device_batch_upload(&r->runner.batch, batch, NULL)) abort();
    hn_model_forward(r->runner.model, &r->runner.ctx, &r->runner.batch.batch, &forward);
    hn_tensor logits = hn_model_logits(r->runner.model, &r->runner.ctx, &row, 1);
    const float *values = logits.data;
    for (int32_t v = 1; v < r->config.vocabulary; v++)
        if (values[v] > values[best]) best = v;
    *lead = INFINITY;
    for (int32_t v = 0; v < r->config.vocabulary; v++)
        if (v != best) *lead = fminf(*lead, values[best] - values[v]);
    hn_batch_buffer_close(&buffer);
    return best;
}

/* The fourth has 22 tokens: read in pieces, or at once. */
TEST(greedy_is_what_full_forwards_choose)
{
    static const char *const families[] = {"llama", "gpt2", "qwen2", "qwen3", "mistral"};
    for (int f = 0; f < 10; f++) {
        rig r;
        int32_t ids[ANSWERS][MOST];
        hn_prompt prompts[4];
        hn_dtype precision = f % 2 ? HN_BF16 : HN_F32;
        if (rig_open(&r, families[f / 2], precision, 2, (hn_generator_options){3, POSITIONS, f % 4 < 2 ? 8 : 32})) TEST_FAIL("%s", r.error.message);
        prompts_of(prompts, ids, 4);
        if (say(&r, prompts, 4, greedy(12))) TEST_FAIL("%s", r.error.message);
        CHECK_INT(r.ended, 4);
        int checked = 0;
        for (int p = 0; p < 4; p++) {
            int32_t count = prompts[p].count;
            CHECK_INT(r.count[p], 12);
            CHECK_TEXT(r.text[p].text, r.whole[p].text);
            for (int32_t t = 0; t < 12; t++) {
                float lead;
                int32_t want = next_of_all(&r, ids[p], count, &lead);
                if (lead > (precision == HN_F32 ? 1e-4f : 0.1f)) {
                    checked++;
                    if (r.ids[p][t] != want) TEST_FAIL("%s prompt %d token %d: got %d, expected %d", families[f / 2], p, t, r.ids[p][t], want);
                }
                ids[p][count++] = r.ids[p][t];
            }
        }
        CHECK(checked > 33);
        rig_close(&r);
    }
}

/* Every prompt by itself, in a batch of some, and with other threads: the same text, greedy and drawn. */
TEST(neighbours_and_threads_change_nothing)
{
    static rig alone, together, threads;
    for (int way = 0; way < 4; way++) {
        hn_dtype precision = way / 2 ? HN_BF16 : HN_F32;
        int32_t ids[ANSWERS][MOST];
        hn_prompt prompts[ANSWERS];
        hn_generate_options options = greedy(14);
        options.sampling.temperature = way % 2 ? 1.5f : 0;
        options.sampling.repetition_penalty = 1.2f;
        options.sampling.seed = 77;
        CHECK_INT(rig_open(&alone, "llama", precision, 1, (hn_generator_options){1, POSITIONS, 8}), HN_OK);
        CHECK_INT(rig_open(&together, "llama", precision, 1, (hn_generator_options){5, POSITIONS, 8}), HN_OK);
        CHECK_INT(rig_open(&threads, "llama", precision, 3, (hn_generator_options){8, POSITIONS, 8}), HN_OK);
        prompts_of(prompts, ids, ANSWERS);
        CHECK_INT(say(&together, prompts, ANSWERS, options), HN_OK);
        CHECK_INT(say(&threads, prompts, ANSWERS, options), HN_OK);
        for (int p = 0; p < ANSWERS; p++) {
            CHECK_INT(say(&alone, prompts + p, 1, options), HN_OK);
            CHECK_INT(alone.count[0], together.count[p]);
            CHECK(!memcmp(alone.ids[0], together.ids[p], (size_t)alone.count[0] * sizeof(int32_t)));
            CHECK(!memcmp(threads.ids[p], together.ids[p], (size_t)alone.count[0] * sizeof(int32_t)));
            CHECK_TEXT(alone.text[0].text, together.text[p].text);
        }
        /* prompts that are alike but for their numbers draw differently */
        prompts[1] = prompts[0], prompts[1].number = 1;
        CHECK_INT(say(&together, prompts, 2, options), HN_OK);
        CHECK_INT(memcmp(together.ids[0], together.ids[1], sizeof together.ids[0]) != 0, way % 2);
        rig_close(&alone), rig_close(&together), rig_close(&threads);
    }
}

TEST(what_ends_an_answer)
{
    rig r;
    int32_t ids[ANSWERS][MOST], stop[1];
    hn_prompt prompts[ANSWERS];
    hn_generate_options options = greedy(12);
    CHECK_INT(rig_open(&r, "llama", HN_F32, 1, (hn_generator_options){1, 20, 8}), HN_OK);
    prompts_of(prompts, ids, 2);
    CHECK_INT(say(&r, prompts + 1, 1, options), HN_OK);
    CHECK_INT(r.count[0], 12);
    CHECK_INT(r.finish[0], HN_FINISH_LENGTH);
    CHECK_INT(stats.prompt_tokens, 8);
    CHECK_INT(stats.new_tokens, 12);
    CHECK_INT(stats.later_tokens, 11);
    /* the context holds 20 tokens; the last that is chosen need not be in it */
    options.max_tokens = 100;
    CHECK_INT(say(&r, prompts + 1, 1, options), HN_OK);
    CHECK_INT(r.count[0], 13);
    CHECK_INT(r.finish[0], HN_FINISH_CONTEXT);
    /* a stop token that it chose before: the first place where it came */
    stop[0] = r.ids[0][6];
    int32_t first = 0;
    while (r.ids[0][first] != stop[0]) first++;
    options.stop_ids = stop, options.stop_id_count = 1;
    CHECK_INT(say(&r, prompts + 1, 1, options), HN_OK);
    CHECK_INT(r.count[0], first);
    CHECK_INT(r.finish[0], HN_FINISH_STOP);
    /* a stop string of its text */
    char whole[512], needle[2] = {0};
    options.stop_id_count = 0;
    CHECK_INT(say(&r, prompts + 1, 1, options), HN_OK);
    snprintf(whole, sizeof whole, "%s", r.text[0].text);
    size_t at = 0;
    while (at < strlen(whole) && (whole[at] < 'a' || whole[at] > 'z')) at++;
    CHECK(at < strlen(whole));
    needle[0] = whole[at];
    const char *stops[] = {needle};
    options.stops = stops, options.stop_count = 1;
    CHECK_INT(say(&r, prompts + 1, 1, options), HN_OK);
    whole[at] = '\0';
    CHECK_TEXT(r.text[0].text, whole);
    CHECK_TEXT(r.whole[0].text, whole);
    CHECK_INT(r.finish[0], HN_FINISH_STOP);
    /* somebody stops it */
    volatile int stopped = 1;
    options.stop_count = 0, options.interrupt = &stopped;
    CHECK_INT(say(&r, prompts, 2, options), HN_OK);
    CHECK_INT(r.finish[0], HN_FINISH_INTERRUPT);
    CHECK_INT(r.finish[1], HN_FINISH_INTERRUPT);
    CHECK_INT(r.ended, 2);
    rig_close(&r);
}

TEST(what_cannot_be_said_is_refused)
{
    rig r;
    int32_t ids[MOST] = {20, 21, 22};
    CHECK_INT(rig_open(&r, "llama", HN_F32, 1, (hn_generator_options){1, 20, 8}), HN_OK);
    for (int i = 0; i < 21; i++) ids[i] = 20 + i;
    hn_prompt longest = {ids, 20, 0, false}, longer = {ids, 21, 0, false}, empty = {ids, 0, 0, false};
    CHECK_INT(say(&r, &longest, 1, greedy(5)), HN_OK);
    CHECK_INT(r.count[0], 1);
    CHECK_INT(say(&r, &longer, 1, greedy(5)), HN_ERR_MISMATCH);
    CHECK_CONTAINS(r.error.message, "prompt 1: expected 1 to 20 tokens, as many as the context holds, got 21");
    hn_error_reset(&r.error);
    CHECK_INT(say(&r, &empty, 1, greedy(5)), HN_ERR_MISMATCH);
    hn_error_reset(&r.error);
    hn_model_master(r.runner.model)[0] = NAN; /* some weight */
    for (int64_t i = 0; i < hn_model_param_elements(r.runner.model); i++) hn_model_master(r.runner.model)[i] = NAN;
    CHECK_INT(say(&r, &longest, 1, greedy(5)), HN_ERR_NUMERIC);
    rig_close(&r);
}

static hn_status refuse_text(void *context, size_t prompt, const char *text, size_t length, hn_error *error)
{
    (void)context, (void)prompt, (void)text, (void)length;
    return hn_fail(error, HN_ERR_IO, "the pipe is closed");
}

TEST(a_listener_may_end_it)
{
    rig r;
    int32_t ids[3] = {20, 21, 22};
    hn_prompt prompt = {ids, 3, 0, false};
    hn_listener listener = {refuse_text, NULL, NULL};
    hn_generate_options options = greedy(30);
    CHECK_INT(rig_open(&r, "llama", HN_F32, 1, (hn_generator_options){1, POSITIONS, 8}), HN_OK);
    CHECK_INT(hn_generate(r.generator, &stats, &prompt, 1, &options, &listener, &r.error), HN_ERR_IO);
    hn_error_reset(&r.error);
    CHECK_INT(say(&r, &prompt, 1, options), HN_OK); /* and the next one runs */
    CHECK_INT(r.count[0], 30);
    rig_close(&r);
}

/* A conversation: the second prompt is the first, its answer and more. */
TEST(what_was_read_is_kept)
{
    rig r, other;
    int32_t ids[MOST];
    hn_prompt prompt = {ids, 6, 0, true};
    hn_generate_options options = greedy(10);
    options.resume = true;
    for (int i = 0; i < 6; i++) ids[i] = 40 + 3 * i;
    CHECK_INT(rig_open(&r, "qwen3", HN_F32, 1, (hn_generator_options){1, POSITIONS, 8}), HN_OK);
    CHECK_INT(rig_open(&other, "qwen3", HN_F32, 1, (hn_generator_options){1, POSITIONS, 8}), HN_OK);
    CHECK_INT(say(&r, &prompt, 1, options), HN_OK);
    CHECK_INT(stats.prompt_tokens, 6);
    memcpy(ids + 6, r.ids[0], 10 * sizeof *ids);
    for (int i = 16; i < 20; i++) ids[i] = 300 + i;
    prompt.count = 20;
    CHECK_INT(say(&r, &prompt, 1, options), HN_OK);
    CHECK_INT(stats.prompt_tokens, 5); /* the last token of the answer, and four */
    CHECK_INT(say(&other, &prompt, 1, options), HN_OK);
    CHECK_INT(stats.prompt_tokens, 20);
    CHECK(!memcmp(r.ids[0], other.ids[0], 10 * sizeof *ids));
    /* another beginning: only what is common is kept; the same again: all but its last token */
    ids[3]++;
    CHECK_INT(say(&r, &prompt, 1, options), HN_OK);
    CHECK_INT(stats.prompt_tokens, 17);
    CHECK_INT(say(&other, &prompt, 1, (options.resume = false, options)), HN_OK);
    CHECK(!memcmp(r.ids[0], other.ids[0], 10 * sizeof *ids));
    CHECK_INT(say(&r, &prompt, 1, (options.resume = true, options)), HN_OK);
    CHECK_INT(stats.prompt_tokens, 1);
    CHECK(!memcmp(r.ids[0], other.ids[0], 10 * sizeof *ids));
    rig_close(&r);
    rig_close(&other);
}

TEST(memory_may_run_out)
{
    rig r;
    int32_t ids[3] = {20, 21, 22};
    hn_prompt prompt = {ids, 3, 0, false};
    hn_generator_options size = {2, 20, 8};
    CHECK_INT(rig_open(&r, "llama", HN_F32, 1, size), HN_OK);
    CHECK_INT(say(&r, &prompt, 1, greedy(5)), HN_OK); /* what the operations keep is there from now on */
    for (size_t nth = 1;; nth++) {
        hn_generator_free(r.generator);
        r.generator = NULL;
        hn_error_reset(&r.error);
        hn_listener listener = {0};
        hn_generate_options options = greedy(5);
        hn_mem_fail_at(nth);
        hn_status status = hn_generator_open(&r.generator, &r.runner, r.tokenizer, &size, &r.error);
        if (status == HN_OK) status = hn_generator_alloc(r.generator, &r.error);
        if (status == HN_OK) status = hn_generate(r.generator, &stats, &prompt, 1, &options, &listener, &r.error);
        hn_mem_fail_at(0);
        if (status == HN_OK) break;
        CHECK_INT(status, HN_ERR_MEMORY);
        CHECK(nth < 500);
    }
    rig_close(&r);
}

TEST_MAIN(hn_json_init(); RUN(greedy_is_what_full_forwards_choose); RUN(neighbours_and_threads_change_nothing);
          RUN(what_ends_an_answer); RUN(what_cannot_be_said_is_refused); RUN(a_listener_may_end_it); RUN(what_was_read_is_kept);
          RUN(memory_may_run_out))
