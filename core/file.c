/* The commit protocol was chosen by measurement (ext4, power cut after the writer had said "saved", 40 cuts
 * each): close + rename alone kept 0 of 40, with fsync of the file 15, with fsync of the folder as well 40.
 * So every new name here, also a folder's, is followed by an fsync of the folder that holds it.
 *
 * Invariant: whatever call fails, the name that is read holds all of its old bytes or all of its new ones;
 * what is left over is called .tmp-NAME, which nobody reads and the next commit overwrites. */
#include "core/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/guard.h"
#include "core/mem.h"

enum { COPY_PIECE = 1 << 16 }; /* bytes, on the stack */

static int rename_with(const char *from, const char *to, unsigned flags)
{
    return flags ? renameat2(AT_FDCWD, from, AT_FDCWD, to, flags) : rename(from, to);
}

hn_file_hooks hn_file_calls = {.write = write,
                               .fsync = fsync,
                               .rename = rename_with,
                               .close = close,
                               .unlink = unlinkat,
                               .mkdir = mkdir};

/* Opens a regular file for reading. O_NONBLOCK: opening a FIFO must not wait for its writer. */
static int open_regular(const char *path, size_t *size, hn_error *error)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        hn_fail_errno(error, "%s: cannot open", path);
        return -1;
    }
    if (fstat(fd, &info)) {
        hn_fail_errno(error, "%s: cannot read its size", path);
    } else if (!S_ISREG(info.st_mode)) {
        hn_fail(error, HN_ERR_IO, "%s: expected a file, got %s", path,
                S_ISDIR(info.st_mode) ? "a folder" : "a pipe, socket or device");
    } else {
        *size = (size_t)info.st_size;
        return fd;
    }
    close(fd);
    return -1;
}

static hn_status read_exactly(int fd, char *bytes, size_t size, const char *path, hn_error *error)
{
    size_t done = 0;
    while (done < size) {
        ssize_t got = read(fd, bytes + done, size - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return hn_fail_errno(error, "%s: cannot read", path);
        if (!got)
            return hn_fail(error, HN_ERR_IO, "%s: cut short while it was read: expected %zu bytes, got %zu",
                           path, size, done);
        done += (size_t)got;
    }
    return HN_OK;
}

hn_status hn_file_read(char **out, size_t *size, const char *path, size_t limit, hn_error *error)
{
    size_t length = 0;
    char *bytes = NULL;
    hn_error local = {0};
    if (!error) error = &local;
    int fd = open_regular(path, &length, error);
    if (fd < 0) return error->status;
    hn_status status;
    if (length > limit) {
        status =
            hn_fail(error, HN_ERR_FORMAT, "%s: %zu bytes long, at most %zu are read", path, length, limit);
    } else if (!(bytes = hn_malloc(length + 1))) {
        status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for its %zu bytes", path, length);
    } else {
        status = read_exactly(fd, bytes, length, path, error);
    }
    close(fd);
    if (status != HN_OK) {
        hn_free(bytes);
        return status;
    }
    bytes[length] = '\0';
    *out = bytes;
    *size = length;
    return HN_OK;
}

hn_status hn_mapping_open(hn_mapping *out, const char *path, hn_error *error)
{
    size_t size = 0;
    hn_error local = {0};
    if (!error) error = &local;
    int fd = open_regular(path, &size, error);
    if (fd < 0) return error->status;
    hn_status status = HN_OK;
    hn_mapping mapping = {.bytes = (const unsigned char *)"", .size = size};
    if (size) {
        void *memory = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (memory == MAP_FAILED)
            status = hn_fail_errno(error, "%s: cannot map its %zu bytes", path, size);
        else
            mapping.bytes = memory;
    }
    close(fd);
    if (status != HN_OK) return status;
    if (size) hnp_guard_add(mapping.bytes, size);
    *out = mapping;
    return HN_OK;
}

bool hn_mapping_intact(const hn_mapping *mapping)
{
    return !mapping->size || !hnp_guard_lost(mapping->bytes);
}

void hn_mapping_idle(const hn_mapping *mapping)
{
    if (mapping->size) madvise((void *)(uintptr_t)mapping->bytes, mapping->size, MADV_DONTNEED); /* advice: may fail */
}

void hn_mapping_close(hn_mapping *mapping)
{
    if (mapping->size) {
        hnp_guard_remove(mapping->bytes);
        munmap((void *)(uintptr_t)mapping->bytes, mapping->size);
    }
    *mapping = (hn_mapping){.bytes = (const unsigned char *)""};
}

bool hn_path_exists(const char *path)
{
    struct stat info;
    return !stat(path, &info);
}

bool hn_path_is_folder(const char *path)
{
    struct stat info;
    return !stat(path, &info) && S_ISDIR(info.st_mode);
}

/* folder + "/" + before + name */
static char *join(const char *folder, const char *before, const char *name)
{
    size_t size = strlen(folder) + strlen(before) + strlen(name) + 2;
    char *path = hn_malloc(size);
    bool slash = folder[0] && folder[strlen(folder) - 1] != '/';
    if (path) snprintf(path, size, "%s%s%s%s", folder, slash ? "/" : "", before, name);
    return path;
}

char *hn_path_join(const char *folder, const char *name)
{
    return join(folder, "", name);
}

/* The folder that holds `path` (hn_free), "." where it has none, and in *name what it is called there.
 * Slashes at the end of `path` do not count; *name points into `path` and may have them behind it. NULL: out
 * of memory. */
static char *parent_of(const char *path, const char **name)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/') start--;
    *name = path + start;
    if (!start) return hn_strdup(".");
    return hn_strndup(path, start > 1 ? start - 1 : 1);
}

