/* See freeze.h. */
#include "train/freeze.h"

#include <math.h>

#include "core/mem.h"

static hn_status unknown_group(const hn_model *model, const char *key, const char *name, hn_error *error)
{
    return hn_fail(error, HN_ERR_USAGE, "%s: this model has no group \"%s\"; its groups are embeddings, layer.0 to %s, head",
                   key, name, hn_model_group_name(model, hn_model_group_count(model) - 2));
}

/* thaw[g] = HN_NEVER for what the config freezes and for groups without anything to train (LoRA), 0 for the rest. */
static hn_status mark_frozen(hn_freeze_plan *plan, const hn_train_config *config, const hn_model *model, hn_error *error)
{
    const char *below = config->freeze.below;
    bool gradual = config->freeze.unfreeze.unit != HN_INTERVAL_OFF;
    int boundary = 0;
    if (below) {
        boundary = hn_model_group_find(model, below);
        if (boundary < 0) return unknown_group(model, "freeze.below", below, error);
    } else if (gradual && !config->freeze.groups.count) {
        boundary = plan->groups - 1; /* the highest with anything to train, the head but with LoRA on a decoder */
        while (boundary > 0 && !hn_model_group_trains(model, boundary)) boundary--;
    }
    for (int g = 0; g < plan->groups; g++)
        if (g < boundary || !hn_model_group_trains(model, g)) plan->thaw[g] = HN_NEVER;
    for (size_t i = 0; i < config->freeze.groups.count; i++) {
        int g = hn_model_group_find(model, config->freeze.groups.items[i]);
        if (g < 0) return unknown_group(model, "freeze.groups", config->freeze.groups.items[i], error);
        plan->thaw[g] = HN_NEVER;
    }
    return HN_OK;
}

static bool may_thaw(const hn_freeze_plan *plan, const hn_model *model, int group)
{
    return plan->thaw[group] == HN_NEVER && hn_model_group_trains(model, group);
}

hn_status hn_freeze_plan_init(hn_freeze_plan *plan, const hn_train_config *config, const hn_model *model,
                              int64_t steps_per_epoch, int64_t total_steps, hn_error *error)
{
    int groups = hn_model_group_count(model);
    hn_interval unfreeze = config->freeze.unfreeze;
    *plan = (hn_freeze_plan){.groups = groups, .warmup = config->freeze.unfreeze_warmup};
    plan->thaw = hn_calloc((size_t)groups, sizeof *plan->thaw);
    plan->ever = hn_calloc((size_t)groups, sizeof *plan->ever);
    plan->lr_scale = hn_calloc((size_t)groups, sizeof *plan->lr_scale);
    hn_status status = plan->thaw && plan->ever && plan->lr_scale
                           ? mark_frozen(plan, config, model, error)
                           : hn_fail(error, HN_ERR_MEMORY, "out of memory for the freezing plan");
    if (status != HN_OK) goto out;
    int64_t every = hn_interval_steps(unfreeze, steps_per_epoch), next = every;
    bool any = false;
    for (int g = groups - 1; g >= 0; g--) {
        if (may_thaw(plan, model, g) && unfreeze.unit != HN_INTERVAL_OFF) {
            plan->thaw[g] = next;
            next += every;
        }
        plan->ever[g] = plan->thaw[g] < total_steps;
        any |= plan->thaw[g] == 0;
        plan->lr_scale[g] = (float)pow(config->freeze.lr_decay, groups - 1 - g);
    }
    if (config->freeze.cache && config->task.kind == HN_TASK_MLM)
        status = hn_fail(error, HN_ERR_USAGE, "freeze.cache: task mlm hides other tokens at every step, so no output of the trunk "
                         "comes twice; expected false");
    else if (!any)
        status = hn_fail(error, HN_ERR_USAGE,
                         "freeze: every group is frozen, so nothing would train; expected at least the head to be free");
    else if (config->freeze.cache && plan->thaw[0] == 0)
        status = hn_fail(error, HN_ERR_USAGE,
                         "freeze.cache: the embeddings train, so there is no frozen trunk whose output could be kept; expected "
                         "them to be frozen by freeze.below or freeze.groups, or freeze.cache=false");
    else if (config->freeze.cache && unfreeze.unit != HN_INTERVAL_OFF && every < 2 * steps_per_epoch)
        status = hn_fail(error, HN_ERR_USAGE,
                         "freeze.cache: the trunk changes every %lld steps by freeze.unfreeze, and an epoch has %lld; "
                         "expected a boundary that stays for two epochs or more",
                         (long long)every, (long long)steps_per_epoch);
out:
    if (status != HN_OK) hn_freeze_plan_close(plan);
    return status;
}

void hn_freeze_plan_close(hn_freeze_plan *plan)
{
    hn_free(plan->thaw);
    hn_free(plan->ever);
    hn_free(plan->lr_scale);
    *plan = (hn_freeze_plan){0};
}

void hn_freeze_plan_at(const hn_freeze_plan *plan, int64_t step, bool *trainable)
{
    for (int g = 0; g < plan->groups; g++) trainable[g] = plan->ever[g] && plan->thaw[g] <= step;
}

int hn_freeze_plan_thaws(const hn_freeze_plan *plan, int64_t step)
{
    for (int g = plan->groups - 1; g >= 0; g--)
        if (step > 0 && plan->ever[g] && plan->thaw[g] == step) return g;
    return -1;
}

float hn_freeze_plan_warmup(const hn_freeze_plan *plan, int group, int64_t step)
{
    int64_t since = step - plan->thaw[group];
    if (plan->thaw[group] == 0 || plan->thaw[group] == HN_NEVER || since >= plan->warmup) return 1;
    return (float)(since + 1) / (float)plan->warmup;
}

static bool from_the_start(const hn_freeze_plan *plan, int group)
{
    return plan->thaw[group] == 0;
}

static bool never(const hn_freeze_plan *plan, int group)
{
    return !plan->ever[group];
}

/* The names of some groups, top down; of three and more neighbours the first and the last. */
static void name_groups(const hn_freeze_plan *plan, const hn_model *model, bool (*wanted)(const hn_freeze_plan *, int), hn_strbuf *out)
{
    for (int g = plan->groups - 1, last; g >= 0; g = last - 1) {
        last = g;
        if (!wanted(plan, g)) continue;
        while (last > 0 && wanted(plan, last - 1)) last--;
        hn_strbuf_printf(out, " %s", hn_model_group_name(model, g));
        if (last < g) hn_strbuf_printf(out, "%s %s", g - last > 1 ? " to" : "", hn_model_group_name(model, last));
    }
}

void hn_freeze_plan_describe(const hn_freeze_plan *plan, const hn_model *model, hn_strbuf *out)
{
    int trained = 0;
    bool frozen = false;
    for (int g = 0; g < plan->groups; g++) trained += plan->thaw[g] == 0;
    if (trained == plan->groups) {
        hn_strbuf_puts(out, "every group trains");
        return;
    }
    hn_strbuf_puts(out, "trained from the start:");
    name_groups(plan, model, from_the_start, out);
    for (int g = plan->groups - 1; g >= 0; g--)
        if (plan->ever[g] && plan->thaw[g] > 0)
            hn_strbuf_printf(out, "; %s from step %lld", hn_model_group_name(model, g), (long long)plan->thaw[g]);
    for (int g = 0; g < plan->groups; g++) frozen |= never(plan, g);
    if (!frozen) return;
    hn_strbuf_puts(out, "; frozen:");
    name_groups(plan, model, never, out);
}
