/* Writing a token cache (see cache.c for the file). The columns were spooled while their sizes grew; now that
 * the sizes are known they are copied into contiguous datasets block by block, so memory stays bounded here
 * too. Then the header is put in front, and the file takes its name by fsync, rename and fsync of the folder.
 */
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "core/hdf5_lock.h"
#include "core/hdf5_sink.h"
#include "core/mem.h"
#include "data/cache_format.h"

#define BLOCK_BYTES ((size_t)1 << 20)

/* Between these two HDF5 is this thread's, and prints no errors of its own; the second puts back what was set before. */
typedef struct quiet {
    H5E_auto2_t function;
    void *data;
} quiet;

static void quiet_begin(quiet *before)
{
    hn_hdf5_enter();
    H5PLset_loading_state(0); /* no filter comes from a shared object */
    H5dont_atexit(); /* its clean-up at exit can crash after a disk was full */
    H5Eget_auto2(H5E_DEFAULT, &before->function, &before->data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

static void quiet_end(const quiet *before)
{
    H5Eset_auto2(H5E_DEFAULT, before->function, before->data);
    hn_hdf5_leave();
}

static hid_t type_of(int column, bool wide)
{
    switch (hnp_cache_column_type(column, wide)) {
    case HN_I32: return H5T_STD_I32LE;
    case HN_F32: return H5T_IEEE_F32LE;
    case HN_I64: return H5T_STD_I64LE;
    default: return H5T_STD_U16LE;
    }
}

static hn_status h5_failed(const char *path, const char *what, hn_error *error)
{
    return hn_fail(error, HN_ERR_IO, "%s: HDF5 failed at %s", path, what);
}

/* A contiguous dataset of `count` items; negative: failed. */
static hid_t create_dataset(hid_t file, const char *name, hid_t type, hsize_t count)
{
    hid_t space = H5Screate_simple(1, &count, NULL), properties = H5Pcreate(H5P_DATASET_CREATE), dataset = -1;
    if (space >= 0 && properties >= 0 && H5Pset_layout(properties, H5D_CONTIGUOUS) >= 0 &&
        H5Pset_alloc_time(properties, H5D_ALLOC_TIME_EARLY) >= 0 &&
        H5Pset_fill_time(properties, H5D_FILL_TIME_NEVER) >= 0)
        dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    if (space >= 0) H5Sclose(space);
    if (properties >= 0) H5Pclose(properties);
    return dataset;
}

/* Items [from, from + count) of the dataset. */
static bool write_block(hid_t dataset, hid_t type, hsize_t from, hsize_t count, const void *items)
{
    hid_t file_space = H5Dget_space(dataset), memory_space = H5Screate_simple(1, &count, NULL);
    bool ok = file_space >= 0 && memory_space >= 0 &&
              H5Sselect_hyperslab(file_space, H5S_SELECT_SET, &from, NULL, &count, NULL) >= 0 &&
              H5Dwrite(dataset, type, memory_space, file_space, H5P_DEFAULT, items) >= 0;
    if (file_space >= 0) H5Sclose(file_space);
    if (memory_space >= 0) H5Sclose(memory_space);
    return ok;
}

static hn_status write_column(hid_t file, hn_dataset *set, int number, void *block, const char *path,
                              hn_error *error)
{
    hnp_column *column = &set->columns.column[number];
    hid_t type = type_of(number, set->columns.wide);
    hid_t dataset = create_dataset(file, hnp_cache_column_name(number), type, column->count);
    hn_status status = dataset < 0 ? h5_failed(path, hnp_cache_column_name(number), error) : HN_OK;
    for (size_t from = 0, count = 1; !status && from < column->count; from += count) {
        status = hnp_column_read(column, block, from, BLOCK_BYTES / column->item, &count, error);
        if (!status && !write_block(dataset, type, from, count, block))
            status = h5_failed(path, hnp_cache_column_name(number), error);
    }
    if (dataset >= 0 && H5Dclose(dataset) < 0 && !status) status = h5_failed(path, "closing a column", error);
    return status;
}

static json_t *source_info(const hnp_source_file *file)
{
    char digest[HN_DIGEST_TEXT];
    const hnp_stamp *s = &file->stamp;
    hn_digest_format(digest, file->digest);
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:b}", "digest", digest, "size", (json_int_t)s->size,
                     "modified", (json_int_t)s->modified, "changed", (json_int_t)s->changed, "inode",
                     (json_int_t)s->inode, "device", (json_int_t)s->device, "settled", (int)file->settled);
}

/* A new object, or NULL: out of memory. */
static json_t *make_info(const hn_dataset *set, const hnp_sources *sources, hn_digest key)
{
    const hn_data_report *r = &set->report;
    char text[HN_DIGEST_TEXT];
    hn_digest_format(text, key);
    json_t *info =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:[], s:[]}", "key", text, "rows", (json_int_t)r->rows,
                  "skipped", (json_int_t)r->skipped, "unlabeled", (json_int_t)r->unlabeled, "truncated",
                  (json_int_t)r->truncated, "bad", "sources");
    bool ok = info != NULL;
    for (int kind = 0; ok && kind < HN_BAD_KINDS; kind++)
        ok = !json_array_append_new(
            json_object_get(info, "bad"),
            json_pack("{s:I, s:s}", "count", (json_int_t)r->bad.count[kind], "first", r->bad.first[kind]));
    for (int32_t i = 0; ok && i < sources->count; i++)
        ok = !json_array_append_new(json_object_get(info, "sources"), source_info(&sources->files[i]));
    if (ok) return info;
    json_decref(info);
    return NULL;
}

