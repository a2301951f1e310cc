/* choose_tokens.cu on the emulator against the CPU's table, which tests/kernels/test_choose_tokens.c holds to rules worked out by hand: the
 * same tokens, but where a number falls on the end of one. */
#include "tests/cuda_on_cpu/device.h"

/* Rows whose tokens are chosen by both. */
typedef struct batch {
    int64_t rows, count;
    hn_tensor logits, copy; /* copy: the CPU's, which it changes */
    float *kept;            /* [rows, count] as they were */
    int32_t *id, *cpu_id, *place;
    uint32_t *example, *position, *seen, *cpu_seen;
} batch;

static int compared, different;

/* AddressSanitizer's, where it is there. */
void __asan_poison_memory_region(const volatile void *memory, size_t size) __attribute__((weak));

/* [rows, count], row after row `gap` further on, the first `from` elements into its memory: nobody may read before it. */
static batch batch_new(int64_t rows, int64_t count, int64_t gap, int64_t from)
{
    const size_t keys = (size_t)rows * 4, words = (size_t)rows * (size_t)hn_seen_words((int32_t)count) * 4;
    batch b = {rows, count, matrix_random(HN_F32, rows, count, count + gap, 6), matrix_new(HN_F32, rows, count, count + gap),
               floats_new(rows * count), malloc(keys), malloc(keys), malloc(keys), malloc(keys), malloc(keys), calloc(words + 1, 1),
               malloc(words + 1)};
    if (from) {
        free(b.logits.data);
        b.logits = matrix_random(HN_F32, rows, count + from, count + gap + from, 6);
        if (__asan_poison_memory_region) __asan_poison_memory_region(b.logits.data, (size_t)from / 2 * 2 * sizeof(float));
        b.logits = hn_tensor_columns(&b.logits, from, count);
    }
    for (int64_t r = 0; r < rows; r++) {
        b.place[r] = (int32_t)(rows - 1 - r);
        b.example[r] = (uint32_t)(r * 3 % 7);
        b.position[r] = (uint32_t)(r * r);
    }
    return b;
}

static void batch_free(batch *b, int64_t from)
{
    free((float *)b->logits.data - from), free(b->copy.data), free(b->kept), free(b->id), free(b->cpu_id), free(b->place);
    free(b->example), free(b->position), free(b->seen), free(b->cpu_seen);
}

static void set(const batch *b, int64_t row, int64_t column, double value)
{
    put(&b->logits, row, column, value);
}

static const float *order_scores;
static int by_score(const void *a, const void *b)
{
    float x = order_scores[*(const int *)a], y = order_scores[*(const int *)b];
    return x > y ? -1 : x < y;
}

/* Whether the row's number lies within V 2^-44 of the end of a token that is kept, or top_p of the end of a sum: only there two ways of
 * adding up may choose differently. `scores`: the CPU's, penalised and divided. */
static bool at_an_end(const batch *b, int64_t r, const hn_sampling *s)
{
    const float *scores = (const float *)b->copy.data + r * b->copy.stride;
    const double limit = (double)b->count * 0x1p-44;
    double all = 0, sum = 0;
    int *order = malloc((size_t)b->count * sizeof *order), left = 0;
    bool *in = calloc((size_t)b->count, 1), near = false;
    for (int i = 0; i < b->count; i++) order[i] = i;
    order_scores = scores;
    qsort(order, (size_t)b->count, sizeof *order, by_score);
    const double highest = (double)scores[order[0]];
    for (int i = 0; i < b->count; i++)
        if (!s->top_k || i < s->top_k || scores[order[i]] == scores[order[s->top_k - 1]]) all += exp((double)scores[order[left++]] - highest);
    for (int i = 0; i < left; i++) {
        if (s->top_p < 1 && fabs(sum - (double)s->top_p * all) <= limit) near = true;
        if (!i || s->top_p >= 1 || sum < (double)s->top_p * all) in[order[i]] = exp((double)scores[order[i]] - highest) >= (double)s->min_p;
        sum += exp((double)scores[order[i]] - highest);
    }
    const hn_philox4 drawn = hn_philox(s->seed, 0, HN_SITE(0, HN_SITE_SAMPLE, 0), b->example[r], b->position[r]);
    const double number = ((double)(drawn.word[0] >> 5) * 67108864.0 + (double)(drawn.word[1] >> 6)) * 0x1p-53;
    all = sum = 0;
    for (int i = 0; i < b->count; i++) all += in[i] ? exp((double)scores[i] - highest) : 0;
    for (int i = 0; i < b->count; i++) {
        sum += in[i] ? exp((double)scores[i] - highest) : 0;
        near |= in[i] && fabs(sum - number * all) <= limit;
    }
    free(order), free(in);
    return near;
}

