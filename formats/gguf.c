/* Reading GGUF (typed access to what was read is in gguf_get.c).
 *
 *     "GGUF" | version u32 | tensors u64 | keys u64
 *     keys      name | type u32 | value        ...      strings: length u64, bytes
 *     tensors   name | rank u32 | dimensions u64 x rank, shortest stride first | type u32 | offset u64   ...
 *     padding to the alignment (32, or general.alignment)
 *     the tensors' bytes, each padded to the alignment; offsets count from here
 *
 * The file is a stranger. It is walked once from front to back with a cursor that knows how many bytes are
 * left; a count is believed only when as many items of the smallest possible size could stand in them, so
 * that what is allocated is bounded by the file, and by KEYS_MAX and TENSORS_MAX. Strings are UTF-8 without
 * NUL; keys and tensors have different names. The tensors, sorted by offset, must cover the data exactly
 * once: each begins where the one before ended, padded. So a view that is handed out lies inside the mapping,
 * and no byte is seen through two names. */
#include "formats/gguf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "formats/gguf_internal.h"
#include "formats/printable.h"

#define NAME_MAX_BYTES 1024
#define KEYS_MAX 65536
#define TENSORS_MAX 262144
#define DEPTH_MAX 4
#define ALIGNMENT_DEFAULT 32
#define ALIGNMENT_MAX 65536
/* The smallest key: a name of 1 byte, a value of 1; the smallest tensor: a name of 1 byte, one dimension. */
enum { KEY_BYTES_MIN = 8 + 1 + 4 + 1, TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8 };

static const struct {
    const char *name;
    int bytes; /* the smallest value */
} types[HN_GGUF_TYPES] = {
    [HN_GGUF_U8] = {"U8", 1},        [HN_GGUF_I8] = {"I8", 1},     [HN_GGUF_U16] = {"U16", 2},
    [HN_GGUF_I16] = {"I16", 2},      [HN_GGUF_U32] = {"U32", 4},   [HN_GGUF_I32] = {"I32", 4},
    [HN_GGUF_F32] = {"F32", 4},      [HN_GGUF_BOOL] = {"BOOL", 1}, [HN_GGUF_STRING] = {"STRING", 8},
    [HN_GGUF_ARRAY] = {"ARRAY", 12}, [HN_GGUF_U64] = {"U64", 8},   [HN_GGUF_I64] = {"I64", 8},
    [HN_GGUF_F64] = {"F64", 8},
};

struct hn_gguf {
    hn_mapping mapping; /* empty when opened on borrowed bytes */
    char *path;
    hn_gguf_entry *entries;
    size_t entry_count;
    hn_gguf_tensor *tensors;
    size_t tensor_count;
    char *names, *next_name; /* of keys and tensors, each NUL-terminated */
};

/* Where reading stands. Messages name the file, `what` ("key", "tensor") and, once it is read, its name. */
typedef struct cursor {
    const unsigned char *bytes;
    size_t left;
    const char *file, *what;
    hnp_printable name;
    hn_error *error;
} cursor;

const char *hnp_gguf_type_name(hn_gguf_type type)
{
    return types[type].name;
}

int hnp_gguf_type_bytes(hn_gguf_type type)
{
    return types[type].bytes;
}

uint64_t hnp_gguf_load(const unsigned char *bytes, int size)
{
    uint64_t value = 0;
    for (int i = size; i-- > 0;) value = value << 8 | bytes[i];
    return value;
}

static hn_status short_of(const cursor *at, const char *field, uint64_t need)
{
    return hn_fail(at->error, HN_ERR_FORMAT,
                   "%s: %s%s%s: %s: expected %" PRIu64 " bytes, the file ends after %zu", at->file, at->what,
                   *at->name.text ? " " : "", at->name.text, field, need, at->left);
}

static void skip(cursor *at, size_t size)
{
    at->bytes += size;
    at->left -= size;
}

