/* See multiple_choice.h.
 *
 * The prompts of a subject begin alike: heading and solved examples, which are most of their tokens. That prefix is computed once and
 * copied to every place of a cache of keys and values; then as many questions as there are places run as one batch:
 *
 *     place 0:  prefix | question 0, "Answer:" | (option's tokens but the last)
 *     place 1:  prefix | question 1, "Answer:" | ...
 *                      ^ cut back to here for the next batch
 *
 * The logits behind a question give the first token of all its options at once. Options of several tokens go on from there, one
 * option of every question at a time, and are cut off again. So four letters cost one forward of the question, whatever the
 * number of examples. */
#include "eval/multiple_choice.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "data/dataset.h"
#include "eval/log_sum.h"
#include "models/kv_cache.h"

/* Prompts [first, end) of one subject. */
typedef struct group {
    size_t first, end;
    int32_t prefix;   /* tokens that all begin with, and that none consists of */
    int32_t capacity; /* tokens of a place */
    int32_t places;
} group;

struct hn_choices {
    hn_runner *runner;
    const hn_prompts *prompts;
    hn_choices_options options;
    hn_bounds bounds;
    hn_arena arena;
    hn_kv_cache cache;
    int32_t *row;    /* backend memory, [sequences] last tokens */
    float *row_loss; /* backend memory, [tokens] */
    int32_t *host_row;
    float *host_loss;
    hn_batch_buffer buffer;
    double *score; /* [sequences, HN_MAX_OPTIONS] */
};

hn_bounds hn_choices_bounds(const hn_choices_options *options, int32_t longest)
{
    return (hn_bounds){.tokens = options->tokens > longest ? options->tokens : longest,
                       .examples = options->sequences,
                       .longest = longest};
}

/* Tokens of the longest option but its last one, which nothing is predicted from. */
static int32_t tail_of(const hn_prompt_item *item)
{
    int32_t longest = 0, count;
    for (size_t k = 0; k < item->question->option_count; k++) {
        hn_prompt_option(item, k, &count);
        if (count - 1 > longest) longest = count - 1;
    }
    return longest;
}

/* The group that begins with prompt `first`. */
static group find_group(const hn_choices *self, size_t first)
{
    const hn_prompt_item *items = self->prompts->items, *head = &items[first];
    group g = {.first = first, .end = first, .prefix = head->context - 1};
    for (; g.end < self->prompts->count && !strcmp(items[g.end].question->subject, head->question->subject); g.end++) {
        const hn_prompt_item *item = &items[g.end];
        int32_t same = 0, length = item->context + tail_of(item);
        while (same < g.prefix && same < item->context - 1 && item->ids[same] == head->ids[same]) same++;
        g.prefix = same;
        if (length > g.capacity) g.capacity = length;
    }
    int32_t fit = self->options.cached / g.capacity, asked = (int32_t)(g.end - g.first);
    g.places = fit < self->options.sequences ? fit : self->options.sequences;
    if (g.places > asked) g.places = asked;
    if (g.places < 1) g.places = 1;
    return g;
}

static hn_status place_cache(hn_choices *self, const group *g, hn_error *error)
{
    hn_kv_cache_close(&self->cache);
    hn_status status = hn_kv_cache_init(&self->cache, g->places, g->capacity, self->bounds.tokens, error);
    if (status != HN_OK) return status;
    hn_arena_rewind(&self->arena, 0);
    self->row = hn_arena_take(&self->arena, (size_t)self->bounds.examples * sizeof *self->row);
    self->row_loss = hn_arena_take(&self->arena, (size_t)self->bounds.tokens * sizeof *self->row_loss);
    hn_kv_cache_place(&self->cache, self->runner->model, &self->arena);
    return HN_OK;
}

hn_status hn_choices_open(hn_choices **out, hn_runner *runner, const hn_prompts *prompts, const hn_choices_options *options,
                          hn_error *error)
{
    hn_bounds bounds = hn_choices_bounds(options, prompts->longest), has = runner->options.evaluation;
    HN_ASSERT(options->sequences > 0 && hn_model_get_config(runner->model)->head == HN_HEAD_LM);
    HN_ASSERT(has.tokens >= bounds.tokens && has.examples >= bounds.examples && has.longest >= bounds.longest);
    hn_choices *self = hn_calloc(1, sizeof *self);
    if (!self) return hn_fail(error, HN_ERR_MEMORY, "out of memory for multiple choice");
    *self = (hn_choices){.runner = runner, .prompts = prompts, .options = *options, .bounds = bounds};
    hn_arena_init(&self->arena, "cache", &runner->backend);
    hn_status status = HN_OK;
    size_t largest = 0;
    for (size_t i = 0; status == HN_OK && i < prompts->count;) {
        group g = find_group(self, i);
        status = place_cache(self, &g, error);
        if (self->arena.used > largest) largest = self->arena.used;
        i = g.end;
    }
    self->arena.used = largest;
    if (status == HN_OK) *out = self;
    else hn_choices_free(self);
    return status;
}

