/* Numbers are 8 bytes little-endian, doubles their bits; a text is its length as such a number and its bytes, without a NUL inside.
 * Reading keeps a cursor that is bad once anything did not fit, and a message counts only when the cursor ends at its end. */
#include "train/control/message.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "core/digest.h"

#define MAGIC 0x31656e6f68u /* "hone1": another layout gets another one */

static void put(hn_strbuf *to, uint64_t value)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(value >> (8 * i));
    hn_strbuf_add(to, bytes, sizeof bytes);
}

static void put_double(hn_strbuf *to, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put(to, bits);
}

static void put_text(hn_strbuf *to, const char *text)
{
    put(to, strlen(text));
    hn_strbuf_puts(to, text);
}

typedef struct cursor {
    const unsigned char *at;
    size_t left;
    bool bad;
} cursor;

static cursor begin(const hnp_frame *frame) { return (cursor){frame->body, frame->size, false}; }
static bool whole(const cursor *c) { return !c->bad && c->left == 0; }

static uint64_t take(cursor *c)
{
    uint64_t value = 0;
    if (c->left < 8) c->bad = true;
    if (c->bad) return 0;
    for (int i = 0; i < 8; i++) value |= (uint64_t)c->at[i] << (8 * i);
    c->at += 8;
    c->left -= 8;
    return value;
}

/* A number below `limit`. */
static int take_below(cursor *c, uint64_t limit)
{
    uint64_t value = take(c);
    if (value >= limit) c->bad = true;
    return c->bad ? 0 : (int)value;
}

/* A finite number of seconds, more than none. */
static double take_seconds(cursor *c)
{
    uint64_t bits = take(c);
    double value;
    memcpy(&value, &bits, sizeof value);
    if (!(value > 0 && value < 1e9)) c->bad = true;
    return value;
}

static void take_text(cursor *c, char *out, size_t size)
{
    uint64_t length = take(c);
    if (length >= size || length > c->left || memchr(c->at, 0, (size_t)length)) c->bad = true;
    if (c->bad) length = 0;
    memcpy(out, c->at, (size_t)length);
    out[length] = '\0';
    c->at += length;
    c->left -= (size_t)length;
}

static void put_identity(hn_strbuf *to, const hnp_identity *who)
{
    put_text(to, who->host);
    put(to, who->node);
    put(to, who->space);
    put(to, (uint64_t)who->pid);
    put(to, who->born);
}

static void take_identity(cursor *c, hnp_identity *who)
{
    take_text(c, who->host, sizeof who->host);
    who->node = take(c);
    who->space = take(c);
    who->pid = (int64_t)take(c);
    who->born = take(c);
    if (who->pid <= 1 || who->pid > INT32_MAX) c->bad = true;
}

void hnp_hello_encode(hn_strbuf *to, const hnp_hello *hello)
{
    put(to, MAGIC);
    put(to, hello->token);
    put(to, (uint64_t)hello->rank);
    put(to, (uint64_t)hello->size);
    put_text(to, hello->build);
    put_identity(to, &hello->who);
}

bool hnp_hello_decode(hnp_hello *out, const hnp_frame *frame)
{
    cursor c = begin(frame);
    hnp_hello made = {0};
    if (take(&c) != MAGIC) return false;
    made.token = take(&c);
    made.rank = take_below(&c, HN_RANKS_MOST);
    made.size = take_below(&c, HN_RANKS_MOST + 1);
    take_text(&c, made.build, sizeof made.build);
    take_identity(&c, &made.who);
    if (whole(&c)) *out = made;
    return whole(&c);
}

void hnp_welcome_encode(hn_strbuf *to, const hnp_welcome *welcome)
{
    put(to, MAGIC);
    put(to, welcome->token);
    put_double(to, welcome->limits.timeout);
    put_double(to, welcome->limits.silence);
    put_double(to, welcome->limits.slow);
    put_double(to, welcome->stop_within);
}

bool hnp_welcome_decode(hnp_welcome *out, const hnp_frame *frame)
{
    cursor c = begin(frame);
    hnp_welcome made = {0};
    if (take(&c) != MAGIC) return false;
    made.token = take(&c);
    made.limits.timeout = take_seconds(&c);
    made.limits.silence = take_seconds(&c);
    made.limits.slow = take_seconds(&c);
    made.stop_within = take_seconds(&c);
    if (whole(&c)) *out = made;
    return whole(&c);
}

void hnp_roster_encode(hn_strbuf *to, const hnp_identity *who, int size)
{
    for (int i = 0; i < size; i++) put_identity(to, &who[i]);
}

bool hnp_roster_decode(hnp_identity *who, int size, const hnp_frame *frame)
{
    cursor c = begin(frame);
    hnp_identity one;
    for (int i = 0; i < size; i++) take_identity(&c, &one);
    if (!whole(&c)) return false;
    c = begin(frame);
    for (int i = 0; i < size; i++) take_identity(&c, &who[i]);
    return true;
}

