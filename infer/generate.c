/* See generate.h.
 *
 *     place 0: prompt 0 ......|a a a a a.           prompt 3 ....|a a a
 *     place 1: prompt 1 ...|a a a a a a a a a a a .
 *     place 2: prompt 2 .........|a a a .           (nothing left to begin)
 *                           ^ one forward: a token of each place that runs
 *
 * A forward runs over the batch in which sequence s is place s; a place that has nothing to do has no tokens there. A prompt is
 * read by a forward of its own (several where it is long), and only its last token's logits are made; from then on its place takes
 * part in the common forwards. The last token of an answer is never computed: its place holds prompt and answer but for it. */
#include "infer/generate.h"

#include <string.h>

#include "core/clock.h"
#include "core/mem.h"
#include "data/dataset.h"
#include "infer/text_stream.h"
#include "models/kv_cache.h"

typedef struct place {
    bool runs;
    size_t prompt;
    int32_t *ids; /* [capacity + 1] prompt and answer */
    int32_t count, prompt_count;
    hn_text_stream stream;
} place;

/* One token to choose. */
enum { ASK_ROW /* of the batch */, ASK_EXAMPLE, ASK_POSITION, ASK_PLACE, ASKS };

struct hn_generator {
    hn_runner *runner;
    const hn_tokenizer *tokenizer;
    hn_generator_options options;
    hn_kv_cache cache;
    hn_arena arena;
    /* backend memory, and beside each its host's copy: */
    int32_t *ask, *host_ask;       /* [ASKS, sequences] */
    int32_t *chosen, *host_chosen; /* [sequences] */
    uint32_t *seen, *host_seen;    /* [sequences, words] tokens of each place, for the penalty; of one on the host */
    hn_batch_buffer buffer;
    place *places;
};

const char *hn_finish_name(hn_finish finish)
{
    static const char *const names[] = {"stop", "length", "context", "interrupt"};
    return names[finish];
}

hn_bounds hn_generator_bounds(const hn_generator_options *options)
{
    int32_t tokens = options->tokens > options->sequences ? options->tokens : options->sequences;
    return (hn_bounds){.tokens = tokens, .examples = options->sequences, .longest = options->capacity};
}

static int32_t vocabulary_of(const hn_generator *self)
{
    return hn_model_get_config(self->runner->model)->vocabulary;
}

/* Bytes of a place's tokens. */
static size_t seen_bytes(const hn_generator *self)
{
    return (size_t)hn_seen_words(vocabulary_of(self)) * sizeof *self->seen;
}

static void lay_out(hn_generator *self)
{
    size_t sequences = (size_t)self->options.sequences;
    hn_kv_cache_place(&self->cache, self->runner->model, &self->arena);
    self->ask = hn_arena_take(&self->arena, ASKS * sequences * sizeof *self->ask);
    self->chosen = hn_arena_take(&self->arena, sequences * sizeof *self->chosen);
    self->seen = hn_arena_take(&self->arena, sequences * seen_bytes(self));
}

hn_status hn_generator_open(hn_generator **out, hn_runner *runner, const hn_tokenizer *tokenizer,
                            const hn_generator_options *options, hn_error *error)
{
    hn_bounds bounds = hn_generator_bounds(options), has = runner->options.evaluation;
    HN_ASSERT(options->sequences > 0 && options->sequences <= HN_GENERATOR_SEQUENCES && options->capacity > 0 &&
              options->tokens > 0);
    HN_ASSERT(has.tokens >= bounds.tokens && has.examples >= bounds.examples && has.longest >= bounds.longest);
    HN_ASSERT(hn_model_get_config(runner->model)->head == HN_HEAD_LM);
    hn_generator *self = hn_calloc(1, sizeof *self);
    if (!self) return hn_fail(error, HN_ERR_MEMORY, "out of memory to generate text");
    self->runner = runner;
    self->tokenizer = tokenizer;
    self->options = *options;
    hn_arena_init(&self->arena, "cache", &runner->backend);
    hn_status status = hn_kv_cache_init(&self->cache, options->sequences, options->capacity, bounds.tokens, error);
    if (status == HN_OK) lay_out(self);
    if (status == HN_OK) *out = self;
    else hn_generator_free(self);
    return status;
}

size_t hn_generator_bytes(const hn_generator *generator)
{
    size_t sequences = (size_t)generator->options.sequences,
           each = ((size_t)generator->options.capacity + 1 + ASKS + 1) * sizeof(int32_t);
    return generator->arena.overflow ? SIZE_MAX : generator->arena.used + sequences * each + seen_bytes(generator);
}

