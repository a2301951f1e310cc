/* HDF5 1.10.8 does not stand files that somebody made: of one with right digests and a changed byte in a name table it read behind
 * its buffers within 1,400 tries of a fuzzer. So nothing that is loaded goes through it. What hone has it write is a small part of
 * the format, and always the same one (HDF5 File Format Specification 2.0, version 0 of the superblock); that much is read here,
 * every offset and length checked against the file:
 *
 *     superblock -> root's object header -> symbol table message -> B-tree -> nodes of up to 8 links -> names in the local heap
 *                                                                                     |
 *                                                                                     v
 *     object header of a dataset: dataspace (shape), datatype, layout (offset and size of its bytes)
 *
 * Anything else, a link to elsewhere, a filter, chunks, an external file, a shared type, is refused by name. The walk is bounded by
 * the number of tensors that the manifest names: loops end, and links that are listed again and again take no memory. */
#include "checkpoints/structure.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"

#define UNDEFINED UINT64_MAX
enum { MESSAGES = 64, BLOCKS = 8, DEEPEST = 8 }; /* of an object header; levels of the B-tree */
enum { DATASPACE = 0x01, DATATYPE = 0x03, EXTERNAL = 0x07, LAYOUT = 0x08, FILTERS = 0x0b, CONTINUES = 0x10, SYMBOLS = 0x11 };

typedef struct link_entry {
    const char *name; /* in the mapping */
    uint64_t header;
    bool soft;
} link_entry;

typedef struct structure {
    hn_mapping map;
    const char *path;
    uint64_t names, names_size; /* the local heap's data */
    link_entry *links;
    size_t count, capacity, expected;
    size_t visits; /* nodes of the tree that may still be looked at */
    hn_error *error;
} structure;

/* What an object header says of a dataset: places of the messages in the file, 0 where there is none. */
typedef struct header {
    uint64_t place[SYMBOLS + 1];
    uint32_t size[SYMBOLS + 1];
} header;

/* `size` bytes at `at` lie in the file. */
static bool inside(const structure *self, uint64_t at, uint64_t size)
{
    return at <= self->map.size && size <= self->map.size - at;
}

/* Little-endian, of bytes that lie in the file. */
static uint64_t number(const structure *self, uint64_t at, int size)
{
    uint64_t value = 0;
    while (size-- > 0) value = value << 8 | self->map.bytes[at + (uint64_t)size];
    return value;
}

static bool has(const structure *self, uint64_t at, const char *signature)
{
    return !memcmp(self->map.bytes + at, signature, 4);
}

static hn_status damaged(const structure *self, const char *what)
{
    return hn_fail(self->error, HN_ERR_FORMAT, "%s: cannot read it: its %s is not one that hone writes", self->path, what);
}

static hn_status wrong(const structure *self, const hnp_entry *entry, const char *what)
{
    return hn_fail(self->error, HN_ERR_FORMAT, "%s: tensor \"%s\": %s", self->path, entry->name, what);
}

/* The messages of an object header of version 1, through its continuations; false: it is none. The first of a kind counts, and a
 * shared one is as if it were not there. */
static bool read_header(const structure *self, header *out, uint64_t at)
{
    struct {
        uint64_t at, size;
    } block[BLOCKS];
    int blocks = 1, seen = 0;
    *out = (header){0};
    if (!inside(self, at, 16) || number(self, at, 1) != 1) return false;
    block[0].at = at + 16;
    block[0].size = number(self, at + 8, 4);
    for (int b = 0; b < blocks; b++) {
        if (!inside(self, block[b].at, block[b].size)) return false;
        uint64_t place = block[b].at, end = place + block[b].size;
        while (end - place >= 8) {
            uint64_t kind = number(self, place, 2), size = number(self, place + 2, 2);
            bool shared = number(self, place + 4, 1) & 2;
            place += 8;
            if (size > end - place || ++seen > MESSAGES) return false;
            if (kind == CONTINUES && size >= 16) {
                if (blocks == BLOCKS) return false;
                block[blocks].at = number(self, place, 8);
                block[blocks++].size = number(self, place + 8, 8);
            } else if (kind <= SYMBOLS && !shared && !out->place[kind]) {
                out->place[kind] = place;
                out->size[kind] = (uint32_t)size;
            }
            place += size;
        }
    }
    return true;
}

