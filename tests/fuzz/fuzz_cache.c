/* A token cache from strangers: the bytes are the HDF5 file behind the header, which is made right here, as a fuzzer finds no digests.
 * As a cache of each task: it is to be made anew, and why is said, or every example that a run would take from it keeps to the
 * tokenizer's ids, the classes and data.max_tokens. */
#include "core/json.h"
#include "core/mem.h"
#include "data/cache_format.h"
#include "tests/fuzz/fuzz.h"

#define NAME "cache.h5"
enum { VOCABULARY = 400, LONGEST = 16, CLASSES = 2 };

static char path[160];
static hn_batch_buffer buffer;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    hn_json_init();
    snprintf(path, sizeof path, "%s/" NAME, fuzz_folder());
    DEMAND(hn_batch_buffer_init(&buffer, LONGEST, 1, NULL) == HN_OK);
    return 0;
}

static void put(const uint8_t *bytes, size_t size)
{
    char header[HNP_CACHE_HEADER];
    hnp_cache_header(header, bytes, size);
    FILE *file = fopen(path, "wb");
    DEMAND(file && fwrite(header, 1, sizeof header, file) == sizeof header && fwrite(bytes, 1, size, file) == size && !fclose(file));
}

static void check_example(const hn_dataset *set, uint32_t example)
{
    const hn_batch *batch = &buffer.batch;
    bool tags = set->task == HN_DATA_TAGS;
    DEMAND(hn_dataset_fill(set, &buffer, &example, 1, NULL) == HN_OK && batch->tokens > 0);
    for (int32_t t = 0; t < batch->tokens; t++) {
        DEMAND(batch->token[t] >= 0 && batch->token[t] < VOCABULARY && batch->position[t] < LONGEST);
        DEMAND(!batch->target || batch->target[t] == HN_NO_TARGET ||
               (batch->target[t] >= 0 && batch->target[t] < (tags ? CLASSES : VOCABULARY)));
    }
    if (set->task == HN_DATA_SEQUENCE) DEMAND(batch->label[0] >= 0 && batch->label[0] < CLASSES);
    else DEMAND(hn_dataset_targets(set, &example, 1, NULL) > 0);
}

static void load(hn_data_task task)
{
    static const hnp_cache_bounds bounds = {VOCABULARY, LONGEST, CLASSES};
    const char *from = "-";
    hn_list files = {&from, 1};
    hnp_sources sources;
    hn_error error = {0};
    hn_dataset *set = calloc(1, sizeof *set);
    DEMAND(set && hnp_sources_init(&sources, &files, &error) == HN_OK);
    set->file_count = 1;
    set->task = task;
    hn_status status = hnp_cache_load(set, &sources, (hn_digest){1, 2}, &bounds, path, &error);
    DEMAND(status == HN_OK || (status == HN_ERR_MISMATCH && strstr(set->report.note, "; made anew")));
    if (status != HN_OK) fuzz_refused(&error, path);
    for (int64_t i = 0; i < set->count; i++) check_example(set, (uint32_t)i);
    hn_mapping_close(&set->mapping);
    hnp_sources_close(&sources);
    free(set);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const hn_data_task tasks[] = {HN_DATA_SEQUENCE, HN_DATA_TEXT, HN_DATA_INSTRUCT, HN_DATA_TAGS};
    put(bytes, size);
    fuzz_begin();
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++) load(tasks[i]);
    fuzz_end(size);
    return 0;
}