static hn_status write_info(hid_t file, const hn_dataset *set, const hnp_sources *sources, hn_digest key,
                            const char *path, hn_error *error)
{
    json_t *info = make_info(set, sources, key);
    char *text = info ? json_dumps(info, JSON_COMPACT) : NULL;
    hn_status status = text ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "token cache: out of memory");
    if (text) {
        hid_t dataset = create_dataset(file, HNP_CACHE_INFO, H5T_STD_U8LE, strlen(text));
        if (dataset < 0 || H5Dwrite(dataset, H5T_STD_U8LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, text) < 0)
            status = h5_failed(path, HNP_CACHE_INFO, error);
        if (dataset >= 0 && H5Dclose(dataset) < 0 && !status) status = h5_failed(path, HNP_CACHE_INFO, error);
    }
    hn_free(text); /* jansson's memory is hn_malloc's, see hn_json_init */
    json_decref(info);
    return status;
}

static hid_t create_file(const char *path, hn_hdf5_sink *sink)
{
    hid_t creation = H5Pcreate(H5P_FILE_CREATE), access = H5Pcreate(H5P_FILE_ACCESS), file = -1;
    if (creation >= 0 && access >= 0 && H5Pset_userblock(creation, HNP_CACHE_HEADER) >= 0 &&
        H5Pset_alignment(access, 1, 64) >= 0 && hn_hdf5_sink_use(access, sink))
        file = H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
    if (creation >= 0) H5Pclose(creation);
    if (access >= 0) H5Pclose(access);
    return file;
}

static hn_status write_file(hn_dataset *set, const hnp_sources *sources, hn_digest key, const char *path,
                            hn_error *error)
{
    void *block = hn_malloc(BLOCK_BYTES);
    if (!block) return hn_fail(error, HN_ERR_MEMORY, "token cache: out of memory");
    hn_hdf5_sink sink = {.path = path};
    hid_t file = create_file(path, &sink);
    hn_status status = file < 0 && !sink.error.status ? h5_failed(path, "creating it", error) : sink.error.status;
    for (int i = 0; i < HNP_COLUMNS && !status; i++) status = write_column(file, set, i, block, path, error);
    if (!status) status = write_info(file, set, sources, key, path, error);
    if (file >= 0 && H5Fclose(file) < 0 && !status) status = h5_failed(path, "closing it", error);
    if (sink.error.status && (!status || file < 0))
        status = hn_fail(error, sink.error.status, "%s", sink.error.message);
    hn_free(block);
    return status;
}

/* Fills the user block once the rest is written. */
static hn_status write_header(const char *path, hn_error *error)
{
    hn_mapping mapping;
    char header[HNP_CACHE_HEADER];
    hn_status status = hn_mapping_open(&mapping, path, error);
    if (status) return status;
    if (mapping.size > HNP_CACHE_HEADER)
        hnp_cache_header(header, mapping.bytes + HNP_CACHE_HEADER, mapping.size - HNP_CACHE_HEADER);
    else
        status = h5_failed(path, "it ends early", error);
    hn_mapping_close(&mapping);
    int fd = status ? -1 : open(path, O_WRONLY | O_CLOEXEC);
    if (!status && fd < 0) status = hn_fail_errno(error, "%s: opening", path);
    if (fd >= 0 && hn_file_calls.write(fd, header, sizeof header) != (ssize_t)sizeof header)
        status = hn_fail_errno(error, "%s: writing the header", path);
    if (fd >= 0 && hn_file_calls.close(fd) && !status) status = hn_fail_errno(error, "%s: closing", path);
    return status;
}

hn_status hnp_cache_save(hn_dataset *dataset, const hnp_sources *sources, hn_digest key, const char *path,
                         hn_error *error)
{
    hn_strbuf temporary;
    hn_strbuf_init(&temporary);
    const char *name = strrchr(path, '/') + 1;
    hn_strbuf_printf(&temporary, "%.*s.tmp-%s", (int)(name - path), path, name);
    if (temporary.failed) return hn_fail(error, HN_ERR_MEMORY, "token cache: out of memory");
    quiet before;
    hn_error why = {0};
    quiet_begin(&before);
    hn_status status = write_file(dataset, sources, key, temporary.text, &why);
    quiet_end(&before);
    if (!status) status = write_header(temporary.text, &why);
    if (!status) status = hn_folder_commit(temporary.text, path, false, &why); /* works on files alike */
    if (status) {
        unlink(temporary.text);
        hn_fail(error, status, "%s%s", why.message, status == HN_ERR_IO ? " (the token cache; data.cache=off needs none)" : "");
    }
    hn_strbuf_close(&temporary);
    return status;
}
