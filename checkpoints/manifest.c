/* See manifest.h. The digest at the end is checked before the JSON is looked at: a damaged manifest is never
 * interpreted. A manifest that somebody made to hurt carries a right digest, so that every member is checked
 * all the same. Names of files are never taken from it: file i is rank-i.h5. */
#include "checkpoints/manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"

#define TAIL_BEGIN ",\n \"digest\": \""
#define TAIL_END "\"}\n"
#define TAIL_LENGTH (sizeof TAIL_BEGIN - 1 + HN_DIGEST_TEXT - 1 + sizeof TAIL_END - 1)

const char *hnp_file_name(char text[HNP_FILE_NAME], int rank)
{
    snprintf(text, HNP_FILE_NAME, "rank-%d.h5", rank);
    return text;
}

hnp_entry hnp_entry_whole(const char *name, const hn_tensor *tensor)
{
    hnp_entry entry = {.name = name, .dataset = name, .shape = *tensor, .count = hn_tensor_count(tensor)};
    entry.shape.data = NULL;
    return entry;
}

char *hnp_entries_name(hnp_entry *entries, size_t count)
{
    enum { NUMBER = 22 }; /* '@', 20 digits at most and the end */
    size_t room = 0;
    for (size_t i = 0; i < count; i++) room += strlen(entries[i].name) + NUMBER;
    char *block = hn_malloc(room), *next = block;
    for (size_t i = 0; block && i < count; i++) {
        entries[i].dataset = next;
        next += snprintf(next, room - (size_t)(next - block), "%s@%" PRId64, entries[i].name, entries[i].first) + 1;
    }
    return block;
}

size_t hnp_entry_bytes(const hnp_entry *entry)
{
    return (size_t)entry->count * hn_dtype_size(entry->shape.dtype);
}

hn_tensor hnp_entry_stored(const hnp_entry *entry)
{
    return entry->dataset == entry->name ? entry->shape : hn_tensor_1d(NULL, entry->shape.dtype, entry->count);
}

bool hnp_same_shape(const hn_tensor *a, const hn_tensor *b)
{
    bool same = a->dtype == b->dtype && a->rank == b->rank;
    for (int i = 0; same && i < a->rank; i++) same = a->shape[i] == b->shape[i];
    return same;
}

static void add_digest(hn_strbuf *out, hn_digest digest)
{
    char text[HN_DIGEST_TEXT];
    hn_digest_format(text, digest);
    hn_strbuf_printf(out, "\"digest\": \"%s\"", text);
}

static void add_entry(hn_strbuf *out, const hnp_entry *entry, int format)
{
    hn_strbuf_puts(out, "  {\"name\": ");
    hn_json_quote(out, entry->name, strlen(entry->name));
    hn_strbuf_printf(out, ", \"dtype\": \"%s\", \"shape\": [", hn_dtype_name(entry->shape.dtype));
    for (int i = 0; i < entry->shape.rank; i++)
        hn_strbuf_printf(out, "%s%" PRId64, i ? ", " : "", entry->shape.shape[i]);
    hn_strbuf_puts(out, "], ");
    if (format == HNP_MANIFEST_PIECES) hn_strbuf_printf(out, "\"first\": %" PRId64 ", \"count\": %" PRId64 ", ", entry->first, entry->count);
    hn_strbuf_printf(out, "\"offset\": %" PRIu64 ", \"bytes\": %zu, ", entry->offset, hnp_entry_bytes(entry));
    add_digest(out, entry->digest);
    hn_strbuf_putc(out, '}');
}

static void add_file(hn_strbuf *out, const hnp_file *file, int rank, int format)
{
    char name[HNP_FILE_NAME];
    hn_strbuf_printf(out, "{\"name\": \"%s\", \"bytes\": %" PRIu64 ", ", hnp_file_name(name, rank), file->bytes);
    add_digest(out, file->digest);
    hn_strbuf_puts(out, ", \"tensors\": [");
    for (size_t i = 0; i < file->count; i++) {
        hn_strbuf_puts(out, i ? ",\n" : "\n");
        add_entry(out, &file->entries[i], format);
    }
    hn_strbuf_puts(out, "]}");
}

