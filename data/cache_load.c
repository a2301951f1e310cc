/* Reading a token cache (see cache.c for the file). In this order: map the file, compare the header with the
 * digest of all other bytes, find the columns (without HDF5, which such a file could crash), compare the sources. Digests find damage,
 * not malice: what the columns say is checked once more against what the encoder keeps to, because ids, lengths and labels become
 * addresses. Whatever is wrong with the file, the caller makes it anew. */
#include <math.h>
#include <string.h>

#include "core/batch.h"
#include "core/json.h"
#include "core/mem.h"
#include "data/cache_format.h"

static hn_status check_header(const hn_mapping *m, const char *path, hn_error *error)
{
    char header[HNP_CACHE_HEADER];
    if (m->size > HNP_CACHE_HEADER) hnp_cache_header(header, m->bytes + HNP_CACHE_HEADER, m->size - HNP_CACHE_HEADER);
    if (m->size <= HNP_CACHE_HEADER || memcmp(header, m->bytes, sizeof header))
        return hn_fail(error, HN_ERR_FORMAT, "%s: the token cache is damaged", path);
    return HN_OK;
}

/* Where a one-dimensional dataset of this type lies in the mapping, and how many items it has. */
static hn_status find_column(const void **found, int64_t *count, const hn_hdf5 *file, const char *name, hn_dtype type, hn_error *error)
{
    uint64_t offset = 0;
    hn_tensor shape = hn_tensor_1d(NULL, type, HN_HDF5_ANY);
    hn_status status = hn_hdf5_find(&offset, &shape, file, "column", name, error);
    if (!status && offset % hn_dtype_size(type))
        status = hn_fail(error, HN_ERR_FORMAT, "%s: column \"%s\": its items are not aligned", file->path, name);
    *found = file->map->bytes + offset;
    *count = shape.shape[0];
    return status;
}

/* The columns' addresses; false: their lengths do not fit each other. */
static bool lengths_fit(hn_dataset *set, const void *const found[HNP_COLUMNS], const int64_t count[HNP_COLUMNS])
{
    int64_t n = count[HNP_LINES];
    set->tokens = found[HNP_TOKENS];
    set->marks = found[HNP_MARKS];
    set->offsets = found[HNP_OFFSETS];
    set->segment = found[HNP_SEGMENT];
    set->label = found[HNP_LABELS];
    set->value = found[HNP_VALUES];
    set->line = found[HNP_LINES];
    set->first = found[HNP_FIRST];
    set->count = n;
    if (count[HNP_MARKS] != (set->task == HN_DATA_INSTRUCT || set->task == HN_DATA_TAGS ? count[HNP_TOKENS] : 0)) return false;
    if (n > UINT32_MAX || count[HNP_OFFSETS] != n + 1 || count[HNP_SEGMENT] != n || count[HNP_LABELS] != n ||
        count[HNP_VALUES] != n || count[HNP_FIRST] != (int64_t)set->file_count + 1)
        return false;
    return set->offsets[0] == 0 && set->offsets[n] == count[HNP_TOKENS] && set->first[0] == 0 && set->first[set->file_count] == n;
}

/* Every length, segment, label and value is possible. */
static bool examples_are_sound(const hn_dataset *set, const hnp_cache_bounds *bounds)
{
    bool classes = bounds->classes && set->task == HN_DATA_SEQUENCE;
    int32_t lowest = classes ? 0 : HN_NO_TARGET, highest = classes ? bounds->classes - 1 : HN_NO_TARGET;
    int64_t bad = 0, shortest = set->task == HN_DATA_TEXT ? 2 : 1;
    for (int64_t i = 0; i < set->count; i++) {
        int64_t from = set->offsets[i], to = set->offsets[i + 1];
        if (from > to || to > set->offsets[set->count]) return false;
        bad |= to - from < shortest || to - from > bounds->longest || set->segment[i] < 0 || set->segment[i] > to - from ||
               set->label[i] < lowest || set->label[i] > highest || !isfinite(set->value[i]) || set->line[i] < 0;
    }
    for (int32_t i = 0; i < set->file_count; i++) bad |= set->first[i] > set->first[i + 1];
    return !bad;
}

