/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal_move.c - moves LIVE records out of segments that hold little else, and finds them.
 *
 * A copy keeps the LSN of its original, which names it in Redis, L1, waiters and dead letters. The
 * order makes this safe (docs/decisions/012-compaction.md): we sync the copies before we mark the
 * originals, and the marks before anybody gets the copies. So a copy is never stamped or finished,
 * nor its segment removed, while its original could come back LIVE and be inserted again. A crash
 * in the middle leaves two LIVE records with one LSN; at the next start recover_moves.c decides
 * which one counts.
 *
 * Runs on: as each function says. Owns: the segment that takes copies.
 */
#include "journal_private.h"

#include "alloy/kill_point.h"
#define LOG_MODULE "journal"
#include "alloy/log.h"

#include <errno.h>
#include <pthread.h>

bool journal_copies_open(struct journal *journal, bool make)
{
    struct segment *segment;
    bool open;

    pthread_mutex_lock(&journal->move_lock);
    open = journal->copies != NULL;
    pthread_mutex_unlock(&journal->move_lock);
    if (open || !make)
        return open;
    /* Even beyond max_bytes: a full journal needs this segment to become less full. */
    pthread_mutex_lock(&journal->lock);
    journal->bytes_total += journal->spec.size;
    pthread_mutex_unlock(&journal->lock);
    if (journal_create_segment(journal, SEGMENT_COPIES, &segment) != 0) {
        pthread_mutex_lock(&journal->lock);
        journal->bytes_total -= journal->spec.size;
        pthread_mutex_unlock(&journal->lock);
        return false;
    }
    pthread_mutex_lock(&journal->move_lock);
    pthread_mutex_lock(&journal->lock);
    journal_use_segment(journal, segment);
    pthread_mutex_unlock(&journal->lock);
    journal->copies = segment;
    journal->copied_here = 0;
    pthread_mutex_unlock(&journal->move_lock);
    return true;
}

/* Under move_lock. */
static void journal_seal_copies(struct journal *journal)
{
    journal_seal_segment(journal, journal->copies, journal->copied_here, 0);
    journal->copies = NULL;
}

void journal_copies_seal(struct journal *journal, bool idle)
{
    pthread_mutex_lock(&journal->move_lock);
    if (journal->copies != NULL &&
        (!idle || atomic_load_explicit(&journal->copies->refs, memory_order_relaxed) ==
                      SEGMENT_BIAS - journal->copied_here))
        journal_seal_copies(journal);
    pthread_mutex_unlock(&journal->move_lock);
}

/* Under move_lock: writes copies of the first of n records, as many as fit; returns how many. */
static size_t journal_write_copies(struct journal *journal, struct record *const *records, size_t n,
                                   struct record **copies)
{
    struct segment *segment = journal->copies;
    size_t at = atomic_load_explicit(&segment->cursor, memory_order_relaxed);
    size_t i;

    for (i = 0; i < n && records[i]->length <= segment->size - at &&
                segment_marks_end(segment) < segment->begin;
         i++) {
        ALLOY_ASSERT(record_state(records[i]) == RECORD_LIVE);
        copies[i] = segment_copy(segment, at, records[i]);
        at += records[i]->length;
        /* release: pairs with the acquire in journal_sync_dirty() */
        atomic_store_explicit(&segment->cursor, at, memory_order_release);
        KILL_POINT("move_copied");
    }
    return i;
}

/* Under move_lock: the sync of copies failed, so none of them may count, wherever it got to. */
static void journal_give_up_copies(struct journal *journal, struct record *const *copies, size_t n)
{
    for (size_t i = 0; i < n; i++)
        record_set_state(copies[i], RECORD_MOVED);
    pthread_mutex_lock(&journal->lock);
    moved_cancel(&journal->moved, n);
    pthread_mutex_unlock(&journal->lock);
}

/* Under move_lock: from now on the copies count. */
static void journal_mark_moved(struct journal *journal, struct record *const *records,
                               struct record *const *copies, size_t n)
{
    struct segment_span *touched = NULL;

    journal->move_round++;
    journal->copied_here += n;
    pthread_mutex_lock(&journal->lock);
    for (size_t i = 0; i < n; i++) {
        struct segment *segment = segment_of(records[i], journal->spec.align);

        moved_put(&journal->moved, copies[i]);
        segment_came(journal->copies, segment_offset(journal->copies, copies[i]), copies[i]->stream,
                     copies[i]->received_ms);
        segment_went(segment, segment_block_of(segment_offset(segment, records[i])),
                     copies[i]->stream, 1);
        record_set_state(records[i], RECORD_MOVED);
        journal_span_add(&touched, segment, &segment->marks, records[i], journal->move_round);
        KILL_POINT("move_half");
    }
    pthread_mutex_unlock(&journal->lock);
    /* If this sync fails, the journal takes no more events; only a power loss on top of that could
     * bring an original back. */
    if (journal->spec.dir_fd >= 0)
        (void)!journal_sync_spans(journal, touched);
    KILL_POINT("move_marked");
}

/* Under move_lock: syncs the n copies from from on, and the insert ids in their marks. */
static int journal_sync_copies(struct journal *journal, struct segment *segment, size_t from,
                               size_t n)
{
    const size_t to = atomic_load_explicit(&segment->cursor, memory_order_relaxed);
    const size_t marks = segment_marks_end(segment);
    const int err =
        journal_sync_segment(journal, segment, marks - n * sizeof(struct record_mark), marks);

    return err != 0 ? err : journal_sync_segment(journal, segment, from, to);
}

