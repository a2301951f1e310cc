/* The token cache: reused when nothing changed, made anew when anything did, never trusted when a byte is
 * damaged; the same batches as without it. */
#include "data/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <math.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/json.h"
#include "core/strbuf.h"
#include "data/cache_format.h"
#include "tests/data/toy_tokenizer.h"
#include "tests/test.h"

static const char *const names[] = {"yes", "no"};
static char folder[64], cache[96], csv[96], jsonl[96];
static hn_labels *labels;

static void put(const char *path, const char *text, size_t size)
{
    FILE *file = fopen(path, "w");
    if (!file || fwrite(text, 1, size, file) != size || fclose(file)) abort();
}

static void put_data(void)
{
    const char *table = "a,b,y\nhi you,me,yes\nab,,-1\nbad\nlong text is cut here,so it is,1\n";
    const char *lines = "{\"a\": \"#300\", \"b\": \"#25\", \"y\": 0}\n";
    put(csv, table, strlen(table));
    put(jsonl, lines, strlen(lines));
}

static void wipe_cache(void)
{
    hn_error error = {0};
    if (hn_path_exists(cache) && hn_folder_remove(cache, &error)) abort();
}

static int count_entries(void)
{
    DIR *d = opendir(cache);
    int count = 0;
    for (struct dirent *e; d && (e = readdir(d));) count += e->d_name[0] != '.' || strlen(e->d_name) > 2;
    if (d) closedir(d);
    return count;
}

static char *only_entry(void)
{
    static char path[400];
    DIR *d = opendir(cache);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.') snprintf(path, sizeof path, "%s/%s", cache, e->d_name);
    closedir(d);
    return path;
}

static hn_data_config config_of(void)
{
    return (hn_data_config){
        .text = "a", .pair = "b", .label = "y", .max_tokens = 8, .threads = 1, .on_bad_row = 1};
}

static hn_status open_with(hn_dataset **out, const hn_data_config *config, const hn_tokenizer *tokenizer,
                           const char *where, hn_error *error)
{
    const char *paths[] = {csv, jsonl};
    hn_list files = {paths, 2};
    *out = NULL;
    return hn_dataset_open(out, config, &files, tokenizer, &(hn_dataset_options){.labels = labels, .cache_folder = where}, error);
}

/* Opens through the cache and says whether it was used: 1 cached, 0 made, -1 failed. */
static int open_once(const hn_data_config *config, const hn_tokenizer *tokenizer, char note[512],
                     hn_error *error)
{
    hn_dataset *dataset;
    if (open_with(&dataset, config, tokenizer, cache, error)) return -1;
    int cached = hn_dataset_report(dataset)->cached;
    if (note) strcpy(note, hn_dataset_report(dataset)->note);
    hn_dataset_free(dataset);
    return cached;
}

/* All examples in one batch. */
static hn_digest digest_of_batch(const hn_dataset *dataset)
{
    hn_error error = {0};
    hn_batch_buffer buffer;
    uint32_t all[16];
    for (uint32_t i = 0; i < 16; i++) all[i] = i;
    if (hn_batch_buffer_init(&buffer, 200, 16, &error) ||
        hn_dataset_fill(dataset, &buffer, all, (int32_t)hn_dataset_count(dataset), &error))
        abort();
    hn_digest digest = hn_digest_bytes(buffer.memory, buffer.size);
    hn_batch_buffer_close(&buffer);
    return digest;
}

