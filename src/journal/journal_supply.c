/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal_supply.c - what all parts of the journal use: makes, drops and syncs segments, counts
 * their bytes, and lets the janitor sleep.
 *
 * A segment is spare, then in use, then gone: see the diagram in segment.h. In use, its refs count
 * its LIVE records, SEGMENT_BIAS while a writer holds it, and one while a writer has yet to sync
 * it. A thread that brings refs to 0 must not touch it again: the janitor removes it.
 *
 * Runs on: as each function says. Owns: nothing; see journal.c.
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

void journal_fail(struct journal *journal, const char *what, uint32_t number, int err)
{
    if ((atomic_fetch_or_explicit(&journal->trouble, JOURNAL_SYNC_FAILED, memory_order_relaxed) &
         JOURNAL_SYNC_FAILED) == 0)
        log_error("sync failed, no more events are taken what=%s segment=%u error=\"%s\" "
                  "action=restart",
                  what, number, strerror(-err));
}

int journal_sync_segment(struct journal *journal, struct segment *segment, size_t from, size_t to)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int err;

    ALLOY_ASSERT(journal->spec.dir_fd >= 0);
    from = from / page * page;
    err = journal->sync_range(segment->base + from, to - from);
    if (err != 0)
        journal_fail(journal, "segment", segment->number, err);
    return err == 0 ? 0 : -EIO;
}

void journal_span_add(struct segment_span **list, struct segment *segment,
                      struct segment_span *span, const struct record *record, uint64_t round)
{
    const size_t from = (size_t)((const char *)record_mark(record) - segment->base);
    const size_t to = from + sizeof(struct record_mark);

    if (span->round != round) {
        *span = (struct segment_span){
            .next = *list, .segment = segment, .round = round, .from = from, .to = to};
        *list = span;
    }
    if (from < span->from)
        span->from = from;
    if (to > span->to)
        span->to = to;
}

int journal_sync_spans(struct journal *journal, struct segment_span *list)
{
    int err = 0;

    for (; list != NULL && err == 0; list = list->next)
        err = journal_sync_segment(journal, list->segment, list->from, list->to);
    return err;
}

bool journal_claim_bytes(struct journal *journal, size_t count)
{
    const uint64_t bytes = (uint64_t)count * journal->spec.size;

    if (journal->bytes_total + bytes > journal->max_bytes)
        return false;
    journal->bytes_total += bytes;
    return true;
}

void journal_use_segment(struct journal *journal, struct segment *segment)
{
    atomic_store_explicit(&segment->refs, SEGMENT_BIAS, memory_order_relaxed);
    segment_enter(segment, SEGMENT_FILLING);
    segment->next = journal->in_use;
    journal->in_use = segment;
    atomic_fetch_add_explicit(&journal->bytes_used, segment->size, memory_order_relaxed);
}

void journal_push_spare(struct journal *journal, struct segment *segment)
{
    segment->next = journal->spares;
    journal->spares = segment;
    journal->spare_count++;
}

int journal_create_segment(struct journal *journal, enum segment_kind kind,
                           struct segment **segment)
{
    struct segment_spec spec;
    uint32_t number = 0;
    bool turned;
    int err;

    pthread_mutex_lock(&journal->lock);
    spec = journal->spec;
    pthread_mutex_unlock(&journal->lock);
    spec.kind = kind;
    /* A copy replaces a record that may have been synced on demand, so it must be synced whatever
     * sync says. */
    spec.sync |= kind == SEGMENT_COPIES;
    err = journal_dir_segment_number(&journal->dir, &number);
    if (err == 0)
        err = segment_create(segment, &spec, number);
    pthread_mutex_lock(&journal->lock);
    turned = journal->creation_failing != (err != 0);
    journal->creation_failing = err != 0;
    pthread_mutex_unlock(&journal->lock);
    if (err == 0)
        log_debug("segment made segment=%u bytes=%zu copies=%s", number, spec.size,
                  kind == SEGMENT_COPIES ? "yes" : "no");
    /* We retry whenever somebody wants room, so log only when the trouble begins and ends. */
    if (turned && err != 0)
        log_error("segment cannot be created bytes=%zu error=\"%s\" action=retry",
                  journal->spec.size, strerror(-err));
    else if (turned)
        log_info("segments can be created again");
    return err;
}

struct segment *journal_shed_spares(struct journal *journal)
{
    struct segment **link = &journal->spares;
    struct segment *shed = NULL;

    while (*link != NULL) {
        struct segment *segment = *link;

        if (!journal_is_stale(journal, segment)) {
            link = &segment->next;
            continue;
        }
        *link = segment->next;
        journal->spare_count--;
        segment->next = shed;
        shed = segment;
    }
    return shed;
}

void journal_drop_spares(struct journal *journal, struct segment *list)
{
    while (list != NULL) {
        struct segment *segment = list;
        const size_t bytes = segment->size;

        list = segment->next;
        journal_drop_segment(journal, segment, false);
        pthread_mutex_lock(&journal->lock);
        journal->bytes_total -= bytes;
        pthread_mutex_unlock(&journal->lock);
    }
}

