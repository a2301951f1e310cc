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
    int32_t longest;    /* tokens of the longest sequence, or more */
    int32_t keys;       /* cu_keys[n]: tokens, shared ones counted in every sequence; hn_dataset_fill gives it always */
    int64_t targets;    /* at most so many of `target` are tokens; 0: not counted. hn_device_batch_upload gives it */
    int32_t *cu_seqlens; /* [n + 1] first token of each sequence; cu_seqlens[n] = T */
    int32_t *token;      /* [T] ids */
    int32_t *position;   /* [T] 0, 1, 2, ... within the sequence */
    int32_t *type;       /* [T] segment: 0 first text, 1 second */
    uint32_t *example;   /* [n] number of the example in its data set: keys the random numbers */
    int32_t *label;      /* [n] class, or HN_NO_TARGET */
    float *value;        /* [n] regression target */
    int32_t *target;     /* [T] token to predict there, or HN_NO_TARGET; NULL for tasks on whole sequences */
    /* Sequences of a decoder that begin with the same tokens may share their rows (data/prefixes.c). cu_seqlens then gives the
     * rows that are a sequence's own, its last ones, and position goes on from the shared ones; `longest` counts both.
     * NULL: every token has a row of its own. */
    int32_t *key_row;    /* [keys] row of every token of every sequence, sequence by sequence */
    int32_t *cu_keys;    /* [n + 1] where those of a sequence begin */
    int32_t *use, *cu_uses; /* [keys], [T + 1]: row r stands in key_row at use[cu_uses[r]] .. use[cu_uses[r + 1] - 1], rising */
} hn_batch;

#endif