static void check_reuse(int32_t vocabulary)
{
    hn_tokenizer tokenizer = {.vocabulary = vocabulary, .digest = 1};
    hn_data_config config = config_of();
    hn_error error = {0};
    hn_dataset *plain, *made, *reused;
    wipe_cache();
    CHECK_OK(open_with(&plain, &config, &tokenizer, NULL, &error));
    CHECK_OK(open_with(&made, &config, &tokenizer, cache, &error));
    CHECK_OK(open_with(&reused, &config, &tokenizer, cache, &error));
    CHECK(!hn_dataset_report(made)->cached && hn_dataset_report(reused)->cached);
    CHECK_TEXT(hn_dataset_report(reused)->note, "");
    CHECK_INT(count_entries(), 1); /* nothing temporary is left */
    CHECK(hn_digest_equal(digest_of_batch(plain), digest_of_batch(made)));
    CHECK(hn_digest_equal(digest_of_batch(plain), digest_of_batch(reused)));
    CHECK(hn_digest_equal(hn_dataset_digest(plain), hn_dataset_digest(reused)));
    hn_data_report a = *hn_dataset_report(plain), b = *hn_dataset_report(reused);
    CHECK_INT(b.rows, 5);
    CHECK_INT(b.skipped, 1);
    CHECK_INT(b.truncated, 1);
    b.cached = a.cached;
    CHECK(!memcmp(&a, &b, sizeof a));
    const char *path;
    CHECK_INT(hn_dataset_line(reused, 2, &path), 1);
    CHECK_TEXT(path, jsonl);
    hn_dataset_free(plain);
    hn_dataset_free(made);
    hn_dataset_free(reused);
}

TEST(reused)
{
    check_reuse(400);
    check_reuse(70000);
}

TEST(other_key_other_file)
{
    hn_tokenizer tokenizer = {.vocabulary = 400, .digest = 1};
    hn_data_config config = config_of();
    hn_error error = {0};
    wipe_cache();
    CHECK_INT(open_once(&config, &tokenizer, NULL, &error), 0);
    tokenizer.digest = 2;
    CHECK_INT(open_once(&config, &tokenizer, NULL, &error), 0);
    config.max_tokens = 9;
    CHECK_INT(open_once(&config, &tokenizer, NULL, &error), 0);
    config.pair = NULL;
    CHECK_INT(open_once(&config, &tokenizer, NULL, &error), 0);
    CHECK_INT(count_entries(), 4);
    CHECK_INT(open_once(&config, &tokenizer, NULL, &error), 1);
    config = config_of();
    tokenizer.digest = 1;
    CHECK_INT(open_once(&config, &tokenizer, NULL, &error), 1);
}

/* Also when size and name stay the same. */
TEST(data_changed)
{
    hn_tokenizer tokenizer = {.vocabulary = 400, .digest = 1};
    hn_data_config config = config_of();
    hn_error error = {0};
    char note[512];
    wipe_cache();
    CHECK_INT(open_once(&config, &tokenizer, NULL, &error), 0);
    put(jsonl, "{\"a\": \"#301\", \"b\": \"#25\", \"y\": 0}\n", 35);
    CHECK_INT(open_once(&config, &tokenizer, note, &error), 0);
    CHECK_CONTAINS(note, "the data changed since the token cache was made; made anew");
    CHECK_INT(open_once(&config, &tokenizer, note, &error), 1);
    put_data();
    hn_dataset *dataset;
    CHECK_OK(open_with(&dataset, &config, &tokenizer, cache, &error));
    CHECK(!hn_dataset_report(dataset)->cached);
    hn_dataset_free(dataset);
    CHECK_INT(count_entries(), 1);
}

static hn_status load_task(hn_data_task task, hnp_sources *sources, hn_digest key, const char *path, hn_error *error)
{
    const hnp_cache_bounds bounds = {.vocabulary = 400, .longest = 8, .classes = 2};
    hn_dataset *dataset = hn_calloc(1, sizeof *dataset);
    dataset->file_count = sources->count;
    dataset->task = task;
    hn_status status = hnp_cache_load(dataset, sources, key, &bounds, path, error);
    hn_mapping_close(&dataset->mapping);
    hn_free(dataset);
    return status;
}

static hn_status load(hnp_sources *sources, hn_digest key, const char *path, hn_error *error)
{
    return load_task(HN_DATA_SEQUENCE, sources, key, path, error);
}

static hn_digest key_of(const char *path)
{
    hn_digest key = {0, 0};
    char text[HN_DIGEST_TEXT];
    snprintf(text, sizeof text, "%.32s", strstr(path, "tokens-") + 7);
    if (!hn_digest_parse(&key, text)) abort();
    return key;
}

/* A new cache of both files: its path, and its bytes (hn_free). */
static const char *make_cache(hnp_sources *sources, char **bytes, size_t *size)
{
    hn_tokenizer tokenizer = {.vocabulary = 400, .digest = 1};
    hn_data_config config = config_of();
    hn_error error = {0};
    const char *paths[] = {csv, jsonl};
    hn_list files = {paths, 2};
    wipe_cache();
    if (open_once(&config, &tokenizer, NULL, &error)) abort();
    const char *path = only_entry();
    if (hnp_sources_init(sources, &files, &error) || hn_file_read(bytes, size, path, 1 << 20, &error)) abort();
    return path;
}

