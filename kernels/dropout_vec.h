/* Dropout of a row, vector by vector: what operations that drop on the way share. */
#ifndef HONE_KERNELS_DROPOUT_VEC_H
#define HONE_KERNELS_DROPOUT_VEC_H

#include "kernels/ops.h"
#include "kernels/vecmath.h"

/* Elements whose words are drawn at once. */
enum { HNP_DRAW = 256 };

/* The drawing of one row, element by element in rising order. */
typedef struct hnp_drop_row {
    bool active;
    uint32_t threshold;
    float scale;
    hnp_stream stream;
    uint64_t first;           /* number of element 0 of the row */
    const uint32_t *word;     /* of element `drawn`; words of HNP_DRAW elements are there */
    uint32_t words[HNP_DRAW + 4 + 2 * HN_LANES];
} hnp_drop_row;

HN_BODY bool hnp_drops(const hn_dropout *dropout)
{
    return dropout && dropout->random && dropout->probability > 0;
}

/* `row` of a matrix of `columns`. */
HN_BODY void hnp_drop_start(hnp_drop_row *drop, const hn_dropout *dropout, int64_t row, int64_t columns)
{
    drop->active = hnp_drops(dropout);
    if (!drop->active) return;
    const hn_random *random = dropout->random;
    drop->threshold = hn_drop_threshold(dropout->probability);
    drop->scale = 1.0f / (1.0f - dropout->probability);
    drop->stream = (hnp_stream){random->seed, dropout->site, random->example[row], *random->step};
    drop->first = (uint64_t)random->position[row] * (uint64_t)columns;
}

/* dropout of the lanes at column c, a multiple of HN_LANES, of n left in the row; columns come in rising order from 0. */
HN_BODY vf hnp_drop_apply(hnp_drop_row *drop, vf v, int64_t c, int64_t left)
{
    if (!drop->active) return v;
    int64_t at = c % HNP_DRAW;
    if (at == 0) {
        hnp_philox_fill(drop->words, &drop->stream, drop->first + (uint64_t)c, left < HNP_DRAW ? left : HNP_DRAW);
        drop->word = drop->words + drop->first % 4;
    }
    vu words;
    memcpy(&words, drop->word + at, sizeof words);
    return vf_select((vi)(words >= (vu){0} + drop->threshold), v * drop->scale, vf_all(0.0f));
}

#endif
