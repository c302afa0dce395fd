/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal_writer.c - a front-end thread's hold on the segment that it appends to.
 *
 * Runs on: the owner's thread; only the seal of an idle segment runs on the janitor.
 * Owns: the segments that are reserved or being filled, until they are sealed.
 */
#include "journal_private.h"

#define LOG_MODULE "journal"
#include "alloy/log.h"

#include <errno.h>
#include <pthread.h>

static size_t journal_segment_room(const struct journal *journal)
{
    return journal->spec.size - segment_begin(journal->spec.size);
}

/* Under lock. */
static struct segment *journal_pop_spare(struct journal *journal)
{
    struct segment *segment = journal->spares;

    journal->spares = segment->next;
    journal->spare_count--;
    return segment;
}

/* Puts the segments of list into use, or back among the spares and gives the missing ones' bytes
 * back. */
static void journal_settle_taken(struct journal *journal, struct segment *list, size_t missing,
                                 bool use)
{
    pthread_mutex_lock(&journal->lock);
    for (struct segment *segment = list; segment != NULL; segment = segment->queue_next) {
        if (!use) {
            journal_push_spare(journal, segment);
            continue;
        }
        journal_use_segment(journal, segment);
    }
    journal->bytes_total -= (uint64_t)missing * journal->spec.size;
    pthread_mutex_unlock(&journal->lock);
}

/* Takes count segments into use, all or none. Returns 0 or -ENOSPC. */
static int journal_take_segments(struct journal *journal, size_t count, struct segment **list)
{
    struct segment **tail = list;
    struct segment *shed;
    size_t missing;
    int err = 0;

    *list = NULL;
    pthread_mutex_lock(&journal->lock);
    shed = journal_shed_spares(journal);
    if (unlikely(shed != NULL)) {
        pthread_mutex_unlock(&journal->lock);
        journal_drop_spares(journal, shed);
        pthread_mutex_lock(&journal->lock);
    }
    missing = count > journal->spare_count ? count - journal->spare_count : 0;
    if (!journal_claim_bytes(journal, missing)) {
        pthread_mutex_unlock(&journal->lock);
        return -ENOSPC;
    }
    for (size_t i = missing; i < count; i++) {
        *tail = journal_pop_spare(journal);
        tail = &(*tail)->queue_next;
    }
    *tail = NULL;
    pthread_mutex_unlock(&journal->lock);
    /* Rare: the janitor did not keep up. */
    for (; missing > 0; missing--) {
        err = journal_create_segment(journal, SEGMENT_EVENTS, tail);
        if (err != 0)
            break;
        tail = &(*tail)->queue_next;
    }
    *tail = NULL;
    journal_settle_taken(journal, *list, missing, err == 0);
    return err == 0 ? 0 : -ENOSPC;
}

void journal_seal_segment(struct journal *journal, struct segment *segment, uint64_t records,
                          uint64_t keep)
{
    const uint64_t drop = SEGMENT_BIAS - records - keep;

    segment->records = records;
    segment_enter(segment, SEGMENT_SEALED);
    /* release: pairs with the acquire in journal_janitor_unlist_finished() */
    if (atomic_fetch_sub_explicit(&segment->refs, drop, memory_order_release) == drop)
        journal_wake(journal);
}

void journal_writer_seal(struct journal_writer *writer)
{
    struct journal *journal = writer->journal;
    struct segment *segment = writer->segment;
    const uint64_t records = writer->appended_here;
    const bool unsynced =
        journal->sync == JOURNAL_SYNC_ALWAYS && segment->sync_from < writer->cursor;

    if (unsynced) {
        segment->queue_next = writer->unsynced;
        writer->unsynced = segment;
    }
    writer->segment = NULL;
    writer->cursor = writer->end = writer->marks_left = 0;
    writer->appended_here = 0;
    journal_seal_segment(journal, segment, records, unsynced ? 1 : 0);
}

