/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal_janitor.c - keeps the journal's writers supplied: spare segments, populated pages, syncs,
 * and the removal of what is finished.
 *
 * Only the janitor removes segments, so that it may walk the list of those in use without the lock.
 *
 * When room runs out, writers that hold segments whose records are all finished, but never come to
 * fill them, would keep everybody else out for ever. So the janitor takes such segments away from
 * writers with nothing reserved.
 *
 * Runs on: the janitor, but for journal_create_segment(), journal_claim_bytes() and
 * journal_sync_segment(), which any thread uses. Owns: nothing; see journal.c.
 */
#include "journal_private.h"

#include "alloy/kill_point.h"
#define LOG_MODULE "journal"
#include "alloy/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define MEMORY_SPARES_MIN 2

void journal_fail(struct journal *journal, const char *what, uint32_t number, int err)
{
    if (!atomic_exchange_explicit(&journal->failed, true, memory_order_relaxed))
        log_error("sync failed, no more events are taken what=%s segment=%u error=\"%s\" "
                  "action=restart",
                  what, number, strerror(-err));
}

int journal_sync_segment(struct journal *journal, struct segment *segment, size_t from, size_t to)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int err;

    from = from / page * page;
    err = journal->sync_range(segment->base + from, to - from);
    if (err != 0)
        journal_fail(journal, "segment", segment->number, err);
    return err == 0 ? 0 : -EIO;
}

/* Under lock: whether count more segments may exist, and if so counts them. */
bool journal_claim_bytes(struct journal *journal, size_t count)
{
    const uint64_t bytes = (uint64_t)count * journal->spec.size;

    if (journal->bytes_total + bytes > journal->max_bytes)
        return false;
    journal->bytes_total += bytes;
    return true;
}

/* Under lock. */
void journal_push_spare(struct journal *journal, struct segment *segment)
{
    segment->next = journal->spares;
    journal->spares = segment;
    journal->spare_count++;
}

/* Makes one segment, whose bytes are in bytes_total already. */
int journal_create_segment(struct journal *journal, struct segment **segment)
{
    uint32_t number = 0;
    bool turned;
    int err;

    err = journal_dir_segment_number(&journal->dir, &number);
    if (err == 0)
        err = segment_create(segment, &journal->spec, number);
    pthread_mutex_lock(&journal->lock);
    turned = journal->creation_failing != (err != 0);
    journal->creation_failing = err != 0;
    pthread_mutex_unlock(&journal->lock);
    /* Told when it begins and when it ends: it is tried again whenever room is wanted. */
    if (turned && err != 0)
        log_error("segment cannot be created bytes=%zu error=\"%s\" action=retry",
                  journal->spec.size, strerror(-err));
    else if (turned)
        log_info("segments can be created again");
    return err;
}

/* Makes spares up to the target, as far as max_bytes and the disk allow. */
void journal_make_spares(struct journal *journal)
{
    for (;;) {
        struct segment *segment;
        bool wanted;
        int err;

        pthread_mutex_lock(&journal->lock);
        wanted = journal->spare_count < journal->spare_target && journal_claim_bytes(journal, 1);
        pthread_mutex_unlock(&journal->lock);
        if (!wanted)
            return;
        err = journal_create_segment(journal, &segment);
        if (err == 0)
            segment_populate(segment, JOURNAL_POPULATE_AHEAD);
        pthread_mutex_lock(&journal->lock);
        if (err == 0)
            journal_push_spare(journal, segment);
        else
            journal->bytes_total -= journal->spec.size;
        pthread_mutex_unlock(&journal->lock);
        if (err != 0)
            return;
    }
}

/* The head of the list of segments in use: the janitor, which alone removes, may walk from it. */
static struct segment *journal_janitor_first_in_use(struct journal *journal)
{
    struct segment *segment;

    pthread_mutex_lock(&journal->lock);
    segment = journal->in_use;
    pthread_mutex_unlock(&journal->lock);
    return segment;
}

/* Syncs what was appended since the last time. Janitor. */
void journal_sync_dirty(struct journal *journal)
{
    for (struct segment *segment = journal_janitor_first_in_use(journal); segment != NULL;
         segment = segment->next) {
        /* acquire: pairs with the release in journal_writer_append() */
        const size_t to = atomic_load_explicit(&segment->cursor, memory_order_acquire);

        if (to <= segment->synced)
            continue;
        if (journal_sync_segment(journal, segment, segment->synced, to) != 0)
            return;
        segment->synced = to;
    }
}

/* Keeps the pages ahead of each writer populated. Janitor. */
static void journal_janitor_populate_ahead(struct journal *journal)
{
    for (struct segment *segment = journal_janitor_first_in_use(journal); segment != NULL;
         segment = segment->next)
        if (atomic_load_explicit(&segment->refs, memory_order_relaxed) >= SEGMENT_BIAS / 2)
            segment_populate(segment, atomic_load_explicit(&segment->cursor, memory_order_relaxed) +
                                          JOURNAL_POPULATE_AHEAD);
}

