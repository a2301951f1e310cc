/* The parts of the control plane without processes: messages and frames as hostile bytes, the hub's calls, the flight recorder. */
#include <sys/socket.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"
#include "tests/test.h"
#include "train/control/hub.h"
#include "train/control/message.h"
#include "train/control/recorder.h"

static hn_error error;
static hn_strbuf text;

static hnp_frame frame_of(const void *bytes, size_t size) { return (hnp_frame){.size = size, .body = bytes}; }

static const hnp_identity me = {"n2", 1, 2, 4711, 99};

static bool decode(int kind, const hnp_frame *frame)
{
    static union {
        hnp_hello hello;
        hnp_welcome welcome;
        hnp_identity who[2];
        hnp_beat beat;
        hnp_abort end;
        hnp_call call;
        hnp_answer answer;
    } out;
    switch (kind) {
    case 0: return hnp_hello_decode(&out.hello, frame);
    case 1: return hnp_welcome_decode(&out.welcome, frame);
    case 2: return hnp_roster_decode(out.who, 2, frame);
    case 3: return hnp_beat_decode(&out.beat, frame);
    case 4: return hnp_abort_decode(&out.end, frame, 4);
    case 5: return hnp_call_decode(&out.call, frame);
    default: return hnp_answer_decode(&out.answer, frame);
    }
}

static void encode(int kind)
{
    hn_strbuf_reset(&text);
    switch (kind) {
    case 0: hnp_hello_encode(&text, &(hnp_hello){.token = 5, .rank = 1, .size = 4, .build = "b", .who = me}); break;
    case 1: hnp_welcome_encode(&text, &(hnp_welcome){5, {20, 10, 120}, 60}); break;
    case 2: hnp_roster_encode(&text, (hnp_identity[]){me, me}, 2); break;
    case 3: hnp_beat_encode(&text, &(hnp_beat){.pulse = 1, .step = -1, .activity = HN_ACTIVITY_WAIT, .operation = "x"}); break;
    case 4: hnp_abort_encode(&text, &(hnp_abort){.rank = 3, .status = HN_ERR_IO, .line = "gone"}); break;
    case 5: hnp_call_encode(&text, &(hnp_call){3, HNP_CALL_AGREE, "data", 1000}); break;
    default: hnp_answer_encode(&text, &(hnp_answer){3, 17, HN_ERR_IO}); break;
    }
}

/* Cut short anywhere or with a byte behind it, none is a message; with any byte changed it may be, and is read within its bounds
 * (the sanitizers look). */
TEST(messages_are_hostile)
{
    for (int kind = 0; kind < 7; kind++) {
        encode(kind);
        hnp_frame frame = frame_of(text.text, text.length);
        if (!decode(kind, &frame)) TEST_FAIL("kind %d is not read back", kind);
        for (size_t n = 0; n <= text.length + 1; n++) {
            unsigned char *copy = calloc(1, n ? n : 1);
            memcpy(copy, text.text, n < text.length ? n : text.length);
            frame = frame_of(copy, n);
            if (decode(kind, &frame) != (n == text.length)) TEST_FAIL("kind %d with %zu of %zu bytes", kind, n, text.length);
            if (n == text.length)
                for (size_t i = 0; i < n * 256; i++) {
                    unsigned char was = copy[i / 256];
                    copy[i / 256] = (unsigned char)i;
                    decode(kind, &frame);
                    copy[i / 256] = was;
                }
            free(copy);
        }
    }
}

TEST(values_come_back)
{
    hnp_frame frame;
    hnp_hello hello;
    hnp_beat beat;
    hnp_abort end;
    encode(0);
    frame = frame_of(text.text, text.length);
    CHECK(hnp_hello_decode(&hello, &frame));
    CHECK(hello.token == 5 && hello.rank == 1 && hello.size == 4 && hello.who.pid == 4711 && hello.who.born == 99);
    CHECK_TEXT(hello.who.host, "n2");
    encode(3);
    frame = frame_of(text.text, text.length);
    CHECK(hnp_beat_decode(&beat, &frame));
    CHECK(beat.step == -1 && beat.activity == HN_ACTIVITY_WAIT && beat.pulse == 1);
    encode(4);
    frame = frame_of(text.text, text.length);
    CHECK(hnp_abort_decode(&end, &frame, 4));
    CHECK(!hnp_abort_decode(&end, &frame, 3));
    CHECK_INT(end.rank, 3);
    CHECK_TEXT(end.line, "gone");
}

