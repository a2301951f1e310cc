/* LoRA: which linear layers have adapters, and what trains beside them.
 *
 *     layer.0.attention.qkv.weight    [ q | k | v ] one below the other       targets: q_proj, v_proj
 *     layer.0.attention.qkv.lora_a    [ A_q | A_v ]  [2 r, K]                 one product for both
 *     layer.0.attention.qkv.lora_b    [ B_q | B_v ]  [q rows + v rows, r]
 *
 * Adapters are parameters like others, in the group of their layer and behind all of the checkpoint's in the list, so that those
 * have the same numbers (and random values) with and without them. A module is known by its Hugging Face name; a target or a
 * saved module matches as PEFT matches it. What is saved is no target. */
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "models/internal.h"

enum { NAME = 256 };

/* The module that a source is the weight or bias of. */
static void module_of(char out[NAME], const char *source, int layer)
{
    snprintf(out, NAME, source, layer);
    char *end = strrchr(out, '.');
    if (end) *end = 0;
}

static bool ends_with_words(const char *module, const char *words)
{
    size_t length = strlen(module), size = strlen(words);
    if (size > length || strcmp(module + length - size, words)) return false;
    return size == length || module[length - size - 1] == '.';
}

/* Whether `words` stand in the module's path as whole words: it, or a module around it, has this name. */
static bool stands_in(const char *module, const char *words)
{
    size_t size = strlen(words);
    for (const char *at = module; size && (at = strstr(at, words)); at++)
        if ((at == module || at[-1] == '.') && (!at[size] || at[size] == '.')) return true;
    return false;
}

/* Whose settings a message is about. */
static const char *name_of(const hn_lora_config *lora)
{
    return lora->where ? lora->where : "LoRA";
}

static bool is_saved(const hn_lora_config *lora, const char *module)
{
    for (int i = 0; i < lora->saved_count; i++)
        if (stands_in(module, lora->saved[i])) return true;
    return false;
}

static bool all_linear(const hn_lora_config *lora)
{
    return lora->target_count == 1 && !strcmp(lora->targets[0], "all-linear");
}

/* Which sources of a linear layer of a group have adapters. */
static int find_targets(const hn_model *model, const hnp_entry *entry, int group, int layer, bool found[HN_PARAM_SOURCES])
{
    const hn_lora_config *lora = &model->config.lora;
    int count = 0;
    bool head_trains = group == model->config.layers + 1 && !lora->saved_count;
    for (int s = 0; s < HN_PARAM_SOURCES; s++) {
        char module[NAME];
        found[s] = false;
        if (!entry->adaptable || !entry->sources[s].name || head_trains) continue;
        module_of(module, entry->sources[s].name, layer);
        if (is_saved(lora, module)) continue;
        found[s] = all_linear(lora);
        for (int t = 0; t < lora->target_count; t++) found[s] |= ends_with_words(module, lora->targets[t]);
        count += found[s];
    }
    return count;
}

/* `ending` in place of a name's ".weight"; NULL while names are counted. */
static char *add_name(hnp_pool *names, const char *before, const char *name, const char *ending, int layer)
{
    char format[NAME];
    snprintf(format, sizeof format, "%s%.*s%s", before, (int)(strlen(name) - strlen(".weight")), name, ending);
    return hnp_pool_name(names, format, layer);
}

