/* A checkpoint's folder from strangers: the bytes up to the first NUL are manifest.json, what is behind it is rank-0.h5. A fuzzer
 * finds no digests, so that every one of them is made right here: the manifest's own, and those of the file and of the tensors
 * it names. Whatever comes is refused with its name, or each tensor is loaded as the bytes that the manifest points to. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoints/checkpoint.h"
#include "checkpoints/manifest.h"
#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"

#define DEMAND(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static char base[] = "/dev/shm/hone-fuzz-XXXXXX", folder[64], manifest_path[96], h5_path[96];

static void remove_base(void)
{
    hn_folder_remove(base, NULL);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    hn_json_init();
    if (access("/dev/shm", W_OK)) memcpy(base, "/tmp/hone-fuzz-", 15), base[15] = 'X', strcpy(base + 16, "XXXXX");
    DEMAND(mkdtemp(base));
    atexit(remove_base);
    snprintf(folder, sizeof folder, "%s/step-1", base);
    DEMAND(hn_folder_make(folder, NULL) == HN_OK);
    snprintf(manifest_path, sizeof manifest_path, "%s/" HNP_MANIFEST_NAME, folder);
    snprintf(h5_path, sizeof h5_path, "%s/" HNP_FILE_NAME, folder);
    return 0;
}

static void put(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    DEMAND(file && fwrite(bytes, 1, size, file) == size && !fclose(file));
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
    manifest->file_bytes = size;
    manifest->file_digest = hn_digest_bytes(bytes, size);
    for (size_t i = 0; i < manifest->count; i++) {
        hnp_entry *entry = &manifest->entries[i];
        size_t length = hn_tensor_bytes(&entry->shape);
        if (entry->offset <= size && length <= size - entry->offset)
            entry->digest = hn_digest_bytes(bytes + entry->offset, length);
    }
}

/* Every tensor is loaded and is what stands in the file. */
static void load(const hnp_manifest *manifest, const uint8_t *bytes)
{
    hn_error error = {0};
    hn_named_tensor *tensors = calloc(manifest->count + 1, sizeof *tensors);
    DEMAND(tensors);
    for (size_t i = 0; i < manifest->count; i++) {
        const hnp_entry *entry = &manifest->entries[i];
        tensors[i] = (hn_named_tensor){entry->name, entry->shape};
        DEMAND((tensors[i].tensor.data = malloc(hn_tensor_bytes(&entry->shape) + 1)));
    }
    DEMAND(hn_checkpoint_load(base, 1, tensors, manifest->count, &error) == HN_OK);
    for (size_t i = 0; i < manifest->count; i++) {
        DEMAND(!memcmp(tensors[i].tensor.data, bytes + manifest->entries[i].offset, hn_tensor_bytes(&tensors[i].tensor)));
        free(tensors[i].tensor.data);
    }
    free(tensors);
}

static void read_folder(const hnp_manifest *manifest, const uint8_t *bytes)
{
    hn_error error = {0};
    hn_strbuf passed;
    json_t *state = NULL;
    int64_t step = -1;
    hn_strbuf_init(&passed);
    hn_status status = hn_checkpoint_verify(folder, &passed, &error);
    DEMAND(!status == !error.message[0]);
    if (status == HN_OK) load(manifest, bytes);
    else DEMAND(strstr(error.message, "step-1"));
    hn_strbuf_reset(&passed);
    hn_error_reset(&error);
    DEMAND((hn_checkpoint_find(base, &step, &state, &passed, &error) != HN_OK || step < 0) == (status != HN_OK));
    DEMAND(step == 1 || passed.length || error.message[0]);
    json_decref(state);
    hn_strbuf_close(&passed);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    hnp_manifest manifest = {0};
    hn_error error = {0};
    hn_strbuf text;
    size_t length = strnlen((const char *)bytes, size), rest = length < size ? length + 1 : size;
    if (decode(&manifest, (const char *)bytes, length, &error) != HN_OK) {
        DEMAND(strstr(error.message, "input"));
        return 0;
    }
    agree(&manifest, bytes + rest, size - rest);
    hn_strbuf_init(&text);
    hnp_manifest_encode(&text, &manifest);
    DEMAND(!text.failed);
    put(manifest_path, text.text, text.length);
    put(h5_path, bytes + rest, size - rest);
    hn_strbuf_close(&text);
    read_folder(&manifest, bytes + rest);
    hnp_manifest_close(&manifest);
    return 0;
}