void hnp_beat_encode(hn_strbuf *to, const hnp_beat *beat)
{
    put(to, beat->pulse);
    put(to, beat->entered);
    put(to, beat->reached);
    put(to, beat->finished);
    put(to, beat->bytes);
    put(to, (uint64_t)beat->step);
    put(to, beat->activity);
    put_text(to, beat->operation);
}

bool hnp_beat_decode(hnp_beat *out, const hnp_frame *frame)
{
    cursor c = begin(frame);
    hnp_beat made = {.pulse = take(&c)};
    made.entered = take(&c);
    made.reached = take(&c);
    made.finished = take(&c);
    made.bytes = take(&c);
    made.step = (int64_t)take(&c);
    made.activity = (hn_activity)take_below(&c, HN_ACTIVITY_SLOW + 1);
    take_text(&c, made.operation, sizeof made.operation);
    if (whole(&c)) *out = made;
    return whole(&c);
}

void hnp_abort_encode(hn_strbuf *to, const hnp_abort *end)
{
    put(to, (uint64_t)(end->rank + 1));
    put(to, end->stop);
    put(to, end->status);
    put_text(to, end->line);
}

bool hnp_abort_decode(hnp_abort *out, const hnp_frame *frame, int size)
{
    cursor c = begin(frame);
    hnp_abort made;
    made.rank = take_below(&c, (uint64_t)size + 1) - 1;
    made.stop = take_below(&c, 2);
    made.status = (hn_status)take_below(&c, HN_ERR_INTERRUPTED + 1);
    take_text(&c, made.line, sizeof made.line);
    if (made.status == HN_OK || !whole(&c)) return false;
    *out = made;
    return true;
}

void hnp_call_encode(hn_strbuf *to, const hnp_call *call)
{
    put(to, call->number);
    put(to, call->kind);
    put(to, call->size);
    put_text(to, call->what);
}

bool hnp_call_decode(hnp_call *out, const hnp_frame *frame)
{
    cursor c = begin(frame);
    hnp_call made = {.number = take(&c)};
    made.kind = (hnp_call_kind)take_below(&c, HNP_CALL_KINDS);
    made.size = take(&c);
    take_text(&c, made.what, sizeof made.what);
    if (whole(&c)) *out = made;
    return whole(&c);
}

void hnp_answer_encode(hn_strbuf *to, const hnp_answer *answer)
{
    put(to, answer->number);
    put(to, answer->size);
    put(to, answer->status);
}

bool hnp_answer_decode(hnp_answer *out, const hnp_frame *frame)
{
    cursor c = begin(frame);
    hnp_answer made = {.number = take(&c)};
    made.size = take(&c);
    made.status = (hn_status)take_below(&c, HN_ERR_INTERRUPTED + 1);
    if (whole(&c)) *out = made;
    return whole(&c);
}

/* A file of /proc, whose size nobody knows before; what is longer is cut. Its length, 0 where it cannot be read. */
static size_t read_facts(char *out, size_t size, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, out, size - 1) : 0;
    if (fd >= 0) close(fd);
    if (n < 0) n = 0;
    out[n] = '\0';
    return (size_t)n;
}

/* When a process was started: field 22 of its stat, counted behind its name, which may hold anything. 0: it cannot be told. */
static uint64_t birth(int64_t pid)
{
    char path[64], text[1024], *at;
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    read_facts(text, sizeof text, path);
    at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
    return at ? strtoull(at, NULL, 10) : 0;
}

void hnp_identity_find(hnp_identity *out)
{
    char text[160], boot[64];
    hnp_identity made = {.pid = getpid()};
    if (gethostname(made.host, sizeof made.host - 1)) snprintf(made.host, sizeof made.host, "unnamed");
    size_t size = read_facts(boot, sizeof boot, "/proc/sys/kernel/random/boot_id");
    made.node = size ? hn_digest_bytes(boot, size).low : hn_digest_bytes(made.host, strlen(made.host)).low;
    int used = snprintf(text, sizeof text, "%016llx ", (unsigned long long)made.node);
    ssize_t n = readlink("/proc/self/ns/pid", text + used, sizeof text - (size_t)used - 1);
    if (n > 0) made.space = hn_digest_bytes(text, (size_t)used + (size_t)n).low;
    made.born = birth(made.pid);
    *out = made;
}

void hnp_identity_kill(const hnp_identity *other, const hnp_identity *own)
{
    bool reachable = other->space && other->space == own->space && other->born && other->pid != own->pid;
    if (reachable && birth(other->pid) == other->born) kill((pid_t)other->pid, SIGKILL);
}