static void add_half(hn_model *model, hnp_pool *names, const hnp_entry *entry, int group, int layer, hn_linear *linear,
                     const bool found[HN_PARAM_SOURCES], bool is_b)
{
    int rank = model->config.lora.rank;
    hn_param *param = &model->params[model->count];
    *param = (hn_param){.name = add_name(names, "", entry->name, is_b ? ".lora_b" : ".lora_a", layer),
                        .rank = 2,
                        .columns = is_b ? rank : hnp_size_of(&model->config, entry->columns),
                        .init = is_b ? HN_INIT_ZERO : HN_INIT_UNIFORM,
                        .decays = true,
                        .adapter = true,
                        .group = group};
    for (int s = 0; s < HN_PARAM_SOURCES; s++) {
        if (!found[s]) continue;
        int at = param->source_count++;
        param->sources[at].name =
            add_name(names, HN_PEFT_PREFIX, entry->sources[s].name, is_b ? ".lora_B.weight" : ".lora_A.weight", layer);
        param->sources[at].row = param->rows;
        param->sources[at].rows = is_b ? hnp_size_of(&model->config, entry->sources[s].rows) : rank;
        param->rows += param->sources[at].rows;
    }
    model->weights[model->count++] = is_b ? &linear->lora.b : &linear->lora.a;
}

/* The pair of one linear layer. */
static void add_pair(hn_model *model, hnp_pool *names, const hnp_entry *entry, int group, int layer, int which, void *owner)
{
    const hn_lora_config *config = &model->config.lora;
    hn_linear *linear = (hn_linear *)(void *)((char *)owner + entry->offset);
    bool found[HN_PARAM_SOURCES];
    if (!find_targets(model, entry, group, layer, found)) return;
    int64_t row = 0;
    linear->lora = (hn_lora){.scale = config->alpha / (config->rank_stabilised ? sqrtf((float)config->rank) : (float)config->rank),
                             .dropout = config->dropout,
                             .site = HN_SITE(layer, HN_SITE_LORA, which)};
    for (int s = 0; s < HN_PARAM_SOURCES && entry->sources[s].name; s++) {
        int64_t rows = hnp_size_of(&model->config, entry->sources[s].rows);
        if (found[s]) {
            linear->lora.part[linear->lora.parts].row = row;
            linear->lora.part[linear->lora.parts++].rows = rows;
        }
        row += rows;
    }
    model->pairs[model->pair_count++] = (hnp_pair){linear, group, model->count};
    add_half(model, names, entry, group, layer, linear, found, false);
    add_half(model, names, entry, group, layer, linear, found, true);
}

static void add_table(hn_model *model, hnp_pool *names, const hnp_table *table, int group, int layer, void *owner)
{
    for (int i = 0; i < table->count; i++) add_pair(model, names, &table->entries[i], group, layer, i, owner);
}

void hnp_adapters_add(hn_model *model, hnp_pool *names)
{
    int layers = model->config.layers;
    model->pair_count = 0;
    if (!model->config.lora.rank) return;
    for (int l = 0; l < layers; l++) add_table(model, names, &model->family->layer, l + 1, l, &model->layers[l]);
    add_table(model, names, hnp_head_table(model), layers + 1, layers, &model->head);
}

/* Marks what stays as the checkpoint has it: all but adapters and what is saved. */
static hn_status hold(hn_model *model, hn_error *error)
{
    const hn_lora_config *lora = &model->config.lora;
    bool encoder = !model->family->architecture->causal;
    for (int p = 0; p < model->count; p++) {
        hn_param *param = &model->params[p];
        int saved = 0;
        for (int s = 0; s < param->source_count; s++) {
            char module[NAME];
            snprintf(module, sizeof module, "%s", param->sources[s].name);
            *strrchr(module, '.') = 0;
            saved += is_saved(lora, module);
        }
        if (!lora->saved_count && encoder && param->group == model->config.layers + 1) saved = param->source_count;
        if (!param->adapter && saved && saved < param->source_count)
            return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: a saved module is one of those that %s holds as one (%s, ...): name "
                           "all of them or none", name_of(lora), param->name, param->sources[0].name);
        param->held = param->frozen = !param->adapter && !saved;
    }
    return HN_OK;
}