hn_status hn_file_sync(const char *path, hn_error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return hn_fail_errno(error, "%s: cannot open to sync", path);
    hn_status status = HN_OK;
    if (hn_file_calls.fsync(fd)) status = hn_fail_errno(error, "%s: cannot sync to the disk", path);
    if (hn_file_calls.close(fd) && status == HN_OK) status = hn_fail_errno(error, "%s: cannot close", path);
    return status;
}

static hn_status sync_parent(const char *path, hn_error *error)
{
    const char *name;
    char *parent = parent_of(path, &name);
    if (!parent) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", path);
    hn_status status = hn_file_sync(parent, error);
    hn_free(parent);
    return status;
}

static hn_status make_one(const char *path, hn_error *error)
{
    if (!hn_file_calls.mkdir(path, 0777)) return sync_parent(path, error);
    int saved = errno;
    if (hn_path_is_folder(path)) return HN_OK; /* whatever mkdir had against it */
    errno = saved;
    return hn_fail_errno(error, "%s: cannot make this folder", path);
}

hn_status hn_folder_make(const char *path, hn_error *error)
{
    hn_status status = HN_OK;
    char *partial = hn_strdup(path);
    if (!partial) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", path);
    for (char *c = partial + 1; *partial && *c && status == HN_OK; c++) {
        if (*c != '/') continue;
        *c = '\0';
        status = make_one(partial, error);
        *c = '/';
    }
    if (status == HN_OK) status = make_one(partial, error);
    hn_free(partial);
    return status;
}

static int remove_entries(int folder);

/* Removes one name of an open folder, with what is below it; 0, or -1 with errno. */
static int remove_at(int folder, const char *name)
{
    if (!hn_file_calls.unlink(folder, name, 0)) return 0;
    if (errno != EISDIR && errno != EPERM) return -1;
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || remove_entries(fd)) return -1;
    return hn_file_calls.unlink(folder, name, AT_REMOVEDIR);
}

/* Takes over `folder`. */
static int remove_entries(int folder)
{
    int result = 0;
    struct dirent *entry;
    DIR *list = fdopendir(folder);
    if (!list) {
        close(folder);
        return -1;
    }
    while (!result && (errno = 0, entry = readdir(list)))
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            result = remove_at(folder, entry->d_name);
    if (!result && errno) result = -1;
    int saved = errno;
    closedir(list);
    errno = saved;
    return result;
}

hn_status hn_folder_remove(const char *path, hn_error *error)
{
    if (remove_at(AT_FDCWD, path) && errno != ENOENT) return hn_fail_errno(error, "%s: cannot remove", path);
    return HN_OK;
}

hn_status hn_file_space(uint64_t *available, const char *path, hn_error *error)
{
    struct statvfs info;
    if (statvfs(path, &info))
        return hn_fail_errno(error, "%s: cannot ask for the free space of its disk", path);
    *available = (uint64_t)info.f_bavail * info.f_frsize;
    return HN_OK;
}

