/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal_janitor.c - keeps the journal's writers supplied: makes spare segments, populates pages,
 * syncs, removes finished segments, and decides which to vacate.
 *
 * Only the janitor removes segments, so it may walk the list of those in use without the lock.
 *
 * When room runs out, an idle writer could keep a segment whose records are all finished, and
 * everybody else out, for ever. So the janitor takes such segments away from writers with nothing
 * reserved.
 *
 * One LIVE record keeps its whole segment, so a few that cannot be inserted could fill the journal.
 * To prevent that, the janitor marks old segments with few LIVE records, and whoever holds those
 * records moves them (journal_move.c).
 *
 * Runs on: the janitor. Owns: nothing; see journal.c.
 */
#include "journal_private.h"

#define LOG_MODULE "journal"
#include "alloy/log.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define MEMORY_SPARES_MIN 2
/* We vacate a segment only from this age on: most younger records are about to be finished. */
#define VACATE_AGE_MS 250
#define VACATE_LIVE_DIVISOR 4 /* ... and only when at most this part of its records is LIVE */
#define WATCH_INTERVAL_MS 1000
#define ROOM_MS                                                                        \
    1000 /* with room for so long it is no longer full: at its limit each segment that \
          * comes free lets some events in */

/* Keeps the pages ahead of each writer populated. Janitor. */
static void journal_janitor_populate_ahead(struct journal *journal)
{
    for (struct segment *segment = journal_first_in_use(journal); segment != NULL;
         segment = segment->next)
        if (atomic_load_explicit(&segment->refs, memory_order_relaxed) >= SEGMENT_BIAS / 2)
            segment_populate(segment, atomic_load_explicit(&segment->cursor, memory_order_relaxed) +
                                          JOURNAL_POPULATE_AHEAD);
}

/* Seals segments whose records are all finished and whose writers have nothing reserved. Janitor,
 * after a reservation has failed. */
static void journal_janitor_reclaim_idle(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    for (struct journal_writer *writer = journal->writers; writer != NULL; writer = writer->next) {
        if (pthread_mutex_trylock(&writer->lock) != 0)
            continue;
        /* acquire: pairs with the release in journal_writer_append(); nobody reserves without the
         * lock */
        if (atomic_load_explicit(&writer->pending, memory_order_acquire) == 0 &&
            writer->segment != NULL &&
            atomic_load_explicit(&writer->segment->refs, memory_order_relaxed) ==
                SEGMENT_BIAS - writer->appended_here) {
            writer->plan_left = 0;
            journal_writer_seal(writer);
        }
        pthread_mutex_unlock(&writer->lock);
    }
    pthread_mutex_unlock(&journal->lock);
}

/* Takes finished segments off the list. Janitor. */
static struct segment *journal_janitor_unlist_finished(struct journal *journal)
{
    struct segment **link = &journal->in_use, *segment, *finished = NULL;

    pthread_mutex_lock(&journal->lock);
    while ((segment = *link) != NULL) {
        /* acquire: pairs with the releases in journal_seal_segment(), journal_put_records() and
         * journal_sync_writer(): whoever used the segment is done with it */
        if (atomic_load_explicit(&segment->refs, memory_order_acquire) > 0) {
            link = &segment->next;
            continue;
        }
        segment_enter(segment, SEGMENT_FINISHED);
        if (segment_kind(segment) == SEGMENT_COPIES)
            moved_drop(&journal->moved, segment);
        *link = segment->next;
        segment->next = finished;
        finished = segment;
        atomic_fetch_sub_explicit(&journal->bytes_used, segment->size, memory_order_relaxed);
    }
    pthread_mutex_unlock(&journal->lock);
    return finished;
}

/* In memory mode a finished segment is used again, since its pages are already there. */
static bool journal_janitor_recycle(struct journal *journal, struct segment *segment)
{
    struct segment_spec spec;
    uint32_t number;
    bool wanted;

    if (journal->spec.dir_fd >= 0)
        return false;
    pthread_mutex_lock(&journal->lock);
    wanted =
        journal->spare_count < journal->spare_target || journal->spare_count < MEMORY_SPARES_MIN;
    spec = journal->spec;
    pthread_mutex_unlock(&journal->lock);
    if (!wanted || spec.stream_count != segment->blocks.streams ||
        journal_dir_segment_number(&journal->dir, &number) != 0)
        return false;
    segment_renew(segment, &spec, number);
    segment_enter(segment, SEGMENT_SPARE);
    pthread_mutex_lock(&journal->lock);
    journal_push_spare(journal, segment);
    pthread_mutex_unlock(&journal->lock);
    return true;
}

/* Removes finished segments; their bytes are free once the files are gone. Janitor. */
static void journal_janitor_remove_finished(struct journal *journal)
{
    struct segment *segment = journal_janitor_unlist_finished(journal), *next;
    bool removed = false;

    for (; segment != NULL; segment = next) {
        const uint64_t bytes = segment->size;

        next = segment->next;
        if (journal_janitor_recycle(journal, segment))
            continue;
        journal_drop_segment(journal, segment, false);
        removed = true;
        pthread_mutex_lock(&journal->lock);
        journal->bytes_total -= bytes;
        pthread_mutex_unlock(&journal->lock);
    }
    /* If they came back after a power loss, their records could have old states and be inserted
     * again. */
    if (removed && journal->spec.sync && fsync(journal->spec.dir_fd) != 0)
        log_warn("journal folder cannot be synced error=\"%s\"", strerror(errno));
}

