/* See trunk_cache.h. HDF5 makes the file, with its datasets allocated at once and contiguous; afterwards hone reads and writes
 * them in place with pread and pwrite, so that nothing is held in memory and no call waits for HDF5's lock. HDF5 never opens a file
 * that is there: it does not stand those that somebody made (core/hdf5_structure.h reads them).
 *
 * The seal vouches for the structures, so that rows are where they were written; rows change, and each example's have their own digest.
 * That digest is written after the rows. A crash between the two leaves zeros or a digest that does not fit: both are "not
 * there". */
#include "train/trunk_cache.h"

#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/hdf5_lock.h"
#include "core/hdf5_sink.h"
#include "core/hdf5_structure.h"
#include "core/mem.h"
#include "core/staging.h"

enum { KEY, DIGEST, OUTPUT, SETS };
static const char *const names[SETS] = {"key", "digest", "output"};
#define MOST_STRUCTURE ((uint64_t)65536) /* bytes of a file of three datasets that belong to none of them */

/* What the dataset "key" holds. */
typedef struct head {
    hn_digest key, seal;
} head;

/* A dataset's bytes in the file. */
typedef struct extent {
    uint64_t at, size;
} extent;

struct hn_trunk_cache {
    int file;
    hn_digest key;
    int64_t *first_row; /* [examples + 1] */
    int64_t examples;   /* that fit the budget; later ones are not kept */
    size_t row_bytes;
    bool first_only, broken;
    uint64_t output_offset, digest_offset;
    hn_backend *backend;
    hn_staging staging; /* of a slice's rows; none where the backend's memory is the host's */
    bool damaged;       /* an example's rows had another digest; said once */
    bool noted;         /* `note` is to be said */
    char note[640], path[512]; /* path: for the note */
};

static bool transfer(int file, void *bytes, size_t size, uint64_t offset, bool write)
{
    unsigned char *at = bytes;
    while (size) {
        ssize_t moved = write ? pwrite(file, at, size, (off_t)offset) : pread(file, at, size, (off_t)offset);
        if (moved <= 0) return false;
        at += moved;
        offset += (uint64_t)moved;
        size -= (size_t)moved;
    }
    return true;
}

static uint64_t size_of(const hn_trunk_cache *cache, int set)
{
    if (set == KEY) return sizeof(head);
    return set == DIGEST ? (uint64_t)cache->examples * sizeof(hn_digest) : (uint64_t)cache->first_row[cache->examples] * cache->row_bytes;
}

static hn_status find_sets(extent sets[SETS], const hn_mapping *map, const char *path, hn_error *error)
{
    hn_hdf5 file;
    uint64_t inside = 0;
    hn_status status = hn_hdf5_open(&file, map, 0, SETS, path, error);
    if (status != HN_OK) return status;
    for (int i = 0; i < SETS && status == HN_OK; i++) {
        hn_tensor shape = hn_tensor_1d(NULL, HN_U8, HN_HDF5_ANY);
        status = hn_hdf5_find(&sets[i].at, &shape, &file, "dataset", names[i], error);
        sets[i].size = (uint64_t)shape.shape[0];
        if (status == HN_OK && !sets[i].size) status = hn_fail(error, HN_ERR_FORMAT, "%s: a dataset of the trunk cache is empty", path);
        if (status == HN_OK) inside += sets[i].size;
    }
    hn_hdf5_close(&file);
    if (status == HN_OK && (sets[KEY].size != sizeof(head) || inside > map->size || map->size - inside > MOST_STRUCTURE))
        status = hn_fail(error, HN_ERR_FORMAT, "%s: the datasets of the trunk cache have other sizes", path);
    return status;
}

