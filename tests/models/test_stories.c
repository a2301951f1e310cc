/* A real trained model, stories260K: 200 tokens chosen greedily through the cache are, byte for byte, the text that its authors
 * publish (../shared/data/models; skipped without it). And what the cache gives is what a forward over all tokens gives. */
#include "tests/models/rig.h"
#include "tests/test.h"

#define FOLDER "../shared/data/models/"
enum { STEPS = 200, CAPACITY = 256, VOCABULARY = 512, BOS = 1 };

/* Vocabulary of llama2.c: the longest piece, then a score, a length and the bytes of each piece. */
typedef struct pieces {
    char text[VOCABULARY][64];
} pieces;

static bool read_pieces(pieces *out, const char *path)
{
    FILE *file = fopen(path, "rb");
    int32_t longest, length;
    float score;
    bool good = file && fread(&longest, sizeof longest, 1, file) == 1;
    for (int i = 0; i < VOCABULARY && good; i++) {
        good = fread(&score, sizeof score, 1, file) == 1 && fread(&length, sizeof length, 1, file) == 1 && length >= 0 &&
               length < 64 && fread(out->text[i], 1, (size_t)length, file) == (size_t)length;
        if (good) out->text[i][length] = 0;
    }
    if (file) fclose(file);
    return good;
}

static void append_piece(hn_strbuf *out, const pieces *vocabulary, int32_t before, int32_t token)
{
    const char *text = vocabulary->text[token];
    unsigned byte;
    if (before == BOS && *text == ' ') text++;
    if (sscanf(text, "<0x%02X>", &byte) == 1) hn_strbuf_printf(out, "%c", (int)byte);
    else hn_strbuf_puts(out, text);
}

static bool open_model(rig *r, const char *path)
{
    hn_folder *folder = NULL;
    hn_model_config config;
    hn_strbuf initialised, ignored;
    size_t count;
    hn_strbuf_init(&initialised);
    hn_strbuf_init(&ignored);
    hn_status status = hn_folder_open(&folder, path, &r->error);
    if (status == HN_OK)
        status = hn_model_config_read(&config, hn_folder_config(folder), "config.json", &r->error);
    if (status == HN_OK) status = rig_open(r, &config, HN_F32, (hn_bounds){CAPACITY, 1, CAPACITY, 0});
    if (status == HN_OK) {
        const hn_named_tensor *tensors = hn_folder_tensors(folder, &count);
        status = hn_model_load(r->model, tensors, count, NULL, path, 0, &initialised, &ignored, &r->error);
    }
    r->forward.training = false;
    if (status == HN_OK) status = rig_replace(r);
    hn_strbuf_close(&initialised);
    hn_strbuf_close(&ignored);
    hn_folder_free(folder);
    return status == HN_OK;
}

static int32_t best_of(const hn_tensor *logits)
{
    const float *values = logits->data;
    int32_t best = 0;
    for (int32_t v = 1; v < logits->shape[1]; v++)
        if (values[v] > values[best]) best = v;
    return best;
}

/* The tokens chosen one after another; token[0] is given. */
static hn_status choose(rig *r, int32_t *token)
{
    hn_kv_cache cache;
    hn_arena arena;
    int32_t cu[2] = {0, 1}, position = 0, row = 0;
    uint32_t example = 0;
    hn_batch batch = {.n = 1, .tokens = 1, .longest = 1, .cu_seqlens = cu, .position = &position, .example = &example};
    hn_arena_init(&arena, "cache", &r->backend);
    hn_status status = hn_kv_cache_init(&cache, 1, CAPACITY, 1, &r->error);
    if (status != HN_OK) return status;
    hn_kv_cache_place(&cache, r->model, &arena);
    status = hn_arena_alloc(&arena, &r->error);
    if (status == HN_OK) hn_kv_cache_place(&cache, r->model, &arena);
    r->forward.cache = &cache;
    for (int i = 0; i < STEPS && status == HN_OK; i++) {
        batch.token = token + i;
        status = hn_kv_cache_next(&cache, &r->backend, &batch, &r->error);
        if (status != HN_OK) break;
        rig_forward(r, &batch);
        hn_tensor logits = hn_model_logits(r->model, &r->ctx, &row, 1);
        token[i + 1] = best_of(&logits);
        status = r->error.status;
    }
    r->forward.cache = NULL;
    hn_kv_cache_close(&cache);
    hn_arena_close(&arena);
    return status;
}

TEST(greedy_text)
{
    static pieces vocabulary;
    static char expected[8192];
    rig r;
    hn_strbuf text;
    int32_t token[STEPS + 1] = {BOS};
    FILE *file = fopen(FOLDER "stories260K/expected_greedy_200.txt", "rb");
    if (!file) TEST_SKIP("../shared/data/models/stories260K is not here");
    expected[fread(expected, 1, sizeof expected - 1, file)] = 0;
    fclose(file);
    CHECK(read_pieces(&vocabulary, FOLDER "stories260K/tok512.bin"));
    if (!open_model(&r, FOLDER "stories260K-hf")) TEST_FAIL("%s", r.error.message);
    if (choose(&r, token) != HN_OK) TEST_FAIL("%s", r.error.message);
    hn_strbuf_init(&text);
    for (int i = 0; i < STEPS; i++) append_piece(&text, &vocabulary, token[i], token[i + 1]);
    CHECK_TEXT(text.text, expected);
    hn_strbuf_close(&text);
    /* all at once */
    rig_batch b = {.cu_seqlens = {0, MAX_TOKENS}};
    memcpy(b.token, token, sizeof b.token);
    rig_batch_finish(&b, 1);
    rig_forward(&r, &b.batch);
    for (int32_t row = 0; row < MAX_TOKENS; row++) {
        hn_tensor logits = hn_model_logits(r.model, &r.ctx, &row, 1);
        CHECK_INT(best_of(&logits), token[row + 1]);
    }
    CHECK_INT(r.error.status, HN_OK);
    rig_close(&r);
}

TEST_MAIN(hn_json_init(); RUN(greedy_text))
