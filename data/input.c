/* Byte-level input. Three layers in one struct:
 *
 *     raw (file descriptor, or bytes in memory) -> block[] -> plain | inflate | zstd -> caller's buffer
 *
 * Plain reads copy from `block` too: it costs one memcpy, and the first bytes must be seen before anything is
 * known of the file. Memory is bounded: 64 KiB of block, zlib's 32 KiB window, and for zstd the window that a
 * frame asks for, at most 128 MiB. Several gzip members or zstd frames in one file follow each other, as
 * their command-line tools write them. A stream that ends inside a member is an error and never a short file:
 * half a training set must not look like a whole. */
#include "data/input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "core/mem.h"

#define BLOCK 65536
#define ZSTD_WINDOW_LOG 27

typedef enum kind { PLAIN, GZIP, ZSTD } kind;

struct hn_input {
    char *name;
    int fd; /* -1: bytes in memory */
    const unsigned char *bytes;
    size_t left; /* of `bytes` */
    kind kind;
    bool raw_end;
    bool inside; /* a gzip member or zstd frame is open */
    bool inflating;
    z_stream inflater;
    ZSTD_DStream *zstd;
    size_t at, filled; /* unread part of `block` */
    unsigned char block[BLOCK];
};

static void *zlib_alloc(void *opaque, unsigned count, unsigned size)
{
    (void)opaque;
    return hn_calloc(count, size);
}

static void zlib_free(void *opaque, void *memory)
{
    (void)opaque;
    hn_free(memory);
}

/* Fills `block` behind what is unread. Nothing more at the end: raw_end is set. */
static hn_status refill(hn_input *input, hn_error *error)
{
    if (input->at) memmove(input->block, input->block + input->at, input->filled - input->at);
    input->filled -= input->at;
    input->at = 0;
    size_t room = BLOCK - input->filled;
    if (input->fd < 0) {
        size_t size = input->left < room ? input->left : room;
        if (size) memcpy(input->block + input->filled, input->bytes, size);
        input->bytes += size;
        input->left -= size;
        input->filled += size;
        input->raw_end = size == 0;
        return HN_OK;
    }
    ssize_t size;
    do size = read(input->fd, input->block + input->filled, room);
    while (size < 0 && errno == EINTR);
    if (size < 0) return hn_fail_errno(error, "%s: reading", input->name);
    input->filled += (size_t)size;
    input->raw_end = size == 0;
    return HN_OK;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && !strcmp(text + length - tail, end);
}

static hn_status detect(hn_input *input, hn_error *error)
{
    while (input->filled < 4 && !input->raw_end) {
        hn_status status = refill(input, error);
        if (status) return status;
    }
    const unsigned char *b = input->block;
    if (input->filled >= 2 && b[0] == 0x1f && b[1] == 0x8b) input->kind = GZIP;
    if (input->filled >= 4 && !memcmp(b, "\x28\xb5\x2f\xfd", 4)) input->kind = ZSTD;
    if (input->kind != GZIP && ends_with(input->name, ".gz"))
        return hn_fail(error, HN_ERR_FORMAT, "%s: expected gzip data by its name, got other bytes",
                       input->name);
    if (input->kind != ZSTD && ends_with(input->name, ".zst"))
        return hn_fail(error, HN_ERR_FORMAT, "%s: expected zstd data by its name, got other bytes",
                       input->name);
    if (input->kind == ZSTD) {
        input->zstd = ZSTD_createDStream();
        if (!input->zstd ||
            ZSTD_isError(ZSTD_DCtx_setParameter(input->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG)))
            return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", input->name);
    }
    return HN_OK;
}

static hn_status open_common(hn_input **out, const char *name, int fd, const void *bytes, size_t size,
                             hn_error *error)
{
    hn_input *input = hn_calloc(1, sizeof *input);
    if (!input) {
        if (fd > 0) close(fd);
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", name);
    }
    input->fd = fd;
    input->bytes = bytes;
    input->left = size;
    input->name = hn_strdup(name);
    hn_status status =
        input->name ? detect(input, error) : hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", name);
    if (status)
        hn_input_free(input);
    else
        *out = input;
    return status;
}

