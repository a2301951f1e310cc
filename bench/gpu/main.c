/* bench_gpu: what each operation of the GPU's table takes, beside what this GPU can do at most, measured in the same run.
 *
 *     bench_gpu [--json FILE] [--only WORD] [--rehearse]
 *
 * The ceilings are a large bf16 product by cuBLASLt and a large copy. Shapes are those of real steps: sentence pairs of 10 to 60
 * tokens in BERT-base and MiniLM, GPT-2 124M over 1,024 tokens, a Llama of 1B over 2,048. Times are medians by CUDA's own events, on
 * random numbers. bench/gpu/bench-gpu.sh runs it, with PyTorch beside. 77: there is no GPU. --rehearse: tiny shapes, to see that
 * everything runs. */
#include <stdlib.h>
#include <string.h>

#include "bench/gpu/bench.h"
#include "kernels/cuda/backend.h"

static const bench_model models[] = {
    {"BERT-base, 1024 pairs", 1024, 10, 60, 768, 12, 12, 64, 3072, 30522, false},
    {"MiniLM, 1024 pairs", 1024, 10, 60, 384, 12, 12, 32, 1536, 30522, false},
    {"BERT-base, 32 pairs", 32, 20, 60, 768, 12, 12, 64, 3072, 30522, false},
    {"GPT-2 124M, 16 x 1024", 16, 1024, 1024, 768, 12, 12, 64, 3072, 50257, true},
    {"Llama 1B, 4 x 2048", 4, 2048, 2048, 2048, 32, 8, 64, 8192, 128256, true},
    {"head size 128, 4 x 4096", 4, 4096, 4096, 4096, 32, 8, 128, 0, 0, true},
};
static const bench_model tiny = {"rehearsal", 3, 5, 9, 64, 4, 2, 16, 96, 97, true};

int main(int argc, char **argv)
{
    static bench b;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--rehearse")) b.rehearse = true;
        else if (!strcmp(argv[i], "--only") && i + 1 < argc) b.only = argv[++i];
        else if (!strcmp(argv[i], "--json") && i + 1 < argc) {
            b.json = fopen(argv[++i], "w");
            if (!b.json) {
                perror(argv[i]);
                return 1;
            }
        } else {
            fprintf(stderr, "bench_gpu [--json FILE] [--only WORD] [--rehearse]\n");
            return 2;
        }
    }
    bench_open(&b);
    printf("%s%s\n", b.ops->products(&b.ctx), b.rehearse ? "; a rehearsal: these times mean nothing" : "");
    bench_ceilings(&b);
    if (b.json)
        fprintf(b.json, "{\"gpu\": \"%s\", \"products\": \"%s\", \"rehearsal\": %s, \"copy_bytes_per_second\": %.4g, \"bf16_flop_per_second\": %.4g,\n \"operations\": [",
                hn_cuda_device_of(&b.backend)->name, b.ops->products(&b.ctx), b.rehearse ? "true" : "false", b.copy_rate,
                b.product_rate);
    if (b.rehearse) {
        bench_model_cases(&b, &tiny);
        bench_optimizer_cases(&b, 5000);
        bench_token_cases(&b, 97);
    } else {
        for (size_t i = 0; i < sizeof models / sizeof *models; i++) bench_model_cases(&b, &models[i]);
        bench_optimizer_cases(&b, 124 << 20);
        bench_token_cases(&b, 128256);
    }
    bool written = !b.json || (fprintf(b.json, "]}\n") > 0 && !fclose(b.json));
    bench_close(&b);
    if (!written) perror("bench_gpu: writing the JSON");
    return !written;
}
