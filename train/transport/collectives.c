/* Sizes: R ranks, a buffer of n bytes, pieces of n / R. Every rank sends and receives (R - 1)/R n bytes in a reduce-scatter and as many in
 * an all-gather, which is the least possible, by either way of adding. What they differ in is the order of the sum.
 *
 * FAST is direct: in round k = 1 .. R - 1 rank r sends its version of piece r + k to r + k (mod R), and adds r - k's version of piece r to
 * its own. R = 4, by rank; p.q: rank p's version of piece q:
 *
 *     round 1   0: 0.1 -> 1, adds 3.0    1: 1.2 -> 2, adds 0.1    2: 2.3 -> 3, adds 1.2    3: 3.0 -> 0, adds 2.3
 *     round 2   0: 0.2 -> 2, adds 2.0    1: 1.3 -> 3, adds 3.1    2: 2.0 -> 0, adds 0.2    3: 3.1 -> 1, adds 1.3
 *     round 3   0: 0.3 -> 3, adds 1.0    1: 1.0 -> 0, adds 2.1    2: 2.1 -> 1, adds 3.2    3: 3.2 -> 2, adds 0.3
 *
 * In each round every rank sends to one and receives from one, so that no link carries two streams. A ring would send as much in as many
 * rounds, each waiting for the sum of the one before; here nobody waits for a sum, and what is sent is what the rank came with.
 *
 * TREE is recursive halving and, back, recursive doubling (Thakur, Rabenseifner, Gropp 2005, "Optimization of Collective Communication
 * Operations in MPICH"), nearest neighbour first: in round k rank r exchanges half of what it still has with r ^ 2^k, keeps the lower half
 * where bit k of r is 0 and the upper one where it is 1, and adds. R = 4; [a b c d] the pieces, (01) = rank 0's + rank 1's:
 *
 *     round 0   0 <-> 1    0 has a(01) b(01)    1 has c(01) d(01)    2 has a(23) b(23)    3 has c(23) d(23)
 *     round 1   0 <-> 2    0 has a((01)(23))    2 has b(..)          1 <-> 3: 1 has c(..), 3 has d(..)
 *
 * So rank r ends with the piece whose number is r with its bits reversed, and every element's sum is the same tree over the ranks in their
 * order. Rounds of a larger distance are last: each association is of neighbours, which a first round between r and r ^ (R / 2) would not
 * be. Which of the two is the left operand of an addition changes no bit of a sum that is a number.
 *
 * An all-gather is the same without adding: direct, or the tree's rounds backwards. A broadcast goes along the chain root, root + 1, ...,
 * each rank handing a piece on while the next one comes: n bytes in and n out of everybody, whatever R.
 *
 * Ahead of its data everybody tells the ranks it exchanges with which call it makes (hnp_collective). Where calls differ it is thus found by
 * those who would have mixed them up, before any of it is added. */
#include "train/transport/collectives.h"

/* Tells `to` which call this is, and hears it from `from`. */
static void greet(hnp_pump *pump, int to, int from)
{
    hnp_pump_tell(pump, to);
    hnp_pump_hear(pump, from);
}

static hn_status direct_reduce(hnp_pump *pump, char *buffer, size_t piece, hn_error *error)
{
    int rank = hnp_pump_rank(pump), size = hnp_pump_size(pump);
    for (int k = 1; k < size; k++) {
        int to = (rank + k) % size, from = (rank + size - k) % size;
        greet(pump, to, from);
        hnp_pump_send(pump, to, buffer + (size_t)to * piece, piece);
        hnp_pump_add(pump, from, (float *)(void *)(buffer + (size_t)rank * piece), piece);
    }
    return hnp_pump_finish(pump, error);
}

static hn_status direct_gather(hnp_pump *pump, char *buffer, size_t piece, hn_error *error)
{
    int rank = hnp_pump_rank(pump), size = hnp_pump_size(pump);
    for (int k = 1; k < size; k++) {
        int to = (rank + k) % size, from = (rank + size - k) % size;
        greet(pump, to, from);
        hnp_pump_send(pump, to, buffer + (size_t)rank * piece, piece);
        hnp_pump_receive(pump, from, buffer + (size_t)from * piece, piece);
    }
    return hnp_pump_finish(pump, error);
}

