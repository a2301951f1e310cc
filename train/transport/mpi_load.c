/* The module for MPI, loaded when a run asks for it: the file that HONE_MPI names, or hone_mpi.so beside the program. A hone that was
 * linked against an MPI would not start where that one is missing, and no two MPIs are exchangeable.
 *
 * Its symbols are made global: Open MPI loads plugins that look for those of the library which loads them. It is never unloaded. */
#include "train/transport/mpi.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef hn_p2p *p2p_opener(int layout, int rank, int size, hn_error *error);

/* The module's name in `path`. */
static void find_module(char *path, size_t size)
{
    const char *named = getenv("HONE_MPI");
    char program[3840] = "";
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    char *end = length > 0 ? strrchr(program, '/') : NULL;
    if (named)
        snprintf(path, size, "%s", named);
    else
        snprintf(path, size, "%.*s/hone_mpi.so", end ? (int)(end - program) : 1, end ? program : ".");
}

hn_status hnp_mpi_open(hn_p2p **out, int rank, int size, hn_error *error)
{
    char path[4096];
    find_module(path, sizeof path);
    void *module = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!module)
        return hn_fail(error, HN_ERR_UNSUPPORTED,
                       "%s: the module for MPI cannot be loaded (%s): build hone where an MPI is, or name the file by HONE_MPI", path,
                       dlerror());
    p2p_opener *open = NULL;
    *(void **)&open = dlsym(module, "hone_p2p_open"); /* dlsym gives an object's address for what is a function's */
    if (!open) return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: this is no module of hone's for MPI (it has no hone_p2p_open)", path);
    *out = open(HN_P2P_LAYOUT, rank, size, error);
    return *out ? HN_OK : HN_ERR_DEVICE;
}
