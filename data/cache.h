/* Shared inside data/: the token cache, one HDF5 file a data set; see cache.c for what stands in it. */
#ifndef HONE_DATA_CACHE_H
#define HONE_DATA_CACHE_H

#include "data/datasets.h"
#include "data/sources.h"

/* FOLDER/tokens-KEY.h5 (hn_free); NULL: out of memory. */
char *hnp_cache_path(const char *folder, hn_digest key);

/* Holds other processes off the caches of a folder until it is closed (close(2)); -1 where the file system
 * cannot. */
int hnp_cache_lock(const char *folder);

/* Writes the data set's columns, report and sources as `path`, by the commit protocol. */
hn_status hnp_cache_save(hn_dataset *dataset, const hnp_sources *sources, hn_digest key, const char *path,
                         hn_error *error);

/* What the encoder keeps to, and so what a cache's columns must: they become addresses. */
typedef struct hnp_cache_bounds {
    int32_t vocabulary, longest; /* ids are below the one, examples have at most the other */
    int32_t classes;             /* labels and tags are below it; 0: they are not read, or are numbers */
} hnp_cache_bounds;

/* Maps the cache into the data set. HN_ERR_MISMATCH: there is none; or it is damaged, not one that hone makes, or of other
 * data, and the report's note says so: it must be made. Reads the sources only where their stamps do not settle it;
 * their digests are known after success. Other errors are real ones (memory, unreadable data files). */
hn_status hnp_cache_load(hn_dataset *dataset, hnp_sources *sources, hn_digest key, const hnp_cache_bounds *bounds,
                         const char *path, hn_error *error);

#endif
