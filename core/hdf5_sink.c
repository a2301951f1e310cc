/* HDF5 1.10.8 does not stand a write that fails: closing a file on a full disk loses half a megabyte of
 * memory each time (its metadata cache is never freed), and with a handle open its exit handler crashes. So
 * it never sees one: the first failure is noted here, every later write is dropped with a "done", and HDF5
 * closes its file as if all was well. The note is read afterwards, and says which call failed and with which
 * errno. Nothing believes the file until then; what is believed later is what was read back.
 *
 * It also makes HDF5's writes count for the tests' fault hooks. */
#include "core/hdf5_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <H5FDpublic.h>

#include "core/file.h"
#include "core/mem.h"

/* HDF5's view of the file; `public` must come first. */
typedef struct driver_file {
    H5FD_t public;
    hn_hdf5_sink *sink;
    int fd;
    haddr_t allocated,
        written; /* first address behind what HDF5 has given out, and behind what it believes written */
} driver_file;

/* The driver's info in the access options: copied by HDF5 byte for byte. */
typedef struct driver_info {
    hn_hdf5_sink *sink;
} driver_info;

static H5FD_t *sink_open(const char *name, unsigned flags, hid_t access, haddr_t limit)
{
    (void)limit;
    const driver_info *info = H5Pget_driver_info(access);
    driver_file *file = hn_calloc(1, sizeof *file);
    HN_ASSERT(info && (flags & H5F_ACC_CREAT));
    if (!file) {
        hn_fail(&info->sink->error, HN_ERR_MEMORY, "%s: out of memory", name);
        return NULL;
    }
    file->sink = info->sink;
    file->fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | (flags & H5F_ACC_EXCL ? O_EXCL : O_TRUNC), 0666);
    if (file->fd >= 0) return &file->public;
    hn_fail_errno(&info->sink->error, "%s: cannot create", name);
    hn_free(file);
    return NULL;
}

static herr_t sink_close(H5FD_t *self)
{
    driver_file *file = (driver_file *)self;
    if (hn_file_calls.close(file->fd))
        hn_fail_errno(&file->sink->error, "%s: cannot close", file->sink->path);
    hn_free(file);
    return 0;
}

static herr_t sink_query(const H5FD_t *self, unsigned long *flags)
{
    (void)self;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
             H5FD_FEAT_AGGREGATE_SMALLDATA | H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
    return 0;
}

static haddr_t sink_get_eoa(const H5FD_t *self, H5FD_mem_t type)
{
    (void)type;
    return ((const driver_file *)self)->allocated;
}

static herr_t sink_set_eoa(H5FD_t *self, H5FD_mem_t type, haddr_t address)
{
    (void)type;
    ((driver_file *)self)->allocated = address;
    return 0;
}

static haddr_t sink_get_eof(const H5FD_t *self, H5FD_mem_t type)
{
    (void)type;
    return ((const driver_file *)self)->written;
}

/* Bytes that were dropped, or lie in a hole, read as zeros. */
static herr_t sink_read(H5FD_t *self, H5FD_mem_t type, hid_t transfer, haddr_t address, size_t size,
                        void *bytes)
{
    (void)type, (void)transfer;
    driver_file *file = (driver_file *)self;
    ssize_t got = pread(file->fd, bytes, size, (off_t)address);
    if (got < 0) hn_fail_errno(&file->sink->error, "%s: cannot read", file->sink->path);
    size_t there = got < 0 ? 0 : (size_t)got;
    memset((char *)bytes + there, 0, size - there);
    return 0;
}

static herr_t sink_write(H5FD_t *self, H5FD_mem_t type, hid_t transfer, haddr_t address, size_t size,
                         const void *bytes)
{
    (void)type, (void)transfer;
    driver_file *file = (driver_file *)self;
    hn_error *error = &file->sink->error;
    hn_writer writer = {.fd = file->fd, .temporary = (char *)(uintptr_t)file->sink->path};
    if (error->status == HN_OK && lseek(file->fd, (off_t)address, SEEK_SET) < 0)
        hn_fail_errno(error, "%s: cannot seek", file->sink->path);
    if (error->status == HN_OK) hn_writer_add(&writer, bytes, size, error);
    if (address + size > file->written) file->written = address + size;
    return 0;
}

/* HDF5 gives out space behind its last write: the file is made as long as it says. */
static herr_t sink_truncate(H5FD_t *self, hid_t transfer, hbool_t closing)
{
    (void)transfer, (void)closing;
    driver_file *file = (driver_file *)self;
    if (file->allocated != file->written && ftruncate(file->fd, (off_t)file->allocated))
        hn_fail_errno(&file->sink->error, "%s: cannot set its length", file->sink->path);
    file->written = file->allocated;
    return 0;
}

static const H5FD_class_t sink_class = {
    .name = "hone",
    .maxaddr = INT64_MAX,
    .fc_degree = H5F_CLOSE_SEMI,
    .fapl_size = sizeof(driver_info),
    .open = sink_open,
    .close = sink_close,
    .query = sink_query,
    .get_eoa = sink_get_eoa,
    .set_eoa = sink_set_eoa,
    .get_eof = sink_get_eof,
    .read = sink_read,
    .write = sink_write,
    .truncate = sink_truncate,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

bool hn_hdf5_sink_use(hid_t access, hn_hdf5_sink *sink)
{
    driver_info info = {.sink = sink};
    hid_t driver = H5FDregister(&sink_class);
    if (driver < 0) return false;
    bool done = H5Pset_driver(access, driver, &info) >= 0 /* holds its own reference */ &&
                H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST) >= 0;
    return H5FDunregister(driver) >= 0 && done;
}
