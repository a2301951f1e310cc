/* A file that is cut short under a mapping (a download started again, a folder cleaned up) turns reading it
 * into SIGBUS. No check before reading closes that window, and reading models into memory instead of mapping
 * them would cost their size. So SIGBUS is handled: where the address lies in a guarded mapping, the rest of
 * that mapping becomes zeros and a note is made; whoever read it asks for the note afterwards
 * (hn_mapping_intact). Any other SIGBUS goes to whoever handled it before.
 *
 * A signal handler has no context argument: the table below is global because it must be. It is written
 * without locks, since the handler may interrupt its writer: a slot is free at begin = 0, reserved at 1, and
 * read only when begin is an address, which is stored last. */
#include "core/guard.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SLOTS = 64, FREE = 0, RESERVED = 1 };

static struct {
    atomic_uintptr_t begin, end;
    atomic_bool lost;
} slots[SLOTS];

static struct sigaction before;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static uintptr_t page;

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    uintptr_t address = (uintptr_t)info->si_addr;
    (void)number, (void)context;
    for (int i = 0; i < SLOTS; i++) {
        uintptr_t begin = atomic_load(&slots[i].begin), end = atomic_load(&slots[i].end);
        if (begin <= RESERVED || address < begin || address >= end) continue;
        uintptr_t from = address & ~(page - 1);
        void *zeros =
            mmap((void *)from, end - from, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (zeros == MAP_FAILED) break;
        atomic_store(&slots[i].lost, true);
        return;
    }
    sigaction(SIGBUS, &before, NULL); /* the instruction runs again and finds the handler that was there */
}

static void install(void)
{
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_RESTART};
    page = (uintptr_t)sysconf(_SC_PAGESIZE);
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &before);
}

static int slot_of(const void *begin)
{
    int i = 0;
    while (i < SLOTS && atomic_load(&slots[i].begin) != (uintptr_t)begin) i++;
    return i;
}

void hnp_guard_add(const void *begin, size_t size)
{
    pthread_once(&once, install);
    for (int i = 0; i < SLOTS; i++) {
        uintptr_t expected = FREE;
        if (!atomic_compare_exchange_strong(&slots[i].begin, &expected, RESERVED)) continue;
        atomic_store(&slots[i].lost, false);
        atomic_store(&slots[i].end, (uintptr_t)begin + size);
        atomic_store(&slots[i].begin, (uintptr_t)begin);
        return;
    }
}

void hnp_guard_remove(const void *begin)
{
    int i = slot_of(begin);
    if (i < SLOTS) atomic_store(&slots[i].begin, FREE);
}

bool hnp_guard_lost(const void *begin)
{
    int i = slot_of(begin);
    return i < SLOTS && atomic_load(&slots[i].lost);
}
