/* GGUF: what is read, what is refused and how it is said. Every refusal must name the file and the field, take less
 * than a second, and stay within memory that the file's size sets. */
#include "formats/gguf.h"

#include <time.h>
#include <unistd.h>

#include "core/mem.h"
#include "formats/safetensors.h"
#include "tests/formats/gguf_builder.h"
#include "tests/test.h"

#define NAME "strange.gguf"
#define GOLDEN "tests/formats/gguf/quantised"

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Opens exactly these bytes on the heap, so that a read past their end is seen. */
static hn_status open_exact(hn_error *error, const unsigned char *data, size_t size)
{
    unsigned char *exact = malloc(size ? size : 1);
    hn_gguf *file = NULL;
    memcpy(exact, data, size);
    double start = cpu_seconds();
    hn_status status = hn_gguf_open_bytes(&file, exact, size, NAME, error);
    if (cpu_seconds() - start > 1.0) fprintf(stderr, "took %.2f s\n", cpu_seconds() - start), test_failures++;
    hn_gguf_free(file);
    free(exact);
    return status;
}

/* A good file: keys of several types, a nested array, two tensors. */
static void put_good(bytes *out, uint32_t version)
{
    put_header(out, version, 2, 6);
    put_string_key(out, "general.name", "small");
    put_u32_key(out, "x.count", 7);
    put_key(out, "x.rate", 6), put_f32(out, 0.5f);
    put_key(out, "x.flag", 7), put(out, 1, 1);
    put_array_key(out, "x.words", 8, 2), put_text(out, "a"), put_text(out, "bc");
    put_array_key(out, "x.nested", 9, 2);
    put(out, 0, 4), put(out, 3, 8), put(out, 0x030201, 3);
    put(out, 8, 4), put(out, 1, 8), put_text(out, "in");
    put_tensor(out, "w", 3, 2, 0, 0);
    put_tensor(out, "b", 0, 2, 1, 32);
    put_padding(out);
    for (int i = 0; i < 6; i++) put_f32(out, (float)i);
    put_padding(out);
    put(out, 0x3c00, 2), put(out, 0xc000, 2); /* 1 and -2 */
}

static void check_good(const bytes *built, hn_error *error)
{
    hn_gguf *file = NULL;
    hn_gguf_text text = {0};
    int64_t whole = 0;
    double real = 0;
    bool flag = false;
    size_t count = 0;
    float values[6];
    if (hn_gguf_open_bytes(&file, built->data, built->size, NAME, error) != HN_OK) return;
    hn_gguf_get_string(&text, file, "general.name", error);
    hn_gguf_get_int(&whole, file, "x.count", 0, 100, error);
    hn_gguf_get_double(&real, file, "x.rate", 0, 1, error);
    hn_gguf_get_bool(&flag, file, "x.flag", error);
    hn_gguf_entries(file, &count);
    const hn_gguf_tensor *w = hn_gguf_tensor_find(file, "w"), *b = hn_gguf_tensor_find(file, "b");
    const hn_gguf_value *nested = hn_gguf_value_find(file, "x.nested");
    bool right = text.length == 5 && !memcmp(text.text, "small", 5) && whole == 7 && real == 0.5 && flag && count == 6;
    right = right && w && w->rank == 2 && w->shape[0] == 2 && w->shape[1] == 3 && w->size == 24;
    right = right && b && b->rank == 1 && b->shape[0] == 2 && b->shape[1] == 1 && b->type == HN_GGUF_TENSOR_F16;
    right = right && nested && nested->item == HN_GGUF_ARRAY && nested->count == 2 && nested->size == 12 + 3 + 12 + 10;
    right = right && !hn_gguf_value_find(file, "x") && !hn_gguf_tensor_find(file, "x");
    if (right) {
        hn_gguf_dequantise(values, w->type, w->data, 6);
        right = values[0] == 0 && values[5] == 5;
        hn_gguf_dequantise(values, b->type, b->data, 2);
        right = right && values[0] == 1 && values[1] == -2;
    }
    if (!right) hn_fail(error, HN_ERR_FORMAT, "the file was read wrongly");
    hn_gguf_free(file);
}

TEST(versions_2_and_3_are_read)
{
    for (uint32_t version = 2; version <= 3; version++) {
        bytes built;
        hn_error error = {0};
        put_good(&built, version);
        check_good(&built, &error);
        CHECK_OK(error.status);
        put_padding(&built); /* the last tensor's padding, which may be there */
        check_good(&built, &error);
        CHECK_OK(error.status);
    }
}

