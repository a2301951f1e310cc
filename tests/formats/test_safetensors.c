/* safetensors: what is read, what is refused and how it is said, what is written. Every refusal must name the
 * file and the field, take less than a second, and stay within memory that is set at the start. */
#include "formats/safetensors.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/json.h"
#include "core/mem.h"
#include "core/strbuf.h"
#include "tests/test.h"

#define NAME "strange.safetensors"

static char folder[] = "/tmp/hone-safetensors-XXXXXX"; /* a fresh one for the program */
static char path[64];

static const char *in(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* A file of exactly these parts on the heap, so that a read past its end is seen. `claimed` is the header
 * length it tells. */
static unsigned char *assemble(uint64_t claimed, const char *header, size_t length, size_t data, size_t *size)
{
    *size = 8 + length + data;
    unsigned char *bytes = malloc(*size);
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(claimed >> (8 * i));
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data; i++) bytes[8 + length + i] = (unsigned char)i;
    return bytes;
}

static hn_status open_parts(hn_error *error, uint64_t claimed, const char *header, size_t length, size_t data)
{
    size_t size;
    hn_safetensors *file = NULL;
    unsigned char *bytes = assemble(claimed, header, length, data, &size);
    double start = cpu_seconds();
    hn_status status = hn_safetensors_open_bytes(&file, bytes, size, NAME, error);
    if (cpu_seconds() - start > 5.0) fprintf(stderr, "took %.2f s\n", cpu_seconds() - start), test_failures++;
    hn_safetensors_free(file);
    free(bytes);
    return status;
}

static hn_status open_header(hn_error *error, const char *header, size_t data)
{
    return open_parts(error, strlen(header), header, strlen(header), data);
}