/* Every byte flipped, and every length cut: never loaded. */
TEST(damage_anywhere)
{
    hn_tokenizer tokenizer = {.vocabulary = 400, .digest = 1};
    hn_data_config config = config_of();
    hn_error error = {0};
    hnp_sources sources;
    char *bytes = NULL, note[512], copy[128];
    size_t size;
    const char *path = make_cache(&sources, &bytes, &size);
    CHECK_OK(load(&sources, key_of(path), path, &error));
    snprintf(copy, sizeof copy, "%s/damaged.h5", folder);
    put(copy, bytes, size);
    int fd = open(copy, O_RDWR);
    for (size_t i = 0; i < size; i++) {
        char flipped = bytes[i] ^ (char)(1 << i % 8);
        if (pwrite(fd, &flipped, 1, (off_t)i) != 1) abort();
        error = (hn_error){0};
        if (load(&sources, key_of(path), copy, &error) != HN_ERR_MISMATCH)
            TEST_FAIL("byte %zu: %s", i, error.message);
        if (pwrite(fd, &bytes[i], 1, (off_t)i) != 1) abort();
    }
    error = (hn_error){0};
    CHECK_OK(load(&sources, key_of(path), copy, &error));
    CHECK_INT(load(&sources, (hn_digest){1, 2}, copy, &error), HN_ERR_MISMATCH);
    for (size_t cut = size; cut-- > 0;) {
        if (ftruncate(fd, (off_t)cut)) abort();
        error = (hn_error){0};
        if (load(&sources, key_of(path), copy, &error) != HN_ERR_MISMATCH)
            TEST_FAIL("cut at %zu: %s", cut, error.message);
    }
    close(fd);
    bytes[size / 2] ^= 4;
    put(path, bytes, size); /* a run makes it anew and says so */
    error = (hn_error){0};
    CHECK_INT(open_once(&config, &tokenizer, note, &error), 0);
    CHECK_CONTAINS(note, "the token cache is damaged; made anew");
    CHECK_INT(open_once(&config, &tokenizer, note, &error), 1);
    hn_free(bytes);
    hnp_sources_close(&sources);
}

/* The file of these bytes with the header that belongs to them. */
static void put_signed(const char *path, char *bytes, size_t size)
{
    char header[HNP_CACHE_HEADER];
    hnp_cache_header(header, (unsigned char *)bytes + HNP_CACHE_HEADER, size - HNP_CACHE_HEADER);
    memcpy(bytes, header, sizeof header);
    unlink(path); /* some file systems write a file that is cut to nothing at once */
    put(path, bytes, size);
}

static int no_fsync(int fd)
{
    (void)fd;
    return 0;
}

/* Where a column's items are in the file. */
static size_t place_of(const char *path, int column)
{
    hn_mapping map;
    hn_hdf5 file;
    uint64_t offset;
    hn_tensor shape = hn_tensor_1d(NULL, hnp_cache_column_type(column, false), HN_HDF5_ANY);
    if (hn_mapping_open(&map, path, NULL) || hn_hdf5_open(&file, &map, HNP_CACHE_HEADER, HNP_COLUMNS + 1, path, NULL) ||
        hn_hdf5_find(&offset, &shape, &file, "column", hnp_cache_column_name(column), NULL))
        abort();
    hn_hdf5_close(&file);
    hn_mapping_close(&map);
    return offset;
}