TEST(every_truncation_is_refused)
{
    bytes built;
    put_good(&built, 3);
    for (size_t size = 0; size < built.size; size++) {
        hn_error error = {0};
        if (open_exact(&error, built.data, size) == HN_OK) TEST_FAIL("%zu bytes of %zu were taken", size, built.size);
        CHECK_CONTAINS(error.message, NAME);
    }
}

TEST(every_flipped_byte_is_read_or_refused)
{
    bytes built;
    put_good(&built, 3);
    for (size_t at = 0; at < built.size; at++)
        for (int bit = 0; bit < 8; bit++) {
            hn_error error = {0};
            built.data[at] ^= (unsigned char)(1 << bit);
            if (open_exact(&error, built.data, built.size) != HN_OK) CHECK_CONTAINS(error.message, NAME);
            built.data[at] ^= (unsigned char)(1 << bit);
        }
}

/* Each refused file, built by a function, with a part of what must be said. */
static void header_other(bytes *out) { put_header(out, 3, 0, 0), memcpy(out->data, "GGML", 4); }
static void header_v1(bytes *out) { put_header(out, 1, 0, 0); }
static void header_v4(bytes *out) { put_header(out, 4, 0, 0); }
static void header_big(bytes *out) { put_header(out, 0x03000000, 0, 0); }
static void header_keys(bytes *out) { put_header(out, 3, 0, UINT64_MAX), put(out, 0, 8); }
static void header_tensors(bytes *out) { put_header(out, 3, 1ull << 61, 0), put(out, 0, 8); }
static void header_both(bytes *out)
{
    put_header(out, 3, 1, 1);
    for (int i = 0; i < 5; i++) put(out, 0, 8); /* room for one of them */
}
static void key_empty(bytes *out) { put_header(out, 3, 0, 1), put_u32_key(out, "", 1), put(out, 0, 8); }
static void key_long(bytes *out)
{
    char name[1026] = {0};
    memset(name, 'k', 1025);
    put_header(out, 3, 0, 1), put_u32_key(out, name, 1);
}
static void key_length(bytes *out) { put_header(out, 3, 0, 1), put(out, UINT64_MAX, 8), put(out, 0, 8); }
static void key_nul(bytes *out)
{
    put_header(out, 3, 0, 1), put(out, 3, 8), put_raw(out, "a\0b", 3), put(out, 4, 4), put(out, 0, 4);
}
static void key_not_utf8(bytes *out) { put_header(out, 3, 0, 1), put_u32_key(out, "a\xff", 1); }
static void key_control(bytes *out) { put_header(out, 3, 0, 1), put_u32_key(out, "a\033[2J", 1); }
static void key_twice(bytes *out) { put_header(out, 3, 0, 2), put_u32_key(out, "k", 1), put_u32_key(out, "k", 2); }
static void value_type(bytes *out) { put_header(out, 3, 0, 1), put_key(out, "k", 13), put(out, 0, 8); }
static void value_bool(bytes *out) { put_header(out, 3, 0, 1), put_key(out, "k", 7), put(out, 2, 1); }
static void value_string(bytes *out) { put_header(out, 3, 0, 1), put_key(out, "k", 8), put(out, 9, 8), put(out, 0, 8); }
static void value_string_nul(bytes *out)
{
    put_header(out, 3, 0, 1), put_key(out, "k", 8), put(out, 2, 8), put_raw(out, "a\0", 2);
}
static void array_count(bytes *out) { put_header(out, 3, 0, 1), put_array_key(out, "k", 0, 1ull << 63), put(out, 0, 8); }
static void array_strings(bytes *out) { put_header(out, 3, 0, 1), put_array_key(out, "k", 8, 2), put(out, 0, 8); }
static void array_bool(bytes *out) { put_header(out, 3, 0, 1), put_array_key(out, "k", 7, 2), put(out, 0x0301, 2); }
static void array_item(bytes *out) { put_header(out, 3, 0, 1), put_array_key(out, "k", 77, 1), put(out, 0, 8); }
static void array_deep(bytes *out)
{
    put_header(out, 3, 0, 1), put_key(out, "k", 9);
    for (int i = 0; i < 4; i++) put(out, 9, 4), put(out, 1, 8);
    put(out, 0, 4), put(out, 0, 8);
}
static void array_very_deep(bytes *out)
{
    put_header(out, 3, 0, 1), put_key(out, "k", 9);
    for (int i = 0; i < 5000; i++) put(out, 9, 4), put(out, 1, 8);
}
static void alignment_of(bytes *out, uint32_t alignment)
{
    put_header(out, 3, 0, 1), put_u32_key(out, "general.alignment", alignment);
}
static void alignment_zero(bytes *out) { alignment_of(out, 0); }
static void alignment_odd(bytes *out) { alignment_of(out, 48); }
static void alignment_huge(bytes *out) { alignment_of(out, 1u << 31); }
static void alignment_text(bytes *out) { put_header(out, 3, 0, 1), put_string_key(out, "general.alignment", "32"); }
static void one_tensor(bytes *out, uint64_t first, uint64_t second, uint32_t type, uint64_t offset, size_t data)
{
    put_header(out, 3, 1, 0), put_tensor(out, "t", first, second, type, offset), put_padding(out);
    for (size_t i = 0; i < data; i++) put(out, i, 1);
}
static void tensor_rank(bytes *out)
{
    put_header(out, 3, 1, 0), put_text(out, "t"), put(out, 5, 4);
    for (int i = 0; i < 5; i++) put(out, 1, 8);
    put(out, 0, 4), put(out, 0, 8);
}
static void tensor_rank_zero(bytes *out) { put_header(out, 3, 1, 0), put_text(out, "t"), put(out, 0, 8), put(out, 0, 8), put(out, 0, 8); }
static void tensor_empty(bytes *out) { one_tensor(out, 4, 0, 0, 0, 0); }
static void tensor_negative(bytes *out) { one_tensor(out, 2, UINT64_MAX - 1, 0, 0, 64); }
static void tensor_wraps(bytes *out) { one_tensor(out, 1ull << 32, 1ull << 32, 0, 0, 64); }
static void tensor_bytes(bytes *out) { one_tensor(out, 2, (1ull << 61), 0, 0, 64); }
static void tensor_type(bytes *out) { one_tensor(out, 256, 1, 23, 0, 136); }
static void tensor_no_type(bytes *out) { one_tensor(out, 256, 1, 4000000000u, 0, 136); }
static void tensor_row(bytes *out) { one_tensor(out, 48, 1, 8, 0, 64); }
static void tensor_row_k(bytes *out) { one_tensor(out, 128, 2, 12, 0, 144); }
static void tensor_short(bytes *out) { one_tensor(out, 4, 4, 0, 0, 62); }
static void tensor_misaligned(bytes *out) { one_tensor(out, 4, 4, 0, 4, 68); }
static void tensor_hole(bytes *out) { one_tensor(out, 4, 4, 0, 32, 96); }
static void tensor_far(bytes *out) { one_tensor(out, 4, 4, 0, UINT64_MAX - 31, 64); }
static void tensor_trailing(bytes *out) { one_tensor(out, 4, 4, 0, 0, 65); }
static void tensor_huge(bytes *out) { one_tensor(out, 4, 1ull << 40, 0, 0, 64); }
static void tensors_overlap(bytes *out)
{
    put_header(out, 3, 2, 0), put_tensor(out, "t", 0, 16, 0, 0), put_tensor(out, "u", 0, 8, 0, 32), put_padding(out);
    for (int i = 0; i < 64; i++) put(out, 0, 1);
}
static void tensors_same(bytes *out)
{
    put_header(out, 3, 2, 0), put_tensor(out, "t", 0, 8, 0, 0), put_tensor(out, "u", 0, 8, 0, 0), put_padding(out);
    for (int i = 0; i < 32; i++) put(out, 0, 1);
}
static void tensors_twice(bytes *out)
{
    put_header(out, 3, 2, 0), put_tensor(out, "t", 0, 8, 0, 0), put_tensor(out, "t", 0, 8, 0, 32), put_padding(out);
    for (int i = 0; i < 64; i++) put(out, 0, 1);
}

