/* Shared inside data/: which tokens of an example are hidden (task mlm), and what stands in their place. */
#ifndef HONE_DATA_MASK_H
#define HONE_DATA_MASK_H

#include "data/dataset.h"

/* The special tokens that stand around a text. */
enum { HNP_FRAME = 8 };
typedef struct hnp_frame {
    int32_t before, behind;
    int32_t ids[HNP_FRAME]; /* those before, then those behind */
} hnp_frame;
hn_status hnp_frame_measure(hnp_frame *frame, const hn_tokenizer *tokenizer, hn_error *error);

typedef struct hnp_masking {
    int32_t token; /* what stands for a hidden one */
    int32_t vocabulary;
    double probability;
    hnp_frame frame;        /* never hidden */
    unsigned char *goes_on; /* [vocabulary] 1: it belongs to the word of the token before (owned); NULL: words are not kept whole */
} hnp_masking;

/* An error when the tokenizer has no [MASK] or <mask>. whole_words: those of the tokenizer's kind. */
hn_status hnp_masking_init(hnp_masking *masking, const hn_tokenizer *tokenizer, double probability, bool whole_words,
                           hn_error *error);
void hnp_masking_close(hnp_masking *masking);
/* An example's tokens as its column holds them. */
typedef struct hnp_ids {
    const void *items;
    int32_t count;
    bool wide; /* i32, else u16 */
} hnp_ids;
static inline int32_t hnp_id(const hnp_ids *ids, int32_t i)
{
    return ids->wide ? ((const int32_t *)ids->items)[i] : ((const uint16_t *)ids->items)[i];
}
/* Writes a mask token or another one to token[i] where one is hidden, and to target [count] the one that was there, else
 * HN_NO_TARGET; both NULL: only counts. Returns how many. */
int32_t hnp_mask(const hnp_masking *masking, int32_t *token, int32_t *target, const hnp_ids *ids, uint32_t example,
                 const hn_draw *draw);

#endif
