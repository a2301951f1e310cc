/* See zero.h. Groups come in their order, matrices before all vectors: matrices of a bf16 model have copies, and vectors have none, so that a
 * bucket is of one kind. Small groups share a bucket, up to LEAST elements, as a message has its price; a large one is cut, so that the first
 * of its elements are on their way while the others are computed. Groups that begin to train at different steps share none: what does not
 * train yet is not sent. The vectors are so few (a five-hundredth of the elements) that they share one. */
#include "train/zero.h"

#include <string.h>

#include "core/mem.h"

#define LEAST ((int64_t)1 << 20) /* elements of a bucket, unless there are no more */
#define MOST ((int64_t)1 << 24)

/* Buckets under construction. */
typedef struct builder {
    hnp_zero *zero;
    size_t capacity;
    hnp_bucket open; /* count 0: none */
    bool failed;
} builder;

static int64_t align(int64_t count, int64_t to)
{
    return (count + to - 1) / to * to;
}

/* Pads the open bucket, and lists it in pieces of MOST elements. */
static void close_bucket(builder *b)
{
    hnp_zero *zero = b->zero;
    int64_t unit = HNP_ZERO_ALIGN * (int64_t)zero->parts, most = align(MOST, unit), end = b->open.first + align(b->open.count, unit);
    for (int64_t at = b->open.first; b->open.count && at < end && !b->failed; at += most) {
        void *grown = zero->bucket;
        b->failed = !hn_grow(&grown, &b->capacity, (size_t)zero->buckets + 1, sizeof *zero->bucket);
        zero->bucket = grown;
        if (b->failed) return;
        zero->bucket[zero->buckets] = b->open;
        zero->bucket[zero->buckets].first = at;
        zero->bucket[zero->buckets++].count = end - at < most ? end - at : most;
    }
    if (b->open.count) zero->gradients = end;
    b->open.count = 0;
}

static void add(builder *b, const hn_param *param, int index, int64_t thaw, bool narrow)
{
    hnp_zero *zero = b->zero;
    if (!b->open.count)
        b->open = (hnp_bucket){.first = zero->gradients, .lowest = param->group, .highest = param->group, .narrow = narrow, .thaw = thaw};
    if (param->group < b->open.lowest) b->open.lowest = param->group;
    if (param->group > b->open.highest) b->open.highest = param->group;
    if (thaw < b->open.thaw) b->open.thaw = thaw;
    int64_t place = b->open.first + b->open.count;
    zero->value[index] = zero->gradient[index] = place;
    zero->copy[index] = narrow ? place : -1;
    b->open.count += align(param->rows * param->columns, 32);
}

/* The trained parameters of one rank (vectors or matrices) of a group. */
static void add_group(builder *b, const hn_param *params, int count, const hn_freeze_plan *plan, int group, int rank, bool narrow)
{
    for (int p = 0; p < count; p++)
        if (params[p].group == group && params[p].rank == rank && !params[p].frozen && plan->ever[group])
            add(b, &params[p], p, plan->thaw[group], narrow && rank == 2);
}

static void build(builder *b, const hn_param *params, int count, const hn_freeze_plan *plan, bool narrow)
{
    hnp_zero *zero = b->zero;
    for (int g = 0; g < plan->groups; g++) {
        if (b->open.count >= LEAST || (b->open.count && plan->thaw[g] != b->open.thaw)) close_bucket(b);
        add_group(b, params, count, plan, g, 2, narrow);
    }
    close_bucket(b);
    zero->copies = narrow ? zero->gradients : 0;
    for (int g = 0; g < plan->groups; g++) add_group(b, params, count, plan, g, 1, narrow);
    close_bucket(b);
    zero->values = zero->gradients;
}

/* What never trains stands behind. A matrix that products read in bf16 stands there alone. */
static void add_frozen(hnp_zero *zero, const hn_param *params, int count, bool narrow)
{
    for (int p = 0; p < count; p++) {
        if (zero->gradient[p] >= 0) continue;
        bool alone = narrow && params[p].rank == 2;
        int64_t *end = alone ? &zero->copies : &zero->values;
        *(alone ? &zero->copy[p] : &zero->value[p]) = *end;
        *end += align(params[p].rows * params[p].columns, 32);
    }
}