static hn_status alloc_places(hn_generator *self, hn_error *error)
{
    size_t sequences = (size_t)self->options.sequences, ids = (size_t)self->options.capacity + 1;
    self->places = hn_calloc(sequences, sizeof *self->places);
    self->host_ask = hn_calloc(ASKS * sequences, sizeof *self->host_ask);
    self->host_chosen = hn_calloc(sequences, sizeof *self->host_chosen);
    self->host_seen = hn_calloc(1, seen_bytes(self));
    bool done = self->places && self->host_ask && self->host_chosen && self->host_seen;
    for (size_t s = 0; done && s < sequences; s++) {
        hn_text_stream_init(&self->places[s].stream, self->tokenizer, NULL, 0);
        done = (self->places[s].ids = hn_calloc(ids, sizeof(int32_t))) != NULL;
    }
    return done ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "out of memory for %zu places of %zu tokens", sequences, ids);
}

hn_status hn_generator_alloc(hn_generator *self, hn_error *error)
{
    hn_status status = hn_arena_alloc(&self->arena, error);
    if (status != HN_OK) return status;
    lay_out(self);
    status = alloc_places(self, error);
    if (status == HN_OK)
        status = hn_batch_buffer_init(&self->buffer, hn_generator_bounds(&self->options).tokens, self->options.sequences, error);
    return status;
}

void hn_generator_free(hn_generator *self)
{
    if (!self) return;
    for (int32_t s = 0; self->places && s < self->options.sequences; s++) {
        hn_text_stream_close(&self->places[s].stream);
        hn_free(self->places[s].ids);
    }
    hn_free(self->places);
    hn_free(self->host_ask);
    hn_free(self->host_chosen);
    hn_free(self->host_seen);
    hn_batch_buffer_close(&self->buffer);
    hn_kv_cache_close(&self->cache);
    hn_arena_close(&self->arena);
    hn_free(self);
}

/* One call of hn_generate. */
typedef struct job {
    hn_generator *self;
    hn_generate_stats *stats;
    const hn_prompt *prompts;
    size_t count, next; /* prompts; the first that has not begun */
    const hn_generate_options *options;
    const hn_listener *listener;
} job;

/* Appends tokens of a place to the batch; sequences come in order. */
static void put_tokens(hn_batch *batch, int32_t sequence, const int32_t *ids, int32_t count)
{
    while (batch->n < sequence) batch->cu_seqlens[++batch->n] = batch->tokens;
    memcpy(batch->token + batch->tokens, ids, (size_t)count * sizeof *ids);
    batch->tokens += count;
    batch->cu_seqlens[++batch->n] = batch->tokens;
    if (count > batch->longest) batch->longest = count;
}

static hn_batch *clear_batch(hn_generator *self)
{
    hn_batch *batch = &self->buffer.batch;
    batch->n = batch->tokens = batch->longest = 0;
    batch->cu_seqlens[0] = 0;
    return batch;
}

/* Asks for the next token of place `s` from a row of the batch, as number `ask` of the forward. */
static void ask_for(const job *work, int32_t ask, int32_t s, int32_t row)
{
    hn_generator *self = work->self;
    const place *at = &self->places[s];
    const int32_t of[ASKS] = {[ASK_ROW] = row,
                              [ASK_EXAMPLE] = (int32_t)work->prompts[at->prompt].number,
                              [ASK_POSITION] = at->count,
                              [ASK_PLACE] = s};
    for (int32_t i = 0; i < ASKS; i++) self->host_ask[i * self->options.sequences + ask] = of[i];
}

/* Lays down which tokens a place has, before a forward. */
static void put_seen(hn_generator *self, int32_t s)
{
    const place *at = &self->places[s];
    size_t size = seen_bytes(self);
    memset(self->host_seen, 0, size);
    for (int32_t t = 0; t < at->count; t++)
        if (at->ids[t] >= 0 && at->ids[t] < vocabulary_of(self)) self->host_seen[at->ids[t] / 32] |= 1u << at->ids[t] % 32;
    self->runner->backend.copy_in(&self->runner->backend, (char *)self->seen + (size_t)s * size, self->host_seen, size);
}