/* Refused headers: each with the data bytes behind it and a part of what must be said. */
static const struct {
    const char *what, *header;
    size_t data;
    const char *says;
} refused[] = {
    {"not UTF-8", "{\"a\xff\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "header:1:"},
    {"not JSON", "{dtype}", 0, "header:1:"},
    {"cut JSON", "{\"a\":", 0, "ends too early"},
    {"top-level array", "[1,2]", 0, "begins with '{'"},
    {"leading blank", " {\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     "begins with '{', got byte 0x20"},
    {"bytes after the JSON", "{}x", 0, "more text after the value"},
    {"second object", "{}{}", 0, "more text after the value"},
    {"duplicate tensor",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[1],"
     "\"data_offsets\":[1,2]}}",
     2, "same key twice"},
    {"duplicate data_offsets",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"data_offsets\":[0,1]}}", 1,
     "same key twice"},
    {"negative offset", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[-1,1]}}", 1,
     "tensor \"a\": data_offsets: expected 0 <= begin <= end <= 1 (the bytes behind the header), got [-1, "
     "1]"},
    {"end before begin", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]}}", 1,
     "data_offsets: expected 0 <="},
    {"end behind the file", "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 2,
     "got [0, 3]"},
    {"end of 2^63-1",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[9223372036854775807],\"data_offsets\":[0,9223372036854775807]}}", 2,
     "data_offsets: expected 0 <="},
    {"offset of 2^64", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,18446744073709551616]}}",
     1, "integers below 2^63"},
    {"offset 1.0", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1.0]}}", 1,
     "data_offsets: expected two integers"},
    {"three offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,1]}}", 1,
     "data_offsets: expected two"},
    {"offsets missing", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1,
     "data_offsets: expected two integers, it is missing"},
    {"overlap",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],"
     "\"data_offsets\":[2,4]}}",
     4, "tensor \"b\": data_offsets: expected to begin at 3, got 2 (it overlaps"},
    {"the same bytes twice",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],"
     "\"data_offsets\":[0,2]}}",
     2, "it overlaps"},
    {"nothing inside another",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[0],"
     "\"data_offsets\":[1,1]}}",
     2, "it overlaps"},
    {"hole",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"U8\",\"shape\":[1],"
     "\"data_offsets\":[2,3]}}",
     3, "tensor \"b\": data_offsets: expected to begin at 1, got 2 (a hole"},
    {"hole at the front", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2,
     "a hole before it"},
    {"trailing bytes", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 3,
     "trailing bytes"},
    {"no tensor, but data", "{}", 1, "trailing bytes"},
    {"2 bytes short", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 6, "got [0, 8]"},
    {"shape [2, 2^64-2]",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[2,18446744073709551614],\"data_offsets\":[0,1]}}", 1,
     "18446744073709551614"},
    {"shape [2, 2^63-1]",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[2,9223372036854775807],\"data_offsets\":[0,1]}}", 1,
     "tensor \"a\": shape: the product"},
    {"shape that wraps to 0",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
     "shape: the product"},
    {"type that wraps", "{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}",
     0, "shape: the product"},
    {"nothing of 2^124",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[0,4611686018427387904,4611686018427387904],\"data_offsets\":[0,0]}"
     "}",
     0, "shape: the product"},
    {"size is not shape times type", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4,
     "data_offsets: type and shape need 8 bytes, the offsets hold 4"},
    {"unknown type", "{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     "dtype: expected one of F64, "},
    {"type as a number", "{\"a\":{\"dtype\":3,\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     "dtype: expected a string, got another"},
    {"type missing", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     "dtype: expected a string, it is missing"},
    {"dimension 2.0", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2.0],\"data_offsets\":[0,2]}}", 2,
     "shape[0]: expected an integer"},
    {"string dimension", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,\"2\"],\"data_offsets\":[0,2]}}", 2,
     "shape[1]: expected an integer"},
    {"negative dimension", "{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1,
     "got a negative one"},
    {"shape is a number", "{\"a\":{\"dtype\":\"U8\",\"shape\":1,\"data_offsets\":[0,1]}}", 1,
     "shape: expected an array"},
    {"shape missing", "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1,
     "shape: expected an array of integers, it is missing"},
    {"rank 5", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
     "shape: expected at most 4 dimensions, got 5"},
    {"tensor is a list", "{\"a\":[]}", 0, "tensor \"a\": expected an object"},
    {"name is a path up", "{\"../../x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     "\"../../x\": its name is a path"},
    {"path inside a name", "{\"a/../b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     "its name is a path"},
    {"absolute name", "{\"/a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     "its name is a path"},
    {"empty name", "{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "its name is empty"},
    {"escape in a name", "{\"a\\u001b[2J\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     "\"a?[2J\": its name holds"},
    {"NUL in a name", "{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     "header:1:"},
    {"NUL in a type", "{\"a\":{\"dtype\":\"U8\\u0000\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     "dtype: expected one of"},
    {"metadata is a list", "{\"__metadata__\":[]}", 0, "__metadata__: expected an object of strings"},
    {"metadata is a number", "{\"__metadata__\":{\"format\":3}}", 0,
     "__metadata__.format: expected a string"},
};

TEST(refuses_and_says_why)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        hn_error error = {0};
        hn_status status = open_header(&error, refused[i].header, refused[i].data);
        if (status == HN_OK) TEST_FAIL("accepted: %s", refused[i].what);
        if (strncmp(error.message, NAME ": ", strlen(NAME ": ")) || !strstr(error.message, refused[i].says))
            TEST_FAIL("%s: says \"%s\", which lacks \"%s\"", refused[i].what, error.message, refused[i].says);
    }
}

TEST(refuses_lengths)
{
    static const struct {
        uint64_t claimed;
        size_t header, data;
    } cases[] = {{0, 2, 0},          {1, 2, 0},
                 {3, 2, 0},          {UINT64_C(1) << 63, 2, 8},
                 {UINT64_MAX, 2, 8}, {UINT64_MAX - 7, 2, 8},
                 {10, 2, 7}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hn_error error = {0};
        if (open_parts(&error, cases[i].claimed, "{}", cases[i].header, cases[i].data) == HN_OK)
            TEST_FAIL("case %zu accepted", i);
        CHECK_CONTAINS(error.message, NAME ": header length: expected 2 to 16777216");
    }
    for (size_t size = 0; size < 8; size++) {
        hn_error error = {0};
        hn_safetensors *file = NULL;
        unsigned char *bytes = calloc(1, size + !size);
        hn_status status = hn_safetensors_open_bytes(&file, bytes, size, NAME, &error);
        free(bytes);
        CHECK_INT(status, HN_ERR_FORMAT);
        CHECK_CONTAINS(error.message, NAME ": header length: expected 8 bytes");
    }
}

/* A file that tells of `claimed` bytes of header and is that long, without taking room. */
static void check_sparse(uint64_t claimed)
{
    hn_error error = {0};
    hn_safetensors *file = NULL;
    FILE *stream = fopen(in("sparse.safetensors"), "wb");
    fwrite(&claimed, 8, 1, stream);
    fclose(stream);
    CHECK_INT(truncate(path, (off_t)(claimed + 8)), 0);
    CHECK_INT(hn_safetensors_open(&file, path, &error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "header length");
    unlink(path);
}

TEST(refuses_a_long_header_unread)
{
    check_sparse(UINT64_C(101) << 20);
    check_sparse((UINT64_C(16) << 20) + 1);
}

/* Headers that are large in one way each. */
static void big_case(const char *what, const hn_strbuf *header, size_t data, const char *says)
{
    hn_error error = {0};
    if (open_parts(&error, header->length, header->text, header->length, data) == HN_OK)
        TEST_FAIL("accepted: %s", what);
    if (!strstr(error.message, NAME) || !strstr(error.message, says))
        TEST_FAIL("%s: says \"%s\", which lacks \"%s\"", what, error.message, says);
}

static void repeat(hn_strbuf *out, const char *text, size_t times)
{
    for (size_t i = 0; i < times; i++) hn_strbuf_puts(out, text);
}

TEST(refuses_much_of_anything)
{
    hn_strbuf header;
    hn_strbuf_init(&header);
    repeat(&header, "{\"a\":", 2049);
    big_case("depth 2049", &header, 0, "nested too deeply");

    hn_strbuf_reset(&header);
    hn_strbuf_puts(&header, "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1],\"shape\":[1");
    repeat(&header, ",1", 999999);
    hn_strbuf_puts(&header, "]}}");
    big_case("rank 10^6", &header, 1, "tensor \"a\": shape: expected at most 4 dimensions, got 1000000");

    hn_strbuf_reset(&header);
    hn_strbuf_puts(&header, "{\"");
    repeat(&header, "0123456789", 1000000);
    hn_strbuf_puts(&header, "\":{\"dtype\":\"U8\",\"data_offsets\":[0,1],\"shape\":[1]}}");
    big_case("name of 10 MB", &header, 1, "...\": its name is longer than 1024 bytes");

    hn_strbuf_reset(&header);
    hn_strbuf_putc(&header, '{');
    for (size_t i = 0; header.length < 16000000; i++)
        hn_strbuf_printf(&header, "\"%zu\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[%zu,%zu]},", i, i,
                         i + 1);
    hn_strbuf_puts(&header, "\"\":0}");
    big_case("as many tensors as a header holds", &header, 1, "too many values");

    hn_strbuf_reset(&header);
    hn_strbuf_puts(&header, "{\"a\":[[]");
    repeat(&header, ",[]", 5000000);
    hn_strbuf_puts(&header, "]}");
    big_case("empty lists", &header, 0, "too many values");

    hn_strbuf_reset(&header);
    repeat(&header, "{", 16 << 20);
    hn_strbuf_putc(&header, '{');
    big_case("a byte over the limit", &header, 0, "header length: expected 2 to 16777216");
    hn_strbuf_close(&header);
}

/* Other formats under this name. */
TEST(refuses_strangers)
{
    static const struct {
        const char *bytes;
        size_t size;
    } cases[] = {{"\x80\x02}q\x00(X\x06\x00\x00\x00weightq\x01", 18},
                 {"PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 18},
                 {"GGUF\x03\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00", 18},
                 {"\x89HDF\r\n\x1a\n\x00\x00\x00\x00\x00\x08\x08\x00\x04\x00", 18}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hn_error error = {0};
        hn_safetensors *file = NULL;
        CHECK_INT(hn_safetensors_open_bytes(&file, (const unsigned char *)cases[i].bytes, cases[i].size, NAME,
                                            &error),
                  HN_ERR_FORMAT);
        CHECK_CONTAINS(error.message, "is this a safetensors file?");
    }
}

/* Three tensors and a scalar, one of them empty, in another order than their names, metadata, blanks at the
 * end. */
static const char good[] = "{\"__metadata__\":{\"format\":\"pt\",\"by\":\"hand\"},"
                           "\"z\":{\"dtype\":\"I32\",\"shape\":[2,1,2],\"data_offsets\":[0,16]},"
                           "\"none\":{\"data_offsets\":[16,16],\"shape\":[3,0],\"dtype\":\"F32\"},"
                           "\"one\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[16,20]},"
                           "\"a\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[20,26]}}  ";

TEST(reads_what_is_valid)
{
    for (size_t blanks = 0; blanks < 8; blanks++) { /* every alignment of the data */
        hn_error error = {0};
        hn_safetensors *file = NULL;
        size_t size, count, length = sizeof good - 1;
        char header[sizeof good + 8];
        memset(header, ' ', sizeof header);
        memcpy(header, good, length);
        unsigned char *bytes = assemble(length + blanks, header, length + blanks, 26, &size);
        const unsigned char *data = bytes + 8 + length + blanks;
        CHECK_OK(hn_safetensors_open_bytes(&file, bytes, size, NAME, &error));
        const hn_named_tensor *t = hn_safetensors_tensors(file, &count);
        CHECK_INT(count, 4);
        CHECK_TEXT(t[0].name, "a");
        CHECK_TEXT(t[1].name, "none");
        CHECK_TEXT(t[2].name, "one");
        CHECK_TEXT(t[3].name, "z");
        CHECK_INT(t[0].tensor.dtype, HN_BF16);
        CHECK_INT(t[0].tensor.rank, 1);
        CHECK_INT((uintptr_t)t[0].tensor.data % 2, 0);
        CHECK(!memcmp(t[0].tensor.data, data + 20, 6));
        CHECK_INT(hn_tensor_count(&t[1].tensor), 0);
        CHECK_INT(t[2].tensor.rank, 0);
        CHECK_INT(hn_tensor_count(&t[2].tensor), 1);
        CHECK_INT((uintptr_t)t[2].tensor.data % 4, 0);
        CHECK(!memcmp(t[2].tensor.data, data + 16, 4));
        CHECK_INT(t[3].tensor.rank, 3);
        CHECK_INT(t[3].tensor.shape[2], 2);
        CHECK_INT(t[3].tensor.stride, 2);
        CHECK(hn_tensor_dense(&t[3].tensor));
        CHECK_INT(((const int32_t *)t[3].tensor.data)[1], 0x07060504);
        CHECK(hn_safetensors_find(file, "one") == &t[2]);
        CHECK(!hn_safetensors_find(file, "two"));
        hn_safetensors_free(file);
        free(bytes);
    }
}

TEST(reads_nothing)
{
    hn_error error = {0};
    CHECK_OK(open_header(&error, "{}", 0));
    CHECK_OK(open_header(&error, "{\"__metadata__\":{}}", 0));
}

TEST(truncation_at_every_byte)
{
    size_t size, length = sizeof good - 1;
    unsigned char *whole = assemble(length, good, length, 26, &size);
    for (size_t cut = 0; cut < size; cut++) {
        hn_error error = {0};
        hn_safetensors *file = NULL;
        unsigned char *bytes = malloc(cut + !cut);
        memcpy(bytes, whole, cut);
        hn_status status = hn_safetensors_open_bytes(&file, bytes, cut, NAME, &error);
        free(bytes);
        if (status == HN_OK) TEST_FAIL("%zu of %zu bytes accepted", cut, size);
        CHECK_CONTAINS(error.message, NAME ": ");
    }
    free(whole);
}

/* Whatever one byte becomes, a view that is handed out lies inside the file. */
TEST(every_byte_changed)
{
    size_t size, length = sizeof good - 1, accepted = 0;
    unsigned char *bytes = assemble(length, good, length, 26, &size);
    for (size_t i = 0; i < 8 + length; i++) {
        for (int bit = 0; bit < 8; bit++) {
            hn_safetensors *file = NULL;
            size_t count = 0;
            unsigned sum = 0;
            bytes[i] ^= (unsigned char)(1 << bit);
            if (hn_safetensors_open_bytes(&file, bytes, size, NAME, NULL) == HN_OK) {
                const hn_named_tensor *t = hn_safetensors_tensors(file, &count);
                for (size_t k = 0; k < count; k++)
                    for (size_t b = 0; b < hn_tensor_bytes(&t[k].tensor); b++)
                        sum += ((unsigned char *)t[k].tensor.data)[b];
                accepted += sum <= 26 * 255;
            }
            hn_safetensors_free(file);
            bytes[i] ^= (unsigned char)(1 << bit);
        }
    }
    free(bytes);
    CHECK(accepted > 0); /* names may change freely */
}

TEST(out_of_memory_while_reading)
{
    size_t size, length = sizeof good - 1;
    unsigned char *bytes = assemble(length + 1, good, length, 26 + 1, &size);
    memmove(bytes + 8 + length + 1, bytes + 8 + length, 26); /* one blank more: data stand on odd addresses */
    bytes[8 + length] = ' ';
    hn_status status = HN_ERR_MEMORY;
    size_t nth;
    for (nth = 1; status != HN_OK; nth++) {
        hn_error error = {0};
        hn_safetensors *file = NULL;
        hn_mem_fail_at(nth);
        status = hn_safetensors_open_bytes(&file, bytes, size, NAME, &error);
        hn_mem_fail_at(0);
        hn_safetensors_free(file);
        if (status != HN_OK && status != HN_ERR_MEMORY) TEST_FAIL("allocation %zu: %s", nth, error.message);
    }
    free(bytes);
    CHECK(nth > 20);
    test_promise("the n-th allocation fails, reading safetensors", nth - 1, nth - 1);
}

TEST(cut_short_while_mapped)
{
    enum { DATA = 20000 };
    hn_error error = {0};
    hn_safetensors *file = NULL;
    size_t size, count, sum = 0;
    static const char header[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[20000],\"data_offsets\":[0,20000]}}";
    unsigned char *bytes = assemble(sizeof header - 1, header, sizeof header - 1, DATA, &size);
    hn_status status = hn_file_commit(in("cut.safetensors"), bytes, size, &error);
    free(bytes);
    CHECK_OK(status);
    CHECK_OK(hn_safetensors_open(&file, path, &error));
    CHECK_OK(hn_safetensors_intact(file, &error));
    CHECK_INT(truncate(path, 5000), 0);
    const hn_named_tensor *tensors = hn_safetensors_tensors(file, &count);
    for (size_t i = 0; i < DATA; i++) sum += ((const unsigned char *)tensors[0].tensor.data)[i];
    status = hn_safetensors_intact(file, &error);
    hn_safetensors_free(file);
    unlink(path);
    CHECK_INT(status, HN_ERR_IO);
    CHECK_CONTAINS(error.message, "cut.safetensors: cut short while it was read");
    CHECK(sum > 0);
}

TEST(no_such_file)
{
    hn_error error = {0};
    hn_safetensors *file = NULL;
    CHECK_INT(hn_safetensors_open(&file, "no/such.safetensors", &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "no/such.safetensors");
    hn_error_reset(&error);
    CHECK_INT(hn_safetensors_open(&file, "tests", &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "a folder");
    hn_error_reset(&error);
    CHECK_INT(mkfifo(in("pipe"), 0600), 0);
    CHECK_INT(hn_safetensors_open(&file, path, &error), HN_ERR_IO);
    unlink(path);
    CHECK_CONTAINS(error.message, "pipe");
}

void __asan_poison_memory_region(void const volatile *, size_t) __attribute__((weak));

static void begin(void)
{
    if (!mkdtemp(folder)) abort();
    /* AddressSanitizer itself asks for more address space than any limit. */
    if (!__asan_poison_memory_region)
        setrlimit(RLIMIT_AS, &(struct rlimit){(rlim_t)1 << 30, (rlim_t)1 << 30});
    hn_json_init();
}

TEST_MAIN(begin(); RUN(refuses_and_says_why); RUN(refuses_lengths); RUN(refuses_a_long_header_unread);
          RUN(refuses_much_of_anything); RUN(refuses_strangers); RUN(reads_what_is_valid); RUN(reads_nothing);
          RUN(truncation_at_every_byte); RUN(every_byte_changed); RUN(out_of_memory_while_reading);
          RUN(cut_short_while_mapped); RUN(no_such_file); rmdir(folder))
