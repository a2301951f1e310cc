/* Writing a Hugging Face folder. Everything goes into <parent>/.tmp-<name>, file by file through the commit
 * protocol, and takes its name in one step at the end: whoever reads `path` sees the old folder or the new
 * one.
 *
 * The exchange removes what stood at `path`. So that a wrong path cannot cost anybody their files, an
 * existing folder is replaced only when it holds nothing but what a save leaves behind. */
#include "formats/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "core/strbuf.h"
#include "formats/safetensors.h"
#include "formats/tokenizer_files.h"

#define WEIGHTS_NAME "model.safetensors"
#define TOKENIZER_FILE_MAX ((size_t)256 << 20)

/* What transformers' tokenizers are made of. */
static const char *const tokenizer_files[] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "spiece.model",
    "chat_template.jinja",
    "generation_config.json",
};
enum { TOKENIZER_FILES = sizeof tokenizer_files / sizeof *tokenizer_files };

/* The real path (hn_free) of one of them; NULL: the folder has none. */
static hn_status find_tokenizer_file(char **real, const char *folder, const char *name, hn_error *error)
{
    char *path = hn_path_join(folder, name);
    *real = NULL;
    if (!path) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    hn_status status = hn_path_exists(path) ? hn_path_inside(real, folder, name, NULL, error) : HN_OK;
    hn_free(path);
    return status;
}

hn_status hnp_tokenizer_files_check(const char *folder, hn_error *error)
{
    hn_status status = HN_OK;
    for (size_t i = 0; i < TOKENIZER_FILES && status == HN_OK; i++) {
        char *real;
        status = find_tokenizer_file(&real, folder, tokenizer_files[i], error);
        hn_free(real);
    }
    return status;
}

static bool is_ours(const char *name, const hn_folder_file *extra, size_t extra_count)
{
    if (!strcmp(name, ".") || !strcmp(name, "..") || !strcmp(name, "config.json") || !strcmp(name, "adapter_config.json") ||
        !fnmatch("*.safetensors", name, 0) || !strcmp(name, "model.safetensors.index.json"))
        return true;
    for (size_t i = 0; i < TOKENIZER_FILES; i++)
        if (!strcmp(name, tokenizer_files[i])) return true;
    for (size_t i = 0; i < extra_count; i++)
        if (!strcmp(name, extra[i].name)) return true;
    return false;
}

/* An existing `path` is a folder that may be replaced, or an error. */
static hn_status check_replaceable(const char *path, const hn_folder_file *extra, size_t extra_count,
                                   hn_error *error)
{
    hn_status status = HN_OK;
    struct dirent *entry;
    DIR *list = opendir(path);
    if (!list && errno == ENOENT) return HN_OK;
    if (!list) return hn_fail_errno(error, "%s: cannot replace it by a model folder", path);
    while (status == HN_OK && (entry = readdir(list)))
        if (!is_ours(entry->d_name, extra, extra_count))
            status = hn_fail(error, HN_ERR_IO,
                             "%s: holds \"%s\", which is not part of a model: a save would remove it (give "
                             "another folder)",
                             path, entry->d_name);
    closedir(list);
    return status;
}

/* <parent>/.tmp-<name>, with no slash at its end (hn_free); NULL: out of memory. */
static char *temporary_of(const char *path)
{
    hn_strbuf out;
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t name = end;
    while (name > 0 && path[name - 1] != '/') name--;
    hn_strbuf_init(&out);
    hn_strbuf_add(&out, path, name);
    hn_strbuf_puts(&out, ".tmp-");
    hn_strbuf_add(&out, path + name, end - name);
    return hn_strbuf_take(&out);
}

static hn_status write_text(const char *folder, const char *name, const char *text, size_t size,
                            hn_error *error)
{
    char *path = hn_path_join(folder, name);
    hn_status status = path ? hn_file_commit(path, text, size, error)
                            : hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    hn_free(path);
    return status;
}

