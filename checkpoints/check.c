/* See check.h. The digest of the whole file finds every flipped byte, HDF5's own structures included. The digests of the tensors tell
 * which ones are damaged, and guard what is handed to the run. Both can be right in a file that somebody made: what its structures say
 * is read without HDF5 (core/hdf5_structure.h). */
#include "checkpoints/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/hdf5_structure.h"
#include "core/mem.h"

enum { BLOCK = 1 << 18 }; /* read once and digested twice: it stays in a core's cache meanwhile */

hn_status hnp_reader_open(hnp_reader *reader, const char *path, hn_error *error)
{
    struct stat info;
    hn_status status = HN_OK;
    *reader = (hnp_reader){.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW), .path = path};
    if (reader->fd < 0 || fstat(reader->fd, &info))
        status = hn_fail_errno(error, "%s: cannot open", path);
    else if (!S_ISREG(info.st_mode))
        status = hn_fail(error, HN_ERR_IO, "%s: expected a file", path);
    else if (!(reader->block = hn_malloc(BLOCK)))
        status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", path);
    else
        reader->size = (uint64_t)info.st_size;
    if (status != HN_OK) hnp_reader_close(reader);
    return status;
}

void hnp_reader_close(hnp_reader *reader)
{
    if (reader->fd >= 0) close(reader->fd);
    hn_free(reader->block);
    *reader = (hnp_reader){.fd = -1};
}