/* The seal of a file as it is. Datasets that overlap are an error. */
static hn_status seal_of(hn_digest *out, hn_digest key, const hn_mapping *map, const extent sets[SETS], const char *path, hn_error *error)
{
    int passed = 0;
    hn_hasher *hasher = hn_hasher_open();
    if (!hasher) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the trunk cache");
    hn_hasher_add(hasher, &key, sizeof key);
    for (uint64_t at = 0, next, end; at < map->size; at = end) {
        next = end = map->size;
        for (int i = 0; i < SETS; i++)
            if (sets[i].at >= at && sets[i].at < next) next = sets[i].at, end = next + sets[i].size;
        hn_hasher_add(hasher, map->bytes + at, next - at);
        passed += next < map->size;
    }
    *out = hn_hasher_digest(hasher);
    hn_hasher_free(hasher);
    return passed == SETS ? HN_OK : hn_fail(error, HN_ERR_FORMAT, "%s: the datasets of the trunk cache overlap", path);
}

/* Whether the mapped file is whole and of this key and these sizes; then its offsets. HN_ERR_MISMATCH: whole, of another key. */
static hn_status check_map(hn_trunk_cache *cache, const hn_mapping *map, const char *path, hn_error *error)
{
    extent sets[SETS];
    head saved;
    hn_digest seal;
    hn_status status = find_sets(sets, map, path, error);
    if (status != HN_OK) return status;
    memcpy(&saved, map->bytes + sets[KEY].at, sizeof saved);
    status = seal_of(&seal, saved.key, map, sets, path, error);
    if (status != HN_OK) return status;
    if (!hn_mapping_intact(map) || !hn_digest_equal(seal, saved.seal))
        return hn_fail(error, HN_ERR_FORMAT, "%s: the trunk cache is damaged", path);
    if (!hn_digest_equal(saved.key, cache->key)) return hn_fail(error, HN_ERR_MISMATCH, "%s: the trunk cache has another key", path);
    if (sets[DIGEST].size != size_of(cache, DIGEST) || sets[OUTPUT].size != size_of(cache, OUTPUT))
        return hn_fail(error, HN_ERR_MISMATCH, "%s: the trunk cache has another size", path);
    cache->output_offset = sets[OUTPUT].at;
    cache->digest_offset = sets[DIGEST].at;
    return HN_OK;
}

/* Opens the file that is there when it is this cache. */
static hn_status open_file(hn_trunk_cache *cache, const char *path, hn_error *error)
{
    hn_mapping map;
    int file = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0) return hn_fail_errno(error, "%s: cannot open the trunk cache", path);
    hn_status status = hn_mapping_open(&map, path, error);
    if (status == HN_OK) {
        status = check_map(cache, &map, path, error);
        hn_mapping_close(&map);
    }
    if (status == HN_OK) cache->file = file;
    else close(file);
    return status;
}

/* One contiguous dataset of bytes, allocated now; its fill value (zero) is not written for the output. */
static bool make_dataset(hid_t file, const char *name, hsize_t bytes, bool fill)
{
    hid_t space = H5Screate_simple(1, &bytes, NULL), options = H5Pcreate(H5P_DATASET_CREATE), set = -1;
    if (space >= 0 && options >= 0 && H5Pset_layout(options, H5D_CONTIGUOUS) >= 0 &&
        H5Pset_alloc_time(options, H5D_ALLOC_TIME_EARLY) >= 0 &&
        H5Pset_fill_time(options, fill ? H5D_FILL_TIME_ALLOC : H5D_FILL_TIME_NEVER) >= 0)
        set = H5Dcreate2(file, name, H5T_STD_U8LE, space, H5P_DEFAULT, options, H5P_DEFAULT);
    bool made = set >= 0;
    if (set >= 0) made = H5Dclose(set) >= 0;
    if (options >= 0) H5Pclose(options);
    if (space >= 0) H5Sclose(space);
    return made;
}

static bool make_file(const hn_trunk_cache *cache, const char *path)
{
    hn_hdf5_sink sink = {.path = path};
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), file = -1;
    if (access >= 0 && hn_hdf5_sink_use(access, &sink)) file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    if (access >= 0) H5Pclose(access);
    if (file < 0) return false;
    bool made = true;
    for (int i = 0; i < SETS && made; i++) made = make_dataset(file, names[i], size_of(cache, i), i != OUTPUT);
    return H5Fclose(file) >= 0 && made && !sink.error.status;
}

