/* A batch of whole sequences, end to end, without padding (T tokens of n sequences). Made by data/, read by models/ and the
 * attention and pooling operations. */
#ifndef HONE_CORE_BATCH_H
#define HONE_CORE_BATCH_H

#include <stdint.h>

#define HN_NO_TARGET (-100) /* a token or example that is not trained on */

/* All arrays stand in the backend's memory that the batch was placed in; whoever placed it owns them. */
typedef struct hn_batch {
    int32_t n;          /* sequences */
    int32_t tokens;     /* T */
    int32_t longest;    /* tokens of the longest sequence */
    int32_t *cu_seqlens; /* [n + 1] first token of each sequence; cu_seqlens[n] = T */
    int32_t *token;      /* [T] ids */
    int32_t *position;   /* [T] 0, 1, 2, ... within the sequence */
    int32_t *type;       /* [T] segment: 0 first text, 1 second */
    uint32_t *example;   /* [n] number of the example in its data set: keys the random numbers */
    int32_t *label;      /* [n] class, or HN_NO_TARGET */
    float *value;        /* [n] regression target */
    int32_t *target;     /* [T] token to predict there, or HN_NO_TARGET; NULL for tasks on whole sequences */
} hn_batch;

#endif
