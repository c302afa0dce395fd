/* SPDX-License-Identifier: Apache-2.0 */
/*
 * files.h - what every module that keeps files needs: folders, whole writes, listings.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_FILES_H
#define ALLOY_FILES_H

#include <stddef.h>
#include <sys/types.h>

#include "alloy/base.h"

/* Makes the folder path (with mode) and the folders above it (with mode above), where they are
 * missing. Returns 0 or -errno. */
MUST_CHECK int files_make_path(const char *path, mode_t mode, mode_t above);

/* Writes all of data at the file's position. Returns 0, or -errno after which part of it may be
 * written. */
MUST_CHECK int files_write_all(int fd, const void *data, size_t len);

/* Calls visit with the name of each entry of a folder, "." and ".." included, until visit returns
 * something other than 0. Returns that, or 0 at the end, or -errno. The name is lent until visit
 * returns. */
MUST_CHECK int files_list(int dir_fd, int (*visit)(void *arg, const char *name), void *arg);

#endif