/* Writes the key and the seal into a new file. */
static bool seal_file(const hn_trunk_cache *cache, const char *path)
{
    hn_mapping map;
    extent sets[SETS];
    head now = {.key = cache->key};
    if (hn_mapping_open(&map, path, NULL) != HN_OK) return false;
    bool sealed = find_sets(sets, &map, path, NULL) == HN_OK && seal_of(&now.seal, now.key, &map, sets, path, NULL) == HN_OK;
    hn_mapping_close(&map);
    int file = sealed ? open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    sealed = file >= 0 && transfer(file, &now, sizeof now, sets[KEY].at, true);
    if (file >= 0) close(file);
    return sealed;
}

/* A new file in the place of whatever is there, which may be a link to somewhere else. A checkpoint may be written at the same time. */
static bool make_anew(hn_trunk_cache *cache, const char *path)
{
    unlink(path);
    hn_hdf5_enter();
    H5dont_atexit(); /* its clean-up at exit can crash after a disk was full */
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    bool made = make_file(cache, path);
    hn_hdf5_leave();
    return made && seal_file(cache, path) && open_file(cache, path, NULL) == HN_OK;
}

/* The file that is there, or a new one. */
static hn_status find_or_make(hn_trunk_cache *cache, const char *path, hn_error *error)
{
    hn_error why = {0};
    hn_status status = hn_path_exists(path) ? open_file(cache, path, &why) : HN_ERR_MISMATCH;
    if (status == HN_ERR_MEMORY) return hn_fail(error, status, "%s", why.message);
    if (status != HN_OK && !make_anew(cache, path))
        return hn_fail(error, HN_ERR_IO, "%s: the trunk cache could not be made (freeze.cache_budget or the disk's "
                       "space may be too small; freeze.cache=false does without)", path);
    cache->noted = status != HN_OK && status != HN_ERR_MISMATCH;
    snprintf(cache->note, sizeof cache->note, "%.500s; made anew", why.message);
    snprintf(cache->path, sizeof cache->path, "%s", path);
    return HN_OK;
}

/* first_row, and how many examples fit the budget. */
static void lay_out(hn_trunk_cache *cache, const hn_dataset *dataset, uint64_t budget)
{
    int64_t count = hn_dataset_count(dataset);
    for (int64_t e = 0; e < count; e++) {
        int64_t rows = cache->first_only ? 1 : hn_dataset_length(dataset, e);
        if ((uint64_t)(cache->first_row[e] + rows) * cache->row_bytes > budget) break;
        cache->first_row[e + 1] = cache->first_row[e] + rows;
        cache->examples = e + 1;
    }
}

hn_status hn_trunk_cache_open(hn_trunk_cache **out, const char *path, hn_digest key, const hn_dataset *dataset,
                              const hn_tensor *buffer, hn_backend *backend, bool first_only, uint64_t budget, hn_error *error)
{
    hn_status status = HN_OK;
    hn_trunk_cache *cache = hn_calloc(1, sizeof *cache);
    if (!cache) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the trunk cache");
    cache->file = -1;
    cache->key = key;
    cache->first_only = first_only;
    cache->backend = backend;
    cache->row_bytes = (size_t)buffer->shape[1] * hn_dtype_size(buffer->dtype);
    cache->first_row = hn_calloc((size_t)hn_dataset_count(dataset) + 1, sizeof *cache->first_row);
    if (!cache->first_row) {
        status = hn_fail(error, HN_ERR_MEMORY, "out of memory for the trunk cache");
        goto out;
    }
    lay_out(cache, dataset, budget);
    if (!backend->host) status = hn_staging_alloc(&cache->staging, backend, 1, hn_tensor_bytes(buffer), error);
    if (status != HN_OK) goto out;
    if (!cache->examples) goto out; /* the budget holds none: everything is computed each time */
    status = find_or_make(cache, path, error);
out:
    if (status == HN_OK) *out = cache;
    else hn_trunk_cache_free(cache);
    return status;
}

void hn_trunk_cache_free(hn_trunk_cache *cache)
{
    if (!cache) return;
    if (cache->file >= 0) close(cache->file);
    hn_staging_close(&cache->staging);
    hn_free(cache->first_row);
    hn_free(cache);
}

