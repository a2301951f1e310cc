/* Any bytes as a safetensors file: refused, or every view lies inside the bytes (all of them are read). */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "formats/safetensors.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static volatile unsigned char sink;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    hn_json_init();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    hn_safetensors *file = NULL;
    hn_error error = {0};
    if (hn_safetensors_open_bytes(&file, bytes, size, "input", &error) != HN_OK) {
        if (!strstr(error.message, "input")) abort();
        return 0;
    }
    size_t count, seen = 0;
    const hn_named_tensor *tensors = hn_safetensors_tensors(file, &count);
    for (size_t i = 0; i < count; i++) {
        const unsigned char *data = tensors[i].tensor.data;
        size_t length = hn_tensor_bytes(&tensors[i].tensor);
        if (hn_safetensors_find(file, tensors[i].name) != &tensors[i]) abort();
        for (size_t b = 0; b < length; b++) sink = data[b];
        seen += length;
    }
    if (seen > size) abort();
    hn_safetensors_free(file);
    return 0;
}
