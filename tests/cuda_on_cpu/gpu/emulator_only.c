/* What tests ask of the emulator beside CUDA's own calls, on a real GPU. */
#include "tests/cuda_on_cpu/cublas_lt.h"
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

void emu_graphs(bool refused, int64_t failing_replay)
{
    (void)refused, (void)failing_replay;
    gpu_skip("a graph that fails");
}

int64_t emu_replays(void)
{
    gpu_skip("counting launches of graphs");
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

void emu_lt_reset(void)
{
    gpu_skip("the double of cuBLASLt");
}

const emu_lt_counts *emu_lt_counted(void)
{
    gpu_skip("counting products");
}

void emu_lt_refuse(int epilogue)
{
    (void)epilogue;
    gpu_skip("an epilogue that is refused");
}

void emu_lt_fastest(int algorithm)
{
    (void)algorithm;
    gpu_skip("algorithms of known speed");
}

void emu_lt_fail(int status)
{
    (void)status;
    gpu_skip("a product that fails");
}

void emu_lt_version(uint64_t version)
{
    (void)version;
    gpu_skip("another version of cuBLASLt");
}
