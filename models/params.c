/* The list of parameters and where they stand.
 *
 *     families.c rows  --hn_model_open-->  params[0 .. count): embeddings, layer.0, ..., layer.L-1, head, adapters
 *
 *     fp32 model   masters    | token | position | ... | head.out.bias |     one array; every parameter begins at a
 *     bf16 model   masters    | token | ...    without frozen matrices |     multiple of 32 elements, the gaps stay zero
 *                  bf16       | token | ...           matrices, no vectors |
 *     both         gradients  | what trains in this run, same order |        fp32
 *
 * The order is that of the list, unless the caller has one of his own (hn_model_lay_out).
 *
 * Invariant: params[i] and *weights[i] tell of the same parameter; weights[i] points into the structs that forward and backward
 * use. Matrices are read in the model's precision, vectors (biases, norms) always from fp32. A frozen matrix needs no master: it
 * stands once, as it is read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "models/internal.h"

char *hnp_pool_name(hnp_pool *names, const char *format, int layer)
{
    char *text = names->base ? names->base + names->used : NULL;
    int length = snprintf(NULL, 0, format, layer);
    if (text) snprintf(text, (size_t)length + 1, format, layer);
    names->used += (size_t)length + 1;
    return text;
}

int64_t hnp_size_of(const hn_model_config *config, hnp_size size)
{
    switch (size) {
    case HNP_ONE: return 1;
    case HNP_HIDDEN: return config->hidden;
    case HNP_QUERIES: return (int64_t)config->heads * config->head_size;
    case HNP_KEYS: return (int64_t)config->kv_heads * config->head_size;
    case HNP_QKV: return ((int64_t)config->heads + 2 * (int64_t)config->kv_heads) * config->head_size;
    case HNP_HEAD: return config->head_size;
    case HNP_INTERMEDIATE: return config->intermediate;
    case HNP_GATED: return 2 * (int64_t)config->intermediate;
    case HNP_VOCABULARY: return config->vocabulary;
    case HNP_POSITIONS: return config->positions;
    case HNP_TYPES: return config->types;
    case HNP_LABELS: return config->labels;
    }
    HN_ASSERT(!"a size of hnp_size");
}

static int source_count(const hnp_entry *entry)
{
    int count = 0;
    while (count < HN_PARAM_SOURCES && entry->sources[count].name) count++;
    return count;
}

/* Appends the rows of one table: the parameters of one group. */
static void add_group(hn_model *model, hnp_pool *names, const hnp_table *table, int group, int layer, void *owner)
{
    for (int i = 0; i < table->count; i++) {
        const hnp_entry *entry = &table->entries[i];
        if (entry->untied && model->config.tied) continue;
        hn_param *param = &model->params[model->count];
        *param = (hn_param){.name = hnp_pool_name(names, entry->name, layer),
                            .rank = entry->columns == HNP_ONE ? 1 : 2,
                            .rows = hnp_size_of(&model->config, entry->rows),
                            .columns = hnp_size_of(&model->config, entry->columns),
                            .init = entry->init,
                            .decays = entry->decays,
                            .may_be_missing = entry->may_be_missing,
                            .group = group,
                            .source_count = source_count(entry)};
        int64_t row = 0;
        for (int s = 0; s < param->source_count; s++) {
            param->sources[s].name = hnp_pool_name(names, entry->sources[s].name, layer);
            param->sources[s].row = row;
            param->sources[s].rows = hnp_size_of(&model->config, entry->sources[s].rows);
            param->sources[s].turned = entry->turned;
            row += param->sources[s].rows;
        }
        HN_ASSERT(row == param->rows);
        model->weights[model->count++] = (hn_weight *)(void *)((char *)owner + entry->offset);
    }
}

const hnp_table *hnp_head_table(const hn_model *model)
{
    switch (model->config.head) {
    case HN_HEAD_MASKED: return &model->family->masked;
    case HN_HEAD_TAGS: return &model->family->tags;
    default: return &model->family->head;
    }
}

