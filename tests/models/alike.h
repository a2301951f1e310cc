/* Batches of sequences that begin alike, whole and sharing rows, for tests. */
#ifndef HONE_TESTS_MODELS_ALIKE_H
#define HONE_TESTS_MODELS_ALIKE_H

#include "tests/models/rig.h"

enum { ALIKE = 4 };

/* Sequences that begin alike, and the same ones sharing rows: 4, 7 and 7 + 1 tokens of earlier ones. */
static const int alike_lengths[ALIKE] = {9, 6, 11, 10}, alike_with[ALIKE] = {0, 0, 0, 2}, alike_count[ALIKE] = {0, 4, 7, 8};

typedef struct shared_rows {
    int32_t key_row[MAX_TOKENS], cu_keys[ALIKE + 1], use[MAX_TOKENS], cu_uses[MAX_TOKENS + 1], row[MAX_TOKENS];
} shared_rows;

static inline void make_alike(rig_batch *b)
{
    int32_t target[MAX_TOKENS];
    rig_batch_make(b, alike_lengths, ALIKE, 1);
    for (int s = 0; s < ALIKE; s++) {
        int32_t *token = b->token + b->cu_seqlens[s], first = b->cu_seqlens[s];
        memcpy(token, b->token + b->cu_seqlens[alike_with[s]], (size_t)alike_count[s] * sizeof *token);
        for (int i = 0; i < alike_lengths[s]; i++)
            target[first + i] = i < 4 || i < alike_count[s] || i + 1 == alike_lengths[s] ? HN_NO_TARGET : token[i + 1];
    }
    rig_batch_targets(b, target);
}

/* `whole` with the shared rows taken out; rows->row gives where each row stood. */
static inline void share_rows(rig_batch *b, shared_rows *rows, const rig_batch *whole)
{
    *b = *whole;
    *rows = (shared_rows){.cu_keys = {0}};
    int32_t at = 0, keys = 0, uses = 0;
    for (int s = 0; s < ALIKE; s++) {
        int32_t from = whole->cu_seqlens[s], shared = alike_count[s];
        memcpy(rows->key_row + keys, rows->key_row + rows->cu_keys[alike_with[s]], (size_t)shared * sizeof *rows->key_row);
        for (int i = shared; i < alike_lengths[s]; i++, at++) {
            rows->row[at] = from + i;
            rows->key_row[keys + i] = at;
            b->token[at] = whole->token[from + i];
            b->target[at] = whole->target[from + i];
            b->position[at] = i;
        }
        rows->cu_keys[s + 1] = keys += alike_lengths[s];
        b->cu_seqlens[s + 1] = at;
    }
    for (int32_t r = 0; r < at; r++) {
        for (int32_t k = 0; k < keys; k++)
            if (rows->key_row[k] == r) rows->use[uses++] = k;
        rows->cu_uses[r + 1] = uses;
    }
    hn_batch batch = whole->batch;
    b->batch = (hn_batch){.n = ALIKE, .tokens = at, .longest = batch.longest, .cu_seqlens = b->cu_seqlens, .token = b->token,
                          .position = b->position, .type = b->type, .example = b->example, .label = b->label, .value = b->value,
                          .target = b->target, .key_row = rows->key_row, .cu_keys = rows->cu_keys, .use = rows->use,
                          .cu_uses = rows->cu_uses, .keys = keys};
}

#endif
