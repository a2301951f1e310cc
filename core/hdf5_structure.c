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
 * Addresses count from the end of the user block, but for the end of the file. Anything else, a link to elsewhere, a filter, chunks,
 * an external file, a shared type, is refused by name. The walk is bounded by the number of datasets that the caller expects: loops
 * end, and links that are listed again and again take no memory. */
#include "core/hdf5_structure.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

#define UNDEFINED UINT64_MAX
enum { MESSAGES = 64, BLOCKS = 8, DEEPEST = 8 }; /* of an object header; levels of the B-tree */
enum { DATASPACE = 0x01, DATATYPE = 0x03, EXTERNAL = 0x07, LAYOUT = 0x08, FILTERS = 0x0b, CONTINUES = 0x10, SYMBOLS = 0x11 };

struct hn_hdf5_link {
    const char *name; /* in the mapping */
    uint64_t header;
    bool soft;
};

/* The walk over the links. */
typedef struct walk {
    hn_hdf5 *file;
    uint64_t names, names_size; /* the local heap's data */
    size_t capacity, expected;
    size_t visits; /* nodes of the tree that may still be looked at */
    hn_error *error;
} walk;

/* What an object header says of a dataset: places of the messages in the file, 0 where there is none. */
typedef struct header {
    uint64_t place[SYMBOLS + 1];
    uint32_t size[SYMBOLS + 1];
} header;

/* `size` bytes at `at` lie in the file. */
static bool inside(const hn_hdf5 *file, uint64_t at, uint64_t size)
{
    uint64_t room = file->map->size - file->start;
    return at <= room && size <= room - at;
}

static const unsigned char *bytes_at(const hn_hdf5 *file, uint64_t at)
{
    return file->map->bytes + file->start + at;
}

/* Little-endian, of bytes that lie in the file. */
static uint64_t number(const hn_hdf5 *file, uint64_t at, int size)
{
    uint64_t value = 0;
    while (size-- > 0) value = value << 8 | bytes_at(file, at)[size];
    return value;
}

static bool has(const hn_hdf5 *file, uint64_t at, const char *signature)
{
    return !memcmp(bytes_at(file, at), signature, 4);
}

static hn_status damaged(const walk *self, const char *what)
{
    return hn_fail(self->error, HN_ERR_FORMAT, "%s: cannot read it: its %s is not one that hone writes", self->file->path, what);
}

/* The messages of an object header of version 1, through its continuations; false: it is none. The first of a kind counts, and a
 * shared one is as if it were not there. */
