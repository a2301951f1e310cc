/* Writing safetensors: the bytes are the Python package's (tests/formats/expected.safetensors was written by
 * safetensors 0.8.0 from the same tensors; the script stands beside it), conversions, and a save that fails
 * leaves the old file. */
#include "formats/safetensors.h"

#include <errno.h>
#include <unistd.h>

#include "core/digest.h"
#include "core/json.h"
#include "core/mem.h"
#include "tests/test.h"

static char folder[] = "/tmp/hone-save-XXXXXX";
static char path[64];

static float f32[] = {0.0f, -1.5f, 3.14159274f, 1e30f, -1e-30f, 65504.0f};
static double f64[] = {1.0, -2.5};
static int64_t i64[] = {1, -2, 3};
static int32_t i32[] = {7, -7};
static uint8_t u8[] = {1, 2, 255};

static size_t some_tensors(hn_named_tensor out[6])
{
    size_t n = 0;
    out[n++] = (hn_named_tensor){"layer.weight", hn_tensor_2d(f32, HN_F32, 2, 3)};
    out[n++] = (hn_named_tensor){"position_ids", hn_tensor_1d(i64, HN_I64, 3)};
    out[n++] = (hn_named_tensor){"bytes", hn_tensor_1d(u8, HN_U8, 3)};
    out[n++] = (hn_named_tensor){"\"na\xc3\xafve\"\\", hn_tensor_1d(i32, HN_I32, 2)};
    out[n++] = (hn_named_tensor){"empty", hn_tensor_2d(f32, HN_F32, 0, 3)};
    out[n] = (hn_named_tensor){"scalar", hn_tensor_1d(f32 + 1, HN_F32, 1)};
    out[n++].tensor.rank = 0;
    return n;
}

static char *slurp(const char *where, size_t *size)
{
    char *bytes = NULL;
    hn_error error = {0};
    if (hn_file_read(&bytes, size, where, 1 << 20, &error) != HN_OK) fprintf(stderr, "%s\n", error.message);
    return bytes;
}

TEST(writes_the_bytes_of_the_python_package)
{
    hn_error error = {0};
    hn_named_tensor tensors[6];
    size_t got_size = 0, expected_size = 0, count = some_tensors(tensors);
    CHECK_OK(hn_safetensors_save(path, tensors, count, HN_F32, &error));
    char *got = slurp(path, &got_size),
         *expected = slurp("tests/formats/expected.safetensors", &expected_size);
    bool same = got && expected && got_size == expected_size && !memcmp(got, expected, got_size);
    hn_free(got);
    hn_free(expected);
    CHECK(same);
}

TEST(reads_back_what_it_wrote)
{
    hn_error error = {0};
    hn_named_tensor tensors[6];
    hn_safetensors *file = NULL;
    size_t count = some_tensors(tensors);
    CHECK_OK(hn_safetensors_save(path, tensors, count, HN_F32, &error));
    CHECK_OK(hn_safetensors_open(&file, path, &error));
    for (size_t i = 0; i < count; i++) {
        const hn_named_tensor *found = hn_safetensors_find(file, tensors[i].name);
        CHECK(found);
        CHECK_INT(found->tensor.dtype, tensors[i].tensor.dtype);
        CHECK_INT(found->tensor.rank, tensors[i].tensor.rank);
        CHECK_INT(hn_tensor_bytes(&found->tensor), hn_tensor_bytes(&tensors[i].tensor));
        CHECK(!memcmp(found->tensor.data, tensors[i].tensor.data, hn_tensor_bytes(&tensors[i].tensor)));
    }
    hn_safetensors_free(file);
}

