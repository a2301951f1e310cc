/* See manifest.h. The digest at the end is checked before the JSON is looked at: a damaged manifest is never
 * interpreted. A manifest that somebody made to hurt carries a right digest, so that every member is checked
 * all the same. */
#include "checkpoints/manifest.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"

#define TAIL_BEGIN ",\n \"digest\": \""
#define TAIL_END "\"}\n"
#define TAIL_LENGTH (sizeof TAIL_BEGIN - 1 + HN_DIGEST_TEXT - 1 + sizeof TAIL_END - 1)

static void add_digest(hn_strbuf *out, hn_digest digest)
{
    char text[HN_DIGEST_TEXT];
    hn_digest_format(text, digest);
    hn_strbuf_printf(out, "\"digest\": \"%s\"", text);
}

static void add_entry(hn_strbuf *out, const hnp_entry *entry)
{
    hn_strbuf_puts(out, "  {\"name\": ");
    hn_json_quote(out, entry->name, strlen(entry->name));
    hn_strbuf_printf(out, ", \"dtype\": \"%s\", \"shape\": [", hn_dtype_name(entry->shape.dtype));
    for (int i = 0; i < entry->shape.rank; i++)
        hn_strbuf_printf(out, "%s%" PRId64, i ? ", " : "", entry->shape.shape[i]);
    hn_strbuf_printf(out, "], \"offset\": %" PRIu64 ", \"bytes\": %zu, ", entry->offset,
                     hn_tensor_bytes(&entry->shape));
    add_digest(out, entry->digest);
    hn_strbuf_putc(out, '}');
}

void hnp_manifest_encode(hn_strbuf *out, const hnp_manifest *manifest)
{
    char text[HN_DIGEST_TEXT];
    char *state = json_dumps(manifest->state, JSON_INDENT(1));
    hn_strbuf_printf(out, "{\"format\": %d,\n \"step\": %" PRId64 ",\n \"world_size\": 1,\n",
                     HNP_MANIFEST_FORMAT, manifest->step);
    hn_strbuf_printf(out, " \"files\": [{\"name\": \"%s\", \"bytes\": %" PRIu64 ", ", HNP_FILE_NAME,
                     manifest->file_bytes);
    add_digest(out, manifest->file_digest);
    hn_strbuf_puts(out, ", \"tensors\": [");
    for (size_t i = 0; i < manifest->count; i++) {
        hn_strbuf_puts(out, i ? ",\n" : "\n");
        add_entry(out, &manifest->entries[i]);
    }
    hn_strbuf_puts(out, "]}],\n \"state\": ");
    hn_strbuf_puts(out, state ? state : "");
    out->failed |= !state;
    hn_free(state);
    hn_digest_format(text, hn_digest_bytes(out->text, out->length));
    hn_strbuf_printf(out, TAIL_BEGIN "%s" TAIL_END, text);
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
        if (!json_is_integer(item) || extent < 0 || __builtin_mul_overflow(size, extent, &size) ||
            (i > 0 && __builtin_mul_overflow(out->stride, extent, &out->stride)))
            return hn_fail(error, HN_ERR_FORMAT,
                           "%s: \"shape\": expected integers of at least 0 and a product below 2^63", where);
        out->shape[i] = extent;
    }
    return HN_OK;
}

static hn_status read_entry(hnp_entry *out, const json_t *object, uint64_t file_bytes, const char *where,
                            hn_error *error)
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
    if ((status = read_digest(&out->digest, object, place.text, error))) goto out;
    if ((status = hn_json_get_int(&offset, object, "offset", 0, limit, place.text, error))) goto out;
    if ((status = hn_json_get_int(&bytes, object, "bytes", 0, limit, place.text, error))) goto out;
    if (offset < 0 || bytes < 0)
        status = missing(place.text, "\"offset\" or \"bytes\"", error);
    else if ((uint64_t)bytes != hn_tensor_bytes(&out->shape) || bytes > limit - offset)
        status = hn_fail(error, HN_ERR_FORMAT,
                         "%s: type and shape need %zu bytes, it says %" PRId64 " at %" PRId64 " of %" PRId64,
                         place.text, hn_tensor_bytes(&out->shape), bytes, offset, limit);
    out->offset = (uint64_t)offset;
out:
    hn_strbuf_close(&place);
    return status;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const hnp_entry *)a)->name, ((const hnp_entry *)b)->name);
}

