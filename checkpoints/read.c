/* See read.h. What was saved by some processes is wanted by others, cut elsewhere:
 *
 *     tensor      0         9              24      30
 *     stored      | rank-0  | rank-1       | rank-2 |
 *     wanted           |  a      | b |
 *                      5         16  20
 *
 * Files are read one after the other and each stored piece once, from its front to its end, however many wanted ones it has a part of; its
 * bytes go from the block where they were digested to where they are wanted. So a piece whose digest is right now as it was when the
 * file was checked is what was taken, also where a few of its elements are wanted, and no room is needed for a piece. */
#include "checkpoints/read.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoints/check.h"
#include "core/file.h"
#include "core/mem.h"

static void describe(hn_strbuf *out, const hn_tensor *tensor)
{
    hn_strbuf_printf(out, "%s [", hn_dtype_name(tensor->dtype));
    for (int i = 0; i < tensor->rank; i++)
        hn_strbuf_printf(out, "%s%lld", i ? ", " : "", (long long)tensor->shape[i]);
    hn_strbuf_putc(out, ']');
}

static hn_status match_one(const hnp_manifest *manifest, const hn_named_tensor *wanted, const char *path,
                           hn_error *error)
{
    hnp_entry *const *entry = hnp_manifest_find(manifest, wanted->name);
    if (!entry) return hn_fail(error, HN_ERR_MISMATCH, "%s: tensor \"%s\" is missing", path, wanted->name);
    if (hnp_same_shape(&(*entry)->shape, &wanted->tensor)) return HN_OK;
    hn_strbuf expected, got;
    hn_strbuf_init(&expected);
    hn_strbuf_init(&got);
    describe(&expected, &wanted->tensor);
    describe(&got, &(*entry)->shape);
    hn_status status = hn_fail(error, HN_ERR_MISMATCH, "%s: tensor \"%s\": expected %s, got %s", path,
                               wanted->name, expected.text, got.text);
    hn_strbuf_close(&expected);
    hn_strbuf_close(&got);
    return status;
}

hn_status hnp_read_match(const hnp_manifest *manifest, const hn_piece *pieces, size_t count, bool all, const char *folder, hn_error *error)
{
    for (size_t i = 0; i < count; i++) {
        hn_status status = match_one(manifest, &pieces[i].of, folder, error);
        if (status != HN_OK) return status;
    }
    for (size_t i = 0; all && i < manifest->count; i++) {
        bool wanted = false;
        for (size_t k = 0; k < count && !wanted; k++)
            wanted = !strcmp(manifest->order[i]->name, pieces[k].of.name);
        if (!wanted)
            return hn_fail(error, HN_ERR_MISMATCH,
                           "%s: tensor \"%s\" of the checkpoint is not one of this run's", folder,
                           manifest->order[i]->name);
    }
    return HN_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const hn_piece *const *)a)->of.name, (*(const hn_piece *const *)b)->of.name);
}

/* The wanted pieces of one tensor, and the stored piece that is being read. */
typedef struct wants {
    const hn_piece **piece; /* [count] */
    size_t count;
    const hnp_entry *entry;
} wants;

/* Bytes [from, to) of the tensor that stand in the stored piece and are the wanted one's; false: none. */
static bool overlap(const hnp_entry *entry, const hn_piece *piece, uint64_t *from, uint64_t *to)
{
    uint64_t size = hn_dtype_size(entry->shape.dtype);
    int64_t first = piece->first > entry->first ? piece->first : entry->first;
    int64_t last = piece->first + piece->count, end = entry->first + entry->count;
    if (last > end) last = end;
    if (first >= last) return false;
    *from = (uint64_t)first * size;
    *to = (uint64_t)last * size;
    return true;
}

static void take(void *context, uint64_t at, const unsigned char *bytes, size_t size)
{
    const wants *self = context;
    uint64_t width = hn_dtype_size(self->entry->shape.dtype), begin = (uint64_t)self->entry->first * width + at, from, to;
    for (size_t i = 0; i < self->count; i++) {
        const hn_piece *piece = self->piece[i];
        if (!overlap(self->entry, piece, &from, &to)) continue;
        if (from < begin) from = begin;
        if (to > begin + size) to = begin + size;
        if (from < to) memcpy((char *)piece->of.tensor.data + (from - (uint64_t)piece->first * width), bytes + (from - begin), (size_t)(to - from));
    }
}

/* The part of `sorted` that is of this entry's tensor. */
static wants find_wants(const hn_piece **sorted, size_t count, const hnp_entry *entry)
{
    size_t low = 0, high = count, end;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(sorted[middle]->of.name, entry->name) < 0) low = middle + 1;
        else high = middle;
    }
    for (end = low; end < count && !strcmp(sorted[end]->of.name, entry->name);) end++;
    return (wants){.piece = sorted + low, .count = end - low, .entry = entry};
}

static bool is_wanted(const wants *self)
{
    uint64_t from, to;
    bool any = false;
    for (size_t i = 0; i < self->count && !any; i++) any = overlap(self->entry, self->piece[i], &from, &to);
    return any;
}

/* What is wanted of one file, which is opened with the first piece of it. */
static hn_status read_file(const hnp_file *file, const char *path, const hn_piece **sorted, size_t count, hn_error *error)
{
    hnp_reader reader = {.fd = -1};
    hn_status status = HN_OK;
    for (size_t i = 0; i < file->count && status == HN_OK; i++) {
        const hnp_entry *entry = &file->entries[i];
        wants self = find_wants(sorted, count, entry);
        const hnp_taker taker = {take, &self};
        hn_digest digest;
        if (!is_wanted(&self)) continue;
        if (reader.fd < 0) status = hnp_reader_open(&reader, path, error);
        if (status == HN_OK) status = hnp_reader_digest(&digest, &taker, &reader, entry->offset, hnp_entry_bytes(entry), error);
        if (status == HN_OK && !hn_digest_equal(digest, entry->digest))
            status = hn_fail(error, HN_ERR_IO, "%s: tensor \"%s\": its bytes changed while they were read", path, entry->dataset);
    }
    hnp_reader_close(&reader);
    return status;
}

hn_status hnp_read_pieces(const hnp_manifest *manifest, const hn_piece *pieces, size_t count, const char *folder, hn_error *error)
{
    hn_status status = HN_OK;
    const hn_piece **sorted = hn_calloc(count, sizeof(hn_piece *));
    if (!sorted) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for %zu tensors", folder, count);
    for (size_t i = 0; i < count; i++) {
        sorted[i] = &pieces[i];
        HN_ASSERT(pieces[i].first >= 0 && pieces[i].count >= 0 && pieces[i].count <= hn_tensor_count(&pieces[i].of.tensor) - pieces[i].first);
    }
    if (count) qsort(sorted, count, sizeof(hn_piece *), by_name);
    for (int rank = 0; rank < manifest->ranks && status == HN_OK; rank++) {
        char name[HNP_FILE_NAME], *path = hn_path_join(folder, hnp_file_name(name, rank));
        status = path ? read_file(&manifest->files[rank], path, sorted, count, error) : hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
        hn_free(path);
    }
    hn_free(sorted);
    return status;
}