static const struct {
    void (*build)(bytes *);
    hn_status status;
    const char *says;
} refused[] = {
    {header_other, HN_ERR_FORMAT, "header: expected the bytes \"GGUF\" at the front"},
    {header_v1, HN_ERR_UNSUPPORTED, "expected version 2 or 3, got 1"},
    {header_v4, HN_ERR_UNSUPPORTED, "expected version 2 or 3, got 4"},
    {header_big, HN_ERR_UNSUPPORTED, "expected a little-endian file, got a big-endian one"},
    {header_keys, HN_ERR_FORMAT, "header: 18446744073709551615 keys do not fit the 8 bytes"},
    {header_tensors, HN_ERR_FORMAT, "header: 2305843009213693952 tensors do not fit the 8 bytes"},
    {header_both, HN_ERR_FORMAT, "header: 1 tensors do not fit the 40 bytes"},
    {key_empty, HN_ERR_FORMAT, "key: its name is empty"},
    {key_long, HN_ERR_FORMAT, "key: its name is longer than 1024 bytes"},
    {key_length, HN_ERR_FORMAT, "key: name: expected 18446744073709551615 bytes, the file ends after 8"},
    {key_nul, HN_ERR_FORMAT, "key: name: expected UTF-8 without NUL, got a NUL byte"},
    {key_not_utf8, HN_ERR_FORMAT, "key: name: expected UTF-8 without NUL, got bytes that are not"},
    {key_control, HN_ERR_FORMAT, "key: its name holds a control character"},
    {key_twice, HN_ERR_FORMAT, "key k: stands twice in the file"},
    {value_type, HN_ERR_FORMAT, "key k: type: expected 0 to 12, got 13"},
    {value_bool, HN_ERR_FORMAT, "key k: expected a BOOL of 0 or 1, got 2"},
    {value_string, HN_ERR_FORMAT, "key k: value: expected 9 bytes, the file ends after 8"},
    {value_string_nul, HN_ERR_FORMAT, "key k: value: expected UTF-8 without NUL, got a NUL"},
    {array_count, HN_ERR_FORMAT, "key k: 9223372036854775808 items of U8 do not fit the 8 bytes"},
    {array_strings, HN_ERR_FORMAT, "key k: 2 items of STRING do not fit the 8 bytes"},
    {array_bool, HN_ERR_FORMAT, "key k: expected a BOOL of 0 or 1, got 3"},
    {array_item, HN_ERR_FORMAT, "key k: type of the items: expected 0 to 12, got 77"},
    {array_deep, HN_ERR_FORMAT, "key k: arrays are nested too deeply (limit 4)"},
    {array_very_deep, HN_ERR_FORMAT, "key k: arrays are nested too deeply (limit 4)"},
    {alignment_zero, HN_ERR_FORMAT, "key general.alignment: expected an integer from 8 to 65536, got 0"},
    {alignment_odd, HN_ERR_FORMAT, "key general.alignment: expected a power of two, got 48"},
    {alignment_huge, HN_ERR_FORMAT, "key general.alignment: expected an integer from 8 to 65536, got 2147483648"},
    {alignment_text, HN_ERR_FORMAT, "key general.alignment: expected an integer, got a value of type STRING"},
    {tensor_rank, HN_ERR_FORMAT, "tensor t: expected 1 to 4 dimensions, got 5"},
    {tensor_rank_zero, HN_ERR_FORMAT, "tensor t: expected 1 to 4 dimensions, got 0"},
    {tensor_empty, HN_ERR_FORMAT, "tensor t: expected a dimension from 1 to 2^63-1, got 0"},
    {tensor_negative, HN_ERR_FORMAT, "tensor t: expected a dimension from 1 to 2^63-1, got 18446744073709551614"},
    {tensor_wraps, HN_ERR_FORMAT, "tensor t: the product of its dimensions does not fit 63 bits"},
    {tensor_bytes, HN_ERR_FORMAT, "tensor t: its bytes do not fit 63 bits"},
    {tensor_type, HN_ERR_UNSUPPORTED, "tensor t: type: expected one of F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K, got IQ4_XS (number 23)"},
    {tensor_no_type, HN_ERR_UNSUPPORTED, "got an unknown one (number 4000000000)"},
    {tensor_row, HN_ERR_FORMAT, "tensor t: expected rows of a multiple of 32 elements, as Q8_0 has blocks, got 48"},
    {tensor_row_k, HN_ERR_FORMAT, "tensor t: expected rows of a multiple of 256 elements, as Q4_K has blocks, got 128"},
    {tensor_short, HN_ERR_FORMAT, "tensor t: expected 64 bytes from 0 on, the file's data end after 62"},
    {tensor_misaligned, HN_ERR_FORMAT, "tensor t: offset: expected a multiple of 32, got 4"},
    {tensor_hole, HN_ERR_FORMAT, "tensor t: offset: expected 0, got 32 (a hole before it)"},
    {tensor_far, HN_ERR_FORMAT, "tensor t: offset: expected 0, got 18446744073709551584 (a hole before it)"},
    {tensor_trailing, HN_ERR_FORMAT, "the tensors end at 64, the file's data at 65 (trailing bytes)"},
    {tensor_huge, HN_ERR_FORMAT, "tensor t: expected 17592186044416 bytes from 0 on"},
    {tensors_overlap, HN_ERR_FORMAT, "tensor u: offset: expected 64, got 32 (it overlaps another tensor)"},
    {tensors_same, HN_ERR_FORMAT, "tensor u: offset: expected 32, got 0 (it overlaps another tensor)"},
    {tensors_twice, HN_ERR_FORMAT, "tensor t: stands twice in the file"},
};