/* Moves on to the next reserved segment. */
static void journal_advance(struct journal_writer *writer)
{
    struct segment *segment = writer->queue;

    ALLOY_ASSERT(segment != NULL);
    if (writer->segment != NULL)
        journal_writer_seal(writer);
    writer->queue = segment->queue_next;
    if (writer->queue == NULL)
        writer->queue_tail = &writer->queue;
    writer->segment = segment;
    writer->streams = segment->blocks.streams;
    writer->cursor = segment->begin;
    writer->end = segment->size;
    writer->marks_left = segment_marks(segment->size);
    writer->wake_at = 0;
}

/* Decides at which cursor to wake the janitor next; wakes it now if populated pages run low. */
static void journal_check_populated(struct journal_writer *writer)
{
    const struct segment *segment = writer->segment;
    const size_t populated = atomic_load_explicit(&segment->populated, memory_order_relaxed);

    if (populated >= segment->size) {
        writer->wake_at = SIZE_MAX;
    } else if (populated >= writer->cursor + JOURNAL_POPULATE_LOW) {
        writer->wake_at = populated - JOURNAL_POPULATE_LOW;
    } else {
        writer->wake_at = writer->cursor + JOURNAL_POPULATE_LOW / 2;
        journal_wake(writer->journal);
    }
}

struct journal_writer *journal_writer_create(struct journal *journal)
{
    struct journal_writer *writer = calloc(1, sizeof(*writer));

    if (writer == NULL)
        return NULL;
    writer->journal = journal;
    writer->queue_tail = &writer->queue;
    pthread_mutex_init(&writer->lock, NULL);
    pthread_mutex_lock(&journal->lock);
    writer->next = journal->writers;
    journal->writers = writer;
    pthread_mutex_unlock(&journal->lock);
    return writer;
}

void journal_writer_destroy(struct journal_writer *writer)
{
    struct journal *journal = writer->journal;
    struct journal_writer **link = &journal->writers;

    pthread_mutex_lock(&journal->lock);
    while (*link != writer)
        link = &(*link)->next;
    *link = writer->next;
    for (size_t i = 0; i < SEGMENT_STREAMS_MAX; i++)
        journal->appended[i] += atomic_load_explicit(&writer->appended[i], memory_order_relaxed);
    pthread_mutex_unlock(&journal->lock);
    /* The writer is off the list, so the janitor no longer touches it. */
    while (writer->queue != NULL)
        journal_advance(writer);
    if (writer->segment != NULL)
        journal_writer_seal(writer);
    while (writer->unsynced != NULL) {
        struct segment *segment = writer->unsynced;

        writer->unsynced = segment->queue_next;
        atomic_fetch_sub_explicit(&segment->refs, 1, memory_order_release);
    }
    pthread_mutex_destroy(&writer->lock);
    free(writer);
}

size_t journal_entry_bytes(const struct journal_entry *entry)
{
    return record_bytes(entry->columns.len + entry->text.len + 1,
                        entry->id_verbatim ? 0 : entry->id.len);
}

size_t journal_entry_bytes_max(const struct journal *journal)
{
    return journal_segment_room(journal);
}

/* Under the writer's lock. */
static int journal_reserve(struct journal_writer *writer, const size_t *sizes, size_t n)
{
    const size_t room = journal_segment_room(writer->journal);
    struct segment *taken = NULL;
    /* Records of a new stream need a segment that names it; see journal_writer_append(). acquire:
     * pairs with the release in journal_add_stream() */
    const bool stale = writer->plan_streams <
                       atomic_load_explicit(&writer->journal->stream_count, memory_order_acquire);
    size_t left = unlikely(stale) ? 0 : writer->plan_left;
    size_t marks = writer->plan_marks, count = 0;

    for (size_t i = 0; i < n; i++) {
        ALLOY_ASSERT(sizes[i] <= room);
        if (sizes[i] > left || unlikely(marks == 0)) {
            count++;
            left = room;
            marks = segment_marks(writer->journal->spec.size);
        }
        left -= sizes[i];
        marks--;
    }
    if (count > 0) {
        const int err = journal_take_segments(writer->journal, count, &taken);

        if (err != 0)
            return err;
        *writer->queue_tail = taken;
        for (; taken != NULL; taken = taken->queue_next) {
            writer->queue_tail = &taken->queue_next;
            writer->plan_streams = taken->blocks.streams;
        }
        journal_wake(writer->journal);
    }
    writer->plan_left = left;
    writer->plan_marks = marks;
    /* relaxed: the janitor looks under the lock, which orders this. */
    atomic_fetch_add_explicit(&writer->pending, n, memory_order_relaxed);
    return 0;
}

