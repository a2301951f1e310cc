/* See mem.h. The counter for failing allocations is the one mutable global of the program: it is zero outside tests. */
#include "core/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_size_t fail_at;
static atomic_size_t asked;

static bool must_fail(void)
{
    size_t number = atomic_fetch_add_explicit(&asked, 1, memory_order_relaxed) + 1;
    size_t limit = atomic_load_explicit(&fail_at, memory_order_relaxed);
    return limit && number >= limit;
}

size_t hn_mem_fail_at(size_t nth)
{
    atomic_store(&fail_at, nth);
    return atomic_exchange(&asked, 0);
}

void *hn_malloc(size_t size)
{
    return must_fail() ? NULL : malloc(size ? size : 1);
}

void *hn_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (must_fail() || !hn_size_mul(count, size, &bytes)) return NULL;
    return bytes ? calloc(count, size) : calloc(1, 1);
}

void *hn_realloc(void *memory, size_t size)
{
    return must_fail() ? NULL : realloc(memory, size ? size : 1);
}

void *hn_reallocarray(void *memory, size_t count, size_t size)
{
    size_t bytes;
    return hn_size_mul(count, size, &bytes) ? hn_realloc(memory, bytes) : NULL;
}

void *hn_memdup(const void *bytes, size_t size)
{
    void *copy = hn_malloc(size);
    if (copy && size) memcpy(copy, bytes, size);
    return copy;
}

char *hn_strndup(const char *text, size_t length)
{
    length = strnlen(text, length);
    char *copy = hn_malloc(length + 1);
    if (copy) {
        memcpy(copy, text, length);
        copy[length] = '\0';
    }
    return copy;
}

char *hn_strdup(const char *text)
{
    return hn_strndup(text, strlen(text));
}

void hn_free(void *memory)
{
    free(memory);
}

bool hn_size_mul(size_t a, size_t b, size_t *out)
{
    size_t result;
    if (__builtin_mul_overflow(a, b, &result)) return false;
    *out = result;
    return true;
}

bool hn_size_add(size_t a, size_t b, size_t *out)
{
    size_t result;
    if (__builtin_add_overflow(a, b, &result)) return false;
    *out = result;
    return true;
}

bool hn_grow(void **items, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity) return true;
    size_t wanted = *capacity ? *capacity : 16;
    while (wanted < need)
        if (!hn_size_mul(wanted, 2, &wanted)) return false;
    void *grown = hn_reallocarray(*items, wanted, size);
    if (!grown) return false;
    *items = grown;
    *capacity = wanted;
    return true;
}
