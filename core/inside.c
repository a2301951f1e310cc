/* Where a name in a stranger's folder leads. A folder that was downloaded may hold links, and a link can lead
 * to any file of the machine: a private key as "special_tokens_map.json" would be copied into each saved model
 * and go where that goes. So a file of a model is opened by its real path, and only inside of the folder.
 *
 * The Hub's cache has links by design: `snapshots/REVISION/NAME` is a link to `../../blobs/DIGEST`; there the
 * folder above `snapshots` counts as the folder. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"

/* The last component of `path` starts here. */
static char *last_of(char *path)
{
    char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* From the folder's real path to the one that bounds it, with '/' at its end. */
static void widen(char root[PATH_MAX + 2])
{
    char parent[PATH_MAX + 2];
    strcpy(parent, root);
    char *last = last_of(parent);
    if (last > parent + 1) {
        last[-1] = '\0';
        last = last_of(parent);
        if (!strcmp(last, "snapshots") && last > parent + 1) {
            last[-1] = '\0';
            strcpy(root, parent);
        }
    }
    if (strcmp(root, "/")) strcat(root, "/");
}

hn_status hn_path_inside(char **out, const char *folder, const char *name, const char *named_by,
                         hn_error *error)
{
    char root[PATH_MAX + 2], real[PATH_MAX];
    char *path = hn_path_join(folder, name);
    hn_status status = HN_OK;
    if (!path) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    if (!realpath(folder, root) || !realpath(path, real)) {
        status = hn_fail_errno(error, "%s: cannot open%s%s", path, named_by ? ", named by " : "",
                               named_by ? named_by : "");
        goto out;
    }
    widen(root);
    if (strncmp(real, root, strlen(root))) {
        status = hn_fail(error, HN_ERR_FORMAT,
                         "%s: a link to %s, outside of the model's folder %s (copy the file here)", path,
                         real, root);
        goto out;
    }
    char *copy = hn_strdup(real);
    if (copy)
        *out = copy;
    else
        status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", path);
out:
    hn_free(path);
    return status;
}