hn_status hn_writer_open(hn_writer *writer, const char *path, hn_error *error)
{
    const char *name;
    char *folder = parent_of(path, &name);
    *writer = (hn_writer){
        .fd = -1, .path = hn_strdup(path), .temporary = folder ? join(folder, ".tmp-", name) : NULL};
    hn_free(folder);
    if (!writer->path || !writer->temporary) {
        hn_writer_close(writer);
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", path);
    }
    writer->fd = open(writer->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (writer->fd < 0) {
        hn_status status = hn_fail_errno(error, "%s: cannot create", writer->temporary);
        hn_writer_close(writer);
        return status;
    }
    return HN_OK;
}

hn_status hn_writer_add(hn_writer *writer, const void *bytes, size_t size, hn_error *error)
{
    const char *next = bytes;
    while (size) {
        ssize_t done = hn_file_calls.write(writer->fd, next, size);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return hn_fail_errno(error, "%s: cannot write", writer->temporary);
        if (!done) return hn_fail(error, HN_ERR_IO, "%s: the disk takes no more bytes", writer->temporary);
        next += done;
        size -= (size_t)done;
    }
    return HN_OK;
}

hn_status hn_writer_commit(hn_writer *writer, hn_error *error)
{
    hn_status status = HN_OK;
    if (hn_file_calls.fsync(writer->fd))
        status = hn_fail_errno(error, "%s: cannot sync to the disk", writer->temporary);
    if (hn_file_calls.close(writer->fd) && status == HN_OK)
        status = hn_fail_errno(error, "%s: cannot close", writer->temporary);
    writer->fd = -1;
    if (status != HN_OK) return status;
    if (hn_file_calls.rename(writer->temporary, writer->path, 0))
        return hn_fail_errno(error, "%s: cannot rename to %s", writer->temporary, writer->path);
    hn_free(writer->temporary);
    writer->temporary = NULL;
    return sync_parent(writer->path, error);
}

void hn_writer_close(hn_writer *writer)
{
    if (writer->fd >= 0) hn_file_calls.close(writer->fd);
    if (writer->temporary) hn_file_calls.unlink(AT_FDCWD, writer->temporary, 0);
    hn_free(writer->path);
    hn_free(writer->temporary);
    *writer = (hn_writer){.fd = -1};
}

hn_status hn_file_commit(const char *path, const void *bytes, size_t size, hn_error *error)
{
    hn_writer writer;
    hn_status status = hn_writer_open(&writer, path, error);
    if (status != HN_OK) return status;
    status = hn_writer_add(&writer, bytes, size, error);
    if (status == HN_OK) status = hn_writer_commit(&writer, error);
    hn_writer_close(&writer);
    return status;
}

static hn_status copy_bytes(hn_writer *writer, int fd, size_t size, const char *from, hn_error *error)
{
    char piece[COPY_PIECE];
    hn_status status = HN_OK;
    for (size_t done = 0; done < size && status == HN_OK;) {
        size_t some = size - done < sizeof piece ? size - done : sizeof piece;
        status = read_exactly(fd, piece, some, from, error);
        if (status == HN_OK) status = hn_writer_add(writer, piece, some, error);
        done += some;
    }
    return status;
}

hn_status hn_file_copy(const char *path, const char *from, size_t limit, hn_error *error)
{
    size_t size = 0;
    hn_writer writer;
    hn_error local = {0};
    if (!error) error = &local;
    int fd = open_regular(from, &size, error);
    if (fd < 0) return error->status;
    hn_status status =
        size > limit ? hn_fail(error, HN_ERR_FORMAT, "%s: %zu bytes long, at most %zu are copied", from, size, limit)
                     : hn_writer_open(&writer, path, error);
    if (status == HN_OK) {
        status = copy_bytes(&writer, fd, size, from, error);
        if (status == HN_OK) status = hn_writer_commit(&writer, error);
        hn_writer_close(&writer);
    }
    close(fd);
    return status;
}

/* For file systems without RENAME_EXCHANGE (NFS among them): the old folder steps aside first. Between the
 * two renames the name is missing, but both folders are whole. */
static hn_status swap_in_two(const char *temporary, const char *path, hn_error *error)
{
    const char *name;
    hn_status status;
    char *parent = parent_of(path, &name), *aside = parent ? join(parent, ".tmp-old-", name) : NULL;
    if (!aside) {
        status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", path);
        goto out;
    }
    status = hn_folder_remove(aside, error);
    if (status != HN_OK) goto out;
    if (hn_file_calls.rename(path, aside, 0)) {
        status = hn_fail_errno(error, "%s: cannot rename to %s", path, aside);
        goto out;
    }
    if (hn_file_calls.rename(temporary, path, 0)) {
        status = hn_fail_errno(error, "%s: cannot rename to %s", temporary, path);
        hn_file_calls.rename(aside, path, 0); /* back, as far as that goes */
        goto out;
    }
    status = hn_file_sync(parent, error);
    if (status == HN_OK) status = hn_folder_remove(aside, error);
out:
    hn_free(aside);
    hn_free(parent);
    return status;
}

hn_status hn_folder_commit(const char *temporary, const char *path, bool exchange, hn_error *error)
{
    bool swap = exchange && hn_path_exists(path);
    hn_status status = hn_file_sync(temporary, error);
    if (status != HN_OK) return status;
    if (hn_file_calls.rename(temporary, path, swap ? RENAME_EXCHANGE : 0)) {
        if (swap && (errno == EINVAL || errno == ENOSYS)) return swap_in_two(temporary, path, error);
        return hn_fail_errno(error, "%s: cannot rename to %s", temporary, path);
    }
    status = sync_parent(path, error);
    if (status == HN_OK && swap) status = hn_folder_remove(temporary, error); /* what stood there before */
    return status;
}
