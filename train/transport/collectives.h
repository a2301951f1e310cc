/* The collectives over messages: who sends what to whom in which round, and in which order it is added. See link.h for what they mean. */
#ifndef HONE_TRAIN_TRANSPORT_COLLECTIVES_H
#define HONE_TRAIN_TRANSPORT_COLLECTIVES_H

#include "train/transport/pump.h"

/* Runs one call to its end, on the transport thread. After a failure nothing more can be run over this pump. */
hn_status hnp_collective_run(hnp_pump *pump, const hnp_collective *call, void *buffer, hn_error *error);

#endif