static hn_status read_entries(hnp_manifest *self, const json_t *tensors, const char *where, hn_error *error)
{
    hn_status status = HN_OK;
    if (!json_is_array(tensors)) return missing(where, "the list \"tensors\"", error);
    size_t count = json_array_size(tensors);
    self->entries = hn_calloc(count, sizeof *self->entries);
    if (!self->entries)
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for %zu tensors", where, count);
    for (size_t i = 0; i < count && status == HN_OK; i++)
        status = read_entry(&self->entries[i], json_array_get(tensors, i), self->file_bytes, where, error);
    if (status != HN_OK) return status;
    self->count = count;
    qsort(self->entries, count, sizeof *self->entries, by_name);
    for (size_t i = 1; i < count; i++)
        if (!strcmp(self->entries[i].name, self->entries[i - 1].name))
            return hn_fail(error, HN_ERR_FORMAT, "%s: tensor \"%.80s\" stands there twice", where,
                           self->entries[i].name);
    return HN_OK;
}

static hn_status read_file(hnp_manifest *self, const json_t *files, const char *where, hn_error *error)
{
    const json_t *file = json_array_get(files, 0);
    const char *name = NULL;
    int64_t bytes = -1;
    if (json_array_size(files) != 1 || !json_is_object(file))
        return hn_fail(error, HN_ERR_FORMAT, "%s: \"files\": expected one file", where);
    hn_status status = hn_json_get_string(&name, file, "name", where, error);
    if (status == HN_OK && (!name || strcmp(name, HNP_FILE_NAME)))
        status = hn_fail(error, HN_ERR_FORMAT, "%s: \"files\": expected %s, got \"%.40s\"", where,
                         HNP_FILE_NAME, name ? name : "");
    if (status == HN_OK) status = hn_json_get_int(&bytes, file, "bytes", 0, INT64_MAX, where, error);
    if (status == HN_OK && bytes < 0) status = missing(where, "the file's \"bytes\"", error);
    if (status == HN_OK) status = read_digest(&self->file_digest, file, where, error);
    if (status != HN_OK) return status;
    self->file_bytes = (uint64_t)bytes;
    return read_entries(self, json_object_get(file, "tensors"), where, error);
}

static hn_status read_root(hnp_manifest *self, const char *where, hn_error *error)
{
    int64_t format = -1, world = -1;
    self->step = -1;
    self->state = json_object_get(self->root, "state");
    hn_status status = hn_json_get_int(&format, self->root, "format", 1, INT64_MAX, where, error);
    if (status != HN_OK) return status;
    if (format < 0) return missing(where, "\"format\"", error);
    if (format != HNP_MANIFEST_FORMAT)
        return hn_fail(error, HN_ERR_UNSUPPORTED,
                       "%s: \"format\": expected %d, got %" PRId64 " (written by a later hone)", where,
                       HNP_MANIFEST_FORMAT, format);
    if ((status = hn_json_get_int(&world, self->root, "world_size", 1, INT32_MAX, where, error)))
        return status;
    if (world < 0) return missing(where, "\"world_size\"", error);
    if (world != 1)
        return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: \"world_size\": expected 1, got %" PRId64, where,
                       world);
    if ((status = hn_json_get_int(&self->step, self->root, "step", 0, INT64_MAX, where, error)))
        return status;
    if (self->step < 0) return missing(where, "\"step\"", error);
    if (!json_is_object(self->state)) return missing(where, "the object \"state\"", error);
    return read_file(self, json_object_get(self->root, "files"), where, error);
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

hn_status hnp_manifest_read(hnp_manifest *out, const char *folder, int64_t step, hn_error *error)
{
    char *text = NULL, *path = hn_path_join(folder, HNP_MANIFEST_NAME);
    size_t size = 0;
    hnp_manifest self = {0};
    if (!path) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    hn_status status = hn_file_read(&text, &size, path, HN_JSON_LIMITS_LARGE.bytes, error);
    if (status == HN_OK) status = hnp_manifest_decode(&self, text, size, path, error);
    if (status == HN_OK && self.step != step) {
        status = hn_fail(error, HN_ERR_FORMAT,
                         "%s: \"step\": expected %" PRId64 " as its folder says, got %" PRId64, path, step,
                         self.step);
        hnp_manifest_close(&self);
    }
    if (status == HN_OK) *out = self;
    hn_free(text);
    hn_free(path);
    return status;
}

void hnp_manifest_close(hnp_manifest *manifest)
{
    hn_free(manifest->entries);
    json_decref(manifest->root);
    *manifest = (hnp_manifest){0};
}

const hnp_entry *hnp_manifest_find(const hnp_manifest *manifest, const char *name)
{
    hnp_entry key = {.name = name};
    return bsearch(&key, manifest->entries, manifest->count, sizeof key, by_name);
}