/* A node of links. */
static hn_status read_links(structure *self, uint64_t at)
{
    if (!inside(self, at, 8) || !has(self, at, "SNOD") || number(self, at + 4, 1) != 1) return damaged(self, "list of links");
    size_t links = (size_t)number(self, at + 6, 2);
    if (!inside(self, at + 8, 40 * (uint64_t)links)) return damaged(self, "list of links");
    if (links > self->expected - self->count)
        return hn_fail(self->error, HN_ERR_FORMAT, "%s: expected %zu datasets, got %zu links or more", self->path, self->expected,
                       self->count + links);
    void *all = self->links;
    if (!hn_grow(&all, &self->capacity, self->count + links, sizeof *self->links))
        return hn_fail(self->error, HN_ERR_MEMORY, "%s: out of memory", self->path);
    self->links = all;
    for (uint64_t place = at + 8; links-- > 0; place += 40) {
        uint64_t name = number(self, place, 8);
        const char *text = (const char *)self->map.bytes + self->names;
        uint64_t room = name < self->names_size ? self->names_size - name : 0;
        if (!memchr(text + name, 0, room < HNP_NAME_ROOM ? room : HNP_NAME_ROOM)) return damaged(self, "table of names");
        self->links[self->count++] = (link_entry){text + name, number(self, place + 8, 8), number(self, place + 16, 4) == 2};
    }
    return HN_OK;
}

/* A node of the B-tree and all below it. The levels go down, and every node is one of `visits`. */
static hn_status read_tree(structure *self, uint64_t at, int above)
{
    if (!self->visits-- || !inside(self, at, 24) || !has(self, at, "TREE") || number(self, at + 4, 1)) return damaged(self, "tree of links");
    int level = (int)number(self, at + 5, 1);
    uint64_t children = number(self, at + 6, 2);
    if (level >= above || !inside(self, at + 24, 8 + 16 * children)) return damaged(self, "tree of links");
    hn_status status = HN_OK;
    for (uint64_t i = 0; i < children && status == HN_OK; i++) {
        uint64_t child = number(self, at + 32 + 16 * i, 8);
        if (level) status = read_tree(self, child, level);
        else if (!self->visits--) status = damaged(self, "tree of links");
        else status = read_links(self, child);
    }
    return status;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const link_entry *)a)->name, ((const link_entry *)b)->name);
}

/* All links of the root group, sorted by name. */
static hn_status read_root(structure *self)
{
    static const unsigned char signature[] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n', 0};
    header root;
    if (!inside(self, 0, 96) || memcmp(self->map.bytes, signature, sizeof signature) || number(self, 13, 2) != 0x0808 ||
        number(self, 24, 8) || number(self, 40, 8) != self->map.size)
        return damaged(self, "superblock");
    if (!read_header(self, &root, number(self, 64, 8)) || root.size[SYMBOLS] < 16) return damaged(self, "root group");
    uint64_t heap = number(self, root.place[SYMBOLS] + 8, 8);
    if (!inside(self, heap, 32) || !has(self, heap, "HEAP")) return damaged(self, "table of names");
    self->names_size = number(self, heap + 8, 8);
    self->names = number(self, heap + 24, 8);
    if (!inside(self, self->names, self->names_size)) return damaged(self, "table of names");
    self->visits = 2 * self->expected + DEEPEST;
    hn_status status = read_tree(self, number(self, root.place[SYMBOLS], 8), DEEPEST);
    if (status == HN_OK && self->count != self->expected)
        status = hn_fail(self->error, HN_ERR_FORMAT, "%s: expected %zu datasets, got %zu links", self->path, self->expected, self->count);
    if (status == HN_OK && self->count) qsort(self->links, self->count, sizeof *self->links, by_name);
    return status;
}

/* Whether the bytes are the datatype message of `type` as it lies in the file: little-endian, IEEE 754 where it has a fraction, 16
 * bits without sign where HDF5 has no such float. */
