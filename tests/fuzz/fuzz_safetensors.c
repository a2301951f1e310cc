/* Any bytes as a safetensors file: refused, or every view lies inside the bytes (all of them are read).
 *
 * Bytes that begin with "{" are a folder as well: model.safetensors.index.json, config.json, the length of a.safetensors as a
 * number, and behind it a.safetensors and b.safetensors. It is opened and loaded as a model.
 *
 * Bytes that begin with "A" are an adapter on one of the seeds: adapter_config.json, and behind it adapter_model.safetensors. */
#include "core/json.h"
#include "core/mem.h"
#include "formats/safetensors.h"
#include "tests/fuzz/model.h"

static volatile unsigned char sink;

static void make(const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    DEMAND(hn_folder_make(path, NULL) == HN_OK);
}

static void put_in(const char *folder, const char *name, const void *bytes, size_t size)
{
    char path[96];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    fuzz_put(path, bytes, size);
}

static void put_shards(const char *folder, const uint8_t *bytes, size_t size)
{
    size_t length;
    const char *part = fuzz_part(&length, &bytes, &size);
    put_in(folder, "model.safetensors.index.json", part, length);
    part = fuzz_part(&length, &bytes, &size);
    put_in(folder, "config.json", part, length);
    part = fuzz_part(&length, &bytes, &size);
    size_t first = length && size ? strtoul(part, NULL, 10) : 0; /* ended by its NUL */
    if (first > size) first = size;
    put_in(folder, "a.safetensors", bytes, first);
    put_in(folder, "b.safetensors", bytes + first, size - first);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char words[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n";
    (void)argc, (void)argv;
    hn_json_init();
    make("base");
    make("adapter");
    make("model");
    fuzz_put("base/vocab.txt", words, sizeof words - 1);
    fuzz_put("model/vocab.txt", words, sizeof words - 1);
    char *seed = NULL;
    size_t size;
    DEMAND(hn_file_read(&seed, &size, "tests/fuzz/safetensors/shards_bert", 1 << 20, NULL) == HN_OK);
    put_shards("base", (const uint8_t *)seed, size);
    hn_free(seed);
    return 0;
}

static void read_file(const uint8_t *bytes, size_t size)
{
    hn_safetensors *file = NULL;
    hn_error error = {0};
    size_t count, seen = 0;
    if (hn_safetensors_open_bytes(&file, bytes, size, "input", &error) != HN_OK) {
        fuzz_refused(&error, "input");
        return;
    }
    const hn_named_tensor *tensors = hn_safetensors_tensors(file, &count);
    for (size_t i = 0; i < count; i++) {
        const unsigned char *data = tensors[i].tensor.data;
        size_t length = hn_tensor_bytes(&tensors[i].tensor);
        DEMAND(hn_safetensors_find(file, tensors[i].name) == &tensors[i]);
        for (size_t b = 0; b < length; b++) sink = data[b];
        seen += length;
    }
    DEMAND(seen <= size);
    hn_safetensors_free(file);
}

static void read_shards(const uint8_t *bytes, size_t size)
{
    char path[160];
    put_shards("model", bytes, size);
    snprintf(path, sizeof path, "%s/model", fuzz_folder());
    fuzz_model(path, NULL, size);
}

static void read_adapter(const uint8_t *bytes, size_t size)
{
    char base[160], path[160];
    size_t length, whole = size;
    bytes++, size--;
    const char *part = fuzz_part(&length, &bytes, &size);
    fuzz_put("adapter/adapter_config.json", part, length);
    fuzz_put("adapter/adapter_model.safetensors", bytes, size);
    snprintf(base, sizeof base, "%s/base", fuzz_folder());
    snprintf(path, sizeof path, "%s/adapter", fuzz_folder());
    fuzz_model(base, path, whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    fuzz_begin();
    read_file(bytes, size);
    fuzz_end(size);
    if (size && bytes[0] == '{') read_shards(bytes, size);
    if (size && bytes[0] == 'A') read_adapter(bytes, size);
    return 0;
}