static void add_head(hn_strbuf *out, int format, int64_t step, int ranks)
{
    hn_strbuf_printf(out, "{\"format\": %d,\n \"step\": %" PRId64 ",\n \"world_size\": %d,\n \"files\": [", format, step, ranks);
}

static void add_tail(hn_strbuf *out, const json_t *object)
{
    char text[HN_DIGEST_TEXT];
    char *state = json_dumps(object, JSON_INDENT(1));
    hn_strbuf_puts(out, "],\n \"state\": ");
    hn_strbuf_puts(out, state ? state : "");
    out->failed |= !state;
    hn_free(state);
    hn_digest_format(text, hn_digest_bytes(out->text, out->length));
    hn_strbuf_printf(out, TAIL_BEGIN "%s" TAIL_END, text);
}

void hnp_manifest_encode(hn_strbuf *out, const hnp_manifest *manifest)
{
    add_head(out, manifest->format, manifest->step, manifest->ranks);
    for (int i = 0; i < manifest->ranks; i++) {
        if (i) hn_strbuf_puts(out, ",\n ");
        add_file(out, &manifest->files[i], i, manifest->format);
    }
    add_tail(out, manifest->state);
}

void hnp_manifest_encode_file(hn_strbuf *out, const hnp_file *file, int rank)
{
    add_file(out, file, rank, HNP_MANIFEST_PIECES);
}

void hnp_manifest_join(hn_strbuf *out, int64_t step, const hn_blobs *files, const json_t *state)
{
    add_head(out, HNP_MANIFEST_PIECES, step, files->count);
    for (int i = 0; i < files->count; i++) {
        if (i) hn_strbuf_puts(out, ",\n ");
        hn_strbuf_add(out, hn_blobs_view(files, i), hn_blobs_size(files, i));
    }
    add_tail(out, state);
}

/* Reading. */

static hn_status check_digest(const char *text, size_t size, const char *where, hn_error *error)
{
    char said[HN_DIGEST_TEXT] = "", computed[HN_DIGEST_TEXT];
    size_t before = size < TAIL_LENGTH ? 0 : size - TAIL_LENGTH;
    const char *tail = text + before;
    if (size < TAIL_LENGTH || memcmp(tail, TAIL_BEGIN, sizeof TAIL_BEGIN - 1) ||
        memcmp(text + size - (sizeof TAIL_END - 1), TAIL_END, sizeof TAIL_END - 1))
        return hn_fail(error, HN_ERR_FORMAT, "%s: damaged: it does not end in its digest", where);
    memcpy(said, tail + sizeof TAIL_BEGIN - 1, HN_DIGEST_TEXT - 1);
    hn_digest_format(computed, hn_digest_bytes(text, before));
    if (!strcmp(said, computed)) return HN_OK;
    for (char *c = said; *c; c++)
        if (!strchr("0123456789abcdef", *c)) *c = '?';
    return hn_fail(error, HN_ERR_FORMAT, "%s: damaged: expected the digest %s, got %s", where, said,
                   computed);
}

static hn_status missing(const char *where, const char *what, hn_error *error)
{
    return hn_fail(error, HN_ERR_FORMAT, "%s: %s is missing", where, what);
}

static hn_status read_digest(hn_digest *out, const json_t *object, const char *where, hn_error *error)
{
    const char *text = NULL;
    hn_status status = hn_json_get_string(&text, object, "digest", where, error);
    if (status == HN_OK && (!text || !hn_digest_parse(out, text)))
        status = hn_fail(error, HN_ERR_FORMAT, "%s: \"digest\": expected 32 hexadecimal digits", where);
    return status;
}

