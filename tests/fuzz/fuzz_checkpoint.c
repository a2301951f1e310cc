/* A checkpoint's folder from strangers: the bytes up to the first NUL are manifest.json, what is behind it are rank-0.h5 and its like, each
 * as long as the manifest says, the last one all that is left. A fuzzer finds no digests, so that every one of them is made right here: the
 * manifest's own, and those of the files and of the tensors it names. Whatever comes is refused with its name, or each tensor is loaded, whole
 * and in pieces, as the bytes that the manifest points to. */
#include "checkpoints/manifest.h"
#include "checkpoints/pieces.h"
#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "tests/fuzz/fuzz.h"

#define STEP "step-1"

static char folder[128];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    hn_json_init();
    snprintf(folder, sizeof folder, "%s/" STEP, fuzz_folder());
    DEMAND(hn_folder_make(folder, NULL) == HN_OK);
    return 0;
}

/* The text with the digest line that belongs to it, whatever line it had. */
static hn_status decode(hnp_manifest *out, const char *text, size_t size, hn_error *error)
{
    static const char line[] = ",\n \"digest\": \"";
    char digest[HN_DIGEST_TEXT];
    hn_strbuf whole;
    const char *tail = memmem(text, size, line, sizeof line - 1);
    for (const char *next = tail; next; next = memmem(tail + 1, size - (size_t)(tail + 1 - text), line, sizeof line - 1)) tail = next;
    size_t before = tail ? (size_t)(tail - text) : size;
    hn_strbuf_init(&whole);
    hn_digest_format(digest, hn_digest_bytes(text, before));
    hn_strbuf_printf(&whole, "%.*s%s%s\"}\n", (int)before, text, line, digest);
    hn_status status = hnp_manifest_decode(out, whole.text, whole.length, "input", error);
    hn_strbuf_close(&whole);
    return status;
}

/* The manifest of these bytes, as far as the text lets it be. */
static void agree(hnp_manifest *manifest, const uint8_t *bytes, size_t size)
{
    manifest->step = 1;
    for (int rank = 0; rank < manifest->ranks; rank++) {
        hnp_file *file = &manifest->files[rank];
        if (rank == manifest->ranks - 1 || file->bytes > size) file->bytes = size;
        file->digest = hn_digest_bytes(bytes, file->bytes);
        for (size_t i = 0; i < file->count; i++) {
            hnp_entry *entry = &file->entries[i];
            size_t length = hnp_entry_bytes(entry);
            if (entry->offset <= file->bytes && length <= file->bytes - entry->offset)
                entry->digest = hn_digest_bytes(bytes + entry->offset, length);
        }
        bytes += file->bytes;
        size -= file->bytes;
    }
}

/* The manifest is another model's: of the tensor that is changed, or lacks, the load speaks. */
static void refuse_other(hn_named_tensor *tensors, size_t count)
{
    hn_error error = {0};
    char name[] = "another";
    if (!count) return;
    hn_named_tensor first = tensors[0];
    tensors[0].name = name;
    DEMAND(hn_checkpoint_load(fuzz_folder(), 1, tensors, count, &error) == HN_ERR_MISMATCH);
    fuzz_refused(&error, STEP);
    tensors[0] = first;
    tensors[0].tensor.dtype = first.tensor.dtype == HN_I64 ? HN_F64 : HN_I64;
    hn_error_reset(&error);
    DEMAND(hn_checkpoint_load(fuzz_folder(), 1, tensors, count, &error) == HN_ERR_MISMATCH);
    fuzz_refused(&error, STEP);
    tensors[0] = first;
    hn_error_reset(&error);
    DEMAND(hn_checkpoint_load(fuzz_folder(), 1, tensors, count - 1, &error) == HN_ERR_MISMATCH);
    fuzz_refused(&error, STEP);
}

/* Where the bytes of a file's entry are in the input. */
static const uint8_t *place_of(const hnp_manifest *manifest, const hnp_entry *entry, const uint8_t *bytes)
{
    for (int rank = 0; rank < entry->file; rank++) bytes += manifest->files[rank].bytes;
    return bytes + entry->offset;
}

