/* How ranks come to their connections. All listen before anybody is told where (the exchange of places lies in between), so nobody connects
 * in vain. Rank r connects to all below it and is connected to by all above:
 *
 *     r (above)                          q (below)
 *        connect ----------------------->  the kernel's queue
 *        greeting {secret of q, r, q} --->  known and expected? else it is dropped
 *        <-------------------------------- greeting {secret of r, q, r}
 *        met                              met
 *
 * A host has several addresses, and some (bridges of containers) exist on every host: an address that does not answer with the greeting
 * of the rank that is looked for is not it, and the next one is tried. A stranger who connects here says the wrong thing or nothing; he is
 * dropped, or waits in a list that is bounded, and holds up nobody. All connections are made at once, and nothing blocks. */
#include "train/transport/sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/mem.h"

enum { STRANGERS = 16 }; /* connections beside those of ranks that may wait for their first word */

static const double connect_patience = 2, greeting_patience = 10, refused_patience = 0.1; /* seconds with one address */

static void close_fd(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* Listening */

static bool is_address(const struct sockaddr *address, const char *text)
{
    char buffer[INET6_ADDRSTRLEN] = "";
    const void *bytes = address->sa_family == AF_INET ? (const void *)&((const struct sockaddr_in *)address)->sin_addr
                                                      : (const void *)&((const struct sockaddr_in6 *)address)->sin6_addr;
    return inet_ntop(address->sa_family, bytes, buffer, sizeof buffer) && !strcmp(buffer, text);
}

static void add_address(hnp_socket_place *place, const struct sockaddr *address)
{
    if (place->addresses == HNP_PLACE_ADDRESSES) return;
    int i = place->addresses++;
    place->ipv6[i] = address->sa_family == AF_INET6;
    if (place->ipv6[i])
        memcpy(place->address[i], &((const struct sockaddr_in6 *)address)->sin6_addr, 16);
    else
        memcpy(place->address[i], &((const struct sockaddr_in *)address)->sin_addr, 4);
}

/* Adds the addresses of one kind that this host has: those of `interface`, or all but loopback's, or loopback's. */
static void add_addresses(hnp_socket_place *place, const struct ifaddrs *all, const char *interface, int family, bool loopback)
{
    for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
        if (!a->ifa_addr || a->ifa_addr->sa_family != family || !(a->ifa_flags & IFF_UP)) continue;
        if (family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&((const struct sockaddr_in6 *)a->ifa_addr)->sin6_addr)) continue;
        bool wanted = interface ? !strcmp(a->ifa_name, interface) || is_address(a->ifa_addr, interface)
                                : loopback == !!(a->ifa_flags & IFF_LOOPBACK);
        if (wanted) add_address(place, a->ifa_addr);
    }
}

static hn_status find_addresses(hnp_socket_place *place, const char *interface, hn_error *error)
{
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all)) return hn_fail_errno(error, "this host's network addresses cannot be listed");
    for (int loopback = 0; loopback < 2 && !place->addresses; loopback++) {
        add_addresses(place, all, interface, AF_INET, loopback);
        add_addresses(place, all, interface, AF_INET6, loopback);
    }
    freeifaddrs(all);
    if (!place->addresses)
        return hn_fail(error, HN_ERR_IO, "%s: no network interface of this host has this name or this address, and is up",
                       interface ? interface : "(any)");
    return HN_OK;
}

/* The address that is listened on: one that was named, or all there are. */
static socklen_t address_to_bind(struct sockaddr_storage *out, const hnp_socket_place *place, bool named, bool ipv6)
{
    memset(out, 0, sizeof *out);
    if (ipv6) {
        struct sockaddr_in6 *to = (struct sockaddr_in6 *)out;
        to->sin6_family = AF_INET6;
        if (named) memcpy(&to->sin6_addr, place->address[0], 16);
        return sizeof *to;
    }
    struct sockaddr_in *to = (struct sockaddr_in *)out;
    to->sin_family = AF_INET;
    if (named) memcpy(&to->sin_addr, place->address[0], 4);
    return sizeof *to;
}

