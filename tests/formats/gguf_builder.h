/* Builds GGUF files byte by byte, for the tests of the reader and of the import. */
#ifndef HONE_TESTS_FORMATS_GGUF_BUILDER_H
#define HONE_TESTS_FORMATS_GGUF_BUILDER_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct bytes {
    unsigned char data[65536];
    size_t size;
} bytes;

static inline void put(bytes *out, uint64_t value, int size)
{
    if (out->size + (size_t)size > sizeof out->data) abort();
    for (int i = 0; i < size; i++) out->data[out->size++] = (unsigned char)(value >> (8 * i));
}

static inline void put_raw(bytes *out, const void *data, size_t size)
{
    if (out->size + size > sizeof out->data) abort();
    memcpy(out->data + out->size, data, size);
    out->size += size;
}

static inline void put_text(bytes *out, const char *text)
{
    put(out, strlen(text), 8);
    put_raw(out, text, strlen(text));
}

static inline void put_header(bytes *out, uint32_t version, uint64_t tensors, uint64_t keys)
{
    out->size = 0;
    put_raw(out, "GGUF", 4);
    put(out, version, 4);
    put(out, tensors, 8);
    put(out, keys, 8);
}

/* A key and the type of its value, which the caller adds. */
static inline void put_key(bytes *out, const char *key, uint32_t type)
{
    put_text(out, key);
    put(out, type, 4);
}

static inline void put_string_key(bytes *out, const char *key, const char *text)
{
    put_key(out, key, 8);
    put_text(out, text);
}

static inline void put_u32_key(bytes *out, const char *key, uint32_t value)
{
    put_key(out, key, 4);
    put(out, value, 4);
}

static inline void put_array_key(bytes *out, const char *key, uint32_t item, uint64_t count)
{
    put_key(out, key, 9);
    put(out, item, 4);
    put(out, count, 8);
}

static inline void put_f32(bytes *out, float value)
{
    put_raw(out, &value, sizeof value);
}

/* A line of the table of tensors: `first` is the shortest stride, 0: a vector of `second`. */
static inline void put_tensor(bytes *out, const char *name, uint64_t first, uint64_t second, uint32_t type,
                              uint64_t offset)
{
    put_text(out, name);
    put(out, first ? 2 : 1, 4);
    if (first) put(out, first, 8);
    put(out, second, 8);
    put(out, type, 4);
    put(out, offset, 8);
}

static inline void put_padding(bytes *out)
{
    while (out->size % 32) put(out, 0, 1);
}

#endif
