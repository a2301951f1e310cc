/* See sources.h. A stamp (size, times, inode, device) that is the same means the same bytes, unless the file
 * was changed within the clock's grain of when the stamp was taken; git calls this "racily clean". So a stamp
 * younger than two seconds is not settled, and its file is read again by the next run. */
#include "data/sources.h"

#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "core/mem.h"

#define GRAIN ((int64_t)2000000000)

static int64_t nanoseconds(struct timespec time)
{
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static hn_status take_stamp(hnp_stamp *stamp, const char *path, hn_error *error)
{
    struct stat info;
    *stamp = (hnp_stamp){0};
    if (!strcmp(path, "-")) return HN_OK;
    if (stat(path, &info)) return hn_fail_errno(error, "%s: opening", path);
    *stamp = (hnp_stamp){.size = info.st_size,
                         .modified = nanoseconds(info.st_mtim),
                         .changed = nanoseconds(info.st_ctim),
                         .inode = (int64_t)info.st_ino,
                         .device = (int64_t)info.st_dev};
    return HN_OK;
}

bool hnp_stamp_equal(const hnp_stamp *a, const hnp_stamp *b)
{
    return a->size == b->size && a->modified == b->modified && a->changed == b->changed &&
           a->inode == b->inode && a->device == b->device;
}

hn_status hnp_sources_init(hnp_sources *sources, const hn_list *paths, hn_error *error)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    *sources = (hnp_sources){.files = hn_calloc(paths->count, sizeof *sources->files),
                             .count = (int32_t)paths->count};
    if (!sources->files) return hn_fail(error, HN_ERR_MEMORY, "data files: out of memory");
    for (int32_t i = 0; i < sources->count; i++) {
        hnp_source_file *file = &sources->files[i];
        file->path = paths->items[i];
        hn_status status = take_stamp(&file->stamp, file->path, error);
        if (status) {
            hnp_sources_close(sources);
            return status;
        }
        file->settled =
            nanoseconds(now) - file->stamp.modified > GRAIN && nanoseconds(now) - file->stamp.changed > GRAIN;
    }
    return HN_OK;
}

hn_status hnp_sources_digest(hnp_sources *sources, hn_error *error)
{
    hn_status status = HN_OK;
    for (int32_t i = 0; i < sources->count && !status; i++)
        if (strcmp(sources->files[i].path, "-"))
            status = hn_digest_file(&sources->files[i].digest, sources->files[i].path, error);
    return status;
}

hn_status hnp_sources_check(const hnp_sources *sources, hn_error *error)
{
    for (int32_t i = 0; i < sources->count; i++) {
        hnp_stamp now;
        hn_status status = take_stamp(&now, sources->files[i].path, error);
        if (status) return status;
        if (!hnp_stamp_equal(&now, &sources->files[i].stamp))
            return hn_fail(error, HN_ERR_MISMATCH, "%s: changed while it was read", sources->files[i].path);
    }
    return HN_OK;
}

void hnp_sources_close(hnp_sources *sources)
{
    hn_free(sources->files);
    *sources = (hnp_sources){0};
}
