/* The token cache: what both sides share. The file is one HDF5 file with a user block before it:
 *
 *     0     "hone token cache 3\n" DIGEST of the bytes from 512 on "\n" SIZE "\n" DIGEST of these lines "\n"
 * 0 0 0 ... 512   HDF5: one contiguous dataset a column (columns.h), and "info", a JSON text: key, report,
 * sources
 *
 * The header vouches for every byte of the file. That finds damage, not malice, and HDF5 does not stand files that somebody
 * made: it writes the file and never reads it (core/hdf5_structure.h does). Columns are contiguous and never
 * compressed: reading maps the file and looks up where each column lies, so a step never waits for
 * HDF5's global lock, and memory is the page cache's. The name of the file is the key (tokenizer, options,
 * paths); the sources inside say whether the data is the same. */
#include "data/cache.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

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
    int used = snprintf(header, HNP_CACHE_HEADER, "hone token cache 3\n%s\n%zu\n", text, size);
    hn_digest_format(text, hn_digest_bytes(header, (size_t)used));
    snprintf(header + used, HNP_CACHE_HEADER - (size_t)used, "%s\n", text);
}

const char *hnp_cache_column_name(int column)
{
    static const char *const names[HNP_COLUMNS] = {"tokens", "marks", "offsets", "segment",
                                                   "label",  "value", "line",    "first"};
    return names[column];
}

hn_dtype hnp_cache_column_type(int column, bool wide)
{
    switch (column) {
    case HNP_TOKENS: return wide ? HN_I32 : HN_HDF5_U16;
    case HNP_MARKS: return HN_HDF5_U16;
    case HNP_SEGMENT:
    case HNP_LABELS: return HN_I32;
    case HNP_VALUES: return HN_F32;
    default: return HN_I64;
    }
}
