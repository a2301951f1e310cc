/* Typed access to the keys of a GGUF file (reading is in gguf.c). The format has seven whole types and
 * writers choose freely among them, so an int is any of them whose value fits; a float is never taken for an
 * int, or the other way, since that is a writer's mistake that should be seen. */
#include <inttypes.h>
#include <string.h>

#include "core/mem.h"
#include "formats/gguf_internal.h"
#include "formats/printable.h"

static bool is_whole(hn_gguf_type type)
{
    return type != HN_GGUF_F32 && type != HN_GGUF_F64 && type != HN_GGUF_BOOL && type != HN_GGUF_STRING &&
           type != HN_GGUF_ARRAY;
}

/* A value or item of whole type; false: it does not fit 63 bits and a sign. */
static bool load_int(int64_t *out, hn_gguf_type type, const unsigned char *bytes)
{
    uint64_t raw = hnp_gguf_load(bytes, hnp_gguf_type_bytes(type));
    switch (type) {
    case HN_GGUF_I8: *out = (int8_t)raw; break;
    case HN_GGUF_I16: *out = (int16_t)raw; break;
    case HN_GGUF_I32: *out = (int32_t)raw; break;
    default: *out = (int64_t)raw; break;
    }
    return type != HN_GGUF_U64 || raw <= INT64_MAX;
}

static double load_double(hn_gguf_type type, const unsigned char *bytes)
{
    float f;
    double d;
    if (type == HN_GGUF_F32) {
        memcpy(&f, bytes, sizeof f);
        return f;
    }
    memcpy(&d, bytes, sizeof d);
    return d;
}

static hn_status wrong_type(const hn_gguf *file, const char *key, const char *expected,
                            const hn_gguf_value *got, hn_error *error)
{
    hnp_printable name = hnp_printable_make(key);
    bool array = got->type == HN_GGUF_ARRAY;
    return hn_fail(error, HN_ERR_FORMAT, "%s: key %s: expected %s, got %s%s", hn_gguf_path(file), name.text,
                   expected, array ? "an array of " : "a value of type ",
                   hnp_gguf_type_name(array ? got->item : got->type));
}

hn_status hn_gguf_require(const hn_gguf *file, const char *key, hn_error *error)
{
    if (hn_gguf_value_find(file, key)) return HN_OK;
    return hn_fail(error, HN_ERR_FORMAT, "%s: key %s: expected it, the file lacks it", hn_gguf_path(file),
                   key);
}

hn_status hn_gguf_get_int(int64_t *out, const hn_gguf *file, const char *key, int64_t min, int64_t max,
                          hn_error *error)
{
    const hn_gguf_value *value = hn_gguf_value_find(file, key);
    int64_t got;
    if (!value) return HN_OK;
    if (!is_whole(value->type)) return wrong_type(file, key, "an integer", value, error);
    if (!load_int(&got, value->type, value->bytes))
        return hn_fail(error, HN_ERR_FORMAT,
                       "%s: key %s: expected an integer from %" PRId64 " to %" PRId64 ", got %" PRIu64,
                       hn_gguf_path(file), key, min, max, hnp_gguf_load(value->bytes, 8));
    if (got < min || got > max)
        return hn_fail(error, HN_ERR_FORMAT,
                       "%s: key %s: expected an integer from %" PRId64 " to %" PRId64 ", got %" PRId64,
                       hn_gguf_path(file), key, min, max, got);
    *out = got;
    return HN_OK;
}

hn_status hn_gguf_get_double(double *out, const hn_gguf *file, const char *key, double min, double max,
                             hn_error *error)
{
    const hn_gguf_value *value = hn_gguf_value_find(file, key);
    if (!value) return HN_OK;
    if (value->type != HN_GGUF_F32 && value->type != HN_GGUF_F64)
        return wrong_type(file, key, "a floating-point number", value, error);
    double got = load_double(value->type, value->bytes);
    if (!(got >= min && got <= max))
        return hn_fail(error, HN_ERR_FORMAT, "%s: key %s: expected a number from %g to %g, got %g",
                       hn_gguf_path(file), key, min, max, got);
    *out = got;
    return HN_OK;
}

