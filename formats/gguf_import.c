/* A GGUF file becomes a Hugging Face folder: it is opened as one, and saved. Values are put in order and dequantised while
 * they go out (gguf_source.c). */
#include "formats/gguf_import.h"

#include "core/strbuf.h"
#include "formats/folder.h"
#include "formats/gguf_source.h"

static hn_status save(hnp_gguf_source *source, const char *folder, hn_dtype dtype, hn_error *error)
{
    hn_strbuf tokenizer, tokenizer_config;
    json_t *config = NULL;
    hn_tensor_source values = {hnp_gguf_source_fill, source};
    hn_strbuf_init(&tokenizer);
    hn_strbuf_init(&tokenizer_config);
    hn_status status = hnp_gguf_config(&config, &source->model, dtype, error);
    if (status == HN_OK) status = hnp_gguf_tokenizer(&tokenizer, &tokenizer_config, &source->model, error);
    if (status == HN_OK) {
        hn_folder_file extra[] = {{"tokenizer.json", tokenizer.text}, {"tokenizer_config.json", tokenizer_config.text}};
        status = hn_folder_save_from(folder, config, source->named, source->count, &values, dtype, NULL, extra, 2, error);
    }
    json_decref(config);
    hn_strbuf_close(&tokenizer);
    hn_strbuf_close(&tokenizer_config);
    return status;
}

hn_status hn_gguf_import(hn_gguf_summary *out, const char *path, const char *folder, hn_dtype dtype, hn_error *error)
{
    hnp_gguf_source *source = NULL;
    hn_status status = hnp_gguf_source_open(&source, path, error);
    if (status == HN_OK) status = save(source, folder, dtype, error);
    if (status == HN_OK) {
        *out = (hn_gguf_summary){.architecture = source->model.family->architecture, .tensors = source->count};
        for (size_t i = 0; i < source->count; i++) out->parameters += hn_tensor_count(&source->named[i].tensor);
    }
    hnp_gguf_source_free(source);
    return status;
}
