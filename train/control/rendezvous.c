/* Two ways to meet. By the environment: its host and port, and for ports of our own choice the next 16 in order, since another job
 * of the node may have the first. By a folder that all see: rank 0 takes any port and writes
 *
 *     FOLDER/meet-TOKEN:   PORT ADDRESS ADDRESS ...
 *
 * by the commit protocol; the others read it again and again, so that a file of an earlier launch with the same token does no harm: nobody
 * listens there any more. It names every address that rank 0 has; a rank tries one after the other. Who answers must know the token
 * (joining.c), so that a wrong address or a wrong service on the port is only one more to pass over. */
#include "train/control/rendezvous.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/strbuf.h"

#define BACKLOG 1024
#define FILE_MOST 8192

static const char *own_interface(void)
{
    const char *name = getenv("HONE_INTERFACE");
    return name && *name ? name : NULL;
}

/* Addresses that others may reach: of interfaces that are up, without those that hold on one link only. */
static bool is_usable(const struct ifaddrs *i)
{
    const char *wanted = own_interface();
    if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || (wanted && strcmp(i->ifa_name, wanted))) return false;
    if (i->ifa_addr->sa_family == AF_INET) return true;
    return i->ifa_addr->sa_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&((struct sockaddr_in6 *)i->ifa_addr)->sin6_addr);
}

static socklen_t length_of(const struct sockaddr *address)
{
    return address->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

/* A socket that listens there, or -1 and errno. */
static int try_to_listen(const struct sockaddr_storage *address)
{
    int on = 1, off = 0, fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->ss_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (!bind(fd, (const struct sockaddr *)address, length_of((const struct sockaddr *)address)) && !listen(fd, BACKLOG)) return fd;
    int code = errno;
    close(fd);
    errno = code;
    return -1;
}

/* The address to listen on: the named interface's first, or all of them (IPv6 takes IPv4 too, where the machine has it). */
static hn_status find_own(struct sockaddr_storage *out, hn_error *error)
{
    const char *name = own_interface();
    struct ifaddrs *all = NULL;
    *out = (struct sockaddr_storage){.ss_family = AF_INET6};
    if (!name) return HN_OK;
    if (getifaddrs(&all)) return hn_fail_errno(error, "the network interfaces cannot be listed");
    out->ss_family = AF_UNSPEC;
    for (const struct ifaddrs *i = all; i; i = i->ifa_next)
        if (is_usable(i) && (out->ss_family == AF_UNSPEC || (out->ss_family == AF_INET6 && i->ifa_addr->sa_family == AF_INET)))
            memcpy(out, i->ifa_addr, length_of(i->ifa_addr));
    freeifaddrs(all);
    if (out->ss_family == AF_UNSPEC)
        return hn_fail(error, HN_ERR_USAGE, "HONE_INTERFACE is \"%.40s\"; expected an interface of this machine that is up and has an address", name);
    return HN_OK;
}

static void set_port(struct sockaddr_storage *address, int port)
{
    if (address->ss_family == AF_INET)
        ((struct sockaddr_in *)address)->sin_port = htons((uint16_t)port);
    else
        ((struct sockaddr_in6 *)address)->sin6_port = htons((uint16_t)port);
}

hn_status hnp_meet_listen(int *out, int *port, const hnp_launch *launch, hn_error *error)
{
    struct sockaddr_storage address;
    int fd = -1, ports = launch->port ? launch->ports : 1;
    hn_status status = find_own(&address, error);
    if (status != HN_OK) return status;
    for (int i = 0; i < ports && fd < 0; i++) {
        set_port(&address, launch->port ? launch->port + i : 0);
        fd = try_to_listen(&address);
        if (fd < 0 && errno == EAFNOSUPPORT && address.ss_family == AF_INET6) {
            address = (struct sockaddr_storage){.ss_family = AF_INET};
            i--;
        }
    }
    if (fd < 0) return hn_fail_errno(error, "rank 0 cannot listen on port %d%s", launch->port, ports > 1 ? " nor on those behind it" : "");
    socklen_t length = sizeof address;
    getsockname(fd, (struct sockaddr *)&address, &length);
    *port = ntohs(address.ss_family == AF_INET ? ((struct sockaddr_in *)&address)->sin_port : ((struct sockaddr_in6 *)&address)->sin6_port);
    *out = fd;
    return HN_OK;
}

static char *meeting_file(const char *folder, uint64_t token)
{
    char name[40];
    snprintf(name, sizeof name, "meet-%016llx", (unsigned long long)token);
    return hn_path_join(folder, name);
}

/* Loopback comes last: it is right for ranks of this machine alone. */
static void add_addresses(hn_strbuf *to, const struct ifaddrs *all, bool loopback)
{
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        char text[NI_MAXHOST];
        if (!is_usable(i) || loopback != !!(i->ifa_flags & IFF_LOOPBACK)) continue;
        if (!getnameinfo(i->ifa_addr, length_of(i->ifa_addr), text, sizeof text, NULL, 0, NI_NUMERICHOST)) hn_strbuf_printf(to, " %s", text);
    }
}

