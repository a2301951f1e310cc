/* Shared by the two sides of the token cache: its header and its HDF5 names. */
#ifndef HONE_DATA_CACHE_FORMAT_H
#define HONE_DATA_CACHE_FORMAT_H

#include <hdf5.h>

#include "data/cache.h"

#define HNP_CACHE_HEADER 512 /* bytes before the HDF5 file proper: its user block */
#define HNP_CACHE_INFO "info"

/* What the first 512 bytes must be when the rest is `rest`: the digest of every other byte, and of
 * themselves. */
void hnp_cache_header(char header[HNP_CACHE_HEADER], const unsigned char *rest, size_t size);
const char *hnp_cache_column_name(int column);
hid_t hnp_cache_column_type(int column, bool wide); /* as it lies in the file: little-endian */

/* Between these two HDF5 is this thread's (core/hdf5_lock.h), and prints no errors of its own; the second puts back what was set before. */
typedef struct hnp_quiet {
    H5E_auto2_t function;
    void *data;
} hnp_quiet;
void hnp_quiet_begin(hnp_quiet *quiet);
void hnp_quiet_end(const hnp_quiet *quiet);

#endif