int journal_writer_reserve(struct journal_writer *writer, const size_t *sizes, size_t n)
{
    struct journal *journal = writer->journal;
    int err;

    if (journal_in_trouble(journal))
        return -EIO;
    pthread_mutex_lock(&writer->lock);
    err = journal_reserve(writer, sizes, n);
    pthread_mutex_unlock(&writer->lock);
    if (err != 0) {
        atomic_store_explicit(&journal->starved, true, memory_order_relaxed);
        journal_wake(journal);
    }
    return err;
}

struct record *journal_writer_append(struct journal_writer *writer,
                                     const struct journal_entry *entry, uint64_t received_ms)
{
    const struct record_parts parts = {
        .text = entry->text,
        .columns = entry->columns,
        .id = entry->id,
        .id_verbatim = entry->id_verbatim,
        .stream = entry->stream,
        .hash = entry->hash,
        .received_ms = received_ms,
    };
    const size_t bytes = journal_entry_bytes(entry);
    const size_t pending = atomic_load_explicit(&writer->pending, memory_order_relaxed);
    _Atomic uint64_t *appended = &writer->appended[entry->stream];
    struct record *record;

    ALLOY_ASSERT(pending > 0);
    /* The reservation has planned a new segment for all its records. Those that the old one can
     * take go there, so that the others need no more than was planned. */
    while (bytes > writer->end - writer->cursor || unlikely(writer->marks_left == 0) ||
           unlikely(entry->stream >= writer->streams))
        journal_advance(writer);
    /* Count it before anybody can see and finish it, so that the books never go below zero. A plain
     * addition, since only this thread writes it. release: pairs with the acquire in
     * journal_live() */
    atomic_store_explicit(appended, atomic_load_explicit(appended, memory_order_relaxed) + 1,
                          memory_order_release);
    segment_came(writer->segment, writer->cursor, entry->stream, received_ms);
    writer->appended_here++;
    writer->marks_left--;
    record = segment_write(writer->segment, writer->cursor, &parts);
    writer->cursor += bytes;
    /* release: pairs with the acquire in journal_sync_dirty() */
    atomic_store_explicit(&writer->segment->cursor, writer->cursor, memory_order_release);
    if (unlikely(writer->cursor >= writer->wake_at))
        journal_check_populated(writer);
    /* release: pairs with the acquire in journal_janitor_reclaim_idle(), which may then take the
     * segment */
    atomic_store_explicit(&writer->pending, pending - 1, memory_order_release);
    return record;
}

/* Under the writer's lock: syncs the sealed segments, then the one that is being filled. */
static int journal_sync_writer(struct journal_writer *writer)
{
    struct journal *journal = writer->journal;
    struct segment *segment;
    int err = 0;

    while (err == 0 && (segment = writer->unsynced) != NULL) {
        const size_t to = atomic_load_explicit(&segment->cursor, memory_order_relaxed);

        err = journal_sync_segment(journal, segment, segment->sync_from, to);
        if (err != 0)
            break;
        segment->sync_from = to;
        writer->unsynced = segment->queue_next;
        /* release: pairs with the acquire in journal_janitor_unlist_finished() */
        if (atomic_fetch_sub_explicit(&segment->refs, 1, memory_order_release) == 1)
            journal_wake(journal);
    }
    segment = writer->segment;
    if (err == 0 && segment != NULL && segment->sync_from < writer->cursor) {
        err = journal_sync_segment(journal, segment, segment->sync_from, writer->cursor);
        if (err == 0)
            segment->sync_from = writer->cursor;
    }
    return err;
}

int journal_writer_sync(struct journal_writer *writer)
{
    int err;

    if (writer->journal->sync != JOURNAL_SYNC_ALWAYS)
        return 0;
    if (journal_sync_has_failed(writer->journal))
        return -EIO;
    pthread_mutex_lock(&writer->lock);
    err = journal_sync_writer(writer);
    pthread_mutex_unlock(&writer->lock);
    return err;
}