const char *const *hnp_unused_names(const hn_model *model)
{
    switch (model->config.head) {
    case HN_HEAD_MASKED: return model->family->masked_unused;
    case HN_HEAD_TAGS: return model->family->tags_unused;
    default: return model->family->unused;
    }
}

static void add_params(hn_model *model, hnp_pool *names)
{
    int layers = model->config.layers;
    model->count = 0;
    model->group_names[0] = hnp_pool_name(names, "embeddings", 0);
    add_group(model, names, &model->family->embeddings, 0, 0, &model->embeddings);
    for (int l = 0; l < layers; l++) {
        model->group_names[l + 1] = hnp_pool_name(names, "layer.%d", l);
        add_group(model, names, &model->family->layer, l + 1, l, &model->layers[l]);
    }
    model->group_names[layers + 1] = hnp_pool_name(names, "head", 0);
    add_group(model, names, hnp_head_table(model), layers + 1, 0, &model->head);
    hnp_adapters_add(model, names);
}

/* Elements of an array that a parameter takes, with its gap. */
static int64_t room_of(const hn_param *param)
{
    return (param->rows * param->columns + 31) & ~(int64_t)31;
}

/* Gives every parameter its places in the arrays, in the order of the list. */
static void lay_out_in_order(hn_model *model)
{
    model->elements = model->copy_elements = 0;
    model->gradient_elements = -1;
    for (int g = 0; g < hn_model_group_count(model); g++) model->group_trains[g] = false;
    for (int i = 0; i < model->count; i++) {
        hn_param *param = &model->params[i];
        bool narrow = model->precision == HN_BF16 && param->rank == 2, alone = narrow && param->frozen;
        param->copy_offset = narrow ? model->copy_elements : -1;
        param->offset = alone ? -1 : model->elements;
        param->gradient_offset = -1;
        if (narrow) model->copy_elements += room_of(param);
        if (!alone) model->elements += room_of(param);
        model->group_trains[param->group] |= !param->frozen;
    }
}

/* Whether the places are such as hn_model_places says. */
static bool places_fit(const hn_model *model, const int64_t *place, int64_t elements)
{
    for (int i = 0; i < model->count; i++) {
        int64_t end = place[i] + model->params[i].rows * model->params[i].columns;
        if (place[i] == -1) continue;
        if (place[i] < 0 || place[i] % 32 || end > elements) return false;
        for (int j = 0; j < i; j++)
            if (place[j] >= 0 && place[j] < end && place[i] < place[j] + model->params[j].rows * model->params[j].columns) return false;
    }
    return true;
}

void hn_model_lay_out(hn_model *model, const hn_model_places *places)
{
    lay_out_in_order(model);
    if (!places) return;
    HN_ASSERT(places_fit(model, places->offset, places->elements) && places_fit(model, places->copy_offset, places->copy_elements) &&
              places_fit(model, places->gradient_offset, places->gradient_elements));
    model->elements = places->elements;
    model->copy_elements = places->copy_elements;
    model->gradient_elements = places->gradient_elements;
    for (int i = 0; i < model->count; i++) {
        hn_param *param = &model->params[i];
        HN_ASSERT((param->offset < 0) == (places->offset[i] < 0) && (param->copy_offset < 0) == (places->copy_offset[i] < 0));
        HN_ASSERT(!param->frozen || places->gradient_offset[i] < 0);
        param->offset = places->offset[i];
        param->copy_offset = places->copy_offset[i];
        param->gradient_offset = places->gradient_offset[i];
    }
}

const char *hnp_source_key(char *buffer, size_t size, const hn_model *model, const char *name)
{
    static const struct {
        const char *old, *now;
    } endings[] = {{".gamma", ".weight"}, {".beta", ".bias"}};
    size_t prefix = strlen(model->family->prefix), length;
    if (!strncmp(name, model->family->prefix, prefix)) name += prefix;
    length = strlen(name);
    for (size_t i = 0; i < 2; i++) {
        size_t end = strlen(endings[i].old);
        if (length < end || length + 2 > size || strcmp(name + length - end, endings[i].old)) continue;
        snprintf(buffer, size, "%.*s%s", (int)(length - end), name, endings[i].now);
        return buffer;
    }
    return name;
}

