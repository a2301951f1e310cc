/* Reading a token cache (see cache.c for the file). In this order: map the file, compare the header with the
 * digest of all other bytes, only then let HDF5 look at it, compare the sources, and take the columns'
 * addresses. What the columns say is checked once more against the vocabulary and against each other, because
 * ids and offsets become addresses. */
#include <string.h>

#include "core/json.h"
#include "core/mem.h"
#include "data/cache_format.h"

/* Why a cache that is there cannot be used; the caller makes it anew. */
static hn_status unusable(hn_dataset *set, const char *path, const char *why, hn_error *error)
{
    snprintf(set->report.note, sizeof set->report.note, "%.400s: %s; made anew", path, why);
    return hn_fail(error, HN_ERR_MISMATCH, "%s: %s", path, why);
}

static hn_status check_header(hn_dataset *set, const char *path, hn_error *error)
{
    char header[HNP_CACHE_HEADER];
    const hn_mapping *m = &set->mapping;
    if (m->size <= HNP_CACHE_HEADER) return unusable(set, path, "the token cache is damaged", error);
    hnp_cache_header(header, m->bytes + HNP_CACHE_HEADER, m->size - HNP_CACHE_HEADER);
    if (memcmp(header, m->bytes, sizeof header))
        return unusable(set, path, "the token cache is damaged", error);
    return HN_OK;
}

/* Where a one-dimensional contiguous dataset of this type lies in the mapping; NULL: it does not. */
static const void *find_dataset(const hn_mapping *mapping, hid_t file, const char *name, hid_t type,
                                hsize_t *count)
{
    const void *found = NULL;
    H5L_info_t link; /* only what stands in this file: a link could lead to any other */
    bool here = H5Lget_info(file, name, &link, H5P_DEFAULT) >= 0 && link.type == H5L_TYPE_HARD;
    hid_t dataset = here ? H5Dopen2(file, name, H5P_DEFAULT) : -1;
    hid_t space = dataset < 0 ? -1 : H5Dget_space(dataset), stored = dataset < 0 ? -1 : H5Dget_type(dataset);
    size_t item = H5Tget_size(type);
    if (space >= 0 && stored >= 0 && H5Tequal(stored, type) > 0 && H5Sget_simple_extent_ndims(space) == 1 &&
        H5Sget_simple_extent_dims(space, count, NULL) == 1) {
        haddr_t offset = H5Dget_offset(dataset);
        if (*count == 0)
            found = mapping->bytes;
        else if (offset != HADDR_UNDEF && offset % item == 0 && offset <= mapping->size &&
                 *count <= (mapping->size - offset) / item)
            found = mapping->bytes + offset;
    }
    if (stored >= 0) H5Tclose(stored);
    if (space >= 0) H5Sclose(space);
    if (dataset >= 0) H5Dclose(dataset);
    return found;
}

static bool take_columns(hn_dataset *set, hid_t file, bool wide)
{
    const void *found[HNP_COLUMNS];
    hsize_t count[HNP_COLUMNS];
    for (int i = 0; i < HNP_COLUMNS; i++) {
        found[i] = find_dataset(&set->mapping, file, hnp_cache_column_name(i), hnp_cache_column_type(i, wide),
                                &count[i]);
        if (!found[i]) return false;
    }
    set->wide = wide;
    set->tokens = found[HNP_TOKENS];
    set->marks = found[HNP_MARKS];
    set->offsets = found[HNP_OFFSETS];
    set->segment = found[HNP_SEGMENT];
    set->label = found[HNP_LABELS];
    set->value = found[HNP_VALUES];
    set->line = found[HNP_LINES];
    set->first = found[HNP_FIRST];
    set->count = (int64_t)count[HNP_LINES];
    hsize_t n = count[HNP_LINES];
    if (count[HNP_MARKS] != (set->task == HN_DATA_INSTRUCT || set->task == HN_DATA_TAGS ? count[HNP_TOKENS] : 0)) return false;
    if (n > UINT32_MAX || count[HNP_OFFSETS] != n + 1 || count[HNP_SEGMENT] != n || count[HNP_LABELS] != n ||
        count[HNP_VALUES] != n || count[HNP_FIRST] != (hsize_t)set->file_count + 1)
        return false;
    return set->offsets[0] == 0 && set->offsets[n] == (int64_t)count[HNP_TOKENS] && set->first[0] == 0 &&
           set->first[set->file_count] == set->count;
}

