/* Shared by the fuzz targets of models: a MODEL is opened as every verb opens it, its tokenizer is used, and its weights are loaded. */
#ifndef HONE_TESTS_FUZZ_MODEL_H
#define HONE_TESTS_FUZZ_MODEL_H

#include "infer/source.h"
#include "tests/fuzz/fuzz.h"

#define FUZZ_ELEMENTS ((int64_t)1 << 18) /* of models that are loaded: less than FUZZ_SPARE */

static inline hn_status fuzz_weights(const hn_source *source, hn_error *error)
{
    hn_backend backend;
    hn_arena arena;
    hn_model *model = NULL;
    hn_strbuf initialised, ignored;
    size_t count;
    const hn_named_tensor *tensors = hn_folder_tensors(source->folder, &count);
    hn_model_config config = source->config;
    if (config.head != HN_HEAD_LM && !config.labels) hn_model_config_head(&config, HN_HEAD_CLASSIFY, 3);
    hn_strbuf_init(&initialised);
    hn_strbuf_init(&ignored);
    hn_backend_cpu_init(&backend);
    hn_arena_init(&arena, "parameters", &backend);
    hn_status status = hn_model_open(&model, &config, HN_F32, &backend, hn_ops_cpu(), error);
    if (status == HN_OK && hn_model_param_elements(model) <= FUZZ_ELEMENTS) {
        hn_model_place_parameters(model, &arena);
        status = hn_arena_alloc(&arena, error);
        if (status == HN_OK) hn_model_place_parameters(model, &arena);
        if (status == HN_OK)
            status = hn_model_load(model, tensors, count, hn_folder_source(source->folder), hn_folder_weights(source->folder), 1,
                                   &initialised, &ignored, error);
        if (status == HN_OK) status = hn_folder_intact(source->folder, error);
        if (status == HN_OK && source->adapter) {
            tensors = hn_peft_tensors(source->adapter, &count);
            status = hn_model_load_adapter(model, tensors, count, hn_peft_weights(source->adapter), error);
        }
    }
    hn_model_free(model);
    hn_arena_close(&arena);
    hn_strbuf_close(&initialised);
    hn_strbuf_close(&ignored);
    return status;
}

/* A text to ids and back by the model's own tokenizer. */
static inline void fuzz_words(const hn_tokenizer *tokenizer)
{
    static const char text[] = "The 1st caf\xc3\xa9 don't\n\t<s> \xe6\xbc\xa2\xf0\x9f\x98\x80 \xff";
    hn_error error = {0};
    hn_encoding encoding;
    hn_strbuf decoded;
    hn_encoding_init(&encoding);
    hn_strbuf_init(&decoded);
    hn_status status = hn_tokenizer_encode(tokenizer, &encoding, text, sizeof text - 1, NULL, 0, true, 0, &error);
    DEMAND(status == HN_OK || status == HN_ERR_UNSUPPORTED);
    if (status == HN_OK)
        DEMAND(!hn_tokenizer_decode(tokenizer, &decoded, encoding.ids, (size_t)encoding.count, false, &error));
    hn_encoding_close(&encoding);
    hn_strbuf_close(&decoded);
}

/* Opens and loads, with an adapter that is not NULL on it; what is refused is refused by the name of the fuzzer's folder. */
static inline void fuzz_model(const char *path, const char *adapter, size_t size)
{
    hn_source *source = NULL;
    hn_error error = {0};
    hn_digest digest;
    fuzz_begin();
    hn_status status = hn_source_open_with(&source, path, adapter, &error);
    if (status == HN_OK) {
        fuzz_words(source->tokenizer);
        DEMAND(!hn_source_digest(&digest, source, &error));
        status = fuzz_weights(source, &error);
    }
    if (status != HN_OK) fuzz_refused(&error, fuzz_folder());
    hn_source_free(source);
    fuzz_end(size);
}

#endif