hn_status hn_choices_alloc(hn_choices *self, hn_error *error)
{
    size_t sequences = (size_t)self->bounds.examples, tokens = (size_t)self->bounds.tokens;
    self->host_row = hn_calloc(sequences, sizeof *self->host_row);
    self->host_loss = hn_calloc(tokens, sizeof *self->host_loss);
    self->score = hn_calloc(sequences * HN_MAX_OPTIONS, sizeof *self->score);
    if (!self->host_row || !self->host_loss || !self->score)
        return hn_fail(error, HN_ERR_MEMORY, "out of memory for %zu questions at once", sequences);
    hn_status status = hn_batch_buffer_init(&self->buffer, self->bounds.tokens, self->bounds.examples, error);
    return status == HN_OK ? hn_arena_alloc(&self->arena, error) : status;
}

void hn_choices_free(hn_choices *self)
{
    if (!self) return;
    hn_kv_cache_close(&self->cache);
    hn_arena_close(&self->arena);
    hn_batch_buffer_close(&self->buffer);
    hn_free(self->host_row);
    hn_free(self->host_loss);
    hn_free(self->score);
    hn_free(self);
}

/* Batches */

static hn_batch *clear_batch(hn_choices *self)
{
    hn_batch *batch = &self->buffer.batch;
    batch->n = batch->tokens = batch->longest = 0;
    batch->cu_seqlens[0] = 0;
    batch->target = NULL;
    return batch;
}

/* The tokens of the next place; none is fine. targets NULL: nothing is predicted. */
static void put_sequence(hn_batch *batch, const int32_t *ids, const int32_t *targets, int32_t count)
{
    memcpy(batch->token + batch->tokens, ids, (size_t)count * sizeof *ids);
    if (targets) memcpy(batch->target + batch->tokens, targets, (size_t)count * sizeof *targets);
    batch->tokens += count;
    batch->cu_seqlens[++batch->n] = batch->tokens;
    if (count > batch->longest) batch->longest = count;
}

static hn_status forward(hn_choices *self, hn_error *error)
{
    hn_runner *runner = self->runner;
    hn_forward how = {.cache = &self->cache};
    hn_status status = hn_kv_cache_next(&self->cache, &runner->backend, &self->buffer.batch, error);
    if (status != HN_OK) return status;
    status = hn_device_batch_upload(&runner->batch, &self->buffer.batch, error);
    if (status != HN_OK) return status;
    hn_model_forward(runner->model, &runner->ctx, &runner->batch.batch, &how);
    return HN_OK;
}

/* What the operations recorded. */
static hn_status finish(hn_choices *self, hn_error *error)
{
    hn_runner *runner = self->runner;
    if (runner->step_error.status != HN_OK)
        return hn_fail(error, runner->step_error.status, "multiple choice: %s", runner->step_error.message);
    return runner->backend.synchronize(&runner->backend, error);
}

/* The prefix, to all places. */
static hn_status read_prefix(hn_choices *self, const group *g, hn_error *error)
{
    hn_status status = HN_OK;
    if (!g->prefix) return HN_OK;
    put_sequence(clear_batch(self), self->prompts->items[g->first].ids, NULL, g->prefix);
    status = forward(self, error);
    for (int32_t s = 1; status == HN_OK && s < g->places; s++)
        status = hn_kv_cache_copy(&self->cache, self->runner->model, &self->runner->ctx, 0, s, error);
    return status == HN_OK ? finish(self, error) : status;
}

/* The contexts of `count` prompts behind the prefix; scores of the first tokens of their options. */
static hn_status read_contexts(hn_choices *self, const group *g, size_t first, int32_t count, hn_error *error)
{
    hn_runner *runner = self->runner;
    hn_backend *backend = &runner->backend;
    int32_t vocabulary = hn_model_get_config(runner->model)->vocabulary, own;
    hn_batch *batch = clear_batch(self);
    for (int32_t s = 0; s < count; s++) {
        const hn_prompt_item *item = &self->prompts->items[first + (size_t)s];
        if (self->cache.length[s] > g->prefix) hn_kv_cache_cut(&self->cache, s, g->prefix);
        put_sequence(batch, item->ids + g->prefix, NULL, item->context - g->prefix);
        self->host_row[s] = batch->tokens - 1;
    }
    hn_status status = forward(self, error);
    if (status != HN_OK) return status;
    backend->copy_in(backend, self->row, self->host_row, (size_t)count * sizeof *self->row);
    hn_tensor logits = hn_model_logits(runner->model, &runner->ctx, self->row, count);
    backend->copy_out(backend, runner->logits, logits.data, hn_tensor_bytes(&logits));
    status = finish(self, error);
    for (int32_t s = 0; status == HN_OK && s < count; s++) {
        const hn_prompt_item *item = &self->prompts->items[first + (size_t)s];
        const float *of = runner->logits + (int64_t)s * vocabulary;
        double total = hnp_log_sum(of, vocabulary);
        for (size_t k = 0; k < item->question->option_count; k++)
            self->score[(size_t)s * HN_MAX_OPTIONS + k] = of[*hn_prompt_option(item, k, &own)] - total;
    }
    return status;
}

