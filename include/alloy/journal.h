/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal.h - the one copy of every accepted event until ClickHouse has it.
 *
 * Each front-end thread appends to a segment of its own through a writer, which takes a lock only
 * when it moves to the next segment. The janitor keeps spare segments ready, populates pages ahead
 * of the writers, syncs, and removes segments that are sealed and hold no LIVE record.
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
    /* NULL: msync(2), which is fdatasync(2) for a part of the file and needs no open file for each
     * segment. Tests put their own here; it returns 0 or -errno. */
    int (*sync_range)(void *address, size_t length);
    struct waiter_table *waiters; /* learns what leaves LIVE; borrowed; NULL: nobody waits */
};

/* An event to append; slices are borrowed. */
struct journal_entry {
    struct slice text;    /* without the newline */
    struct slice columns; /* members with a comma behind each, to stand before the event's own (in
                             an empty event the last one has none); RECORD_COLUMNS_MAX at most */
    struct slice id;      /* canonical */
    bool id_verbatim;     /* id lies within text */
    struct hash128 hash;
    uint16_t stream;
};

#define JOURNAL_ERROR_MAX 512

/*
 * segment_bytes is rounded up to whole pages; more than half of max_bytes is cut to that half
 * (logged).
 *
 * Opens the folder (creating it when absent), takes its lock file, reads or draws the instance id
 * and the hash secret, and makes the first spare segments. Segments of an earlier life stay
 * untouched: recover.h reads them. Returns 0, or -errno with one clear sentence in error ("journal
 * folder /x is in use by another alloyd (pid 12)").
 */
MUST_CHECK int journal_open(struct journal **journal, const struct journal_options *options,
                            char error[JOURNAL_ERROR_MAX]);
/* Unmaps, keeps the files that hold LIVE records, removes the others, and releases the lock. The
 * caller has destroyed every writer. */
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
 * Reserves room so that the next n appends, of entries of exactly these sizes in this order, cannot
 * fail: all or none. Returns 0; -ENOSPC when max_bytes is reached or the disk is full; -EIO when
 * the journal has failed (a sync failed) and takes nothing more. sizes[i] <=
 * journal_entry_bytes_max(). The caller must append every reserved entry: until then nobody else
 * can use what is left of the writer's segment. Owner thread.
 */
MUST_CHECK int journal_writer_reserve(struct journal_writer *writer, const size_t *sizes, size_t n);
/* Appends one reserved entry as LIVE; the record is lent until its state is changed. Owner thread;
 * cannot fail. */
struct record *journal_writer_append(struct journal_writer *writer,
                                     const struct journal_entry *entry, uint64_t received_ms);
/* sync = always: one fdatasync (for each segment touched) for everything appended since the last
 * call. Does nothing in other modes. Returns 0 or -EIO. Owner thread. */
MUST_CHECK int journal_writer_sync(struct journal_writer *writer);

/*
 * Syncs everything that any writer has appended so far, whatever sync says: an event may be on disk
 * while the original of its duplicate is in another writer's segment. One call at a time; the
 * second finds less to do. Does nothing with sync = always, where journal_writer_sync() does it,
 * and in memory mode. Returns 0 or -EIO. Any thread; blocks.
 */
MUST_CHECK int journal_sync_appended(struct journal *journal);

/* Syncs everything at an orderly end, when nobody appends any more. False: the sync failed, or sync
 * = never does not ask for it. Main thread. */
bool journal_settle(struct journal *journal);

/*
 * Takes n records of one stream out of LIVE. The caller must not touch them afterwards. Any thread;
 * lock-free.
 */
void journal_finish(struct journal *journal, struct record *const *records, size_t n,
                    enum record_state state);
/* Stamps an insert into n LIVE records; with sync = always the stamp is on disk on return. Returns
 * 0, or -EIO when the insert must not be sent: the sync failed, or a full disk kept us from
 * reserving insert_id, so that a later life could use it again. A later call with the same id may
 * succeed. Flusher thread. */
