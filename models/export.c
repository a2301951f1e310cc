/* A model's parameters as a file has them. Values are made as they are asked for, a block at a time: out of the masters, turned where
 * the file has rows as columns, with W + scale B A where adapters are merged. A frozen matrix of a bf16 model stands there rounded;
 * it is given as the checkpoint that it came from has it. */
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "models/internal.h"

enum { PIECE = 256 };

enum { MASTERS, COPIES }; /* of hn_exported.arrays */

/* Where a tensor's values come from. */
typedef struct hnp_export_place {
    int param, source;
    const hn_tensor *base; /* the checkpoint's tensor; NULL: the parameter */
    size_t base_index;     /* its number there */
    const hn_linear *linear; /* whose branch is merged, or NULL */
    int part;              /* of the branch */
} hnp_export_place;

/* Not held by LoRA: an adapter, or trained beside them. */
static bool is_wanted(const hn_param *param, hn_export_kind kind)
{
    return kind == HN_EXPORT_ADAPTER ? !param->held : !param->adapter;
}

/* The branch that a source of a weight has, if it has one. */
static void find_branch(const hn_model *model, hnp_export_place *place)
{
    const hn_param *param = &model->params[place->param];
    for (int i = 0; i < model->pair_count; i++) {
        const hn_linear *linear = model->pairs[i].linear;
        if (&linear->weight != model->weights[place->param]) continue;
        for (int p = 0; p < linear->lora.parts; p++)
            if (linear->lora.part[p].row == param->sources[place->source].row) {
                place->linear = linear;
                place->part = p;
            }
    }
}

static void find_base(const hn_model *model, hnp_export_place *place, const hn_named_tensor *base, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const hnp_source *found = hnp_source_find(model, base[i].name);
        if (!found || found->param != place->param || found->index != place->source) continue;
        place->base = &base[i].tensor;
        place->base_index = i;
    }
}

/* The list, or without memory the length of its names. */
static size_t list(hn_exported *out, hn_export_kind kind, const hn_named_tensor *base, size_t base_count)
{
    const hn_model *model = out->model;
    size_t used = 0;
    for (int p = 0; p < model->count; p++)
        for (int s = 0; s < model->params[p].source_count; s++) {
            const hn_param *param = &model->params[p];
            const char *name = param->sources[s].name, *prefix = "";
            if (!is_wanted(param, kind)) continue;
            if (kind == HN_EXPORT_ADAPTER && !param->adapter) prefix = HN_PEFT_PREFIX;
            size_t size = strlen(prefix) + strlen(name) + 1;
            if (out->names) {
                hnp_export_place *place = &out->places[out->count];
                snprintf(out->names + used, size, "%s%s", prefix, name);
                *place = (hnp_export_place){.param = p, .source = s};
                if (param->offset < 0) find_base(model, place, base, base_count);
                if (kind == HN_EXPORT_MERGED && param->rank == 2) find_branch(model, place);
                out->tensors[out->count++] = (hn_named_tensor){out->names + used, hnp_source_shape(param, s)};
            }
            used += size;
        }
    return used;
}

hn_status hn_exported_init(hn_exported *out, const hn_model *model, hn_export_kind kind, const hn_named_tensor *base,
                           size_t base_count, const hn_tensor_source *base_source, hn_error *error)
{
    hn_exported exported = {.model = model, .base_source = base_source};
    HN_ASSERT(kind != HN_EXPORT_MERGED || model->precision == HN_F32);
    exported.tensors = hn_calloc(model->source_count, sizeof *exported.tensors);
    exported.places = hn_calloc(model->source_count, sizeof *exported.places);
    exported.names = hn_malloc(list(&exported, kind, base, base_count));
    if (!exported.tensors || !exported.places || !exported.names) {
        hn_exported_close(&exported);
        return hn_fail(error, HN_ERR_MEMORY, "out of memory for the list of %zu tensors to export", model->source_count);
    }
    list(&exported, kind, base, base_count);
    exported.arrays[MASTERS] = (hn_named_tensor){"masters", hn_tensor_1d(model->master, HN_F32, model->elements)};
    exported.arrays[COPIES] = (hn_named_tensor){"copies", hn_tensor_1d(model->copy, HN_BF16, model->copy ? model->copy_elements : 0)};
    *out = exported;
    hn_status status = hn_mirror_open(&out->values, model->backend, out->arrays, 2, error);
    if (status == HN_OK) status = hn_mirror_fetch(&out->values, error);
    if (status != HN_OK) hn_exported_close(out);
    return status;
}

