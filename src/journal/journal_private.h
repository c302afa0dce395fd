/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal_private.h - what only the journal's own files share. Calls go one way:
 *
 *    journal_janitor.c  journal.c (books, stamps)
 *        |      \          |
 *        |   journal_writer.c, journal_move.c
 *        |                 |
 *        +------> journal_supply.c (segments made and dropped, syncs, the janitor's sleep)
 *
 * Lock order: first a writer's lock or move_lock, then the journal's. The janitor needs them the
 * other way round, so it only tries a writer's lock.
 */
#ifndef ALLOY_JOURNAL_PRIVATE_H
#define ALLOY_JOURNAL_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/journal.h"
#include "alloy/journal_dir.h"
#include "moved.h"

#define JOURNAL_POPULATE_AHEAD ((size_t)4 << 20) /* populated by the janitor past a cursor */
#define JOURNAL_POPULATE_LOW ((size_t)2 << 20)   /* below this a writer wakes the janitor */

struct journal_writer {
    struct journal *journal;
    struct journal_writer *next; /* under the journal's lock */
    /* held to reserve and to sync, and by the janitor when it takes the segment away */
    pthread_mutex_t lock;
    /* owner thread; also the janitor, under lock, while pending is 0 */
    struct segment *segment; /* NULL: none */
    size_t cursor;           /* where the next record goes */
    size_t end;              /* of segment; 0 without one */
    size_t marks_left;       /* records that it can still have; 0 without one */
    size_t wake_at;          /* cursor past which we wake the janitor */
    uint64_t appended_here;  /* records in segment */
    size_t plan_left;        /* bytes left in the last reserved segment after all reservations */
    size_t plan_marks;       /* records left in it */
    size_t plan_streams;     /* that this segment names */
    size_t streams;          /* that segment names */
    struct segment *queue;   /* reserved, in order */
    struct segment **queue_tail;
    struct segment *unsynced; /* sync = always: sealed since the last sync */
    /* owner writes with release; the janitor reads with acquire */
    _Atomic size_t pending; /* entries reserved and not appended yet */
    /* written by owner, relaxed; read by any thread */
    _Atomic uint64_t appended[SEGMENT_STREAMS_MAX];
};

/* Why the journal takes no event, however much room there is. */
enum journal_trouble {
    JOURNAL_SYNC_FAILED = 1, /* for ever */
    JOURNAL_REMOVED = 2,     /* the folder, or files in it, are not where they were */
};

struct journal {
    /* constant after journal_open() */
    struct segment_spec spec;
    enum journal_sync sync; /* NEVER in memory */
    uint64_t max_bytes;
    size_t spare_target;
    int (*sync_range)(void *address, size_t length);
    struct waiter_table *waiters;
    int wake_fd;
    struct journal_dir dir; /* has a lock of its own */
    /* any thread */
    _Atomic unsigned trouble;    /* bits of enum journal_trouble */
    _Atomic size_t stream_count; /* release in journal_add_stream(); of spec, whose count and names
                                  * change under lock */
    _Atomic bool starved;        /* a reservation failed, and there is still no room */
    _Atomic bool wake_pending;   /* wake_fd is readable, or about to be */
    _Atomic uint64_t bytes_used; /* segments in use; written under lock */
    _Atomic bool earlier_read;   /* all segments of earlier lives are read */
    CACHE_ALIGNED _Atomic uint64_t finished[SEGMENT_STREAMS_MAX];
    /* under lock */
    CACHE_ALIGNED pthread_mutex_t lock;
    struct segment *in_use;
    struct segment *spares;
    size_t spare_count;
    uint64_t bytes_total; /* in use, spare, and about to be created */
    struct journal_writer *writers;
    uint64_t appended[SEGMENT_STREAMS_MAX]; /* by earlier lives and by destroyed writers */
    bool creation_failing;
    struct moved moved; /* where the copies of moved records are */
    /* under sync_lock, which is taken first */
    pthread_mutex_t sync_lock;
    bool earlier_synced; /* what earlier lives left is surely on disk */
    /* under move_lock, which is taken before the journal's */
    pthread_mutex_t move_lock;
    struct segment *copies; /* takes copies; NULL: none, until the janitor makes one */
    uint64_t copied_here;   /* records copied into it */
    uint64_t move_round;
    /* any thread */
    _Atomic bool vacating; /* some segments are being vacated; set by the janitor */
    /* janitor only */
    uint64_t synced_ms;
    uint64_t watched_ms;
    bool promise_failing;
    bool told_full;
    uint64_t starved_ms; /* when it was last seen to be full */
    /* flusher only */
    uint64_t stamp_round;
};

/* ---- journal_supply.c ---- */

/* Makes one segment whose bytes have been claimed. Returns 0 or -errno (logged). Any thread. */
MUST_CHECK int journal_create_segment(struct journal *journal, enum segment_kind kind,
                                      struct segment **segment);
/* Under the journal's lock: claims the bytes of count more segments; false: max_bytes forbids
 * them. */
bool journal_claim_bytes(struct journal *journal, size_t count);
/* Under the journal's lock: puts a segment whose bytes are claimed into use, held by a writer. */
void journal_use_segment(struct journal *journal, struct segment *segment);
/* Whether a segment names fewer streams than there are, and so may get no record of some. acquire:
 * pairs with the release in journal_add_stream() */
static inline bool journal_is_stale(const struct journal *journal, const struct segment *segment)
{
    return segment->blocks.streams <
           atomic_load_explicit(&journal->stream_count, memory_order_acquire);
}
/* Under the journal's lock: takes the spares out that are stale, linked by next. */
struct segment *journal_shed_spares(struct journal *journal);
/* Removes them. Any thread. */
void journal_drop_spares(struct journal *journal, struct segment *list);
/* Under the journal's lock. */
void journal_push_spare(struct journal *journal, struct segment *segment);
/* Makes spares up to the target, as far as max_bytes and the disk allow. Janitor. */
void journal_make_spares(struct journal *journal);
void journal_drop_segment(struct journal *journal, struct segment *segment, bool keep);

/* True while the journal must not take events. Any thread. */
static inline bool journal_in_trouble(struct journal *journal)
{
    return atomic_load_explicit(&journal->trouble, memory_order_relaxed) != 0;
}

static inline bool journal_sync_has_failed(struct journal *journal)
{
    return atomic_load_explicit(&journal->trouble, memory_order_relaxed) & JOURNAL_SYNC_FAILED;
}

/* A sync failed: the kernel may have dropped the dirty pages, so a later sync that succeeds proves
 * nothing. The journal takes no more events. Any thread. */
void journal_fail(struct journal *journal, const char *what, uint32_t number, int err);
/* Syncs a part of a segment; a failure fails the journal. Returns 0 or -EIO. Any thread. */
MUST_CHECK int journal_sync_segment(struct journal *journal, struct segment *segment, size_t from,
                                    size_t to);
/* Extends the segment's span by the mark of a record; list links the spans touched in this
 * round. */
void journal_span_add(struct segment_span **list, struct segment *segment,
                      struct segment_span *span, const struct record *record, uint64_t round);
/* Syncs them. Returns 0 or -EIO. */
MUST_CHECK int journal_sync_spans(struct journal *journal, struct segment_span *list);
/* Syncs what was marked, of all segments in use. Returns 0 or -EIO. At the end, when nobody removes
 * segments. */
MUST_CHECK int journal_sync_marks(struct journal *journal);
/* Syncs what was appended since the last time. Janitor. */
void journal_sync_dirty(struct journal *journal);
/* The head of the list of segments in use. The janitor may walk it without the lock, since only it
 * removes segments. */
struct segment *journal_first_in_use(struct journal *journal);
/* Subtracts count LIVE records, or holds, from a segment's refs. The caller must not touch the
 * records or the segment afterwards. Any thread. */
void journal_put_records(struct journal *journal, struct segment *segment, uint64_t count);

/* ---- journal_writer.c ---- */
/* Gives up the hold of SEGMENT_BIAS on a segment to which records were appended, but keeps keep
 * refs beyond the records. Owner thread, or the janitor under the writer's lock. */
void journal_seal_segment(struct journal *journal, struct segment *segment, uint64_t records,
                          uint64_t keep);
/* Gives up the writer's segment; from now on only its LIVE records keep it. Owner thread, or the
 * janitor under the writer's lock. */
void journal_writer_seal(struct journal_writer *writer);

/* ---- journal_move.c ---- */
/* Whether there is a segment that takes copies; make: makes one if not. Janitor. */
bool journal_copies_open(struct journal *journal, bool make);
/* Seals the segment of copies; idle: only if nothing in it is LIVE. Janitor, or journal_close(). */
void journal_copies_seal(struct journal *journal, bool idle);

/* ---- journal_watch.c ---- */
/* Checks that the folder and the files in use are still there. Janitor. */
void journal_watch(struct journal *journal);

#endif