static hn_status halve(hnp_pump *pump, char *buffer, size_t bytes, hn_error *error)
{
    int rank = hnp_pump_rank(pump), size = hnp_pump_size(pump);
    hn_status status = HN_OK;
    for (int bit = 1; bit < size && status == HN_OK; bit *= 2) {
        bytes /= 2;
        char *upper = buffer + bytes, *given = rank & bit ? buffer : upper;
        if (rank & bit) buffer = upper;
        greet(pump, rank ^ bit, rank ^ bit);
        hnp_pump_send(pump, rank ^ bit, given, bytes);
        hnp_pump_add(pump, rank ^ bit, (float *)(void *)buffer, bytes);
        status = hnp_pump_arrive(pump, error); /* the next round gives half of these sums away */
    }
    return status == HN_OK ? hnp_pump_finish(pump, error) : status;
}

static hn_status doubled(hnp_pump *pump, char *buffer, size_t piece, hn_error *error)
{
    int rank = hnp_pump_rank(pump), size = hnp_pump_size(pump);
    char *mine = buffer + (size_t)hn_link_piece(HN_SUM_TREE, rank, size) * piece;
    hn_status status = HN_OK;
    for (int bit = size / 2; bit > 0 && status == HN_OK; bit /= 2) {
        char *other = rank & bit ? mine - piece : mine + piece;
        greet(pump, rank ^ bit, rank ^ bit);
        hnp_pump_send(pump, rank ^ bit, mine, piece);
        hnp_pump_receive(pump, rank ^ bit, other, piece);
        status = hnp_pump_arrive(pump, error); /* the next round hands these on */
        if (other < mine) mine = other;
        piece *= 2;
    }
    return status == HN_OK ? hnp_pump_finish(pump, error) : status;
}

static hn_status reduce_scatter(hnp_pump *pump, const hnp_collective *call, char *buffer, hn_error *error)
{
    size_t bytes = (size_t)call->bytes;
    if (call->sum == HN_SUM_TREE) return halve(pump, buffer, bytes, error);
    return direct_reduce(pump, buffer, bytes / (size_t)hnp_pump_size(pump), error);
}

static hn_status all_gather(hnp_pump *pump, const hnp_collective *call, char *buffer, hn_error *error)
{
    size_t piece = (size_t)call->bytes / (size_t)hnp_pump_size(pump);
    return call->sum == HN_SUM_TREE ? doubled(pump, buffer, piece, error) : direct_gather(pump, buffer, piece, error);
}

static hn_status broadcast(hnp_pump *pump, const hnp_collective *call, char *buffer, hn_error *error)
{
    int rank = hnp_pump_rank(pump), size = hnp_pump_size(pump), place = (rank - call->root + size) % size;
    int before = (rank + size - 1) % size, behind = (rank + 1) % size;
    if (place > 0) {
        greet(pump, before, before);
        hnp_pump_receive(pump, before, buffer, (size_t)call->bytes);
    }
    if (place < size - 1) {
        greet(pump, behind, behind);
        if (place == 0)
            hnp_pump_send(pump, behind, buffer, (size_t)call->bytes);
        else
            hnp_pump_relay(pump, behind, buffer, (size_t)call->bytes);
    }
    return hnp_pump_finish(pump, error);
}

hn_status hnp_collective_run(hnp_pump *pump, const hnp_collective *call, void *buffer, hn_error *error)
{
    hn_status status = HN_OK;
    hnp_pump_begin(pump, call);
    switch ((hnp_collective_kind)call->kind) {
    case HNP_REDUCE_SCATTER: return reduce_scatter(pump, call, buffer, error);
    case HNP_ALL_GATHER: return all_gather(pump, call, buffer, error);
    case HNP_BROADCAST: return broadcast(pump, call, buffer, error);
    case HNP_ALL_REDUCE: break;
    }
    status = reduce_scatter(pump, call, buffer, error);
    return status == HN_OK ? all_gather(pump, call, buffer, error) : status;
}
