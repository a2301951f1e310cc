/* The trunk cache: a miss, a hit, damage, another key, a budget that holds some or none, and failing allocations. */
#include "train/trunk_cache.h"

#include <sys/stat.h>
#include <unistd.h>

#include "core/hdf5_structure.h"
#include "core/mem.h"
#include "tests/test.h"

enum { WIDTH = 4, EXAMPLES = 3, ROWS = 16 };

static char path[] = "/tmp/hone-trunk-XXXXXX";
static hn_error error;
static hn_backend backend;
static hn_dataset *dataset;
static const hn_digest KEY = {1, 2}, OTHER = {1, 3};
static const uint32_t all[EXAMPLES] = {0, 1, 2};
static float values[ROWS * WIDTH], got[ROWS * WIDTH];
static hn_tensor rows, into;

static void open_dataset(void)
{
    static const char *const texts[EXAMPLES] = {"a", "b a", "a b a"};
    char folder[] = "/tmp/hone-vocab-XXXXXX", vocab[64], settings[64];
    hn_tokenizer *tokenizer = NULL;
    if (!mkdtemp(folder)) abort();
    snprintf(vocab, sizeof vocab, "%s/vocab.txt", folder);
    snprintf(settings, sizeof settings, "%s/tokenizer_config.json", folder);
    FILE *file = fopen(vocab, "w");
    fputs("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n", file);
    fclose(file);
    file = fopen(settings, "w");
    fputs("{\"do_lower_case\": true, \"tokenizer_class\": \"BertTokenizer\"}", file);
    fclose(file);
    if (hn_tokenizer_open(&tokenizer, folder, &error) ||
        hn_dataset_open_texts(&dataset, &(hn_texts){.texts = texts, .count = EXAMPLES}, tokenizer, 16, 1, &error)) {
        fprintf(stderr, "%s\n", error.message);
        abort();
    }
    hn_tokenizer_free(tokenizer);
    unlink(vocab);
    unlink(settings);
    rmdir(folder);
}

static hn_trunk_cache *open_cache(hn_digest key, bool first_only, uint64_t budget)
{
    hn_trunk_cache *cache = NULL;
    hn_error_reset(&error);
    if (hn_trunk_cache_open(&cache, path, key, dataset, &rows, &backend, first_only, budget, &error)) {
        fprintf(stderr, "%s\n", error.message);
        abort();
    }
    return cache;
}

/* Whether all `count` first examples are read back as they were written. */
static bool hits(hn_trunk_cache *cache, const uint32_t *examples, int32_t count, size_t bytes)
{
    memset(got, 0, sizeof got);
    return hn_trunk_cache_get(cache, &into, examples, count) && !memcmp(got, values, bytes);
}

TEST(kept_and_read_back)
{
    unlink(path);
    hn_trunk_cache *cache = open_cache(KEY, false, 1 << 20);
    bool before = hits(cache, all, EXAMPLES, 0);
    hn_trunk_cache_put(cache, &rows, all, EXAMPLES);
    bool after = hits(cache, all, EXAMPLES, 12 * WIDTH * sizeof(float)); /* 3 + 4 + 5 tokens */
    hn_trunk_cache_free(cache);
    CHECK(!before);
    CHECK(after);
    cache = open_cache(KEY, false, 1 << 20);
    after = hits(cache, all, EXAMPLES, 12 * WIDTH * sizeof(float));
    hn_trunk_cache_free(cache);
    CHECK(after);
    cache = open_cache(OTHER, false, 1 << 20);
    after = hits(cache, all, 1, 0);
    hn_trunk_cache_free(cache);
    CHECK(!after);
}

TEST(one_row_an_example)
{
    unlink(path);
    hn_trunk_cache *cache = open_cache(KEY, true, 1 << 20);
    hn_trunk_cache_put(cache, &rows, all, EXAMPLES);
    bool hit = hits(cache, all, EXAMPLES, EXAMPLES * WIDTH * sizeof(float));
    hn_batch batch = {.n = EXAMPLES, .tokens = 12};
    hn_tensor view = hn_trunk_cache_view(cache, &rows, &batch);
    hn_trunk_cache_free(cache);
    CHECK(hit);
    CHECK_INT(view.shape[0], EXAMPLES);
}

