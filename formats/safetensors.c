/* Reading safetensors (writing is in safetensors_save.c).
 *
 *     0        8                 8 + H                                 size
 *     +--------+-----------------+--------------------------------------+
 *     | H, u64 | JSON, "{" first | tensors' bytes, end to end, no holes |
 *     +--------+-----------------+--------------------------------------+
 *               {"__metadata__": {"format": "pt"},
 *                "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
 *
 * (offsets count from 8 + H).
 *
 * Everything in the header is a stranger's claim. The order of checks is the order of belief: the 8 bytes
 * against the file, the JSON's size, depth and nodes (core/json.h), each tensor by itself (type, shape, and
 * that its bytes are as many as its shape says), then all together: sorted by offset they must cover the data
 * exactly once. So a view that is handed out lies inside the mapping, and no byte is seen through two names.
 *
 * The format does not promise alignment: files written before 2023 have headers of any length. Tensors whose
 * bytes stand on an odd address are copied once into memory of our own; all others are views. */
#include "formats/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/mem.h"
#include "core/strbuf.h"
#include "formats/dtypes.h"
#include "formats/printable.h"

#define LENGTH_BYTES 8
#define HEADER_MAX ((size_t)16 << 20)
#define NAME_MAX_BYTES 1024
#define COPY_ALIGN 64

/* A real header has depth 3 and some 12 nodes a tensor. */
static const hn_json_limits header_limits = {.bytes = HEADER_MAX, .depth = 8, .nodes = 1500000};

struct hn_safetensors {
    hn_mapping mapping; /* empty when opened on borrowed bytes */
    json_t *header;     /* owns the names */
    hn_named_tensor *tensors;
    size_t count;
    void *copies; /* bytes of tensors that stand misaligned in the file */
    char *path;   /* NULL when opened on borrowed bytes */
};

/* A tensor's claim about where it lies. */
typedef struct claim {
    const char *name;
    hn_tensor tensor;
    uint64_t begin, end;
} claim;

static hn_status read_type(claim *out, const json_t *info, const char *file, hn_error *error)
{
    hnp_printable name = hnp_printable_make(out->name);
    const json_t *type = json_object_get(info, "dtype");
    if (!json_is_string(type))
        return hn_fail(error, HN_ERR_FORMAT, "%s: tensor \"%s\": dtype: expected a string, %s", file,
                       name.text, type ? "got another type" : "it is missing");
    if (strlen(json_string_value(type)) != json_string_length(type) ||
        !hnp_dtype_parse(&out->tensor.dtype, json_string_value(type))) {
        hnp_printable got = hnp_printable_make(json_string_value(type));
        return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: tensor \"%s\": dtype: expected one of %s, got \"%s\"",
                       file, name.text, HNP_DTYPE_NAMES, got.text);
    }
    return HN_OK;
}

/* The shape, and the bytes that it asks for. */
static hn_status read_shape(claim *out, uint64_t *bytes, const json_t *info, const char *file,
                            hn_error *error)
{
    hnp_printable name = hnp_printable_make(out->name);
    const json_t *shape = json_object_get(info, "shape");
    if (!json_is_array(shape))
        return hn_fail(error, HN_ERR_FORMAT, "%s: tensor \"%s\": shape: expected an array of integers, %s",
                       file, name.text, shape ? "got another type" : "it is missing");
    size_t rank = json_array_size(shape);
    if (rank > HN_MAX_RANK)
        return hn_fail(error, HN_ERR_UNSUPPORTED,
                       "%s: tensor \"%s\": shape: expected at most %d dimensions, got %zu", file, name.text,
                       HN_MAX_RANK, rank);
    uint64_t size = hn_dtype_size(out->tensor.dtype);
    int64_t row = 1; /* elements behind one index of the first dimension; an overflow shows in `size` too */
    bool overflow = false, empty = false;
    for (size_t i = rank; i-- > 0;) {
        const json_t *item = json_array_get(shape, i);
        if (!json_is_integer(item) || json_integer_value(item) < 0)
            return hn_fail(error, HN_ERR_FORMAT,
                           "%s: tensor \"%s\": shape[%zu]: expected an integer of at least 0, got %s", file,
                           name.text, i, json_is_integer(item) ? "a negative one" : "another type");
        int64_t extent = json_integer_value(item);
        empty |= extent == 0;
        overflow |= __builtin_mul_overflow(size, (uint64_t)extent, &size);
        if (i > 0) overflow |= __builtin_mul_overflow(row, extent, &row);
        out->tensor.shape[i] = extent;
    }
    /* [0, 2^62, 2^62] holds nothing, but code that multiplies its last two would overflow: refused as well.
     */
    if (overflow || size > INT64_MAX)
        return hn_fail(error, HN_ERR_FORMAT,
                       "%s: tensor \"%s\": shape: the product of its dimensions does not fit 63 bits", file,
                       name.text);
    for (size_t i = rank; i < HN_MAX_RANK; i++) out->tensor.shape[i] = 1;
    out->tensor.rank = (int)rank;
    out->tensor.stride = row;
    *bytes = empty ? 0 : size;
    return HN_OK;
}