/* Caches with right digests and one item that no encoder writes: each would be an address outside of some table. */
TEST(items_out_of_bounds)
{
#define ITEM(type, ...) &(type){__VA_ARGS__}, sizeof(type)
    const struct {
        int column, index;
        const void *item;
        size_t size;
    } cases[] = {
        {HNP_TOKENS, 3, ITEM(uint16_t, 400)},          {HNP_TOKENS, 0, ITEM(uint16_t, 65535)},
        {HNP_OFFSETS, 0, ITEM(int64_t, 1)},            {HNP_OFFSETS, 1, ITEM(int64_t, -1)},
        {HNP_OFFSETS, 1, ITEM(int64_t, 0)},            {HNP_OFFSETS, 1, ITEM(int64_t, INT64_MAX)},
        {HNP_OFFSETS, 1, ITEM(int64_t, INT64_MIN)},    {HNP_OFFSETS, 1, ITEM(int64_t, 9)},
        {HNP_OFFSETS, 3, ITEM(int64_t, INT64_MAX)},    {HNP_SEGMENT, 0, ITEM(int32_t, -1)},
        {HNP_SEGMENT, 1, ITEM(int32_t, 9)},            {HNP_LABELS, 0, ITEM(int32_t, 2)},
        {HNP_LABELS, 2, ITEM(int32_t, -1)},            {HNP_LABELS, 1, ITEM(int32_t, HN_NO_TARGET)},
        {HNP_VALUES, 1, ITEM(float, NAN)},             {HNP_VALUES, 2, ITEM(float, INFINITY)},
        {HNP_LINES, 0, ITEM(int64_t, INT64_MIN)},      {HNP_FIRST, 0, ITEM(int64_t, 1)},
        {HNP_FIRST, 1, ITEM(int64_t, 4)},              {HNP_FIRST, 2, ITEM(int64_t, 4)},
    };
    hn_tokenizer tokenizer = {.vocabulary = 400, .digest = 1};
    hn_data_config config = config_of();
    hn_error error = {0};
    hn_file_hooks before_hooks = hn_file_calls;
    char *bytes = NULL, note[512];
    size_t size;
    hn_file_calls.fsync = no_fsync; /* forty caches are made here */
    wipe_cache();
    CHECK_INT(open_once(&config, &tokenizer, NULL, &error), 0);
    const char *path = only_entry();
    CHECK_OK(hn_file_read(&bytes, &size, path, 1 << 20, &error));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char before[8], *item = bytes + place_of(path, cases[i].column) + (size_t)cases[i].index * cases[i].size;
        memcpy(before, item, cases[i].size);
        memcpy(item, cases[i].item, cases[i].size);
        put_signed(path, bytes, size);
        memcpy(item, before, cases[i].size);
        if (open_once(&config, &tokenizer, note, &error)) TEST_FAIL("case %zu was used", i);
        CHECK_CONTAINS(note, "the columns of the token cache do not fit each other, the tokenizer or the labels; made anew");
        CHECK_INT(open_once(&config, &tokenizer, note, &error), 1);
    }
    hn_file_calls = before_hooks;
    hn_free(bytes);
}

/* One example of four tokens in a cache of the task; what loading it says. */
static hn_status load_marks(hn_data_task task, const uint16_t marks[4])
{
    static const uint16_t ids[4] = {1, 2, 3, 4};
    static const int64_t offsets[] = {0, 4}, first[] = {0, 1, 1}, line = 1;
    static const int32_t segment = 4, label = HN_NO_TARGET;
    static const float value = 0;
    const void *const items[] = {ids, marks, offsets, &segment, &label, &value, &line, first};
    const size_t counts[] = {4, 4, 2, 1, 1, 1, 1, 3};
    const char *paths[] = {csv, jsonl};
    hn_list files = {paths, 2};
    hnp_sources sources;
    hn_error error = {0};
    char path[128];
    hn_dataset *dataset = hn_calloc(1, sizeof *dataset);
    snprintf(path, sizeof path, "%s/marks.h5", folder);
    if (hnp_sources_init(&sources, &files, &error) || hnp_sources_digest(&sources, &error) ||
        hnp_columns_init(&dataset->columns, false, folder, &error))
        abort();
    for (int i = 0; i < HNP_COLUMNS; i++)
        if (hnp_column_add(&dataset->columns.column[i], items[i], counts[i], &error)) abort();
    hn_status status = hnp_cache_save(dataset, &sources, (hn_digest){3, 4}, path, &error);
    hnp_columns_close(&dataset->columns);
    hn_free(dataset);
    if (!status) status = load_task(task, &sources, (hn_digest){3, 4}, path, &error);
    hnp_sources_close(&sources);
    return status;
}

