/* SPDX-License-Identifier: Apache-2.0 */
/*
 * temp_folder.h - a folder of one test's own, which goes with all that is in it.
 */
#ifndef TEMP_FOLDER_H
#define TEMP_FOLDER_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

static char folder[64];

/* Below "/dev/shm", which is memory, or "/tmp", which may be a disk. Returns 0 or -1. */
static inline int make_folder(const char *where)
{
    snprintf(folder, sizeof(folder), "%s/alloy-unit-XXXXXX", where);
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static inline int remove_folder_entry(const char *path, const struct stat *st, int flag,
                                      struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static inline int remove_folder(void)
{
    return nftw(folder, remove_folder_entry, 8, FTW_DEPTH | FTW_PHYS);
}

#endif