/* Whether to win bytes back: when a reservation has failed, or from half of the limit on until we
 * are down to three eighths, so that we do not start again for each segment. */
static bool journal_janitor_is_tight(struct journal *journal)
{
    const bool vacating = atomic_load_explicit(&journal->vacating, memory_order_relaxed);
    const uint64_t eighth = journal->max_bytes / 8;

    return atomic_load_explicit(&journal->starved, memory_order_relaxed) ||
           atomic_load_explicit(&journal->bytes_used, memory_order_relaxed) >
               eighth * (vacating ? 3 : 4);
}

/* Whether a segment is worth vacating: sealed for some time, and mostly finished. */
static bool journal_janitor_is_sparse(const struct segment *segment, uint64_t now_ms, bool starved)
{
    const uint64_t refs = atomic_load_explicit(&segment->refs, memory_order_relaxed);

    return segment_life(segment) == SEGMENT_SEALED && refs > 0 &&
           refs <= segment->records / VACATE_LIVE_DIVISOR &&
           (starved || now_ms - segment->sealed_ms >= VACATE_AGE_MS);
}

/* Notes when segments were sealed, and unmarks those that need no vacating any more. Returns how
 * many are being vacated, or are worth it. */
static size_t journal_janitor_count_sparse(struct journal *journal, uint64_t now_ms, bool tight)
{
    const bool starved = atomic_load_explicit(&journal->starved, memory_order_relaxed);
    size_t count = 0;

    for (struct segment *segment = journal_first_in_use(journal); segment != NULL;
         segment = segment->next) {
        if (segment_life(segment) == SEGMENT_SEALED && segment->sealed_ms == 0)
            segment->sealed_ms = now_ms;
        if (segment_life(segment) == SEGMENT_VACATING && !tight)
            segment_enter(segment, SEGMENT_SEALED);
        count += segment_life(segment) == SEGMENT_VACATING ||
                 journal_janitor_is_sparse(segment, now_ms, starved);
    }
    return count;
}

/* Marks the segments to vacate. We make a segment for copies only when it can replace two or more,
 * since otherwise it would cost as much as it frees. */
static void journal_janitor_vacate(struct journal *journal, uint64_t now_ms)
{
    const bool starved = atomic_load_explicit(&journal->starved, memory_order_relaxed);
    const bool tight = journal_janitor_is_tight(journal) && !journal_in_trouble(journal);
    const size_t sparse = journal_janitor_count_sparse(journal, now_ms, tight);
    const bool vacate = tight && sparse > 0 && journal_copies_open(journal, sparse > 1);

    if (vacate)
        for (struct segment *segment = journal_first_in_use(journal); segment != NULL;
             segment = segment->next)
            if (journal_janitor_is_sparse(segment, now_ms, starved))
                segment_enter(segment, SEGMENT_VACATING);
    if (!vacate)
        journal_copies_seal(journal, true);
    /* relaxed: a hint; whoever follows it looks at each segment */
    atomic_store_explicit(&journal->vacating, vacate, memory_order_relaxed);
}

/* One line when the journal becomes full, and one when it has room again. */
static void journal_janitor_tell_full(struct journal *journal, uint64_t now_ms)
{
    const uint64_t bytes = atomic_load_explicit(&journal->bytes_used, memory_order_relaxed);

    if (atomic_load_explicit(&journal->starved, memory_order_relaxed)) {
        journal->starved_ms = now_ms;
        if (!journal->told_full)
            log_error("journal is full, no more events are taken bytes=%" PRIu64
                      " bytes_max=%" PRIu64 " reason=\"%s\"",
                      bytes, journal->max_bytes,
                      bytes + journal->spec.size > journal->max_bytes
                          ? "journal.max_bytes is used up"
                      : journal->spec.dir_fd < 0 ? "there is no memory for a segment"
                                                 : "no segment can be made on the disk");
        journal->told_full = true;
    } else if (journal->told_full && now_ms - journal->starved_ms >= ROOM_MS) {
        journal->told_full = false;
        log_info("journal has room again bytes=%" PRIu64 " bytes_max=%" PRIu64, bytes,
                 journal->max_bytes);
    }
}

void journal_maintain(struct journal *journal, uint64_t now_ms, uint64_t sync_interval_ms)
{
    int err;

    if (now_ms - journal->watched_ms >= WATCH_INTERVAL_MS) {
        journal->watched_ms = now_ms;
        journal_watch(journal);
    }
    if (atomic_load_explicit(&journal->starved, memory_order_relaxed))
        journal_janitor_reclaim_idle(journal);
    journal_janitor_remove_finished(journal);
    journal_janitor_vacate(journal, now_ms);
    journal_make_spares(journal);
    pthread_mutex_lock(&journal->lock);
    if (journal->spare_count > 0)
        atomic_store_explicit(&journal->starved, false, memory_order_relaxed);
    pthread_mutex_unlock(&journal->lock);
    journal_janitor_tell_full(journal, now_ms);
    journal_janitor_populate_ahead(journal);
    if (journal->sync == JOURNAL_SYNC_INTERVAL && !journal_sync_has_failed(journal) &&
        now_ms - journal->synced_ms >= sync_interval_ms) {
        journal->synced_ms = now_ms;
        journal_sync_dirty(journal);
    }
    err = journal_dir_promise(&journal->dir);
    if (err != 0 && !journal->promise_failing)
        log_error("instance file cannot be written error=\"%s\" action=retry", strerror(-err));
    journal->promise_failing = err != 0;
}