/* Both tables; true when they agree, with the logits left alone by the GPU. */
static bool agree(device *d, table *cpu, batch *b, const hn_sampling *s)
{
    const size_t words = (size_t)b->rows * (size_t)hn_seen_words((int32_t)b->count) * 4, row = (size_t)b->count * sizeof(float);
    const bool penalty = s->repetition_penalty != 1;
    hn_next_tokens next = {b->example, b->position, b->place, penalty ? b->seen : NULL}, cpu_next = next;
    cpu_next.seen = penalty ? b->cpu_seen : NULL;
    memcpy(b->cpu_seen, b->seen, words);
    for (int64_t r = 0; r < b->rows; r++) {
        memcpy((float *)b->copy.data + r * b->copy.stride, (float *)b->logits.data + r * b->logits.stride, row);
        memcpy(b->kept + r * b->count, (float *)b->logits.data + r * b->logits.stride, row);
    }
    memset(b->id, 0x55, (size_t)b->rows * 4);
    d->ops->choose_tokens(&d->ctx, b->id, &b->logits, &next, s);
    device_wait(d);
    hn_ops_cpu()->choose_tokens(&cpu->ctx, b->cpu_id, &b->copy, &cpu_next, s);
    bool same = d->error.status == HN_OK && cpu->error.status == HN_OK;
    for (int64_t r = 0; r < b->rows; r++) {
        compared++;
        same &= !memcmp(b->kept + r * b->count, (float *)b->logits.data + r * b->logits.stride, row);
        if (b->id[r] == b->cpu_id[r]) continue;
        different++;
        fprintf(stderr, "row %lld of [%lld, %lld], T %g k %d p %g min %g: got %d, the CPU chose %d\n", (long long)r, (long long)b->rows,
                (long long)b->count, (double)s->temperature, s->top_k, (double)s->top_p, (double)s->min_p, b->id[r], b->cpu_id[r]);
        same &= b->id[r] >= 0 && b->cpu_id[r] >= 0 && s->temperature > 0 && at_an_end(b, r, s);
    }
    return same && (!penalty || different || !memcmp(b->seen, b->cpu_seen, words));
}

#define CHECK_AGREE(b, s)                                                                                             \
    do {                                                                                                              \
        if (!agree(&d, &cpu, b, s))                                                                                   \
            TEST_FAIL("[%lld, %lld]: not what the CPU chose %s", (long long)(b)->rows, (long long)(b)->count, d.error.message); \
    } while (0)

static const hn_sampling greedy = {.top_p = 1, .repetition_penalty = 1};

/* Sizes around those where a vector, a warp, a block and its number of threads change; rows that begin anywhere; many equals. */
TEST(greedy_at_odd_sizes)
{
    static const int64_t rows[] = {0, 1, 3, 33}, counts[] = {1, 2, 3, 5, 31, 33, 257, 1023, 1025, 4096, 4097, 5003};
    device d;
    table cpu;
    device_open(&d, 0);
    cpu_open(&cpu);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            if (!case_wanted() || rows[i] * counts[c] > 40000) continue;
            const int64_t from = (int64_t)(i + c) % 4;
            batch b = batch_new(rows[i], counts[c], (int64_t)c % 3, from);
            for (int64_t r = 0; r < rows[i]; r++) {
                for (int64_t v = 0; r % 3 == 1 && v < counts[c]; v++) set(&b, r, v, floor(get(&b.logits, r, v)));
                if (r % 3 == 2) set(&b, r, r % 2 ? 0 : counts[c] - 1, 9); /* the first, the last */
            }
            CHECK_AGREE(&b, &greedy);
            batch_free(&b, from);
        }
    cpu_close(&cpu);
    device_close(&d);
}

