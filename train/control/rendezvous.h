/* Where rank 0 listens, and how the others get there. Shared inside train/. */
#ifndef HONE_TRAIN_CONTROL_RENDEZVOUS_H
#define HONE_TRAIN_CONTROL_RENDEZVOUS_H

#include <stdint.h>

#include "core/error.h"
#include "train/control/launch.h"

enum { HNP_PLACES = 16 };
typedef struct hnp_place {
    char host[256]; /* a name or an address */
    int port;
} hnp_place;

/* Rank 0: a listening socket at the launch's port or, without one, any. HONE_INTERFACE names the network interface; without it all
 * are listened on. */
hn_status hnp_meet_listen(int *out, int *port, const hnp_launch *launch, hn_error *error);
/* Rank 0 with a folder: says there where it listens; takes that back. */
hn_status hnp_meet_publish(const char *folder, uint64_t token, int port, hn_error *error);
void hnp_meet_withdraw(const char *folder, uint64_t token);

/* The others: where rank 0 may be, as far as is known now; with a folder it is read anew each time. How many. */
int hnp_meet_places(hnp_place out[HNP_PLACES], const hnp_launch *launch, const char *folder);
/* A connection to one of them within `seconds` an address, or -1. Gives up when *stop is set (NULL: never). */
int hnp_meet_connect(const hnp_place *place, double seconds, const volatile int *stop);

#endif