/* Frames through a socket that takes few bytes at a time: all kinds of sizes arrive, in order and whole. */
TEST(wires)
{
    static const size_t sizes[] = {0, 1, 1000, 65536, HNP_FRAME_MOST, 7};
    int pair[2], small = 4096, got = 0;
    hnp_wire a, b;
    hnp_frame frame;
    const char *why;
    unsigned char *bytes = malloc(HNP_FRAME_MOST);
    for (size_t i = 0; i < HNP_FRAME_MOST; i++) bytes[i] = (unsigned char)(i * 7 + i / 999);
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    hnp_wire_init(&a, pair[0], 3, 0, 0);
    hnp_wire_init(&b, pair[1], 0, 3, HNP_ALLOW(PIECE));
    hnp_body *body = hnp_body_new(HNP_FRAME_MOST);
    memcpy(body->bytes, bytes, HNP_FRAME_MOST);
    for (int i = 0; i < 6; i++) {
        if (i % 2) CHECK(hnp_wire_lend(&a, HNP_FRAME_PIECE, bytes, sizes[i]));
        if (i % 2 == 0) CHECK(hnp_wire_share(&a, HNP_FRAME_PIECE, body, 0, sizes[i]));
    }
    hnp_body_release(body);
    for (int rounds = 0; got < 6 && rounds < 100000; rounds++) {
        hnp_wire_flush(&a);
        CHECK(hnp_wire_fill(&b));
        while (hnp_wire_next(&b, &frame, &why) > 0) {
            CHECK_INT(frame.size, sizes[got]);
            CHECK_INT(memcmp(frame.body, bytes, frame.size), 0);
            got++;
        }
    }
    CHECK_INT(got, 6);
    CHECK(!hnp_wire_waits(&a) && !b.ended);
    hnp_wire_close(&a);
    CHECK(hnp_wire_fill(&b) && b.ended);
    CHECK(hnp_wire_send(&b, HNP_FRAME_STOP, "", 0) && b.deaf); /* to nobody: no signal, no error but this */
    hnp_wire_close(&b);
    free(bytes);
}

static hnp_identity names[3] = {{.host = "n0"}, {.host = "n1"}, {.host = "n2"}};
static hnp_hub hub;
static hnp_answer answer;
static hnp_body *body;

static const char *bring(int rank, hnp_call_kind kind, const char *bytes)
{
    hnp_call call = {.number = hub.number, .kind = kind, .what = "w", .size = strlen(bytes)};
    const char *why = hnp_hub_call(&hub, rank, &call);
    return why ? why : hnp_hub_piece(&hub, rank, bytes, strlen(bytes));
}

/* The answer's bytes as text. */
static const char *answered(void)
{
    static char out[600];
    if (!hnp_hub_ready(&hub) || !hnp_hub_answer(&hub, &answer, &body, names)) return "none";
    snprintf(out, sizeof out, "%.*s", (int)body->size, (const char *)body->bytes);
    hnp_body_release(body);
    return out;
}

