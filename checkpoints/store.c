/* HDF5 at arm's length. What was learnt about version 1.10.8 and is kept to here:
 *
 * - It prints its error stack to stderr: silenced, and its innermost line becomes part of our error.
 * - It does not stand failing writes: it never sees one (core/hdf5_sink.h). A file left with a handle open can crash
 * inside its exit handler: every handle is closed on the one `out:` path, and the exit handler is not
 * installed (H5dont_atexit).
 * - It does not stand files that somebody made: it only writes here; core/hdf5_structure.c reads.
 *
 * It has no predefined 16-bit float, so that bf16 and f16 stand there as unsigned 16-bit integers; the
 * manifest says what they are. Times of objects are not tracked: the same tensors give the same file. */
#include "checkpoints/store.h"

#include <string.h>

#include "core/hdf5_lock.h"
#include "core/hdf5_sink.h"
#include "core/mem.h"

/* Called at the start of every public function, inside HDF5's lock. */
static void quiet(void)
{
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0);
}

/* SEMI: closing the file with a dataset still open is an error, not a file that stays open. Locks are no use
 * to one writer and fail on some network file systems. */
static hid_t access_options(void)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access >= 0 &&
        (H5Pset_fclose_degree(access, H5F_CLOSE_SEMI) < 0 || H5Pset_file_locking(access, false, true) < 0)) {
        H5Pclose(access);
        return H5I_INVALID_HID;
    }
    return access;
}

/* The innermost line of the stack, where the cause stands. */
static herr_t first_line(unsigned depth, const H5E_error2_t *entry, void *text)
{
    if (depth == 0) snprintf(text, 512, "%s", entry->desc ? entry->desc : "");
    return 0;
}

static hn_status fail(hn_error *error, const char *path, const char *tensor, const char *what)
{
    char text[512] = "";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_line, text);
    /* Of a failed system call its own text: "..., errno = 28, error message = 'No space left on device', buf
     * = ..." */
    static const char marker[] = "error message = '";
    char *cause = strstr(text, marker);
    cause = cause ? cause + sizeof marker - 1 : text;
    cause[strcspn(cause, "'")] = '\0';
    return hn_fail(error, HN_ERR_IO, "%s: %s%s%s%s: HDF5 says: %s", path, tensor ? "tensor \"" : "",
                   tensor ? tensor : "", tensor ? "\": " : "", what, *cause ? cause : "nothing");
}

static hid_t type_of(hn_dtype dtype)
{
    switch (dtype) {
    case HN_F32: return H5T_IEEE_F32LE;
    case HN_F64: return H5T_IEEE_F64LE;
    case HN_BF16:
    case HN_F16: return H5T_STD_U16LE;
    case HN_I64: return H5T_STD_I64LE;
    case HN_I32: return H5T_STD_I32LE;
    case HN_I16: return H5T_STD_I16LE;
    case HN_I8: return H5T_STD_I8LE;
    default: return H5T_STD_U8LE; /* U8, BOOL */
    }
}

static hid_t space_of(const hn_tensor *tensor)
{
    hsize_t extent[HN_MAX_RANK];
    for (int i = 0; i < tensor->rank; i++) extent[i] = (hsize_t)tensor->shape[i];
    return tensor->rank ? H5Screate_simple(tensor->rank, extent, NULL) : H5Screate(H5S_SCALAR);
}

static hid_t dataset_options(void)
{
    hid_t options = H5Pcreate(H5P_DATASET_CREATE);
    if (options >= 0 &&
        (H5Pset_layout(options, H5D_CONTIGUOUS) < 0 || H5Pset_obj_track_times(options, false) < 0 ||
         H5Pset_fill_time(options, H5D_FILL_TIME_NEVER) < 0)) {
        H5Pclose(options);
        return H5I_INVALID_HID;
    }
    return options;
}

static hn_status write_dataset(hid_t file, hid_t options, const hn_named_tensor *one, const char *path,
                               hn_error *error)
{
    hn_status status = HN_OK;
    hid_t dataset = H5I_INVALID_HID, space = space_of(&one->tensor), type = type_of(one->tensor.dtype);
    if (space < 0) {
        status = fail(error, path, one->name, "cannot describe its shape");
        goto out;
    }
    dataset = H5Dcreate2(file, one->name, type, space, H5P_DEFAULT, options, H5P_DEFAULT);
    if (dataset < 0) {
        status = fail(error, path, one->name, "cannot create its dataset");
        goto out;
    }
    if (hn_tensor_count(&one->tensor) &&
        H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, one->tensor.data) < 0)
        status = fail(error, path, one->name, "cannot write");
out:
    if (dataset >= 0 && H5Dclose(dataset) < 0 && status == HN_OK)
        status = fail(error, path, one->name, "cannot close");
    if (space >= 0 && H5Sclose(space) < 0 && status == HN_OK)
        status = fail(error, path, one->name, "cannot close");
    return status;
}

hn_status hnp_store_write(const char *path, const hn_named_tensor *tensors, size_t count, hn_error *error)
{
    hn_status status = HN_OK;
    hn_hdf5_sink sink = {.path = path};
    hn_hdf5_enter();
    quiet();
    hid_t options = dataset_options(), access = access_options(), file = H5I_INVALID_HID;
    if (options < 0 || access < 0 || !hn_hdf5_sink_use(access, &sink)) {
        status = fail(error, path, NULL, "cannot set options");
        goto out;
    }
    file = H5Fcreate(path, H5F_ACC_EXCL, H5P_DEFAULT, access);
    if (file < 0) {
        if (sink.error.status == HN_OK) status = fail(error, path, NULL, "cannot create");
        goto out;
    }
    for (size_t i = 0; i < count && status == HN_OK; i++) {
        status = write_dataset(file, options, &tensors[i], path, error);
        hn_hdf5_leave(); /* a file of gigabytes keeps nobody waiting */
        hn_hdf5_enter();
    }
out:
    if (file >= 0 && H5Fclose(file) < 0 && status == HN_OK) status = fail(error, path, NULL, "cannot close");
    if (access >= 0) H5Pclose(access);
    if (options >= 0) H5Pclose(options);
    hn_hdf5_leave();
    if (status == HN_OK && sink.error.status != HN_OK)
        status = hn_fail(error, sink.error.status, "%s", sink.error.message);
    return status;
}