/* Marks are the numbers of tags, or say yes and no; where nothing is marked there is nothing to learn. */
TEST(marks_out_of_bounds)
{
    CHECK_INT(load_marks(HN_DATA_TAGS, (uint16_t[]){0, 1, 2, 0}), HN_OK);
    CHECK_INT(load_marks(HN_DATA_TAGS, (uint16_t[]){2, 0, 0, 0}), HN_OK);
    CHECK_INT(load_marks(HN_DATA_TAGS, (uint16_t[]){0, 1, 3, 0}), HN_ERR_MISMATCH);
    CHECK_INT(load_marks(HN_DATA_TAGS, (uint16_t[]){0, 0, 0, 0}), HN_ERR_MISMATCH);
    CHECK_INT(load_marks(HN_DATA_INSTRUCT, (uint16_t[]){0, 1, 0, 1}), HN_OK);
    CHECK_INT(load_marks(HN_DATA_INSTRUCT, (uint16_t[]){0, 1, 2, 0}), HN_ERR_MISMATCH);
    CHECK_INT(load_marks(HN_DATA_INSTRUCT, (uint16_t[]){1, 0, 0, 0}), HN_ERR_MISMATCH);
    CHECK_INT(load_marks(HN_DATA_TEXT, (uint16_t[]){1, 0, 0, 0}), HN_ERR_MISMATCH);
}

/* Every bit of a byte in the structures, with right digests: the same examples, or made anew. */
TEST(structures_changed)
{
    hn_error error = {0};
    hnp_sources sources;
    char *bytes = NULL, copy[128];
    size_t size, used = 0, refused = 0;
    const char *path = make_cache(&sources, &bytes, &size);
    snprintf(copy, sizeof copy, "%s/changed.h5", folder);
    for (size_t i = HNP_CACHE_HEADER; i < size; i++) {
        error = (hn_error){0};
        bytes[i] ^= (char)(1 << i % 8);
        put_signed(copy, bytes, size);
        bytes[i] ^= (char)(1 << i % 8);
        hn_status status = load(&sources, key_of(path), copy, &error);
        if (status && status != HN_ERR_MISMATCH) TEST_FAIL("byte %zu: %s", i, error.message);
        used += !status;
        refused += status != HN_OK;
    }
    hnp_sources_close(&sources);
    hn_free(bytes);
    CHECK(used > 0 && refused > 500);
}