/* Adds the tokens behind the first of option k, where an option has more. */
static hn_status read_option(hn_choices *self, size_t first, int32_t count, size_t k, hn_error *error)
{
    hn_runner *runner = self->runner;
    hn_backend *backend = &runner->backend;
    hn_batch *batch = clear_batch(self);
    batch->target = self->buffer.target;
    for (int32_t s = 0; s < count; s++) {
        const hn_prompt_item *item = &self->prompts->items[first + (size_t)s];
        int32_t own = 1;
        const int32_t *ids = k < item->question->option_count ? hn_prompt_option(item, k, &own) : item->ids;
        hn_kv_cache_cut(&self->cache, s, item->context);
        put_sequence(batch, ids, ids + 1, own - 1);
    }
    if (!batch->tokens) return HN_OK;
    hn_status status = forward(self, error);
    if (status != HN_OK) return status;
    hn_target_loss out = {.loss = runner->loss, .count = runner->count, .row_loss = self->row_loss};
    hn_model_loss(runner->model, &runner->ctx, &out, &runner->batch.batch, 0, NULL, false);
    backend->copy_out(backend, self->host_loss, self->row_loss, (size_t)batch->tokens * sizeof *self->host_loss);
    status = finish(self, error);
    for (int32_t s = 0; status == HN_OK && s < count; s++)
        for (int32_t t = batch->cu_seqlens[s]; t < batch->cu_seqlens[s + 1]; t++)
            self->score[(size_t)s * HN_MAX_OPTIONS + k] -= self->host_loss[t];
    return status;
}

/* Choosing */

static double length_of(const hn_choices *self, const hn_prompt_item *item, size_t k)
{
    int32_t count;
    double characters = 0;
    hn_prompt_option(item, k, &count);
    if (self->options.normalize == HN_CHOICE_SUM) return 1;
    if (self->options.normalize == HN_CHOICE_PER_TOKEN) return count;
    if (self->options.kind == HN_ANSWER_LETTERS) return 1;
    for (const char *c = item->question->options[k]; *c; c++) characters += ((unsigned char)*c & 0xC0) != 0x80;
    return characters > 0 ? characters : 1;
}

static hn_status tell(const hn_choices *self, const hn_prompt_item *item, double *score, hn_choice_callback callback, void *context,
                      hn_error *error)
{
    const hn_question *question = item->question;
    hn_choice choice = {.question = question, .score = score, .shots = item->shots};
    for (size_t k = 0; k < question->option_count; k++) {
        if (!isfinite(score[k]))
            return hn_fail(error, HN_ERR_NUMERIC, "%s:%lld: expected finite log-probabilities, got %g: the model's weights are broken "
                           "or overflow in train.precision", question->path, (long long)question->line, score[k]);
        score[k] /= length_of(self, item, k);
        if (score[k] > score[choice.chosen]) choice.chosen = (int32_t)k;
    }
    return callback(context, &choice, error);
}

/* How many prompts from `first` on run side by side. */
static int32_t batch_of(const hn_choices *self, const group *g, size_t first)
{
    int64_t tokens = 0, tails = 0;
    int32_t count = 0;
    for (size_t i = first; i < g->end && count < g->places; i++, count++) {
        const hn_prompt_item *item = &self->prompts->items[i];
        tokens += item->context - g->prefix;
        tails += tail_of(item);
        if (count && (tokens > self->bounds.tokens || tails > self->bounds.tokens)) break;
    }
    return count;
}

static hn_status run_batch(hn_choices *self, const group *g, size_t first, int32_t count, hn_error *error)
{
    hn_status status = read_contexts(self, g, first, count, error);
    for (size_t k = 0; status == HN_OK && k < HN_MAX_OPTIONS; k++) status = read_option(self, first, count, k, error);
    return status;
}

hn_status hn_choices_run(hn_choices *self, hn_choice_callback callback, void *context, const volatile int *stop, hn_error *error)
{
    hn_status status = HN_OK;
    group g = {0};
    int32_t count;
    hn_runner_use(self->runner, false, 0);
    for (size_t i = 0; status == HN_OK && i < self->prompts->count; i += (size_t)count) {
        if (i == g.end) {
            g = find_group(self, i);
            status = place_cache(self, &g, error);
            if (status == HN_OK) status = read_prefix(self, &g, error);
        }
        count = batch_of(self, &g, i);
        if (status == HN_OK && stop && *stop) status = hn_fail(error, HN_ERR_INTERRUPTED, "stopped during an evaluation");
        if (status == HN_OK) status = run_batch(self, &g, i, count, error);
        for (int32_t s = 0; status == HN_OK && s < count; s++)
            status = tell(self, &self->prompts->items[i + (size_t)s], self->score + (size_t)s * HN_MAX_OPTIONS, callback, context, error);
    }
    return status;
}