/* Seals segments in which everything is finished and whose writers have nothing reserved. Janitor,
 * when a reservation has failed. */
static void journal_janitor_reclaim_idle(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    for (struct journal_writer *writer = journal->writers; writer != NULL; writer = writer->next) {
        if (pthread_mutex_trylock(&writer->lock) != 0)
            continue;
        /* acquire: pairs with the release in journal_writer_append(); nothing is reserved but under
         * the lock */
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
        /* acquire: pairs with the releases in journal_writer_seal(), put_records() and
         * sync_writer(): whoever used the segment is done with it */
        if (atomic_load_explicit(&segment->refs, memory_order_acquire) > 0) {
            link = &segment->next;
            continue;
        }
        *link = segment->next;
        segment->next = finished;
        finished = segment;
        atomic_fetch_sub_explicit(&journal->bytes_used, segment->size, memory_order_relaxed);
    }
    pthread_mutex_unlock(&journal->lock);
    return finished;
}

/* In memory a finished segment serves again: its pages are there already. */
static bool journal_janitor_recycle(struct journal *journal, struct segment *segment)
{
    uint32_t number;
    bool wanted;

    if (journal->spec.dir_fd >= 0)
        return false;
    pthread_mutex_lock(&journal->lock);
    wanted =
        journal->spare_count < journal->spare_target || journal->spare_count < MEMORY_SPARES_MIN;
    pthread_mutex_unlock(&journal->lock);
    if (!wanted || journal_dir_segment_number(&journal->dir, &number) != 0)
        return false;
    segment_renew(segment, &journal->spec, number);
    pthread_mutex_lock(&journal->lock);
    journal_push_spare(journal, segment);
    pthread_mutex_unlock(&journal->lock);
    return true;
}

/* Unmaps a segment; its file goes with it unless it is kept, or damaged: then it is the only copy
 * of what could not be read. */
void journal_drop_segment(struct journal *journal, struct segment *segment, bool keep)
{
    const uint32_t number = segment->number;
    const bool damaged = segment->damaged;
    int err = 0;

    segment_close(segment);
    KILL_POINT("segment_closed");
    if (!keep && damaged)
        err = journal_dir_set_aside(&journal->dir, number);
    else if (!keep && journal->spec.dir_fd >= 0)
        err = segment_unlink(journal->spec.dir_fd, number);
    KILL_POINT("segment_removed");
    if (err != 0)
        log_error("segment cannot be removed segment=%u error=\"%s\"", number, strerror(-err));
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
    /* Were they to come back after a loss of power, their states might not be the last ones. */
    if (removed && journal->spec.sync && fsync(journal->spec.dir_fd) != 0)
        log_warn("journal folder cannot be synced error=\"%s\"", strerror(errno));
}

void journal_maintain(struct journal *journal, uint64_t now_ms, uint64_t sync_interval_ms)
{
    int err;

    if (atomic_load_explicit(&journal->starved, memory_order_relaxed))
        journal_janitor_reclaim_idle(journal);
    journal_janitor_remove_finished(journal);
    journal_make_spares(journal);
    pthread_mutex_lock(&journal->lock);
    if (journal->spare_count > 0)
        atomic_store_explicit(&journal->starved, false, memory_order_relaxed);
    pthread_mutex_unlock(&journal->lock);
    journal_janitor_populate_ahead(journal);
    if (journal->sync == JOURNAL_SYNC_INTERVAL && !journal_failed(journal) &&
        now_ms - journal->synced_ms >= sync_interval_ms) {
        journal->synced_ms = now_ms;
        journal_sync_dirty(journal);
    }
    err = journal_dir_promise(&journal->dir);
    if (err != 0 && !journal->promise_failing)
        log_error("instance file cannot be written error=\"%s\" action=retry", strerror(-err));
    journal->promise_failing = err != 0;
}

void journal_wait(struct journal *journal, uint64_t timeout_ms)
{
    struct pollfd wake = {.fd = journal->wake_fd, .events = POLLIN};
    uint64_t count;

    /* A signal or an error ends the wait early, which does no harm. */
    if (poll(&wake, 1, timeout_ms > INT_MAX ? INT_MAX : (int)timeout_ms) > 0 &&
        read(journal->wake_fd, &count, sizeof(count)) < 0)
        log_debug("eventfd read error=\"%s\"", strerror(errno));
    /* From here on a wish is written again; what was wished before is seen by the maintenance that
     * follows. seq_cst: pairs with the exchange in journal_wake() */
    atomic_store(&journal->wake_pending, false);
}

void journal_wake(struct journal *journal)
{
    const uint64_t one = 1;

    if (atomic_exchange(&journal->wake_pending, true))
        return;
    /* It cannot be full: one is written at most between two reads. */
    if (write(journal->wake_fd, &one, sizeof(one)) < 0)
        log_debug("eventfd write error=\"%s\"", strerror(errno));
}