hn_status hn_input_open(hn_input **out, const char *path, hn_error *error)
{
    if (!strcmp(path, "-")) return open_common(out, "standard input", 0, NULL, 0, error);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (fd < 0) return hn_fail_errno(error, "%s: opening", path);
    if (fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
        close(fd);
        return hn_fail(error, HN_ERR_IO, "%s: expected a file, got a folder", path);
    }
    return open_common(out, path, fd, NULL, 0, error);
}

hn_status hn_input_open_bytes(hn_input **out, const void *bytes, size_t size, const char *name,
                              hn_error *error)
{
    return open_common(out, name, -1, bytes, size, error);
}

static hn_status damaged(hn_input *input, const char *what, hn_error *error)
{
    return hn_fail(error, HN_ERR_FORMAT, "%s: damaged %s data: %s", input->name,
                   input->kind == GZIP ? "gzip" : "zstd", what ? what : "it cannot be decompressed");
}

static hn_status gzip_begin(hn_input *input, hn_error *error)
{
    const unsigned char *b = input->block + input->at;
    if (input->filled - input->at < 2 || b[0] != 0x1f || b[1] != 0x8b)
        return damaged(input, "other bytes follow the end of the stream", error);
    input->inflater.zalloc = zlib_alloc;
    input->inflater.zfree = zlib_free;
    int code =
        input->inflating ? inflateReset2(&input->inflater, 15 + 16) : inflateInit2(&input->inflater, 15 + 16);
    if (code != Z_OK) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", input->name);
    input->inflating = input->inside = true;
    return HN_OK;
}

static hn_status gzip_step(hn_input *input, void *buffer, size_t capacity, size_t *got, hn_error *error)
{
    if (!input->inside) {
        hn_status status = gzip_begin(input, error);
        if (status) return status;
    }
    z_stream *z = &input->inflater;
    z->next_in = input->block + input->at;
    z->avail_in = (unsigned)(input->filled - input->at);
    z->next_out = buffer;
    z->avail_out = (unsigned)(capacity < 1u << 30 ? capacity : 1u << 30);
    unsigned room = z->avail_out;
    int code = inflate(z, Z_NO_FLUSH);
    input->at = input->filled - z->avail_in;
    *got = room - z->avail_out;
    if (code == Z_STREAM_END)
        input->inside = false;
    else if (code == Z_MEM_ERROR)
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", input->name);
    else if (code != Z_OK && code != Z_BUF_ERROR)
        return damaged(input, z->msg, error);
    return HN_OK;
}

static hn_status zstd_step(hn_input *input, void *buffer, size_t capacity, size_t *got, hn_error *error)
{
    ZSTD_inBuffer from = {input->block, input->filled, input->at};
    ZSTD_outBuffer to = {buffer, capacity, 0};
    size_t code = ZSTD_decompressStream(input->zstd, &to, &from);
    input->at = from.pos;
    *got = to.pos;
    if (!ZSTD_isError(code))
        input->inside = code != 0;
    else if (ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation)
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", input->name);
    else
        return damaged(input, ZSTD_getErrorName(code), error);
    return HN_OK;
}

hn_status hn_input_read(hn_input *input, void *buffer, size_t capacity, size_t *got, hn_error *error)
{
    HN_ASSERT(capacity > 0);
    for (*got = 0; !*got;) {
        if (input->filled - input->at < 2 && !input->raw_end) {
            hn_status status = refill(input, error);
            if (status) return status;
            continue;
        }
        size_t have = input->filled - input->at;
        if (input->kind == PLAIN) {
            *got = have < capacity ? have : capacity;
            memcpy(buffer, input->block + input->at, *got);
            input->at += *got;
            return HN_OK;
        }
        if (!have && !input->inside) return HN_OK;
        hn_status status = (input->kind == GZIP ? gzip_step : zstd_step)(input, buffer, capacity, got, error);
        if (status) return status;
        if (!*got && input->inside && input->raw_end && input->at == input->filled)
            return damaged(input, "it ends early", error);
    }
    return HN_OK;
}

const char *hn_input_name(const hn_input *input)
{
    return input->name;
}

void hn_input_free(hn_input *input)
{
    if (!input) return;
    if (input->inflating) inflateEnd(&input->inflater);
    if (input->zstd) ZSTD_freeDStream(input->zstd);
    if (input->fd > 0) close(input->fd);
    hn_free(input->name);
    hn_free(input);
}