/* Every id is the tokenizer's. */
static bool tokens_are_sound(const hn_dataset *set, int32_t vocabulary)
{
    int64_t tokens = set->offsets[set->count], bad = 0;
    if (set->wide)
        for (int64_t i = 0; i < tokens; i++)
            bad |= ((const int32_t *)set->tokens)[i] < 0 || ((const int32_t *)set->tokens)[i] >= vocabulary;
    else
        for (int64_t i = 0; i < tokens; i++) bad |= ((const uint16_t *)set->tokens)[i] >= vocabulary;
    return !bad;
}

/* Every mark is a tag's or says yes or no, and every example has something to learn. */
static bool marks_are_sound(const hn_dataset *set, int32_t classes)
{
    bool tags = set->task == HN_DATA_TAGS;
    int32_t highest = tags && classes ? classes : 1;
    int64_t bad = 0;
    if (!tags && set->task != HN_DATA_INSTRUCT) return true;
    for (int64_t i = 0; i < set->count; i++) {
        int64_t taught = tags && !classes;
        for (int64_t t = set->offsets[i]; t < set->offsets[i + 1]; t++) {
            bad |= set->marks[t] > highest;
            taught |= set->marks[t] && (tags || t > set->offsets[i]);
        }
        bad |= !taught;
    }
    return !bad;
}

static hn_status take_columns(hn_dataset *set, const hn_hdf5 *file, const hnp_cache_bounds *bounds, hn_error *error)
{
    const void *found[HNP_COLUMNS];
    int64_t count[HNP_COLUMNS];
    hn_status status = HN_OK;
    set->wide = bounds->vocabulary > 65536;
    for (int i = 0; i < HNP_COLUMNS && !status; i++)
        status = find_column(&found[i], &count[i], file, hnp_cache_column_name(i), hnp_cache_column_type(i, set->wide), error);
    if (!status && !(lengths_fit(set, found, count) && examples_are_sound(set, bounds) && tokens_are_sound(set, bounds->vocabulary) &&
                     marks_are_sound(set, bounds->classes)))
        status = hn_fail(error, HN_ERR_FORMAT, "%s: the columns of the token cache do not fit each other, the tokenizer or the labels",
                         file->path);
    return status;
}

static hn_status take_report(hn_data_report *report, const json_t *info, const char *path, hn_error *error)
{
    const int64_t most = (int64_t)1 << 48; /* sums of them fit */
    hn_status status = hn_json_get_int(&report->rows, info, "rows", 0, most, path, error);
    if (!status) status = hn_json_get_int(&report->skipped, info, "skipped", 0, most, path, error);
    if (!status) status = hn_json_get_int(&report->unlabeled, info, "unlabeled", 0, most, path, error);
    if (!status) status = hn_json_get_int(&report->truncated, info, "truncated", 0, most, path, error);
    for (int kind = 0; kind < HN_BAD_KINDS && !status; kind++) {
        const json_t *bad = json_array_get(json_object_get(info, "bad"), (size_t)kind);
        const char *first = "";
        status = hn_json_get_int(&report->bad.count[kind], bad, "count", 0, most, path, error);
        if (!status) status = hn_json_get_string(&first, bad, "first", path, error);
        if (!status) snprintf(report->bad.first[kind], HN_BAD_MESSAGE, "%s", first);
    }
    return status;
}

static hn_status read_source(hnp_source_file *file, const json_t *info, const char *path, hn_error *error)
{
    const char *digest = "";
    hnp_stamp *s = &file->stamp;
    hn_status status = hn_json_get_string(&digest, info, "digest", path, error);
    if (!status) status = hn_json_get_int(&s->size, info, "size", 0, INT64_MAX, path, error);
    if (!status) status = hn_json_get_int(&s->modified, info, "modified", INT64_MIN, INT64_MAX, path, error);
    if (!status) status = hn_json_get_int(&s->changed, info, "changed", INT64_MIN, INT64_MAX, path, error);
    if (!status) status = hn_json_get_int(&s->inode, info, "inode", INT64_MIN, INT64_MAX, path, error);
    if (!status) status = hn_json_get_int(&s->device, info, "device", INT64_MIN, INT64_MAX, path, error);
    if (!status) status = hn_json_get_bool(&file->settled, info, "settled", path, error);
    if (!status && !hn_digest_parse(&file->digest, digest))
        status = hn_fail(error, HN_ERR_FORMAT, "%s: expected a digest", path);
    return status;
}

