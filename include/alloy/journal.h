/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal.h - the one copy of every accepted event until ClickHouse has it.
 *
 * Each front-end thread appends to a segment of its own through a writer: no lock but when it moves
 * to the next segment. The janitor keeps spare segments ready, populates pages ahead of the
 * writers, syncs, and removes segments that are sealed and hold no LIVE record.
 */
#ifndef ALLOY_JOURNAL_H
#define ALLOY_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/event_id.h"
#include "alloy/segment.h"

struct journal;
struct journal_dir;
struct journal_writer;
struct waiter_table;

enum journal_sync { JOURNAL_SYNC_NEVER, JOURNAL_SYNC_INTERVAL, JOURNAL_SYNC_ALWAYS };

struct journal_options {
    const char *dir; /* NULL: anonymous memory */
    size_t segment_bytes;
    uint64_t max_bytes;
    enum journal_sync sync;
    size_t writer_count; /* writers that will be created */
    const char *const *stream_names;
    size_t stream_count;
    /* NULL: msync(2), which is fdatasync(2) of a part of the file and needs no open file for each
     * segment. Else a test's seam: 0 or -errno. */
    int (*sync_range)(void *address, size_t length);
    struct waiter_table *waiters; /* is told what leaves LIVE; borrowed; NULL: nobody waits */
};

/* An event to append; slices are borrowed. */
struct journal_entry {
    struct slice text; /* without the newline */
    struct slice id;   /* canonical */
    bool id_verbatim;  /* id lies within text */
    struct hash128 hash;
    uint16_t stream;
};

#define JOURNAL_ERROR_MAX 512

/*
 * A segment larger than half of max_bytes is made half as large as that (logged); segment_bytes is
 * rounded up to whole pages.
 *
 * Opens the folder (creating it when absent), takes its lock file, reads or draws the instance id
 * and the hash secret, and makes the first spare segments. Segments left by an earlier life stay
 * untouched: recover.h reads them. Returns 0, or -errno with one clear sentence in error ("journal
 * folder /x is in use by another alloyd (pid 12)").
 */
MUST_CHECK int journal_open(struct journal **journal, const struct journal_options *options,
                            char error[JOURNAL_ERROR_MAX]);
/* Unmaps, keeps the files that hold LIVE records, removes the others, lets go of the lock. Every
 * writer has been destroyed. */
void journal_close(struct journal *journal);

uint64_t journal_instance_id(const struct journal *journal);
struct waiter_table *journal_waiters(const struct journal *journal); /* NULL: nobody waits */
const unsigned char *journal_secret(const struct journal *journal);  /* EVENT_ID_KEY_LEN bytes */

/* Returns owned (journal_writer_destroy() seals its segment); NULL: out of memory. */
struct journal_writer *journal_writer_create(struct journal *journal);
void journal_writer_destroy(struct journal_writer *writer);

/* Bytes that an entry takes in a segment. */
size_t journal_entry_bytes(const struct journal_entry *entry);
/* The most bytes one entry may take, given the segment size. Any thread. */
size_t journal_entry_bytes_max(const struct journal *journal);

/*
 * Makes sure that the next n appends, of entries of just these sizes in this order, cannot fail.
 * All or none: on an error nothing was kept. 0; -ENOSPC: max_bytes reached or the disk is full;
 * -EIO: the journal has failed (a sync failed) and takes nothing more. sizes[i] <=
 * journal_entry_bytes_max(). Every reserved entry is then appended: until that is done nobody else
 * can have what is left of the writer's segment. Owner thread.
 */
MUST_CHECK int journal_writer_reserve(struct journal_writer *writer, const size_t *sizes, size_t n);
/* Appends one reserved entry as LIVE; the record is lent until its state is changed. Owner thread;
 * cannot fail. */
struct record *journal_writer_append(struct journal_writer *writer,
                                     const struct journal_entry *entry, uint64_t received_ms);
/* sync = always: one fdatasync for all that was appended since the last call (each segment
 * touched). 0 or -EIO; nothing to do in other modes. Owner thread. */
MUST_CHECK int journal_writer_sync(struct journal_writer *writer);

/*
 * Brings everything to the disk that any writer has appended so far, whatever sync says: for an
 * event and for the original of a duplicate alike. One at a time; who comes second finds less to
 * do. 0 or -EIO. With sync = always that is journal_writer_sync()'s job, and in memory there is no
 * disk: nothing to do. Any thread; blocks.
 */