TEST(converts)
{
    static const hn_dtype types[] = {HN_F32, HN_BF16, HN_F16};
    uint16_t half[] = {0x3c00, 0xc100}, brain[] = {0x3f80, 0xc020}; /* 1, -2.5 both */
    hn_named_tensor tensors[] = {{"b", hn_tensor_1d(brain, HN_BF16, 2)},
                                 {"d", hn_tensor_1d(f64, HN_F64, 2)},
                                 {"h", hn_tensor_1d(half, HN_F16, 2)},
                                 {"f", hn_tensor_1d(f32, HN_F32, 6)}};
    for (int i = 0; i < 3; i++) {
        hn_error error = {0};
        hn_safetensors *file = NULL;
        tensors[3].tensor = hn_tensor_1d(f32, HN_F32, types[i] == HN_F16 ? 3 : 6); /* 1e30 is beyond f16 */
        CHECK_OK(hn_safetensors_save(path, tensors, 4, types[i], &error));
        CHECK_OK(hn_safetensors_open(&file, path, &error));
        for (int k = 0; k < 3; k++) {
            const hn_tensor *t = &hn_safetensors_find(file, tensors[k].name)->tensor;
            CHECK_INT(t->dtype, types[i]);
            const uint16_t *bits = t->data;
            if (types[i] == HN_F32) CHECK_NEAR(((const float *)t->data)[1], -2.5, 0);
            if (types[i] == HN_BF16) CHECK_INT(bits[1], 0xc020);
            if (types[i] == HN_F16) CHECK_INT(bits[1], 0xc100);
        }
        const uint16_t *bits = hn_safetensors_find(file, "f")->tensor.data;
        if (types[i] == HN_BF16) CHECK_INT(bits[2], 0x4049);
        if (types[i] == HN_F16) CHECK_INT(bits[2], 0x4248);
        hn_safetensors_free(file);
    }
}

/* More than one block of conversion. */
TEST(converts_many)
{
    enum { N = 600001 };
    hn_error error = {0};
    hn_safetensors *file = NULL;
    float *values = malloc(N * sizeof *values);
    for (int i = 0; i < N; i++) values[i] = (float)(i % 251);
    hn_named_tensor tensor = {"x", hn_tensor_1d(values, HN_F32, N)};
    CHECK_OK(hn_safetensors_save(path, &tensor, 1, HN_BF16, &error));
    CHECK_OK(hn_safetensors_open(&file, path, &error));
    const uint16_t *bits = hn_safetensors_find(file, "x")->tensor.data;
    int wrong = 0;
    for (int i = 0; i < N; i++) wrong += hn_bf16_to_float(bits[i]) != values[i];
    hn_safetensors_free(file);
    free(values);
    CHECK_INT(wrong, 0);
}

static hn_file_hooks real;
static int calls, fail_at;

static ssize_t failing_write(int fd, const void *bytes, size_t size)
{
    if (++calls != fail_at) return real.write(fd, bytes, size);
    errno = ENOSPC;
    return -1;
}

static int failing_fsync(int fd)
{
    if (++calls != fail_at) return real.fsync(fd);
    errno = EIO;
    return -1;
}

static int failing_rename(const char *from, const char *to, unsigned flags)
{
    if (++calls != fail_at) return real.rename(from, to, flags);
    errno = EACCES;
    return -1;
}

TEST(a_failed_save_leaves_a_whole_file)
{
    hn_error error = {0};
    hn_named_tensor tensors[6];
    size_t count = some_tensors(tensors), size = 0;
    hn_named_tensor old = {"old", hn_tensor_1d(f32, HN_F32, 2)};
    real = hn_file_calls;
    hn_status status = HN_ERR_IO;
    for (fail_at = 1; status != HN_OK; fail_at++) {
        CHECK_OK(hn_safetensors_save(path, &old, 1, HN_F32, &error));
        hn_error failure = {0};
        hn_safetensors *file = NULL;
        calls = 0;
        hn_file_calls.write = failing_write;
        hn_file_calls.fsync = failing_fsync;
        hn_file_calls.rename = failing_rename;
        status = hn_safetensors_save(path, tensors, count, HN_F32, &failure);
        hn_file_calls = real;
        CHECK_OK(hn_safetensors_open(&file, path, &error));
        hn_safetensors_tensors(file, &size);
        hn_safetensors_free(file);
        CHECK(size == 1 || size == count);
        if (status != HN_OK) CHECK_CONTAINS(failure.message, folder);
    }
    CHECK(fail_at > 10);
    CHECK_INT(size, count);
}

