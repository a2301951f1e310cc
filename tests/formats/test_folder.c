/* Hugging Face folders: what opens, every way in which config, index and shards are refused, and saves that
 * leave the old folder or the new one. Each case builds its folder anew. */
#include "formats/folder.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "core/strbuf.h"
#include "formats/safetensors.h"
#include "tests/test.h"

static char base[] = "/tmp/hone-folder-XXXXXX";
static char model[64], path[192];
static float values[] = {1, 2, 3, 4};

#define SHARD_A "model-00001-of-00002.safetensors"
#define SHARD_B "model-00002-of-00002.safetensors"
#define INDEX "model.safetensors.index.json"

static const char *in(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", model, name);
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *file = fopen(in(name), "wb");
    if (!file || fputs(text, file) < 0 || fclose(file)) abort();
}

/* A safetensors file of tensors with these names, up to four. */
static void put_tensors(const char *name, const char *const *names, size_t count)
{
    hn_named_tensor tensors[4];
    for (size_t i = 0; i < count; i++)
        tensors[i] = (hn_named_tensor){names[i], hn_tensor_1d(values, HN_F32, 2)};
    if (hn_safetensors_save(in(name), tensors, count, HN_F32, NULL) != HN_OK) abort();
}

static void fresh(void)
{
    if (hn_folder_remove(model, NULL) != HN_OK || mkdir(model, 0700)) abort();
    put("config.json", "{\"model_type\": \"bert\"}");
}

/* Two shards, {b, d} and {a, c}, whose names are sorted across. */
static void fresh_sharded(void)
{
    fresh();
    put_tensors(SHARD_A, (const char *const[]){"b", "d"}, 2);
    put_tensors(SHARD_B, (const char *const[]){"a", "c"}, 2);
    put(INDEX, "{\"metadata\": {\"total_size\": 32}, \"weight_map\": {\"a\": \"" SHARD_B
               "\", \"b\": \"" SHARD_A "\", \"c\": \"" SHARD_B "\", \"d\": \"" SHARD_A "\"}}");
}

static hn_status open_model(hn_error *error)
{
    hn_folder *folder = NULL;
    hn_error_reset(error);
    hn_status status = hn_folder_open(&folder, model, error);
    hn_folder_free(folder);
    return status;
}

TEST(opens_one_file)
{
    hn_error error = {0};
    hn_folder *folder = NULL;
    size_t count;
    fresh();
    put_tensors("model.safetensors", (const char *const[]){"y", "x"}, 2);
    CHECK_OK(hn_folder_open(&folder, model, &error));
    const hn_named_tensor *tensors = hn_folder_tensors(folder, &count);
    CHECK_INT(count, 2);
    CHECK_TEXT(tensors[0].name, "x");
    CHECK_NEAR(((const float *)tensors[1].tensor.data)[1], 2, 0);
    CHECK_TEXT(json_string_value(json_object_get(hn_folder_config(folder), "model_type")), "bert");
    CHECK_TEXT(hn_folder_path(folder), model);
    hn_folder_free(folder);
}

TEST(opens_shards)
{
    hn_error error = {0};
    hn_folder *folder = NULL;
    size_t count;
    fresh_sharded();
    CHECK_OK(hn_folder_open(&folder, model, &error));
    const hn_named_tensor *tensors = hn_folder_tensors(folder, &count);
    CHECK_INT(count, 4);
    for (size_t i = 0; i < 4; i++) CHECK_INT(tensors[i].name[0], "abcd"[i]);
    hn_folder_free(folder);
    /* One file and an index: the file wins, as in transformers. */
    put_tensors("model.safetensors", (const char *const[]){"z"}, 1);
    CHECK_OK(hn_folder_open(&folder, model, &error));
    hn_folder_tensors(folder, &count);
    CHECK_INT(count, 1);
    hn_folder_free(folder);
}

