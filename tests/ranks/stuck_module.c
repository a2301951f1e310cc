/* A module for MPI (train/transport/module/hone_mpi.c) that hangs, as MPIs do: while it begins, or with HONE_STUCK=progress in the middle
 * of messages. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "train/transport/p2p.h"

static hn_status begin(hn_p2p *p2p, hn_message *message, hn_error *error)
{
    (void)p2p, (void)error;
    message->done = false;
    return HN_OK;
}

static hn_status hang(hn_p2p *p2p, hn_error *error)
{
    (void)p2p, (void)error;
    while (pause()) continue;
    return HN_OK;
}

static hn_p2p table = {.name = "stuck", .send = begin, .receive = begin, .progress = hang};

hn_p2p *hone_p2p_open(int layout, int rank, int size, hn_error *error);

hn_p2p *hone_p2p_open(int layout, int rank, int size, hn_error *error)
{
    const char *where = getenv("HONE_STUCK");
    if (layout != HN_P2P_LAYOUT || !where || strcmp(where, "progress")) hang(NULL, error);
    table.rank = rank;
    table.size = size;
    return &table;
}
