/* Any bytes as a GGUF file: refused, or every value and tensor lies inside the bytes (all of them are read and
 * dequantised). What says its architecture is also opened as a MODEL: config, tokenizer, weights in their other order. */
#include "core/json.h"
#include "core/mem.h"
#include "formats/gguf.h"
#include "tests/fuzz/model.h"

#define NAME "m.gguf"

static volatile unsigned char sink;
static volatile float float_sink;

static void read_arrays(const hn_gguf *file, const char *key)
{
    hn_error error = {0};
    hn_gguf_text *texts = NULL, text = {0};
    int64_t *ints = NULL, whole = 0;
    double *doubles = NULL, real = 0;
    bool flag = false;
    size_t count = 0;
    if (hn_gguf_get_strings(&texts, &count, file, key, &error) == HN_OK && texts)
        for (size_t i = 0; i < count; i++)
            for (size_t b = 0; b < texts[i].length; b++) sink = (unsigned char)texts[i].text[b];
    hn_gguf_get_ints(&ints, &count, file, key, &error);
    hn_gguf_get_doubles(&doubles, &count, file, key, &error);
    hn_gguf_get_int(&whole, file, key, INT64_MIN, INT64_MAX, &error);
    hn_gguf_get_double(&real, file, key, -1e300, 1e300, &error);
    hn_gguf_get_bool(&flag, file, key, &error);
    hn_gguf_get_string(&text, file, key, &error);
    hn_free(texts);
    hn_free(ints);
    hn_free(doubles);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    hn_json_init();
    return 0;
}

static void read_tensors(const hn_gguf *file, size_t size)
{
    size_t count, seen = 0;
    float block[256];
    const hn_gguf_tensor *tensors = hn_gguf_tensors(file, &count);
    for (size_t i = 0; i < count; i++) {
        hn_gguf_layout layout = hn_gguf_layout_of((uint32_t)tensors[i].type);
        DEMAND(hn_gguf_tensor_find(file, tensors[i].name) == &tensors[i]);
        for (size_t at = 0; at < tensors[i].size; at += (size_t)layout.bytes) {
            hn_gguf_dequantise(block, tensors[i].type, tensors[i].data + at, layout.elements);
            float_sink = block[0];
        }
        seen += tensors[i].size;
    }
    DEMAND(seen <= size);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    hn_gguf *file = NULL;
    hn_error error = {0};
    size_t count;
    char path[160];
    fuzz_begin();
    if (hn_gguf_open_bytes(&file, bytes, size, "input", &error) != HN_OK) {
        fuzz_refused(&error, "input");
        fuzz_end(size);
        return 0;
    }
    const hn_gguf_entry *entries = hn_gguf_entries(file, &count);
    for (size_t i = 0; i < count; i++) {
        DEMAND(hn_gguf_value_find(file, entries[i].key) == &entries[i].value);
        for (size_t b = 0; b < entries[i].value.size; b++) sink = entries[i].value.bytes[b];
        read_arrays(file, entries[i].key);
    }
    read_tensors(file, size);
    bool model = hn_gguf_value_find(file, "general.architecture");
    hn_gguf_free(file);
    fuzz_end(size);
    if (!model) return 0;
    fuzz_put(NAME, bytes, size);
    snprintf(path, sizeof path, "%s/" NAME, fuzz_folder());
    fuzz_model(path, NULL, size);
    return 0;
}