static hn_status read_offsets(claim *out, uint64_t bytes, uint64_t available, const json_t *info,
                              const char *file, hn_error *error)
{
    hnp_printable name = hnp_printable_make(out->name);
    const json_t *offsets = json_object_get(info, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return hn_fail(error, HN_ERR_FORMAT, "%s: tensor \"%s\": data_offsets: expected two integers, %s",
                       file, name.text, offsets ? "got something else" : "it is missing");
    int64_t first = json_integer_value(begin), last = json_integer_value(end);
    if (first < 0 || last < first || (uint64_t)last > available)
        return hn_fail(error, HN_ERR_FORMAT,
                       "%s: tensor \"%s\": data_offsets: expected 0 <= begin <= end <= %" PRIu64
                       " (the bytes behind the header), got [%" PRId64 ", %" PRId64 "]",
                       file, name.text, available, first, last);
    if ((uint64_t)(last - first) != bytes)
        return hn_fail(error, HN_ERR_FORMAT,
                       "%s: tensor \"%s\": data_offsets: type and shape need %" PRIu64
                       " bytes, the offsets hold %" PRId64,
                       file, name.text, bytes, last - first);
    out->begin = (uint64_t)first;
    out->end = (uint64_t)last;
    return HN_OK;
}

/* A name becomes a key of ours, a name in exported files and a word in messages: no path, not empty. */
static hn_status check_name(const char *name, const char *file, hn_error *error)
{
    size_t length = strlen(name);
    const char *wrong = NULL;
    if (length == 0) wrong = "is empty";
    if (length > NAME_MAX_BYTES) wrong = "is longer than 1024 bytes";
    if (name[0] == '/' || !strcmp(name, "..") || !strncmp(name, "../", 3) || strstr(name, "/../"))
        wrong = "is a path";
    for (size_t i = 0; i < length && !wrong; i++)
        if ((unsigned char)name[i] < 0x20) wrong = "holds a control character";
    if (!wrong) return HN_OK;
    hnp_printable shown = hnp_printable_make(name);
    return hn_fail(error, HN_ERR_FORMAT, "%s: tensor \"%s\": its name %s", file, shown.text, wrong);
}

static hn_status check_metadata(const json_t *metadata, const char *file, hn_error *error)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return hn_fail(error, HN_ERR_FORMAT, "%s: __metadata__: expected an object of strings", file);
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (json_is_string(value)) continue;
        hnp_printable shown = hnp_printable_make(key);
        return hn_fail(error, HN_ERR_FORMAT, "%s: __metadata__.%s: expected a string, got another type", file,
                       shown.text);
    }
    return HN_OK;
}