TEST(refuses_configs)
{
    static const struct {
        const char *config, *says;
    } cases[] = {
        {"", "config.json:"},
        {"[1]", "config.json: expected a JSON object"},
        {"{\"a\": NaN}", "config.json:1:"},
        {"{\"a\": Infinity}", "config.json:1:"},
        {"{\"a\": 1e999}", "config.json:1:"},
        {"{\"a\": 9223372036854775808}", "integers below 2^63"},
        {"{\"a\": 1, \"a\": 2}", "same key twice"},
        {"{\"a\": 1} x", "more text after the value"},
        {"{\"a\": \"\xff\"}", "config.json:1:"},
    };
    hn_error error = {0};
    fresh();
    put_tensors("model.safetensors", (const char *const[]){"x"}, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put("config.json", cases[i].config);
        CHECK_INT(open_model(&error), HN_ERR_FORMAT);
        CHECK_CONTAINS(error.message, cases[i].says);
    }
    unlink(in("config.json"));
    CHECK_INT(open_model(&error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "config.json: cannot open");
}

TEST(refuses_indexes)
{
    static const struct {
        const char *index, *says;
    } cases[] = {
        {"{}", INDEX ": weight_map: expected an object"},
        {"[]", INDEX ": expected a JSON object"},
        {"{\"weight_map\": []}", "weight_map: expected an object"},
        {"{\"weight_map\": {}}", "weight_map: expected 1 to 1024 different files, got 0"},
        {"{\"weight_map\": {\"a\": 3}}", "weight_map[\"a\"]: expected the name of a file"},
        {"{\"weight_map\": {\"a\": \"/etc/x.safetensors\"}}", "weight_map[\"a\"]: expected the plain name"},
        {"{\"weight_map\": {\"a\": \"../x.safetensors\"}}", "got \"../x.safetensors\""},
        {"{\"weight_map\": {\"a\": \"sub/x.safetensors\"}}", "expected the plain name"},
        {"{\"weight_map\": {\"a\": \"x.bin\"}}", "expected the plain name of a .safetensors"},
        {"{\"weight_map\": {\"a\": \".safetensors\"}}", "expected the plain name"},
        {"{\"weight_map\": {\"a\": \"x\\u0000.safetensors\"}}", "expected the plain name"},
        {"{\"weight_map\": {\"a\": \"gone.safetensors\"}}", "gone.safetensors: cannot open, named by "},
        {"{\"weight_map\": {\"a\": \"" SHARD_B "\", \"b\": \"" SHARD_A "\", \"c\": \"" SHARD_B "\"}}",
         "weight_map lacks tensor \"d\", which stands in " SHARD_A},
        {"{\"weight_map\": {\"a\": \"" SHARD_B "\", \"b\": \"" SHARD_A "\", \"c\": \"" SHARD_B
         "\", \"d\": \"" SHARD_A "\", \"e\": \"" SHARD_A "\"}}",
         "weight_map[\"e\"]: " SHARD_A " does not hold this tensor"},
        {"{\"weight_map\": {\"a\": \"" SHARD_B "\", \"b\": \"" SHARD_B "\", \"c\": \"" SHARD_B
         "\", \"d\": \"" SHARD_A "\"}}",
         "weight_map[\"b\"]: says " SHARD_B ", but " SHARD_A " holds it"},
        {"{\"weight_map\": {\"a\": \"" SHARD_B "\", \"a\": \"" SHARD_A "\"}}", "same key twice"},
    };
    hn_error error = {0};
    fresh_sharded();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put(INDEX, cases[i].index);
        if (open_model(&error) == HN_OK) TEST_FAIL("accepted: %s", cases[i].index);
        CHECK_CONTAINS(error.message, cases[i].says);
    }
}

