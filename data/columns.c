/* See columns.h. A spool file is unlinked as soon as it is open: a process that dies leaves nothing behind.
 */
#include "data/columns.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"

#define SPOOL_BYTES ((size_t)256 << 10)

static hn_status open_spool(hnp_column *column, const char *folder, hn_error *error)
{
    char *path = hn_path_join(folder, ".tmp-spool-XXXXXX");
    if (!path) return hn_fail(error, HN_ERR_MEMORY, "token cache: out of memory");
    column->fd = mkostemp(path, O_CLOEXEC);
    column->folder = folder;
    hn_status status = column->fd < 0 ? hn_fail_errno(error, "%s: creating", path) : HN_OK;
    if (!status && unlink(path)) status = hn_fail_errno(error, "%s: removing", path);
    hn_free(path);
    if (status) return status;
    column->capacity = SPOOL_BYTES / column->item;
    column->memory = hn_malloc(SPOOL_BYTES);
    return column->memory ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "token cache: out of memory");
}

hn_status hnp_columns_init(hnp_columns *columns, bool wide, const char *spool, hn_error *error)
{
    const size_t items[HNP_COLUMNS] = {wide ? 4 : 2, 2, 8, 4, 4, 4, 8, 8};
    hn_status status = HN_OK;
    *columns = (hnp_columns){.wide = wide};
    for (int i = 0; i < HNP_COLUMNS; i++) columns->column[i] = (hnp_column){.item = items[i], .fd = -1};
    for (int i = 0; i < HNP_COLUMNS && spool && !status; i++)
        status = open_spool(&columns->column[i], spool, error);
    if (status) hnp_columns_close(columns);
    return status;
}

static hn_status write_all(const hnp_column *column, const unsigned char *bytes, size_t size, hn_error *error)
{
    while (size) {
        ssize_t wrote = hn_file_calls.write(column->fd, bytes, size);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0)
            return hn_fail_errno(error, "%s: the token cache: writing a temporary file (data.cache=off needs none)", column->folder);
        bytes += wrote;
        size -= (size_t)wrote;
    }
    return HN_OK;
}

static hn_status flush(hnp_column *column, hn_error *error)
{
    hn_status status =
        write_all(column, column->memory, (column->count - column->written) * column->item, error);
    column->written = column->count;
    return status;
}

hn_status hnp_column_add(hnp_column *column, const void *items, size_t count, hn_error *error)
{
    const unsigned char *from = items;
    if (column->fd < 0) {
        void *memory = column->memory;
        if (!hn_grow(&memory, &column->capacity, column->count + count, column->item))
            return hn_fail(error, HN_ERR_MEMORY,
                           "data: out of memory behind %zu items; set data.cache to a folder", column->count);
        column->memory = memory;
    }
    while (count) {
        size_t held = column->count - column->written, room = column->capacity - held,
               now = count < room ? count : room;
        memcpy(column->memory + held * column->item, from, now * column->item);
        column->count += now;
        from += now * column->item;
        count -= now;
        if (column->fd < 0 || held + now < column->capacity) continue;
        hn_status status = flush(column, error);
        if (status) return status;
    }
    return HN_OK;
}

hn_status hnp_column_read(hnp_column *column, void *items, size_t from, size_t capacity, size_t *count,
                          hn_error *error)
{
    *count = column->count - from < capacity ? column->count - from : capacity;
    if (column->fd < 0) {
        if (*count) memcpy(items, column->memory + from * column->item, *count * column->item);
        return HN_OK;
    }
    hn_status status = column->written < column->count ? flush(column, error) : HN_OK;
    unsigned char *to = items;
    size_t left = *count * column->item;
    off_t at = (off_t)(from * column->item);
    while (left && !status) {
        ssize_t got = pread(column->fd, to, left, at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return hn_fail_errno(error, "%s: the token cache: reading a temporary file", column->folder);
        if (got == 0) return hn_fail(error, HN_ERR_IO, "%s: the token cache: a temporary file ends early", column->folder);
        to += got;
        at += got;
        left -= (size_t)got;
    }
    return status;
}

void hnp_columns_close(hnp_columns *columns)
{
    for (int i = 0; i < HNP_COLUMNS; i++) {
        hnp_column *column = &columns->column[i];
        if (column->fd >= 0) close(column->fd);
        hn_free(column->memory);
        *column = (hnp_column){.fd = -1};
    }
}