/* A cache with the right digests whose column is a link: links lead to other files, so none is followed. */
TEST(links_are_not_followed)
{
    hn_tokenizer tokenizer = {.vocabulary = 400, .digest = 1};
    hn_data_config config = config_of();
    hn_error error = {0};
    char *bytes = NULL, note[512];
    size_t size;
    wipe_cache();
    CHECK_INT(open_once(&config, &tokenizer, NULL, &error), 0);
    const char *path = only_entry(), *name = hnp_cache_column_name(HNP_LINES);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    CHECK(file >= 0);
    CHECK(H5Lmove(file, name, file, "else", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    CHECK(H5Lcreate_soft("/else", file, name, H5P_DEFAULT, H5P_DEFAULT) >= 0);
    CHECK(H5Fclose(file) >= 0);
    CHECK_OK(hn_file_read(&bytes, &size, path, 1 << 20, &error));
    put_signed(path, bytes, size);
    CHECK_INT(open_once(&config, &tokenizer, note, &error), 0);
    CHECK_CONTAINS(note, "expected 9 datasets, got 10 links or more; made anew");
    CHECK_INT(open_once(&config, &tokenizer, note, &error), 1);
    path = only_entry();
    file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    CHECK(file >= 0);
    CHECK(H5Ldelete(file, name, H5P_DEFAULT) >= 0);
    CHECK(H5Lcreate_soft("/tokens", file, name, H5P_DEFAULT, H5P_DEFAULT) >= 0);
    CHECK(H5Fclose(file) >= 0);
    hn_free(bytes);
    CHECK_OK(hn_file_read(&bytes, &size, path, 1 << 20, &error));
    put_signed(path, bytes, size);
    CHECK_INT(open_once(&config, &tokenizer, note, &error), 0);
    CHECK_CONTAINS(note, "column \"line\": expected a dataset, got a link to elsewhere; made anew");
    hn_free(bytes);
}

/* A settled stamp that is the same is believed; one that is not settled is not. */
TEST(stamps)
{
    hn_tokenizer tokenizer = {.vocabulary = 400, .digest = 1};
    hn_data_config config = config_of();
    hn_error error = {0};
    const char *paths[] = {csv, jsonl};
    hn_list files = {paths, 2};
    char path[128];
    snprintf(path, sizeof path, "%s/stamped.h5", folder);
    for (int settled = 0; settled < 2; settled++) {
        hn_dataset *dataset;
        hnp_sources sources;
        hn_digest key = {5, 6}, wrong = {7, 8};
        CHECK_OK(open_with(&dataset, &config, &tokenizer, NULL, &error));
        CHECK_OK(hnp_sources_init(&sources, &files, &error));
        for (int i = 0; i < 2; i++) {
            sources.files[i].digest = wrong;
            sources.files[i].settled = settled;
        }
        CHECK_OK(hnp_cache_save(dataset, &sources, key, path, &error));
        hn_error miss = {0};
        CHECK_INT(load(&sources, key, path, &miss), settled ? HN_OK : HN_ERR_MISMATCH);
        CHECK_INT(hn_digest_equal(sources.files[0].digest, wrong), settled);
        sources.files[1].stamp.inode++;
        CHECK_INT(load(&sources, key, path, &miss), HN_ERR_MISMATCH);
        hnp_sources_close(&sources);
        hn_dataset_free(dataset);
    }
}

static int failing_rename(const char *from, const char *to, unsigned flags)
{
    (void)from;
    (void)to;
    (void)flags;
    errno = EIO;
    return -1;
}

static int failing_fsync(int fd)
{
    (void)fd;
    errno = EIO;
    return -1;
}

static ssize_t full_disk(int fd, const void *bytes, size_t size)
{
    (void)fd;
    (void)bytes;
    (void)size;
    errno = ENOSPC;
    return -1;
}

static int write_calls, fail_write_at;
static ssize_t failing_write(int fd, const void *bytes, size_t size)
{
    if (++write_calls < fail_write_at) return write(fd, bytes, size);
    errno = EDQUOT;
    return -1;
}

/* A failing disk is an error, leaves no file, and is over when it is over. */
TEST(disk_failures)
{
    hn_tokenizer tokenizer = {.vocabulary = 400, .digest = 1};
    hn_data_config config = config_of();
    hn_file_hooks before = hn_file_calls;
    for (int i = 0; i < 3; i++) {
        hn_error error = {0};
        wipe_cache();
        CHECK_OK(hn_folder_make(cache, &error));
        if (i == 0) hn_file_calls.rename = failing_rename;
        if (i == 1) hn_file_calls.fsync = failing_fsync;
        if (i == 2) hn_file_calls.write = full_disk;
        int cached = open_once(&config, &tokenizer, NULL, &error);
        hn_file_calls = before;
        CHECK_INT(cached, -1);
        CHECK_INT(error.status, HN_ERR_IO);
        CHECK_INT(count_entries(), 0);
        error = (hn_error){0};
        CHECK_INT(open_once(&config, &tokenizer, NULL, &error), 0);
    }
}

/* Several processes at once: one makes it, the others wait and use it. */
/* From the n-th write on, HDF5's among them, whatever n is. */
TEST(every_write_fails)
{
    hn_tokenizer tokenizer = {.vocabulary = 400, .digest = 1};
    hn_data_config config = config_of();
    hn_file_hooks before = hn_file_calls;
    int cached = -1;
    for (fail_write_at = 1; cached < 0; fail_write_at++) {
        hn_error error = {0};
        wipe_cache();
        CHECK_OK(hn_folder_make(cache, &error));
        write_calls = 0;
        hn_file_calls.write = failing_write;
        cached = open_once(&config, &tokenizer, NULL, &error);
        hn_file_calls = before;
        if (cached >= 0) break;
        CHECK_INT(error.status, HN_ERR_IO);
        CHECK_CONTAINS(error.message, cache);
        CHECK_CONTAINS(error.message, "Disk quota exceeded");
        CHECK_CONTAINS(error.message, "data.cache=off");
        CHECK_INT(count_entries(), 0);
    }
    CHECK(fail_write_at > 20);
}

TEST(processes)
{
    hn_tokenizer tokenizer = {.vocabulary = 400, .digest = 1};
    hn_data_config config = config_of();
    wipe_cache();
    pid_t children[4];
    int made = 0;
    for (int i = 0; i < 4; i++) {
        children[i] = fork();
        if (children[i]) continue;
        hn_error error = {0};
        _exit(open_once(&config, &tokenizer, NULL, &error) + 1);
    }
    for (int i = 0; i < 4; i++) {
        int status;
        waitpid(children[i], &status, 0);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) > 0);
        made += WEXITSTATUS(status) == 1;
    }
    CHECK_INT(made, 1);
    CHECK_INT(count_entries(), 1);
}