void journal_make_spares(struct journal *journal)
{
    struct segment *shed;

    pthread_mutex_lock(&journal->lock);
    shed = journal_shed_spares(journal);
    pthread_mutex_unlock(&journal->lock);
    journal_drop_spares(journal, shed);
    for (;;) {
        struct segment *segment;
        bool wanted;
        int err;

        pthread_mutex_lock(&journal->lock);
        wanted = journal->spare_count < journal->spare_target && journal_claim_bytes(journal, 1);
        pthread_mutex_unlock(&journal->lock);
        if (!wanted)
            return;
        err = journal_create_segment(journal, SEGMENT_EVENTS, &segment);
        if (err == 0)
            segment_populate(segment, segment->begin + JOURNAL_POPULATE_AHEAD);
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

struct segment *journal_first_in_use(struct journal *journal)
{
    struct segment *segment;

    pthread_mutex_lock(&journal->lock);
    segment = journal->in_use;
    pthread_mutex_unlock(&journal->lock);
    return segment;
}

/* Whether some records of these places in the marks were marked. */
static bool journal_is_marked(const struct segment *segment, size_t from, size_t to)
{
    const struct record_mark *mark = (const struct record_mark *)(segment->base + from);
    const struct record_mark *const end = (const struct record_mark *)(segment->base + to);

    for (; mark < end; mark++)
        if (atomic_load_explicit(&mark->state, memory_order_relaxed) != 0 ||
            atomic_load_explicit(&mark->insert_id, memory_order_relaxed) != 0)
            return true;
    return false;
}

/* Syncs the marks of records that are about to be synced: with an insert that did not linger they
 * may be marked already. Most are not, and an append does not touch marks. */
static int journal_sync_first_marks(struct journal *journal, struct segment *segment)
{
    const size_t from = segment->marks_synced, to = segment_marks_end(segment);

    segment->marks_synced = to;
    return journal_is_marked(segment, from, to) ? journal_sync_segment(journal, segment, from, to)
                                                : 0;
}

int journal_sync_marks(struct journal *journal)
{
    int err = 0;

    for (struct segment *segment = journal_first_in_use(journal); segment != NULL && err == 0;
         segment = segment->next) {
        const bool in_records = segment->begin == SEGMENT_HEADER_BYTES;

        err = journal_sync_segment(
            journal, segment, SEGMENT_HEADER_BYTES,
            in_records ? atomic_load_explicit(&segment->cursor, memory_order_acquire)
                       : segment->begin);
    }
    return err;
}

void journal_sync_dirty(struct journal *journal)
{
    for (struct segment *segment = journal_first_in_use(journal); segment != NULL;
         segment = segment->next) {
        /* acquire: pairs with the release in journal_writer_append() */
        const size_t to = atomic_load_explicit(&segment->cursor, memory_order_acquire);

        if (to <= segment->synced)
            continue;
        if (journal_sync_first_marks(journal, segment) != 0 ||
            journal_sync_segment(journal, segment, segment->synced, to) != 0)
            return;
        segment->synced = to;
    }
}

void journal_put_records(struct journal *journal, struct segment *segment, uint64_t count)
{
    /* release: pairs with the acquire in journal_janitor_unlist_finished() */
    const uint64_t refs = atomic_fetch_sub_explicit(&segment->refs, count, memory_order_release);

    if (refs == count || atomic_load_explicit(&journal->starved, memory_order_relaxed))
        journal_wake(journal);
}

/* Unmaps a segment and removes its file, unless keep is set or the segment is damaged: then the
 * file is the only copy of what we could not read. */
void journal_drop_segment(struct journal *journal, struct segment *segment, bool keep)
{
    const uint32_t number = segment->number;
    const bool damaged = segment->damaged;
    int err = 0;

    log_debug("segment dropped segment=%u kept=%s", number, keep ? "yes" : "no");
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

void journal_wait(struct journal *journal, uint64_t timeout_ms)
{
    struct pollfd wake = {.fd = journal->wake_fd, .events = POLLIN};
    uint64_t count;

    /* A signal or an error ends the wait early, which does no harm. */
    if (poll(&wake, 1, timeout_ms > INT_MAX ? INT_MAX : (int)timeout_ms) > 0 &&
        read(journal->wake_fd, &count, sizeof(count)) < 0)
        log_debug("eventfd read error=\"%s\"", strerror(errno));
    /* From here on a wake-up is written again; the maintenance that follows serves the earlier
     * ones. seq_cst: pairs with the exchange in journal_wake() */
    atomic_store(&journal->wake_pending, false);
}

void journal_wake(struct journal *journal)
{
    const uint64_t one = 1;

    if (atomic_exchange(&journal->wake_pending, true))
        return;
    /* The counter cannot be full: at most one is written between two reads. */
    if (write(journal->wake_fd, &one, sizeof(one)) < 0)
        log_debug("eventfd write error=\"%s\"", strerror(errno));
}
