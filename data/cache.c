/* The token cache: what both sides share. The file is one HDF5 file with a user block before it:
 *
 *     0     "hone token cache 2\n" DIGEST of the bytes from 512 on "\n" SIZE "\n" DIGEST of these lines "\n"
 * 0 0 0 ... 512   HDF5: one contiguous dataset a column (columns.h), and "info", a JSON text: key, report,
 * sources
 *
 * HDF5 does not know when its own metadata is damaged (a flipped byte can crash it), so the header vouches
 * for every byte of the file, and nothing is opened before that was checked. Columns are contiguous and never
 * compressed: reading maps the file and asks HDF5 only where each column lies, so a step never waits for
 * HDF5's global lock, and memory is the page cache's. The name of the file is the key (tokenizer, options,
 * paths); the sources inside say whether the data is the same. */
#include "data/cache.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/hdf5_lock.h"
#include "core/mem.h"
#include "data/cache_format.h"

char *hnp_cache_path(const char *folder, hn_digest key)
{
    char text[HN_DIGEST_TEXT], name[64];
    hn_digest_format(text, key);
    snprintf(name, sizeof name, "tokens-%s.h5", text);
    return hn_path_join(folder, name);
}

int hnp_cache_lock(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        (void)flock(fd, LOCK_EX); /* where it is not supported, two builders only do the work twice */
    return fd;
}

void hnp_cache_header(char header[HNP_CACHE_HEADER], const unsigned char *rest, size_t size)
{
    char text[HN_DIGEST_TEXT];
    memset(header, 0, HNP_CACHE_HEADER);
    hn_digest_format(text, hn_digest_bytes(rest, size));
    int used = snprintf(header, HNP_CACHE_HEADER, "hone token cache 2\n%s\n%zu\n", text, size);
    hn_digest_format(text, hn_digest_bytes(header, (size_t)used));
    snprintf(header + used, HNP_CACHE_HEADER - (size_t)used, "%s\n", text);
}

const char *hnp_cache_column_name(int column)
{
    static const char *const names[HNP_COLUMNS] = {"tokens", "marks", "offsets", "segment",
                                                   "label",  "value", "line",    "first"};
    return names[column];
}

hid_t hnp_cache_column_type(int column, bool wide)
{
    switch (column) {
    case HNP_TOKENS: return wide ? H5T_STD_I32LE : H5T_STD_U16LE;
    case HNP_MARKS: return H5T_STD_U16LE;
    case HNP_SEGMENT:
    case HNP_LABELS: return H5T_STD_I32LE;
    case HNP_VALUES: return H5T_IEEE_F32LE;
    default: return H5T_STD_I64LE;
    }
}

void hnp_quiet_begin(hnp_quiet *quiet)
{
    hn_hdf5_enter();
    H5PLset_loading_state(0); /* no filter comes from a shared object */
    H5dont_atexit(); /* its clean-up at exit can crash after a disk was full */
    H5Eget_auto2(H5E_DEFAULT, &quiet->function, &quiet->data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void hnp_quiet_end(const hnp_quiet *quiet)
{
    H5Eset_auto2(H5E_DEFAULT, quiet->function, quiet->data);
    hn_hdf5_leave();
}
