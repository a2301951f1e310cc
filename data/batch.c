/* Batches on the host (dataset.h): one block of memory that holds all arrays of the largest batch, filled in
 * place.
 *
 *     cu_seqlens [n+1] | token [T] | position [T] | type [T] | example [n] | label [n] | value [n] | target [T]
 *     and when rows are shared: | key_row [K] | cu_keys [n+1] | use [K] | cu_uses [T+1]
 *
 * each padded to 64 bytes.
 */
#include <string.h>

#include "core/mem.h"
#include "data/prefixes.h"

#define ALIGN ((size_t)64)

static void *place(hn_batch_buffer *buffer, size_t count)
{
    void *at = buffer->memory ? (char *)buffer->memory + buffer->size : NULL;
    buffer->size += (count * 4 + ALIGN - 1) / ALIGN * ALIGN;
    return at;
}

/* Run twice: without memory it counts. */
static void lay_out(hn_batch_buffer *buffer)
{
    hn_batch *batch = &buffer->batch;
    size_t tokens = (size_t)buffer->tokens, examples = (size_t)buffer->examples, keys = (size_t)buffer->keys;
    buffer->size = 0;
    batch->cu_seqlens = place(buffer, examples + 1);
    batch->token = place(buffer, tokens);
    batch->position = place(buffer, tokens);
    batch->type = place(buffer, tokens);
    batch->example = place(buffer, examples);
    batch->label = place(buffer, examples);
    batch->value = place(buffer, examples);
    batch->target = NULL;
    buffer->target = place(buffer, tokens);
    if (!keys) return;
    buffer->key_row = place(buffer, keys);
    batch->cu_keys = place(buffer, examples + 1);
    batch->use = place(buffer, keys);
    batch->cu_uses = place(buffer, tokens + 1);
}

hn_status hn_batch_buffer_init_shared(hn_batch_buffer *buffer, int32_t tokens, int32_t examples, int32_t keys, hn_error *error)
{
    HN_ASSERT(tokens >= 0 && examples >= 0 && keys >= 0);
    *buffer = (hn_batch_buffer){.tokens = tokens, .examples = examples, .keys = keys};
    lay_out(buffer);
    buffer->memory = hn_calloc(buffer->size / ALIGN, ALIGN);
    if (!buffer->memory)
        return hn_fail(error, HN_ERR_MEMORY, "batch of %d tokens: out of memory (%zu bytes)", (int)tokens,
                       buffer->size);
    lay_out(buffer);
    return HN_OK;
}

hn_status hn_batch_buffer_init(hn_batch_buffer *buffer, int32_t tokens, int32_t examples, hn_error *error)
{
    return hn_batch_buffer_init_shared(buffer, tokens, examples, 0, error);
}

void hn_batch_buffer_close(hn_batch_buffer *buffer)
{
    hn_free(buffer->memory);
    *buffer = (hn_batch_buffer){0};
}

static void fill_tokens(const hn_dataset *dataset, int32_t *to, int64_t from, int32_t length)
{
    if (dataset->wide) {
        memcpy(to, (const int32_t *)dataset->tokens + from, (size_t)length * 4);
    } else {
        const uint16_t *token = (const uint16_t *)dataset->tokens + from;
        for (int32_t i = 0; i < length; i++) to[i] = token[i];
    }
}


/* A token that is trained on is predicted by the one before it; no example's first is. marks NULL: all are trained on. */
static void fill_targets(int32_t *target, const int32_t *token, const uint16_t *marks, int32_t length)
{
    for (int32_t i = 0; i + 1 < length; i++) target[i] = !marks || marks[i + 1] ? token[i + 1] : HN_NO_TARGET;
    target[length - 1] = HN_NO_TARGET;
}

static void fill_tags(int32_t *target, const uint16_t *marks, int32_t length)
{
    for (int32_t i = 0; i < length; i++) target[i] = marks[i] ? marks[i] - 1 : HN_NO_TARGET;
}

/* The marks of an example; NULL: all its tokens are trained on. */
static const uint16_t *marks_of(const hn_dataset *dataset, uint32_t example)
{
    return dataset->task == HN_DATA_INSTRUCT || dataset->task == HN_DATA_TAGS ? dataset->marks + dataset->offsets[example] : NULL;
}

