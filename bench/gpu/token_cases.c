/* What ends a step of generation: a token of each row of logits. */
#include "bench/gpu/bench.h"

typedef struct choice {
    bench *b;
    hn_tensor logits;
    int32_t *id;
    hn_next_tokens next;
    hn_sampling how;
} choice;

static void run_choice(void *context)
{
    choice *c = context;
    c->b->ops->choose_tokens(&c->b->ctx, c->id, &c->logits, &c->next, &c->how);
}

void bench_token_cases(bench *b, int64_t vocabulary)
{
    static const struct {
        const char *name;
        hn_sampling how;
    } cases[] = {{"choose_tokens, greedy", {0, 0, 1, 0, 1, 1}},
                 {"choose_tokens, penalty", {0, 0, 1, 0, 1.1f, 1}},
                 {"choose_tokens, drawn", {1, 0, 1, 0, 1, 1}},
                 {"choose_tokens, top_k", {1, 50, 1, 0, 1, 1}},
                 {"choose_tokens, top_p", {1, 0, 0.95f, 0, 1, 1}},
                 {"choose_tokens, top_k and top_p", {1, 50, 0.95f, 0, 1, 1}}};
    if (!bench_wanted(b, "choose_tokens")) return;
    for (int64_t rows = 1; rows <= 16; rows *= 16) {
        char shape[64];
        choice c = {.b = b, .logits = bench_tensor(b, HN_F32, rows, vocabulary), .id = bench_memory(b, (size_t)rows * 4)};
        int32_t place[16];
        for (int32_t r = 0; r < rows; r++) place[r] = r;
        c.next.place = bench_upload(b, place, (size_t)rows * 4);
        c.next.example = c.next.position = bench_upload(b, place, (size_t)rows * 4);
        uint32_t *seen = bench_memory(b, (size_t)rows * (size_t)hn_seen_words((int32_t)vocabulary) * 4);
        snprintf(shape, sizeof shape, "%lld x %lld", (long long)rows, (long long)vocabulary);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            c.how = cases[i].how;
            c.next.seen = c.how.repetition_penalty == 1 ? NULL : seen;
            bench_row(b, cases[i].name, shape, 4 * (double)rows * (double)vocabulary, 0, run_choice, &c);
        }
        bench_release(b);
    }
}