/* Each tensor by itself. `claims` has room for all members of the header. */
static hn_status read_claims(claim *claims, size_t *count, json_t *header, uint64_t available,
                             const char *file, hn_error *error)
{
    const char *key;
    json_t *info;
    json_object_foreach(header, key, info)
    {
        uint64_t bytes = 0;
        claim *out = &claims[*count];
        hn_status status;
        if (!strcmp(key, "__metadata__")) {
            if ((status = check_metadata(info, file, error))) return status;
            continue;
        }
        *out = (claim){.name = key};
        if ((status = check_name(key, file, error))) return status;
        if (!json_is_object(info)) {
            hnp_printable shown = hnp_printable_make(key);
            return hn_fail(error, HN_ERR_FORMAT,
                           "%s: tensor \"%s\": expected an object with dtype, shape and data_offsets", file,
                           shown.text);
        }
        if ((status = read_type(out, info, file, error)) ||
            (status = read_shape(out, &bytes, info, file, error)) ||
            (status = read_offsets(out, bytes, available, info, file, error)))
            return status;
        ++*count;
    }
    return HN_OK;
}

static int by_offset(const void *a, const void *b)
{
    const claim *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const hn_named_tensor *)a)->name, ((const hn_named_tensor *)b)->name);
}

/* All together: in order of offset, each begins where the one before ended, and the last one with the file.
 */
static hn_status check_cover(claim *claims, size_t count, uint64_t available, const char *file,
                             hn_error *error)
{
    uint64_t covered = 0;
    qsort(claims, count, sizeof *claims, by_offset);
    for (size_t i = 0; i < count; i++) {
        if (claims[i].begin != covered) {
            hnp_printable name = hnp_printable_make(claims[i].name);
            return hn_fail(error, HN_ERR_FORMAT,
                           "%s: tensor \"%s\": data_offsets: expected to begin at %" PRIu64 ", got %" PRIu64
                           " (%s)",
                           file, name.text, covered, claims[i].begin,
                           claims[i].begin < covered ? "it overlaps another tensor" : "a hole before it");
        }
        covered = claims[i].end;
    }
    if (covered != available)
        return hn_fail(error, HN_ERR_FORMAT,
                       "%s: data_offsets: the tensors end at %" PRIu64 ", the file's data at %" PRIu64
                       " (trailing bytes)",
                       file, covered, available);
    return HN_OK;
}

static size_t aligned(size_t size)
{
    return (size + COPY_ALIGN - 1) / COPY_ALIGN * COPY_ALIGN;
}

/* Whether a tensor has values on an address where its type may not stand. */
static bool is_odd(const unsigned char *data, const claim *of)
{
    return of->end > of->begin && (uintptr_t)(data + of->begin) % hn_dtype_size(of->tensor.dtype);
}

/* Turns claims into views of `data`; tensors on an odd address get their copy. */
static hn_status place(hn_safetensors *self, const claim *claims, size_t count, const unsigned char *data,
                       const char *file, hn_error *error)
{
    size_t copied = 0;
    for (size_t i = 0; i < count; i++)
        if (is_odd(data, &claims[i]))
            copied += aligned((size_t)(claims[i].end - claims[i].begin));
    self->tensors = hn_reallocarray(NULL, count, sizeof *self->tensors);
    if (self->tensors && copied) self->copies = hn_malloc(copied);
    if (!self->tensors || (copied && !self->copies))
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for %zu tensors and %zu bytes", file, count,
                       copied);
    unsigned char *next = self->copies;
    for (size_t i = 0; i < count; i++) {
        hn_tensor view = claims[i].tensor;
        size_t size = (size_t)(claims[i].end - claims[i].begin);
        const unsigned char *bytes = data + claims[i].begin;
        view.data = (void *)bytes;
        if (is_odd(data, &claims[i])) {
            view.data = next;
            memcpy(next, bytes, size);
            next += aligned(size);
        }
        self->tensors[i] = (hn_named_tensor){.name = claims[i].name, .tensor = view};
    }
    self->count = count;
    qsort(self->tensors, count, sizeof *self->tensors, by_name);
    return HN_OK;
}

