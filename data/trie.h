/* A trie over byte strings that is only read once it is made: a double array. Shared inside data/.
 *
 *     child of node s by byte b:  t = units[s].base + b,  a child if units[t].check == s        (root: node
 * 0)
 *
 * `value` is what the string that ends at the node was given, or -1. */
#ifndef HONE_DATA_TRIE_H
#define HONE_DATA_TRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct hnp_key {
    const char *text;
    size_t length;
    int32_t value; /* >= 0 */
} hnp_key;

typedef struct hnp_unit {
    uint32_t base, check;
    int32_t value;
} hnp_unit;

typedef struct hnp_trie {
    hnp_unit *units;
    size_t count, capacity;
    uint32_t hint, end; /* while it is made: no unit before `hint` is free, none from `end` on is taken */
} hnp_trie;

/* Sorts the keys. Of equal keys the one with the largest value counts. false: out of memory. The keys' bytes
 * are not kept. */
bool hnp_trie_init(hnp_trie *trie, hnp_key *keys, size_t count);
void hnp_trie_close(hnp_trie *trie);

/* The node that is reached from `node` by `byte`; 0 (the root, never a child) when there is none. */
static inline uint32_t hnp_trie_step(const hnp_trie *trie, uint32_t node, unsigned char byte)
{
    uint32_t next = trie->units[node].base + byte;
    return trie->units[next].check == node ? next : 0;
}

/* The node at the end of the string; false: no key begins with it. */
bool hnp_trie_walk(const hnp_trie *trie, uint32_t *node, const char *text, size_t length);
/* The value of exactly this string, or -1. */
int32_t hnp_trie_find(const hnp_trie *trie, const char *text, size_t length);

#endif
