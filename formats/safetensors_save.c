/* Writing safetensors. The bytes are those that the Python package writes for the same tensors: the widest
 * types first, names in order within a type, no blanks in the JSON, and blanks behind it so that the data
 * begin on a multiple of 8. So wide types are always aligned, and two saves of the same tensors are the same
 * file.
 *
 * Data go out through one block of fixed size (or one row of the longest), converted as they pass: saving needs no
 * second copy of a model, and with a source not even a first one. A number that the type of the file cannot hold
 * would become infinite in it: that is an error, and what stood at the path stays. */
#include "formats/safetensors.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/mem.h"
#include "core/strbuf.h"
#include "formats/dtypes.h"

enum { BLOCK = 1 << 18 }; /* elements converted at a time */

static bool is_float(hn_dtype dtype)
{
    return dtype == HN_F32 || dtype == HN_BF16 || dtype == HN_F16 || dtype == HN_F64;
}

/* What a tensor is stored as: floating point as asked for, whole numbers and booleans as they are. */
static hn_dtype stored(const hn_tensor *tensor, hn_dtype dtype)
{
    return is_float(tensor->dtype) ? dtype : tensor->dtype;
}

/* An item of the file's order. */
typedef struct item {
    const char *name;
    const hn_tensor *tensor;
    hn_dtype dtype;
    size_t index; /* where the caller has it */
} item;

/* What all tensors go through. */
typedef struct saver {
    hn_writer writer;
    const char *path;
    const hn_tensor_source *source; /* NULL: all data are there */
    void *block;                    /* what is written next */
    float *values;                  /* from the source, before they are converted */
} saver;

/* The Python package's order: by alignment, then type, as its enum counts them, downwards; then by name. */
static int rank_of(hn_dtype dtype)
{
    static const int ranks[HN_DTYPES] = {
        [HN_BOOL] = 0, [HN_U8] = 1,  [HN_I8] = 2,  [HN_I16] = 3, [HN_F16] = 4,
        [HN_BF16] = 5, [HN_I32] = 6, [HN_F32] = 7, [HN_F64] = 8, [HN_I64] = 9};
    return ranks[dtype];
}

static int by_file_order(const void *a, const void *b)
{
    const item *x = a, *y = b;
    int ranks = rank_of(y->dtype) - rank_of(x->dtype);
    return ranks ? ranks : strcmp(x->name, y->name);
}

static void write_header(hn_strbuf *out, const item *items, size_t count)
{
    uint64_t offset = 0;
    hn_strbuf_puts(out, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < count; i++) {
        const hn_tensor *tensor = items[i].tensor;
        uint64_t end = offset + (uint64_t)hn_tensor_count(tensor) * hn_dtype_size(items[i].dtype);
        hn_strbuf_putc(out, ',');
        hn_json_quote(out, items[i].name, strlen(items[i].name));
        hn_strbuf_printf(out, ":{\"dtype\":\"%s\",\"shape\":[", hnp_dtype_name(items[i].dtype));
        for (int d = 0; d < tensor->rank; d++)
            hn_strbuf_printf(out, "%s%" PRId64, d ? "," : "", tensor->shape[d]);
        hn_strbuf_printf(out, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", offset, end);
        offset = end;
    }
    hn_strbuf_putc(out, '}');
    while (out->length % 8 && !out->failed) hn_strbuf_putc(out, ' ');
}

static float load(const hn_tensor *tensor, int64_t i)
{
    switch (tensor->dtype) {
    case HN_BF16: return hn_bf16_to_float(((const uint16_t *)tensor->data)[i]);
    case HN_F16: return hn_f16_to_float(((const uint16_t *)tensor->data)[i]);
    case HN_F64: return (float)((const double *)tensor->data)[i];
    default: return ((const float *)tensor->data)[i];
    }
}

/* Elements [first, first + n) of a floating-point tensor, converted into `block`. */
static void convert(void *block, const hn_tensor *tensor, hn_dtype dtype, int64_t first, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float value = load(tensor, first + i);
        if (dtype == HN_F32)
            ((float *)block)[i] = value;
        else
            ((uint16_t *)block)[i] = dtype == HN_BF16 ? hn_bf16_from_float(value) : hn_f16_from_float(value);
    }
}

static bool any_infinite(const void *block, hn_dtype dtype, int64_t n)
{
    const uint16_t *narrow = block, infinite = dtype == HN_BF16 ? 0x7f80 : 0x7c00;
    const float *wide = block;
    bool any = false;
    if (dtype == HN_F32)
        for (int64_t i = 0; i < n; i++) any |= isinf(wide[i]) != 0;
    else
        for (int64_t i = 0; i < n; i++) any |= (narrow[i] & 0x7fff) == infinite;
    return any;
}

static double exactly(const hn_tensor *tensor, int64_t i)
{
    return tensor->dtype == HN_F64 ? ((const double *)tensor->data)[i] : load(tensor, i);
}

/* Elements [first, first + n) of `from`, which begins at element `begins` of the tensor, into the block. */
static hn_status convert_checked(saver *self, const item *of, const hn_tensor *from, int64_t begins, int64_t first, int64_t n,
                                 hn_error *error)
{
    convert(self->block, from, of->dtype, first, n);
    if (!any_infinite(self->block, of->dtype, n)) return HN_OK;
    for (int64_t i = first; i < first + n; i++)
        if (any_infinite((char *)self->block + (size_t)(i - first) * hn_dtype_size(of->dtype), of->dtype, 1) && isfinite(exactly(from, i)))
            return hn_fail(error, HN_ERR_NUMERIC, "%s: tensor %.200s: element %" PRId64 " is %g, which %s cannot hold; nothing was written. "
                           "Choose a wider type",
                           self->path, of->name, begins + i, exactly(from, i), hn_dtype_name(of->dtype));
    return HN_OK;
}