static hn_status take_number(uint64_t *out, cursor *at, int size, const char *field)
{
    if (at->left < (size_t)size) return short_of(at, field, (uint64_t)size);
    *out = hnp_gguf_load(at->bytes, size);
    skip(at, (size_t)size);
    return HN_OK;
}

/* A string's view; the cursor stands behind it. */
static hn_status take_text(hn_gguf_text *out, cursor *at, const char *field)
{
    uint64_t length = 0;
    hn_status status = take_number(&length, at, 8, field);
    if (status != HN_OK) return status;
    if (length > at->left) return short_of(at, field, length);
    *out = (hn_gguf_text){(const char *)at->bytes, (size_t)length};
    const char *wrong = memchr(out->text, 0, out->length) ? "a NUL byte" : "bytes that are not";
    if (*wrong == 'b' && hn_utf8_valid(out->text, out->length)) wrong = NULL;
    if (wrong)
        return hn_fail(at->error, HN_ERR_FORMAT, "%s: %s%s%s: %s: expected UTF-8 without NUL, got %s",
                       at->file, at->what, *at->name.text ? " " : "", at->name.text, field, wrong);
    skip(at, (size_t)length);
    return HN_OK;
}

/* The name of a key or a tensor, copied behind the others. It is a key of ours and a word in messages. */
static hn_status take_name(const char **out, hn_gguf *self, cursor *at)
{
    hn_gguf_text name = {0};
    at->name.text[0] = 0;
    hn_status status = take_text(&name, at, "name");
    if (status != HN_OK) return status;
    const char *wrong = name.length == 0               ? "is empty"
                        : name.length > NAME_MAX_BYTES ? "is longer than 1024 bytes"
                                                       : NULL;
    for (size_t i = 0; i < name.length && !wrong; i++)
        if ((unsigned char)name.text[i] < 0x20) wrong = "holds a control character";
    if (wrong) return hn_fail(at->error, HN_ERR_FORMAT, "%s: %s: its name %s", at->file, at->what, wrong);
    memcpy(self->next_name, name.text, name.length);
    self->next_name[name.length] = 0;
    *out = self->next_name;
    self->next_name += name.length + 1;
    at->name = hnp_printable_make(*out);
    return HN_OK;
}

static hn_status take_type(hn_gguf_type *out, cursor *at, const char *field)
{
    uint64_t type = 0;
    hn_status status = take_number(&type, at, 4, field);
    if (status == HN_OK && type >= HN_GGUF_TYPES)
        status = hn_fail(at->error, HN_ERR_FORMAT, "%s: %s %s: %s: expected 0 to %d, got %" PRIu64, at->file,
                         at->what, at->name.text, field, HN_GGUF_TYPES - 1, type);
    *out = (hn_gguf_type)type;
    return status;
}

static hn_status check_booleans(const hn_gguf_value *value, const cursor *at)
{
    for (uint64_t i = 0; i < value->count; i++)
        if (value->bytes[i] > 1)
            return hn_fail(at->error, HN_ERR_FORMAT, "%s: %s %s: expected a BOOL of 0 or 1, got %d", at->file,
                           at->what, at->name.text, value->bytes[i]);
    return HN_OK;
}

static hn_status take_array(hn_gguf_value *out, cursor *at, int depth);

/* `count` values of one type, one behind the other. */
static hn_status take_items(hn_gguf_value *out, cursor *at, hn_gguf_type type, uint64_t count, int depth)
{
    hn_status status = HN_OK;
    if (count > at->left / (size_t)types[type].bytes)
        return hn_fail(at->error, HN_ERR_FORMAT,
                       "%s: %s %s: %" PRIu64 " items of %s do not fit the %zu bytes left in the file",
                       at->file, at->what, at->name.text, count, types[type].name, at->left);
    out->bytes = at->bytes;
    out->count = count;
    if (type == HN_GGUF_STRING || type == HN_GGUF_ARRAY) {
        hn_gguf_text text;
        hn_gguf_value inner;
        for (uint64_t i = 0; i < count && status == HN_OK; i++)
            status =
                type == HN_GGUF_STRING ? take_text(&text, at, "value") : take_array(&inner, at, depth + 1);
    } else {
        if (type == HN_GGUF_BOOL) status = check_booleans(out, at);
        skip(at, (size_t)count * (size_t)types[type].bytes);
    }
    out->size = (size_t)(at->bytes - out->bytes);
    return status;
}

