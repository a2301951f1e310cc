/* A folder for the files of a test program, gone at its end. */
#ifndef HONE_TESTS_DATA_FOLDER_H
#define HONE_TESTS_DATA_FOLDER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"

static char folder[64];

static void folder_open(void)
{
    strcpy(folder, "/tmp/hone-data-XXXXXX");
    if (!mkdtemp(folder)) abort();
}

static void folder_close(void)
{
    hn_error problem = {0};
    if (hn_folder_remove(folder, &problem)) abort();
}

/* Writes a file; its path lives until the eighth file after it. */
static const char *put_bytes(const char *name, const char *text, size_t size)
{
    static char paths[8][96];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (!file || fwrite(text, 1, size, file) != size || fclose(file)) abort();
    return path;
}

static inline const char *put(const char *name, const char *text)
{
    return put_bytes(name, text, strlen(text));
}

#endif