/* The files' digests: known from the cache where every stamp is the same and settled, else read; *same: they
 * agree. */
static hn_status compare_sources(hnp_sources *sources, const json_t *info, bool *same, const char *path,
                                 hn_error *error)
{
    const json_t *list = json_object_get(info, "sources");
    hnp_source_file *before = hn_calloc((size_t)sources->count, sizeof *before);
    hn_status status = before ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "token cache: out of memory");
    bool settled = true;
    *same = json_array_size(list) == (size_t)sources->count;
    for (int32_t i = 0; i < sources->count && !status && *same; i++) {
        status = read_source(&before[i], json_array_get(list, (size_t)i), path, error);
        settled &= before[i].settled && hnp_stamp_equal(&before[i].stamp, &sources->files[i].stamp);
        sources->files[i].digest = before[i].digest;
    }
    if (!status && *same && !settled) {
        status = hnp_sources_digest(sources, error);
        for (int32_t i = 0; i < sources->count; i++)
            *same &= hn_digest_equal(before[i].digest, sources->files[i].digest);
    }
    hn_free(before);
    return status;
}

/* The JSON text of "info", parsed. */
static hn_status read_info(json_t **info, const hn_hdf5 *file, hn_digest key, hn_error *error)
{
    const void *text;
    int64_t count;
    hn_digest digest;
    const char *stored = "";
    hn_status status = find_column(&text, &count, file, HNP_CACHE_INFO, HN_U8, error);
    if (!status) status = hn_json_parse(info, text, (size_t)count, file->path, HN_JSON_LIMITS_SMALL, error);
    if (!status) status = hn_json_get_string(&stored, *info, "key", file->path, error);
    if (!status && (!hn_digest_parse(&digest, stored) || !hn_digest_equal(digest, key)))
        status = hn_fail(error, HN_ERR_MISMATCH, "%s: the token cache has another key", file->path);
    return status;
}

static hn_status load_file(hn_dataset *set, hnp_sources *sources, hn_digest key, const hnp_cache_bounds *bounds, const char *path,
                           hn_error *error)
{
    bool same = false;
    json_t *info = NULL;
    hn_hdf5 file = {0};
    hn_data_report report = set->report;
    hn_status status = check_header(&set->mapping, path, error);
    if (!status) /* the columns and the info */
        status = hn_hdf5_open(&file, &set->mapping, HNP_CACHE_HEADER, HNP_COLUMNS + 1, path, error);
    if (!status) status = read_info(&info, &file, key, error);
    if (!status) status = compare_sources(sources, info, &same, path, error);
    if (!status && !same)
        status = hn_fail(error, HN_ERR_MISMATCH, "%s: the data changed since the token cache was made", path);
    if (!status) status = take_columns(set, &file, bounds, error);
    if (!status) status = take_report(&report, info, path, error);
    if (!status && !hn_mapping_intact(&set->mapping))
        status = hn_fail(error, HN_ERR_FORMAT, "%s: the token cache was cut short while it was read", path);
    if (!status) set->report = report;
    json_decref(info);
    hn_hdf5_close(&file);
    return status;
}

hn_status hnp_cache_load(hn_dataset *dataset, hnp_sources *sources, hn_digest key, const hnp_cache_bounds *bounds, const char *path,
                         hn_error *error)
{
    hn_error why = {0};
    if (!hn_path_exists(path)) return hn_fail(error, HN_ERR_MISMATCH, "%s: no such token cache", path);
    hn_status status = hn_mapping_open(&dataset->mapping, path, error);
    if (status) return status;
    status = load_file(dataset, sources, key, bounds, path, &why);
    if (!status) return HN_OK;
    hn_mapping_close(&dataset->mapping);
    dataset->count = 0;
    if (status != HN_ERR_MEMORY && status != HN_ERR_IO) { /* it is the cache that is wrong */
        snprintf(dataset->report.note, sizeof dataset->report.note, "%.480s; made anew", why.message);
        status = HN_ERR_MISMATCH;
    }
    return hn_fail(error, status, "%s", why.message);
}