MUST_CHECK int journal_sync_appended(struct journal *journal);

/* Brings everything to the disk at an end in order, when nobody appends any more. False: it failed,
 * or nobody wants that (sync = never). Main thread. */
bool journal_settle(struct journal *journal);

/*
 * Takes n records of one stream out of LIVE. The caller must not touch them after. Any thread;
 * lock-free.
 */
void journal_finish(struct journal *journal, struct record *const *records, size_t n,
                    enum record_state state);
/* Stamps an insert into n LIVE records; with sync = always it is on disk on return. 0, or -EIO: the
 * insert must not be sent (the sync failed, or insert_id could not be set aside for ever on a full
 * disk; a later call with the same id may succeed). Flusher thread. */
MUST_CHECK int journal_stamp(struct journal *journal, struct record *const *records, size_t n,
                             uint64_t insert_id);
/* A number that no insert of this instance has used; monotonic over restarts. Flusher thread. */
uint64_t journal_next_insert_id(struct journal *journal);

/*
 * Whether there are segments to be vacated, for the few LIVE records in them keep them: then
 * whoever holds records looks which of them journal_vacating() names, and moves those that it alone
 * touches, a group at a time. Any thread.
 */
bool journal_wants_vacating(const struct journal *journal);
bool journal_vacating(const struct journal *journal, const struct record *record);
#define JOURNAL_MOVE_MAX 1024
/*
 * Moves the first of n LIVE records, as many as there is room for: they are replaced by their
 * copies, which have the same LSN, and are on disk. Returns how many; the originals must not be
 * touched after. n <= JOURNAL_MOVE_MAX. Any thread that holds them; blocks (syncs).
 */
size_t journal_move(struct journal *journal, struct record **records, size_t n);

/*
 * What has become of a record of this folder: its enum record_state; 0 where its segment has gone,
 * so that it is finished, one way or another; -1 where nobody can say, as an earlier life's
 * segments are not all read yet, or some could not be. Any thread; takes the journal's lock.
 */
int journal_record_state(struct journal *journal, uint64_t lsn);

/* LIVE records of a stream. Any thread. */
uint64_t journal_live(const struct journal *journal, size_t stream);
/* Bytes that segments in use take, spares not counted; and the limit, which an earlier life's
 * segments may exceed. Any thread. */
uint64_t journal_bytes(const struct journal *journal);
uint64_t journal_bytes_max(const struct journal *journal);
/* True from a reservation that failed for want of room until there is room for a new segment, and
 * for ever after a failed sync, and while files are missing. Any thread. */
bool journal_full(const struct journal *journal);
bool journal_failed(const struct journal *journal);
/* True while the folder, or files in it, are not where they were: nothing is taken. Any thread. */
bool journal_removed(const struct journal *journal);

/* Spares, population, interval sync, removal. Janitor thread. Called after each journal_wait(). */
void journal_maintain(struct journal *journal, uint64_t now_ms, uint64_t sync_interval_ms);
/* Sleeps until a writer wants something or timeout_ms has passed. Janitor thread. */
void journal_wait(struct journal *journal, uint64_t timeout_ms);
void journal_wake(struct journal *journal); /* any thread */

/* For recover.c. The folder lists what was found at the start; constant, as the segments' spec. */
struct journal_dir *journal_folder(struct journal *journal);
const struct segment_spec *journal_segments(const struct journal *journal);
/* Counts one more LIVE record of an earlier life. */
void journal_adopt_live(struct journal *journal, size_t stream);
/* Takes a segment of an earlier life whose refs are settled. */
void journal_adopt(struct journal *journal, struct segment *segment);
/* Of an earlier life: a copy that counts; those of a segment that is about to be closed do not;
 * some could not be read. */
void journal_adopt_copy(struct journal *journal, struct record *copy);
void journal_forget_copies(struct journal *journal, const struct segment *segment);
void journal_lack_copies(struct journal *journal);
/* Every file of earlier lives has been read, or set aside. */
void journal_adopted_all(struct journal *journal);
/* A file of an earlier life, of this many bytes, no longer counts as such: it is gone, set aside,
 * or about to be adopted. */
void journal_forget(struct journal *journal, uint64_t bytes);

#endif
