/* From a checkpoint's tensors, and an adapter's, or from an init rule to the parameters.
 *
 * Import goes through the checkpoint once: each tensor's name, without the family's prefix, is looked up
 * among the sources of the parameter table; its shape must be the source's, every value finite. Then every
 * source must have been found once, but for those of the head. So the parameters are either all set, or an error
 * says which tensor was wrong and how.
 *
 * The parameters stand in the backend's memory; values are converted in pieces of a few KiB and copied in.
 * Tensors without data (of a GGUF file) are asked of their source, a few rows at a time; one that its file
 * has turned is asked for whole. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/philox.h"
#include "models/internal.h"

#define PIECE 2048 /* floats on the stack; a multiple of 4 */
#define SHAPE_TEXT 96

static void format_shape(char text[SHAPE_TEXT], const hn_tensor *tensor)
{
    int used = snprintf(text, SHAPE_TEXT, "[");
    for (int i = 0; i < tensor->rank; i++)
        used += snprintf(text + used, (size_t)(SHAPE_TEXT - used), "%s%lld", i ? ", " : "",
                         (long long)tensor->shape[i]);
    snprintf(text + used, (size_t)(SHAPE_TEXT - used), "]");
}

/* The tensor that a file has for it, without memory. */
hn_tensor hnp_source_shape(const hn_param *param, int s)
{
    int64_t rows = param->sources[s].rows;
    if (param->rank == 1) return hn_tensor_1d(NULL, HN_F32, rows);
    return param->sources[s].turned ? hn_tensor_2d(NULL, HN_F32, param->columns, rows)
                                    : hn_tensor_2d(NULL, HN_F32, rows, param->columns);
}

static bool same_shape(const hn_tensor *a, const hn_tensor *b)
{
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->shape[i] != b->shape[i]) return false;
    return true;
}

static bool is_unused(const hn_model *model, const char *key)
{
    for (const char *const *unused = hnp_unused_names(model); *unused; unused++) {
        size_t length = strlen(*unused);
        bool prefix = (*unused)[length - 1] == '.', suffix = (*unused)[0] == '.';
        size_t skipped = suffix && strlen(key) > length ? strlen(key) - length : 0;
        if (prefix ? !strncmp(key, *unused, length) : !strcmp(key + skipped, *unused)) return true;
    }
    return false;
}

/* One value of a type that copy_tensor lets through, at any alignment. */
static float to_float(const char *data, hn_dtype dtype)
{
    uint16_t half;
    double wide;
    float value;
    if (dtype == HN_F32) {
        memcpy(&value, data, sizeof value);
        return value;
    }
    if (dtype == HN_F64) {
        memcpy(&wide, data, sizeof wide);
        return (float)wide;
    }
    memcpy(&half, data, sizeof half);
    return dtype == HN_F16 ? hn_f16_to_float(half) : hn_bf16_to_float(half);
}

/* Elements [first, first + count) of a dense tensor as floats; of its transpose when `turned`. */
void hnp_to_floats(float *out, const hn_tensor *tensor, bool turned, int64_t first, int64_t count)
{
    size_t size = hn_dtype_size(tensor->dtype);
    const char *data = tensor->data;
    int64_t width = tensor->shape[0], height = tensor->shape[1]; /* of the transpose */
    if (tensor->dtype == HN_F32 && !turned) {
        memcpy(out, data + (size_t)first * size, (size_t)count * size);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        int64_t at = first + i;
        if (turned) at = at % width * height + at / width;
        out[i] = to_float(data + (size_t)at * size, tensor->dtype);
    }
}

/* The first element that is NaN or infinite, or `count`. */
static int64_t find_not_finite(const float *values, int64_t count)
{
    bool finite = true;
    for (int64_t i = 0; i < count; i++) finite &= fabsf(values[i]) <= FLT_MAX;
    if (finite) return count;
    int64_t at = 0;
    while (isfinite(values[at])) at++;
    return at;
}

/* What a checkpoint's tensors are read through. */
typedef struct reader {
    const hn_named_tensor *tensors;
    const hn_tensor_source *source; /* NULL: the tensors have data */
    float *piece; /* of the largest piece */
    const char *where;
} reader;

/* How many elements of a tensor stand in memory at a time: whole rows of one without data. */
static int64_t piece_size(const hn_tensor *tensor)
{
    int64_t columns = tensor->rank ? tensor->shape[tensor->rank - 1] : 1;
    if (tensor->data || !columns) return PIECE;
    return columns < PIECE ? PIECE / columns * columns : columns;
}

