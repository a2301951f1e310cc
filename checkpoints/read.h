/* Tensors and pieces of tensors out of a checkpoint's files, whoever wrote which part of them. Shared inside this room. */
#ifndef HONE_CHECKPOINTS_READ_H
#define HONE_CHECKPOINTS_READ_H

#include "checkpoints/manifest.h"
#include "checkpoints/pieces.h"

/* Whether the manifest has all these tensors, of these types and shapes (HN_ERR_MISMATCH); with `all`, no others. */
hn_status hnp_read_match(const hnp_manifest *manifest, const hn_piece *pieces, size_t count, bool all, const char *folder, hn_error *error);
/* Fills pieces that match. The files were checked; every piece of theirs of which anything is wanted is read whole and compared with its
 * digest again. */
hn_status hnp_read_pieces(const hnp_manifest *manifest, const hn_piece *pieces, size_t count, const char *folder, hn_error *error);

#endif