TEST(hub)
{
    CHECK_OK(hnp_hub_init(&hub, 3, &error));
    CHECK(!bring(2, HNP_CALL_BROADCAST, ""));
    CHECK(hnp_hub_called(&hub, 2) && !hnp_hub_called(&hub, 0));
    CHECK_CONTAINS(bring(2, HNP_CALL_BROADCAST, ""), "while it is in another one");
    CHECK(!bring(0, HNP_CALL_BROADCAST, "hello") && !hnp_hub_ready(&hub));
    CHECK(!bring(1, HNP_CALL_BROADCAST, ""));
    CHECK_TEXT(answered(), "hello");
    CHECK_INT(answer.number, 0);
    CHECK_INT(answer.size, 5);
    for (int i = 0; i < 3; i++) CHECK(!bring(i, HNP_CALL_AGREE, ""));
    CHECK_TEXT(answered(), "");
    CHECK_INT(answer.status, HN_OK);
    for (int i = 0; i < 3; i++) CHECK(!bring(i, HNP_CALL_AGREE, i ? "\002no" : ""));
    CHECK_TEXT(answered(), "rank 1 (n1): no");
    CHECK_INT(answer.status, HN_ERR_IO);
    for (int i = 0; i < 3; i++) CHECK(!bring(i, HNP_CALL_AGREE, i == 2 ? "\177odd" : "")); /* a status that there is not */
    CHECK_TEXT(answered(), "rank 2 (n2): odd");
    CHECK_INT(answer.status, HN_ERR_MISMATCH);
    CHECK_CONTAINS(hnp_hub_piece(&hub, 1, "x", 1), "belong to no collective");
    for (int i = 0; i < 3; i++) CHECK(!bring(i, i == 1 ? HNP_CALL_CLOSE : HNP_CALL_BARRIER, ""));
    CHECK_TEXT(answered(), "rank 1 (n1) is in the end \"w\", rank 0 (n0) in barrier \"w\"; expected the same call");
    hnp_hub_close(&hub);
}

/* Whichever allocation fails: an error of the call, on all, or none. */
TEST(hub_without_memory)
{
    for (size_t nth = 1; nth <= 4; nth++) {
        CHECK_OK(hnp_hub_init(&hub, 3, &error));
        hn_mem_fail_at(nth);
        for (int i = 0; i < 3; i++) bring(i, HNP_CALL_GATHER, "abc");
        bool made = hnp_hub_ready(&hub) && hnp_hub_answer(&hub, &answer, &body, names);
        hn_mem_fail_at(0);
        CHECK(!made);
        CHECK(hnp_hub_ready(&hub));
        bool over = nth < 4;
        CHECK(hnp_hub_answer(&hub, &answer, &body, names));
        CHECK_INT(answer.status, over ? HN_ERR_MEMORY : HN_OK);
        hnp_body_release(body);
        hnp_hub_close(&hub);
    }
}

TEST(recorder)
{
    static hnp_recorder recorder;
    char path[] = "/tmp/hone-recorder-XXXXXX", *read;
    size_t size;
    int fd = mkstemp(path);
    hnp_recorder_init(&recorder);
    for (int i = 0; i < 300; i++) {
        char name[40];
        snprintf(name, sizeof name, "operation %d", i);
        uint64_t number = hnp_recorder_begin(&recorder, name, (uint64_t)i);
        if (i != 299) hnp_recorder_end(&recorder, number);
        hnp_recorder_notice(&recorder, name);
    }
    hnp_recorder_end(&recorder, 3); /* forgotten */
    CHECK_OK(hnp_recorder_write(&recorder, path, "the reason", &error));
    CHECK_OK(hn_file_read(&read, &size, path, 1 << 20, &error));
    CHECK(!strncmp(read, "the reason\n", 11));
    CHECK_CONTAINS(read, " 44 operation 44\n");
    CHECK_CONTAINS(read, " - 299 operation 299\n");
    CHECK_CONTAINS(read, " operation 236\n");
    CHECK(!strstr(read, " 43 operation 43\n") && !strstr(read, " operation 235\n0") && !strstr(read, " - 298"));
    hn_free(read);
    close(fd);
    unlink(path);
    CHECK_INT(hnp_recorder_write(&recorder, "/nowhere/at/all", "x", &error), HN_ERR_IO);
    hnp_recorder_close(&recorder);
}

TEST_MAIN(hn_strbuf_init(&text); RUN(messages_are_hostile); RUN(values_come_back); RUN(wires); RUN(hub); RUN(hub_without_memory);
          RUN(recorder); hn_strbuf_close(&text))
