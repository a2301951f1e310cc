/* Who am I: reads from the environment which rank this process is, of how many, and where they meet. Shared inside train/. */
#ifndef HONE_TRAIN_CONTROL_LAUNCH_H
#define HONE_TRAIN_CONTROL_LAUNCH_H

#include <stdint.h>

#include "core/error.h"

typedef struct hnp_launch {
    int rank, size;     /* 0 and 1: one process */
    const char *by;     /* what said so, for messages: "RANK and WORLD_SIZE" */
    char host[256];     /* where rank 0 listens; "": nobody says it, a folder must */
    int port, ports;    /* the first of these ports that is free there */
    uint64_t token;     /* the same for the processes of one launch; tells launches apart, and is no secret */
} hnp_launch;

/* As getenv. */
typedef const char *hnp_variable(void *context, const char *name);

/* HN_ERR_USAGE: half a set of variables, or a value that cannot be one. */
hn_status hnp_launch_read(hnp_launch *out, hnp_variable *variable, void *context, hn_error *error);

#endif