/* The last words of the modules that can be targets, each once. */
static void list_modules(const hn_model *model, hn_strbuf *out)
{
    const hnp_table *tables[] = {&model->family->layer, hnp_head_table(model)};
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < tables[t]->count; i++)
            for (int s = 0; s < HN_PARAM_SOURCES; s++) {
                const hnp_entry *entry = &tables[t]->entries[i];
                char module[NAME];
                if (!entry->adaptable || !entry->sources[s].name) continue;
                module_of(module, entry->sources[s].name, 0);
                const char *last = strrchr(module, '.') ? strrchr(module, '.') + 1 : module;
                if (!out->length || !strstr(out->text, last)) hn_strbuf_printf(out, "%s%s", out->length ? ", " : "", last);
            }
}

static bool is_target(const hn_model *model, const char *target)
{
    for (int p = 0; p < model->count; p++)
        for (int s = 0; model->params[p].adapter && s < model->params[p].source_count; s++) {
            char module[NAME];
            snprintf(module, sizeof module, "%s", model->params[p].sources[s].name);
            *strrchr(module, '.') = 0; /* weight */
            *strrchr(module, '.') = 0; /* lora_A */
            if (ends_with_words(module, target)) return true;
        }
    return false;
}

/* PEFT names both of these for every classification model. */
static bool is_module(const hn_model *model, const char *saved)
{
    if (!strcmp(saved, "classifier") || !strcmp(saved, "score")) return true;
    for (int p = 0; p < model->count; p++)
        for (int s = 0; !model->params[p].adapter && s < model->params[p].source_count; s++)
            if (stands_in(model->params[p].sources[s].name, saved)) return true;
    return false;
}

hn_status hnp_adapters_check(hn_model *model, hn_error *error)
{
    const hn_lora_config *lora = &model->config.lora;
    hn_status status = HN_OK;
    hn_strbuf names;
    if (!lora->rank) return HN_OK;
    hn_strbuf_init(&names);
    list_modules(model, &names);
    for (int t = 0; t < lora->target_count && status == HN_OK; t++)
        if (!all_linear(lora) && !is_target(model, lora->targets[t]))
            status = hn_fail(error, HN_ERR_USAGE, "%s: target \"%.100s\" names no linear layer that is free for an adapter; "
                             "expected all-linear, or some of %s", name_of(lora), lora->targets[t], names.failed ? "" : names.text);
    for (int s = 0; s < lora->saved_count && status == HN_OK; s++)
        if (!is_module(model, lora->saved[s]))
            status = hn_fail(error, HN_ERR_USAGE, "%s: \"%.100s\", which is to train whole, names no module of this model",
                             name_of(lora), lora->saved[s]);
    if (status == HN_OK && !model->pair_count)
        status = hn_fail(error, HN_ERR_USAGE, "%s: no targets; expected all-linear, or some of %s", name_of(lora),
                         names.failed ? "" : names.text);
    hn_strbuf_close(&names);
    return status == HN_OK ? hold(model, error) : status;
}

int64_t hnp_adapters_widest(const hn_model *model)
{
    int64_t widest = 0;
    for (int i = 0; i < model->pair_count; i++) {
        int64_t width = (int64_t)model->pairs[i].linear->lora.parts * model->config.lora.rank;
        if (width > widest) widest = width;
    }
    return widest;
}

void hnp_adapters_place(const hnp_layout *l)
{
    hn_model *model = l->model;
    const hnp_activations *act = &model->act;
    int64_t widest = hnp_adapters_widest(model);
    if (!widest) return;
    hn_tensor shared = hnp_take(l, l->tokens, widest), d = {0};
    if (act->training) d = hnp_take(l, l->tokens, widest);
    for (int i = 0; i < model->pair_count; i++) {
        hn_lora *lora = &model->pairs[i].linear->lora;
        int64_t width = (int64_t)lora->parts * model->config.lora.rank;
        lora->again = act->recompute;
        bool keeps = act->training && model->pairs[i].group >= act->first && !lora->again;
        lora->low = keeps ? hnp_take(l, l->tokens, width) : hn_tensor_2d(shared.data, shared.dtype, l->tokens, width);
        lora->d_low = hn_tensor_2d(d.data, model->precision, l->tokens, width);
    }
}
