/* SPDX-License-Identifier: Apache-2.0 */
/*
 * letters_key.c - the file replay.key in a dead-letter folder.
 *
 * It appears under its name whole and synced, and only its owner may read it: letters are for the
 * folder's group too, but who can forge what a request told is another thing.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "alloy/letters_key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloy/event_id.h"
#include "alloy/files.h"
#include "alloy/text.h"

#define KEY_DIGITS (2 * (size_t)VOUCHER_KEY_BYTES)

int letters_key_read(int dir_fd, const char *path, struct voucher_key *key)
{
    const int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char text[KEY_DIGITS];
    ssize_t n;

    if (fd < 0)
        return -errno;
    n = read(fd, text, sizeof(text));
    close(fd);
    if (n != (ssize_t)sizeof(text))
        return -EINVAL;
    for (size_t i = 0; i < VOUCHER_KEY_BYTES; i++) {
        const int high = text_hex_digit(text[2 * i]), low = text_hex_digit(text[2 * i + 1]);

        if (high < 0 || low < 0)
            return -EINVAL;
        key->bytes[i] = (unsigned char)(high << 4 | low);
    }
    return 0;
}

/* Writes a file of another name, and gives it its own: a key that is half written must never be
 * read. */
static int letters_key_write(int dir_fd, const struct voucher_key *key)
{
    char text[KEY_DIGITS + 2], name[64];
    int err = 0;
    int fd;

    for (size_t i = 0; i < VOUCHER_KEY_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02x", key->bytes[i]);
    text[KEY_DIGITS] = '\n';
    snprintf(name, sizeof(name), LETTERS_KEY_NAME ".%ld", (long)getpid());
    (void)unlinkat(dir_fd, name, 0);
    fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    err = files_write_all(fd, text, KEY_DIGITS + 1);
    if (err == 0 && (fsync(fd) != 0 ||
                     renameat2(dir_fd, name, dir_fd, LETTERS_KEY_NAME, RENAME_NOREPLACE) != 0))
        err = -errno;
    close(fd);
    if (err != 0)
        (void)unlinkat(dir_fd, name, 0);
    else if (fsync(dir_fd) != 0)
        err = -errno;
    return err;
}

int letters_key_keep(int dir_fd, const struct voucher_key *key)
{
    int err;

    if (faccessat(dir_fd, LETTERS_KEY_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    err = letters_key_write(dir_fd, key);
    return err == -EEXIST ? 0 : err;
}

int letters_key_load(const char *dir, struct voucher_key *key)
{
    const int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int err = dir_fd < 0 ? -errno : letters_key_read(dir_fd, LETTERS_KEY_NAME, key);

    if (dir_fd >= 0)
        close(dir_fd);
    if (err != 0)
        event_id_random(key->bytes, sizeof(key->bytes));
    return err == -ENOENT ? 0 : err;
}
