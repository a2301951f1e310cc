/* What tests ask of the emulator beside CUDA's own calls, on a real GPU. */
#include "tests/cuda_on_cpu/emulator.h"
#include "tests/cuda_on_cpu/runtime.h"

_Noreturn void gpu_skip(const char *what);

/* The order of blocks and warps is the GPU's own. */
void emu_seed(uint64_t seed)
{
    (void)seed;
}

void emu_reset(void)
{
}

void emu_fail_after(int64_t calls, int error)
{
    (void)calls, (void)error;
    gpu_skip("a call that fails");
}

void emu_memory_limit(size_t bytes)
{
    (void)bytes;
    gpu_skip("a GPU with little memory");
}

void emu_absent(bool absent)
{
    (void)absent;
    gpu_skip("an absent GPU");
}

size_t emu_memory_used(void)
{
    gpu_skip("counting memory");
}

const char *emu_message(void)
{
    gpu_skip("the message of a stopped block");
}