hn_status hn_gguf_get_bool(bool *out, const hn_gguf *file, const char *key, hn_error *error)
{
    const hn_gguf_value *value = hn_gguf_value_find(file, key);
    if (!value) return HN_OK;
    if (value->type != HN_GGUF_BOOL) return wrong_type(file, key, "a BOOL", value, error);
    *out = value->bytes[0] != 0;
    return HN_OK;
}

hn_status hn_gguf_get_string(hn_gguf_text *out, const hn_gguf *file, const char *key, hn_error *error)
{
    const hn_gguf_value *value = hn_gguf_value_find(file, key);
    if (!value) return HN_OK;
    if (value->type != HN_GGUF_STRING) return wrong_type(file, key, "a STRING", value, error);
    *out = (hn_gguf_text){(const char *)value->bytes, (size_t)value->count};
    return HN_OK;
}

/* Memory for an array's items; NULL and HN_OK when the key is missing. */
static hn_status array_of(void **out, const hn_gguf_value **found, const hn_gguf *file, const char *key,
                          size_t size, hn_error *error)
{
    *found = hn_gguf_value_find(file, key);
    if (!*found) return HN_OK;
    *out = hn_reallocarray(NULL, (size_t)(*found)->count, size);
    if (*out) return HN_OK;
    return hn_fail(error, HN_ERR_MEMORY, "%s: key %s: out of memory for %" PRIu64 " items",
                   hn_gguf_path(file), key, (*found)->count);
}

hn_status hn_gguf_get_strings(hn_gguf_text **out, size_t *count, const hn_gguf *file, const char *key,
                              hn_error *error)
{
    const hn_gguf_value *value = hn_gguf_value_find(file, key);
    void *memory = NULL;
    if (value && (value->type != HN_GGUF_ARRAY || value->item != HN_GGUF_STRING))
        return wrong_type(file, key, "an array of STRING", value, error);
    hn_status status = array_of(&memory, &value, file, key, sizeof **out, error);
    if (!memory) return status;
    hn_gguf_text *items = memory;
    const unsigned char *at = value->bytes;
    size_t left = value->size;
    for (size_t i = 0; i < value->count; i++) {
        uint64_t length = left < 8 ? 0 : hnp_gguf_load(at, 8);
        if (left < 8 || length > left - 8) { /* it was less when the file was opened */
            hn_free(items);
            return hn_fail(error, HN_ERR_IO, "%s: key %s: changed while the file was read",
                           hn_gguf_path(file), key);
        }
        items[i] = (hn_gguf_text){(const char *)at + 8, (size_t)length};
        at += 8 + length;
        left -= 8 + (size_t)length;
    }
    *out = items;
    *count = (size_t)value->count;
    return HN_OK;
}

hn_status hn_gguf_get_ints(int64_t **out, size_t *count, const hn_gguf *file, const char *key,
                           hn_error *error)
{
    const hn_gguf_value *value = hn_gguf_value_find(file, key);
    void *memory = NULL;
    if (value && (value->type != HN_GGUF_ARRAY || !is_whole(value->item)))
        return wrong_type(file, key, "an array of integers", value, error);
    hn_status status = array_of(&memory, &value, file, key, sizeof **out, error);
    if (!memory) return status;
    int64_t *items = memory;
    for (size_t i = 0; i < value->count; i++)
        if (!load_int(&items[i], value->item, value->bytes + i * (size_t)hnp_gguf_type_bytes(value->item))) {
            hn_free(items);
            return hn_fail(error, HN_ERR_FORMAT, "%s: key %s: item %zu: expected an integer below 2^63",
                           hn_gguf_path(file), key, i);
        }
    *out = items;
    *count = (size_t)value->count;
    return HN_OK;
}

hn_status hn_gguf_get_doubles(double **out, size_t *count, const hn_gguf *file, const char *key,
                              hn_error *error)
{
    const hn_gguf_value *value = hn_gguf_value_find(file, key);
    void *memory = NULL;
    if (value && (value->type != HN_GGUF_ARRAY || (value->item != HN_GGUF_F32 && value->item != HN_GGUF_F64)))
        return wrong_type(file, key, "an array of floating-point numbers", value, error);
    hn_status status = array_of(&memory, &value, file, key, sizeof **out, error);
    if (!memory) return status;
    *out = memory;
    *count = (size_t)value->count;
    for (size_t i = 0; i < *count; i++)
        (*out)[i] = load_double(value->item, value->bytes + i * (size_t)hnp_gguf_type_bytes(value->item));
    return HN_OK;
}