/* Every byte of the file is flipped in turn: what is read is what was written, or it is a miss. */
TEST(a_damaged_byte_is_a_miss)
{
    unlink(path);
    hn_trunk_cache *cache = open_cache(KEY, false, 1 << 20);
    hn_trunk_cache_put(cache, &rows, all, EXAMPLES);
    size_t size = 12 * WIDTH * sizeof(float);
    FILE *file = fopen(path, "r+b");
    int misses = 0, wrong = 0, byte;
    for (long at = 0; fseek(file, at, SEEK_SET) == 0 && (byte = fgetc(file)) != EOF; at++) {
        fseek(file, at, SEEK_SET);
        fputc(byte ^ 0x10, file);
        fflush(file);
        memset(got, 0, sizeof got);
        bool hit = hn_trunk_cache_get(cache, &into, all, EXAMPLES);
        misses += !hit;
        wrong += hit && memcmp(got, values, size) != 0;
        fseek(file, at, SEEK_SET);
        fputc(byte, file);
        fflush(file);
    }
    fclose(file);
    hn_trunk_cache_free(cache);
    CHECK_INT(misses, size + EXAMPLES * sizeof(hn_digest));
    CHECK_INT(wrong, 0);
}

/* The seal that belongs to the file of these bytes, as far as its structures can be followed. */
static void seal(unsigned char *bytes, size_t size)
{
    static const char *const names[] = {"key", "digest", "output"};
    hn_mapping map = {bytes, size};
    hn_hdf5 file;
    uint64_t at[3] = {0}, sizes[3] = {0};
    if (hn_hdf5_open(&file, &map, 0, 3, path, NULL)) return;
    for (int i = 0; i < 3; i++) {
        hn_tensor shape = hn_tensor_1d(NULL, HN_U8, HN_HDF5_ANY);
        if (hn_hdf5_find(&at[i], &shape, &file, "dataset", names[i], NULL) == HN_OK) sizes[i] = (uint64_t)shape.shape[0];
    }
    hn_hdf5_close(&file);
    if (sizes[0] != 32) return;
    hn_hasher *hasher = hn_hasher_open();
    hn_hasher_add(hasher, bytes + at[0], 16);
    for (size_t place = 0, next; place < size; place = next) {
        bool inside = false;
        for (int i = 0; i < 3; i++) inside |= place >= at[i] && place < at[i] + sizes[i];
        next = place + 1;
        if (!inside) hn_hasher_add(hasher, bytes + place, 1);
    }
    hn_digest now = hn_hasher_digest(hasher);
    hn_hasher_free(hasher);
    memcpy(bytes + at[0] + 16, &now, sizeof now);
}

static void put(const unsigned char *bytes, size_t size)
{
    unlink(path); /* some file systems write a file that is cut to nothing at once */
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file)) abort();
}

/* Every byte of the file is changed in turn before it is opened, without and with the seal that belongs to it: what is read is what was
 * written, or it is not there; damaged structures are started over, and said. */
TEST(a_damaged_file_starts_over)
{
    unlink(path);
    hn_trunk_cache *cache = open_cache(KEY, false, 1 << 20);
    bool quiet = !hn_trunk_cache_note(cache);
    hn_trunk_cache_put(cache, &rows, all, EXAMPLES);
    hn_trunk_cache_free(cache);
    char *bytes = NULL;
    size_t size, used = 12 * WIDTH * sizeof(float), wrong = 0, anew[2] = {0}, unsaid = 0;
    CHECK(quiet);
    CHECK_OK(hn_file_read(&bytes, &size, path, 1 << 20, &error));
    unsigned char *copy = hn_malloc(size);
    for (int sealed = 0; sealed < 2; sealed++)
        for (size_t i = 0; i < size; i++) {
            memcpy(copy, bytes, size);
            copy[i] ^= (unsigned char)(1 << i % 8);
            if (sealed) seal(copy, size);
            put(copy, size);
            cache = open_cache(KEY, false, 1 << 20);
            const char *note = hn_trunk_cache_note(cache);
            bool started = note && strstr(note, "; made anew"), hit = hn_trunk_cache_get(cache, &into, all, EXAMPLES);
            wrong += hit && memcmp(got, values, used);
            unsaid += !hit && !started && !hn_trunk_cache_note(cache);
            anew[sealed] += started;
            hn_trunk_cache_free(cache);
        }
    hn_free(copy);
    hn_free(bytes);
    CHECK_INT(wrong, 0);
    CHECK_INT(anew[0], size - used - EXAMPLES * sizeof(hn_digest)); /* all but rows and their digests */
    CHECK(anew[1] > 300);
    CHECK_INT(unsaid, 16); /* the key's bytes with their seal: another key */
}