static hn_status reader_init(reader *out, const hn_named_tensor *tensors, size_t count, const hn_tensor_source *source,
                             const char *where, hn_error *error)
{
    int64_t most = PIECE;
    *out = (reader){.tensors = tensors, .source = source, .where = where};
    for (size_t i = 0; i < count; i++) {
        int64_t size = piece_size(&tensors[i].tensor);
        if (size > most) most = size;
    }
    out->piece = hn_reallocarray(NULL, (size_t)most, sizeof *out->piece);
    return out->piece ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "%s: out of memory to read its tensors", where);
}

static hn_status check_type(const reader *from, const hn_named_tensor *tensor, hn_error *error)
{
    hn_dtype dtype = tensor->tensor.dtype;
    if (dtype == HN_F32 || dtype == HN_F16 || dtype == HN_BF16 || dtype == HN_F64) return HN_OK;
    return hn_fail(error, HN_ERR_FORMAT, "%s: tensor %.200s: expected f32, f16, bf16 or f64, got %s", from->where,
                   tensor->name, hn_dtype_name(dtype));
}

hn_status hnp_param_write(hn_model *model, int param, int64_t first, const float *values, int64_t count, hn_error *error)
{
    uint16_t narrow[PIECE];
    float *master = hnp_param_master(model, param);
    if (master) return hn_upload_write(&model->upload, master + first, values, (size_t)count * sizeof *values, error);
    hn_status status = HN_OK;
    for (int64_t done = 0, some; done < count && status == HN_OK; done += some) {
        some = count - done < PIECE ? count - done : PIECE;
        for (int64_t i = 0; i < some; i++) narrow[i] = hn_bf16_from_float(values[done + i]);
        status = hn_upload_write(&model->upload, hnp_param_copy(model, param) + first + done, narrow, (size_t)some * sizeof *narrow, error);
    }
    return status;
}

/* Waits for what hnp_param_write has on its way, whatever became of the rest. */
static hn_status finish(hn_model *model, hn_status status, hn_error *error)
{
    hn_status arrived = hn_upload_finish(&model->upload, status == HN_OK ? error : NULL);
    return status == HN_OK ? arrived : status;
}

/* A tensor to the source of a parameter that it is. */
static hn_status copy_values(hn_model *model, const hnp_source *to, const reader *from, size_t index, const hn_tensor *tensor,
                             hn_error *error)
{
    const hn_param *param = &model->params[to->param];
    bool turned = param->sources[to->index].turned;
    int64_t at = param->sources[to->index].row * param->columns, total = hn_tensor_count(tensor), step = piece_size(tensor);
    for (int64_t done = 0, count; done < total; done += count) {
        hn_status status = HN_OK;
        count = total - done < step ? total - done : step;
        if (tensor->data) hnp_to_floats(from->piece, tensor, turned, done, count);
        else status = from->source->fill(from->source->context, from->piece, index, done, count, error);
        if (status != HN_OK) return status;
        int64_t bad = find_not_finite(from->piece, count);
        if (bad < count)
            return hn_fail(error, HN_ERR_NUMERIC,
                           "%s: tensor %.200s: expected finite numbers, got %f at element %lld%s", from->where,
                           from->tensors[index].name, from->piece[bad], (long long)(done + bad),
                           turned ? " of its transpose" : "");
        status = hnp_param_write(model, to->param, at + done, from->piece, count, error);
        if (status != HN_OK) return status;
    }
    return HN_OK;
}

static hn_status copy_tensor(hn_model *model, const hnp_source *to, const reader *from, size_t index, hn_error *error)
{
    hn_tensor tensor = from->tensors[index].tensor;
    float *whole = NULL;
    hn_status status = check_type(from, &from->tensors[index], error);
    HN_ASSERT(hn_tensor_dense(&tensor) && (tensor.data || from->source || !hn_tensor_count(&tensor)));
    if (status == HN_OK && model->params[to->param].sources[to->index].turned && from->source) {
        whole = hn_reallocarray(NULL, (size_t)hn_tensor_count(&tensor), sizeof *whole);
        if (!whole)
            status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for tensor %.200s", from->where,
                             from->tensors[index].name);
        else status = from->source->fill(from->source->context, whole, index, 0, hn_tensor_count(&tensor), error);
        tensor.data = whole;
    }
    if (status == HN_OK) status = copy_values(model, to, from, index, &tensor, error);
    hn_free(whole);
    return status;
}

