/* How ranks come together, and what strangers and false ranks can do to them: nothing but be named. The test itself plays the false ones,
 * with the control plane's own wires. */
#include "tests/ranks/processes.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "core/digest.h"
#include "train/control/message.h"
#include "train/control/rendezvous.h"

enum { REFUSED = 10 };
#define ANYTHING 0xffffu /* of a false rank's wire: it takes every kind of frame */

static world w;
static hn_error error;

static void calm_body(hn_ranks *ranks, int scene)
{
    (void)scene;
    if (hn_ranks_barrier(ranks, "calm", &error) != HN_OK) _exit(50);
}

static void long_body(hn_ranks *ranks, int scene)
{
    (void)scene;
    for (int i = 0; i < 1500; i++) {
        hn_ranks_pulse(ranks);
        world_nap(0.01);
    }
}

#define CHECK_ENDS(rank, code, words)                                                                                  \
    do {                                                                                                               \
        if (world_code(&w, rank) != (code) || !strstr(w.said[rank], words))                                            \
            TEST_FAIL("rank %d ended with %d, expected %d; it said: %s", rank, world_code(&w, rank), code, w.said[rank]); \
    } while (0)

static const char *from_world(void *context, const char *name)
{
    const world *of = context;
    static char text[16];
    if (!strcmp(name, "HONE_LAUNCH")) return of->folder;
    snprintf(text, sizeof text, "%d", !strcmp(name, "RANK") ? 1 : of->size);
    return !strcmp(name, "RANK") || !strcmp(name, "WORLD_SIZE") ? text : NULL;
}

/* A connection to rank 0 as soon as it has said where it is. */
static int reach(hnp_launch *launch)
{
    hnp_place place[HNP_PLACES];
    int fd = -1;
    if (hnp_launch_read(launch, from_world, &w, &error) != HN_OK) abort();
    for (double end = hn_clock() + 10; fd < 0 && hn_clock() < end; world_nap(0.01))
        if (hnp_meet_places(place, launch, w.folder) > 0) fd = hnp_meet_connect(&place[0], 2, NULL);
    return fd;
}

static bool next_frame(hnp_wire *wire, hnp_frame *frame)
{
    const char *why;
    for (double end = hn_clock() + 10; hn_clock() < end;) {
        int got = hnp_wire_next(wire, frame, &why);
        if (got) return got > 0;
        if (wire->ended) return false;
        struct pollfd one = {wire->fd, POLLIN, 0};
        poll(&one, 1, 50);
        hnp_wire_fill(wire);
    }
    return false;
}

static hnp_hello hello_of(const hnp_launch *launch)
{
    hnp_hello hello = {.token = launch->token, .rank = 1, .size = w.size};
    hn_digest digest;
    char text[HN_DIGEST_TEXT];
    if (hn_digest_file(&digest, "/proc/self/exe", NULL) != HN_OK) abort();
    hn_digest_format(text, digest);
    snprintf(hello.build, sizeof hello.build, "%s (%.16s)", HONE_VERSION, text);
    hnp_identity_find(&hello.who);
    hello.who.born = 0; /* so that nobody ends this test for what a false rank of it does */
    return hello;
}

static void send_hello(hnp_wire *wire, const hnp_hello *hello)
{
    hn_strbuf text;
    hn_strbuf_init(&text);
    hnp_hello_encode(&text, hello);
    hnp_wire_send(wire, HNP_FRAME_HELLO, text.text, text.length);
    hn_strbuf_close(&text);
}

/* A false rank 1 that was let in. */
static bool come_in(hnp_wire *wire)
{
    hnp_launch launch;
    hnp_frame frame;
    int fd = reach(&launch);
    if (fd < 0) return false;
    hnp_hello hello = hello_of(&launch);
    hnp_wire_init(wire, fd, 1, 0, ANYTHING);
    send_hello(wire, &hello);
    return next_frame(wire, &frame) && frame.type == HNP_FRAME_WELCOME;
}

/* The environment's way, at a port that was free a moment ago. */
static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) || getsockname(fd, (struct sockaddr *)&address, &length)) abort();
    close(fd);
    return ntohs(address.sin_port);
}

