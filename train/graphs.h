/* Slices of a step as graphs of the backend (core/backend.h), so that hundreds of launches go to a GPU in one call; and batches whose sizes
 * come back often enough for that. */
#ifndef HONE_TRAIN_GRAPHS_H
#define HONE_TRAIN_GRAPHS_H

#include "core/backend.h"
#include "data/dataset.h"
#include "models/model.h"

enum { HNP_GRAPHS = 64 };

/* All that the launches of a slice depend on on the host, beside what hnp_graphs_reset is told of: two slices of one key differ in nothing but
 * what stands in the backend's memory. Compared byte by byte. */
typedef struct hnp_graph_key {
    hn_batch batch;     /* as uploaded: its sizes, and the places of its arrays */
    const void *trunk;  /* where the frozen trunk's output is read or kept; NULL: it is run, and not kept */
    int64_t trunk_read; /* nonzero: it is read */
} hnp_graph_key;

typedef struct hnp_graphs {
    hn_backend *backend;
    void (*notice)(const char *text);
    bool on;
    int count, hand; /* hand: where the next place is looked for when all are taken */
    struct {
        hnp_graph_key key;
        void *graph; /* NULL: seen once */
    } entry[HNP_GRAPHS];
} hnp_graphs;

/* `wanted`: train.graphs. notice tells a person in one line why there are none after all. All zero is a closed one, which never has any. */
void hnp_graphs_init(hnp_graphs *graphs, hn_backend *backend, bool wanted, void (*notice)(const char *text));
void hnp_graphs_close(hnp_graphs *graphs);
/* Which groups train, or where anything lies, has changed: graphs made before are of no use. */
void hnp_graphs_reset(hnp_graphs *graphs);
/* Enqueues what enqueue(context) does, by calling it or by the graph of an earlier call with this key. `recorded` is what its operations
 * record failures in. Returns nothing: who waits learns what failed. */
void hnp_graphs_run(hnp_graphs *graphs, const hnp_graph_key *key, void (*enqueue)(void *context), void *context, hn_error *recorded);

/* Whether batches of this model are rounded on this backend: heads on whole sequences, whose graphs would else hardly ever be launched twice. */
bool hnp_batch_rounds(const hn_backend *backend, const hn_model_config *model);
/* What batches within `bounds` need when they are rounded. */
hn_bounds hnp_batch_round_bounds(hn_bounds bounds, const hn_model_config *model);
/* Rounds a filled batch: one more sequence, which has no label. */
void hnp_batch_round(hn_batch *batch, const hn_model_config *model);

#endif