static hn_status alloc_places(hnp_zero *zero, int count, int parts, hn_error *error)
{
    size_t places = (size_t)count;
    *zero = (hnp_zero){.parts = parts};
    zero->value = hn_malloc(3 * places * sizeof *zero->value);
    if (!zero->value) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the places of %d parameters", count);
    memset(zero->value, 0xff, 3 * places * sizeof *zero->value);
    zero->copy = zero->value + places;
    zero->gradient = zero->copy + places;
    return HN_OK;
}

hn_status hnp_zero_init(hnp_zero *zero, const hn_param *params, int count, const hn_freeze_plan *plan, bool narrow, int parts, hn_error *error)
{
    builder b = {.zero = zero};
    hn_status status = alloc_places(zero, count, parts, error);
    if (status != HN_OK) return status;
    build(&b, params, count, plan, narrow);
    if (b.failed) {
        hnp_zero_close(zero);
        return hn_fail(error, HN_ERR_MEMORY, "out of memory for the buckets of %d parameters", count);
    }
    add_frozen(zero, params, count, narrow);
    return HN_OK;
}

hn_status hnp_zero_init_whole(hnp_zero *zero, const hn_param *params, int count, const hn_freeze_plan *plan, hn_error *error)
{
    hn_status status = alloc_places(zero, count, 1, error);
    if (status != HN_OK) return status;
    for (int p = 0; p < count; p++) {
        zero->value[p] = params[p].offset;
        zero->copy[p] = params[p].copy_offset;
        if (params[p].frozen || !plan->ever[params[p].group]) continue;
        zero->gradient[p] = zero->gradients;
        zero->gradients += align(params[p].rows * params[p].columns, 32);
    }
    zero->bucket = hn_memdup(&(hnp_bucket){.count = zero->gradients, .highest = plan->groups - 1}, sizeof *zero->bucket);
    zero->buckets = 1;
    status = zero->bucket ? hnp_zero_own(zero, params, count, 0, 1, error)
                          : hn_fail(error, HN_ERR_MEMORY, "out of memory for the bucket of %d parameters", count);
    if (status != HN_OK) hnp_zero_close(zero);
    return status;
}

void hnp_zero_close(hnp_zero *zero)
{
    hn_free(zero->bucket);
    hn_free(zero->value);
    hn_free(zero->run);
    *zero = (hnp_zero){0};
}

/* What of the elements [begin, end), a share of bucket `b`, belongs to parameters. */
static bool list_runs(hnp_zero *zero, size_t *capacity, const hn_param *params, int count, int b, int64_t begin, int64_t end)
{
    for (int p = 0; p < count; p++) {
        int64_t first = zero->gradient[p], last = first + params[p].rows * params[p].columns;
        int64_t from = first > begin ? first : begin, to = last < end ? last : end;
        if (first < 0 || from >= to) continue;
        void *grown = zero->run;
        if (!hn_grow(&grown, capacity, (size_t)zero->runs + 1, sizeof *zero->run)) return false;
        zero->run = grown;
        zero->run[zero->runs++] = (hnp_run){.param = p, .bucket = b, .element = from - first, .count = to - from, .at = zero->kept + from - begin};
    }
    return true;
}

hn_status hnp_zero_own(hnp_zero *zero, const hn_param *params, int count, int share, int shares, hn_error *error)
{
    size_t capacity = 0;
    bool listed = true;
    HN_ASSERT(share >= 0 && share < shares && zero->parts % shares == 0);
    hn_free(zero->run);
    zero->run = NULL;
    zero->runs = zero->kept = 0;
    for (int b = 0; b < zero->buckets && listed; b++) {
        int64_t size = zero->bucket[b].count / shares, begin = zero->bucket[b].first + share * size;
        listed = list_runs(zero, &capacity, params, count, b, begin, begin + size);
        zero->kept += size;
    }
    return listed ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "out of memory for the shares of %d parameters", count);
}