/* Under move_lock: copies at most n records and marks the originals. Returns how many. */
static size_t journal_move_some(struct journal *journal, struct record *const *records, size_t n,
                                struct record **copies)
{
    struct segment *segment = journal->copies;
    const size_t from = atomic_load_explicit(&segment->cursor, memory_order_relaxed);
    const size_t moved = journal_write_copies(journal, records, n, copies);
    int err;

    pthread_mutex_lock(&journal->lock);
    moved_cancel(&journal->moved, n - moved);
    pthread_mutex_unlock(&journal->lock);
    if (moved == 0)
        return 0;
    err = journal->spec.dir_fd < 0 ? 0 : journal_sync_copies(journal, segment, from, moved);
    KILL_POINT("move_synced");
    if (err != 0) {
        journal_give_up_copies(journal, copies, moved);
        return 0;
    }
    journal_mark_moved(journal, records, copies, moved);
    return moved;
}

size_t journal_move(struct journal *journal, struct record **records, size_t n)
{
    struct record *copies[JOURNAL_MOVE_MAX];
    size_t moved = 0;
    int err;

    ALLOY_ASSERT(n <= JOURNAL_MOVE_MAX);
    if (n == 0 || journal_in_trouble(journal))
        return 0;
    pthread_mutex_lock(&journal->move_lock);
    if (journal->copies != NULL && journal_is_stale(journal, journal->copies))
        journal_seal_copies(journal); /* the janitor makes another one */
    pthread_mutex_lock(&journal->lock);
    err = journal->copies == NULL ? -ENOSPC : moved_reserve(&journal->moved, n);
    pthread_mutex_unlock(&journal->lock);
    if (err == 0)
        moved = journal_move_some(journal, records, n, copies);
    /* The segment is full: the janitor makes another one if that is still worth it. */
    if (err == 0 && moved < n && !journal_in_trouble(journal))
        journal_seal_copies(journal);
    pthread_mutex_unlock(&journal->move_lock);
    for (size_t i = 0; i < moved; i++) {
        journal_put_records(journal, segment_of(records[i], journal->spec.align), 1);
        records[i] = copies[i];
    }
    KILL_POINT("move_done");
    return moved;
}

bool journal_wants_vacating(const struct journal *journal)
{
    /* relaxed: a hint */
    return atomic_load_explicit(&journal->vacating, memory_order_relaxed);
}

bool journal_vacating(const struct journal *journal, const struct record *record)
{
    /* A larger segment of an earlier life may hold a record that fits into no present one. */
    return segment_life(segment_of(record, journal->spec.align)) == SEGMENT_VACATING &&
           record->length <= journal->spec.size - segment_begin(journal->spec.size) &&
           record->copies < RECORD_COPIES_MAX;
}

void journal_adopt_copy(struct journal *journal, struct record *copy)
{
    pthread_mutex_lock(&journal->lock);
    if (moved_reserve(&journal->moved, 1) == 0)
        moved_put(&journal->moved, copy);
    else
        journal->moved.incomplete = true;
    pthread_mutex_unlock(&journal->lock);
}

void journal_forget_copies(struct journal *journal, const struct segment *segment)
{
    pthread_mutex_lock(&journal->lock);
    moved_drop(&journal->moved, segment);
    pthread_mutex_unlock(&journal->lock);
}

void journal_lack_copies(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    journal->moved.incomplete = true;
    pthread_mutex_unlock(&journal->lock);
}

/* Under lock, which keeps the mapping. The record's state; -1: the segment has no such record. */
static int journal_state_in(const struct segment *segment, uint64_t lsn)
{
    const size_t offset = (size_t)(lsn & UINT32_MAX);
    /* acquire: pairs with the release in journal_writer_append() */
    const size_t end = atomic_load_explicit(&segment->cursor, memory_order_acquire);
    const struct record *record;

    if (offset < segment->begin || offset % RECORD_ALIGN != 0 || offset >= end)
        return -1;
    /* One that recovery has set aside may have any mark. */
    record = segment_record_at(segment, offset);
    return record != NULL && record->lsn == lsn && record_insert_id_valid(record)
               ? record_state(record)
               : -1;
}

int journal_record_state(struct journal *journal, uint64_t lsn)
{
    const uint32_t number = (uint32_t)(lsn >> 32);
    const struct segment *segment;
    const struct record *copy;
    int gone, state;

    pthread_mutex_lock(&journal->lock);
    /* acquire: pairs with the release in journal_adopted_all() */
    gone = atomic_load_explicit(&journal->earlier_read, memory_order_acquire) &&
                   !journal->moved.incomplete
               ? 0
               : -1;
    for (segment = journal->in_use; segment != NULL; segment = segment->next)
        if (segment->number == number)
            break;
    state = segment == NULL ? gone : journal_state_in(segment, lsn);
    copy = moved_find(&journal->moved, lsn);
    if ((segment == NULL || state == RECORD_MOVED) && copy != NULL)
        state = record_state(copy);
    else if (state == RECORD_MOVED)
        state = gone;
    pthread_mutex_unlock(&journal->lock);
    if (state == 0 && journal_dir_is_damaged(&journal->dir, number))
        state = -1;
    return state;
}