static int compare_sources(const void *a, const void *b)
{
    return strcmp(((const hnp_source *)a)->key, ((const hnp_source *)b)->key);
}

static void index_sources(hn_model *model)
{
    size_t prefix = strlen(HN_PEFT_PREFIX);
    for (int p = 0; p < model->count; p++)
        for (int s = 0; s < model->params[p].source_count; s++)
            model->sources[model->source_count++] = (hnp_source){
                hnp_source_key(NULL, 0, model, model->params[p].sources[s].name + (model->params[p].adapter ? prefix : 0)), p,
                s};
    qsort(model->sources, model->source_count, sizeof *model->sources, compare_sources);
}

hn_status hn_model_open(hn_model **out, const hn_model_config *config, hn_dtype precision,
                        hn_backend *backend, const hn_ops *ops, hn_error *error)
{
    HN_ASSERT(precision == HN_F32 || precision == HN_BF16);
    HN_ASSERT(config->labels >= 1 && (config->head != HN_HEAD_REGRESS || config->labels == 1));
    hn_status status = HN_OK;
    hn_model *model = hn_calloc(1, sizeof *model);
    if (!model) return hn_fail(error, HN_ERR_MEMORY, "model: out of memory");
    *model = (hn_model){.config = *config, .precision = precision, .backend = backend, .upload = {.backend = backend}, .ops = ops};
    model->family = hnp_family_get(config->family);
    HN_ASSERT(model->family->architecture->causal == (config->head == HN_HEAD_LM));

    size_t layers = (size_t)config->layers;
    size_t count = (size_t)model->family->embeddings.count + layers * (size_t)model->family->layer.count +
                   (size_t)hnp_head_table(model)->count;
    if (config->lora.rank) count *= 3;
    model->params = hn_calloc(count, sizeof *model->params);
    model->weights = hn_calloc(count, sizeof *model->weights);
    model->sources = hn_calloc(count * HN_PARAM_SOURCES, sizeof *model->sources);
    model->group_names = hn_calloc(layers + 2, sizeof *model->group_names);
    model->group_trains = hn_calloc(layers + 2, sizeof *model->group_trains);
    model->pairs = hn_calloc(config->lora.rank ? count : 1, sizeof *model->pairs);
    model->layers = hn_calloc(layers, sizeof *model->layers);
    if (model->family->architecture->causal) model->dec.layers = hn_calloc(layers, sizeof *model->dec.layers);
    else model->enc.layers = hn_calloc(layers, sizeof *model->enc.layers);
    hnp_pool names = {0};
    if (model->params && model->weights && model->sources && model->group_names && model->layers && model->group_trains &&
        model->pairs && (model->enc.layers || model->dec.layers)) {
        add_params(model, &names);
        model->names = hn_malloc(names.used);
    }
    if (!model->names) {
        status = hn_fail(error, HN_ERR_MEMORY, "model: no memory for the table of %zu parameters", count);
        goto out;
    }
    names = (hnp_pool){.base = model->names};
    add_params(model, &names);
    index_sources(model);
    status = hnp_adapters_check(model, error);
    if (status != HN_OK) goto out;
    lay_out_in_order(model);
    *out = model;
    model = NULL;
out:
    hn_model_free(model);
    return status;
}

void hn_model_free(hn_model *model)
{
    if (!model) return;
    hn_free(model->params);
    hn_free(model->weights);
    hn_free(model->sources);
    hn_free(model->group_names);
    hn_free(model->group_trains);
    hn_free(model->pairs);
    hn_free(model->layers);
    hn_free(model->enc.layers);
    hn_free(model->dec.layers);
    hn_free(model->names);
    hn_free(model);
}

const hn_model_config *hn_model_get_config(const hn_model *model)
{
    return &model->config;
}

const hn_param *hn_model_params(const hn_model *model, int *count)
{
    *count = model->count;
    return model->params;
}

int64_t hn_model_param_elements(const hn_model *model)
{
    return model->elements;
}

int hn_model_group_count(const hn_model *model)
{
    return model->config.layers + 2;
}

