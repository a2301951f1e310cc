/* Messages over TCP, one connection between every two ranks. First everybody listens and tells the others where (hnp_sockets_listen), then
 * everybody connects with everybody (hnp_sockets_open), then messages go (p2p.h). */
#ifndef HONE_TRAIN_TRANSPORT_SOCKETS_H
#define HONE_TRAIN_TRANSPORT_SOCKETS_H

#include <stdint.h>

#include "train/transport/p2p.h"

enum { HNP_PLACE_ADDRESSES = 8, HNP_HOST = 64 };

/* Where a rank listens; these bytes go to the others as they are. */
typedef struct hnp_socket_place {
    uint64_t secret;                     /* whoever connects says it first: a stranger does not know it */
    uint16_t port;                       /* 0: it could not listen */
    uint16_t addresses;
    uint8_t ipv6[HNP_PLACE_ADDRESSES];
    uint8_t address[HNP_PLACE_ADDRESSES][16]; /* of IPv4 the first 4 bytes */
    char host[HNP_HOST];
    uint8_t rest[4];
} hnp_socket_place;

/* Begins to listen, on a port that the kernel chooses. `interface`: see hn_link_options. On failure *place has port 0, and is still what
 * the others should be told. */
hn_status hnp_sockets_listen(hnp_socket_place *place, int *listener, const char *interface, hn_error *error);

/* Connects with all other ranks, for `seconds` at most; fds[size] gets the connections, non-blocking, -1 for the own rank. On failure none
 * is open. Takes the listener and closes it. */
hn_status hnp_sockets_meet(int *fds, int listener, const hnp_socket_place *places, int rank, int size, double seconds, hn_error *error);

/* hnp_sockets_meet, and the table over its connections. `places` are read until the end of the call. */
hn_status hnp_sockets_open(hn_p2p **out, int listener, const hnp_socket_place *places, int rank, int size, double seconds, hn_error *error);

#endif
