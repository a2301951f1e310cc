/* The template that a MODEL talks by (source.h): what the config says, over what the files beside the model say. */
#include "core/mem.h"
#include "infer/source.h"

#define FILE_LIMIT ((size_t)4 << 20)

/* The model's end token, where no file of the tokenizer names it. */
static hn_status name_end(hn_chat_source *chat, const hn_source *source, hn_error *error)
{
    const char *token = hn_tokenizer_token(source->tokenizer, source->end_token);
    if (chat->eos || !token) return HN_OK;
    chat->eos = hn_strdup(token);
    return chat->eos ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "out of memory for the end token of %s", source->path);
}

hn_status hn_source_template(hn_template **out, const hn_template_options *options, const hn_source *source, hn_error *error)
{
    static const char *const names[] = {"tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"};
    char *texts[3] = {NULL};
    size_t size;
    hn_chat_source chat = {0};
    hn_status status = HN_OK;
    for (int i = 0; i < 3 && status == HN_OK; i++)
        status = hn_folder_read(&texts[i], &size, source->folder, names[i], FILE_LIMIT, error);
    if (status == HN_OK)
        status = hn_chat_source_init(&chat, &(hn_chat_files){texts[0], texts[1], texts[2]}, source->path, error);
    if (status == HN_OK) status = name_end(&chat, source, error);
    if (status == HN_OK) status = hn_template_open(out, options, &chat, source->tokenizer, error);
    hn_chat_source_close(&chat);
    for (int i = 0; i < 3; i++) hn_free(texts[i]);
    return status;
}