static float *master_of(const hn_exported *exported, int param)
{
    return (float *)exported->values.tensors[MASTERS].tensor.data + exported->model->params[param].offset;
}

/* The rows of a parameter that a source is, in fp32 or as bf16 alone. */
static hn_tensor source_rows(const hn_exported *exported, const hnp_export_place *place)
{
    const hn_param *param = &exported->model->params[place->param];
    bool master = param->offset >= 0;
    void *data = master ? (void *)master_of(exported, place->param)
                        : (uint16_t *)exported->values.tensors[COPIES].tensor.data + param->copy_offset;
    hn_tensor whole = hn_tensor_2d(data, master ? HN_F32 : HN_BF16, param->rows, param->columns);
    return hn_tensor_rows(&whole, param->sources[place->source].row, param->sources[place->source].rows);
}

/* out[i] += scale (B A)[row, column] for elements of a row (or, turned, of a column) of the weight: `fixed` is the index that
 * stays, `first` that of out[0] along the other. */
static void add_branch(float *out, const hn_exported *exported, const hnp_export_place *place, bool turned, int64_t fixed,
                       int64_t first, int64_t n)
{
    const hn_lora *lora = &place->linear->lora;
    const hn_model *model = exported->model;
    int pair = 0;
    while (model->pairs[pair].linear != place->linear) pair++;
    int64_t rank = model->config.lora.rank, columns = model->params[model->pairs[pair].param].columns, row = 0;
    for (int p = 0; p < place->part; p++) row += lora->part[p].rows;
    const float *a = master_of(exported, model->pairs[pair].param) + place->part * rank * columns;
    const float *b = master_of(exported, model->pairs[pair].param + 1) + row * rank;
    float sum[PIECE] = {0};
    for (int64_t r = 0; r < rank; r++)
        for (int64_t i = 0; i < n; i++)
            sum[i] += turned ? b[(first + i) * rank + r] * a[r * columns + fixed] : b[fixed * rank + r] * a[r * columns + first + i];
    for (int64_t i = 0; i < n; i++) out[i] += lora->scale * sum[i];
}

hn_status hn_exported_fill(void *context, float *out, size_t index, int64_t first, int64_t n, hn_error *error)
{
    const hn_exported *exported = context;
    const hnp_export_place *place = &exported->places[index];
    bool turned = exported->model->params[place->param].sources[place->source].turned;
    int64_t width = exported->tensors[index].tensor.shape[1];
    if (place->base && !place->base->data && n)
        return exported->base_source->fill(exported->base_source->context, out, place->base_index, first, n, error);
    if (place->base) {
        hnp_to_floats(out, place->base, false, first, n);
    } else {
        hn_tensor rows = source_rows(exported, place);
        hnp_to_floats(out, &rows, turned, first, n);
    }
    if (!place->linear) return HN_OK;
    for (int64_t done = 0, count; done < n; done += count) {
        int64_t at = (first + done) % width;
        count = width - at < PIECE ? width - at : PIECE;
        if (count > n - done) count = n - done;
        add_branch(out + done, exported, place, turned, (first + done) / width, at, count);
    }
    return HN_OK;
}

void hn_exported_close(hn_exported *exported)
{
    hn_mirror_close(&exported->values);
    hn_free(exported->tensors);
    hn_free(exported->places);
    hn_free(exported->names);
    *exported = (hn_exported){0};
}