TEST(refuses_a_tensor_in_two_shards)
{
    hn_error error = {0};
    fresh_sharded();
    put_tensors(SHARD_B, (const char *const[]){"a", "b", "c"}, 3);
    CHECK_INT(open_model(&error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "weight_map[\"b\"]: says " SHARD_A ", but " SHARD_B " holds it");
}

TEST(refuses_too_many_shards)
{
    hn_error error = {0};
    hn_strbuf index;
    fresh();
    hn_strbuf_init(&index);
    hn_strbuf_puts(&index, "{\"weight_map\": {\"x\": \"x.safetensors\"");
    for (int i = 0; i < 1024; i++) hn_strbuf_printf(&index, ",\"%d\": \"%d.safetensors\"", i, i);
    hn_strbuf_puts(&index, "}}");
    put(INDEX, index.text);
    hn_strbuf_close(&index);
    CHECK_INT(open_model(&error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "expected 1 to 1024 different files, got 1025");
}

TEST(opens_nothing_outside)
{
    hn_error error = {0};
    char outside[96], target[192];
    snprintf(outside, sizeof outside, "%s/outside", base);
    fresh_sharded();
    snprintf(target, sizeof target, "%s", in(SHARD_B));
    CHECK_INT(rename(target, outside), 0);
    CHECK_INT(symlink(outside, target), 0);
    CHECK_INT(open_model(&error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, SHARD_B ": a link to ");
    CHECK_CONTAINS(error.message, "outside of the model's folder");
    unlink(target);
    CHECK_INT(mkfifo(target, 0600), 0);
    CHECK_INT(open_model(&error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "pipe");
    unlink(target);
    CHECK_INT(symlink(SHARD_B, target), 0); /* a loop */
    CHECK_INT(open_model(&error), HN_ERR_IO);
    unlink(target);
    /* A link within the folder is fine. */
    CHECK_INT(rename(outside, in("real.bin")), 0);
    CHECK_INT(symlink("real.bin", target), 0);
    CHECK_OK(open_model(&error));
    unlink(in("config.json"));
    CHECK_INT(symlink("/etc/passwd", path), 0);
    CHECK_INT(open_model(&error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "config.json: a link to /etc/passwd");
}

/* What is only copied into saved models leads nowhere else either. */
TEST(copies_nothing_from_outside)
{
    static const char *const names[] = {"special_tokens_map.json", "chat_template.jinja", "vocab.txt"};
    for (int i = 0; i < 3; i++) {
        hn_error error = {0};
        fresh();
        put_tensors("model.safetensors", (const char *const[]){"x"}, 1);
        CHECK_OK(open_model(&error));
        CHECK_INT(symlink("/etc/passwd", in(names[i])), 0);
        CHECK_INT(open_model(&error), HN_ERR_FORMAT);
        CHECK_CONTAINS(error.message, names[i]);
        CHECK_CONTAINS(error.message, "a link to /etc/passwd, outside of the model's folder");
    }
}

/* The Hub's cache: snapshots/REVISION/NAME is a link to ../../blobs/DIGEST. */
TEST(opens_the_hub_cache)
{
    hn_error error = {0};
    hn_folder *folder = NULL;
    char snapshot[128], blob[128], name[192];
    fresh();
    put_tensors("model.safetensors", (const char *const[]){"x"}, 1);
    snprintf(snapshot, sizeof snapshot, "%s/hub/snapshots/1234", base);
    snprintf(blob, sizeof blob, "%s/hub/blobs", base);
    CHECK_OK(hn_folder_make(snapshot, &error));
    CHECK_INT(rename(model, blob), 0);
    for (int i = 0; i < 2; i++) {
        static const char *const names[] = {"config.json", "model.safetensors"};
        char target[64];
        snprintf(name, sizeof name, "%s/%s", snapshot, names[i]);
        snprintf(target, sizeof target, "../../blobs/%s", names[i]);
        CHECK_INT(symlink(target, name), 0);
    }
    CHECK_OK(hn_folder_open(&folder, snapshot, &error));
    hn_folder_free(folder);
}

TEST(says_what_is_missing)
{
    hn_error error = {0};
    fresh();
    CHECK_INT(open_model(&error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "model.safetensors: cannot open");
    put("pytorch_model.bin", "PK");
    CHECK_INT(open_model(&error), HN_ERR_UNSUPPORTED);
    CHECK_CONTAINS(error.message, "pytorch_model.bin, a pickle");
    hn_error_reset(&error);
    hn_folder *folder = NULL;
    CHECK_INT(hn_folder_open(&folder, "/no/such", &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "/no/such: cannot open this model folder");
    hn_error_reset(&error);
    CHECK_INT(hn_folder_open(&folder, in("config.json"), &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "expected a model folder");
}

TEST(out_of_memory_while_opening)
{
    hn_status status = HN_ERR_MEMORY;
    size_t nth;
    fresh_sharded();
    for (nth = 1; status != HN_OK; nth++) {
        hn_error error = {0};
        hn_folder *folder = NULL;
        hn_mem_fail_at(nth);
        status = hn_folder_open(&folder, model, &error);
        hn_mem_fail_at(0);
        hn_folder_free(folder);
        if (status != HN_OK && status != HN_ERR_MEMORY) TEST_FAIL("allocation %zu: %s", nth, error.message);
    }
    CHECK(nth > 50);
    test_promise("the n-th allocation fails, opening a model's folder", nth - 1, nth - 1);
}

/* Saving. */

static char saved[80];
static size_t extras = 1; /* whether a save writes a file that the caller gives it */

static hn_folder *tokenizer_folder; /* `model`, open */

static hn_status save_one(const char *tensor, hn_error *error)
{
    hn_named_tensor one = {tensor, hn_tensor_1d(values, HN_F32, 4)};
    hn_folder_file extra = {"README.md", "Hello.\n"};
    json_t *config = json_pack("{s:s, s:f}", "model_type", "bert", "layer_norm_eps", 1e-12);
    hn_status status =
        config ? hn_folder_save(saved, config, &one, 1, HN_BF16, tokenizer_folder, &extra, extras, error) : HN_ERR_MEMORY;
    json_decref(config);
    return status;
}

/* The tensor's name in the saved folder when all of it is there, else "". */
static const char *what_is_saved(void)
{
    static char name[16];
    static const char *const files[] = {"vocab.txt", "tokenizer.json", "README.md"};
    hn_folder *folder = NULL;
    size_t count = 0;
    hn_error error = {0};
    strcpy(name, "");
    if (hn_folder_open(&folder, saved, &error) != HN_OK)
        return error.message[0] ? strncpy(name, "broken", sizeof name) : name;
    const hn_named_tensor *tensors = hn_folder_tensors(folder, &count);
    if (count == 1) snprintf(name, sizeof name, "%s", tensors[0].name);
    hn_folder_free(folder);
    for (size_t i = 0; i < 2 + extras; i++) {
        char *file = hn_path_join(saved, files[i]);
        if (!hn_path_exists(file)) strcpy(name, "incomplete");
        hn_free(file);
    }
    return name;
}

static void fresh_source(void)
{
    fresh();
    put("vocab.txt", "[PAD]\n");
    put("tokenizer.json", "{}");
    put("training_notes.txt", "not copied");
    put_tensors("model.safetensors", (const char *const[]){"a"}, 1);
    hn_folder_free(tokenizer_folder);
    tokenizer_folder = NULL;
    if (hn_folder_open(&tokenizer_folder, model, NULL) != HN_OK) abort();
    snprintf(saved, sizeof saved, "%s/saved", base);
    hn_folder_remove(saved, NULL);
}

TEST(saves_and_replaces)
{
    hn_error error = {0};
    char *text = NULL, name[128];
    size_t size;
    fresh_source();
    CHECK_OK(save_one("first", &error));
    CHECK_TEXT(what_is_saved(), "first");
    strcat(saved, "//"); /* slashes at the end change nothing */
    CHECK_OK(save_one("second", &error));
    saved[strlen(saved) - 2] = '\0';
    CHECK_TEXT(what_is_saved(), "second");
    snprintf(name, sizeof name, "%s/config.json", saved);
    CHECK_OK(hn_file_read(&text, &size, name, 1000, &error));
    CHECK_TEXT(text, "{\n  \"layer_norm_eps\": 1e-12,\n  \"model_type\": \"bert\"\n}\n");
    hn_free(text);
    snprintf(name, sizeof name, "%s/training_notes.txt", saved);
    CHECK(!hn_path_exists(name));
    snprintf(name, sizeof name, "%s/.tmp-saved", base);
    CHECK(!hn_path_exists(name));
}

TEST(replaces_nothing_but_models)
{
    hn_error error = {0};
    char name[128];
    fresh_source();
    CHECK_OK(hn_folder_make(saved, &error));
    CHECK_OK(save_one("into an empty folder", &error));
    snprintf(name, sizeof name, "%s/thesis.tex", saved);
    CHECK_OK(hn_file_commit(name, "x", 1, &error));
    CHECK_INT(save_one("second", &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "holds \"thesis.tex\", which is not part of a model");
    CHECK(hn_path_exists(name));
    hn_error_reset(&error);
    hn_folder_remove(saved, NULL);
    CHECK_OK(hn_file_commit(saved, "x", 1, &error));
    CHECK_INT(save_one("over a file", &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, saved);
    unlink(saved);
}

static hn_file_hooks real;
static int calls, fail_at;

static bool must_fail(int code)
{
    errno = code;
    return ++calls == fail_at;
}

static ssize_t failing_write(int fd, const void *bytes, size_t size)
{
    return must_fail(ENOSPC) ? -1 : real.write(fd, bytes, size);
}

static int failing_fsync(int fd)
{
    return must_fail(EIO) ? -1 : real.fsync(fd);
}

static int failing_rename(const char *from, const char *to, unsigned flags)
{
    return must_fail(EACCES) ? -1 : real.rename(from, to, flags);
}

/* "new" into `saved`: from memory, or as the copy of a folder that was saved before. */
static hn_status save_new(bool copy, hn_error *error)
{
    char from[128];
    snprintf(from, sizeof from, "%s/new", base);
    return copy ? hn_folder_copy(saved, from, error) : save_one("new", error);
}

static void make_new(void)
{
    hn_error error = {0};
    strcpy(saved + strlen(base), "/new");
    CHECK_OK(hn_folder_remove(saved, &error));
    CHECK_OK(save_one("new", &error));
    strcpy(saved + strlen(base), "/saved");
}

static void fails_at_every_call(bool copy)
{
    hn_status status = HN_ERR_IO;
    int kept = 0;
    hn_error error = {0};
    fresh_source();
    make_new();
    real = hn_file_calls;
    for (fail_at = 1; status != HN_OK; fail_at++) {
        CHECK_OK(save_one("old", &error));
        calls = 0;
        hn_file_calls.write = failing_write;
        hn_file_calls.fsync = failing_fsync;
        hn_file_calls.rename = failing_rename;
        hn_error failure = {0};
        status = save_new(copy, &failure);
        hn_file_calls = real;
        const char *now = what_is_saved();
        if (strcmp(now, "old") && strcmp(now, "new")) TEST_FAIL("call %d: %s", fail_at, now);
        kept += !strcmp(now, "old");
    }
    CHECK(kept > 15);
    CHECK_TEXT(what_is_saved(), "new");
}

TEST(a_failed_save_leaves_old_or_new)
{
    fails_at_every_call(false);
    extras = 0;
    fails_at_every_call(true);
    extras = 1;
}

static void without_memory(bool copy)
{
    hn_status status = HN_ERR_MEMORY;
    hn_error error = {0};
    size_t nth;
    fresh_source();
    make_new();
    CHECK_OK(save_one("old", &error));
    for (nth = 1; status != HN_OK; nth++) {
        hn_error failure = {0};
        hn_mem_fail_at(nth);
        status = save_new(copy, &failure);
        hn_mem_fail_at(0);
        if (status != HN_OK && status != HN_ERR_MEMORY) TEST_FAIL("allocation %zu: %s", nth, failure.message);
        const char *now = what_is_saved();
        if (strcmp(now, "old") && strcmp(now, "new")) TEST_FAIL("allocation %zu: %s", nth, now);
    }
    CHECK_TEXT(what_is_saved(), "new");
    test_promise(copy ? "the n-th allocation fails, copying a model's folder" : "the n-th allocation fails, saving a model's folder", nth - 1, nth - 1);
}

TEST(out_of_memory_while_saving)
{
    without_memory(false);
    extras = 0;
    without_memory(true);
    extras = 1;
}

static void begin(void)
{
    hn_json_init();
    if (!mkdtemp(base)) abort();
    snprintf(model, sizeof model, "%s/model", base);
}

TEST_MAIN(begin(); RUN(opens_one_file); RUN(opens_shards); RUN(refuses_configs); RUN(refuses_indexes);
          RUN(refuses_a_tensor_in_two_shards); RUN(refuses_too_many_shards); RUN(opens_nothing_outside);
          RUN(copies_nothing_from_outside);
          RUN(opens_the_hub_cache); RUN(says_what_is_missing); RUN(out_of_memory_while_opening);
          RUN(saves_and_replaces); RUN(replaces_nothing_but_models); RUN(a_failed_save_leaves_old_or_new);
          RUN(out_of_memory_while_saving); hn_folder_free(tokenizer_folder);
          hn_folder_remove(base, NULL))