/* The 8 bytes against the file; then the JSON. */
static hn_status read_header(json_t **header, size_t *length, const unsigned char *bytes, size_t size,
                             const char *file, hn_error *error)
{
    uint64_t claimed = 0;
    if (size < LENGTH_BYTES)
        return hn_fail(error, HN_ERR_FORMAT, "%s: header length: expected %d bytes, the file has %zu", file,
                       LENGTH_BYTES, size);
    for (int i = LENGTH_BYTES; i-- > 0;) claimed = claimed << 8 | bytes[i];
    if (claimed < 2 || claimed > HEADER_MAX || claimed > size - LENGTH_BYTES)
        return hn_fail(
            error, HN_ERR_FORMAT,
            "%s: header length: expected 2 to %zu and no more than the %zu bytes behind it, got %" PRIu64
            " (is this a safetensors file?)",
            file, HEADER_MAX, size - LENGTH_BYTES, claimed);
    if (bytes[LENGTH_BYTES] != '{')
        return hn_fail(error, HN_ERR_FORMAT,
                       "%s: header: expected a JSON object that begins with '{', got byte 0x%02x", file,
                       bytes[LENGTH_BYTES]);
    hn_strbuf name;
    hn_strbuf_init(&name);
    hn_strbuf_printf(&name, "%s: header", file);
    hn_status status = name.failed ? hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", file)
                                   : hn_json_parse(header, (const char *)bytes + LENGTH_BYTES,
                                                   (size_t)claimed, name.text, header_limits, error);
    hn_strbuf_close(&name);
    *length = (size_t)claimed;
    return status;
}

/* Fills `self`; what it holds after a failure is the caller's to free. */
static hn_status parse(hn_safetensors *self, const unsigned char *bytes, size_t size, const char *file,
                       hn_error *error)
{
    claim *claims = NULL;
    size_t length = 0, count = 0;
    hn_status status = read_header(&self->header, &length, bytes, size, file, error);
    if (status) return status;
    uint64_t available = size - LENGTH_BYTES - length;
    claims = hn_reallocarray(NULL, json_object_size(self->header), sizeof *claims);
    if (!claims) {
        status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for %zu tensors", file,
                         json_object_size(self->header));
        goto out;
    }
    if ((status = read_claims(claims, &count, self->header, available, file, error))) goto out;
    if ((status = check_cover(claims, count, available, file, error))) goto out;
    status = place(self, claims, count, bytes + LENGTH_BYTES + length, file, error);
out:
    hn_free(claims);
    return status;
}

hn_status hn_safetensors_open(hn_safetensors **out, const char *path, hn_error *error)
{
    hn_safetensors *self = hn_calloc(1, sizeof *self);
    if (!self || !(self->path = hn_strdup(path))) {
        hn_free(self);
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", path);
    }
    hn_status status = hn_mapping_open(&self->mapping, path, error);
    if (!status) status = parse(self, self->mapping.bytes, self->mapping.size, path, error);
    if (!status) status = hn_safetensors_intact(self, error);
    if (status)
        hn_safetensors_free(self);
    else
        *out = self;
    return status;
}

hn_status hn_safetensors_open_bytes(hn_safetensors **out, const unsigned char *bytes, size_t size,
                                    const char *name, hn_error *error)
{
    hn_safetensors *self = hn_calloc(1, sizeof *self);
    if (!self) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", name);
    hn_status status = parse(self, bytes, size, name, error);
    if (status)
        hn_safetensors_free(self);
    else
        *out = self;
    return status;
}

void hn_safetensors_free(hn_safetensors *file)
{
    if (!file) return;
    hn_mapping_close(&file->mapping);
    json_decref(file->header);
    hn_free(file->tensors);
    hn_free(file->copies);
    hn_free(file->path);
    hn_free(file);
}

const hn_named_tensor *hn_safetensors_tensors(const hn_safetensors *file, size_t *count)
{
    *count = file->count;
    return file->tensors;
}

const hn_named_tensor *hn_safetensors_find(const hn_safetensors *file, const char *name)
{
    hn_named_tensor key = {.name = name};
    return bsearch(&key, file->tensors, file->count, sizeof *file->tensors, by_name);
}

void hn_safetensors_idle(const hn_safetensors *file)
{
    hn_mapping_idle(&file->mapping);
}

hn_status hn_safetensors_intact(const hn_safetensors *file, hn_error *error)
{
    if (hn_mapping_intact(&file->mapping)) return HN_OK;
    return hn_fail(error, HN_ERR_IO, "%s: cut short while it was read: expected %zu bytes", file->path,
                   file->mapping.size);
}