static hn_status take_array(hn_gguf_value *out, cursor *at, int depth)
{
    uint64_t count = 0;
    out->type = HN_GGUF_ARRAY;
    if (depth > DEPTH_MAX)
        return hn_fail(at->error, HN_ERR_FORMAT, "%s: %s %s: arrays are nested too deeply (limit %d)",
                       at->file, at->what, at->name.text, DEPTH_MAX);
    hn_status status = take_type(&out->item, at, "type of the items");
    if (status == HN_OK) status = take_number(&count, at, 8, "number of items");
    return status == HN_OK ? take_items(out, at, out->item, count, depth) : status;
}

static hn_status take_value(hn_gguf_value *out, cursor *at)
{
    hn_gguf_text text = {0};
    hn_status status = take_type(&out->type, at, "type");
    if (status != HN_OK) return status;
    if (out->type == HN_GGUF_ARRAY) return take_array(out, at, 1);
    if (out->type != HN_GGUF_STRING) return take_items(out, at, out->type, 1, 0);
    status = take_text(&text, at, "value");
    out->bytes = (const unsigned char *)text.text;
    out->count = out->size = text.length;
    return status;
}

/* The elements of the shape, and the bytes that they take. */
static hn_status check_shape(hn_gguf_tensor *out, const cursor *at)
{
    hn_gguf_layout layout = hn_gguf_layout_of((uint32_t)out->type);
    int64_t count = 1, last = out->shape[out->rank - 1], size;
    for (int i = 0; i < out->rank; i++)
        if (__builtin_mul_overflow(count, out->shape[i], &count))
            return hn_fail(at->error, HN_ERR_FORMAT,
                           "%s: tensor %s: the product of its dimensions does not fit 63 bits", at->file,
                           at->name.text);
    if (last % layout.elements)
        return hn_fail(
            at->error, HN_ERR_FORMAT,
            "%s: tensor %s: expected rows of a multiple of %d elements, as %s has blocks, got %" PRId64,
            at->file, at->name.text, layout.elements, layout.name, last);
    if (__builtin_mul_overflow(count / layout.elements, layout.bytes, &size))
        return hn_fail(at->error, HN_ERR_FORMAT, "%s: tensor %s: its bytes do not fit 63 bits", at->file,
                       at->name.text);
    out->size = (size_t)size;
    return HN_OK;
}

static hn_status take_dimensions(hn_gguf_tensor *out, cursor *at)
{
    uint64_t rank = 0, extent = 0;
    hn_status status = take_number(&rank, at, 4, "number of dimensions");
    if (status != HN_OK) return status;
    if (rank < 1 || rank > HN_MAX_RANK)
        return hn_fail(at->error, HN_ERR_FORMAT, "%s: tensor %s: expected 1 to %d dimensions, got %" PRIu64,
                       at->file, at->name.text, HN_MAX_RANK, rank);
    out->rank = (int)rank;
    for (int i = 0; i < HN_MAX_RANK; i++) out->shape[i] = 1;
    for (int i = out->rank; i-- > 0;) {
        if ((status = take_number(&extent, at, 8, "dimensions")) != HN_OK) return status;
        if (extent < 1 || extent > INT64_MAX)
            return hn_fail(at->error, HN_ERR_FORMAT,
                           "%s: tensor %s: expected a dimension from 1 to 2^63-1, got %" PRIu64, at->file,
                           at->name.text, extent);
        out->shape[i] = (int64_t)extent;
    }
    return HN_OK;
}

