/* CUDA blocks on the CPU. One fiber a thread, each with its own stack; a fiber runs until it must wait for
 * others, then hands over to the scheduler, which runs the lanes of a warp until all of them wait for the
 * block (or have ended), then the next warp. So a warp runs far ahead of its neighbours between two barriers:
 * data passed without a barrier is read before it is written, or overwritten before it is read. Shared memory
 * starts as NaN in every block and cp.async lands at its wait, so such a read shows in the result. The order
 * of blocks, warps and lanes is drawn from a seed.
 *
 * Two kinds of waiting:
 *
 *     warp meeting    all 32 lanes at one line; the last to come computes for all (shuffle, vote, mma,
 * ldmatrix), on data that lies on the waiting fibers' stacks block barrier   all threads at one line
 *
 * When no lane can run and a warp is met in part, or the block stands at different barriers, or a thread
 * ended while others wait, the block is stopped with a message: a GPU would hang there, or worse, go on.
 *
 * A fiber's stack, growing down; a switch pushes the six registers that the ABI keeps, and pops those of the
 * other:
 *
 *     top -  8   0                  (return address of the entry: never used)
 *     top - 16   fiber_main
 *     top - 64   rbp rbx r12 r13 r14 r15
 *
 * This file is built without sanitizers (it is the machine, not the program under test); the kernels above it
 * are not. */
#include "emulator.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { STACK = 256 << 10, GUARD = 4096, LANES = 32, WARPS = EMU_THREADS / LANES, ARRAYS = 64 };

typedef enum wait_kind { RUNS, MEETS, AT_BARRIER, ENDED } wait_kind;

typedef struct copy {
    unsigned char *to;
    unsigned char bytes[16];
    uint64_t group;
} copy;

typedef struct fiber {
    void *sp;
    unsigned char *stack;
    wait_kind state;
    const char *what, *file; /* where it waits */
    int line;
    void *data;
    copy *copies; /* in flight */
    size_t copy_count, copy_capacity;
    uint64_t group; /* copy groups committed */
} fiber;

typedef struct shared_array {
    const void *key;
    void *memory;
    size_t size;
} shared_array;

emu_index emu_thread_index, emu_block_index, emu_block_size, emu_grid_size;

static struct {
    fiber fibers[EMU_THREADS];
    unsigned threads, now, met[WARPS];
    void *scheduler; /* stack pointer of the host while a fiber runs */
    void (*body)(void *);
    void *context;
    void *dynamic;
    shared_array arrays[ARRAYS];
    int array_count;
    bool failed;
    char message[1024];
    uint64_t random, blocks, switches;
} emu = {.random = 1};

void __asan_unpoison_memory_region(const volatile void *memory, size_t size) __attribute__((weak));

void emu_switch(void **save, void *load);
__asm__(".text\n.p2align 4\n.globl emu_switch\n.type emu_switch, @function\n"
        "emu_switch:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n.size emu_switch, .-emu_switch\n");