static hn_status write_config(const char *folder, const json_t *config, hn_error *error)
{
    /* 15 digits: 1e-12 stays 1e-12, where jansson's default writes 9.9999999999999998e-13. */
    char *text = json_dumps(config, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
    if (!text) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for config.json", folder);
    size_t size = strlen(text);
    text[size] = '\n'; /* in place of the NUL: files end in a newline */
    hn_status status = write_text(folder, "config.json", text, size + 1, error);
    hn_free(text);
    return status;
}

static hn_status copy_file(const char *folder, const char *name, const char *from, size_t limit, hn_error *error)
{
    char *path = hn_path_join(folder, name);
    hn_status status = path ? hn_file_copy(path, from, limit, error)
                            : hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    hn_free(path);
    return status;
}

static hn_status copy_tokenizer(const char *folder, const char *from, hn_error *error)
{
    hn_status status = HN_OK;
    for (size_t i = 0; i < TOKENIZER_FILES && status == HN_OK; i++) {
        char *real;
        status = find_tokenizer_file(&real, from, tokenizer_files[i], error);
        if (status == HN_OK && real) status = copy_file(folder, tokenizer_files[i], real, TOKENIZER_FILE_MAX, error);
        hn_free(real);
    }
    return status;
}

/* Those of an open folder: copied, or of a GGUF file written. */
static hn_status save_tokenizer(const char *folder, const hn_folder *from, hn_error *error)
{
    static const char *const made[] = {"tokenizer.json", "tokenizer_config.json"};
    hn_status status = HN_OK;
    if (!hn_folder_source(from)) return copy_tokenizer(folder, hn_folder_path(from), error);
    for (int i = 0; i < 2 && status == HN_OK; i++) {
        char *text = NULL;
        size_t size;
        status = hn_folder_read(&text, &size, from, made[i], TOKENIZER_FILE_MAX, error);
        if (status == HN_OK) status = write_text(folder, made[i], text, size, error);
        hn_free(text);
    }
    return status;
}

static hn_status write_weights(const char *folder, const char *name, const hn_named_tensor *tensors, size_t count,
                               const hn_tensor_source *source, hn_dtype dtype, hn_error *error)
{
    char *path = hn_path_join(folder, name);
    hn_status status = path ? hn_safetensors_save_from(path, tensors, count, source, dtype, error)
                            : hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    hn_free(path);
    return status;
}

/* An empty temporary folder for what will be `path` (hn_free). */
static hn_status begin(char **temporary, const char *path, const hn_folder_file *extra, size_t extra_count, hn_error *error)
{
    hn_status status = check_replaceable(path, extra, extra_count, error);
    if (status != HN_OK) return status;
    *temporary = temporary_of(path);
    if (!*temporary) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", path);
    status = hn_folder_remove(*temporary, error); /* what a killed save left */
    return status == HN_OK ? hn_folder_make(*temporary, error) : status;
}

/* It takes its name, or goes when something failed on the way. */
static hn_status end(char *temporary, const char *path, hn_status status, hn_error *error)
{
    if (status == HN_OK) status = hn_folder_commit(temporary, path, true, error); /* failed: may have swapped already */
    else if (temporary) hn_folder_remove(temporary, NULL);
    hn_free(temporary);
    return status;
}

hn_status hn_folder_save_weights(const char *path, const char *weights, const json_t *config, const hn_named_tensor *tensors,
                                 size_t count, const hn_tensor_source *source, hn_dtype dtype, const hn_folder *tokenizer_from,
                                 const hn_folder_file *extra, size_t extra_count, hn_error *error)
{
    char *temporary = NULL;
    hn_status status = begin(&temporary, path, extra, extra_count, error);
    if (status == HN_OK) status = write_config(temporary, config, error);
    if (status == HN_OK) status = write_weights(temporary, weights, tensors, count, source, dtype, error);
    if (status == HN_OK && tokenizer_from) status = save_tokenizer(temporary, tokenizer_from, error);
    for (size_t i = 0; i < extra_count && status == HN_OK; i++)
        status = write_text(temporary, extra[i].name, extra[i].text, strlen(extra[i].text), error);
    return end(temporary, path, status, error);
}

hn_status hn_folder_save(const char *path, const json_t *config, const hn_named_tensor *tensors, size_t count,
                         hn_dtype dtype, const hn_folder *tokenizer_from, const hn_folder_file *extra,
                         size_t extra_count, hn_error *error)
{
    return hn_folder_save_weights(path, WEIGHTS_NAME, config, tensors, count, NULL, dtype, tokenizer_from, extra, extra_count,
                                  error);
}

hn_status hn_folder_save_from(const char *path, const json_t *config, const hn_named_tensor *tensors, size_t count,
                              const hn_tensor_source *source, hn_dtype dtype, const hn_folder *tokenizer_from,
                              const hn_folder_file *extra, size_t extra_count, hn_error *error)
{
    return hn_folder_save_weights(path, WEIGHTS_NAME, config, tensors, count, source, dtype, tokenizer_from, extra, extra_count,
                                  error);
}

hn_status hn_folder_copy(const char *path, const char *from, hn_error *error)
{
    static const char *const names[] = {"config.json", WEIGHTS_NAME, "adapter_config.json", "adapter_model.safetensors"};
    char *temporary = NULL;
    hn_status status = begin(&temporary, path, NULL, 0, error);
    for (int i = 0; i < 4 && status == HN_OK; i++) {
        char *file = hn_path_join(from, names[i]);
        if (!file) status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", from);
        else if (!i || hn_path_exists(file)) status = copy_file(temporary, names[i], file, SIZE_MAX, error);
        hn_free(file);
    }
    if (status == HN_OK) status = copy_tokenizer(temporary, from, error);
    return end(temporary, path, status, error);
}