static int compare_key(const void *key, const void *source)
{
    return strcmp(key, ((const hnp_source *)source)->key);
}

const hnp_source *hnp_source_find(const hn_model *model, const char *name)
{
    char buffer[256];
    const char *key = hnp_source_key(buffer, sizeof buffer, model, name);
    return bsearch(key, model->sources, model->source_count, sizeof *model->sources, compare_key);
}

/* One tensor, with `prefix` bytes before the name by which a checkpoint has it. `ignored` NULL: one that belongs to nothing is an
 * error. */
static hn_status take_tensor(hn_model *model, bool *found, const reader *from, size_t index, size_t prefix, hn_strbuf *ignored,
                             hn_error *error)
{
    const hn_named_tensor *tensor = &from->tensors[index];
    const char *where = from->where;
    char buffer[256], expected[SHAPE_TEXT], got[SHAPE_TEXT];
    const hnp_source *source = hnp_source_find(model, tensor->name + prefix);
    if (!source && ignored && is_unused(model, hnp_source_key(buffer, sizeof buffer, model, tensor->name + prefix))) {
        hn_strbuf_printf(ignored, "%s\n", tensor->name);
        return HN_OK;
    }
    if (!source)
        return hn_fail(error, HN_ERR_MISMATCH,
                       "%s: tensor %.200s belongs to nothing in a model of this config.json", where,
                       tensor->name);
    if (found[source - model->sources])
        return hn_fail(error, HN_ERR_FORMAT, "%s: tensor %.200s is there twice, under two names", where,
                       tensor->name);
    const hn_param *param = &model->params[source->param];
    hn_tensor shape = hnp_source_shape(param, source->index);
    if (!same_shape(&shape, &tensor->tensor)) {
        format_shape(expected, &shape);
        format_shape(got, &tensor->tensor);
        return hn_fail(error, HN_ERR_MISMATCH, "%s: tensor %.200s: expected shape %s, got %s", where,
                       tensor->name, expected, got);
    }
    found[source - model->sources] = true;
    return copy_tensor(model, source, from, index, error);
}

static hn_status fill_missing(hn_model *model, const bool *found, const char *where, uint64_t seed,
                              hn_strbuf *initialised, hn_error *error)
{
    const char *missing = NULL;
    size_t count = 0;
    for (size_t i = 0; i < model->source_count; i++) {
        if (found[i]) continue;
        const hn_param *param = &model->params[model->sources[i].param];
        int s = model->sources[i].index;
        if ((!param->may_be_missing || param->held) && !param->adapter) { /* what LoRA holds would stay as it was drawn */
            if (!count++) missing = param->sources[s].name;
            continue;
        }
        hn_status status = hnp_param_init(model, model->sources[i].param, param->sources[s].row,
                                          param->sources[s].rows, seed, error);
        if (status != HN_OK) return status;
        if (!param->adapter) hn_strbuf_printf(initialised, "%s\n", param->sources[s].name);
    }
    if (count > 1)
        return hn_fail(error, HN_ERR_MISMATCH, "%s: tensor %s is missing, and %zu more", where, missing,
                       count - 1);
    return count ? hn_fail(error, HN_ERR_MISMATCH, "%s: tensor %s is missing", where, missing) : HN_OK;
}

hn_status hn_model_load(hn_model *model, const hn_named_tensor *tensors, size_t count, const hn_tensor_source *source,
                        const char *where, uint64_t seed, hn_strbuf *initialised, hn_strbuf *ignored, hn_error *error)
{
    HN_ASSERT(model->weights[0]->value.data);
    reader from;
    bool *found = hn_calloc(model->source_count, sizeof *found);
    if (!found) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", where);
    hn_status status = reader_init(&from, tensors, count, source, where, error);
    for (size_t i = 0; i < count && status == HN_OK; i++) status = take_tensor(model, found, &from, i, 0, ignored, error);
    if (status == HN_OK) status = fill_missing(model, found, where, seed, initialised, error);
    if (status == HN_OK && (initialised->failed || ignored->failed))
        status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", where);
    hn_free(from.piece);
    hn_free(found);
    return finish(model, status, error);
}

