/* What the fuzz targets share, and what all of them demand beside no crash, no leak and no run past the time limit:
 *
 *     memory     between fuzz_begin and fuzz_end, whoever allocates, never more than FUZZ_SPARE bytes and FUZZ_TIMES the input's
 *                at a time: no length is believed that the input is too short for (compressed files: fuzz_end_of_file)
 *     refusals   an error has a message, which names the file and holds nothing that drives a terminal
 *
 * An input that stands for several files has them one behind the other, each ended by a NUL (fuzz_part). Where a reader wants
 * paths they stand in a folder of this process, in $TMPDIR or in memory.
 *
 * With HONE_FUZZ_TELL=1 a target says of every input what memory it took and how it was refused. */
#ifndef HONE_TESTS_FUZZ_FUZZ_H
#define HONE_TESTS_FUZZ_FUZZ_H

#include <sanitizer/allocator_interface.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "core/file.h"

#define DEMAND(condition) ((condition) ? (void)0 : fuzz_broken(#condition, __FILE__, __LINE__))
#define FUZZ_SPARE ((int64_t)6 << 20) /* a tokenizer keeps the words of two texts, 2 MiB each; a checkpoint is read by the MiB */
#define FUZZ_TIMES 64

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static _Atomic int64_t fuzz_held, fuzz_peak;

static inline _Noreturn void fuzz_broken(const char *condition, const char *file, int line)
{
    fprintf(stderr, "%s:%d: %s does not hold\n", file, line, condition);
    abort();
}

static inline void fuzz_on_malloc(const volatile void *memory, size_t size)
{
    (void)memory;
    int64_t held = atomic_fetch_add(&fuzz_held, (int64_t)size) + (int64_t)size, peak = fuzz_peak;
    while (held > peak && !atomic_compare_exchange_weak(&fuzz_peak, &peak, held)) continue;
}

static inline void fuzz_on_free(const volatile void *memory)
{
    if (memory) atomic_fetch_sub(&fuzz_held, (int64_t)__sanitizer_get_allocated_size((const void *)memory));
}

/* From here on allocations are counted. */
static inline void fuzz_begin(void)
{
    static bool installed;
    if (!installed) DEMAND(__sanitizer_install_malloc_and_free_hooks(fuzz_on_malloc, fuzz_on_free) > 0);
    installed = true;
    fuzz_held = fuzz_peak = 0;
}

/* What was held at most since then, by an input of `size` bytes. */
static inline void fuzz_end(size_t size)
{
    if (getenv("HONE_FUZZ_TELL")) fprintf(stderr, "%zu bytes took %lld\n", size, (long long)fuzz_peak);
    DEMAND(fuzz_peak <= FUZZ_SPARE + FUZZ_TIMES * (int64_t)size);
}

/* The same for the bytes of a file that a reader opens. gzip and zstd are not held to it: a few bytes are a long text then, and zstd's
 * window is as large as its header says (data/input.c). */
static inline void fuzz_end_of_file(const uint8_t *bytes, size_t size)
{
    bool compressed = size >= 2 && (!memcmp(bytes, "\x1f\x8b", 2) || !memcmp(bytes, "\x28\xb5", 2));
    if (!compressed) fuzz_end(size);
}

/* The message of a failure: it names `file`, and is text. */
static inline void fuzz_refused(const hn_error *error, const char *file)
{
    bool named = error->status && strstr(error->message, file);
    if (!named || getenv("HONE_FUZZ_TELL")) fprintf(stderr, "of %s: %s\n", file, error->message);
    DEMAND(named);
    for (const char *at = error->message; *at; at++) DEMAND((unsigned char)*at >= 0x20 || *at == '\n');
}

/* The bytes up to the next NUL, which is passed over, or all that are left. */
static inline const char *fuzz_part(size_t *length, const uint8_t **bytes, size_t *size)
{
    const char *part = (const char *)*bytes;
    *length = strnlen(part, *size);
    size_t used = *length < *size ? *length + 1 : *size;
    *bytes += used;
    *size -= used;
    return part;
}

static char fuzz_base[96];

static inline void fuzz_remove(void)
{
    hn_folder_remove(fuzz_base, NULL);
}

/* An empty folder, removed at the end. */
static inline const char *fuzz_folder(void)
{
    const char *where = getenv("TMPDIR");
    if (fuzz_base[0]) return fuzz_base;
    if (!where) where = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
    DEMAND((size_t)snprintf(fuzz_base, sizeof fuzz_base, "%s/hone-fuzz-XXXXXX", where) < sizeof fuzz_base && mkdtemp(fuzz_base));
    atexit(fuzz_remove);
    return fuzz_base;
}

/* A file of that folder. */
static inline void fuzz_put(const char *name, const void *bytes, size_t size)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    FILE *file = fopen(path, "wb");
    DEMAND(file && fwrite(bytes, 1, size, file) == size && !fclose(file));
}

#endif