/* A line of the table of tensors. */
static hn_status take_tensor(hn_gguf_tensor *out, hn_gguf *self, cursor *at)
{
    uint64_t type = 0;
    hn_status status = take_name(&out->name, self, at);
    if (status == HN_OK) status = take_dimensions(out, at);
    if (status == HN_OK) status = take_number(&type, at, 4, "type");
    if (status != HN_OK) return status;
    hn_gguf_layout layout = hn_gguf_layout_of((uint32_t)type);
    if (!layout.elements)
        return hn_fail(at->error, HN_ERR_UNSUPPORTED,
                       "%s: tensor %s: type: expected one of %s, got %s (number %" PRIu64 ")", at->file,
                       at->name.text, HN_GGUF_QUANT_NAMES, layout.name ? layout.name : "an unknown one",
                       type);
    out->type = (hn_gguf_quant)type;
    status = check_shape(out, at);
    return status == HN_OK ? take_number(&out->offset, at, 8, "offset") : status;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const hn_gguf_entry *)a)->key, ((const hn_gguf_entry *)b)->key);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const hn_gguf_tensor *)a)->name, ((const hn_gguf_tensor *)b)->name);
}

static int by_offset(const void *a, const void *b)
{
    const hn_gguf_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return strcmp(x->name, y->name);
}

static hn_status read_header(uint64_t *tensors, uint64_t *keys, cursor *at)
{
    uint64_t magic = 0, version = 0;
    at->what = "header";
    hn_status status = take_number(&magic, at, 4, "magic");
    if (status == HN_OK && magic != 0x46554747)
        return hn_fail(at->error, HN_ERR_FORMAT,
                       "%s: header: expected the bytes \"GGUF\" at the front (is this a GGUF file?)",
                       at->file);
    if (status == HN_OK) status = take_number(&version, at, 4, "version");
    if (status == HN_OK && version && !(version & 0xffff))
        return hn_fail(at->error, HN_ERR_UNSUPPORTED,
                       "%s: header: expected a little-endian file, got a big-endian one", at->file);
    if (status == HN_OK && version != 2 && version != 3)
        return hn_fail(at->error, HN_ERR_UNSUPPORTED, "%s: header: expected version 2 or 3, got %" PRIu64,
                       at->file, version);
    if (status == HN_OK) status = take_number(tensors, at, 8, "number of tensors");
    if (status == HN_OK) status = take_number(keys, at, 8, "number of keys");
    if (status != HN_OK) return status;
    if (*keys > KEYS_MAX || *keys > at->left / KEY_BYTES_MIN)
        return hn_fail(at->error, HN_ERR_FORMAT,
                       "%s: header: %" PRIu64 " keys do not fit the %zu bytes behind it (limit %d)", at->file,
                       *keys, at->left, KEYS_MAX);
    if (*tensors > TENSORS_MAX || *tensors > (at->left - *keys * KEY_BYTES_MIN) / TENSOR_BYTES_MIN)
        return hn_fail(at->error, HN_ERR_FORMAT,
                       "%s: header: %" PRIu64 " tensors do not fit the %zu bytes behind it (limit %d)",
                       at->file, *tensors, at->left, TENSORS_MAX);
    return HN_OK;
}

/* Room for all that the counts promise. A name takes no more here than in the file. */
static hn_status reserve(hn_gguf *self, uint64_t tensors, uint64_t keys, const cursor *at)
{
    size_t names = (size_t)(tensors + keys) * (NAME_MAX_BYTES + 1);
    if (names > at->left) names = at->left;
    self->entries = hn_reallocarray(NULL, (size_t)keys, sizeof *self->entries);
    self->tensors = hn_reallocarray(NULL, (size_t)tensors, sizeof *self->tensors);
    self->names = self->next_name = hn_malloc(names);
    if (self->entries && self->tensors && self->names) return HN_OK;
    return hn_fail(at->error, HN_ERR_MEMORY, "%s: out of memory for %" PRIu64 " keys and %" PRIu64 " tensors",
                   at->file, keys, tensors);
}