/* An extent of 0 counts as 1 in what is kept below 2^63: whoever multiplies from the other end stays below it too. */
static hn_status read_shape(hn_tensor *out, const json_t *object, const char *where, hn_error *error)
{
    const char *type = NULL;
    hn_status status = hn_json_get_string(&type, object, "dtype", where, error);
    if (status != HN_OK) return status;
    if (!type) return missing(where, "\"dtype\"", error);
    int dtype = 0;
    while (dtype < HN_DTYPES && strcmp(hn_dtype_name((hn_dtype)dtype), type)) dtype++;
    if (dtype == HN_DTYPES)
        return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: \"dtype\": unknown type \"%.20s\"", where, type);
    const json_t *shape = json_object_get(object, "shape");
    size_t rank = json_array_size(shape);
    if (!json_is_array(shape) || rank > HN_MAX_RANK)
        return hn_fail(error, HN_ERR_FORMAT, "%s: \"shape\": expected an array of at most %d integers", where,
                       HN_MAX_RANK);
    *out = (hn_tensor){.dtype = (hn_dtype)dtype, .rank = (int)rank, .shape = {1, 1, 1, 1}, .stride = 1};
    int64_t size = (int64_t)hn_dtype_size(out->dtype);
    for (size_t i = rank; i-- > 0;) {
        const json_t *item = json_array_get(shape, i);
        int64_t extent = json_integer_value(item);
        if (!json_is_integer(item) || extent < 0 || __builtin_mul_overflow(size, extent ? extent : 1, &size))
            return hn_fail(error, HN_ERR_FORMAT,
                           "%s: \"shape\": expected integers of at least 0 and a product below 2^63", where);
        out->shape[i] = extent;
        if (i > 0) out->stride *= extent;
    }
    return HN_OK;
}

/* Which elements of the tensor stand here. */
static hn_status read_range(hnp_entry *out, const json_t *object, int format, const char *where, hn_error *error)
{
    int64_t whole = hn_tensor_count(&out->shape), first = -1, count = -1;
    if (format == HNP_MANIFEST_WHOLE) {
        *out = hnp_entry_whole(out->name, &out->shape);
        return HN_OK;
    }
    hn_status status = hn_json_get_int(&first, object, "first", 0, whole, where, error);
    if (status == HN_OK) status = hn_json_get_int(&count, object, "count", 0, whole, where, error);
    if (status != HN_OK) return status;
    if (first < 0 || count < 0) return missing(where, "\"first\" or \"count\"", error);
    if (count > whole - first || (!count && whole))
        return hn_fail(error, HN_ERR_FORMAT, "%s: expected some of its %" PRId64 " elements, got %" PRId64 " from %" PRId64 " on", where,
                       whole, count, first);
    out->first = first;
    out->count = count;
    return HN_OK;
}

static hn_status read_entry(hnp_entry *out, const json_t *object, int format, uint64_t file_bytes, const char *where, hn_error *error)
{
    hn_strbuf place;
    int64_t offset = -1, bytes = -1, limit = (int64_t)file_bytes;
    hn_strbuf_init(&place);
    hn_status status = hn_json_get_string(&out->name, object, "name", where, error);
    if (status == HN_OK && (!out->name || !*out->name || strchr(out->name, '/')))
        status = hn_fail(error, HN_ERR_FORMAT, "%s: a tensor's \"name\": expected text without '/'", where);
    if (status != HN_OK) goto out;
    hn_strbuf_printf(&place, "%s: tensor \"%.80s\"", where, out->name);
    if (place.failed) {
        status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", where);
        goto out;
    }
    if ((status = read_shape(&out->shape, object, place.text, error))) goto out;
    if ((status = read_range(out, object, format, place.text, error))) goto out;
    if ((status = read_digest(&out->digest, object, place.text, error))) goto out;
    if ((status = hn_json_get_int(&offset, object, "offset", 0, limit, place.text, error))) goto out;
    if ((status = hn_json_get_int(&bytes, object, "bytes", 0, limit, place.text, error))) goto out;
    if (offset < 0 || bytes < 0)
        status = missing(place.text, "\"offset\" or \"bytes\"", error);
    else if ((uint64_t)bytes != hnp_entry_bytes(out) || bytes > limit - offset)
        status = hn_fail(error, HN_ERR_FORMAT,
                         "%s: type and shape need %zu bytes, it says %" PRId64 " at %" PRId64 " of %" PRId64,
                         place.text, hnp_entry_bytes(out), bytes, offset, limit);
    out->offset = (uint64_t)offset;
out:
    hn_strbuf_close(&place);
    return status;
}