static bool is_type(const structure *self, const header *one, hn_dtype type)
{
    static const unsigned char f32[20] = {0x11, 0x20, 0x1f, 0, 4, 0, 0, 0, 0, 0, 0x20, 0, 0x17, 8, 0, 0x17, 0x7f, 0, 0, 0},
                               f64[20] = {0x11, 0x20, 0x3f, 0, 8, 0, 0, 0, 0, 0, 0x40, 0, 0x34, 11, 0, 0x34, 0xff, 3, 0, 0};
    const unsigned char *bytes = self->map.bytes + one->place[DATATYPE];
    bool sign = type == HN_I64 || type == HN_I32 || type == HN_I16 || type == HN_I8, fraction = type == HN_F32 || type == HN_F64;
    unsigned char size = (unsigned char)hn_dtype_size(type);
    const unsigned char whole[12] = {0x10, sign ? 8 : 0, 0, 0, size, 0, 0, 0, 0, 0, (unsigned char)(8 * size), 0};
    if (one->size[DATATYPE] < (fraction ? sizeof f32 : sizeof whole)) return false;
    return fraction ? !memcmp(bytes, type == HN_F32 ? f32 : f64, sizeof f32) : !memcmp(bytes, whole, sizeof whole);
}

/* A dataspace message of version 1. */
static bool is_shape(const structure *self, const header *one, const hn_tensor *shape)
{
    uint64_t at = one->place[DATASPACE];
    if (one->size[DATASPACE] < 8 + 8 * (uint32_t)shape->rank || number(self, at, 1) != 1 || number(self, at + 1, 1) != (uint64_t)shape->rank)
        return false;
    for (int i = 0; i < shape->rank; i++)
        if (number(self, at + 8 + 8 * (uint64_t)i, 8) != (uint64_t)shape->shape[i]) return false;
    return true;
}

/* Where the dataset keeps its bytes. */
static hn_status check_storage(const structure *self, const header *one, hnp_entry *entry, bool expect_offset)
{
    uint64_t at = one->place[LAYOUT], bytes = hn_tensor_bytes(&entry->shape);
    if (one->size[LAYOUT] < 18 || number(self, at, 1) != 3 || number(self, at + 1, 1) != 1)
        return wrong(self, entry, "its dataset is not contiguous");
    if (one->place[EXTERNAL]) return wrong(self, entry, "its dataset stands in another file");
    if (one->place[FILTERS]) return wrong(self, entry, "its dataset is stored through a filter");
    uint64_t offset = number(self, at + 2, 8), size = number(self, at + 10, 8);
    if (size != bytes || (bytes && !inside(self, offset, size)))
        return wrong(self, entry, "its dataset has another size than its shape needs, or no place in the file");
    if (!bytes) offset = 0;
    if (expect_offset && offset != entry->offset)
        return hn_fail(self->error, HN_ERR_FORMAT, "%s: tensor \"%s\": expected its bytes at %" PRIu64 ", they are at %" PRIu64,
                       self->path, entry->name, entry->offset, offset);
    entry->offset = offset;
    return HN_OK;
}

static hn_status check_dataset(const structure *self, hnp_entry *entry, bool expect_offset)
{
    header one;
    link_entry key = {.name = entry->name};
    const link_entry *link = self->count ? bsearch(&key, self->links, self->count, sizeof key, by_name) : NULL;
    if (!link) return wrong(self, entry, "its dataset is missing");
    if (link->soft) return wrong(self, entry, "expected a dataset, got a link to elsewhere");
    if (!read_header(self, &one, link->header) || !one.place[DATASPACE] || !one.place[LAYOUT])
        return wrong(self, entry, "expected a dataset, got something else");
    if (!one.place[DATATYPE] || !is_type(self, &one, entry->shape.dtype))
        return hn_fail(self->error, HN_ERR_FORMAT, "%s: tensor \"%s\": its dataset is not of type %s", self->path, entry->name,
                       hn_dtype_name(entry->shape.dtype));
    if (!is_shape(self, &one, &entry->shape)) return wrong(self, entry, "the shape of its dataset is not the manifest's");
    return check_storage(self, &one, entry, expect_offset);
}

hn_status hnp_structure_check(const char *path, hnp_entry *entries, size_t count, bool expect_offsets, hn_error *error)
{
    structure self = {.path = path, .expected = count, .error = error};
    hn_status status = hn_mapping_open(&self.map, path, error);
    if (status != HN_OK) return status;
    status = read_root(&self);
    for (size_t i = 0; i < count && status == HN_OK; i++) status = check_dataset(&self, &entries[i], expect_offsets);
    if (status == HN_OK && !hn_mapping_intact(&self.map))
        status = hn_fail(error, HN_ERR_IO, "%s: it was cut short while it was read", path);
    hn_mapping_close(&self.map);
    hn_free(self.links);
    return status;
}