TEST(hostile_files_are_refused_by_name)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        bytes built;
        hn_error error = {0};
        refused[i].build(&built);
        hn_status status = open_exact(&error, built.data, built.size);
        if (status != refused[i].status) TEST_FAIL("case %zu (%s): got status %d: %s", i, refused[i].says, status, error.message);
        CHECK_CONTAINS(error.message, NAME ": ");
        CHECK_CONTAINS(error.message, refused[i].says);
    }
}

/* Calls that must fail on the good file, with what they say. */
TEST(values_of_another_type_or_range_are_refused)
{
    bytes built;
    hn_gguf *file = NULL;
    hn_error error = {0};
    int64_t whole = 5;
    double real = 5;
    bool flag = true;
    hn_gguf_text text = {"kept", 4}, *texts = NULL;
    int64_t *ints = NULL;
    double *doubles = NULL;
    size_t count = 5;
    put_good(&built, 3);
    CHECK_OK(hn_gguf_open_bytes(&file, built.data, built.size, NAME, &error));
    CHECK_OK(hn_gguf_get_int(&whole, file, "missing", 0, 1, &error));
    CHECK_OK(hn_gguf_get_ints(&ints, &count, file, "missing", &error));
    CHECK(whole == 5 && !ints && count == 5);
    static const char *const says[] = {
        "key x.count: expected an integer from 0 to 6, got 7",  "key x.rate: expected an integer, got a value of type F32",
        "key x.rate: expected a number from 1 to 2, got 0.5",   "key x.count: expected a floating-point number, got a value of type U32",
        "key x.count: expected a BOOL, got a value of type U32", "key x.words: expected a STRING, got an array of STRING",
        "key x.nested: expected an array of STRING, got an array of ARRAY", "key x.words: expected an array of integers, got an array of STRING",
        "key x.count: expected an array of floating-point numbers, got a value of type U32", "key missing: expected it, the file lacks it",
    };
    for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
        hn_status status = HN_OK;
        hn_error_reset(&error);
        switch (i) {
        case 0: status = hn_gguf_get_int(&whole, file, "x.count", 0, 6, &error); break;
        case 1: status = hn_gguf_get_int(&whole, file, "x.rate", 0, 6, &error); break;
        case 2: status = hn_gguf_get_double(&real, file, "x.rate", 1, 2, &error); break;
        case 3: status = hn_gguf_get_double(&real, file, "x.count", 1, 2, &error); break;
        case 4: status = hn_gguf_get_bool(&flag, file, "x.count", &error); break;
        case 5: status = hn_gguf_get_string(&text, file, "x.words", &error); break;
        case 6: status = hn_gguf_get_strings(&texts, &count, file, "x.nested", &error); break;
        case 7: status = hn_gguf_get_ints(&ints, &count, file, "x.words", &error); break;
        case 8: status = hn_gguf_get_doubles(&doubles, &count, file, "x.count", &error); break;
        case 9: status = hn_gguf_require(file, "missing", &error); break;
        }
        CHECK_INT(status, HN_ERR_FORMAT);
        CHECK_CONTAINS(error.message, NAME);
        CHECK_CONTAINS(error.message, says[i]);
    }
    CHECK(whole == 5 && real == 5 && flag && text.length == 4 && !texts && !ints && !doubles && count == 5);
    hn_gguf_free(file);
}