static uint64_t draw(void) /* splitmix64 */
{
    uint64_t z = emu.random += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

void emu_seed(uint64_t seed)
{
    emu.random = seed;
}
const char *emu_message(void)
{
    return emu.message;
}
uint64_t emu_blocks(void)
{
    return emu.blocks;
}
uint64_t emu_switches(void)
{
    return emu.switches;
}
unsigned emu_lane(void)
{
    return emu.now % LANES;
}
void *emu_dynamic_shared(void)
{
    return emu.dynamic;
}

static void report(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void report(const char *format, ...)
{
    if (emu.failed) return;
    emu.failed = true;
    int used = snprintf(emu.message, sizeof emu.message, "block (%u, %u, %u): ", emu_block_index.x,
                        emu_block_index.y, emu_block_index.z);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(emu.message + used, sizeof emu.message - (size_t)used, format, arguments);
    va_end(arguments);
}

static void out_of_memory(void)
{
    fprintf(stderr, "emulator: out of memory\n");
    abort();
}

/* --- fibers --- */

static void hand_over(void)
{
    fiber *self = &emu.fibers[emu.now];
    emu.switches++;
    emu_switch(&self->sp, emu.scheduler);
}

void emu_fail(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    report("thread %u: %s", emu.now, text);
    hand_over(); /* the scheduler drops the block */
}

static void fiber_main(void)
{
    fiber *self = &emu.fibers[emu.now];
    emu.body(emu.context);
    if (self->copy_count) emu_fail("ended with %zu asynchronous copies in flight", self->copy_count);
    self->state = ENDED;
    hand_over();
    abort(); /* nobody resumes a fiber that ended */
}

static void fiber_prepare(fiber *self)
{
    if (!self->stack) {
        self->stack = mmap(NULL, STACK + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (self->stack == MAP_FAILED || mprotect(self->stack, GUARD, PROT_NONE)) out_of_memory();
    }
    /* a fiber that was dropped left its frames' redzones behind */
    if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(self->stack + GUARD, STACK);
    void **top = (void **)(self->stack + GUARD + STACK);
    void (*entry)(void) = fiber_main;
    top[-1] = NULL;
    memcpy(&top[-2], &entry, sizeof entry);
    memset(&top[-8], 0, 6 * sizeof *top);
    self->sp = &top[-8];
    self->state = RUNS;
    self->copy_count = 0;
    self->group = 0;
}

static void fiber_run(unsigned thread)
{
    emu.now = thread;
    emu_thread_index.x = thread % emu_block_size.x;
    emu_thread_index.y = thread / emu_block_size.x % emu_block_size.y;
    emu_thread_index.z = thread / emu_block_size.x / emu_block_size.y;
    emu.switches++;
    emu_switch(&emu.scheduler, emu.fibers[thread].sp);
}

/* --- waiting --- */

static void wait_here(wait_kind state, const char *what, const char *file, int line)
{
    fiber *self = &emu.fibers[emu.now];
    self->state = state;
    self->what = what;
    self->file = file;
    self->line = line;
    hand_over();
}

void emu_block_barrier(const char *file, int line)
{
    wait_here(AT_BARRIER, "__syncthreads", file, line);
}

void emu_warp_meet(const char *what, const char *file, int line, void *data,
                   void (*compute)(void *const lane[32]))
{
    unsigned warp = emu.now / LANES, first = warp * LANES;
    fiber *self = &emu.fibers[emu.now];
    self->data = data;
    if (++emu.met[warp] < LANES) {
        wait_here(MEETS, what, file, line);
        return;
    }
    void *lane[LANES];
    for (unsigned i = 0; i < LANES; i++) {
        fiber *other = &emu.fibers[first + i];
        lane[i] = other->data;
        if (other != self &&
            (other->line != line || strcmp(other->what, what) || strcmp(other->file, file))) {
            emu_fail("at %s (%s:%d) while lane %u of its warp is at %s (%s:%d)", what, file, line, i,
                     other->what, other->file, other->line);
            return;
        }
    }
    if (compute) compute(lane);
    emu.met[warp] = 0;
    for (unsigned i = 0; i < LANES; i++) emu.fibers[first + i].state = RUNS;
}

static void warp_run(unsigned warp)
{
    unsigned first = warp * LANES, turn = draw() & 1 ? 1 : LANES - 1, at = (unsigned)(draw() % LANES);
    for (unsigned idle = 0; idle < LANES && !emu.failed; at = (at + turn) % LANES) {
        if (emu.fibers[first + at].state == RUNS) {
            fiber_run(first + at);
            idle = 0;
        } else {
            idle++;
        }
    }
}

static const char *where(const fiber *f, char *text, size_t size)
{
    if (f->state == ENDED)
        snprintf(text, size, "has ended");
    else
        snprintf(text, size, "waits at %s (%s:%d)", f->what, f->file, f->line);
    return text;
}

/* After a round nobody runs: releases the barrier, ends the block, or says who stands apart. */
static bool block_continues(void)
{
    const fiber *one = &emu.fibers[0];
    for (unsigned i = 0; i < emu.threads; i++) {
        const fiber *f = &emu.fibers[i];
        bool partial = f->state == MEETS;
        bool apart = f->state != one->state ||
                     (f->state == AT_BARRIER && (f->line != one->line || strcmp(f->file, one->file)));
        if (!partial && !apart) continue;
        unsigned other = apart ? 0 : i ^ 1;
        for (unsigned k = i - i % LANES; partial && k < i - i % LANES + LANES; k++)
            if (emu.fibers[k].state != MEETS) other = k;
        char a[256], b[256];
        report("divergent: thread %u %s while thread %u %s", i, where(f, a, sizeof a), other,
               where(&emu.fibers[other], b, sizeof b));
        return false;
    }
    if (one->state == ENDED) return false;
    for (unsigned i = 0; i < emu.threads; i++) emu.fibers[i].state = RUNS;
    return true;
}

/* --- blocks --- */

void *emu_static_shared(const void *key, size_t size)
{
    for (int i = 0; i < emu.array_count; i++)
        if (emu.arrays[i].key == key) return emu.arrays[i].memory;
    if (emu.array_count == ARRAYS) emu_fail("more than %d shared arrays", ARRAYS);
    shared_array *array = &emu.arrays[emu.array_count];
    *array = (shared_array){key, malloc(size), size};
    if (!array->memory) out_of_memory();
    memset(array->memory, 0xFF, size);
    emu.array_count++;
    return array->memory;
}

static void block_run(size_t dynamic_shared)
{
    unsigned warps = emu.threads / LANES, order[WARPS];
    if (emu.dynamic) memset(emu.dynamic, 0xFF, dynamic_shared);
    for (int i = 0; i < emu.array_count; i++) memset(emu.arrays[i].memory, 0xFF, emu.arrays[i].size);
    for (unsigned i = 0; i < emu.threads; i++) fiber_prepare(&emu.fibers[i]);
    for (unsigned i = 0; i < warps; i++) {
        order[i] = i;
        emu.met[i] = 0;
    }
    emu.blocks++;
    do {
        for (unsigned i = warps - 1; i > 0; i--) {
            unsigned k = (unsigned)(draw() % (i + 1)), kept = order[i];
            order[i] = order[k];
            order[k] = kept;
        }
        for (unsigned i = 0; i < warps && !emu.failed; i++) warp_run(order[i]);
    } while (!emu.failed && block_continues());
}

bool emu_launch_fits(emu_index grid, emu_index block, size_t dynamic_shared)
{
    uint64_t threads = (uint64_t)block.x * block.y * block.z;
    if (!threads || threads > EMU_THREADS || threads % LANES || dynamic_shared > EMU_SHARED_LIMIT ||
        !grid.x || !grid.y || !grid.z || grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535) {
        emu.failed = false;
        report("launch refused: grid (%u, %u, %u), block (%u, %u, %u), %zu bytes of shared memory", grid.x,
               grid.y, grid.z, block.x, block.y, block.z, dynamic_shared);
        return false;
    }
    return true;
}

bool emu_launch(emu_index grid, emu_index block, size_t dynamic_shared, void (*body)(void *context),
                void *context)
{
    emu_block_index = (emu_index){0, 0, 0};
    emu_grid_size = grid;
    emu_block_size = block;
    emu.threads = block.x * block.y * block.z;
    emu.body = body;
    emu.context = context;
    emu.failed = false;
    emu.dynamic = NULL;
    if (dynamic_shared && posix_memalign(&emu.dynamic, 128, dynamic_shared)) out_of_memory();
    uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
    bool backwards = draw() & 1;
    for (uint64_t i = 0; i < blocks && !emu.failed; i++) {
        uint64_t at = backwards ? blocks - 1 - i : i;
        emu_block_index.x = (unsigned)(at % grid.x);
        emu_block_index.y = (unsigned)(at / grid.x % grid.y);
        emu_block_index.z = (unsigned)(at / grid.x / grid.y);
        block_run(dynamic_shared);
    }
    free(emu.dynamic);
    for (int i = 0; i < emu.array_count; i++) free(emu.arrays[i].memory);
    emu.array_count = 0;
    return !emu.failed;
}

/* --- asynchronous copies --- */

void emu_copy_start(void *shared, const unsigned char bytes[16])
{
    fiber *self = &emu.fibers[emu.now];
    if (self->copy_count == self->copy_capacity) {
        self->copy_capacity = self->copy_capacity ? 2 * self->copy_capacity : 64;
        self->copies = realloc(self->copies, self->copy_capacity * sizeof *self->copies);
        if (!self->copies) out_of_memory();
    }
    copy *c = &self->copies[self->copy_count++];
    *c = (copy){.to = shared, .group = self->group};
    memcpy(c->bytes, bytes, sizeof c->bytes);
    memset(shared, 0xFF, sizeof c->bytes);
}

void emu_copy_commit(void)
{
    emu.fibers[emu.now].group++;
}

void emu_copy_wait(unsigned groups_left)
{
    fiber *self = &emu.fibers[emu.now];
    size_t kept = 0;
    for (size_t i = 0; i < self->copy_count; i++) {
        copy *c = &self->copies[i];
        if (c->group + groups_left < self->group)
            memcpy(c->to, c->bytes, sizeof c->bytes);
        else
            self->copies[kept++] = *c;
    }
    self->copy_count = kept;
}

/* --- the chip --- */

void emu_compute_shuffle(void *const lane[32])
{
    for (int i = 0; i < LANES; i++) {
        emu_shuffle *to = lane[i];
        to->result = ((const emu_shuffle *)lane[to->source % LANES])->value;
    }
}

void emu_compute_vote(void *const lane[32])
{
    uint32_t ballot = 0;
    for (int i = 0; i < LANES; i++) ballot |= (uint32_t)(((const emu_vote *)lane[i])->predicate != 0) << i;
    for (int i = 0; i < LANES; i++) ((emu_vote *)lane[i])->ballot = ballot;
}

static float half_of(uint32_t pair, int which)
{
    uint32_t bits = which ? pair & 0xFFFF0000u : pair << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* PTX ISA, "Matrix fragments for mma.m16n8k16": group g = lane / 4, t = lane % 4; a0 (g, 2t) a1 (g + 8, 2t)
 * a2 (g, 2t + 8) a3 (g + 8, 2t + 8); b0 (2t, g) b1 (2t + 8, g); c0 c1 (g, 2t) c2 c3 (g + 8, 2t). Products are
 * summed in fp32 in order of k; the chip's own order is unknown. */
void emu_compute_mma(void *const lane[32])
{
    float a[16][16], b[16][8];
    for (int i = 0; i < LANES; i++) {
        const emu_mma *m = lane[i];
        int g = i / 4, t = 2 * (i % 4);
        for (int e = 0; e < 2; e++) {
            for (int r = 0; r < 4; r++) a[g + r % 2 * 8][t + r / 2 * 8 + e] = half_of(m->a[r], e);
            for (int r = 0; r < 2; r++) b[t + 8 * r + e][g] = half_of(m->b[r], e);
        }
    }
    for (int row = 0; row < 16; row++) {
        float sum[8] = {0};
        for (int k = 0; k < 16; k++)
            for (int n = 0; n < 8; n++) sum[n] += a[row][k] * b[k][n];
        for (int n = 0; n < 8; n++) ((emu_mma *)lane[row % 8 * 4 + n / 2])->c[row / 8 * 2 + n % 2] += sum[n];
    }
}

/* Lanes 8m to 8m + 7 name the rows of matrix m; lane i gets elements 2 (i % 4) and the next of row i / 4 of
 * each, or of column i / 4 when transposed. */
void emu_compute_ldmatrix(void *const lane[32])
{
    for (int i = 0; i < LANES; i++) {
        emu_ldmatrix *to = lane[i];
        int g = i / 4, t = 2 * (i % 4);
        for (int m = 0; m < 4; m++) {
            const emu_ldmatrix *first = lane[8 * m + (to->transposed ? t : g)],
                               *next = lane[8 * m + (to->transposed ? t + 1 : g)];
            uint32_t low = first->row[to->transposed ? g : t], high = next->row[to->transposed ? g : t + 1];
            to->part[m] = low | high << 16;
        }
    }
}