/* The entries of a file, from self->entries[self->count] on. */
static hn_status read_file(hnp_manifest *self, int index, const json_t *object, const char *where, hn_error *error)
{
    char expected[HNP_FILE_NAME];
    const char *name = NULL;
    int64_t bytes = -1;
    hnp_file *file = &self->files[index];
    const json_t *tensors = json_object_get(object, "tensors");
    hnp_file_name(expected, index);
    hn_status status = json_is_object(object) ? hn_json_get_string(&name, object, "name", where, error) : HN_OK;
    if (status == HN_OK && (!name || strcmp(name, expected)))
        status = hn_fail(error, HN_ERR_FORMAT, "%s: \"files\": expected %s, got \"%.40s\"", where,
                         expected, name ? name : "");
    if (status == HN_OK) status = hn_json_get_int(&bytes, object, "bytes", 0, INT64_MAX, where, error);
    if (status == HN_OK && bytes < 0) status = missing(where, "the file's \"bytes\"", error);
    if (status == HN_OK) status = read_digest(&file->digest, object, where, error);
    if (status != HN_OK) return status;
    file->bytes = (uint64_t)bytes;
    file->entries = self->entries + self->count;
    file->count = json_array_size(tensors);
    for (size_t i = 0; i < file->count && status == HN_OK; i++) {
        file->entries[i].file = index;
        status = read_entry(&file->entries[i], json_array_get(tensors, i), self->format, file->bytes, where, error);
    }
    self->count += file->count;
    return status;
}

static int by_place(const void *a, const void *b)
{
    const hnp_entry *x = *(const hnp_entry *const *)a, *y = *(const hnp_entry *const *)b;
    int names = strcmp(x->name, y->name);
    return names ? names : x->first < y->first ? -1 : x->first > y->first;
}

/* The pieces of the tensor of order[i]: all of its elements, each of them once. Returns how many there are, 0: a failure. */
static size_t check_pieces(const hnp_manifest *self, size_t i, const char *where, hn_error *error)
{
    const hnp_entry *head = self->order[i];
    int64_t whole = hn_tensor_count(&head->shape), at = 0;
    size_t n = 0;
    for (; i + n < self->count && !strcmp(self->order[i + n]->name, head->name); n++) {
        const hnp_entry *one = self->order[i + n];
        const char *wrong = NULL;
        if (n && (one->first < at || !whole)) wrong = "stands there twice";
        else if (!hnp_same_shape(&one->shape, &head->shape)) wrong = "has two types or shapes";
        else if (one->first > at) break;
        if (wrong) {
            hn_fail(error, HN_ERR_FORMAT, "%s: tensor \"%.80s\" %s, in rank-%d.h5 and rank-%d.h5", where, one->name, wrong,
                    self->order[i + n - 1]->file, one->file);
            return 0;
        }
        at = one->first + one->count;
    }
    if (at == whole) return n;
    hn_fail(error, HN_ERR_FORMAT, "%s: tensor \"%.80s\": element %" PRId64 " of its %" PRId64 " is missing", where, head->name, at, whole);
    return 0;
}

static hn_status read_files(hnp_manifest *self, const json_t *files, const char *where, hn_error *error)
{
    hn_status status = HN_OK;
    size_t total = 0;
    if (json_array_size(files) != (size_t)self->ranks)
        return hn_fail(error, HN_ERR_FORMAT, "%s: \"files\": expected one file a process, %d, got %zu", where, self->ranks,
                       json_array_size(files));
    for (int i = 0; i < self->ranks; i++) {
        const json_t *tensors = json_object_get(json_array_get(files, (size_t)i), "tensors");
        if (!json_is_array(tensors)) return missing(where, "the list \"tensors\"", error);
        total += json_array_size(tensors);
    }
    self->files = hn_calloc((size_t)self->ranks, sizeof *self->files);
    self->entries = hn_calloc(total, sizeof *self->entries);
    self->order = hn_calloc(total, sizeof(hnp_entry *));
    if (!self->files || !self->entries || !self->order)
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for %zu tensors", where, total);
    for (int i = 0; i < self->ranks && status == HN_OK; i++)
        status = read_file(self, i, json_array_get(files, (size_t)i), where, error);
    if (status != HN_OK) return status;
    if (self->format == HNP_MANIFEST_PIECES && !(self->datasets = hnp_entries_name(self->entries, total)))
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for the names of %zu pieces", where, total);
    for (size_t i = 0; i < total; i++) self->order[i] = &self->entries[i];
    if (total) qsort(self->order, total, sizeof(hnp_entry *), by_place);
    for (size_t i = 0, n; i < total; i += n)
        if (!(n = check_pieces(self, i, where, error))) return HN_ERR_FORMAT;
    return HN_OK;
}

