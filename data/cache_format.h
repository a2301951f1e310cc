/* Shared by the two sides of the token cache: its header, and its columns' names and types. */
#ifndef HONE_DATA_CACHE_FORMAT_H
#define HONE_DATA_CACHE_FORMAT_H

#include "core/hdf5_structure.h"
#include "data/cache.h"

#define HNP_CACHE_HEADER 512 /* bytes before the HDF5 file proper: its user block */
#define HNP_CACHE_INFO "info"

/* What the first 512 bytes must be when the rest is `rest`: the digest of every other byte, and of
 * themselves. */
void hnp_cache_header(char header[HNP_CACHE_HEADER], const unsigned char *rest, size_t size);
const char *hnp_cache_column_name(int column);
hn_dtype hnp_cache_column_type(int column, bool wide); /* as it lies in the file, little-endian; HN_HDF5_U16 among them */

#endif