/* Elements of one row, as a source counts them. */
static int64_t row_of(const hn_tensor *tensor)
{
    return tensor->rank ? tensor->shape[tensor->rank - 1] : 1;
}

/* Elements that are converted at a time: whole rows. */
static int64_t block_of(const hn_tensor *tensor)
{
    int64_t row = row_of(tensor);
    return row < 1 || row > BLOCK ? row : BLOCK / row * row;
}

static hn_status write_filled(saver *self, const item *of, hn_error *error)
{
    int64_t count = hn_tensor_count(of->tensor), block = block_of(of->tensor);
    for (int64_t first = 0; first < count; first += block) {
        int64_t n = count - first < block ? count - first : block;
        hn_tensor values = hn_tensor_1d(self->values, HN_F32, n);
        hn_status status = self->source->fill(self->source->context, self->values, of->index, first, n, error);
        if (status != HN_OK) return status;
        if (of->dtype != HN_F32) status = convert_checked(self, of, &values, first, 0, n, error);
        if (status != HN_OK) return status;
        status = hn_writer_add(&self->writer, of->dtype == HN_F32 ? self->values : self->block,
                               (size_t)n * hn_dtype_size(of->dtype), error);
        if (status != HN_OK) return status;
    }
    return HN_OK;
}

static hn_status write_data(saver *self, const item *of, hn_error *error)
{
    int64_t count = hn_tensor_count(of->tensor);
    if (!of->tensor->data) return write_filled(self, of, error);
    if (of->dtype == of->tensor->dtype)
        return hn_writer_add(&self->writer, of->tensor->data, hn_tensor_bytes(of->tensor), error);
    for (int64_t first = 0; first < count; first += BLOCK) {
        int64_t n = count - first < BLOCK ? count - first : BLOCK;
        hn_status status = convert_checked(self, of, of->tensor, 0, first, n, error);
        if (status != HN_OK) return status;
        status = hn_writer_add(&self->writer, self->block, (size_t)n * hn_dtype_size(of->dtype), error);
        if (status != HN_OK) return status;
    }
    return HN_OK;
}

static hn_status write_file(saver *self, const hn_strbuf *header, const item *items, size_t count, hn_error *error)
{
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)header->length >> (8 * i));
    hn_status status = hn_writer_add(&self->writer, length, sizeof length, error);
    if (status == HN_OK) status = hn_writer_add(&self->writer, header->text, header->length, error);
    for (size_t i = 0; i < count && status == HN_OK; i++) status = write_data(self, &items[i], error);
    return status == HN_OK ? hn_writer_commit(&self->writer, error) : status;
}

/* Memory for what is converted: for data that are there a block, for a source the longest of its blocks twice. */
static bool reserve(saver *self, const hn_named_tensor *tensors, size_t count)
{
    int64_t longest = BLOCK;
    size_t bytes;
    for (size_t i = 0; i < count; i++)
        if (!tensors[i].tensor.data && block_of(&tensors[i].tensor) > longest) longest = block_of(&tensors[i].tensor);
    if (!hn_size_mul((size_t)longest, sizeof(float), &bytes)) return false;
    self->block = hn_malloc(bytes);
    self->values = self->source ? hn_malloc(bytes) : NULL;
    return self->block && (self->values || !self->source);
}

hn_status hn_safetensors_save_from(const char *path, const hn_named_tensor *tensors, size_t count,
                                   const hn_tensor_source *source, hn_dtype dtype, hn_error *error)
{
    HN_ASSERT(dtype == HN_F32 || dtype == HN_BF16 || dtype == HN_F16);
    saver self = {.source = source, .path = path};
    hn_strbuf header;
    hn_strbuf_init(&header);
    item *items = hn_reallocarray(NULL, count, sizeof *items);
    bool room = items && reserve(&self, tensors, count);
    for (size_t i = 0; room && i < count; i++) {
        HN_ASSERT(hn_tensor_dense(&tensors[i].tensor));
        HN_ASSERT(source || tensors[i].tensor.data || !hn_tensor_count(&tensors[i].tensor));
        items[i] = (item){tensors[i].name, &tensors[i].tensor, stored(&tensors[i].tensor, dtype), i};
    }
    if (room) {
        qsort(items, count, sizeof *items, by_file_order);
        write_header(&header, items, count);
    }
    hn_status status;
    if (!room || header.failed) {
        status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for the names of %zu tensors", path, count);
    } else if ((status = hn_writer_open(&self.writer, path, error)) == HN_OK) {
        status = write_file(&self, &header, items, count, error);
        hn_writer_close(&self.writer);
    }
    hn_strbuf_close(&header);
    hn_free(items);
    hn_free(self.block);
    hn_free(self.values);
    return status;
}

hn_status hn_safetensors_save(const char *path, const hn_named_tensor *tensors, size_t count, hn_dtype dtype,
                              hn_error *error)
{
    return hn_safetensors_save_from(path, tensors, count, NULL, dtype, error);
}
