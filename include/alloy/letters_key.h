/* SPDX-License-Identifier: Apache-2.0 */
/*
 * letters_key.h - the file replay.key in a dead-letter folder: who can read it may replay letters
 * with the ids and columns that they have.
 *
 * It is made when the first letter is written that has such. Runs on: any thread.
 */
#ifndef ALLOY_LETTERS_KEY_H
#define ALLOY_LETTERS_KEY_H

#include "alloy/base.h"
#include "alloy/voucher.h"

#define LETTERS_KEY_NAME "replay.key"

/* Reads the key of a file; path is from dir_fd. Returns 0, -EINVAL: it holds no key, or another
 * -errno. */
MUST_CHECK int letters_key_read(int dir_fd, const char *path, struct voucher_key *key);
/* Makes sure that the folder has its file; one that is there is left alone. Returns 0 once it is
 * synced, or -errno. */
MUST_CHECK int letters_key_keep(int dir_fd, const struct voucher_key *key);
/* The key of a folder for this life: the file's, or a new one. Returns 0, or -errno when there is a
 * file that cannot be read; the key is a new one then, and letters_key_keep() leaves the file. */
MUST_CHECK int letters_key_load(const char *dir, struct voucher_key *key);

#endif
