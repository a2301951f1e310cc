/* Chooses: the table of the best instruction set this machine has, and the type that products of bf16 tensors run in.
 *
 * bf16 products pay where the processor multiplies bf16 faster than fp32: with AMX, and on AMD from Zen 4 on (AVX512_BF16 at full
 * rate: 1,000 against 490 GFLOP/s on two Zen 5 cores). Intel's AVX512_BF16 without AMX runs at half the rate of its fp32 units
 * (175 against 330 GFLOP/s on two cores of family 6 model 207). So the rule asks for AMX, or for AMD with AVX512_BF16; it never
 * times anything, because a run must have the same bits tomorrow. HONE_CPU_PRODUCTS=fp32|bf16|auto overrides it (for tests). */
#include <cpuid.h>
#include <oneapi/dnnl/dnnl_version.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/product.h"
#include "kernels/table.h"

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

const hn_ops *hnp_ops_cpu_named(const char *isa)
{
    __builtin_cpu_init();
    if (!strcmp(isa, "avx512")) return has_avx512() ? &hnp_ops_avx512 : NULL;
    if (!strcmp(isa, "avx2")) return has_avx2() ? &hnp_ops_avx2 : NULL;
    return strcmp(isa, "base") ? NULL : &hnp_ops_base;
}

const hn_ops *hn_ops_cpu(void)
{
    const hn_ops *ops = hnp_ops_cpu_named("avx512");
    if (!ops) ops = hnp_ops_cpu_named("avx2");
    return ops ? ops : hnp_ops_cpu_named("base");
}

void hn_ops_cpu_threads(int threads)
{
    omp_set_num_threads(threads > 0 ? threads : omp_get_num_procs());
}

enum { AVX512_BF16 = 1 << 5 /* leaf 7.1, eax */, AMX_BF16 = 1 << 22 /* leaf 7.0, edx */ };

typedef struct features {
    bool avx512_bf16, amx_bf16, amd;
} features;

static features detect(void)
{
    unsigned a, b, c, d;
    features found = {0};
    if (__get_cpuid(0, &a, &b, &c, &d)) found.amd = b == signature_AMD_ebx;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) found.amx_bf16 = d & AMX_BF16;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) found.avx512_bf16 = (a & AVX512_BF16) && has_avx512();
    found.amx_bf16 = found.amx_bf16 && has_avx512();
    return found;
}

/* oneDNN 2.6 has bf16 products from AVX-512 on, without AVX512_BF16 by emulation. */
bool hnp_products_bf16(void)
{
    const char *wish = getenv("HONE_CPU_PRODUCTS");
    if (wish && !strcmp(wish, "fp32")) return false;
    if (wish && !strcmp(wish, "bf16")) return has_avx512();
    features found = detect();
    return found.amx_bf16 || (found.amd && found.avx512_bf16);
}

#define TEXT(number) #number
#define VERSION(major, minor, patch) ", oneDNN " TEXT(major) "." TEXT(minor) "." TEXT(patch)
#define ONEDNN VERSION(DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR, DNNL_VERSION_PATCH)

const char *hn_ops_cpu_isa(void)
{
    if (!hnp_products_bf16()) {
        if (has_avx512()) return "fp32 avx512" ONEDNN;
        return has_avx2() ? "fp32 avx2" ONEDNN : "fp32 base" ONEDNN;
    }
    features found = detect();
    return found.amx_bf16 ? "bf16 amx" ONEDNN : found.avx512_bf16 ? "bf16 avx512_bf16" ONEDNN : "bf16 avx512" ONEDNN;
}
