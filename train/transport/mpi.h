/* Messages over MPI, whose code is a library of its own (module/hone_mpi.c). */
#ifndef HONE_TRAIN_TRANSPORT_MPI_H
#define HONE_TRAIN_TRANSPORT_MPI_H

#include "train/transport/p2p.h"

/* Loads the module and begins MPI, on the thread that will make every other call too; returns when all ranks have begun it, and does not
 * come back where one never does. HN_ERR_UNSUPPORTED: there is no module that fits. */
hn_status hnp_mpi_open(hn_p2p **out, int rank, int size, hn_error *error);

#endif