static hn_status read_keys(hn_gguf *self, uint64_t count, cursor *at)
{
    hn_status status = HN_OK;
    at->what = "key";
    for (; self->entry_count < count && status == HN_OK; self->entry_count++) {
        hn_gguf_entry *entry = &self->entries[self->entry_count];
        *entry = (hn_gguf_entry){0};
        status = take_name(&entry->key, self, at);
        if (status == HN_OK) status = take_value(&entry->value, at);
    }
    if (status != HN_OK) return status;
    qsort(self->entries, self->entry_count, sizeof *self->entries, by_key);
    for (size_t i = 1; i < self->entry_count; i++)
        if (!by_key(&self->entries[i - 1], &self->entries[i])) {
            hnp_printable name = hnp_printable_make(self->entries[i].key);
            return hn_fail(at->error, HN_ERR_FORMAT, "%s: key %s: stands twice in the file", at->file,
                           name.text);
        }
    return HN_OK;
}

static hn_status read_alignment(uint64_t *out, const hn_gguf *self, const cursor *at)
{
    int64_t alignment = ALIGNMENT_DEFAULT;
    hn_status status = hn_gguf_get_int(&alignment, self, "general.alignment", 8, ALIGNMENT_MAX, at->error);
    if (status == HN_OK && (alignment & (alignment - 1)))
        status =
            hn_fail(at->error, HN_ERR_FORMAT,
                    "%s: key general.alignment: expected a power of two, got %" PRId64, at->file, alignment);
    *out = (uint64_t)alignment;
    return status;
}

static hn_status read_tensors(hn_gguf *self, uint64_t count, uint64_t alignment, cursor *at)
{
    hn_status status = HN_OK;
    at->what = "tensor";
    for (; self->tensor_count < count && status == HN_OK; self->tensor_count++) {
        hn_gguf_tensor *tensor = &self->tensors[self->tensor_count];
        *tensor = (hn_gguf_tensor){0};
        status = take_tensor(tensor, self, at);
        if (status == HN_OK && tensor->offset % alignment)
            status = hn_fail(at->error, HN_ERR_FORMAT,
                             "%s: tensor %s: offset: expected a multiple of %" PRIu64 ", got %" PRIu64,
                             at->file, at->name.text, alignment, tensor->offset);
    }
    return status;
}

/* All tensors together: in order of offset, each begins where the one before ended, and the file ends with
 * the last (with or without its padding). Offsets become addresses. */
static hn_status place(hn_gguf *self, uint64_t alignment, const cursor *at)
{
    uint64_t covered = 0; /* padded */
    size_t end = 0;
    qsort(self->tensors, self->tensor_count, sizeof *self->tensors, by_offset);
    for (size_t i = 0; i < self->tensor_count; i++) {
        hn_gguf_tensor *tensor = &self->tensors[i];
        uint64_t offset = tensor->offset;
        hnp_printable name = hnp_printable_make(tensor->name);
        if (offset != covered)
            return hn_fail(at->error, HN_ERR_FORMAT,
                           "%s: tensor %s: offset: expected %" PRIu64 ", got %" PRIu64 " (%s)", at->file,
                           name.text, covered, offset,
                           offset < covered ? "it overlaps another tensor" : "a hole before it");
        if (offset > at->left || tensor->size > at->left - offset)
            return hn_fail(at->error, HN_ERR_FORMAT,
                           "%s: tensor %s: expected %zu bytes from %" PRIu64
                           " on, the file's data end after %zu",
                           at->file, name.text, tensor->size, offset, at->left);
        tensor->data = at->bytes + offset;
        end = (size_t)offset + tensor->size;
        covered = (end + alignment - 1) / alignment * alignment;
    }
    if (at->left > covered)
        return hn_fail(at->error, HN_ERR_FORMAT,
                       "%s: the tensors end at %zu, the file's data at %zu (trailing bytes)", at->file, end,
                       at->left);
    qsort(self->tensors, self->tensor_count, sizeof *self->tensors, by_name);
    for (size_t i = 1; i < self->tensor_count; i++)
        if (!by_name(&self->tensors[i - 1], &self->tensors[i])) {
            hnp_printable name = hnp_printable_make(self->tensors[i].name);
            return hn_fail(at->error, HN_ERR_FORMAT, "%s: tensor %s: stands twice in the file", at->file,
                           name.text);
        }
    return HN_OK;
}

