/* XXH3-128 digests (xxHash): what checkpoints, caches and files are checked with. Not for secrets. */
#ifndef HONE_CORE_DIGEST_H
#define HONE_CORE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

typedef struct hn_digest {
    uint64_t high, low;
} hn_digest;

#define HN_DIGEST_TEXT 33 /* 32 hexadecimal digits and a NUL */

typedef struct hn_hasher hn_hasher;

hn_digest hn_digest_bytes(const void *bytes, size_t size);
hn_status hn_digest_file(hn_digest *out, const char *path, hn_error *error);
bool hn_digest_equal(hn_digest a, hn_digest b);
void hn_digest_format(char text[HN_DIGEST_TEXT], hn_digest digest);
bool hn_digest_parse(hn_digest *out, const char *text);

/* For bytes that come in pieces. NULL: out of memory. */
hn_hasher *hn_hasher_open(void);
void hn_hasher_free(hn_hasher *hasher);
void hn_hasher_add(hn_hasher *hasher, const void *bytes, size_t size);
/* A string with its length before it, so that ("ab","c") and ("a","bc") differ. */
void hn_hasher_add_text(hn_hasher *hasher, const char *text);
hn_digest hn_hasher_digest(const hn_hasher *hasher);

#endif
