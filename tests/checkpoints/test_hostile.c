/* Checkpoints that somebody made: every digest in them is right, and what they hold is not what hone writes.
 * Each is refused with a message that names the file and what is wrong in it. */
#include "tests/checkpoints/party.h"

#include <hdf5.h>
#include <sys/stat.h>
#include <time.h>

#include "checkpoints/check.h"
#include "checkpoints/manifest.h"

static char h5[128], manifest_path[128];
static const float values[6] = {1, 2, 3, 4, 5, 6};

/* A manifest over the file as it is: one entry a name, all f32 [2, 3] at `offsets` (NULL: 0) with the digest of what
 * stands there. */
static void write_manifest(const char *const *names, size_t count, const uint64_t *offsets)
{
    hnp_entry entries[4];
    hnp_reader reader;
    hn_strbuf text;
    json_t *state = json_object();
    hnp_file rank = {.entries = entries, .count = count};
    hnp_manifest manifest = {.format = HNP_MANIFEST_WHOLE, .step = 1, .ranks = 1, .files = &rank, .state = state};
    if (hnp_reader_open(&reader, h5, NULL) != HN_OK) abort();
    rank.bytes = reader.size;
    if (hnp_reader_digest(&rank.digest, NULL, &reader, 0, reader.size, NULL) != HN_OK) abort();
    for (size_t i = 0; i < count; i++) {
        const hn_tensor shape = hn_tensor_2d(NULL, HN_F32, 2, 3);
        entries[i] = hnp_entry_whole(names[i], &shape);
        entries[i].offset = offsets ? offsets[i] : 0;
        if (hnp_reader_digest(&entries[i].digest, NULL, &reader, entries[i].offset, 24, NULL) != HN_OK) abort();
    }
    hnp_reader_close(&reader);
    hn_strbuf_init(&text);
    hnp_manifest_encode(&text, &manifest);
    if (text.failed || hn_file_commit(manifest_path, text.text, text.length, NULL) != HN_OK) abort();
    hn_strbuf_close(&text);
    json_decref(state);
}

static void begin_case(void)
{
    fresh();
    file_of(h5, 1, "");
    if (hn_folder_make(h5, NULL) != HN_OK) abort();
    file_of(h5, 1, "rank-0.h5");
    file_of(manifest_path, 1, "manifest.json");
}

/* The dataset "x" with these options, type and shape. */
static void put_dataset(hid_t file, const char *name, hid_t type, int rank, const hsize_t *extent,
                        hid_t options)
{
    hid_t space = rank < 0 ? H5Screate(H5S_NULL) : H5Screate_simple(rank, extent, NULL);
    hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, options, H5P_DEFAULT);
    if (dataset < 0) abort();
    if (rank > 0 && H5Tget_class(type) != H5T_STRING)
        H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(dataset);
    H5Sclose(space);
}

static const hsize_t two_three[] = {2, 3}, three_two[] = {3, 2}, six[] = {6};

