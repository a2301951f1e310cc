/* See trunk_cache.h. HDF5 makes the file, with both datasets allocated at once and contiguous; afterwards hone reads and writes
 * them in place with pread and pwrite, so that nothing is held in memory and no call waits for HDF5's lock.
 *
 *     /output  [rows, C]       at output_offset      /digest  [examples, 2] u64   at digest_offset
 *     attribute of the root: key (32 hexadecimal digits)
 *
 * The digest is written after the rows. A crash between the two leaves zeros or a digest that does not fit: both are "not
 * there". */
#include "train/trunk_cache.h"

#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/hdf5_lock.h"
#include "core/hdf5_sink.h"
#include "core/mem.h"
#include "core/staging.h"

struct hn_trunk_cache {
    int file;
    int64_t *first_row; /* [examples + 1] */
    int64_t examples;   /* that fit the budget; later ones are not kept */
    size_t row_bytes;
    bool first_only, broken;
    uint64_t output_offset, digest_offset;
    hn_backend *backend;
    hn_staging staging; /* of a slice's rows; none where the backend's memory is the host's */
};

/* Whether `path` is a cache of this key and these sizes; then its offsets. */
static bool offsets_of(hn_trunk_cache *cache, const char *path, const char *key)
{
    char saved[HN_DIGEST_TEXT] = "";
    haddr_t output = HADDR_UNDEF, digest = HADDR_UNDEF;
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), attribute = -1, text = -1, set = -1;
    bool same = false;
    if (file < 0) return false;
    text = H5Tcopy(H5T_C_S1);
    H5Tset_size(text, sizeof saved);
    if (H5Aexists(file, "key") > 0) attribute = H5Aopen(file, "key", H5P_DEFAULT);
    if (attribute >= 0 && H5Aread(attribute, text, saved) >= 0) same = !strncmp(saved, key, sizeof saved);
    if (same && (set = H5Dopen2(file, "output", H5P_DEFAULT)) >= 0) {
        output = H5Dget_offset(set);
        same = H5Dget_storage_size(set) == (hsize_t)cache->first_row[cache->examples] * cache->row_bytes;
        H5Dclose(set);
    }
    if (same && (set = H5Dopen2(file, "digest", H5P_DEFAULT)) >= 0) {
        digest = H5Dget_offset(set);
        same = H5Dget_storage_size(set) == (hsize_t)cache->examples * sizeof(hn_digest);
        H5Dclose(set);
    }
    if (attribute >= 0) H5Aclose(attribute);
    H5Tclose(text);
    H5Fclose(file);
    cache->output_offset = output;
    cache->digest_offset = digest;
    return same && output != HADDR_UNDEF && digest != HADDR_UNDEF;
}

/* One contiguous dataset of bytes, allocated now; its fill value (zero) is written for the digests alone. */
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

static bool make_file(const hn_trunk_cache *cache, const char *path, const char *key)
{
    hn_hdf5_sink sink = {.path = path};
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), file = -1, text = -1, space = -1, attribute = -1;
    if (access >= 0 && hn_hdf5_sink_use(access, &sink)) file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    if (access >= 0) H5Pclose(access);
    if (file < 0) return false;
    bool made = make_dataset(file, "digest", (hsize_t)cache->examples * sizeof(hn_digest), true) &&
                make_dataset(file, "output", (hsize_t)cache->first_row[cache->examples] * cache->row_bytes, false);
    text = H5Tcopy(H5T_C_S1);
    space = H5Screate(H5S_SCALAR);
    H5Tset_size(text, HN_DIGEST_TEXT);
    if (made) attribute = H5Acreate2(file, "key", text, space, H5P_DEFAULT, H5P_DEFAULT);
    made = attribute >= 0 && H5Awrite(attribute, text, key) >= 0;
    if (attribute >= 0) H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(text);
    return H5Fclose(file) >= 0 && made && !sink.error.status;
}

/* The offsets of the file that is there, or of a new one. A checkpoint may be written at the same time. */
static bool find_or_make(hn_trunk_cache *cache, const char *path, const char *key)
{
    hn_hdf5_enter();
    H5dont_atexit(); /* its clean-up at exit can crash after a disk was full */
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    bool found = (hn_path_exists(path) && offsets_of(cache, path, key)) ||
                 (make_file(cache, path, key) && offsets_of(cache, path, key));
    hn_hdf5_leave();
    return found;
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
    char text[HN_DIGEST_TEXT];
    hn_trunk_cache *cache = hn_calloc(1, sizeof *cache);
    if (!cache) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the trunk cache");
    cache->file = -1;
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
    hn_digest_format(text, key);
    if (!cache->examples) goto out; /* the budget holds none: everything is computed each time */
    if (!find_or_make(cache, path, text)) {
        status = hn_fail(error, HN_ERR_IO, "%s: the trunk cache could not be made (freeze.cache_budget or the disk's "
                         "space may be too small; freeze.cache=false does without)", path);
        goto out;
    }
    cache->file = open(path, O_RDWR | O_CLOEXEC);
    if (cache->file < 0) status = hn_fail_errno(error, "%s: cannot open the trunk cache", path);
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
static bool get_example(const hn_trunk_cache *cache, unsigned char *at, uint32_t e, size_t size)
{
    hn_digest saved, none = {0, 0};
    return transfer(cache->file, &saved, sizeof saved, cache->digest_offset + e * sizeof saved, false) &&
           !hn_digest_equal(saved, none) &&
           transfer(cache->file, at, size, cache->output_offset + (uint64_t)cache->first_row[e] * cache->row_bytes, false) &&
           hn_digest_equal(saved, hn_digest_bytes(at, size));
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