/* A listening socket of one family, or -1 with errno. */
static int listen_on(hnp_socket_place *place, bool named, bool ipv6)
{
    struct sockaddr_storage address;
    socklen_t size = address_to_bind(&address, place, named, ipv6);
    int fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), no = 0;
    if (fd < 0) return -1;
    if (ipv6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    if (!bind(fd, (struct sockaddr *)&address, size) && !listen(fd, SOMAXCONN) &&
        !getsockname(fd, (struct sockaddr *)&address, &size)) {
        place->port = ipv6 ? ntohs(((struct sockaddr_in6 *)&address)->sin6_port) : ntohs(((struct sockaddr_in *)&address)->sin_port);
        return fd;
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

hn_status hnp_sockets_listen(hnp_socket_place *place, int *listener, const char *interface, hn_error *error)
{
    memset(place, 0, sizeof *place);
    gethostname(place->host, sizeof place->host - 1);
    if (getrandom(&place->secret, sizeof place->secret, 0) != sizeof place->secret)
        return hn_fail_errno(error, "no random numbers from the kernel");
    hn_status status = find_addresses(place, interface, error);
    if (status != HN_OK) return status;
    int fd = listen_on(place, interface, interface ? place->ipv6[0] : true);
    if (fd < 0 && !interface) fd = listen_on(place, false, false); /* a host without IPv6 */
    if (fd < 0) return hn_fail_errno(error, "cannot listen on %s", interface ? interface : "any network interface");
    if (interface) place->addresses = 1;
    *listener = fd;
    return HN_OK;
}

/* Meeting */

typedef struct greeting {
    uint64_t secret;
    int32_t from, to;
} greeting;

/* One connection on its way. */
typedef struct visit {
    int fd;
    bool connected; /* and the own greeting is sent, where it comes first */
    int address;    /* the one that is tried */
    double since;
    size_t got; /* bytes of `heard` */
    greeting heard;
} visit;

typedef struct meeting {
    const hnp_socket_place *places;
    int *fds; /* of whom we met */
    int rank, size, met, listener;
    visit *out; /* [rank]: to those below */
    visit *in;  /* [guests]: who came, and has not said who he is; fd -1: free */
    int guests;
} meeting;

static void meet(meeting *m, int rank, visit *from)
{
    int yes = 1;
    setsockopt(from->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (m->fds[rank] < 0)
        m->met++;
    else
        close(m->fds[rank]); /* he came again: what he came by before is dead */
    m->fds[rank] = from->fd;
    from->fd = -1;
}

static bool greet(const meeting *m, int fd, int to)
{
    greeting mine = {m->places[to].secret, m->rank, to};
    return send(fd, &mine, sizeof mine, MSG_NOSIGNAL) == sizeof mine;
}

/* Reads on; false when the connection ended. */
static bool hear(visit *v)
{
    ssize_t n = recv(v->fd, (char *)&v->heard + v->got, sizeof v->heard - v->got, 0);
    if (n > 0) v->got += (size_t)n;
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* Begins a connection to the next address of `rank`. */
static void set_out(meeting *m, int rank)
{
    const hnp_socket_place *place = &m->places[rank];
    visit *v = &m->out[rank];
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(place->port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(place->port)};
    close_fd(&v->fd);
    v->address = (v->address + 1) % place->addresses;
    v->since = hn_clock();
    v->connected = false;
    v->got = 0;
    bool ipv6 = place->ipv6[v->address];
    memcpy(&six.sin6_addr, place->address[v->address], 16);
    memcpy(&four.sin_addr, place->address[v->address], 4);
    v->fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (v->fd >= 0 && connect(v->fd, ipv6 ? (struct sockaddr *)&six : (struct sockaddr *)&four, ipv6 ? sizeof six : sizeof four) &&
        errno != EINPROGRESS)
        close_fd(&v->fd);
}

/* Whether the connection that was begun is made; *failed when it never will be. */
static bool has_connected(int fd, bool *failed)
{
    struct pollfd asked = {.fd = fd, .events = POLLOUT};
    int code = 0;
    socklen_t size = sizeof code;
    if (poll(&asked, 1, 0) != 1) return false;
    *failed = getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) || code;
    return !*failed;
}

static void advance_out(meeting *m, int rank)
{
    visit *v = &m->out[rank];
    bool failed = v->fd < 0;
    if (!failed && !v->connected && has_connected(v->fd, &failed)) {
        v->connected = true;
        failed = !greet(m, v->fd, rank);
    }
    if (!failed && v->connected) failed = !hear(v);
    if (!failed && v->got == sizeof v->heard) {
        const greeting expected = {m->places[m->rank].secret, rank, m->rank};
        failed = memcmp(&v->heard, &expected, sizeof expected) != 0;
        if (!failed) meet(m, rank, v);
    }
    double waited = hn_clock() - v->since;
    if (m->fds[rank] >= 0) return;
    if (failed) close_fd(&v->fd);
    if (waited > (failed ? refused_patience : v->connected ? greeting_patience : connect_patience)) set_out(m, rank);
}

static void advance_in(meeting *m, visit *v)
{
    if (!hear(v)) {
        close_fd(&v->fd);
    } else if (v->got == sizeof v->heard) {
        const greeting *said = &v->heard;
        bool expected = said->secret == m->places[m->rank].secret && said->to == m->rank && said->from > m->rank && said->from < m->size;
        if (expected && greet(m, v->fd, said->from))
            meet(m, said->from, v);
        else
            close_fd(&v->fd);
    }
}

/* Takes one guest in, for whom the one who has waited longest may have to leave. */
static void accept_guest(meeting *m)
{
    int fd = accept4(m->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    visit *place = m->in;
    for (visit *v = m->in; v < m->in + m->guests && place->fd >= 0; v++)
        if (v->fd < 0 || v->since < place->since) place = v;
    close_fd(&place->fd);
    *place = (visit){.fd = fd, .since = hn_clock()};
}

static int first_not_met(const meeting *m)
{
    int rank = 0;
    while (rank == m->rank || m->fds[rank] >= 0) rank++;
    return rank;
}

static hn_status meet_all(meeting *m, double seconds, hn_error *error)
{
    double end = hn_clock() + seconds;
    while (m->met < m->size - 1) {
        for (int rank = 0; rank < m->rank; rank++)
            if (m->fds[rank] < 0) advance_out(m, rank);
        for (int i = 0; i < m->guests; i++)
            if (m->in[i].fd >= 0) advance_in(m, &m->in[i]);
        accept_guest(m);
        if (m->met < m->size - 1 && hn_clock() > end) {
            int rank = first_not_met(m);
            return hn_fail(error, HN_ERR_IO, "no connection with rank %d (%.*s) within %g s: %s", rank, HNP_HOST, m->places[rank].host,
                           seconds, rank < m->rank ? "it does not answer" : "it did not come");
        }
        poll(NULL, 0, 1);
    }
    return HN_OK;
}

/* A place comes from elsewhere: nothing in it is believed before this. */
static hn_status check_places(const hnp_socket_place *places, int size, hn_error *error)
{
    for (int rank = 0; rank < size; rank++)
        if (!places[rank].port || !places[rank].addresses || places[rank].addresses > HNP_PLACE_ADDRESSES)
            return hn_fail(error, HN_ERR_IO, "rank %d (%.*s) cannot be connected to: it listens nowhere", rank, HNP_HOST, places[rank].host);
    return HN_OK;
}

hn_status hnp_sockets_meet(int *fds, int listener, const hnp_socket_place *places, int rank, int size, double seconds, hn_error *error)
{
    meeting m = {.places = places, .fds = fds, .rank = rank, .size = size, .listener = listener, .guests = size + STRANGERS};
    hn_status status = check_places(places, size, error);
    for (int i = 0; i < size; i++) fds[i] = -1;
    if (status != HN_OK) goto out;
    m.out = hn_calloc((size_t)rank + 1, sizeof *m.out);
    m.in = hn_calloc((size_t)m.guests, sizeof *m.in);
    if (!m.out || !m.in) {
        status = hn_fail(error, HN_ERR_MEMORY, "out of memory for connections with %d ranks", size);
        goto out;
    }
    for (int i = 0; i < m.guests; i++) m.in[i].fd = -1;
    for (int i = 0; i < rank; i++) {
        m.out[i] = (visit){.fd = -1, .address = -1};
        set_out(&m, i);
    }
    status = meet_all(&m, seconds, error);
    for (int i = 0; i < rank; i++) close_fd(&m.out[i].fd);
    for (int i = 0; i < m.guests; i++) close_fd(&m.in[i].fd);
out:
    for (int i = 0; i < size && status != HN_OK; i++) close_fd(&fds[i]);
    close_fd(&listener);
    hn_free(m.out);
    hn_free(m.in);
    return status;
}