/* Zeros of both signs are equals; everything below zero; nothing but one. */
TEST(greedy_among_equals)
{
    device d;
    table cpu;
    device_open(&d, 0);
    cpu_open(&cpu);
    batch b = batch_new(5, 600, 0, 0);
    for (int64_t v = 0; v < 600; v++) {
        set(&b, 0, v, v < 70 ? -1 : v < 300 ? -0.0 : 0.0);
        set(&b, 1, v, v < 70 ? -1 : v < 300 ? 0.0 : -0.0);
        set(&b, 2, v, -1e30);
        set(&b, 3, v, v == 431 ? -3e38 : -INFINITY);
        set(&b, 4, v, v == 257 || v == 255 ? 1e-45 : 0);
    }
    CHECK_AGREE(&b, &greedy);
    CHECK(b.id[0] == 70 && b.id[1] == 70 && b.id[2] == 0 && b.id[3] == 431 && b.id[4] == 255);
    batch_free(&b, 0);
    cpu_close(&cpu);
    device_close(&d);
}

static const hn_sampling rules[] = {
    {1, 0, 1, 0, 1, 1},       {0.7f, 7, 1, 0, 1, 2},      {1.3f, 0, 0.9f, 0, 1, 3},        {1, 0, 1, 0.05f, 1, 4},
    {1, 40, 0.95f, 0, 1, 5},  {2, 300, 0.99f, 1e-3f, 1, 6}, {1, 1, 0.5f, 0.5f, 1, 7},      {1, 65, 0.9999f, 1e-4f, 1.3f, 8},
    {1, 0, 0.999f, 0, 0.8f, 9}, {1, 0, 1e-6f, 1, 1, 10},    {0.01f, 100000, 0.3f, 0, 1, 11}, {50, 0, 0.6f, 0, 1.1f, 12}};
enum { RULES = sizeof rules / sizeof *rules };

/* Many equals in every third row; zeros of both signs among them. */
static void make_equals(const batch *b)
{
    for (int64_t r = 0; r < b->rows; r += 3)
        for (int64_t v = 0; v < b->count; v++) set(b, r, v, trunc(get(&b->logits, r, v) / 2));
}

TEST(every_rule_at_odd_sizes)
{
    static const int64_t counts[] = {1, 2, 31, 33, 257, 1000, 4099};
    device d;
    table cpu;
    device_open(&d, 0);
    cpu_open(&cpu);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (int i = 0; i < RULES; i++) {
            if (!case_wanted()) continue;
            const int64_t rows = counts[c] > 1000 ? 2 : 3, from = (int64_t)c % 4;
            batch b = batch_new(rows, counts[c], i % 4, from);
            make_equals(&b);
            for (int64_t w = 0; w < rows * hn_seen_words((int32_t)counts[c]); w++)
                b.seen[w] = (uint32_t)w * 2654435761u & (counts[c] % 32 ? (1u << counts[c] % 32) - 1 : ~0u);
            CHECK_AGREE(&b, &rules[i]);
            if (rules[i].repetition_penalty != 1) CHECK_AGREE(&b, &rules[i]); /* with what was chosen among what is there */
            batch_free(&b, from);
        }
    cpu_close(&cpu);
    device_close(&d);
}

TEST(thousands_of_draws)
{
    device d;
    table cpu;
    device_open(&d, 0);
    cpu_open(&cpu);
    for (int i = 0; i < RULES; i++) {
        if (!case_wanted()) continue;
        const bool plain = !rules[i].top_k && rules[i].top_p >= 1;
        batch b = batch_new(plain ? 700 : 40, 200, 0, 0);
        make_equals(&b);
        for (int64_t r = 0; r < b.rows; r++) b.example[r] = (uint32_t)r;
        CHECK_AGREE(&b, &rules[i]);
        batch_free(&b, 0);
    }
    CHECK(different <= compared / 1000);
    cpu_close(&cpu);
    device_close(&d);
}