TEST(by_the_environment)
{
    bool other = false;
    setenv("MASTER_ADDR", "localhost", 1);
    for (int tries = 0; tries < 3; tries++) {
        world_set("MASTER_PORT", free_port());
        world_meets_by_folder = false;
        world_start(&w, 3, calm_body, 0);
        world_meets_by_folder = true;
        CHECK(world_wait(&w, 30));
        other = strstr(w.said[0], "cannot listen") != NULL; /* somebody else took the port in between */
        if (!other) break;
        world_close(&w);
    }
    unsetenv("MASTER_ADDR");
    unsetenv("MASTER_PORT");
    for (int i = 0; i < 3; i++) CHECK_ENDS(i, 0, "");
    world_close(&w);
    world_meets_by_folder = false;
    world_start(&w, 2, calm_body, 0);
    world_meets_by_folder = true;
    CHECK(world_wait(&w, 30));
    for (int i = 0; i < 2; i++) CHECK_ENDS(i, REFUSED + HN_ERR_USAGE, "expected MASTER_ADDR and MASTER_PORT, or train.rendezvous");
    world_close(&w);
}

TEST(worlds_of_different_sizes)
{
    world_make(&w, 3);
    world_start_rank(&w, 0, calm_body, 0);
    world_start_rank(&w, 2, calm_body, 0);
    w.size = 2;
    world_start_rank(&w, 1, calm_body, 0);
    w.size = 3;
    CHECK(world_wait(&w, 30));
    for (int i = 0; i < 2; i++) CHECK_ENDS(i, REFUSED + HN_ERR_MISMATCH, "counts 2 ranks, rank 0 (");
    world_close(&w);
}

TEST(a_rank_that_is_there_twice)
{
    world_make(&w, 3);
    world_start_rank(&w, 0, calm_body, 0);
    world_start_rank(&w, 1, calm_body, 0);
    pid_t first = w.pid[1];
    world_start_rank(&w, 1, calm_body, 0);
    w.pid[2] = first;
    CHECK(world_wait(&w, 30));
    for (int i = 0; i < 3; i++) CHECK_INT(world_code(&w, i), REFUSED + HN_ERR_MISMATCH);
    for (int i = 0; i < 2; i++) CHECK_ENDS(i, REFUSED + HN_ERR_MISMATCH, "rank 1 is there twice: ");
    world_close(&w);
}

TEST(ranks_that_do_not_come)
{
    double before = world_options.connect;
    world_options.connect = 1.5;
    world_make(&w, 4);
    world_start_rank(&w, 0, calm_body, 0);
    world_start_rank(&w, 2, calm_body, 0);
    CHECK(world_wait(&w, 30));
    CHECK_ENDS(0, REFUSED + HN_ERR_IO, "2 of 4 ranks came within 2 s (RANK and WORLD_SIZE); missing: 1 3");
    CHECK_ENDS(2, REFUSED + HN_ERR_IO, "missing: 1 3");
    world_close(&w);
    world_make(&w, 2);
    world_start_rank(&w, 1, calm_body, 0);
    CHECK(world_wait(&w, 30));
    CHECK_ENDS(1, REFUSED + HN_ERR_IO, "rank 1 of 2 did not find rank 0 within 2 s");
    CHECK_CONTAINS(w.said[1], "train.transport=none is one process");
    world_options.connect = before;
    world_close(&w);
}

TEST(a_stop_while_they_come)
{
    for (int rank = 0; rank < 2; rank++) {
        world_make(&w, 2);
        world_start_rank(&w, rank, calm_body, 0);
        world_nap(0.3);
        kill(w.pid[rank], SIGTERM);
        CHECK(world_wait(&w, 5));
        CHECK_ENDS(rank, REFUSED + HN_ERR_INTERRUPTED, "stopped while the ranks came together");
        world_close(&w);
    }
    world_make(&w, 3);
    for (int i = 0; i < 2; i++) world_start_rank(&w, i, calm_body, 0);
    world_nap(0.5);
    kill(w.pid[1], SIGTERM);
    CHECK(world_wait(&w, 5));
    for (int i = 0; i < 2; i++) CHECK_ENDS(i, REFUSED + HN_ERR_INTERRUPTED, "stopped while the ranks came together");
    world_close(&w);
}

/* What strangers say to the port: each is dropped with a line, the ranks come together all the same. */
static void write_all(int fd, const void *bytes, size_t size)
{
    if (send(fd, bytes, size, MSG_NOSIGNAL) < 0) abort();
}

