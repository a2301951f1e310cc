/* What the launchers ask for at two real shapes: kernel, grid, threads, dynamic shared memory, operation by operation. The cases are
 * those of bench/gpu, on the emulator with its trace on, so that nothing runs. tools/cuda_report.py reads what this prints. */
#include "bench/gpu/bench.h"
#include "kernels/cuda/backend.h"
#include "tests/cuda_on_cpu/runtime.h"

static const bench_model models[] = {
    {"BERT-base, 32 x 40", 32, 20, 60, 768, 12, 12, 64, 3072, 30522, false},
    {"Llama 1B, 1 x 2048", 1, 2048, 2048, 2048, 32, 8, 64, 8192, 128256, true},
};

int main(void)
{
    static bench b = {.rehearse = true};
    emu_memory_limit((size_t)64 << 30);
    bench_open(&b);
    hn_cuda_device_of(&b.backend)->multiprocessors = 132; /* an H200's, where a grid follows them */
    b.json = stdout;
    emu_trace(stdout);
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) bench_model_cases(&b, &models[i]);
    bench_optimizer_cases(&b, 110 << 20);
    bench_token_cases(&b, 128256);
    emu_trace(NULL);
    bench_close(&b);
    return 0;
}
