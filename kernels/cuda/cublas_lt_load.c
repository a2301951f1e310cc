/* cuBLASLt's functions, found when the first of them is called. libcublasLt is half a gigabyte and lives with CUDA's toolkit: a hone that
 * is linked against it does not even start on a machine without one. So hone defines the functions that it calls under their own
 * names, and each goes on to the library's. Where there is no library cublasLtCreate says so, and its status has a message that
 * names what was tried; nothing else can be called then, for everything takes a handle or is checked after one.
 *
 * Looked for: the file that HONE_CUBLASLT names; libcublasLt.so.13 where the dynamic loader looks (LD_LIBRARY_PATH, its cache); the
 * folders where CUDA's installers put it.
 *
 * The table below is the one thing in hone that is filled behind everybody's back: once, under pthread_once, and never changed. */
#include <cublasLt.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define LIBRARY "libcublasLt.so.13"

/* Every function that hone calls: result, name, parameters, arguments. */
#define FUNCTIONS(F)                                                                                                           \
    F(cublasStatus_t, cublasLtCreate, (cublasLtHandle_t * handle), (handle))                                                   \
    F(cublasStatus_t, cublasLtDestroy, (cublasLtHandle_t handle), (handle))                                                    \
    F(cublasStatus_t, cublasLtMatmulDescInit_internal,                                                                         \
      (cublasLtMatmulDesc_t operation, size_t size, cublasComputeType_t compute, cudaDataType_t scale),                        \
      (operation, size, compute, scale))                                                                                       \
    F(cublasStatus_t, cublasLtMatmulDescSetAttribute,                                                                          \
      (cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t which, const void *value, size_t size),                  \
      (operation, which, value, size))                                                                                         \
    F(cublasStatus_t, cublasLtMatrixLayoutInit_internal,                                                                       \
      (cublasLtMatrixLayout_t layout, size_t size, cudaDataType type, uint64_t rows, uint64_t columns, int64_t stride),        \
      (layout, size, type, rows, columns, stride))                                                                             \
    F(cublasStatus_t, cublasLtMatmulPreferenceInit_internal, (cublasLtMatmulPreference_t preference, size_t size),             \
      (preference, size))                                                                                                      \
    F(cublasStatus_t, cublasLtMatmulPreferenceSetAttribute,                                                                    \
      (cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t which, const void *value, size_t size),     \
      (preference, which, value, size))                                                                                        \
    F(cublasStatus_t, cublasLtMatmulAlgoGetHeuristic,                                                                          \
      (cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,            \
       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference, int most,                    \
       cublasLtMatmulHeuristicResult_t *results, int *count),                                                                  \
      (handle, operation, a, b, c, d, preference, most, results, count))                                                       \
    F(cublasStatus_t, cublasLtMatmulAlgoCheck,                                                                                 \
      (cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,            \
       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t *algorithm,                              \
       cublasLtMatmulHeuristicResult_t *result),                                                                               \
      (handle, operation, a, b, c, d, algorithm, result))                                                                      \
    F(cublasStatus_t, cublasLtMatmul,                                                                                          \
      (cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void *alpha, const void *a,                              \
       cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,       \
       cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algorithm,       \
       void *workspace, size_t workspace_size, cudaStream_t stream),                                                           \
      (handle, operation, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout, algorithm, workspace,               \
       workspace_size, stream))

#define MEMBER(result, name, parameters, arguments) result(*name) parameters;
static struct {
    FUNCTIONS(MEMBER)
    const char *(*status_text)(cublasStatus_t status);
    size_t (*version)(void);
    char missing[512]; /* why there is no library; "": there is one */
} library;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* dlsym gives an object's address for what is a function's. */
static void *find(void *handle, const char *name)
{
    void *symbol = dlsym(handle, name);
    if (!symbol && !*library.missing) snprintf(library.missing, sizeof library.missing, "%s has no %s", LIBRARY, name);
    return symbol;
}

static void load(void)
{
    static const char *const places[] = {LIBRARY,
                                         "/usr/local/cuda/lib64/" LIBRARY,
                                         "/usr/local/cuda-13/lib64/" LIBRARY,
                                         "/usr/local/cuda-13.0/lib64/" LIBRARY,
                                         "/opt/cuda/lib64/" LIBRARY,
                                         "/usr/lib64/" LIBRARY,
                                         "/usr/lib/x86_64-linux-gnu/" LIBRARY};
    const char *named = getenv("HONE_CUBLASLT");
    void *handle = named ? dlopen(named, RTLD_NOW | RTLD_LOCAL) : NULL;
    const char *why = named && !handle ? dlerror() : NULL;
    if (!named) {
        for (size_t i = 0; !handle && i < sizeof places / sizeof *places; i++) {
            handle = dlopen(places[i], RTLD_NOW | RTLD_LOCAL);
            if (i == 0 && !handle) why = dlerror();
        }
    }
    if (!handle) {
        snprintf(library.missing, sizeof library.missing,
                 "CUDA's " LIBRARY " cannot be loaded (%.300s): put its folder into LD_LIBRARY_PATH, or its name into HONE_CUBLASLT",
                 why ? why : "no reason given");
        return;
    }
#define FIND(result, name, parameters, arguments) *(void **)&library.name = find(handle, #name);
    FUNCTIONS(FIND)
    *(void **)&library.status_text = find(handle, "cublasLtGetStatusString");
    *(void **)&library.version = find(handle, "cublasLtGetVersion");
}

static int loaded(void)
{
    pthread_once(&once, load);
    return !*library.missing;
}

#define FORWARD(result, name, parameters, arguments)                                                                           \
    result name parameters                                                                                                     \
    {                                                                                                                          \
        return loaded() ? library.name arguments : CUBLAS_STATUS_NOT_INITIALIZED;                                              \
    }
FUNCTIONS(FORWARD)

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return loaded() ? library.status_text(status) : library.missing;
}

size_t cublasLtGetVersion(void)
{
    return loaded() ? library.version() : 0;
}
