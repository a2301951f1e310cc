/* See graphs.h. A step of 32 sentence pairs in BERT-base is some 1.5 ms of arithmetic on a fast GPU, in about 500 launches of a few microseconds
 * each: by that estimate the host, not the GPU, sets the pace. A graph is one launch for all of them.
 *
 * A graph repeats its launches with the very same arguments, so a slice may only be launched by the graph of another when nothing differs
 * that the host passes by value: sizes and addresses. These are the key. All that changes from step to step beside them is read by kernels
 * through pointers: the batch's arrays (whose copy from alternating pinned slots stays outside), the step's number, the scale of the loss.
 *
 *     first time    enqueued plainly: cuBLASLt's plans are made, kernels are loaded
 *     second time   captured, then launched
 *     from then on  launched
 *
 * The optimizer's half of a step, eight launches, is enqueued plainly.
 *
 * Sizes of text hardly repeat by themselves: 32 pairs have one of a thousand token counts. Where the head reads whole sequences a batch is
 * therefore rounded by one more sequence at its end, of 1 to TOKENS tokens: token 0, and no label, so that it has no part in loss, count or
 * mean and all its gradients are zeros. Sums over tokens only gain zeros, but may add in another order. Rounding follows from backend and
 * model alone: with train.graphs=false, under train.profile and after a graph that failed the bits are the same.
 *
 *     tokens   to a multiple of TOKENS, at least one more      1,250 -> 1,280, 1,280 -> 1,344
 *     longest  to a multiple of LONGEST, at least TOKENS       what attention's grids and tiles are made for; no more tokens
 *
 * Counted over an epoch of 45,000 NLI pairs (LingNLI, tokens estimated from words), 32 a step, sorted by length in windows as data.window
 * has it: 44 keys, 97 % of 1,405 steps by a graph, 2.8 % more tokens. Multiples of 32 give 92 % and 1.6 %, of 128 98 % and 5 %.
 *
 * Heads on tokens are not rounded. Plain text in blocks of one length repeats its sizes as it is; answers and tags do not, and are
 * enqueued plainly. Nor are batches that a cached trunk is read for, which has rows of real tokens alone: there the head is
 * nearly all that is left to launch.
 *
 * HNP_GRAPHS keys are kept, those without a graph making room in turn; a graph stays. Their memory on the GPU is the driver's and
 * in no plan. */
#include "train/graphs.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TOKENS = 64, LONGEST = 32 };

/* Keys are compared byte by byte. */
_Static_assert(sizeof(hn_batch) == 4 * sizeof(int32_t) + sizeof(int64_t) + 12 * sizeof(void *), "hn_batch has gaps, or a member that is not known here");
_Static_assert(sizeof(hnp_graph_key) == sizeof(hn_batch) + sizeof(void *) + sizeof(int64_t), "hnp_graph_key has gaps");

void hnp_graphs_init(hnp_graphs *graphs, hn_backend *backend, bool wanted, void (*notice)(const char *text))
{
    *graphs = (hnp_graphs){.backend = backend, .notice = notice, .on = wanted && backend->graphs};
}

void hnp_graphs_reset(hnp_graphs *graphs)
{
    for (int i = 0; i < graphs->count; i++)
        if (graphs->entry[i].graph) graphs->backend->graph_free(graphs->backend, graphs->entry[i].graph);
    graphs->count = graphs->hand = 0;
}

void hnp_graphs_close(hnp_graphs *graphs)
{
    hnp_graphs_reset(graphs);
    *graphs = (hnp_graphs){0};
}

/* The place of the key, a new one with *seen false; -1: every place has a graph of another key. */
static int place_of(hnp_graphs *graphs, const hnp_graph_key *key, bool *seen)
{
    for (int i = 0; i < graphs->count; i++) {
        *seen = !memcmp(&graphs->entry[i].key, key, sizeof *key);
        if (*seen) return i;
    }
    int place = graphs->count < HNP_GRAPHS ? graphs->count++ : -1;
    for (int tried = 0; place < 0 && tried < HNP_GRAPHS; tried++) {
        if (!graphs->entry[graphs->hand].graph) place = graphs->hand;
        graphs->hand = (graphs->hand + 1) % HNP_GRAPHS;
    }
    *seen = false;
    if (place >= 0) graphs->entry[place].key = *key, graphs->entry[place].graph = NULL;
    return place;
}

/* What enqueue enqueues, as a graph; NULL with the failure in `error`, and then nothing was enqueued and no failure is recorded. */
static void *capture(hn_backend *backend, void (*enqueue)(void *context), void *context, hn_error *recorded, hn_error *error)
{
    if (backend->graph_begin(backend, error) != HN_OK) return NULL;
    enqueue(context);
    void *graph = backend->graph_end(backend, error);
    if (recorded->status == HN_OK) return graph;
    backend->graph_free(backend, graph);
    hn_error_reset(error); /* the operation says more */
    hn_fail(error, recorded->status, "%s", recorded->message);
    hn_error_reset(recorded);
    return NULL;
}

static void give_up(hnp_graphs *graphs, const hn_error *why)
{
    char text[sizeof why->message + 64];
    hnp_graphs_reset(graphs);
    graphs->on = false;
    snprintf(text, sizeof text, "train.graphs: going on without graphs: %s", why->message);
    graphs->notice(text);
}

void hnp_graphs_run(hnp_graphs *graphs, const hnp_graph_key *key, void (*enqueue)(void *context), void *context, hn_error *recorded)
{
    bool seen = false;
    hn_error failure = {0};
    int place = graphs->on && recorded->status == HN_OK ? place_of(graphs, key, &seen) : -1;
    if (seen && !graphs->entry[place].graph) {
        graphs->entry[place].graph = capture(graphs->backend, enqueue, context, recorded, &failure);
        seen = failure.status == HN_OK;
        if (!seen) give_up(graphs, &failure);
    }
    if (seen) graphs->backend->graph_launch(graphs->backend, graphs->entry[place].graph);
    else enqueue(context);
}

/* --- rounding --- */

static int32_t rounded(int32_t count, int32_t to)
{
    return (count + to - 1) / to * to;
}

static int32_t positions_of(const hn_model_config *model)
{
    return (int32_t)(model->positions - model->position_offset);
}

bool hnp_batch_rounds(const hn_backend *backend, const hn_model_config *model)
{
    return backend->graphs && !hn_head_reads_tokens(model->head) && positions_of(model) >= TOKENS;
}

static int32_t round_longest(int32_t longest, const hn_model_config *model)
{
    int32_t most = positions_of(model), to = rounded(longest > TOKENS ? longest : TOKENS, LONGEST);
    if (longest > most) return longest; /* which the model refuses */
    return to < most ? to : most;
}

hn_bounds hnp_batch_round_bounds(hn_bounds bounds, const hn_model_config *model)
{
    bounds.tokens = rounded(bounds.tokens + 1, TOKENS);
    bounds.examples++;
    bounds.longest = round_longest(bounds.longest, model);
    return bounds;
}

void hnp_batch_round(hn_batch *batch, const hn_model_config *model)
{
    int32_t n = batch->n++, tokens = rounded(batch->tokens + 1, TOKENS);
    for (int32_t t = batch->tokens; t < tokens; t++) batch->token[t] = batch->position[t] = batch->type[t] = 0;
    batch->example[n] = 0;
    batch->label[n] = HN_NO_TARGET;
    batch->value[n] = NAN;
    batch->cu_seqlens[n + 1] = batch->tokens = batch->keys = tokens;
    batch->longest = round_longest(batch->longest, model);
}
