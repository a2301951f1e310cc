/* Any bytes as a safetensors file: refused, or every view lies inside the bytes (all of them are read).
 *
 * Bytes that begin with "{" are a folder as well: model.safetensors.index.json, config.json, the length of a.safetensors as a
 * number, and behind it a.safetensors and b.safetensors. It is opened and loaded as a model. */
#include "core/json.h"
#include "formats/safetensors.h"
#include "tests/fuzz/model.h"

static volatile unsigned char sink;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char words[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n";
    (void)argc, (void)argv;
    hn_json_init();
    fuzz_put("vocab.txt", words, sizeof words - 1);
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

static void read_folder(const uint8_t *bytes, size_t size)
{
    size_t length, whole = size;
    const char *part = fuzz_part(&length, &bytes, &size);
    fuzz_put("model.safetensors.index.json", part, length);
    part = fuzz_part(&length, &bytes, &size);
    fuzz_put("config.json", part, length);
    part = fuzz_part(&length, &bytes, &size);
    size_t first = length && size ? strtoul(part, NULL, 10) : 0; /* ended by its NUL */
    if (first > size) first = size;
    fuzz_put("a.safetensors", bytes, first);
    fuzz_put("b.safetensors", bytes + first, size - first);
    fuzz_model(fuzz_folder(), whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    fuzz_begin();
    read_file(bytes, size);
    fuzz_end(size);
    if (size && bytes[0] == '{') read_folder(bytes, size);
    return 0;
}