/* Scores far apart and close together, at the ends of floats, infinitely low; thousands of equals, of which top_p takes some. */
TEST(scores_of_all_kinds)
{
    device d;
    table cpu;
    device_open(&d, 0);
    cpu_open(&cpu);
    for (int i = 0; i < RULES; i++) {
        if (!case_wanted()) continue;
        batch b = batch_new(6, 4500, 1, 0);
        for (int64_t v = 0; v < b.count; v++) {
            set(&b, 0, v, v % 5 ? 2 : 1);
            set(&b, 1, v, 1e-40 * (double)(v % 97));
            set(&b, 2, v, v % 2 ? -INFINITY : 3 + 1e-6 * (double)(v % 1000));
            set(&b, 3, v, v == 4321 ? -30 : v == 17 ? -31 : -INFINITY);
            set(&b, 4, v, v % 1000 ? -1e37 * (double)v / 4500 : 0.25);
            set(&b, 5, v, -(double)v);
        }
        CHECK_AGREE(&b, &rules[i]);
        batch_free(&b, 0);
    }
    cpu_close(&cpu);
    device_close(&d);
}

/* A bad row is told, and its neighbours are chosen from. */
TEST(what_is_no_number_is_told)
{
    device d;
    table cpu;
    device_open(&d, 0);
    cpu_open(&cpu);
    for (int i = 0; i < 3; i++) {
        const hn_sampling s[3] = {greedy, rules[0], {1e-30f, 5, 0.9f, 0, 1.5f, 3}};
        batch b = batch_new(8, 515, 0, 0);
        set(&b, 0, 0, NAN);
        set(&b, 1, 514, -NAN);
        set(&b, 3, 200, INFINITY);
        for (int64_t v = 0; v < 515; v++) set(&b, 4, v, -INFINITY);
        set(&b, 6, 7, 1e38); /* too high for s[2] */
        for (int64_t v = 0; v < 515; v++) set(&b, 7, v, -3e38);
        CHECK_AGREE(&b, &s[i]);
        for (int r = 0; r < 8; r++) CHECK_INT(b.id[r] == HN_NO_TOKEN, r == 0 || r == 1 || r == 3 || r == 4 || (r > 5 && i == 2));
        for (int w = 0; w < 17; w++) CHECK(!b.seen[7 * 17 + w]);
        batch_free(&b, 0);
    }
    cpu_close(&cpu);
    device_close(&d);
}

/* As large as vocabularies come, and no multiple of anything. */
TEST(large_vocabularies)
{
    static const int64_t counts[] = {151937, 262144};
    device d;
    table cpu;
    device_open(&d, 0);
    cpu_open(&cpu);
    for (int c = 0; c < 2; c++)
        for (int i = 2; i <= 4; i += 2) {
            if (!case_wanted()) continue;
            batch b = batch_new(1, counts[c], 0, 3);
            CHECK_AGREE(&b, &rules[i]);
            batch_free(&b, 3);
        }
    cpu_close(&cpu);
    device_close(&d);
}

TEST(same_tokens_in_another_order)
{
    int32_t first[4];
    for (int run = 0; run < 4; run++) {
        device d;
        table cpu;
        test_random = 77;
        cpu_open(&cpu);
        device_open(&d, 0);
        emu_seed(900 + (uint64_t)run);
        batch b = batch_new(4, 5000, 0, 0);
        make_equals(&b);
        CHECK_AGREE(&b, &rules[5]);
        if (!run) memcpy(first, b.id, sizeof first);
        CHECK(!memcmp(first, b.id, sizeof first));
        batch_free(&b, 0);
        cpu_close(&cpu);
        device_close(&d);
    }
}

TEST_MAIN(RUN(greedy_at_odd_sizes); RUN(greedy_among_equals); RUN(every_rule_at_odd_sizes); RUN(thousands_of_draws);
          RUN(scores_of_all_kinds); RUN(what_is_no_number_is_told); RUN(large_vocabularies); RUN(same_tokens_in_another_order);
          printf("%d tokens chosen, %d unlike the CPU's\n", compared, different))