/* 40,000 rows, several blocks of every kind. */
TEST(larger_than_a_block)
{
    hn_tokenizer tokenizer = {.vocabulary = 70000, .digest = 1};
    hn_data_config config = config_of();
    hn_error error = {0};
    hn_strbuf text;
    hn_strbuf_init(&text);
    hn_strbuf_puts(&text, "a,b,y\n");
    for (int i = 0; i < 40000; i++) hn_strbuf_printf(&text, "#%d w w w w,#%d,%d\n", i, i + 1, i % 2);
    put(csv, text.text, text.length);
    hn_strbuf_close(&text);
    hn_dataset *plain, *made;
    wipe_cache();
    config.max_tokens = 512;
    CHECK_OK(open_with(&plain, &config, &tokenizer, NULL, &error));
    config.threads = 3;
    CHECK_OK(open_with(&made, &config, &tokenizer, cache, &error));
    CHECK_INT(made->count, 40001);
    size_t n = (size_t)made->count, tokens = (size_t)hn_dataset_tokens(made);
    CHECK(!memcmp(plain->tokens, made->tokens, tokens * 4));
    CHECK(!memcmp(plain->offsets, made->offsets, (n + 1) * 8));
    CHECK(!memcmp(plain->segment, made->segment, n * 4));
    CHECK(!memcmp(plain->label, made->label, n * 4));
    CHECK(!memcmp(plain->value, made->value, n * 4));
    CHECK(!memcmp(plain->line, made->line, n * 8));
    hn_dataset_free(plain);
    hn_dataset_free(made);
    put_data();
}

TEST(memory_failures)
{
    hn_tokenizer tokenizer = {.vocabulary = 400, .digest = 1};
    hn_data_config config = config_of();
    hn_file_hooks before = hn_file_calls;
    hn_file_calls.fsync = no_fsync; /* a hundred caches are made here */
    for (int warm = 0; warm < 2; warm++) {
        int cached = -1;
        size_t nth = 1;
        for (; cached < 0 && nth < 500; nth++) {
            hn_error error = {0};
            if (!warm) wipe_cache();
            hn_mem_fail_at(nth);
            cached = open_once(&config, &tokenizer, NULL, &error);
            hn_mem_fail_at(0);
            if (cached < 0) CHECK_INT(error.status, HN_ERR_MEMORY);
        }
        CHECK_INT(cached, warm);
        CHECK(nth > 20);
    }
    hn_file_calls = before;
}

int main(void)
{
    hn_json_init();
    hn_error error = {0};
    hn_labels_options options = {.names = names, .count = 2};
    strcpy(folder, "/tmp/hone-cache-XXXXXX");
    if (!mkdtemp(folder) || hn_labels_open(&labels, &options, &error)) return 1;
    snprintf(cache, sizeof cache, "%s/deep/cache", folder);
    snprintf(csv, sizeof csv, "%s/data.csv", folder);
    snprintf(jsonl, sizeof jsonl, "%s/data.jsonl", folder);
    put_data();
    RUN(reused);
    RUN(other_key_other_file);
    RUN(data_changed);
    RUN(damage_anywhere);
    RUN(items_out_of_bounds);
    RUN(marks_out_of_bounds);
    RUN(structures_changed);
    RUN(links_are_not_followed);
    RUN(stamps);
    RUN(disk_failures); RUN(every_write_fails);
    RUN(processes);
    RUN(larger_than_a_block);
    RUN(memory_failures);
    hn_labels_free(labels);
    if (hn_folder_remove(folder, &error)) return 1;
    printf("%d tests, %d failures\n", test_ran, test_failures);
    return test_failures || !test_ran;
}
