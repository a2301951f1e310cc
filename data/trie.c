/* See trie.h. The double array of Aoe ("An Efficient Digital Search Algorithm by Using a Double-Array
 * Structure", 1989): a step is two loads and a compare, whatever the number of children, and BERT's 30,522
 * tokens take under 2 MB.
 *
 * Making it: keys are sorted, so that the keys below a node are a range; ranges wait on a stack. A node's
 * base is the first one where all its children's units are free, looked for from `hint` on over at most SCAN
 * units; then it goes to the end of the array, so that no set of keys makes it slow. Units past the last base
 * stay allocated (256 of them), so that a step needs no bounds check; a node without children has base 0,
 * where no unit names it as its parent. */
#include "data/trie.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/mem.h"

#define FREE UINT32_MAX
#define SCAN 64

typedef struct pending {
    uint32_t node;
    size_t first, last,
        depth; /* keys [first, last) share their first `depth` bytes, which lead to the node */
} pending;

typedef struct children {
    unsigned count;
    unsigned char byte[256];
    size_t first[257]; /* keys of child i: [first[i], first[i + 1]) */
} children;

static int compare(const void *left, const void *right)
{
    const hnp_key *a = left, *b = right;
    int order = memcmp(a->text, b->text, a->length < b->length ? a->length : b->length);
    if (order) return order;
    if (a->length != b->length) return a->length < b->length ? -1 : 1;
    return (a->value > b->value) - (a->value < b->value);
}

static bool reserve(hnp_trie *trie, size_t need)
{
    if (need > FREE - 1) return false;
    void *units = trie->units;
    if (!hn_grow(&units, &trie->capacity, need, sizeof(hnp_unit))) return false;
    trie->units = units;
    for (; trie->count < need; trie->count++) trie->units[trie->count] = (hnp_unit){0, FREE, -1};
    return true;
}

/* Every unit of the children is free at this base. */
static bool fits(const hnp_trie *trie, const children *list, uint32_t base)
{
    for (unsigned i = 0; i < list->count; i++) {
        size_t unit = (size_t)base + list->byte[i];
        if (unit < trie->count && trie->units[unit].check != FREE) return false;
    }
    return true;
}

static uint32_t place(const hnp_trie *trie, const children *list)
{
    uint32_t first = list->byte[0], at = trie->hint > first ? trie->hint : first + 1;
    for (uint32_t end = at + SCAN; at < end && at < trie->count; at++)
        if (trie->units[at].check == FREE && fits(trie, list, at - first)) return at - first;
    return trie->end > first ? trie->end - first : 1;
}

static void split(children *out, const hnp_key *keys, size_t first, size_t last, size_t depth)
{
    out->count = 0;
    for (size_t i = first; i < last; i++) {
        unsigned char byte = (unsigned char)keys[i].text[depth];
        if (out->count && out->byte[out->count - 1] == byte) continue;
        out->byte[out->count] = byte;
        out->first[out->count++] = i;
    }
    out->first[out->count] = last;
}

static bool add_children(hnp_trie *trie, uint32_t node, const children *list)
{
    uint32_t base = place(trie, list);
    if (!reserve(trie, (size_t)base + 256)) return false;
    trie->units[node].base = base;
    for (unsigned i = 0; i < list->count; i++) trie->units[base + list->byte[i]].check = node;
    uint32_t last = base + list->byte[list->count - 1];
    if (last >= trie->end) trie->end = last + 1;
    while (trie->hint < trie->count && trie->units[trie->hint].check != FREE) trie->hint++;
    return true;
}

static bool build(hnp_trie *trie, const hnp_key *keys, size_t count)
{
    pending *stack = NULL;
    size_t capacity = 0, waiting = 0;
    bool done = false;
    children list;
    void *memory = NULL;
    if (!hn_grow(&memory, &capacity, 256, sizeof *stack)) goto out;
    stack = memory;
    stack[waiting++] = (pending){0, 0, count, 0};
    while (waiting) {
        pending here = stack[--waiting];
        for (; here.first < here.last && keys[here.first].length == here.depth; here.first++)
            trie->units[here.node].value = keys[here.first].value;
        if (here.first == here.last) continue;
        split(&list, keys, here.first, here.last, here.depth);
        if (!add_children(trie, here.node, &list)) goto out;
        memory = stack;
        if (!hn_grow(&memory, &capacity, waiting + list.count, sizeof *stack)) goto out;
        stack = memory;
        for (unsigned i = list.count; i-- > 0;)
            stack[waiting++] = (pending){trie->units[here.node].base + list.byte[i], list.first[i],
                                         list.first[i + 1], here.depth + 1};
    }
    done = true;
out:
    hn_free(stack);
    return done;
}

bool hnp_trie_init(hnp_trie *trie, hnp_key *keys, size_t count)
{
    *trie = (hnp_trie){.hint = 1, .end = 1};
    if (!reserve(trie, 512)) return false;
    trie->units[0].check = FREE - 1; /* taken, and nobody's child */
    if (count) qsort(keys, count, sizeof *keys, compare);
    if (build(trie, keys, count)) return true;
    hnp_trie_close(trie);
    return false;
}

void hnp_trie_close(hnp_trie *trie)
{
    hn_free(trie->units);
    *trie = (hnp_trie){0};
}

bool hnp_trie_walk(const hnp_trie *trie, uint32_t *node, const char *text, size_t length)
{
    *node = 0;
    for (size_t i = 0; i < length; i++)
        if (!(*node = hnp_trie_step(trie, *node, (unsigned char)text[i]))) return false;
    return true;
}

int32_t hnp_trie_find(const hnp_trie *trie, const char *text, size_t length)
{
    uint32_t node;
    return hnp_trie_walk(trie, &node, text, length) ? trie->units[node].value : -1;
}