const char *hn_model_group_name(const hn_model *model, int group)
{
    HN_ASSERT(group >= 0 && group < hn_model_group_count(model));
    return model->group_names[group];
}

int hn_model_group_find(const hn_model *model, const char *name)
{
    for (int g = 0; g < hn_model_group_count(model); g++)
        if (!strcmp(name, model->group_names[g])) return g;
    return -1;
}

static hn_tensor shaped(const hn_param *param, void *data, hn_dtype dtype)
{
    return param->rank == 1 ? hn_tensor_1d(data, dtype, param->rows)
                            : hn_tensor_2d(data, dtype, param->rows, param->columns);
}

void hn_model_freeze(hn_model *model, int group)
{
    for (int i = 0; i < model->count; i++) model->params[i].frozen |= model->params[i].group == group;
    lay_out_in_order(model);
}

bool hn_model_group_trains(const hn_model *model, int group)
{
    return model->group_trains[group];
}

float *hnp_param_master(const hn_model *model, int param)
{
    int64_t offset = model->params[param].offset;
    return model->master && offset >= 0 ? model->master + offset : NULL;
}

uint16_t *hnp_param_copy(const hn_model *model, int param)
{
    int64_t offset = model->params[param].copy_offset;
    return model->copy && offset >= 0 ? model->copy + offset : NULL;
}

void hn_model_place_parameters(hn_model *model, hn_arena *arena)
{
    model->master = hn_arena_take(arena, (size_t)model->elements * sizeof *model->master);
    model->copy = NULL;
    if (model->precision == HN_BF16)
        model->copy = hn_arena_take(arena, (size_t)model->copy_elements * sizeof *model->copy);
    for (int i = 0; i < model->count; i++) {
        const hn_param *param = &model->params[i];
        bool narrow = param->copy_offset >= 0;
        void *data = narrow ? (void *)hnp_param_copy(model, i) : (void *)hnp_param_master(model, i);
        model->weights[i]->value = shaped(param, data, narrow ? HN_BF16 : HN_F32);
        model->weights[i]->gradient = shaped(param, NULL, HN_F32);
    }
}

float *hn_model_master(const hn_model *model)
{
    return model->master;
}

uint16_t *hn_model_copy(const hn_model *model)
{
    return model->copy;
}

void hn_model_refresh_copy(hn_model *model, hn_ops_context *ctx)
{
    for (int i = 0; i < model->count; i++) {
        const hn_param *param = &model->params[i];
        if (param->offset < 0 || param->copy_offset < 0) continue;
        hn_tensor copy = shaped(param, hnp_param_copy(model, i), HN_BF16);
        hn_tensor master = shaped(param, hnp_param_master(model, i), HN_F32);
        model->ops->cast(ctx, &copy, &master);
    }
}

void hn_model_place_gradients(hn_model *model, hn_arena *arena, const bool *trainable)
{
    bool ordered = model->gradient_elements < 0;
    int64_t used = 0;
    for (int i = 0; i < model->count && ordered; i++) {
        hn_param *param = &model->params[i];
        bool trains = trainable[param->group] && !param->frozen;
        param->gradient_offset = trains ? used : -1;
        if (trains) used += room_of(param);
    }
    float *base = hn_arena_take(arena, (size_t)(ordered ? used : model->gradient_elements) * sizeof *base);
    for (int i = 0; i < model->count; i++) {
        const hn_param *param = &model->params[i];
        bool trains = trainable[param->group] && !param->frozen;
        HN_ASSERT(!trains || param->gradient_offset >= 0);
        model->weights[i]->gradient = shaped(param, base && trains ? base + param->gradient_offset : NULL, HN_F32);
    }
}

float *hn_model_gradient(const hn_model *model, int param)
{
    HN_ASSERT(param >= 0 && param < model->count);
    return model->weights[param]->gradient.data;
}

int hn_train_plan_first(const hn_model *model, const hn_train_plan *plan)
{
    int first = 0, groups = hn_model_group_count(model);
    while (first < groups && !(plan->trainable[first] && model->group_trains[first])) first++;
    return first;
}