/* `first`: the first token that can be one. */
static int32_t count_targets(const uint16_t *marks, int32_t first, int32_t length)
{
    int32_t count = 0;
    if (!marks) return length - 1;
    for (int32_t i = first; i < length; i++) count += marks[i] != 0;
    return count;
}

static int32_t mask(const hn_dataset *dataset, int32_t *token, int32_t *target, uint32_t example, const hn_draw *draw)
{
    static const hn_draw still = {0};
    const char *items = dataset->tokens;
    hnp_ids ids = {items + (size_t)dataset->offsets[example] * (dataset->wide ? 4 : 2), hn_dataset_length(dataset, example),
                   dataset->wide};
    return hnp_mask(&dataset->masking, token, target, &ids, example, draw ? draw : &still);
}

int64_t hn_dataset_targets(const hn_dataset *dataset, const uint32_t *examples, int32_t count,
                           const hn_draw *draw)
{
    int64_t targets = count;
    if (dataset->task == HN_DATA_SEQUENCE) return targets;
    targets = 0;
    for (int32_t n = 0; n < count; n++)
        targets += dataset->task == HN_DATA_MASKED
                       ? mask(dataset, NULL, NULL, examples[n], draw)
                       : count_targets(marks_of(dataset, examples[n]), dataset->task != HN_DATA_TAGS,
                                       hn_dataset_length(dataset, examples[n]));
    return targets;
}

/* The tokens of an example from number `first` on, as sequence n of the batch. */
static void fill_example(const hn_dataset *dataset, hn_batch *batch, int32_t n, uint32_t example, int32_t first, const hn_draw *draw)
{
    int32_t at = batch->cu_seqlens[n], count = hn_dataset_length(dataset, example) - first;
    int32_t *token = batch->token + at, *target = batch->target ? batch->target + at : NULL;
    const uint16_t *marks = marks_of(dataset, example);
    fill_tokens(dataset, token, dataset->offsets[example] + first, count);
    for (int32_t i = 0; i < count; i++) {
        batch->position[at + i] = first + i;
        batch->type[at + i] = first + i >= dataset->segment[example];
    }
    if (dataset->task == HN_DATA_MASKED) mask(dataset, token, target, example, draw);
    else if (dataset->task == HN_DATA_TAGS) fill_tags(target, marks, count);
    else if (target) fill_targets(target, token, marks ? marks + first : NULL, count);
    batch->example[n] = example;
    batch->label[n] = dataset->label[example];
    batch->value[n] = dataset->value[example];
    batch->cu_seqlens[n + 1] = at + count;
}

hn_status hn_dataset_fill(const hn_dataset *dataset, hn_batch_buffer *buffer, const uint32_t *examples,
                          int32_t count, hn_error *error)
{
    hn_batch *batch = &buffer->batch;
    if (count > buffer->examples)
        return hn_fail(error, HN_ERR_MISMATCH, "batch: expected at most %d examples, got %d",
                       (int)buffer->examples, (int)count);
    batch->target = dataset->task == HN_DATA_SEQUENCE ? NULL : buffer->target;
    batch->key_row = buffer->key_row;
    batch->n = batch->tokens = batch->longest = batch->keys = batch->cu_seqlens[0] = 0;
    if (buffer->keys) batch->cu_keys[0] = 0;
    for (int32_t n = 0; n < count; n++) {
        int32_t length = hn_dataset_length(dataset, examples[n]), with = n;
        int32_t shared = buffer->keys ? hnp_shared_prefix(dataset, examples, n, &with) : 0;
        int32_t most = buffer->keys ? buffer->keys : buffer->tokens;
        if (length > most - batch->keys)
            return hn_fail(error, HN_ERR_MISMATCH, "batch: expected at most %d tokens, got more", (int)most);
        if (length - shared > buffer->tokens - batch->tokens)
            return hn_fail(error, HN_ERR_MISMATCH, "batch: expected at most %d rows of tokens, got more", (int)buffer->tokens);
        fill_example(dataset, batch, n, examples[n], shared, &buffer->draw);
        if (buffer->keys) hnp_key_rows(batch, n, shared, with, length - shared);
        batch->n = n + 1;
        batch->tokens += length - shared;
        batch->keys += length;
        if (length > batch->longest) batch->longest = length;
    }
    if (batch->keys == batch->tokens) batch->key_row = NULL; /* nothing is shared */
    else hnp_key_uses(batch);
    return HN_OK;
}