/* The tensor's two halves, read as pieces, are what it was as a whole. */
static void load_halves(const hn_checkpoint *checkpoint, const hn_named_tensor *tensor)
{
    hn_error error = {0};
    int64_t count = hn_tensor_count(&tensor->tensor);
    size_t size = hn_tensor_bytes(&tensor->tensor), before = (size_t)(count / 2) * hn_dtype_size(tensor->tensor.dtype);
    char *found = malloc(size + 1);
    hn_piece pieces[2] = {{*tensor, 0, count / 2}, {*tensor, count / 2, count - count / 2}};
    DEMAND(found);
    pieces[0].of.tensor.data = found;
    pieces[1].of.tensor.data = found + before;
    DEMAND(hn_checkpoint_read(checkpoint, pieces, 2, &error) == HN_OK);
    DEMAND(!memcmp(found, tensor->tensor.data, size));
    free(found);
}

/* Every tensor is loaded and is what stands in the files. */
static void load(const hnp_manifest *manifest, const uint8_t *bytes)
{
    hn_error error = {0};
    hn_checkpoint *checkpoint = NULL;
    hn_named_tensor *tensors = calloc(manifest->count + 1, sizeof *tensors);
    size_t count = 0, t = 0;
    DEMAND(tensors);
    for (size_t i = 0; i < manifest->count; i++) {
        const hnp_entry *entry = manifest->order[i];
        if (count && !strcmp(tensors[count - 1].name, entry->name)) continue;
        tensors[count] = (hn_named_tensor){entry->name, entry->shape};
        DEMAND((tensors[count++].tensor.data = malloc(hn_tensor_bytes(&entry->shape) + 1)));
    }
    DEMAND(hn_checkpoint_load(fuzz_folder(), 1, tensors, count, &error) == HN_OK);
    for (size_t i = 0; i < manifest->count; i++) {
        const hnp_entry *entry = manifest->order[i];
        if (strcmp(tensors[t].name, entry->name)) t++;
        const char *at = (const char *)tensors[t].tensor.data + (size_t)entry->first * hn_dtype_size(entry->shape.dtype);
        DEMAND(!memcmp(at, place_of(manifest, entry, bytes), hnp_entry_bytes(entry)));
    }
    DEMAND(hn_checkpoint_open(&checkpoint, fuzz_folder(), 1, NULL, &error) == HN_OK);
    for (t = 0; t < count; t++) load_halves(checkpoint, &tensors[t]);
    hn_checkpoint_free(checkpoint);
    refuse_other(tensors, count);
    for (t = 0; t < count; t++) free(tensors[t].tensor.data);
    free(tensors);
}

static void read_folder(const hnp_manifest *manifest, const uint8_t *bytes, size_t size)
{
    hn_error error = {0};
    hn_strbuf passed;
    json_t *state = NULL;
    int64_t step = -1;
    fuzz_begin();
    hn_strbuf_init(&passed);
    hn_status status = hn_checkpoint_verify(folder, &passed, &error);
    fuzz_end(size);
    if (status == HN_OK) load(manifest, bytes);
    else fuzz_refused(&error, STEP);
    hn_strbuf_reset(&passed);
    hn_error_reset(&error);
    fuzz_begin();
    DEMAND((hn_checkpoint_find(fuzz_folder(), &step, &state, &passed, &error) != HN_OK || step < 0) == (status != HN_OK));
    fuzz_end(size);
    DEMAND(step == 1 || (passed.length && strstr(passed.text, STEP)) || strstr(error.message, STEP));
    json_decref(state);
    hn_strbuf_close(&passed);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    hnp_manifest manifest = {0};
    hn_error error = {0};
    hn_strbuf text;
    size_t length, whole = size;
    const char *json = fuzz_part(&length, &bytes, &size);
    fuzz_begin();
    hn_status status = decode(&manifest, json, length, &error);
    fuzz_end(whole);
    if (status != HN_OK) {
        fuzz_refused(&error, "input");
        return 0;
    }
    agree(&manifest, bytes, size);
    hn_strbuf_init(&text);
    hnp_manifest_encode(&text, &manifest);
    DEMAND(!text.failed);
    fuzz_put(STEP "/" HNP_MANIFEST_NAME, text.text, text.length);
    hn_strbuf_close(&text);
    const uint8_t *next = bytes;
    for (int rank = 0; rank < manifest.ranks; next += manifest.files[rank++].bytes) {
        char name[HNP_FILE_NAME], path[64];
        snprintf(path, sizeof path, STEP "/%s", hnp_file_name(name, rank));
        fuzz_put(path, next, manifest.files[rank].bytes);
    }
    read_folder(&manifest, bytes, whole);
    hnp_manifest_close(&manifest);
    return 0;
}