TEST(numbers_out_of_range_are_refused)
{
    bytes built;
    hn_gguf *file = NULL;
    hn_error error = {0};
    int64_t whole = 5, *ints = NULL;
    double real = 5;
    size_t count = 5;
    put_header(&built, 3, 0, 3);
    put_key(&built, "big", 10), put(&built, 1ull << 63, 8);
    put_array_key(&built, "bigs", 10, 2), put(&built, 1, 8), put(&built, UINT64_MAX, 8);
    put_key(&built, "nan", 6), put(&built, 0x7fc00000, 4);
    CHECK_OK(hn_gguf_open_bytes(&file, built.data, built.size, NAME, &error));
    CHECK_INT(hn_gguf_get_int(&whole, file, "big", 0, 9, &error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "key big: expected an integer from 0 to 9, got 9223372036854775808");
    hn_error_reset(&error);
    CHECK_INT(hn_gguf_get_ints(&ints, &count, file, "bigs", &error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "key bigs: item 1: expected an integer below 2^63");
    hn_error_reset(&error);
    CHECK_INT(hn_gguf_get_double(&real, file, "nan", 0, 9, &error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "key nan: expected a number from 0 to 9, got ");
    CHECK(whole == 5 && !ints && count == 5 && real == 5);
    hn_gguf_free(file);
}

/* A writer lengthens a string of an array behind our back. */
TEST(strings_that_change_under_the_reader_are_refused)
{
    bytes built;
    hn_gguf *file = NULL;
    hn_error error = {0};
    hn_gguf_text *texts = NULL;
    size_t count = 0;
    put_header(&built, 3, 0, 1);
    put_array_key(&built, "k", 8, 2);
    size_t at = built.size;
    put_text(&built, "a"), put_text(&built, "b");
    CHECK_OK(hn_gguf_open_bytes(&file, built.data, built.size, NAME, &error));
    for (int length = 2; length < 32; length++) {
        hn_error_reset(&error);
        built.data[at] = (unsigned char)length;
        CHECK_INT(hn_gguf_get_strings(&texts, &count, file, "k", &error), HN_ERR_IO);
        CHECK_CONTAINS(error.message, "key k: changed while the file was read");
    }
    hn_gguf_free(file);
}

/* Every type against the values of the reference, bit for bit; each row by itself too, and at odd addresses. */
TEST(values_are_those_of_the_reference)
{
    hn_gguf *file = NULL;
    hn_safetensors *expected = NULL;
    hn_error error = {0};
    size_t count;
    CHECK_OK(hn_gguf_open(&file, GOLDEN ".gguf", &error));
    CHECK_OK(hn_safetensors_open(&expected, GOLDEN ".safetensors", &error));
    const hn_gguf_tensor *tensors = hn_gguf_tensors(file, &count);
    CHECK_INT(count, 11);
    for (size_t i = 0; i < count; i++) {
        const hn_gguf_tensor *t = &tensors[i];
        const hn_named_tensor *right = hn_safetensors_find(expected, t->name);
        int64_t row = t->shape[1], rows = t->shape[0];
        size_t row_bytes = t->size / (size_t)rows;
        CHECK(right && hn_tensor_count(&right->tensor) == rows * row);
        float *values = malloc((size_t)(rows * row) * sizeof *values);
        unsigned char *odd = malloc(t->size + 1);
        memcpy(odd + 1, t->data, t->size);
        hn_gguf_dequantise(values, t->type, odd + 1, rows * row);
        if (memcmp(values, right->tensor.data, (size_t)(rows * row) * sizeof *values)) TEST_FAIL("%s differs", t->name);
        hn_gguf_dequantise(values, t->type, t->data + row_bytes, row);
        if (memcmp(values, (float *)right->tensor.data + row, (size_t)row * sizeof *values))
            TEST_FAIL("row 1 of %s differs", t->name);
        CHECK_TEXT(hn_gguf_layout_of((uint32_t)t->type).name, t->name);
        free(values);
        free(odd);
    }
    hn_safetensors_free(expected);
    hn_gguf_free(file);
}

TEST(values_of_the_reference_writer_are_read)
{
    static const struct {
        const char *key;
        int64_t value;
    } ints[] = {{"a.u8", 255}, {"a.i8", -128}, {"a.u16", 65535}, {"a.i16", -32768}, {"a.u32", 4294967295},
                {"a.i32", INT32_MIN}, {"a.u64", INT64_MAX}, {"a.i64", INT64_MIN}};
    hn_gguf *file = NULL;
    hn_error error = {0};
    CHECK_OK(hn_gguf_open(&file, GOLDEN ".gguf", &error));
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        int64_t got = 0;
        CHECK_OK(hn_gguf_get_int(&got, file, ints[i].key, INT64_MIN, INT64_MAX, &error));
        CHECK_INT(got, ints[i].value);
    }
    double f32 = 0, f64 = 0, *doubles = NULL;
    hn_gguf_text *texts = NULL;
    int64_t *numbers = NULL;
    size_t count = 0;
    CHECK_OK(hn_gguf_get_double(&f32, file, "a.f32", 0, 1, &error));
    CHECK_OK(hn_gguf_get_double(&f64, file, "a.f64", 0, 1, &error));
    CHECK(f32 == (double)0.1f && f64 == 0.1);
    CHECK_OK(hn_gguf_get_strings(&texts, &count, file, "a.strings", &error));
    CHECK(count == 3 && texts[0].length == 3 && texts[1].length == 0 && texts[2].length == 8);
    CHECK(!memcmp(texts[2].text, "▁three", 8));
    CHECK_OK(hn_gguf_get_ints(&numbers, &count, file, "a.ints", &error));
    CHECK(count == 3 && numbers[0] == 3 && numbers[1] == -1 && numbers[2] == 2);
    CHECK_OK(hn_gguf_get_doubles(&doubles, &count, file, "a.doubles", &error));
    CHECK(count == 2 && doubles[0] == 0.5 && doubles[1] == -1.5);
    hn_free(texts), hn_free(numbers), hn_free(doubles);
    hn_gguf_free(file);
}

TEST(every_allocation_may_fail)
{
    for (size_t nth = 1;; nth++) {
        hn_gguf *file = NULL;
        hn_error error = {0};
        hn_gguf_text *texts = NULL;
        int64_t *ints = NULL;
        double *doubles = NULL;
        size_t count;
        hn_mem_fail_at(nth);
        hn_status status = hn_gguf_open(&file, GOLDEN ".gguf", &error);
        if (status == HN_OK) status = hn_gguf_get_strings(&texts, &count, file, "a.strings", &error);
        if (status == HN_OK) status = hn_gguf_get_ints(&ints, &count, file, "a.ints", &error);
        if (status == HN_OK) status = hn_gguf_get_doubles(&doubles, &count, file, "a.doubles", &error);
        hn_mem_fail_at(0);
        hn_free(texts), hn_free(ints), hn_free(doubles);
        hn_gguf_free(file);
        if (status == HN_OK) break;
        CHECK_INT(status, HN_ERR_MEMORY);
        CHECK_CONTAINS(error.message, "quantised.gguf");
        CHECK(nth < 50);
    }
}

TEST(a_file_cut_while_it_is_mapped_is_noticed)
{
    char path[] = "/tmp/hone-gguf-XXXXXX";
    int fd = mkstemp(path);
    bytes *built = calloc(1, sizeof *built);
    hn_gguf *file = NULL;
    hn_error error = {0};
    one_tensor(built, 4, 4000, 0, 0, 64000 - built->size);
    CHECK(fd >= 0 && write(fd, built->data, built->size) == (ssize_t)built->size);
    CHECK_OK(hn_gguf_open(&file, path, &error));
    CHECK_OK(hn_gguf_intact(file, &error));
    hn_gguf_idle(file);
    CHECK(ftruncate(fd, 100) == 0);
    const hn_gguf_tensor *tensor = hn_gguf_tensor_find(file, "t");
    CHECK_INT(tensor->data[tensor->size - 1], 0);
    CHECK_INT(hn_gguf_intact(file, &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "cut short while it was read");
    hn_gguf_free(file);
    close(fd);
    unlink(path);
    free(built);
}

TEST_MAIN(RUN(versions_2_and_3_are_read); RUN(every_truncation_is_refused); RUN(every_flipped_byte_is_read_or_refused);
          RUN(hostile_files_are_refused_by_name); RUN(values_of_another_type_or_range_are_refused);
          RUN(numbers_out_of_range_are_refused); RUN(strings_that_change_under_the_reader_are_refused);
          RUN(values_are_those_of_the_reference); RUN(values_of_the_reference_writer_are_read);
          RUN(every_allocation_may_fail); RUN(a_file_cut_while_it_is_mapped_is_noticed))
