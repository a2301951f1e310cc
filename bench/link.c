/* What the link between two processes of one machine gives, beside what it is made of: a copy in memory, and a plain stream between two
 * sockets. Two processes; a buffer of 64 MiB each; every figure is the median of rounds that are taken in turn, so that all meet the same
 * machine. Bytes are what one process sends: half of the buffer in a reduce-scatter or an all-gather of two, all of it otherwise.
 *
 *     copy             memcpy of the same bytes, one thread
 *     stream           send() to a peer that does nothing but recv(), both in calls of 1 MiB
 *     both ways        the same, each side sending and receiving, two threads a side
 *     reduce-scatter   of the link, FAST and TREE (two ranks exchange the same bytes in both)
 *     all-gather
 *
 * Prints one JSON object: GB/s, and for the link its share of the stream both ways. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "train/link.h"

enum { BYTES = 64 << 20, CALL = 1 << 20, ROUNDS = 9, MEASURES = 6 };

static const char *const names[MEASURES] = {"copy", "stream", "stream both ways", "reduce-scatter", "reduce-scatter tree", "all-gather"};

typedef struct shared {
    unsigned char blobs[2][256];
    atomic_int arrived;
} shared;

typedef struct side {
    int rank, fd;
    shared *shared;
    int due;
    char *buffer, *other;
    hn_link *link;
} side;

static void meet(side *s)
{
    s->due += 2;
    atomic_fetch_add(&s->shared->arrived, 1);
    while (atomic_load(&s->shared->arrived) < s->due) nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

static hn_status exchange(void *context, void *all, const void *mine, size_t size, hn_error *error)
{
    side *s = context;
    (void)error;
    memcpy(s->shared->blobs[s->rank], mine, size);
    meet(s);
    for (int i = 0; i < 2; i++) memcpy((char *)all + (size_t)i * size, s->shared->blobs[i], size);
    meet(s);
    return HN_OK;
}

static void fail(const char *what)
{
    fprintf(stderr, "bench_link: %s\n", what);
    _exit(1);
}

/* Two connected TCP sockets of this host. */
static void connect_pair(int fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || fds[0] < 0 || bind(listener, (struct sockaddr *)&address, size) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&address, &size) || connect(fds[0], (struct sockaddr *)&address, size))
        fail("no connection with itself");
    fds[1] = accept(listener, NULL, NULL);
    for (int i = 0; i < 2; i++) setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    close(listener);
}

static void send_all(side *s, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = send(s->fd, s->buffer + done, bytes - done < CALL ? bytes - done : CALL, MSG_NOSIGNAL);
        if (n <= 0) fail("the stream ended");
        done += (size_t)n;
    }
}

static void receive_all(side *s, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = recv(s->fd, s->other + done, bytes - done < CALL ? bytes - done : CALL, 0);
        if (n <= 0) fail("the stream ended");
        done += (size_t)n;
    }
}

static void *receive_half(void *argument)
{
    receive_all(argument, BYTES / 2);
    return NULL;
}

static void join(side *s, hn_transfer *t)
{
    hn_error error = {0};
    if (!t || s->link->join(s->link, t, &error) != HN_OK) fail("the link failed");
}

/* Does one measure; bytes that one process sent. */
static size_t run(side *s, int measure)
{
    hn_error error = {0};
    pthread_t receiver;
    float *sums = (float *)(void *)s->buffer;
    int64_t count = BYTES / (int64_t)sizeof(float);
    switch (measure) {
    case 0: memcpy(s->other, s->buffer, BYTES); return BYTES;
    case 1:
        if (s->rank)
            receive_all(s, BYTES);
        else
            send_all(s, BYTES);
        return BYTES;
    case 2:
        if (pthread_create(&receiver, NULL, receive_half, s)) fail("no thread");
        send_all(s, BYTES / 2);
        pthread_join(receiver, NULL);
        return BYTES / 2;
    case 3: join(s, s->link->reduce_scatter(s->link, sums, count, HN_SUM_FAST, "fast", &error)); return BYTES / 2;
    case 4: join(s, s->link->reduce_scatter(s->link, sums, count, HN_SUM_TREE, "tree", &error)); return BYTES / 2;
    default: join(s, s->link->all_gather(s->link, sums, BYTES, HN_SUM_FAST, "gather", &error)); return BYTES / 2;
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure_all(side *s)
{
    double rates[MEASURES][ROUNDS];
    for (int round = -1; round < ROUNDS; round++) /* the first one only warms memory up */
        for (int m = 0; m < MEASURES; m++) {
            meet(s);
            double before = hn_clock();
            size_t bytes = run(s, m);
            if (m) meet(s); /* over when both are */
            if (round >= 0) rates[m][round] = 1e-9 * (double)bytes / (hn_clock() - before);
            meet(s);
        }
    if (s->rank) return;
    for (int m = 0; m < MEASURES; m++) qsort(rates[m], ROUNDS, sizeof **rates, compare);
    for (int m = 0; m < MEASURES; m++) printf("%s\"%s\": %.2f", m ? ", " : "{", names[m], rates[m][ROUNDS / 2]);
    printf(", \"of stream\": [%.2f, %.2f, %.2f]}\n", rates[3][ROUNDS / 2] / rates[2][ROUNDS / 2], rates[4][ROUNDS / 2] / rates[2][ROUNDS / 2],
           rates[5][ROUNDS / 2] / rates[2][ROUNDS / 2]);
}

int main(void)
{
    side s = {0};
    int fds[2], status = 0;
    hn_error error = {0};
    s.shared = mmap(NULL, sizeof *s.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s.shared == MAP_FAILED) fail("no memory");
    connect_pair(fds);
    pid_t child = fork();
    if (child < 0) fail("no second process");
    alarm(300);
    s.rank = child == 0;
    s.fd = fds[s.rank];
    close(fds[!s.rank]);
    s.buffer = aligned_alloc(64, BYTES);
    s.other = aligned_alloc(64, BYTES);
    if (!s.buffer || !s.other) fail("no memory");
    memset(s.buffer, 0, BYTES);
    memset(s.other, 0, BYTES);
    hn_link_options options = {.rank = s.rank, .size = 2, .transfers = 1, .connect = 10, .interface = "127.0.0.1", .exchange = exchange,
                               .context = &s};
    if (hn_link_open_cpu(&s.link, &options, &error) != HN_OK) fail(error.message);
    measure_all(&s);
    s.link->close(s.link, true);
    if (child) waitpid(child, &status, 0);
    return status != 0;
}