/* Fills `self`; what it holds after a failure is the caller's to free. */
static hn_status parse(hn_gguf *self, const unsigned char *bytes, size_t size, hn_error *error)
{
    cursor at = {.bytes = bytes, .left = size, .file = self->path, .error = error};
    uint64_t tensors = 0, keys = 0, alignment = 0;
    hn_status status = read_header(&tensors, &keys, &at);
    if (status == HN_OK) status = reserve(self, tensors, keys, &at);
    if (status == HN_OK) status = read_keys(self, keys, &at);
    if (status == HN_OK) status = read_alignment(&alignment, self, &at);
    if (status == HN_OK) status = read_tensors(self, tensors, alignment, &at);
    if (status != HN_OK) return status;
    size_t padding = (size_t)((alignment - (size - at.left) % alignment) % alignment);
    skip(&at, padding < at.left ? padding : at.left);
    return place(self, alignment, &at);
}

static hn_status create(hn_gguf **out, const char *name, hn_error *error)
{
    hn_gguf *self = hn_calloc(1, sizeof *self);
    if (self && (self->path = hn_strdup(name))) {
        *out = self;
        return HN_OK;
    }
    hn_free(self);
    return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", name);
}

hn_status hn_gguf_open(hn_gguf **out, const char *path, hn_error *error)
{
    hn_gguf *self = NULL;
    hn_status status = create(&self, path, error);
    if (status == HN_OK) status = hn_mapping_open(&self->mapping, path, error);
    if (status == HN_OK) status = parse(self, self->mapping.bytes, self->mapping.size, error);
    if (status == HN_OK) status = hn_gguf_intact(self, error);
    if (status == HN_OK)
        *out = self;
    else
        hn_gguf_free(self);
    return status;
}

hn_status hn_gguf_open_bytes(hn_gguf **out, const unsigned char *bytes, size_t size, const char *name,
                             hn_error *error)
{
    hn_gguf *self = NULL;
    hn_status status = create(&self, name, error);
    if (status == HN_OK) status = parse(self, bytes, size, error);
    if (status == HN_OK)
        *out = self;
    else
        hn_gguf_free(self);
    return status;
}

void hn_gguf_free(hn_gguf *file)
{
    if (!file) return;
    hn_mapping_close(&file->mapping);
    hn_free(file->entries);
    hn_free(file->tensors);
    hn_free(file->names);
    hn_free(file->path);
    hn_free(file);
}

const char *hn_gguf_path(const hn_gguf *file)
{
    return file->path;
}

const hn_gguf_entry *hn_gguf_entries(const hn_gguf *file, size_t *count)
{
    *count = file->entry_count;
    return file->entries;
}

const hn_gguf_tensor *hn_gguf_tensors(const hn_gguf *file, size_t *count)
{
    *count = file->tensor_count;
    return file->tensors;
}

const hn_gguf_value *hn_gguf_value_find(const hn_gguf *file, const char *key)
{
    hn_gguf_entry wanted = {.key = key};
    const hn_gguf_entry *found = bsearch(&wanted, file->entries, file->entry_count, sizeof wanted, by_key);
    return found ? &found->value : NULL;
}

const hn_gguf_tensor *hn_gguf_tensor_find(const hn_gguf *file, const char *name)
{
    hn_gguf_tensor wanted = {.name = name};
    return bsearch(&wanted, file->tensors, file->tensor_count, sizeof wanted, by_name);
}

void hn_gguf_idle(const hn_gguf *file)
{
    hn_mapping_idle(&file->mapping);
}

hn_status hn_gguf_intact(const hn_gguf *file, hn_error *error)
{
    if (hn_mapping_intact(&file->mapping)) return HN_OK;
    return hn_fail(error, HN_ERR_IO, "%s: cut short while it was read: expected %zu bytes", file->path,
                   file->mapping.size);
}