static void external_link(hid_t file)
{
    H5Lcreate_external("/etc/hostname", "/x", file, "x", H5P_DEFAULT, H5P_DEFAULT);
}
static void soft_loop(hid_t file)
{
    H5Lcreate_soft("/x", file, "x", H5P_DEFAULT, H5P_DEFAULT);
}
static void a_group(hid_t file)
{
    H5Gclose(H5Gcreate2(file, "x", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}
static void root_again(hid_t file)
{
    H5Lcreate_hard(file, "/", file, "x", H5P_DEFAULT, H5P_DEFAULT);
}
static void strings(hid_t file)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, 4);
    put_dataset(file, "x", type, 2, two_three, H5P_DEFAULT);
    H5Tclose(type);
}
static void big_endian(hid_t file)
{
    put_dataset(file, "x", H5T_IEEE_F32BE, 2, two_three, H5P_DEFAULT);
}
static void doubles(hid_t file)
{
    put_dataset(file, "x", H5T_IEEE_F64LE, 2, two_three, H5P_DEFAULT);
}
static void other_shape(hid_t file)
{
    put_dataset(file, "x", H5T_IEEE_F32LE, 2, three_two, H5P_DEFAULT);
}
static void other_rank(hid_t file)
{
    put_dataset(file, "x", H5T_IEEE_F32LE, 1, six, H5P_DEFAULT);
}
static void no_space(hid_t file)
{
    put_dataset(file, "x", H5T_IEEE_F32LE, -1, NULL, H5P_DEFAULT);
}
static void unwritten(hid_t file)
{
    hid_t space = H5Screate_simple(2, two_three, NULL);
    H5Dclose(H5Dcreate2(file, "x", H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Sclose(space);
}
static void another_name(hid_t file)
{
    put_dataset(file, "y", H5T_IEEE_F32LE, 2, two_three, H5P_DEFAULT);
}
static void one_too_many(hid_t file)
{
    put_dataset(file, "x", H5T_IEEE_F32LE, 2, two_three, H5P_DEFAULT);
    put_dataset(file, "y", H5T_IEEE_F32LE, 2, two_three, H5P_DEFAULT);
}
static void with_layout(hid_t file, H5D_layout_t layout)
{
    hid_t options = H5Pcreate(H5P_DATASET_CREATE);
    if (layout == H5D_CHUNKED)
        H5Pset_chunk(options, 2, two_three);
    else
        H5Pset_layout(options, layout);
    put_dataset(file, "x", H5T_IEEE_F32LE, 2, two_three, options);
    H5Pclose(options);
}
static void chunked(hid_t file)
{
    with_layout(file, H5D_CHUNKED);
}
static void compact(hid_t file)
{
    with_layout(file, H5D_COMPACT);
}
static void virtual_layout(hid_t file)
{
    hid_t options = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(2, two_three, NULL);
    H5Pset_virtual(options, space, "/etc/hostname", "/x", space);
    H5Dclose(H5Dcreate2(file, "x", H5T_IEEE_F32LE, space, H5P_DEFAULT, options, H5P_DEFAULT));
    H5Sclose(space);
    H5Pclose(options);
}
static void external_storage(hid_t file)
{
    hid_t options = H5Pcreate(H5P_DATASET_CREATE);
    char raw[128];
    H5Pset_external(options, file_of(raw, 1, "raw.bin"), 0, 24);
    put_dataset(file, "x", H5T_IEEE_F32LE, 2, two_three, options);
    H5Pclose(options);
}

/* A filter that this process does not have when it reads. */
static size_t no_filter(unsigned flags, size_t n, const unsigned values_[], size_t size, size_t *capacity,
                        void **bytes)
{
    (void)flags, (void)n, (void)values_, (void)capacity, (void)bytes;
    return size;
}
static void unknown_filter(hid_t file)
{
    const H5Z_class2_t filter = {H5Z_CLASS_T_VERS, 40000, 1, 1, "unknown", NULL, NULL, no_filter};
    hid_t options = H5Pcreate(H5P_DATASET_CREATE);
    H5Zregister(&filter);
    H5Pset_chunk(options, 2, two_three);
    H5Pset_filter(options, 40000, 0, 0, NULL);
    put_dataset(file, "x", H5T_IEEE_F32LE, 2, two_three, options);
    H5Pclose(options);
}

static char long_name[1100];
static void a_long_name(hid_t file)
{
    memset(long_name, 'n', sizeof long_name - 1);
    put_dataset(file, long_name, H5T_IEEE_F32LE, 2, two_three, H5P_DEFAULT);
}

TEST(refuses_files_that_hone_does_not_write)
{
    static const struct {
        void (*fill)(hid_t file);
        const char *says;
    } cases[] = {
        {external_link, "its root group is not one that hone writes"},
        {soft_loop, "tensor \"x\": expected a dataset, got a link to elsewhere"},
        {a_group, "tensor \"x\": expected a dataset, got something else"},
        {root_again, "tensor \"x\": expected a dataset, got something else"},
        {strings, "tensor \"x\": its dataset is not of type f32"},
        {big_endian, "tensor \"x\": its dataset is not of type f32"},
        {doubles, "tensor \"x\": its dataset is not of type f32"},
        {other_shape, "tensor \"x\": the shape of its dataset is not the expected one"},
        {other_rank, "tensor \"x\": the shape of its dataset is not the expected one"},
        {no_space, "tensor \"x\": the shape of its dataset is not the expected one"},
        {unwritten, "tensor \"x\": its dataset has another size than its shape needs"},
        {another_name, "tensor \"x\": its dataset is missing"},
        {one_too_many, "expected 1 datasets, got 2 links"},
        {a_long_name, "its table of names is not one that hone writes"},
        {chunked, "tensor \"x\": its dataset is not contiguous"},
        {compact, "tensor \"x\": its dataset is not contiguous"},
        {virtual_layout, "tensor \"x\": its dataset is not contiguous"},
        {external_storage, "tensor \"x\": its dataset stands in another file"},
        {unknown_filter, "tensor \"x\": its dataset is not contiguous"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hn_error error = {0};
        hn_strbuf report;
        char folder_path[128];
        clock_t start = clock();
        begin_case();
        hid_t file = H5Fcreate(h5, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        cases[i].fill(file);
        H5Fclose(file);
        if (cases[i].fill == unknown_filter) H5Zunregister(40000);
        write_manifest((const char *const[]){"x"}, 1, NULL);
        hn_strbuf_init(&report);
        hn_status status = hn_checkpoint_verify(file_of(folder_path, 1, ""), &report, &error);
        hn_strbuf_close(&report);
        if (status == HN_OK) TEST_FAIL("case %zu accepted", i);
        CHECK_CONTAINS(error.message, "rank-0.h5: ");
        CHECK_CONTAINS(error.message, cases[i].says);
        CHECK(clock() - start < CLOCKS_PER_SEC);
    }
}

/* A tree that lists the same node three times: what it holds is not gathered three times. */
TEST(a_node_listed_again_and_again_takes_no_memory)
{
    hn_error error = {0};
    hn_strbuf report;
    char folder_path[128];
    unsigned char bytes[4096], *tree;
    const hn_named_tensor x = {"x", hn_tensor_2d((void *)(uintptr_t)values, HN_F32, 2, 3)};
    json_t *state = json_object();
    begin_case();
    CHECK_OK(hn_checkpoint_save(folder, 1, &x, 1, state, NULL, &error));
    json_decref(state);
    FILE *file = fopen(h5, "r+b");
    size_t size = fread(bytes, 1, sizeof bytes, file);
    CHECK((tree = memmem(bytes, size, "TREE", 4)) != NULL);
    tree[6] = 3;
    memcpy(tree + 48, tree + 32, 8);
    memcpy(tree + 64, tree + 32, 8);
    rewind(file);
    CHECK_INT(fwrite(bytes, 1, size, file), size);
    fclose(file);
    write_manifest((const char *const[]){"x"}, 1, NULL);
    hn_strbuf_init(&report);
    CHECK_INT(hn_checkpoint_verify(file_of(folder_path, 1, ""), &report, &error), HN_ERR_FORMAT);
    hn_strbuf_close(&report);
    CHECK_CONTAINS(error.message, "expected 1 datasets, got 2 links or more");
}

/* Up to a tree of links of three levels: HDF5 finds every dataset where the manifest says that it is. */
TEST(agrees_with_hdf5)
{
    enum { MOST = 10000 };
    static hn_named_tensor tensors[MOST];
    static char names[MOST][16];
    static float data[MOST];
    for (int i = 0; i < MOST; i++) {
        snprintf(names[i], sizeof names[i], "t.%d", i * 7919 % MOST);
        data[i] = (float)i;
        tensors[i] = (hn_named_tensor){names[i], hn_tensor_1d(&data[i], HN_F32, 1)};
    }
    for (size_t count = 0; count <= MOST; count = count * 6 + 1 > MOST && count < MOST ? MOST : count * 6 + 1) {
        hn_error error = {0};
        hnp_manifest manifest;
        char folder_path[128];
        json_t *state = json_object();
        begin_case();
        hn_status status = hn_checkpoint_save(folder, 1, tensors, count, state, NULL, &error);
        json_decref(state);
        CHECK_OK(status);
        CHECK_OK(hnp_manifest_read(&manifest, file_of(folder_path, 1, ""), 1, &error));
        hid_t file = H5Fopen(h5, H5F_ACC_RDONLY, H5P_DEFAULT);
        size_t same = 0;
        for (size_t i = 0; i < manifest.count; i++) {
            hid_t dataset = H5Dopen2(file, manifest.entries[i].name, H5P_DEFAULT);
            same += H5Dget_offset(dataset) == manifest.entries[i].offset;
            H5Dclose(dataset);
        }
        H5Fclose(file);
        hnp_manifest_close(&manifest);
        CHECK_INT(same, count);
    }
}

/* Two datasets whose places the manifest has swapped, and two in one place: each digest is right for the place, not for the name. */
TEST(refuses_others_places)
{
    for (int shared = 0; shared < 2; shared++) {
        hn_error error = {0};
        char folder_path[128];
        uint64_t offset[2];
        begin_case();
        hid_t file = H5Fcreate(h5, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        one_too_many(file);
        for (int i = 0; i < 2; i++) {
            hid_t dataset = H5Dopen2(file, i ? "x" : "y", H5P_DEFAULT);
            offset[i] = H5Dget_offset(dataset);
            H5Dclose(dataset);
        }
        H5Fclose(file);
        if (shared) offset[0] = offset[1], offset[1] += 8;
        write_manifest((const char *const[]){"x", "y"}, 2, offset);
        CHECK_INT(hn_checkpoint_verify(file_of(folder_path, 1, ""), NULL, &error), HN_ERR_FORMAT);
        CHECK_CONTAINS(error.message, shared ? "rank-0.h5: tensor \"y\": its bytes are another's too"
                                             : "rank-0.h5: tensor \"x\": expected its bytes at");
    }
}

/* Files that are none. */
TEST(refuses_what_is_no_hdf5_file)
{
    char folder_path[128], other[128];
    for (int i = 0; i < 3; i++) {
        static const char *const says[] = {
            "rank-0.h5: cannot read it: its superblock", "rank-0.h5: cannot open: Too many levels of symbolic links",
            "rank-0.h5: expected a file"};
        hn_error error = {0};
        begin_case();
        if (hn_file_commit(h5, "This is only text, and long enough to be called a file.", 55, NULL) != HN_OK)
            abort();
        write_manifest((const char *const[]){"x"}, 1, NULL);
        if (i == 1) CHECK_INT(rename(h5, file_of(other, 1, "elsewhere.h5")) | symlink("elsewhere.h5", h5), 0);
        if (i == 2) CHECK_INT(unlink(h5) | mkfifo(h5, 0600), 0);
        CHECK(hn_checkpoint_verify(file_of(folder_path, 1, ""), NULL, &error) != HN_OK);
        CHECK_CONTAINS(error.message, says[i]);
    }
}

/* The manifest's text with one part replaced and its digest made right again. */
static void edit_manifest(const char *from, const char *to)
{
    char *text = NULL, digest[HN_DIGEST_TEXT];
    size_t size;
    hn_strbuf out;
    if (hn_file_read(&text, &size, manifest_path, 1 << 20, NULL) != HN_OK) abort();
    char *place = strstr(text, from), *tail = strstr(text, ",\n \"digest\": \"");
    if (!place || !tail || place > tail) abort();
    hn_strbuf_init(&out);
    hn_strbuf_add(&out, text, (size_t)(place - text));
    hn_strbuf_puts(&out, to);
    hn_strbuf_add(&out, place + strlen(from), (size_t)(tail - place) - strlen(from));
    hn_digest_format(digest, hn_digest_bytes(out.text, out.length));
    hn_strbuf_printf(&out, ",\n \"digest\": \"%s\"}\n", digest);
    if (hn_file_commit(manifest_path, out.text, out.length, NULL) != HN_OK) abort();
    hn_strbuf_close(&out);
    hn_free(text);
}

TEST(refuses_manifests)
{
    static const struct {
        const char *from, *to, *says;
        hn_status status;
    } cases[] = {
        {"\"format\": 1", "\"format\": 3", "\"format\": expected 1 or 2, got 3 (written by a later hone)",
         HN_ERR_UNSUPPORTED},
        {"\"format\": 1,", "", "\"format\" is missing", HN_ERR_FORMAT},
        {"\"format\": 1", "\"format\": \"1\"", "\"format\": expected an integer", HN_ERR_FORMAT},
        {"\"world_size\": 1", "\"world_size\": 8", "\"world_size\": expected 1, got 8", HN_ERR_UNSUPPORTED},
        {"\"step\": 9", "\"step\": 8", "\"step\": expected 9 as its folder says, got 8", HN_ERR_FORMAT},
        {"\"step\": 9", "\"step\": -9", "\"step\": expected an integer from 0", HN_ERR_FORMAT},
        {"\"step\": 9,", "", "\"step\" is missing", HN_ERR_FORMAT},
        {"\"state\"", "\"State\"", "the object \"state\" is missing", HN_ERR_FORMAT},
        {"\"rank-0.h5\"", "\"../../x\"", "\"files\": expected rank-0.h5, got \"../../x\"", HN_ERR_FORMAT},
        {"\"files\": [", "\"files\": [{},", "\"files\": expected one file a process, 1, got 2", HN_ERR_FORMAT},
        {"\"tensors\"", "\"Tensors\"", "the list \"tensors\" is missing", HN_ERR_FORMAT},
        {"\"name\": \"half\"", "\"name\": \"counts\"", "tensor \"counts\" stands there twice", HN_ERR_FORMAT},
        {"\"name\": \"half\"", "\"name\": \"a/b\"", "expected text without '/'", HN_ERR_FORMAT},
        {"\"name\": \"half\", ", "", "\"name\": expected text", HN_ERR_FORMAT},
        {"\"bf16\"", "\"fp4\"", "tensor \"half\": \"dtype\": unknown type \"fp4\"", HN_ERR_UNSUPPORTED},
        {"\"bf16\"", "\"f32\"", "tensor \"half\": type and shape need 12 bytes, it says 6 at", HN_ERR_FORMAT},
        {"\"bf16\"", "\"f16\"", NULL,
         HN_OK}, /* the bytes do not tell; the run that loads it asks for its type */
        {"\"shape\": [2, 3]", "\"shape\": [3, 2]",
         "tensor \"layer.0.weight\": the shape of its dataset is not", HN_ERR_FORMAT},
        {"\"shape\": [2, 3]", "\"shape\": [4294967296, 4294967296]", "a product below 2^63", HN_ERR_FORMAT},
        {"\"shape\": [0, 3]", "\"shape\": [4294967296, 4294967296, 0]", "a product below 2^63", HN_ERR_FORMAT},
        {"\"shape\": [2, 3]", "\"shape\": [2, -3]", "expected integers of at least 0", HN_ERR_FORMAT},
        {"\"shape\": [2, 3]", "\"shape\": [1, 1, 1, 1, 6]", "an array of at most 4", HN_ERR_FORMAT},
        {"\"shape\": [2, 3]", "\"shape\": 6", "an array of at most 4", HN_ERR_FORMAT},
        {"\"bytes\": 24", "\"bytes\": 25", "it says 25 at", HN_ERR_FORMAT},
        {"\"bytes\": 24, ", "", "\"offset\" or \"bytes\" is missing", HN_ERR_FORMAT},
        {"\"offset\": ", "\"offset\": 9", "\"offset\": expected an integer from 0", HN_ERR_FORMAT},
        {"\"bytes\": 6,", "\"bytes\": 6, \"bytes\": 6,", "same key twice", HN_ERR_FORMAT},
    };
    hn_error error = {0};
    char folder_path[128];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fresh();
        hn_error_reset(&error);
        CHECK_OK(save_step(9, &error));
        file_of(manifest_path, 9, "manifest.json");
        edit_manifest(cases[i].from, cases[i].to);
        hn_status status = hn_checkpoint_verify(file_of(folder_path, 9, ""), NULL, &error);
        if (status != cases[i].status)
            TEST_FAIL("case %zu (%s): %d, %s", i, cases[i].to, (int)status, error.message);
        if (cases[i].says) CHECK_CONTAINS(error.message, cases[i].says);
        if (status != HN_OK) CHECK_CONTAINS(error.message, folder);
    }
}

static void save_two(int rank, result *out)
{
    (void)rank;
    save_part(9, EVENLY, 0, out);
}

TEST(refuses_manifests_of_pieces)
{
    static const struct {
        const char *from, *to, *says;
        hn_status status;
    } cases[] = {
        {"\"format\": 2", "\"format\": 1", "\"world_size\": expected 1, got 2", HN_ERR_UNSUPPORTED},
        {"\"world_size\": 2", "\"world_size\": 0", "\"world_size\": expected an integer from 1", HN_ERR_FORMAT},
        {"\"world_size\": 2", "\"world_size\": 1", "\"files\": expected one file a process, 1, got 2", HN_ERR_FORMAT},
        {"\"world_size\": 2", "\"world_size\": 1024", "\"files\": expected one file a process, 1024, got 2", HN_ERR_FORMAT},
        {"\"world_size\": 2", "\"world_size\": 1025", "\"world_size\": expected at most 1024, got 1025", HN_ERR_UNSUPPORTED},
        {"\"files\": [", "\"files\": [[],", "\"files\": expected one file a process, 2, got 3", HN_ERR_FORMAT},
        {"\"files\": [", "\"Files\": [", "\"files\": expected one file a process, 2, got 0", HN_ERR_FORMAT},
        {"\"rank-1.h5\"", "\"rank-0.h5\"", "\"files\": expected rank-1.h5, got \"rank-0.h5\"", HN_ERR_FORMAT},
        {"\"rank-1.h5\"", "\"rank-01.h5\"", "\"files\": expected rank-1.h5, got \"rank-01.h5\"", HN_ERR_FORMAT},
        {"\"rank-1.h5\"", "\"../rank-1.h5\"", "\"files\": expected rank-1.h5, got \"../rank-1.h5\"", HN_ERR_FORMAT},
        {"\"rank-1.h5\"", "1", "\"name\": expected a string", HN_ERR_FORMAT},
        {"\"first\": 3, \"count\": 3", "\"first\": 2, \"count\": 3", "\"layer.0.weight\" stands there twice, in rank-0.h5 and rank-1.h5",
         HN_ERR_FORMAT},
        {"\"first\": 0, \"count\": 3", "\"first\": 1, \"count\": 3", "\"layer.0.weight\": element 0 of its 6 is missing", HN_ERR_FORMAT},
        {"\"first\": 3, \"count\": 3", "\"first\": 4, \"count\": 3", "expected some of its 6 elements, got 3 from 4 on", HN_ERR_FORMAT},
        {"\"first\": 3, \"count\": 3", "\"first\": 6, \"count\": 0", "expected some of its 6 elements, got 0 from 6 on", HN_ERR_FORMAT},
        {"\"first\": 3, \"count\": 3", "\"first\": 7, \"count\": 3", "\"first\": expected an integer from 0 to 6", HN_ERR_FORMAT},
        {"\"first\": 3, \"count\": 3", "\"first\": 3, \"count\": 9223372036854775807", "\"count\": expected an integer from 0 to 6", HN_ERR_FORMAT},
        {"\"first\": 3, \"count\": 3", "\"first\": -3, \"count\": 3", "\"first\": expected an integer from 0 to 6", HN_ERR_FORMAT},
        {"\"first\": 3, \"count\": 3", "\"first\": 3.0, \"count\": 3", "\"first\": expected an integer from 0 to 6", HN_ERR_FORMAT},
        {"\"first\": 3, \"count\": 3, ", "\"first\": 3, ", "\"first\" or \"count\" is missing", HN_ERR_FORMAT},
        {"\"first\": 3, \"count\": 3", "\"first\": 3, \"count\": 2", "type and shape need 8 bytes, it says 12 at", HN_ERR_FORMAT},
        {"\"shape\": [2, 3], \"first\": 3", "\"shape\": [3, 2], \"first\": 3", "\"layer.0.weight\" has two types or shapes", HN_ERR_FORMAT},
        {"\"shape\": [2, 3], \"first\": 3", "\"shape\": [4611686018427387904, 2], \"first\": 3", "a product below 2^63", HN_ERR_FORMAT},
        {"\"dtype\": \"f32\", \"shape\": [2, 3], \"first\": 3", "\"dtype\": \"i32\", \"shape\": [2, 3], \"first\": 3",
         "\"layer.0.weight\" has two types or shapes", HN_ERR_FORMAT},
        {"\"name\": \"empty\"", "\"name\": \"half\"", "\"half\" stands there twice", HN_ERR_FORMAT},
        {"\"name\": \"half\"", "\"name\": \"Half\"", "\"Half\": element 1 of its 3 is missing", HN_ERR_FORMAT},
        {"\"name\": \"layer.0.weight\"", "\"name\": \"layer.0.weight:m\"", "\"layer.0.weight\": element 0 of its 6 is missing", HN_ERR_FORMAT},
    };
    hn_error error = {0};
    char folder_path[128];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fresh();
        run_ranks(2, save_two);
        CHECK(all_same(2) && results[0].safe);
        hn_error_reset(&error);
        file_of(manifest_path, 9, "manifest.json");
        edit_manifest(cases[i].from, cases[i].to);
        hn_status status = hn_checkpoint_verify(file_of(folder_path, 9, ""), NULL, &error);
        if (status != cases[i].status)
            TEST_FAIL("case %zu (%s): %d, %s", i, cases[i].to, (int)status, error.message);
        CHECK_CONTAINS(error.message, cases[i].says);
        CHECK_CONTAINS(error.message, folder);
    }
}

/* Two pieces whose places in the tensor the manifest has swapped, with the bytes' right digests: each dataset says whose bytes it has. */
TEST(refuses_others_pieces)
{
    hn_error error = {0};
    char folder_path[128];
    fresh();
    run_ranks(2, save_two);
    CHECK(all_same(2) && results[0].safe);
    file_of(manifest_path, 9, "manifest.json");
    edit_manifest("\"shape\": [2, 3], \"first\": 3, \"count\": 3", "\"shape\": [2, 3], \"first\": 0, \"count\": 3");
    edit_manifest("\"shape\": [2, 3], \"first\": 0, \"count\": 3", "\"shape\": [2, 3], \"first\": 3, \"count\": 3");
    CHECK_INT(hn_checkpoint_verify(file_of(folder_path, 9, ""), NULL, &error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "rank-0.h5: tensor \"layer.0.weight@3\": its dataset is missing");
}

/* What a later hone wrote is neither passed over nor replaced nor a reason to delete anything. */
TEST(a_later_hone)
{
    hn_error error = {0};
    char said[2048];
    fresh();
    CHECK_OK(save_step(8, &error));
    CHECK_OK(save_step(9, &error));
    file_of(manifest_path, 9, "manifest.json");
    edit_manifest("\"format\": 1", "\"format\": 3");
    CHECK_INT(newest(said), -2);
    CHECK_CONTAINS(said, "step-9/manifest.json: \"format\": expected 1 or 2, got 3");
    CHECK_INT(save_step(9, &error), HN_ERR_UNSUPPORTED);
    hn_error_reset(&error);
    CHECK_OK(load_step(8, &error));
}

/* Another run's manifest beside this run's tensors. */
TEST(another_models_manifest)
{
    hn_error error = {0};
    char *text = NULL, said[2048];
    size_t size;
    fresh();
    CHECK_OK(save_step(7, &error));
    file_of(manifest_path, 7, "manifest.json");
    CHECK_OK(hn_file_read(&text, &size, manifest_path, 1 << 20, &error));
    fresh();
    run self;
    run_fill(&self, 70);
    json_t *state = json_object();
    hn_status status = hn_checkpoint_save(folder, 7, self.tensors, TENSORS, state, NULL, &error);
    json_decref(state);
    CHECK_OK(status);
    CHECK_OK(hn_file_commit(manifest_path, text, size, &error));
    hn_free(text);
    CHECK_INT(newest(said), -1);
    CHECK_CONTAINS(said, "rank-0.h5: tensor \"layer.0.weight\": damaged");
}

CHECKPOINT_MAIN(RUN(refuses_files_that_hone_does_not_write); RUN(a_node_listed_again_and_again_takes_no_memory); RUN(agrees_with_hdf5); RUN(refuses_others_places);
                RUN(refuses_what_is_no_hdf5_file); RUN(refuses_manifests); RUN(refuses_manifests_of_pieces);
                RUN(refuses_others_pieces); RUN(a_later_hone);
                RUN(another_models_manifest))