/* A link is not followed: what it leads to stays as it is. */
TEST(a_link_is_replaced)
{
    char target[64], text[16] = "";
    struct stat info;
    snprintf(target, sizeof target, "%s.txt", path);
    FILE *file = fopen(target, "w");
    fputs("somebody's", file);
    fclose(file);
    unlink(path);
    CHECK_INT(symlink(target, path), 0);
    hn_trunk_cache *cache = open_cache(KEY, false, 1 << 20);
    hn_trunk_cache_put(cache, &rows, all, EXAMPLES);
    bool hit = hits(cache, all, EXAMPLES, 12 * WIDTH * sizeof(float));
    hn_trunk_cache_free(cache);
    CHECK(hit);
    CHECK(!lstat(path, &info) && S_ISREG(info.st_mode));
    file = fopen(target, "r");
    CHECK(fgets(text, sizeof text, file));
    fclose(file);
    unlink(target);
    CHECK_TEXT(text, "somebody's");
}

TEST(a_budget_that_holds_some_or_none)
{
    static const uint32_t last[] = {2};
    unlink(path);
    hn_trunk_cache *cache = open_cache(KEY, false, 7 * WIDTH * sizeof(float)); /* the first two */
    hn_trunk_cache_put(cache, &rows, all, EXAMPLES);
    bool two = hits(cache, all, 2, 7 * WIDTH * sizeof(float)), third = hits(cache, last, 1, 0);
    hn_trunk_cache_free(cache);
    CHECK(two);
    CHECK(!third);
    unlink(path);
    cache = open_cache(KEY, false, 3);
    hn_trunk_cache_put(cache, &rows, all, EXAMPLES);
    bool none = !hits(cache, all, 1, 0), made = access(path, F_OK) == 0;
    hn_trunk_cache_free(cache);
    CHECK(none);
    CHECK(!made);
}

TEST(a_file_of_something_else_starts_over)
{
    FILE *file = fopen(path, "w");
    fputs("not HDF5", file);
    fclose(file);
    hn_trunk_cache *cache = open_cache(KEY, false, 1 << 20);
    hn_trunk_cache_put(cache, &rows, all, EXAMPLES);
    bool hit = hits(cache, all, EXAMPLES, 12 * WIDTH * sizeof(float));
    hn_trunk_cache_free(cache);
    CHECK(hit);
    hn_error_reset(&error);
    CHECK_INT(hn_trunk_cache_open(&cache, "/nowhere/trunk-cache.h5", KEY, dataset, &rows, &backend, false, 1 << 20, &error),
              HN_ERR_IO);
    CHECK_CONTAINS(error.message, "/nowhere/trunk-cache.h5");
}

TEST(out_of_memory)
{
    hn_trunk_cache *cache = NULL;
    hn_status status = HN_ERR_MEMORY;
    for (size_t n = 1; status == HN_ERR_MEMORY; n++) {
        hn_error_reset(&error);
        hn_mem_fail_at(n);
        status = hn_trunk_cache_open(&cache, path, KEY, dataset, &rows, &backend, false, 1 << 20, &error);
        hn_mem_fail_at(0);
    }
    CHECK_INT(status, HN_OK);
    hn_trunk_cache_free(cache);
}

int main(void)
{
    hn_backend_cpu_init(&backend);
    int file = mkstemp(path);
    if (file >= 0) close(file);
    for (int i = 0; i < ROWS * WIDTH; i++) values[i] = 0.5f * (float)i - 3;
    rows = hn_tensor_2d(values, HN_F32, ROWS, WIDTH);
    into = hn_tensor_2d(got, HN_F32, ROWS, WIDTH);
    open_dataset();
    RUN(kept_and_read_back);
    RUN(one_row_an_example);
    RUN(a_damaged_byte_is_a_miss);
    RUN(a_damaged_file_starts_over);
    RUN(a_link_is_replaced);
    RUN(a_budget_that_holds_some_or_none);
    RUN(a_file_of_something_else_starts_over);
    RUN(out_of_memory);
    hn_dataset_free(dataset);
    unlink(path);
    printf("%d tests, %d failures\n", test_ran, test_failures);
    return test_failures || !test_ran;
}