TEST(strangers)
{
    static const unsigned char long_head[] = {0xff, 0xff, 0xff, 0xff, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    static const unsigned char empty_hello[] = {0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    static const unsigned char a_beat[] = {0, 0, 0, 0, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    hnp_launch launch;
    int fd[40], n = 0;
    unsigned char noise[3000];
    for (size_t i = 0; i < sizeof noise; i++) noise[i] = (unsigned char)(i * i * 2654435761u >> 13);
    world_make(&w, 3);
    for (int i = 0; i < 2; i++) world_start_rank(&w, i, calm_body, 0);
    write_all(fd[n] = reach(&launch), "GET / HTTP/1.1\r\nHost: here\r\n\r\n", 30), n++;
    write_all(fd[n] = reach(&launch), noise, sizeof noise), n++;
    write_all(fd[n] = reach(&launch), long_head, sizeof long_head), n++;
    write_all(fd[n] = reach(&launch), empty_hello, sizeof empty_hello), n++;
    write_all(fd[n] = reach(&launch), a_beat, sizeof a_beat), n++;
    close(reach(&launch));
    for (; n < 30; n++) fd[n] = reach(&launch); /* say nothing, and stay */
    hnp_hello hello = hello_of(&launch);
    hello.token++;
    hnp_wire other;
    hnp_wire_init(&other, reach(&launch), 1, 0, ANYTHING);
    send_hello(&other, &hello);
    hnp_frame frame;
    CHECK(!next_frame(&other, &frame) && other.ended);
    hnp_wire_close(&other);
    world_start_rank(&w, 2, calm_body, 0);
    CHECK(world_wait(&w, 30));
    for (int i = 0; i < n; i++) close(fd[i]);
    for (int i = 0; i < 3; i++) CHECK_ENDS(i, 0, "");
    CHECK_CONTAINS(w.said[0], "a connection from 127.0.0.1 was dropped: what came is of a kind that may not come here");
    CHECK_CONTAINS(w.said[0], "dropped: a message is longer than its kind may be");
    CHECK_CONTAINS(w.said[0], "dropped: it does not speak as a rank does");
    CHECK_CONTAINS(w.said[0], "dropped: it ended without a word");
    CHECK_CONTAINS(w.said[0], "dropped: it belongs to another launch");
    for (int i = 1; i < 3; i++) CHECK_TEXT(w.said[i], "");
    world_close(&w);
}

TEST(another_build)
{
    hnp_launch launch;
    hnp_wire wire;
    hnp_frame frame;
    hnp_abort end;
    world_make(&w, 2);
    world_start_rank(&w, 0, calm_body, 0);
    hnp_wire_init(&wire, reach(&launch), 1, 0, ANYTHING);
    hnp_hello hello = hello_of(&launch);
    strcpy(hello.build, "0.0.1 (0123)");
    send_hello(&wire, &hello);
    CHECK(next_frame(&wire, &frame) && frame.type == HNP_FRAME_ABORT && hnp_abort_decode(&end, &frame, 2));
    CHECK_INT(end.status, HN_ERR_MISMATCH);
    CHECK_CONTAINS(end.line, "runs hone 0.0.1 (0123), rank 0 (");
    hnp_wire_close(&wire);
    CHECK(world_wait(&w, 30));
    CHECK_ENDS(0, REFUSED + HN_ERR_MISMATCH, "expected the same program");
    world_close(&w);
}

TEST(a_rank_that_dies_before_all_are_there)
{
    hnp_wire wire;
    world_make(&w, 4); /* rank 3 never comes */
    world_start_rank(&w, 0, calm_body, 0);
    world_start_rank(&w, 2, calm_body, 0);
    CHECK(come_in(&wire));
    world_nap(0.3);
    hnp_wire_close(&wire);
    CHECK(world_wait(&w, 30));
    for (int i = 0; i < 3; i += 2) CHECK_ENDS(i, REFUSED + HN_ERR_DEVICE, "died in its start");
    CHECK_CONTAINS(w.said[0], "rank 1 (");
    world_close(&w);
}

/* A rank that was let in and then says what no rank says: the job ends, and it is named. */
static void say(hnp_wire *wire, int way)
{
    hn_strbuf text;
    unsigned char bad[24] = {1, 2, 3};
    hn_strbuf_init(&text);
    switch (way) {
    case 0: hnp_wire_send(wire, HNP_FRAME_BEAT, bad, sizeof bad); break;
    case 1: hnp_wire_send(wire, HNP_FRAME_WELCOME, bad, sizeof bad); break;
    case 2: hnp_wire_send(wire, HNP_FRAME_PIECE, bad, sizeof bad); break;
    case 3: hnp_wire_send(wire, HNP_FRAME_CALL, bad, sizeof bad); break;
    case 4: hnp_call_encode(&text, &(hnp_call){.number = 9, .kind = HNP_CALL_GATHER, .what = "x"}); break;
    case 5: wire->frames_out++, hnp_wire_send(wire, HNP_FRAME_STOP, "", 0); break;
    case 6: wire->own = 0, hnp_wire_send(wire, HNP_FRAME_STOP, "", 0); break;
    case 7: hnp_wire_send(wire, HNP_FRAME_ABORT, bad, sizeof bad); break;
    default: /* more bytes than it said */
        hnp_call_encode(&text, &(hnp_call){.number = 0, .kind = HNP_CALL_GATHER, .what = "x", .size = 2});
        hnp_wire_send(wire, HNP_FRAME_CALL, text.text, text.length);
        hnp_wire_send(wire, HNP_FRAME_PIECE, "abc", 3);
        break;
    }
    if (way == 4) hnp_wire_send(wire, HNP_FRAME_CALL, text.text, text.length);
    hn_strbuf_close(&text);
}

TEST(a_false_rank)
{
    static const char *const words[] = {"a beat that is none", "of a kind that may not come here", "belong to no collective",
                                        "a call that is none", "another collective than its number says", "a message is missing",
                                        "names another sender", "does not say why", "belong to no collective"};
    for (int way = 0; way < 9; way++) {
        hnp_wire wire;
        hnp_frame frame;
        bool told = false;
        world_make(&w, 2);
        world_start_rank(&w, 0, long_body, 0);
        CHECK(come_in(&wire));
        say(&wire, way);
        while (!told && next_frame(&wire, &frame)) told = frame.type == HNP_FRAME_ABORT;
        CHECK(told);
        hnp_wire_close(&wire);
        CHECK(world_wait(&w, 10));
        CHECK_ENDS(0, 1, words[way]);
        CHECK_CONTAINS(w.said[0], "rank 1 (");
        world_close(&w);
    }
}

/* The other way round: what a false rank 0 says. */
enum { NO_WELCOME, OTHER_TOKEN, BAD_ROSTER, EARLY_ANSWER, GOES, FALSE_WAYS };

static void be_rank_0(int fd, const hnp_launch *launch, int way)
{
    hnp_wire wire;
    hnp_frame frame;
    hn_strbuf text;
    hnp_welcome welcome = {launch->token + (way == OTHER_TOKEN), {2, 1.5, 5}, 5};
    hnp_hello hello = hello_of(launch);
    hnp_identity who[2] = {hello.who, hello.who};
    hn_strbuf_init(&text);
    hnp_wire_init(&wire, fd, 0, -1, ANYTHING);
    if (next_frame(&wire, &frame) && frame.type == HNP_FRAME_HELLO) {
        if (way == NO_WELCOME) hnp_wire_send(&wire, HNP_FRAME_BEAT, "what?", 5);
        hnp_welcome_encode(&text, &welcome);
        hnp_wire_send(&wire, HNP_FRAME_WELCOME, text.text, text.length);
        hn_strbuf_reset(&text);
        hnp_roster_encode(&text, who, way == BAD_ROSTER ? 1 : 2);
        if (way >= BAD_ROSTER) hnp_wire_send(&wire, HNP_FRAME_ROSTER, text.text, text.length);
        hn_strbuf_reset(&text);
        hnp_answer_encode(&text, &(hnp_answer){.number = 0});
        if (way == EARLY_ANSWER) hnp_wire_send(&wire, HNP_FRAME_ANSWER, text.text, text.length);
        while (way != GOES && next_frame(&wire, &frame) && frame.type != HNP_FRAME_ABORT) {
        }
    }
    hn_strbuf_close(&text);
    hnp_wire_close(&wire);
}

TEST(a_false_rank_0)
{
    static const char *const words[] = {"did not find rank 0", "did not find rank 0", "a list of ranks that is none", "an answer to what was not asked", "rank 0 ("};
    static const int codes[] = {REFUSED + HN_ERR_IO, REFUSED + HN_ERR_IO, REFUSED + HN_ERR_DEVICE, 1, 1};
    double before = world_options.connect;
    world_options.connect = 1;
    for (int way = 0; way < FALSE_WAYS; way++) {
        hnp_launch launch;
        int fd, port;
        world_make(&w, 2);
        setenv("HONE_INTERFACE", "lo", 1);
        CHECK_OK(hnp_launch_read(&launch, from_world, &w, &error));
        CHECK_OK(hnp_meet_listen(&fd, &port, &launch, &error));
        CHECK_OK(hnp_meet_publish(w.folder, launch.token, port, &error));
        world_start_rank(&w, 1, long_body, 0);
        for (double end = hn_clock() + 2; hn_clock() < end && waitpid(w.pid[1], &w.status[1], WNOHANG) == 0; world_nap(0.01)) {
            int one = accept(fd, NULL, NULL);
            if (one >= 0) be_rank_0(one, &launch, way);
        }
        w.pid[1] = waitpid(w.pid[1], NULL, WNOHANG) < 0 ? 0 : w.pid[1];
        close(fd);
        CHECK(world_wait(&w, 10));
        CHECK_ENDS(1, codes[way], words[way]);
        world_close(&w);
    }
    world_options.connect = before;
}

TEST(no_such_interface)
{
    hnp_launch launch = {.size = 2};
    int fd, port;
    hn_error_reset(&error);
    setenv("HONE_INTERFACE", "no-such-0", 1);
    CHECK_INT(hnp_meet_listen(&fd, &port, &launch, &error), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "HONE_INTERFACE is \"no-such-0\"");
    unsetenv("HONE_INTERFACE");
    hn_error_reset(&error);
    CHECK_OK(hnp_meet_listen(&fd, &port, &launch, &error)); /* of all interfaces */
    CHECK(port > 0);
    launch.port = port;
    launch.ports = 1;
    int second, where;
    CHECK_INT(hnp_meet_listen(&second, &where, &launch, &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "cannot listen on port");
    hn_error_reset(&error);
    launch.ports = 16;
    CHECK_OK(hnp_meet_listen(&second, &where, &launch, &error));
    CHECK(where > port && where < port + 16);
    close(fd);
    close(second);
}

/* Whichever allocation of a rank fails, while they come together or in the first collective: both end, one of them says why (what has
 * no memory to say it may be named by the other), and nothing leaks. From some allocation on all is well. */
static int sweep_memory(int rank, size_t first, int count)
{
    static world many[12];
    int well = 0;
    for (int i = 0; i < count; i++) {
        world_memory[rank] = first + (size_t)i;
        world_start(&many[i], 2, calm_body, 0);
    }
    world_memory[rank] = 0;
    for (int i = 0; i < count; i++) {
        bool ended = world_wait(&many[i], 20), fine = world_code(&many[i], 0) == 0 && world_code(&many[i], 1) == 0;
        bool told = many[i].said[0][0] || many[i].said[1][0];
        if (!ended || strstr(many[i].said[0], "Sanitizer") || strstr(many[i].said[1], "Sanitizer") || (!fine && !told)) {
            fprintf(stderr, "allocation %zu of rank %d: %d and %d; rank 0 said: %s; rank 1: %s\n", first + (size_t)i, rank,
                    world_code(&many[i], 0), world_code(&many[i], 1), many[i].said[0], many[i].said[1]);
            return -1;
        }
        well += fine;
        world_close(&many[i]);
    }
    return well;
}

TEST(no_memory)
{
    double before = world_options.connect;
    world_options.connect = 1.5;
    for (int rank = 0; rank < 2; rank++) {
        int well = 0;
        for (size_t first = 1; well == 0 && first < 200; first += 12) well = sweep_memory(rank, first, 12);
        CHECK(well > 0);
    }
    world_options.connect = before;
}

TEST_MAIN(alarm(200); RUN(by_the_environment); RUN(worlds_of_different_sizes); RUN(a_rank_that_is_there_twice); RUN(ranks_that_do_not_come);
          RUN(a_stop_while_they_come); RUN(strangers); RUN(another_build); RUN(a_rank_that_dies_before_all_are_there); RUN(a_false_rank);
          RUN(a_false_rank_0); RUN(no_such_interface); RUN(no_memory))
