/* Batches on the host (dataset.h): one block of memory that holds all arrays of the largest batch, filled in
 * place.
 *
 *     cu_seqlens [n+1] | token [T] | position [T] | type [T] | example [n] | label [n] | value [n] | target [T]
 *
 * each padded to 64 bytes.
 */
#include <string.h>

#include "core/mem.h"
#include "data/datasets.h"

#define ALIGN ((size_t)64)

static void *place(hn_batch_buffer *buffer, size_t count)
{
    void *at = buffer->memory ? (char *)buffer->memory + buffer->size : NULL;
    buffer->size += (count * 4 + ALIGN - 1) / ALIGN * ALIGN;
    return at;
}

/* Run twice: without memory it counts. */
static void lay_out(hn_batch_buffer *buffer, size_t tokens, size_t examples)
{
    hn_batch *batch = &buffer->batch;
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
}

hn_status hn_batch_buffer_init(hn_batch_buffer *buffer, int32_t tokens, int32_t examples, hn_error *error)
{
    HN_ASSERT(tokens >= 0 && examples >= 0);
    *buffer = (hn_batch_buffer){.tokens = tokens, .examples = examples};
    lay_out(buffer, (size_t)tokens, (size_t)examples);
    buffer->memory = hn_calloc(buffer->size / ALIGN, ALIGN);
    if (!buffer->memory)
        return hn_fail(error, HN_ERR_MEMORY, "batch of %d tokens: out of memory (%zu bytes)", (int)tokens,
                       buffer->size);
    lay_out(buffer, (size_t)tokens, (size_t)examples);
    return HN_OK;
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

hn_status hn_dataset_fill(const hn_dataset *dataset, hn_batch_buffer *buffer, const uint32_t *examples,
                          int32_t count, hn_error *error)
{
    hn_batch *batch = &buffer->batch;
    if (count > buffer->examples)
        return hn_fail(error, HN_ERR_MISMATCH, "batch: expected at most %d examples, got %d",
                       (int)buffer->examples, (int)count);
    int32_t at = 0, longest = 0;
    batch->target = dataset->task == HN_DATA_SEQUENCE ? NULL : buffer->target;
    for (int32_t n = 0; n < count; n++) {
        int32_t length = hn_dataset_length(dataset, examples[n]), segment = dataset->segment[examples[n]];
        if (length > buffer->tokens - at)
            return hn_fail(error, HN_ERR_MISMATCH, "batch: expected at most %d tokens, got more",
                           (int)buffer->tokens);
        fill_tokens(dataset, batch->token + at, dataset->offsets[examples[n]], length);
        for (int32_t i = 0; i < length; i++) {
            batch->position[at + i] = i;
            batch->type[at + i] = i >= segment;
        }
        if (dataset->task == HN_DATA_MASKED)
            mask(dataset, batch->token + at, batch->target + at, examples[n], &buffer->draw);
        else if (dataset->task == HN_DATA_TAGS)
            fill_tags(batch->target + at, dataset->marks + dataset->offsets[examples[n]], length);
        else if (batch->target)
            fill_targets(batch->target + at, batch->token + at, marks_of(dataset, examples[n]), length);
        batch->cu_seqlens[n] = at;
        batch->example[n] = examples[n];
        batch->label[n] = dataset->label[examples[n]];
        batch->value[n] = dataset->value[examples[n]];
        at += length;
        if (length > longest) longest = length;
    }
    batch->cu_seqlens[count] = at;
    batch->n = count;
    batch->tokens = at;
    batch->longest = longest;
    return HN_OK;
}