hn_tensor hn_trunk_cache_view(const hn_trunk_cache *cache, const hn_tensor *buffer, const hn_batch *batch)
{
    return hn_tensor_rows(buffer, 0, cache->first_only ? batch->n : batch->tokens);
}

const char *hn_trunk_cache_note(hn_trunk_cache *cache)
{
    bool noted = cache->noted;
    cache->noted = false;
    return noted ? cache->note : NULL;
}

static size_t example_bytes(const hn_trunk_cache *cache, uint32_t example)
{
    return (size_t)(cache->first_row[example + 1] - cache->first_row[example]) * cache->row_bytes;
}

/* Where the host reads or writes rows that go to or come from `rows`; NULL: the device has failed. */
static unsigned char *host_rows(hn_trunk_cache *cache, const hn_tensor *rows)
{
    void *slot;
    hn_error ignored = {0}; /* it comes again when the step is read */
    if (cache->backend->host) return rows->data;
    return hn_staging_take(&cache->staging, &slot, &ignored) == HN_OK ? slot : NULL;
}

/* One example's rows, when they are there and whole. */
static bool get_example(hn_trunk_cache *cache, unsigned char *at, uint32_t e, size_t size)
{
    hn_digest saved, none = {0, 0};
    if (!transfer(cache->file, &saved, sizeof saved, cache->digest_offset + e * sizeof saved, false) || hn_digest_equal(saved, none))
        return false;
    if (transfer(cache->file, at, size, cache->output_offset + (uint64_t)cache->first_row[e] * cache->row_bytes, false) &&
        hn_digest_equal(saved, hn_digest_bytes(at, size)))
        return true;
    if (!cache->damaged) {
        snprintf(cache->note, sizeof cache->note, "%s: the trunk cache is damaged at example %u; computed again, as is all that is damaged",
                 cache->path, (unsigned)e);
        cache->damaged = cache->noted = true;
    }
    return false;
}

bool hn_trunk_cache_get(hn_trunk_cache *cache, const hn_tensor *rows, const uint32_t *examples, int32_t count)
{
    unsigned char *first = host_rows(cache, rows), *at = first;
    for (int32_t i = 0; first && i < count; i++) {
        if (examples[i] >= cache->examples) return false;
        size_t size = example_bytes(cache, examples[i]);
        if (!get_example(cache, at, examples[i], size)) return false;
        at += size;
    }
    if (!first) return false;
    if (cache->backend->host) return true;
    cache->backend->copy_in(cache->backend, rows->data, first, (size_t)(at - first));
    hn_staging_mark(&cache->staging);
    return true;
}

/* The rows of a slice on the host; NULL: the device has failed. */
static unsigned char *fetch_rows(hn_trunk_cache *cache, const hn_tensor *rows, size_t size)
{
    void *slot;
    hn_error ignored = {0};
    unsigned char *first = host_rows(cache, rows);
    if (!first || cache->backend->host) return first;
    cache->backend->copy_out(cache->backend, first, rows->data, size);
    hn_staging_mark(&cache->staging);
    return hn_staging_wait(&cache->staging, 0, &slot, &ignored) == HN_OK ? slot : NULL;
}

void hn_trunk_cache_put(hn_trunk_cache *cache, const hn_tensor *rows, const uint32_t *examples, int32_t count)
{
    int32_t kept = 0;
    size_t total = 0;
    while (kept < count && examples[kept] < cache->examples) /* behind one that is not kept the batch can never be read back whole */
        total += example_bytes(cache, examples[kept++]);
    unsigned char *at = kept && !cache->broken ? fetch_rows(cache, rows, total) : NULL;
    for (int32_t i = 0; at && i < kept && !cache->broken; i++) {
        uint32_t e = examples[i];
        size_t size = example_bytes(cache, e);
        hn_digest digest = hn_digest_bytes(at, size);
        cache->broken = !transfer(cache->file, at, size,
                                  cache->output_offset + (uint64_t)cache->first_row[e] * cache->row_bytes, true) ||
                        !transfer(cache->file, &digest, sizeof digest, cache->digest_offset + e * sizeof digest, true);
        at += size;
    }
}