/* Enqueues the choice of the tokens that were asked for. */
static void choose_tokens(hn_generator *self, int32_t asked, const hn_sampling *sampling)
{
    hn_runner *runner = self->runner;
    const int32_t *ask = self->ask, sequences = self->options.sequences;
    const hn_next_tokens next = {.example = (const uint32_t *)ask + ASK_EXAMPLE * sequences,
                                 .position = (const uint32_t *)ask + ASK_POSITION * sequences,
                                 .place = ask + ASK_PLACE * sequences,
                                 .seen = sampling->repetition_penalty == 1 ? NULL : self->seen};
    hn_tensor logits = hn_model_logits(runner->model, &runner->ctx, ask + ASK_ROW * sequences, asked);
    runner->ops->choose_tokens(&runner->ctx, self->chosen, &logits, &next, sampling);
}

/* Runs the batch; then the tokens that were asked for are in host_chosen. */
static hn_status forward(const job *work, int32_t asked, hn_error *error)
{
    hn_generator *self = work->self;
    hn_runner *runner = self->runner;
    hn_backend *backend = &runner->backend;
    hn_batch *batch = &self->buffer.batch;
    hn_forward how = {.cache = &self->cache};
    hn_status status = hn_kv_cache_next(&self->cache, backend, batch, error);
    if (status != HN_OK) return status;
    status = hn_device_batch_upload(&runner->batch, batch, error);
    if (status != HN_OK) return status;
    if (asked) backend->copy_in(backend, self->ask, self->host_ask, ASKS * (size_t)self->options.sequences * sizeof *self->ask);
    runner->ctx.few_rows = true;
    hn_model_forward(runner->model, &runner->ctx, &runner->batch.batch, &how);
    if (asked) choose_tokens(self, asked, &work->options->sampling);
    runner->ctx.few_rows = false;
    if (runner->step_error.status != HN_OK)
        return hn_fail(error, runner->step_error.status, "%s", runner->step_error.message);
    if (asked) backend->copy_out(backend, self->host_chosen, self->chosen, (size_t)asked * sizeof *self->chosen);
    return backend->synchronize(backend, error);
}

static hn_status give_text(const job *work, place *at, hn_error *error)
{
    size_t length;
    const char *text = hn_text_stream_take(&at->stream, &length);
    if (!length || !work->listener->text) return HN_OK;
    return work->listener->text(work->listener->context, at->prompt, text, length, error);
}

static hn_status finish(const job *work, place *at, hn_finish why, hn_error *error)
{
    at->runs = false;
    hn_text_stream_end(&at->stream);
    hn_status status = give_text(work, at, error);
    hn_answer answer = {.ids = at->ids + at->prompt_count, .count = at->count - at->prompt_count, .finish = why};
    if (at->stream.stopped) answer.finish = HN_FINISH_STOP;
    answer.text = hn_text_stream_answer(&at->stream, &answer.length);
    if (status == HN_OK && work->listener->end)
        status = work->listener->end(work->listener->context, at->prompt, &answer, error);
    return status;
}

static bool is_stop(const hn_generate_options *options, int32_t id)
{
    for (size_t i = 0; i < options->stop_id_count; i++)
        if (options->stop_ids[i] == id) return true;
    return false;
}

/* Takes the token that was chosen for a place, and ends the answer where it ends. */
static hn_status take_token(const job *work, place *at, int32_t id, hn_error *error)
{
    const hn_generate_options *options = work->options;
    hn_status status;
    if (id == HN_NO_TOKEN)
        return hn_fail(error, HN_ERR_NUMERIC,
                       "logits of the next token: expected finite numbers: the model's weights are broken or overflow in "
                       "train.precision");
    work->stats->new_tokens++;
    if (is_stop(options, id)) return finish(work, at, HN_FINISH_STOP, error);
    if (!hn_tokenizer_token(work->self->tokenizer, id)) /* a row of the table that no token has */
        return hn_fail(error, HN_ERR_FORMAT, "the model chose id %d, which its tokenizer has no token for", id);
    at->ids[at->count++] = id;
    status = hn_text_stream_add(&at->stream, id, error);
    if (status != HN_OK) return status;
    if (at->stream.stopped) return finish(work, at, HN_FINISH_STOP, error);
    if (at->count - at->prompt_count >= options->max_tokens) return finish(work, at, HN_FINISH_LENGTH, error);
    if (at->count > work->self->options.capacity) return finish(work, at, HN_FINISH_CONTEXT, error);
    if (options->interrupt && *options->interrupt) return finish(work, at, HN_FINISH_INTERRUPT, error);
    return give_text(work, at, error);
}

