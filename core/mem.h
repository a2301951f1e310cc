/* Host memory and checked sizes. Every heap allocation of hone goes through these, so that a test can fail the n-th. */
#ifndef HONE_CORE_MEM_H
#define HONE_CORE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* NULL when out of memory; the caller reports it. A size of 0 gives a unique pointer. */
void *hn_malloc(size_t size);
void *hn_calloc(size_t count, size_t size); /* checks the product */
void *hn_realloc(void *memory, size_t size); /* on failure `memory` stays valid */
void *hn_reallocarray(void *memory, size_t count, size_t size);
char *hn_strdup(const char *text);
char *hn_strndup(const char *text, size_t length);
void *hn_memdup(const void *bytes, size_t size);
void hn_free(void *memory); /* takes NULL */

/* true and the result in *out, or false on overflow with *out untouched. */
bool hn_size_mul(size_t a, size_t b, size_t *out);
bool hn_size_add(size_t a, size_t b, size_t *out);

/* Grows the array at *items (of `size` bytes an item) so that it holds at least `need`, doubling. false: out of memory,
 * nothing changed. */
bool hn_grow(void **items, size_t *capacity, size_t need, size_t size);

/* For tests: the `nth` allocation from now on (1 = the next) fails, and every later one too; 0 ends that. Returns how many
 * allocations were asked for since the last call. */
size_t hn_mem_fail_at(size_t nth);

#endif
