/* Files: whole reads with a limit, and the commit protocol by which nothing half-written ever takes a name that is read.
 *
 *     write  .tmp-NAME  ->  fsync it  ->  rename to NAME  ->  fsync the folder
 *
 * Every step is checked. An fsync that failed is never retried on that file: the kernel may have dropped the pages. All calls
 * that change the disk go through one table (hn_file_hooks), so that tests can fail, tear or kill at the n-th. */
#ifndef HONE_CORE_FILE_H
#define HONE_CORE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/error.h"

/* The whole file, NUL-terminated behind its bytes (hn_free). A file over `limit` bytes, a folder or a FIFO is an error. */
hn_status hn_file_read(char **out, size_t *size, const char *path, size_t limit, hn_error *error);

/* A read-only mapping of a regular file. A size of 0 maps nothing and gives bytes = "" . */
typedef struct hn_mapping {
    const unsigned char *bytes;
    size_t size;
} hn_mapping;
hn_status hn_mapping_open(hn_mapping *out, const char *path, hn_error *error);
/* Bytes that vanish because the file is cut short while it is mapped read as zeros. false: that has happened, and what was
 * read since it was opened means nothing. Ask after reading, before closing. */
bool hn_mapping_intact(const hn_mapping *mapping);
/* The bytes are not needed for a while: their pages leave this process; reading them brings them back from the file. */
void hn_mapping_idle(const hn_mapping *mapping);
void hn_mapping_close(hn_mapping *mapping);

bool hn_path_exists(const char *path);
bool hn_path_is_folder(const char *path);
/* folder + "/" + name (hn_free); NULL: out of memory. */
char *hn_path_join(const char *folder, const char *name);
/* The real path (hn_free) of folder/name, for a folder that a stranger made: a link out of it is an error. `named_by`: the
 * file that names it, for the message, or NULL. */
hn_status hn_path_inside(char **out, const char *folder, const char *name, const char *named_by, hn_error *error);
hn_status hn_folder_make(const char *path, hn_error *error); /* with its parents, each synced; existing is fine */
hn_status hn_folder_remove(const char *path, hn_error *error); /* with all that is in it; follows no link; missing is fine */
hn_status hn_file_space(uint64_t *available, const char *path, hn_error *error); /* bytes free on the disk of `path` */

/* Writes `size` bytes as `path` by the commit protocol. Whatever fails, `path` holds its old bytes or all of the new ones. */
hn_status hn_file_commit(const char *path, const void *bytes, size_t size, hn_error *error);
/* The same with the bytes of the file `from`, a piece at a time; more than `limit` bytes are an error. */
hn_status hn_file_copy(const char *path, const char *from, size_t limit, hn_error *error);
hn_status hn_file_sync(const char *path, hn_error *error); /* fsync of a file or a folder */
/* Syncs the finished temporary folder itself (its files were synced by whoever wrote them), renames it, and syncs the
 * parent. `exchange`: an existing folder of that name is swapped in one step (RENAME_EXCHANGE) and then removed. Without it
 * an existing folder with files is an error. */
hn_status hn_folder_commit(const char *temporary, const char *path, bool exchange, hn_error *error);

/* The same protocol for a file that comes in pieces. Nothing is seen under `path` before commit; close gives up what was not
 * committed. A failed add or commit leaves only close to call. */
typedef struct hn_writer {
    int fd; /* -1: nothing open */
    char *path, *temporary;
} hn_writer;
hn_status hn_writer_open(hn_writer *writer, const char *path, hn_error *error);
hn_status hn_writer_add(hn_writer *writer, const void *bytes, size_t size, hn_error *error);
hn_status hn_writer_commit(hn_writer *writer, hn_error *error);
void hn_writer_close(hn_writer *writer);

/* What the calls above use; a test replaces members and puts the table back. */
typedef struct hn_file_hooks {
    ssize_t (*write)(int fd, const void *bytes, size_t size);
    int (*fsync)(int fd);
    int (*rename)(const char *from, const char *to, unsigned flags); /* flags of renameat2 */
    int (*close)(int fd);
    int (*unlink)(int folder, const char *name, int flags); /* as unlinkat */
    int (*mkdir)(const char *path, mode_t mode);
} hn_file_hooks;
extern hn_file_hooks hn_file_calls;

#endif