/* How many tokens of the prompt the place's cache has already; the last is always computed. */
static int32_t common(const place *at, int32_t cached, const hn_prompt *prompt)
{
    int32_t same = 0;
    while (same < cached && same < prompt->count - 1 && at->ids[same] == prompt->ids[same]) same++;
    return same;
}

/* Reads the next prompt into a place and chooses its first token. */
static hn_status begin(job *work, int32_t s, hn_error *error)
{
    hn_generator *self = work->self;
    const hn_generate_options *options = work->options;
    place *at = &self->places[s];
    size_t number = work->next++;
    const hn_prompt *prompt = &work->prompts[number];
    double started = hn_clock();
    int32_t done = options->resume && number == 0 ? common(at, self->cache.length[s], prompt) : 0;
    hn_kv_cache_cut(&self->cache, s, done);
    memcpy(at->ids, prompt->ids, (size_t)prompt->count * sizeof *at->ids);
    *at = (place){.runs = true, .prompt = number, .ids = at->ids, .count = prompt->count, .prompt_count = prompt->count,
                  .stream = at->stream};
    at->stream.stops = options->stops;
    at->stream.stop_count = options->stop_count;
    hn_status status = hn_text_stream_begin(&at->stream, prompt->ids, prompt->fresh ? 0 : (size_t)prompt->count, error);
    work->stats->prompt_tokens += prompt->count - done;
    while (status == HN_OK && done < prompt->count) {
        int32_t some = prompt->count - done < self->options.tokens ? prompt->count - done : self->options.tokens;
        if (options->interrupt && *options->interrupt) return finish(work, at, HN_FINISH_INTERRUPT, error);
        put_tokens(clear_batch(self), s, at->ids + done, some);
        done += some;
        bool last = done == prompt->count;
        if (last) ask_for(work, 0, s, some - 1);
        if (last && options->sampling.repetition_penalty != 1) put_seen(self, s);
        status = forward(work, last, error);
    }
    work->stats->prompt_seconds += hn_clock() - started;
    return status == HN_OK ? take_token(work, at, self->host_chosen[0], error) : status;
}

/* One more token of every place that runs. */
static hn_status advance(const job *work, hn_error *error)
{
    hn_generator *self = work->self;
    int32_t running = 0;
    double started = hn_clock();
    hn_batch *batch = clear_batch(self);
    for (int32_t s = 0; s < self->options.sequences; s++) {
        place *at = &self->places[s];
        if (!at->runs) continue;
        ask_for(work, running++, s, batch->tokens);
        put_tokens(batch, s, at->ids + at->count - 1, 1);
    }
    hn_status status = forward(work, running, error);
    work->stats->later_tokens += running;
    for (int32_t s = 0, asked = 0; s < self->options.sequences && status == HN_OK; s++)
        if (self->places[s].runs) status = take_token(work, &self->places[s], self->host_chosen[asked++], error);
    work->stats->new_seconds += hn_clock() - started;
    return status;
}

static hn_status check_prompts(const job *work, hn_error *error)
{
    int32_t capacity = work->self->options.capacity;
    for (size_t i = 0; i < work->count; i++) {
        int32_t tokens = work->prompts[i].count;
        if (tokens < 1 || tokens > capacity)
            return hn_fail(error, HN_ERR_MISMATCH, "prompt %zu: expected 1 to %d tokens, as many as the context holds, got %d",
                           i + 1, capacity, tokens);
    }
    return HN_OK;
}

static bool any_runs(const hn_generator *self)
{
    bool any = false;
    for (int32_t s = 0; s < self->options.sequences; s++) any |= self->places[s].runs;
    return any;
}

hn_status hn_generate(hn_generator *self, hn_generate_stats *stats, const hn_prompt *prompts, size_t count,
                      const hn_generate_options *options, const hn_listener *listener, hn_error *error)
{
    job work = {.self = self, .stats = stats, .prompts = prompts, .count = count, .options = options, .listener = listener};
    HN_ASSERT(options->max_tokens > 0);
    hn_status status = check_prompts(&work, error);
    if (status != HN_OK) return status;
    hn_runner_use(self->runner, false, 0);
    for (int32_t s = 0; s < self->options.sequences; s++) self->places[s].runs = false;
    do {
        for (int32_t s = 0; s < self->options.sequences && status == HN_OK; s++)
            while (status == HN_OK && !self->places[s].runs && work.next < count) status = begin(&work, s, error);
        if (status == HN_OK && any_runs(self)) status = advance(&work, error);
    } while (status == HN_OK && (any_runs(self) || work.next < count));
    return status;
}