/* Every length, segment, id and file is possible. */
static bool columns_are_sound(const hn_dataset *set, int32_t vocabulary)
{
    int64_t tokens = set->offsets[set->count], bad = 0;
    for (int64_t i = 0; i < set->count; i++) {
        int64_t length = set->offsets[i + 1] - set->offsets[i];
        bad |= length < 1 || length > 65536 || set->segment[i] < 0 || set->segment[i] > length;
    }
    for (int32_t i = 0; i < set->file_count; i++) bad |= set->first[i] > set->first[i + 1];
    if (bad) return false;
    if (set->wide)
        for (int64_t i = 0; i < tokens; i++)
            bad |= ((const int32_t *)set->tokens)[i] < 0 || ((const int32_t *)set->tokens)[i] >= vocabulary;
    else
        for (int64_t i = 0; i < tokens; i++) bad |= ((const uint16_t *)set->tokens)[i] >= vocabulary;
    return !bad;
}

static hn_status take_report(hn_data_report *report, const json_t *info, const char *path, hn_error *error)
{
    const int64_t most = INT64_MAX;
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

/* The JSON text of "info", parsed; NULL with `error` filled. */
static json_t *read_info(hn_dataset *set, hid_t file, hn_digest key, const char *path, hn_error *error)
{
    hsize_t count = 0;
    json_t *info = NULL;
    const char *text = find_dataset(&set->mapping, file, HNP_CACHE_INFO, H5T_STD_U8LE, &count);
    if (!text) {
        unusable(set, path, "the token cache is of another kind", error);
        return NULL;
    }
    if (hn_json_parse(&info, text, count, path, HN_JSON_LIMITS_SMALL, error)) return NULL;
    const char *stored = "";
    hn_digest digest;
    if (hn_json_get_string(&stored, info, "key", path, error) || !hn_digest_parse(&digest, stored) ||
        !hn_digest_equal(digest, key)) {
        unusable(set, path, "the token cache has another key", error);
        json_decref(info);
        return NULL;
    }
    return info;
}

static hn_status load_file(hn_dataset *set, hnp_sources *sources, hn_digest key, int32_t vocabulary,
                           const char *path, hn_error *error)
{
    bool same = false;
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) return unusable(set, path, "HDF5 cannot open the token cache", error);
    json_t *info = read_info(set, file, key, path, error);
    hn_status status = info ? HN_OK : error->status;
    if (!status) status = compare_sources(sources, info, &same, path, error);
    if (!status && !same)
        status = unusable(set, path, "the data changed since the token cache was made", error);
    if (!status && (!take_columns(set, file, vocabulary > 65536) || !columns_are_sound(set, vocabulary)))
        status = unusable(set, path, "the columns of the token cache do not fit each other", error);
    if (!status) status = take_report(&set->report, info, path, error);
    json_decref(info);
    H5Fclose(file);
    return status;
}

hn_status hnp_cache_load(hn_dataset *dataset, hnp_sources *sources, hn_digest key, int32_t vocabulary,
                         const char *path, hn_error *error)
{
    hnp_quiet quiet;
    if (!hn_path_exists(path)) return hn_fail(error, HN_ERR_MISMATCH, "%s: no such token cache", path);
    hn_status status = hn_mapping_open(&dataset->mapping, path, error);
    if (status) return status;
    status = check_header(dataset, path, error);
    if (!status) {
        hnp_quiet_begin(&quiet);
        status = load_file(dataset, sources, key, vocabulary, path, error);
        hnp_quiet_end(&quiet);
    }
    if (status) {
        hn_mapping_close(&dataset->mapping);
        dataset->count = 0;
    }
    return status;
}
