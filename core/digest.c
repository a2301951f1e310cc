/* XXH3-128 by the xxHash library. A digest is written as the 128-bit number it is, upper half first, which is
 * also what the xxh128sum tool prints, so that a manifest can be checked without hone. */
#define XXH_STATIC_LINKING_ONLY /* the size of XXH3_state_t, so that its memory comes from hn_malloc */
#include "core/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/mem.h"

/* The state must lie on 64 bytes, which hn_malloc does not promise: it stands at the first such place of
 * `room`. */
struct hn_hasher {
    XXH3_state_t *state;
    unsigned char room[sizeof(XXH3_state_t) + 63];
};

enum { BLOCK = 1 << 18 };

static hn_digest from_xxh(XXH128_hash_t hash)
{
    return (hn_digest){.high = hash.high64, .low = hash.low64};
}

hn_digest hn_digest_bytes(const void *bytes, size_t size)
{
    return from_xxh(XXH3_128bits(bytes, size));
}

/* Read, not mapped: a file cut short under a mapping is a SIGBUS. */
hn_status hn_digest_file(hn_digest *out, const char *path, hn_error *error)
{
    hn_status status = HN_OK;
    struct stat info;
    char *block = hn_malloc(BLOCK);
    hn_hasher *hasher = hn_hasher_open();
    int fd = -1;
    if (!block || !hasher) {
        status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory while computing its digest", path);
        goto out;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &info)) {
        status = hn_fail_errno(error, "%s: cannot open", path);
        goto out;
    }
    if (!S_ISREG(info.st_mode)) {
        status = hn_fail(error, HN_ERR_IO, "%s: expected a file, got a folder or a device", path);
        goto out;
    }
    for (;;) {
        ssize_t got = read(fd, block, BLOCK);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) status = hn_fail_errno(error, "%s: cannot read", path);
        if (got <= 0) break;
        hn_hasher_add(hasher, block, (size_t)got);
    }
    if (status == HN_OK) *out = hn_hasher_digest(hasher);
out:
    if (fd >= 0) close(fd);
    hn_hasher_free(hasher);
    hn_free(block);
    return status;
}

bool hn_digest_equal(hn_digest a, hn_digest b)
{
    return a.high == b.high && a.low == b.low;
}

void hn_digest_format(char text[HN_DIGEST_TEXT], hn_digest digest)
{
    snprintf(text, HN_DIGEST_TEXT, "%016" PRIx64 "%016" PRIx64, digest.high, digest.low);
}

bool hn_digest_parse(hn_digest *out, const char *text)
{
    uint64_t half[2] = {0, 0};
    if (strlen(text) != HN_DIGEST_TEXT - 1) return false;
    for (int i = 0; i < HN_DIGEST_TEXT - 1; i++) {
        char c = text[i];
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a' + 10);
        else
            return false;
        half[i / 16] = half[i / 16] << 4 | digit;
    }
    *out = (hn_digest){.high = half[0], .low = half[1]};
    return true;
}

hn_hasher *hn_hasher_open(void)
{
    hn_hasher *hasher = hn_malloc(sizeof *hasher);
    if (!hasher) return NULL;
    hasher->state = (XXH3_state_t *)(((uintptr_t)hasher->room + 63) & ~(uintptr_t)63);
    XXH3_INITSTATE(hasher->state);
    XXH3_128bits_reset(hasher->state);
    return hasher;
}

void hn_hasher_free(hn_hasher *hasher)
{
    hn_free(hasher);
}

void hn_hasher_add(hn_hasher *hasher, const void *bytes, size_t size)
{
    if (size) XXH3_128bits_update(hasher->state, bytes, size);
}

void hn_hasher_add_text(hn_hasher *hasher, const char *text)
{
    uint64_t length = strlen(text);
    hn_hasher_add(hasher, &length, sizeof length);
    hn_hasher_add(hasher, text, length);
}

hn_digest hn_hasher_digest(const hn_hasher *hasher)
{
    return from_xxh(XXH3_128bits_digest(hasher->state));
}
