/* SPDX-License-Identifier: Apache-2.0 */
/*
 * files.c - what every module that keeps files needs.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "alloy/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int files_make_path(const char *path, mode_t mode, mode_t above)
{
    char *copy;
    int err = 0;

    if (*path == '\0')
        return -EINVAL;
    copy = strdup(path);
    if (copy == NULL)
        return -ENOMEM;
    for (char *slash = strchr(copy + 1, '/'); err == 0 && slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, above) != 0 && errno != EEXIST)
            err = -errno;
        *slash = '/';
    }
    if (err == 0 && mkdir(copy, mode) != 0 && errno != EEXIST)
        err = -errno;
    free(copy);
    return err;
}

int files_write_all(int fd, const void *data, size_t len)
{
    const char *at = data;

    while (len > 0) {
        const ssize_t n = write(fd, at, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

int files_list(int dir_fd, int (*visit)(void *arg, const char *name), void *arg)
{
    /* Open the folder again: a duplicated descriptor would share its read position with others. */
    const int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    int err = 0;

    if (stream == NULL) {
        err = -errno;
        if (fd >= 0)
            close(fd);
        return err;
    }
    while (err == 0 && (errno = 0, entry = readdir(stream)) != NULL)
        err = visit(arg, entry->d_name);
    if (err == 0)
        err = -errno;
    closedir(stream);
    return err;
}