hn_status hnp_meet_publish(const char *folder, uint64_t token, int port, hn_error *error)
{
    struct ifaddrs *all = NULL;
    hn_strbuf text;
    char *path = meeting_file(folder, token);
    hn_status status = HN_OK;
    hn_strbuf_init(&text);
    if (getifaddrs(&all)) {
        status = hn_fail_errno(error, "the network interfaces cannot be listed");
        goto out;
    }
    hn_strbuf_printf(&text, "%d", port);
    add_addresses(&text, all, false);
    add_addresses(&text, all, true);
    hn_strbuf_putc(&text, '\n');
    if (!path || text.failed)
        status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    else
        status = hn_file_commit(path, text.text, text.length, error);
out:
    if (all) freeifaddrs(all);
    hn_strbuf_close(&text);
    hn_free(path);
    return status;
}

void hnp_meet_withdraw(const char *folder, uint64_t token)
{
    char *path = meeting_file(folder, token);
    if (path) unlink(path);
    hn_free(path);
}

static int places_of_folder(hnp_place *out, uint64_t token, const char *folder)
{
    char *path = meeting_file(folder, token), *text = NULL, *rest;
    size_t size;
    int count = 0;
    if (path && hn_file_read(&text, &size, path, FILE_MOST, NULL) == HN_OK) {
        const char *word = strtok_r(text, " \n", &rest);
        int port = word ? atoi(word) : 0;
        while (port > 0 && port < 65536 && count < HNP_PLACES && (word = strtok_r(NULL, " \n", &rest))) {
            snprintf(out[count].host, sizeof out[count].host, "%s", word);
            out[count++].port = port;
        }
    }
    hn_free(text);
    hn_free(path);
    return count;
}

int hnp_meet_places(hnp_place out[HNP_PLACES], const hnp_launch *launch, const char *folder)
{
    int count = 0;
    if (folder) return places_of_folder(out, launch->token, folder);
    for (; count < launch->ports && count < HNP_PLACES; count++) {
        memcpy(out[count].host, launch->host, sizeof out[count].host);
        out[count].port = launch->port + count;
    }
    return count;
}

/* Whether the connection that was begun came about. */
static bool comes_about(int fd, double seconds, const volatile int *stop)
{
    for (double end = hn_clock() + seconds; hn_clock() < end && !(stop && *stop);) {
        struct pollfd one = {.fd = fd, .events = POLLOUT};
        int code = 0;
        socklen_t length = sizeof code;
        if (poll(&one, 1, 50) > 0) return !getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) && !code;
    }
    return false;
}

int hnp_meet_connect(const hnp_place *place, double seconds, const volatile int *stop)
{
    struct addrinfo want = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *all = NULL;
    char port[16];
    int fd = -1;
    snprintf(port, sizeof port, "%d", place->port);
    if (getaddrinfo(place->host, port, &want, &all)) return -1;
    for (const struct addrinfo *a = all; a && fd < 0 && !(stop && *stop); a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || !connect(fd, a->ai_addr, a->ai_addrlen)) continue;
        if (errno == EINPROGRESS && comes_about(fd, seconds, stop)) continue;
        close(fd);
        fd = -1;
    }
    freeaddrinfo(all);
    return fd;
}