static hn_status check_adapter(const hn_model *model, const bool *found, const char *where, hn_error *error)
{
    for (size_t i = 0; i < model->source_count; i++) {
        const hn_param *param = &model->params[model->sources[i].param];
        if (!found[i] && !param->held)
            return hn_fail(error, HN_ERR_MISMATCH, "%s: tensor %s%s is missing", where, param->adapter ? "" : HN_PEFT_PREFIX,
                           param->sources[model->sources[i].index].name);
    }
    return HN_OK;
}

hn_status hn_model_load_adapter(hn_model *model, const hn_named_tensor *tensors, size_t count, const char *where,
                                hn_error *error)
{
    size_t prefix = strlen(HN_PEFT_PREFIX);
    reader from;
    bool *found = hn_calloc(model->source_count, sizeof *found);
    if (!found) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", where);
    hn_status status = reader_init(&from, tensors, count, NULL, where, error);
    for (size_t i = 0; i < count && status == HN_OK; i++) {
        const char *name = tensors[i].name;
        if (strncmp(name, HN_PEFT_PREFIX, prefix))
            status = hn_fail(error, HN_ERR_FORMAT, "%s: tensor %.200s: expected a name that begins with " HN_PEFT_PREFIX, where,
                             name);
        else status = take_tensor(model, found, &from, i, prefix, NULL, error);
    }
    if (status == HN_OK) status = check_adapter(model, found, where, error);
    hn_free(from.piece);
    hn_free(found);
    return finish(model, status, error);
}

/* Elements 4 * block .. + 3 of a parameter from N(0, 1): Box and Muller, "A Note on the Generation of Random
 * Normal Deviates", 1958. */
static void four_normals(float out[4], uint64_t seed, int param, uint64_t block)
{
    hn_philox4 r = hn_philox(seed, (uint32_t)block, HN_SITE(0, HN_SITE_INIT, 0), (uint32_t)param,
                             (uint32_t)(block >> 32));
    for (int i = 0; i < 4; i += 2) {
        double radius = sqrt(-2 * log(1 - (double)hn_uniform(r.word[i])));
        double angle = 2 * M_PI * (double)hn_uniform(r.word[i + 1]);
        out[i] = (float)(radius * cos(angle));
        out[i + 1] = (float)(radius * sin(angle));
    }
}

static float uniform_value(const hn_model *model, int param, uint64_t seed, uint64_t element)
{
    hn_philox4 r = hn_philox(seed, (uint32_t)(element / 4), HN_SITE(0, HN_SITE_INIT, 0), (uint32_t)param,
                             (uint32_t)(element / 4 >> 32));
    return (2 * hn_uniform(r.word[element % 4]) - 1) / sqrtf((float)model->params[param].columns);
}

static float init_value(const hn_model *model, int param, uint64_t seed, int64_t element, float normals[4])
{
    float spread = model->config.init_range;
    switch (model->params[param].init) {
    case HN_INIT_ZERO: return 0;
    case HN_INIT_ONE: return 1;
    case HN_INIT_NORMAL_BY_DEPTH: spread /= sqrtf(2.0f * (float)model->config.layers); break;
    case HN_INIT_NORMAL: break;
    case HN_INIT_UNIFORM: return uniform_value(model, param, seed, (uint64_t)element);
    }
    if (element % 4 == 0) four_normals(normals, seed, param, (uint64_t)element / 4);
    return spread * normals[element % 4];
}

hn_status hnp_param_init(hn_model *model, int param, int64_t row, int64_t rows, uint64_t seed,
                         hn_error *error)
{
    float piece[PIECE], normals[4];
    const hn_param *p = &model->params[param];
    int64_t first = row * p->columns, end = first + rows * p->columns;
    int64_t done = first;
    /* The first element of a source may stand inside a block of four. */
    if (first % 4) four_normals(normals, seed, param, (uint64_t)first / 4);
    while (done < end) {
        int64_t count = end - done < PIECE ? end - done : PIECE;
        for (int64_t i = 0; i < count; i++) piece[i] = init_value(model, param, seed, done + i, normals);
        hn_status status = hnp_param_write(model, param, done, piece, count, error);
        if (status != HN_OK) return status;
        done += count;
    }
    return HN_OK;
}

hn_status hn_model_init(hn_model *model, uint64_t seed, hn_error *error)
{
    hn_status status = HN_OK;
    HN_ASSERT(model->weights[0]->value.data);
    for (int p = 0; p < model->count && status == HN_OK; p++)
        status = hnp_param_init(model, p, 0, model->params[p].rows, seed, error);
    return finish(model, status, error);
}
