/* Shared inside data/: the files a data set is made of, and what tells whether they are still the same. */
#ifndef HONE_DATA_SOURCES_H
#define HONE_DATA_SOURCES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/config.h"
#include "core/digest.h"
#include "core/error.h"

/* Of one file. Times are nanoseconds since 1970; all stay 0 for standard input. */
typedef struct hnp_stamp {
    int64_t size, modified, changed, inode, device;
} hnp_stamp;

typedef struct hnp_source_file {
    const char *path; /* borrowed */
    hnp_stamp stamp;
    bool settled;     /* not changed so recently that a later change could have the same stamp */
    hn_digest digest; /* of the bytes; known after hnp_sources_digest */
} hnp_source_file;

typedef struct hnp_sources {
    hnp_source_file *files;
    int32_t count;
} hnp_sources;

hn_status hnp_sources_init(hnp_sources *sources, const hn_list *paths, hn_error *error); /* takes stamps */
hn_status hnp_sources_digest(hnp_sources *sources, hn_error *error); /* reads every byte */
hn_status hnp_sources_check(const hnp_sources *sources,
                            hn_error *error); /* an error when a file changed since init */
void hnp_sources_close(hnp_sources *sources);
bool hnp_stamp_equal(const hnp_stamp *a, const hnp_stamp *b);

#endif