static bool read_header(const hn_hdf5 *file, header *out, uint64_t at)
{
    struct {
        uint64_t at, size;
    } block[BLOCKS];
    int blocks = 1, seen = 0;
    *out = (header){0};
    if (!inside(file, at, 16) || number(file, at, 1) != 1) return false;
    block[0].at = at + 16;
    block[0].size = number(file, at + 8, 4);
    for (int b = 0; b < blocks; b++) {
        if (!inside(file, block[b].at, block[b].size)) return false;
        uint64_t place = block[b].at, end = place + block[b].size;
        while (end - place >= 8) {
            uint64_t kind = number(file, place, 2), size = number(file, place + 2, 2);
            bool shared = number(file, place + 4, 1) & 2;
            place += 8;
            if (size > end - place || ++seen > MESSAGES) return false;
            if (kind == CONTINUES && size >= 16) {
                if (blocks == BLOCKS) return false;
                block[blocks].at = number(file, place, 8);
                block[blocks++].size = number(file, place + 8, 8);
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
static hn_status read_links(walk *self, uint64_t at)
{
    hn_hdf5 *file = self->file;
    if (!inside(file, at, 8) || !has(file, at, "SNOD") || number(file, at + 4, 1) != 1) return damaged(self, "list of links");
    size_t links = (size_t)number(file, at + 6, 2);
    if (!inside(file, at + 8, 40 * (uint64_t)links)) return damaged(self, "list of links");
    if (links > self->expected - file->count)
        return hn_fail(self->error, HN_ERR_FORMAT, "%s: expected %zu datasets, got %zu links or more", file->path, self->expected,
                       file->count + links);
    void *all = file->links;
    if (!hn_grow(&all, &self->capacity, file->count + links, sizeof *file->links))
        return hn_fail(self->error, HN_ERR_MEMORY, "%s: out of memory", file->path);
    file->links = all;
    for (uint64_t place = at + 8; links-- > 0; place += 40) {
        uint64_t name = number(file, place, 8);
        const char *text = (const char *)bytes_at(file, self->names);
        uint64_t room = name < self->names_size ? self->names_size - name : 0;
        if (!room || !memchr(text + name, 0, room < HN_HDF5_NAME_ROOM ? room : HN_HDF5_NAME_ROOM)) return damaged(self, "table of names");
        file->links[file->count++] = (struct hn_hdf5_link){text + name, number(file, place + 8, 8), number(file, place + 16, 4) == 2};
    }
    return HN_OK;
}

/* A node of the B-tree and all below it. The levels go down, and every node is one of `visits`. */
static hn_status read_tree(walk *self, uint64_t at, int above)
{
    const hn_hdf5 *file = self->file;
    if (!self->visits-- || !inside(file, at, 24) || !has(file, at, "TREE") || number(file, at + 4, 1)) return damaged(self, "tree of links");
    int level = (int)number(file, at + 5, 1);
    uint64_t children = number(file, at + 6, 2);
    if (level >= above || !inside(file, at + 24, 8 + 16 * children)) return damaged(self, "tree of links");
    hn_status status = HN_OK;
    for (uint64_t i = 0; i < children && status == HN_OK; i++) {
        uint64_t child = number(file, at + 32 + 16 * i, 8);
        if (level) status = read_tree(self, child, level);
        else if (!self->visits--) status = damaged(self, "tree of links");
        else status = read_links(self, child);
    }
    return status;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct hn_hdf5_link *)a)->name, ((const struct hn_hdf5_link *)b)->name);
}

/* All links of the root group, sorted by name. */
static hn_status read_root(walk *self)
{
    static const unsigned char signature[] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n', 0};
    hn_hdf5 *file = self->file;
    header root;
    if (!inside(file, 0, 96) || memcmp(bytes_at(file, 0), signature, sizeof signature) || number(file, 13, 2) != 0x0808 ||
        number(file, 24, 8) != file->start || number(file, 40, 8) != file->map->size)
        return damaged(self, "superblock");
    if (!read_header(file, &root, number(file, 64, 8)) || root.size[SYMBOLS] < 16) return damaged(self, "root group");
    uint64_t heap = number(file, root.place[SYMBOLS] + 8, 8);
    if (!inside(file, heap, 32) || !has(file, heap, "HEAP")) return damaged(self, "table of names");
    self->names_size = number(file, heap + 8, 8);
    self->names = number(file, heap + 24, 8);
    if (!inside(file, self->names, self->names_size)) return damaged(self, "table of names");
    self->visits = 2 * self->expected + DEEPEST;
    hn_status status = read_tree(self, number(file, root.place[SYMBOLS], 8), DEEPEST);
    if (status == HN_OK && file->count != self->expected)
        status = hn_fail(self->error, HN_ERR_FORMAT, "%s: expected %zu datasets, got %zu links", file->path, self->expected, file->count);
    if (status == HN_OK && file->count) qsort(file->links, file->count, sizeof *file->links, by_name);
    return status;
}

/* Whether the bytes are the datatype message of `type` as it lies in the file: little-endian, IEEE 754 where it has a fraction, 16
 * bits without sign where HDF5 has no such float. */
static bool is_type(const hn_hdf5 *file, const header *one, hn_dtype type)
{
    static const unsigned char f32[20] = {0x11, 0x20, 0x1f, 0, 4, 0, 0, 0, 0, 0, 0x20, 0, 0x17, 8, 0, 0x17, 0x7f, 0, 0, 0},
                               f64[20] = {0x11, 0x20, 0x3f, 0, 8, 0, 0, 0, 0, 0, 0x40, 0, 0x34, 11, 0, 0x34, 0xff, 3, 0, 0};
    const unsigned char *bytes = bytes_at(file, one->place[DATATYPE]);
    bool sign = type == HN_I64 || type == HN_I32 || type == HN_I16 || type == HN_I8, fraction = type == HN_F32 || type == HN_F64;
    unsigned char size = (unsigned char)hn_dtype_size(type);
    const unsigned char whole[12] = {0x10, sign ? 8 : 0, 0, 0, size, 0, 0, 0, 0, 0, (unsigned char)(8 * size), 0};
    if (one->size[DATATYPE] < (fraction ? sizeof f32 : sizeof whole)) return false;
    return fraction ? !memcmp(bytes, type == HN_F32 ? f32 : f64, sizeof f32) : !memcmp(bytes, whole, sizeof whole);
}

/* A dataspace message of version 1; extents that it decides are filled in. Each of these counts elements that the file has room for. */
static bool take_shape(const hn_hdf5 *file, const header *one, hn_tensor *shape)
{
    uint64_t at = one->place[DATASPACE], most = file->map->size / hn_dtype_size(shape->dtype);
    if (one->size[DATASPACE] < 8 + 8 * (uint32_t)shape->rank || number(file, at, 1) != 1 || number(file, at + 1, 1) != (uint64_t)shape->rank)
        return false;
    for (int i = 0; i < shape->rank; i++) {
        uint64_t extent = number(file, at + 8 + 8 * (uint64_t)i, 8);
        if (shape->shape[i] == HN_HDF5_ANY ? extent > most : extent != (uint64_t)shape->shape[i]) return false;
        shape->shape[i] = (int64_t)extent;
    }
    return true;
}

static bool bytes_of(const hn_tensor *shape, size_t *bytes)
{
    *bytes = hn_dtype_size(shape->dtype);
    for (int i = 0; i < shape->rank; i++)
        if (!hn_size_mul(*bytes, (size_t)shape->shape[i], bytes)) return false;
    return true;
}

/* What is wrong with where the dataset keeps its bytes, or NULL and their offset. */
static const char *check_storage(uint64_t *offset, const hn_hdf5 *file, const header *one, const hn_tensor *shape)
{
    uint64_t at = one->place[LAYOUT];
    size_t bytes;
    if (one->size[LAYOUT] < 18 || number(file, at, 1) != 3 || number(file, at + 1, 1) != 1) return "its dataset is not contiguous";
    if (one->place[EXTERNAL]) return "its dataset stands in another file";
    if (one->place[FILTERS]) return "its dataset is stored through a filter";
    uint64_t place = number(file, at + 2, 8), size = number(file, at + 10, 8);
    if (!bytes_of(shape, &bytes) || size != bytes || (bytes && !inside(file, place, size)))
        return "its dataset has another size than its shape needs, or no place in the file";
    *offset = bytes ? file->start + place : 0;
    return NULL;
}

hn_status hn_hdf5_open(hn_hdf5 *out, const hn_mapping *map, uint64_t user_block, size_t count, const char *path, hn_error *error)
{
    hn_hdf5 file = {.map = map, .path = path, .start = user_block < map->size ? user_block : map->size};
    walk self = {.file = &file, .expected = count, .error = error};
    hn_status status = read_root(&self);
    if (status == HN_OK) *out = file;
    else hn_hdf5_close(&file);
    return status;
}

void hn_hdf5_close(hn_hdf5 *file)
{
    hn_free(file->links);
    *file = (hn_hdf5){0};
}

hn_status hn_hdf5_find(uint64_t *offset, hn_tensor *shape, const hn_hdf5 *file, const char *kind, const char *name, hn_error *error)
{
    header one;
    hn_tensor found = *shape;
    struct hn_hdf5_link key = {.name = name};
    const struct hn_hdf5_link *link = file->count ? bsearch(&key, file->links, file->count, sizeof key, by_name) : NULL;
    const char *wrong = NULL;
    if (!link) wrong = "its dataset is missing";
    else if (link->soft) wrong = "expected a dataset, got a link to elsewhere";
    else if (!read_header(file, &one, link->header) || !one.place[DATASPACE] || !one.place[LAYOUT])
        wrong = "expected a dataset, got something else";
    else if (!one.place[DATATYPE] || !is_type(file, &one, shape->dtype))
        return hn_fail(error, HN_ERR_FORMAT, "%s: %s \"%s\": its dataset is not of type %s", file->path, kind, name,
                       hn_dtype_name(shape->dtype));
    else if (!take_shape(file, &one, &found)) wrong = "the shape of its dataset is not the expected one";
    else wrong = check_storage(offset, file, &one, &found);
    if (wrong) return hn_fail(error, HN_ERR_FORMAT, "%s: %s \"%s\": %s", file->path, kind, name, wrong);
    *shape = found;
    return HN_OK;
}