/* Every type with every value at its edge; the first element that does not fit is named, and the file stays as it was. */
TEST(what_a_type_cannot_hold_is_named)
{
    enum { N = 300000, BAD = 290001 };
    static const struct {
        hn_dtype from, to;
        double fits, beyond;
        const char *type;
    } edges[] = {{HN_F32, HN_F16, 65519.99, 65520, "f16"},
                 {HN_F32, HN_BF16, 3.3961e38, 3.3962e38, "bf16"},
                 {HN_BF16, HN_F16, 65280, 65536, "f16"},
                 {HN_F64, HN_F32, 3.4028235e38, 3.4028236e38, "f32"},
                 {HN_F64, HN_F16, -65519, -1e300, "f16"}};
    hn_error error = {0};
    hn_named_tensor small = {"small", hn_tensor_1d(f32, HN_F32, 6)};
    double *memory = hn_calloc(N, sizeof *memory);
    for (size_t e = 0; e < sizeof edges / sizeof *edges; e++)
        for (int wrong = 0; wrong < 2; wrong++) {
            double value = wrong ? edges[e].beyond : edges[e].fits;
            hn_named_tensor tensor = {"layer.weight", hn_tensor_1d(memory, edges[e].from, N)};
            memset(memory, 0, N * sizeof *memory);
            if (edges[e].from == HN_F64) memory[BAD] = value;
            if (edges[e].from == HN_F32) ((float *)memory)[BAD] = (float)value;
            if (edges[e].from == HN_BF16) ((uint16_t *)memory)[BAD] = hn_bf16_from_float((float)value);
            CHECK_OK((hn_error_reset(&error), hn_safetensors_save(path, &small, 1, HN_F32, &error)));
            hn_digest before, after;
            CHECK_OK(hn_digest_file(&before, path, &error));
            hn_status status = hn_safetensors_save(path, &tensor, 1, edges[e].to, &error);
            bool named = strstr(error.message, "tensor layer.weight: element 290001 is") && strstr(error.message, edges[e].type);
            if (wrong ? status != HN_ERR_NUMERIC || !named : status != HN_OK) TEST_FAIL("edge %zu: status %d, \"%s\"", e, (int)status, error.message);
            CHECK_OK((hn_error_reset(&error), hn_digest_file(&after, path, &error)));
            CHECK(hn_digest_equal(before, after) == wrong);
        }
    float infinite[] = {INFINITY, 1};
    hn_named_tensor tensor = {"bias", hn_tensor_1d(infinite, HN_F32, 2)};
    CHECK_OK(hn_safetensors_save(path, &tensor, 1, HN_F16, &error)); /* it was infinite before */
    hn_free(memory);
}

TEST(out_of_memory_while_writing)
{
    hn_named_tensor tensors[6];
    size_t count = some_tensors(tensors), nth;
    hn_status status = HN_ERR_MEMORY;
    for (nth = 1; status != HN_OK; nth++) {
        hn_error error = {0};
        hn_mem_fail_at(nth);
        status = hn_safetensors_save(path, tensors, count, HN_F32, &error);
        hn_mem_fail_at(0);
        if (status != HN_OK && status != HN_ERR_MEMORY) TEST_FAIL("allocation %zu: %s", nth, error.message);
    }
    CHECK(nth > 5);
}

static void begin(void)
{
    hn_json_init();
    if (!mkdtemp(folder)) abort();
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
}

TEST_MAIN(begin(); RUN(writes_the_bytes_of_the_python_package); RUN(reads_back_what_it_wrote); RUN(converts);
          RUN(converts_many); RUN(a_failed_save_leaves_a_whole_file); RUN(what_a_type_cannot_hold_is_named);
          RUN(out_of_memory_while_writing);
          hn_folder_remove(folder, NULL))