static hn_status read_at(const hnp_reader *reader, unsigned char *into, size_t size, uint64_t offset,
                         hn_error *error)
{
    while (size) {
        ssize_t got = pread(reader->fd, into, size, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return hn_fail_errno(error, "%s: cannot read at byte %" PRIu64, reader->path, offset);
        if (!got)
            return hn_fail(error, HN_ERR_FORMAT, "%s: damaged: it ends at byte %" PRIu64, reader->path,
                           offset);
        into += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return HN_OK;
}

hn_status hnp_reader_digest(hn_digest *out, const hnp_taker *taker, hnp_reader *reader, uint64_t offset, uint64_t size,
                            hn_error *error)
{
    hn_status status = HN_OK;
    hn_hasher *hasher = hn_hasher_open();
    if (!hasher) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", reader->path);
    for (uint64_t done = 0; done < size;) {
        size_t n = size - done < BLOCK ? (size_t)(size - done) : BLOCK;
        status = read_at(reader, reader->block, n, offset + done, error);
        if (status != HN_OK) break;
        hn_hasher_add(hasher, reader->block, n);
        if (taker) taker->take(taker->context, done, reader->block, n);
        done += n;
    }
    if (status == HN_OK) *out = hn_hasher_digest(hasher);
    hn_hasher_free(hasher);
    return status;
}

/* Bytes [from, to) into both digests; `tensor` may be NULL. */
static hn_status add_span(hnp_reader *reader, hn_hasher *file, hn_hasher *tensor, uint64_t from, uint64_t to, hn_error *error)
{
    hn_status status = HN_OK;
    while (from < to && status == HN_OK) {
        size_t n = to - from < BLOCK ? (size_t)(to - from) : BLOCK;
        status = read_at(reader, reader->block, n, from, error);
        if (status != HN_OK) break;
        hn_hasher_add(file, reader->block, n);
        if (tensor) hn_hasher_add(tensor, reader->block, n);
        from += n;
    }
    return status;
}

static hn_status check_tensor(hnp_reader *reader, hn_hasher *file, const hnp_entry *entry, bool *damaged, hn_error *error)
{
    hn_hasher *tensor = hn_hasher_open();
    if (!tensor) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", reader->path);
    hn_status status = add_span(reader, file, tensor, entry->offset, entry->offset + hnp_entry_bytes(entry), error);
    *damaged = status == HN_OK && !hn_digest_equal(hn_hasher_digest(tensor), entry->digest);
    hn_hasher_free(tensor);
    return status;
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int by_offset(const void *a, const void *b)
{
    const hnp_entry *x = *(const hnp_entry *const *)a, *y = *(const hnp_entry *const *)b;
    return x->offset != y->offset ? (x->offset < y->offset ? -1 : 1) : strcmp(x->dataset, y->dataset);
}

hn_status hnp_reader_check(hn_digest *whole, hnp_reader *reader, const hnp_entry *entries, size_t count, hn_strbuf *report,
                           hn_error *error)
{
    hn_status status = HN_OK, found = HN_OK;
    uint64_t at = 0;
    const hnp_entry **order = hn_calloc(count, sizeof *order);
    hn_hasher *file = hn_hasher_open();
    if (!order || !file) status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", reader->path);
    for (size_t i = 0; i < count && status == HN_OK; i++) order[i] = &entries[i];
    if (status == HN_OK && count) qsort(order, count, sizeof *order, by_offset);
    for (size_t i = 0; i < count && status == HN_OK; i++) {
        bool damaged = false;
        /* One without bytes stands at 0, and is compared where we are. */
        hnp_entry one = *order[i];
        if (!hnp_entry_bytes(&one)) one.offset = at;
        if (one.offset < at) {
            status = hn_fail(error, HN_ERR_FORMAT, "%s: tensor \"%s\": its bytes are another's too", reader->path, one.dataset);
            break;
        }
        status = add_span(reader, file, NULL, at, one.offset, error);
        if (status == HN_OK) status = check_tensor(reader, file, &one, &damaged, error);
        at = one.offset + hnp_entry_bytes(&one);
        if (!damaged) continue;
        found = hn_fail(found == HN_OK ? error : NULL, HN_ERR_FORMAT,
                        "%s: tensor \"%s\": damaged: its bytes do not have the manifest's digest", reader->path, one.dataset);
        if (report) hn_strbuf_printf(report, "%s: tensor \"%s\": damaged\n", name_of(reader->path), one.dataset);
    }
    if (status == HN_OK) status = add_span(reader, file, NULL, at, reader->size, error);
    if (status == HN_OK) *whole = hn_hasher_digest(file);
    hn_hasher_free(file);
    hn_free(order);
    return status != HN_OK ? status : found;
}

static hn_status check_place(const hn_hdf5 *file, hnp_entry *entry, bool expect_offset, hn_error *error)
{
    uint64_t offset = 0;
    hn_tensor shape = hnp_entry_stored(entry);
    hn_status status = hn_hdf5_find(&offset, &shape, file, "tensor", entry->dataset, error);
    if (status == HN_OK && expect_offset && offset != entry->offset)
        return hn_fail(error, HN_ERR_FORMAT, "%s: tensor \"%s\": expected its bytes at %" PRIu64 ", they are at %" PRIu64, file->path,
                       entry->dataset, entry->offset, offset);
    if (status == HN_OK) entry->offset = offset;
    return status;
}

hn_status hnp_check_structure(const char *path, hnp_entry *entries, size_t count, bool expect_offsets, hn_error *error)
{
    hn_mapping map;
    hn_hdf5 file = {0};
    hn_status status = hn_mapping_open(&map, path, error);
    if (status != HN_OK) return status;
    status = hn_hdf5_open(&file, &map, 0, count, path, error);
    for (size_t i = 0; i < count && status == HN_OK; i++) status = check_place(&file, &entries[i], expect_offsets, error);
    if (status == HN_OK && !hn_mapping_intact(&map))
        status = hn_fail(error, HN_ERR_IO, "%s: it was cut short while it was read", path);
    hn_hdf5_close(&file);
    hn_mapping_close(&map);
    return status;
}

static hn_status check_file(const hnp_file *file, hnp_reader *reader, hn_strbuf *report, hn_error *error)
{
    hn_digest digest;
    if (reader->size != file->bytes)
        return hn_fail(error, HN_ERR_FORMAT, "%s: damaged: expected %" PRIu64 " bytes, got %" PRIu64,
                       reader->path, file->bytes, reader->size);
    hn_status status = hnp_reader_check(&digest, reader, file->entries, file->count, report, error);
    if (status == HN_OK && !hn_digest_equal(digest, file->digest)) {
        char expected[HN_DIGEST_TEXT], got[HN_DIGEST_TEXT];
        hn_digest_format(expected, file->digest);
        hn_digest_format(got, digest);
        status =
            hn_fail(error, HN_ERR_FORMAT, "%s: damaged between its tensors: expected the digest %s, got %s",
                    reader->path, expected, got);
    }
    if (status == HN_OK) status = hnp_check_structure(reader->path, file->entries, file->count, true, error);
    if (status == HN_OK && report)
        hn_strbuf_printf(report, "%s: good, %" PRIu64 " bytes, %zu tensors\n", name_of(reader->path), reader->size,
                         file->count);
    return status;
}

static hn_status check_rank(const hnp_manifest *manifest, const char *folder, int rank, hn_strbuf *report, hn_error *error)
{
    char name[HNP_FILE_NAME], *path = hn_path_join(folder, hnp_file_name(name, rank));
    hnp_reader reader = {.fd = -1};
    if (!path) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    hn_status status = hnp_reader_open(&reader, path, error);
    if (status == HN_OK) status = check_file(&manifest->files[rank], &reader, report, error);
    hnp_reader_close(&reader);
    hn_free(path);
    return status;
}

hn_status hnp_check_files(const hnp_manifest *manifest, const char *folder, int part, int parts, hn_strbuf *report, hn_error *error)
{
    hn_error first = {0};
    for (int rank = part; rank < manifest->ranks; rank += parts) {
        hn_error one = {0};
        size_t said = report ? report->length : 0;
        hn_status status = check_rank(manifest, folder, rank, report, &one);
        if (status != HN_OK && first.status != HN_OK && report && report->length == said) hn_strbuf_printf(report, "%s\n", one.message);
        if (status != HN_OK && (first.status == HN_OK || status == HN_ERR_MEMORY)) first = one;
        if (status == HN_ERR_MEMORY) break; /* that is no damage */
    }
    return first.status == HN_OK ? HN_OK : hn_fail(error, first.status, "%s", first.message);
}

hn_status hnp_check_folder(hnp_manifest *out, const char *folder, int64_t step, hn_strbuf *report,
                           hn_error *error)
{
    hnp_manifest manifest = {0};
    hn_status status = hnp_manifest_read(&manifest, folder, step, error);
    if (status == HN_OK && report)
        hn_strbuf_printf(report, "%s: good, step %" PRId64 "\n", HNP_MANIFEST_NAME, step);
    if (status == HN_OK) status = hnp_check_files(&manifest, folder, 0, 1, report, error);
    if (status == HN_OK)
        *out = manifest;
    else
        hnp_manifest_close(&manifest);
    return status;
}

int64_t hnp_step_of(const char *name)
{
    if (strncmp(name, "step-", 5)) return -1;
    const char *digits = name + 5;
    if (!*digits || (digits[0] == '0' && digits[1])) return -1;
    int64_t step = 0;
    for (; *digits; digits++)
        if (*digits < '0' || *digits > '9' || __builtin_mul_overflow(step, 10, &step) ||
            __builtin_add_overflow(step, *digits - '0', &step))
            return -1;
    return step;
}

char *hnp_step_path(const char *folder, const char *before, int64_t step)
{
    hn_strbuf path;
    hn_strbuf_init(&path);
    hn_strbuf_printf(&path, "%s/%sstep-%" PRId64, folder, before, step);
    return hn_strbuf_take(&path);
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Whether <folder>/step-N holds a manifest; false when there is no memory to ask. */
static bool has_manifest(const char *folder, int64_t step)
{
    hn_strbuf path;
    hn_strbuf_init(&path);
    hn_strbuf_printf(&path, "%s/step-%" PRId64 "/%s", folder, step, HNP_MANIFEST_NAME);
    bool found = !path.failed && hn_path_exists(path.text);
    hn_strbuf_close(&path);
    return found;
}

hn_status hnp_steps_list(int64_t **steps, size_t *count, const char *folder, bool manifests, hn_error *error)
{
    hn_status status = HN_OK;
    void *all = NULL;
    size_t capacity = 0, found = 0;
    struct dirent *entry;
    DIR *list = opendir(folder);
    if (!list && errno != ENOENT) return hn_fail_errno(error, "%s: cannot list the checkpoints", folder);
    while (list && (errno = 0, entry = readdir(list))) {
        int64_t step = hnp_step_of(entry->d_name);
        if (step < 0 || (manifests && !has_manifest(folder, step))) continue;
        if (!hn_grow(&all, &capacity, found + 1, sizeof **steps)) {
            status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
            break;
        }
        ((int64_t *)all)[found++] = step;
    }
    if (status == HN_OK && list && errno)
        status = hn_fail_errno(error, "%s: cannot list the checkpoints", folder);
    if (list) closedir(list);
    if (status != HN_OK) {
        hn_free(all);
        return status;
    }
    if (found) qsort(all, found, sizeof **steps, ascending);
    *steps = all;
    *count = found;
    return HN_OK;
}