MUST_CHECK int journal_stamp(struct journal *journal, struct record *const *records, size_t n,
                             uint64_t insert_id);
/* A number that no insert of this instance has used; monotonic over restarts. Flusher thread. */
uint64_t journal_next_insert_id(struct journal *journal);

/*
 * Whether there are segments to vacate, because few LIVE records keep them. Then whoever holds
 * records asks journal_vacating() for each and moves those that it alone touches, a group at a
 * time. Any thread.
 */
bool journal_wants_vacating(const struct journal *journal);
bool journal_vacating(const struct journal *journal, const struct record *record);
#define JOURNAL_MOVE_MAX 1024
/*
 * Moves the first of n LIVE records, as many as there is room for: replaces them by their copies,
 * which have the same LSN and are on disk. Returns how many; the originals must not be touched
 * afterwards. n <= JOURNAL_MOVE_MAX. Any thread that holds the records; blocks (syncs).
 */
size_t journal_move(struct journal *journal, struct record **records, size_t n);

/*
 * What has become of a record of this folder: its enum record_state; 0 when its segment is gone, so
 * that it is finished in one way or another; -1 when we cannot say, because some segments of an
 * earlier life are not read yet or not readable. Any thread; takes the journal's lock.
 */
int journal_record_state(struct journal *journal, uint64_t lsn);

/* From now on there is one more stream, with the next number: segments that do not name it take no
 * further records. Before the first record of it. Main thread. */
void journal_add_stream(struct journal *journal, const char *name);
/* LIVE records of a stream. Any thread. */
uint64_t journal_live(const struct journal *journal, size_t stream);
/* When the oldest LIVE record of a stream was received, in real time, also by an earlier life; 0:
 * there is none, or it is not read yet. Looks at a few hundred records at most. Any thread; takes
 * the journal's lock, and may wait for the disk without it. */
uint64_t journal_oldest_ms(struct journal *journal, size_t stream);
/* Bytes that the segments in use take, without spares; and their limit, which segments of an
 * earlier life may exceed. Any thread. */
uint64_t journal_bytes(const struct journal *journal);
uint64_t journal_bytes_max(const struct journal *journal);
/* journal_full() is true from a reservation that found no room until a new segment fits.
 * journal_failed() is true for ever after a failed sync, and while files are missing. Any
 * thread. */
bool journal_full(const struct journal *journal);
bool journal_failed(const struct journal *journal);
/* True while the folder, or files in it, are not where they were: the journal then takes nothing.
 * Any thread. */
bool journal_removed(const struct journal *journal);

/* Makes spares, populates pages, syncs each interval, removes segments. Janitor thread, after each
 * journal_wait(). */
void journal_maintain(struct journal *journal, uint64_t now_ms, uint64_t sync_interval_ms);
/* Sleeps until a writer wants something or timeout_ms has passed. Janitor thread. */
void journal_wait(struct journal *journal, uint64_t timeout_ms);
void journal_wake(struct journal *journal); /* any thread */

/* For recover.c, like all functions below. The folder lists the files found at the start; constant,
 * like the segments' spec. */
struct journal_dir *journal_folder(struct journal *journal);
const struct segment_spec *journal_segments(const struct journal *journal);
/* Counts one more LIVE record of an earlier life. */
void journal_adopt_live(struct journal *journal, size_t stream);
/* Takes a segment of an earlier life whose refs are right. */
void journal_adopt(struct journal *journal, struct segment *segment);
/* Copies of an earlier life: adds one that counts; forgets those of a segment that is about to be
 * closed; notes that some could not be read. */
void journal_adopt_copy(struct journal *journal, struct record *copy);
void journal_forget_copies(struct journal *journal, const struct segment *segment);
void journal_lack_copies(struct journal *journal);
/* Every file of earlier lives has been read, or set aside. */
void journal_adopted_all(struct journal *journal);
/* A file of an earlier life, of this many bytes, no longer counts: it is gone, set aside, or about
 * to be adopted. */
void journal_forget(struct journal *journal, uint64_t bytes);

#endif