static hn_status read_root(hnp_manifest *self, const char *where, hn_error *error)
{
    int64_t format = -1, world = -1;
    self->step = -1;
    self->state = json_object_get(self->root, "state");
    hn_status status = hn_json_get_int(&format, self->root, "format", 1, INT64_MAX, where, error);
    if (status != HN_OK) return status;
    if (format < 0) return missing(where, "\"format\"", error);
    if (format > HNP_MANIFEST_PIECES)
        return hn_fail(error, HN_ERR_UNSUPPORTED,
                       "%s: \"format\": expected %d or %d, got %" PRId64 " (written by a later hone)", where,
                       HNP_MANIFEST_WHOLE, HNP_MANIFEST_PIECES, format);
    int most = format == HNP_MANIFEST_WHOLE ? 1 : HNP_MANIFEST_RANKS;
    if ((status = hn_json_get_int(&world, self->root, "world_size", 1, INT32_MAX, where, error)))
        return status;
    if (world < 0) return missing(where, "\"world_size\"", error);
    if (world > most)
        return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: \"world_size\": expected %s%d, got %" PRId64, where, most > 1 ? "at most " : "", most,
                       world);
    self->format = (int)format;
    self->ranks = (int)world;
    if ((status = hn_json_get_int(&self->step, self->root, "step", 0, INT64_MAX, where, error)))
        return status;
    if (self->step < 0) return missing(where, "\"step\"", error);
    if (!json_is_object(self->state)) return missing(where, "the object \"state\"", error);
    return read_files(self, json_object_get(self->root, "files"), where, error);
}

hn_status hnp_manifest_decode(hnp_manifest *out, const char *text, size_t size, const char *where,
                              hn_error *error)
{
    hnp_manifest self = {0};
    hn_status status = check_digest(text, size, where, error);
    if (status == HN_OK) status = hn_json_parse(&self.root, text, size, where, HN_JSON_LIMITS_LARGE, error);
    if (status == HN_OK) status = read_root(&self, where, error);
    if (status == HN_OK)
        *out = self;
    else
        hnp_manifest_close(&self);
    return status;
}

hn_status hnp_manifest_take(hnp_manifest *out, const char *text, size_t size, const char *folder, int64_t step, hn_error *error)
{
    hnp_manifest self = {0};
    char *path = hn_path_join(folder, HNP_MANIFEST_NAME);
    if (!path) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    hn_status status = hnp_manifest_decode(&self, text, size, path, error);
    if (status == HN_OK && self.step != step) {
        status = hn_fail(error, HN_ERR_FORMAT,
                         "%s: \"step\": expected %" PRId64 " as its folder says, got %" PRId64, path, step,
                         self.step);
        hnp_manifest_close(&self);
    }
    if (status == HN_OK) *out = self;
    hn_free(path);
    return status;
}

hn_status hnp_manifest_text(char **text, size_t *size, const char *folder, hn_error *error)
{
    char *path = hn_path_join(folder, HNP_MANIFEST_NAME);
    if (!path) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    hn_status status = hn_file_read(text, size, path, HN_JSON_LIMITS_LARGE.bytes, error);
    hn_free(path);
    return status;
}

hn_status hnp_manifest_read(hnp_manifest *out, const char *folder, int64_t step, hn_error *error)
{
    char *text = NULL;
    size_t size = 0;
    hn_status status = hnp_manifest_text(&text, &size, folder, error);
    if (status == HN_OK) status = hnp_manifest_take(out, text, size, folder, step, error);
    hn_free(text);
    return status;
}

void hnp_manifest_close(hnp_manifest *manifest)
{
    hn_free(manifest->files);
    hn_free(manifest->entries);
    hn_free(manifest->order);
    hn_free(manifest->datasets);
    json_decref(manifest->root);
    *manifest = (hnp_manifest){0};
}

hnp_entry *const *hnp_manifest_find(const hnp_manifest *manifest, const char *name)
{
    size_t low = 0, high = manifest->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(manifest->order[middle]->name, name) < 0) low = middle + 1;
        else high = middle;
    }
    return low < manifest->count && !strcmp(manifest->order[low]->name, name) ? manifest->order + low : NULL;
}
