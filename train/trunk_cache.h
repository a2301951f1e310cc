/* freeze.cache: the output of the frozen trunk, computed once an example and read back in later epochs. One HDF5 file of three
 * contiguous datasets in the run folder, read and written in place:
 *
 *     output  [rows, C]     rows of example e from first_row(e) on: all its tokens, or its first alone when only the head trains
 *     digest  [examples, 2] XXH3-128 of the example's rows; zeros: not there
 *
 *     key    [32]           what it is of, and the seal: XXH3-128 of the key and of every byte outside of the three datasets
 *
 * A read is checked against the digest, so a torn write or a damaged byte is computed again and never trusted. The file is
 * keyed by the trunk's weights, data, tokenizer and type; another key starts it over, and so does damage, which is said. */
#ifndef HONE_TRAIN_TRUNK_CACHE_H
#define HONE_TRAIN_TRUNK_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/backend.h"
#include "core/batch.h"
#include "core/digest.h"
#include "core/error.h"
#include "core/tensor.h"
#include "data/dataset.h"

typedef struct hn_trunk_cache hn_trunk_cache;

/* Opens or makes `path`, for rows of `buffer` [rows of a slice at most, C], in the backend's memory. `first_only`: one row an example. Examples from the first one that does not fit `budget` bytes on
 * are never kept; when that is the first one, no file is made. What is at `path` and is no such file is replaced. */
hn_status hn_trunk_cache_open(hn_trunk_cache **out, const char *path, hn_digest key, const hn_dataset *dataset,
                              const hn_tensor *buffer, hn_backend *backend, bool first_only, uint64_t budget, hn_error *error);
void hn_trunk_cache_free(hn_trunk_cache *cache);

/* What a person should know of it and was not told yet (that it was made anew, that rows of it were damaged), or NULL; valid until the
 * next call. */
const char *hn_trunk_cache_note(hn_trunk_cache *cache);

/* The rows of `buffer` that this batch's trunk output has: its tokens, or one an example. */
hn_tensor hn_trunk_cache_view(const hn_trunk_cache *cache, const hn_tensor *buffer, const hn_batch *batch);
/* Fills `rows` with the trunk's output of these examples; false when any of them is not there or damaged. Waits for nothing but the
 * copy of the slice before. */
bool hn_trunk_cache_get(hn_trunk_cache *cache, const hn_tensor *rows, const uint32_t *examples, int32_t count);
/* Keeps it; waits until it is computed. A failure to write (a full disk) ends keeping, and is no error of the run. */
void hn_trunk_cache_put(hn_trunk_cache *cache, const hn_tensor *rows, const uint32_t *examples, int32_t count);

#endif
