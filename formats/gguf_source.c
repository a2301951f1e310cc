/* What a GGUF file holds, as a Hugging Face folder has it. What the keys mean is in gguf_config.c and gguf_tokenizer.c,
 * what the tensors are called in gguf_model.c; here their values are put in order while they are read.
 *
 *     file -> dequantise a block of rows -> (rows of a head sorted apart) -> who asked
 *
 * A transposed tensor is the exception: its columns run across all of its blocks, so it is turned as a whole
 * in memory that is kept for the next one. The mapping's pages are given back after every tensor, so a large
 * model needs no more memory than a small one. */
#include "formats/gguf_source.h"

#include <string.h>

#include "core/mem.h"

static const unsigned char *row_at(const hn_gguf_tensor *tensor, int64_t row)
{
    int64_t rows = tensor->rank > 1 ? tensor->shape[0] : 1;
    return tensor->data + tensor->size / (size_t)rows * (size_t)row;
}

/* Rows x0 x1 ... y0 y1 ... from x0 y0 x1 y1 ... within each head. */
static void fill_rotated(float *out, const hnp_gguf_import_tensor *from, int64_t first, int64_t n)
{
    int64_t columns = from->from->shape[1], half = from->head_size / 2;
    for (int64_t i = first / columns; i < (first + n) / columns; i++, out += columns) {
        int64_t head = i / from->head_size, at = i % from->head_size;
        int64_t source = head * from->head_size + at % half * 2 + at / half;
        hn_gguf_dequantise(out, from->from->type, row_at(from->from, source), columns);
    }
}

static void turn(hnp_gguf_source *self, size_t index)
{
    const hn_gguf_tensor *from = self->tensors[index].from;
    int64_t rows = from->shape[0], columns = from->shape[1];
    for (int64_t r = 0; r < rows; r++) {
        hn_gguf_dequantise(self->row, from->type, row_at(from, r), columns);
        for (int64_t c = 0; c < columns; c++) self->turned[c * rows + r] = self->row[c];
    }
    self->turned_index = index;
}

hn_status hnp_gguf_source_fill(void *context, float *out, size_t index, int64_t first, int64_t n, hn_error *error)
{
    hnp_gguf_source *self = context;
    const hnp_gguf_import_tensor *tensor = &self->tensors[index];
    const hn_gguf_tensor *from = tensor->from;
    if (first == 0) hn_gguf_idle(self->file);
    if (tensor->order == HNP_GGUF_ROTATED) {
        fill_rotated(out, tensor, first, n);
    } else if (tensor->order == HNP_GGUF_TRANSPOSED) {
        if (self->turned_index != index) turn(self, index);
        memcpy(out, self->turned + first, (size_t)n * sizeof *out);
    } else {
        int64_t row = from->shape[from->rank - 1];
        hn_gguf_dequantise(out, from->type, row_at(from, first / row), n);
    }
    return hn_gguf_intact(self->file, error);
}

/* Names and shapes as the folder has them, and memory for what is turned. */
static hn_status prepare(hnp_gguf_source *self, hn_error *error)
{
    int64_t elements = 0, longest = 0;
    self->named = hn_reallocarray(NULL, self->count, sizeof *self->named);
    for (size_t i = 0; self->named && i < self->count; i++) {
        const hn_gguf_tensor *from = self->tensors[i].from;
        bool turned = self->tensors[i].order == HNP_GGUF_TRANSPOSED;
        int64_t rows = from->shape[turned ? 1 : 0], columns = from->shape[turned ? 0 : 1];
        hn_tensor shape =
            from->rank == 1 ? hn_tensor_1d(NULL, HN_F32, rows) : hn_tensor_2d(NULL, HN_F32, rows, columns);
        self->named[i] = (hn_named_tensor){self->tensors[i].name, shape};
        if (turned && rows * columns > elements) elements = rows * columns;
        if (turned && rows > longest) longest = rows;
    }
    self->turned_index = self->count;
    self->turned = hn_reallocarray(NULL, (size_t)elements, sizeof *self->turned);
    self->row = hn_reallocarray(NULL, (size_t)longest, sizeof *self->row);
    if (self->named && self->turned && self->row) return HN_OK;
    return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for %zu tensors", hn_gguf_path(self->file),
                   self->count);
}

hn_status hnp_gguf_source_open(hnp_gguf_source **out, const char *path, hn_error *error)
{
    hnp_gguf_source *self = hn_calloc(1, sizeof *self);
    if (!self) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", path);
    hn_status status = hn_gguf_open(&self->file, path, error);
    if (status == HN_OK) status = hnp_gguf_model_read(&self->model, self->file, error);
    if (status == HN_OK) status = hnp_gguf_model_tensors(&self->tensors, &self->count, &self->model, error);
    if (status == HN_OK) status = prepare(self, error);
    if (status == HN_OK) *out = self;
    else hnp_gguf_source_free(self);
    return status;
}

void hnp_gguf_source_free(hnp_gguf_source *self)
{
    if (!self) return;
    hnp_gguf_tensors_free(self->tensors, self->count);
    hn_free(self->named);
    hn_free(self->turned);
    hn_free(self->row);
    hn_gguf_free(self->file);
    hn_free(self);
}
