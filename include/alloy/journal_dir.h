/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal_dir.h - the journal's folder: its lock, the instance file, and the numbers that are never
 * given twice in an instance's life.
 *
 * Used by journal.c, recover.c, buried.c and alloyctl. In memory mode there is no folder, and the
 * numbers are unique only within this process.
 */
#ifndef ALLOY_JOURNAL_DIR_H
#define ALLOY_JOURNAL_DIR_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/event_id.h"

/* A segment file that was there when the folder was opened. */
struct journal_dir_file {
    uint32_t number;
    uint64_t size; /* bytes */
};

struct journal_dir {
    /* set by journal_dir_open(), constant after */
    char *path; /* NULL: memory */
    int fd;     /* -1: memory */
    int lock_fd;
    uint64_t instance_id;
    unsigned char secret[EVENT_ID_KEY_LEN];
    struct journal_dir_file *files; /* by number */
    size_t file_count;
    /* under lock */
    pthread_mutex_t lock;
    uint32_t *damaged; /* numbers of segments with something in them that we cannot trust */
    size_t damaged_count;
    uint64_t segment_next;
    uint64_t segment_limit; /* the instance file says that a later life begins here */
    /* any thread; the limit grows under lock */
    _Atomic uint64_t insert_next;
    _Atomic uint64_t insert_limit;
};

#define JOURNAL_DIR_ERROR_MAX 512

/* Opens or makes the folder and locks it; path NULL: memory. Returns 0, or -errno with a sentence
 * in error and nothing to close. */
MUST_CHECK int journal_dir_open(struct journal_dir *dir, const char *path,
                                char error[JOURNAL_DIR_ERROR_MAX]);
/* Writes down exactly which numbers were used, and releases the lock. */
void journal_dir_close(struct journal_dir *dir);

/* For tools: reads the instance id and the list of segments of any folder, without a lock and
 * without writing. Returns 0, or -errno with a sentence in error and no need for
 * journal_dir_peek_end(). */
MUST_CHECK int journal_dir_peek(struct journal_dir *dir, const char *path,
                                char error[JOURNAL_DIR_ERROR_MAX]);
void journal_dir_peek_end(struct journal_dir *dir);

/* Whether the path still leads to the folder that we have open and locked: 0 or -ENOENT. Writes the
 * instance file again if somebody has removed it. Janitor. */
MUST_CHECK int journal_dir_look(struct journal_dir *dir);

/* Notes that something in this segment cannot be trusted. Returns 0 or -ENOMEM. Any thread. */
MUST_CHECK int journal_dir_note_damaged(struct journal_dir *dir, uint32_t number);
/* The same, and renames the file, so that nobody reads it again but its bytes stay. Returns 0 or
 * -errno. Any thread. */
MUST_CHECK int journal_dir_set_aside(struct journal_dir *dir, uint32_t number);
/* Whether a segment is damaged, and how many are: those noted in this life, and files set aside
 * earlier that are still in the folder. Any thread. */
bool journal_dir_is_damaged(struct journal_dir *dir, uint32_t number);
size_t journal_dir_damaged(struct journal_dir *dir);

/* Draws a segment number that nobody else gets. Returns 0, or -errno when the instance file could
 * not be written. Any thread. */
MUST_CHECK int journal_dir_segment_number(struct journal_dir *dir, uint32_t *number);
/* An insert id that nobody else gets; it may be used once it is below insert_limit. Any thread. */
uint64_t journal_dir_insert_id(struct journal_dir *dir);
/* Raises the limits in the instance file when half of the numbers below them are used. Returns 0 or
 * -errno. Janitor. */
MUST_CHECK int journal_dir_promise(struct journal_dir *dir);

#endif
