/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay.c - puts the events that an earlier life left in the journal back into the pipeline.
 *
 * A record with an insert id may already be in ClickHouse, so it must go again in exactly the same
 * insert, under the same token; in any other insert it would be doubled. Rows of one insert can be
 * in any segments, so we read the whole journal before the first of them goes: we keep these
 * records, group them by insert id, and submit them to the flusher. There are never more of them
 * than the flusher's inserts held.
 *
 * A record without one was never sent. It goes through ring and claims like a new event; if it
 * already has a claim, the claim's LSN shows that. We do not keep these: a second pass hands them
 * over segment by segment.
 *
 * A record whose line is in the dead-letter folder was refused, and only has to be released. It has
 * an insert id, unless a power loss took that.
 *
 * A record without an insert id need not own its id. A kill between append and L1 leaves a record
 * whose client had no answer; the client may have sent the event again, or another connection may
 * already have had it accepted. With Redis the claims decide. Without Redis L1 knows the owner, and
 * we drop the others here as duplicates. (Not with Redis: when an id left L1 early, L1 can name a
 * later record as the owner, which was a duplicate of this one.)
 *
 * Runs on: replay_read() on the main thread; the rest on its own thread.
 * Owns: the recovery and the list of records that are in inserts.
 */
#define LOG_MODULE "replay"
#include "alloy/replay.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "alloy/batch.h"
#include "alloy/buried.h"
#include "alloy/clock.h"
#include "alloy/pulse.h"
#include "alloy/journal_dir.h"
#include "alloy/log.h"
#include "alloy/recover.h"

/* Events published at once: few compared with the ring, so that new traffic finds room. */
#define FEED_CHUNK 256
#define FEED_PAUSE_MS 5
#define HEALTH_INTERVAL_MS 250
#define LOG_INTERVAL_MS 2000
#define READING_WAIT_MS 1000
#define READING_POLL_MS 1
/* New traffic comes first when there are too few cores. */
#define NICENESS 5

struct replay {
    struct replay_parts parts;
    struct recovery *recovery;
    struct metrics_thread *metrics;
    struct l1_thread *l1; /* of the thread that works now: main, then ours */
    struct buried buried; /* constant once read */
    size_t adopted_count; /* records that we found in it */
    uint64_t started_ms;
    uint64_t real_ms;                         /* when the replay began */
    uint64_t newest_ms;                       /* when the latest record came, at most real_ms */
    uint64_t inserted_ms[CONFIG_STREAMS_MAX]; /* when the latest INSERTED event of a stream came */
    struct record **frozen; /* LIVE records that are in inserts, in the order of reading */
    size_t frozen_count, frozen_capacity;
    /* written by the thread that works now, read by any */
    _Atomic uint64_t found;  /* LIVE records */
    _Atomic uint64_t handed; /* of these: handed over, or dropped as duplicates */
    uint64_t health_due_ms, log_due_ms;
    atomic_bool is_read; /* written by the thread that works now, read by any */
    bool failed;         /* some of the journal could not be read, and waits for a restart */
    bool started;
    pthread_t thread;
    atomic_bool stop; /* any thread */
    atomic_bool done;
};

static bool replay_stopping(const struct replay *replay)
{
    /* relaxed: the flag carries no data */
    return atomic_load_explicit(&replay->stop, memory_order_relaxed);
}

static void replay_pause_ms(uint64_t ms)
{
    struct timespec wait = {.tv_sec = (time_t)(ms / 1000),
                            .tv_nsec = (long)(ms % 1000 * CLOCK_NS_PER_MS)};

    pulse_beat(0);
    nanosleep(&wait, NULL);
}

/* One thread at a time adds. relaxed: only /readyz and the log read it. */
static void replay_count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* Reports progress in /readyz and the log. segment: the one being read; 0: all are read. */
static void replay_tell_progress(struct replay *replay, size_t segment)
{
    const uint64_t now_ms = clock_mono_ms();
    const size_t segments = recover_segments(replay->recovery);
    const uint64_t found = atomic_load_explicit(&replay->found, memory_order_relaxed);
    const uint64_t handed = atomic_load_explicit(&replay->handed, memory_order_relaxed);

    if (now_ms >= replay->health_due_ms) {
        replay->health_due_ms = now_ms + HEALTH_INTERVAL_MS;
        if (segment > 0)
            health_raise(replay->parts.health, "replay", false,
                         "reading the journal of an earlier life: segment %zu of %zu, %" PRIu64
                         " events found",
                         segment, segments, found);
        else
            health_raise(replay->parts.health, "replay", false,
                         "replaying the journal of an earlier life: %" PRIu64 " of %" PRIu64
                         " events handed over",
                         handed, found);
    }
    if (now_ms < replay->log_due_ms)
        return;
    replay->log_due_ms = now_ms + LOG_INTERVAL_MS;
    if (segment > 0)
        log_info("reading the journal segment=%zu segments=%zu events=%" PRIu64, segment, segments,
                 found);
    else
        log_info("replaying events=%" PRIu64 " handed_over=%" PRIu64, found, handed);
}

/* Whether L1 still knows the record's id at until_ms, since the record came less than the ttl
 * before. */
static bool replay_is_recent(const struct replay *replay, const struct record *record,
                             uint64_t until_ms)
{
    return record->received_ms + l1_stream_ttl_ms(replay->parts.l1, record->stream) > until_ms;
}

/*
 * Gives L1 back the ids that its files lacked, with their owners. Not those of refused or
 * dead-lettered events, which are new when they come again; nor those of duplicates, whose owner
 * has a record of its own or is another alloyd's.
 */
static void replay_remember(struct replay *replay, const struct record *record, uint16_t state)
{
    const uint64_t now_ms = clock_mono_ms();
    uint64_t added_ms = now_ms;

    if (state != RECORD_LIVE && state != RECORD_INSERTED)
        return;
    /* A stream's own ttl counts from when the event came, not from this start. */
    if (l1_stream_ttl_ms(replay->parts.l1, record->stream) < replay->parts.l1_ttl_ms &&
        record->received_ms < replay->real_ms)
        added_ms -= replay->real_ms - record->received_ms < now_ms
                        ? replay->real_ms - record->received_ms
                        : now_ms;
    if (l1_add(replay->l1, &record->hash, record->lsn, added_ms) != L1_KNOWN)
        return;
    /* Of two records with one id, the one that was sent owns it, whichever we read first. */
    if (state == RECORD_INSERTED || record_insert_id(record) != 0) {
        l1_remove(replay->l1, &record->hash);
        l1_add(replay->l1, &record->hash, record->lsn, added_ms);
    }
}

/* If the record is in the dead-letter folder, queues it for release by the workers. Until then its
 * id stays in L1, so that a corrected event cannot meet the old claim and be dropped as a
 * duplicate. */
static bool replay_adopt_buried(struct replay *replay, struct record *record)
{
    const uint64_t now_ms = clock_mono_ms();
    const uint64_t ttl_ms = config_claim_ms(replay->parts.config, record->stream);

    if (!buried_has(&replay->buried, record->lsn))
        return false;
    (void)l1_add(replay->l1, &record->hash, record->lsn, now_ms);
    if (release_adopt(replay->parts.release, record, now_ms + ttl_ms) != 0)
        replay->failed = true;
    replay->adopted_count++;
    return true;
}

static void replay_keep_frozen(struct replay *replay, struct record *record)
{
    if (replay->frozen_count == replay->frozen_capacity) {
        size_t next = replay->frozen_capacity == 0 ? 1024 : replay->frozen_capacity * 2;
        struct record **grown = reallocarray(replay->frozen, next, sizeof(*grown));

        if (grown == NULL) {
            replay->failed = true;
            return;
        }
        replay->frozen = grown;
        replay->frozen_capacity = next;
    }
    replay->frozen[replay->frozen_count++] = record;
}

static void replay_visit(void *arg, struct record *record)
{
    struct replay *replay = arg;
    const uint16_t state = record_state(record);

    pulse_beat(0);
    if (record->received_ms > replay->newest_ms && record->received_ms <= replay->real_ms)
        replay->newest_ms = record->received_ms;
    if (state == RECORD_INSERTED && record->stream < replay->parts.config->stream_count &&
        record->received_ms > replay->inserted_ms[record->stream])
        replay->inserted_ms[record->stream] = record->received_ms;
    if (!replay->parts.ids_known && replay_is_recent(replay, record, replay->real_ms))
        replay_remember(replay, record, state);
    if (state != RECORD_LIVE)
        return;
    replay_count(&replay->found, 1);
    METRIC_STREAM_ADD(replay->metrics, record->stream, received, 1);
    METRIC_STREAM_ADD(replay->metrics, record->stream, accepted, 1);
    if (record_insert_id(record) == 0)
        return;
    if (replay_adopt_buried(replay, record)) {
        replay_count(&replay->handed, 1);
        return;
    }
    replay_keep_frozen(replay, record);
}

/* A record that was sent owns its id, unless it is a whole ttl older than the newest record: then
 * the id may rightly have been accepted again. */
static void replay_remember_frozen(struct replay *replay)
{
    for (size_t i = 0; i < replay->frozen_count; i++) {
        const struct record *record = replay->frozen[i];

        if (replay_is_recent(replay, record, replay->newest_ms))
            replay_remember(replay, record, RECORD_LIVE);
    }
}

/* Raises conditions for what an operator must look at. */
static void replay_tell_findings(struct replay *replay)
{
    struct journal_dir *dir = journal_folder(replay->parts.journal);
    const struct recover_stats *stats = recover_stats(replay->recovery);
    const size_t damaged = journal_dir_damaged(dir);

    METRIC_ADD(replay->metrics, journal_corrupt, stats->corrupt);
    if (damaged > 0)
        health_raise(replay->parts.health, "journal.corrupt", false,
                     "events are lost in %zu segments of %s, whose files stay there as "
                     "*.alj.corrupt, now or later: see the log for the places",
                     damaged, dir->path);
    if (stats->unknown_stream > 0)
        health_raise(
            replay->parts.health, "journal.unknown_stream", false,
            "%" PRIu64
            " events wait for streams that are not configured: see the log for their names",
            stats->unknown_stream);
}

/* The first pass. Segments that cannot be read stay where they are; returns 0 or the first
 * -errno. */
static int replay_read_segments(struct replay *replay, char error[JOURNAL_ERROR_MAX])
{
    const size_t segments = recover_segments(replay->recovery);
    const struct recover_stats *stats = recover_stats(replay->recovery);
    int first_err = 0;

    for (size_t i = 0; i < segments && !replay_stopping(replay); i++) {
        int err;

        replay_tell_progress(replay, i + 1);
        /* We serve nobody yet: tell systemd how far we are, or it would take the start for a
         * failure. */
        if (!replay->parts.ids_known && replay->parts.reading != NULL &&
            !replay->parts.reading(i + 1, segments))
            return -ECANCELED;
        err = recover_read(replay->recovery, i, replay_visit, replay, error);
        if (err == 0)
            continue;
        replay->failed = true;
        first_err = first_err == 0 ? err : first_err;
        log_error("segment cannot be read reason=\"%s\" action=keep", error);
    }
    replay_remember_frozen(replay);
    if (!replay->failed && !replay_stopping(replay))
        journal_adopted_all(replay->parts.journal);
    replay_tell_findings(replay);
    /* release: pairs with the acquire in replay_await_reading(), which then sees what was
     * counted */
    atomic_store_explicit(&replay->is_read, true, memory_order_release);
    log_info("journal read segments=%" PRIu64 " records=%" PRIu64 " live=%" PRIu64
             " in_inserts=%zu dead_lettered=%zu corrupt=%" PRIu64 " unknown_stream=%" PRIu64
             " took_ms=%" PRIu64,
             stats->segments, stats->records, stats->live, replay->frozen_count,
             replay->adopted_count, stats->corrupt, stats->unknown_stream,
             clock_mono_ms() - replay->started_ms);
    return first_err;
}

/* By insert, then by LSN. By stream too: the checksum does not cover the insert id, so two streams
 * could seem to share one. */
static int replay_compare(const void *left, const void *right)
{
    const struct record *a = *(struct record *const *)left, *b = *(struct record *const *)right;
    const uint64_t insert_a = record_insert_id(a), insert_b = record_insert_id(b);

    if (insert_a != insert_b)
        return insert_a < insert_b ? -1 : 1;
    if (a->stream != b->stream)
        return a->stream < b->stream ? -1 : 1;
    return a->lsn < b->lsn ? -1 : a->lsn > b->lsn;
}

/* Rebuilds the frozen inserts and submits them to the flusher. */
static void replay_feed_frozen(struct replay *replay)
{
    size_t first = 0;

    for (size_t i = 0; i < replay->parts.config->stream_count; i++)
        flusher_note_inserted(replay->parts.flusher, i, replay->inserted_ms[i]);
    if (replay->frozen_count > 1)
        qsort(replay->frozen, replay->frozen_count, sizeof(*replay->frozen), replay_compare);
    while (first < replay->frozen_count && !replay_stopping(replay)) {
        const struct record *head = replay->frozen[first];
        const uint64_t insert_id = record_insert_id(head);
        struct batch *batch;
        size_t last = first;

        while (last < replay->frozen_count && replay->frozen[last]->stream == head->stream &&
               record_insert_id(replay->frozen[last]) == insert_id)
            last++;
        batch = batch_create(head->stream, (uint32_t)(last - first));
        if (batch == NULL) {
            replay_pause_ms(FEED_PAUSE_MS);
            continue;
        }
        batch->insert_id = insert_id;
        for (size_t i = first; i < last; i++)
            batch_add(batch, replay->frozen[i]);
        flusher_submit(replay->parts.flusher, batch);
        replay_count(&replay->handed, last - first);
        first = last;
    }
    free(replay->frozen);
    replay->frozen = NULL;
    replay->frozen_count = replay->frozen_capacity = 0;
}

/*
 * Enters ids that had not reached L1. Where L1 decides, drops records whose id another record owns.
 * Removes those that are in the dead-letter folder. Returns how many are left, in order. Keeps
 * records that are a whole ttl older than the newest one without a look at L1: their ids may
 * rightly have been accepted again. Two records of one id come only from turns that the kill cut
 * short, and those are at the end of the journal, however long alloyd was down.
 */
static size_t replay_enter(struct replay *replay, struct record **records, size_t n)
{
    const uint64_t now_ms = clock_mono_ms();
    size_t kept = 0;

    for (size_t i = 0; i < n; i++) {
        struct record *record = records[i];
        const uint16_t stream = record->stream;

        if (replay_adopt_buried(replay, record))
            continue;
        if (!replay_is_recent(replay, record, replay->newest_ms) ||
            l1_add(replay->l1, &record->hash, record->lsn, now_ms) != L1_KNOWN ||
            !replay->parts.l1_decides) {
            records[kept++] = record;
            continue;
        }
        journal_finish(replay->parts.journal, &record, 1, RECORD_DUPLICATE);
        METRIC_STREAM_ADD(replay->metrics, stream, duplicate_l2, 1);
    }
    return kept;
}

/* Waits until n more events leave half of the ring to new ones. False: the thread must end. */
static bool replay_reserve(struct replay *replay, size_t n)
{
    struct ring *ring = replay->parts.ring;

    while (ring_depth(ring) > ring_capacity(ring) / 2 || !ring_reserve(ring, n)) {
        if (ring_closed(ring) || replay_stopping(replay))
            return false;
        replay_pause_ms(FEED_PAUSE_MS);
        replay_tell_progress(replay, 0);
    }
    return true;
}

/* The second pass over segment i. False: the thread must end. */
static bool replay_feed_segment(struct replay *replay, size_t i)
{
    const size_t quarter = ring_capacity(replay->parts.ring) / 4;
    const size_t max = quarter == 0 ? 1 : quarter < FEED_CHUNK ? quarter : FEED_CHUNK;
    struct record *records[FEED_CHUNK];
    size_t taken, kept;

    do {
        if (replay_stopping(replay))
            return false;
        taken = recover_take(replay->recovery, i, records, max);
        kept = replay_enter(replay, records, taken);
        if (kept > 0) {
            if (!replay_reserve(replay, kept))
                return false;
            ring_publish(replay->parts.ring, records, kept);
        }
        replay_count(&replay->handed, taken);
        replay_tell_progress(replay, 0);
    } while (taken == max);
    recover_release(replay->recovery, i);
    return true;
}

static void replay_feed(struct replay *replay)
{
    bool going = true;

    /* An insert that lacks a row must not go: the missing row would come later under a token that
     * ClickHouse knows, and be dropped. */
    if (replay->failed && replay->frozen_count > 0)
        log_error("inserts of an earlier life wait for segments that cannot be read events=%zu "
                  "action=restart",
                  replay->frozen_count);
    else
        replay_feed_frozen(replay);
    for (size_t i = 0; going && i < recover_segments(replay->recovery); i++)
        going = replay_feed_segment(replay, i);
    if (!going || replay_stopping(replay))
        return;
    log_info("replay handed over events=%" PRIu64 " took_ms=%" PRIu64,
             atomic_load_explicit(&replay->handed, memory_order_relaxed),
             clock_mono_ms() - replay->started_ms);
    if (replay->failed)
        health_raise(replay->parts.health, "replay", false,
                     "part of the journal of an earlier life could not be read, see the log; a "
                     "restart tries again");
    else
        health_clear(replay->parts.health, "replay");
}

static void *replay_main(void *arg)
{
    struct replay *replay = arg;
    char error[JOURNAL_ERROR_MAX];

    pulse_join("replay");
    /* Not important: if it fails, replay competes with new traffic. */
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICENESS);
    while ((replay->l1 = l1_thread_create(replay->parts.l1)) == NULL && !replay_stopping(replay))
        replay_pause_ms(FEED_PAUSE_MS);
    if (replay->l1 == NULL)
        goto end;
    if (!replay->is_read)
        (void)!replay_read_segments(replay, error); /* reported there */
    replay_feed(replay);
    /* release: pairs with the acquire in replay_done() */
    atomic_store_explicit(&replay->done, true, memory_order_release);
    l1_thread_destroy(replay->l1);
end:
    pulse_leave();
    return NULL;
}

/* Reads the journal before other threads run, and fills L1 from it. */
static int replay_read_now(struct replay *replay, char error[JOURNAL_ERROR_MAX])
{
    int err;

    replay->l1 = l1_thread_create(replay->parts.l1);
    if (replay->l1 == NULL)
        return -ENOMEM;
    err = replay_read_segments(replay, error);
    if (err == 0 && replay->failed)
        err = -ENOMEM;
    if (err == 0)
        l1_mark_complete(replay->parts.l1);
    l1_thread_destroy(replay->l1);
    return err;
}

/* Finds out which records are already in the dead-letter folder. */
static int replay_read_buried(struct replay *replay, char error[JOURNAL_ERROR_MAX])
{
    const char *dir = replay->parts.config->dead_letter_dir;
    int err = buried_read(&replay->buried, dir, replay->parts.journal);

    if (err != 0)
        snprintf(error, JOURNAL_ERROR_MAX, "dead-letter folder %s cannot be read: %s", dir,
                 strerror(-err));
    return err;
}

int replay_read(struct replay **out, const struct replay_parts *parts,
                char error[JOURNAL_ERROR_MAX])
{
    struct replay *replay = calloc(1, sizeof(*replay));
    int err = -ENOMEM;

    snprintf(error, JOURNAL_ERROR_MAX, "out of memory while the journal is read");
    if (replay == NULL)
        return err;
    replay->parts = *parts;
    replay->started_ms = clock_mono_ms();
    replay->log_due_ms = replay->started_ms + LOG_INTERVAL_MS;
    replay->real_ms = clock_real_ms();
    replay->metrics = metrics_thread_create(parts->metrics);
    if (replay->metrics == NULL)
        goto free_replay;
    err = recover_open(&replay->recovery, parts->journal, error);
    if (err != 0)
        goto free_replay;
    err = replay_read_buried(replay, error);
    if (err != 0)
        goto free_replay;
    if (recover_segments(replay->recovery) == 0) {
        l1_mark_complete(parts->l1);
        replay_tell_findings(replay);
        replay->is_read = replay->done = true;
    } else if (!parts->ids_known) {
        err = replay_read_now(replay, error);
        if (err != 0)
            goto free_replay;
    }
    *out = replay;
    return 0;

free_replay:
    if (replay->recovery != NULL)
        recover_close(replay->recovery);
    buried_free(&replay->buried);
    free(replay->frozen);
    free(replay);
    return err;
}

/* Waits a little, so that after a quick reading nobody sees a wrong count of pending events. */
static void replay_await_reading(const struct replay *replay)
{
    const uint64_t until_ms = clock_mono_ms() + READING_WAIT_MS;

    /* acquire: pairs with the release in replay_read_segments() */
    while (!atomic_load_explicit(&replay->is_read, memory_order_acquire) &&
           clock_mono_ms() < until_ms)
        replay_pause_ms(READING_POLL_MS);
}

int replay_start(struct replay *replay, struct flusher *flusher)
{
    int err;

    replay->parts.flusher = flusher;
    if (recover_segments(replay->recovery) == 0)
        return 0;
    replay_tell_progress(replay, replay->is_read ? 0 : 1);
    err = pthread_create(&replay->thread, NULL, replay_main, replay);
    if (err != 0)
        return -err;
    pthread_setname_np(replay->thread, "alloy-replay");
    replay->started = true;
    replay_await_reading(replay);
    return 0;
}

bool replay_done(const struct replay *replay)
{
    /* acquire: pairs with the release in replay_main(); we then see what was handed over */
    return atomic_load_explicit(&replay->done, memory_order_acquire);
}

/* acquire: pairs with the release in replay_read_segments(); we then see what was counted */
static bool replay_is_read(const struct replay *replay)
{
    return atomic_load_explicit(&replay->is_read, memory_order_acquire);
}

bool replay_has_read_all(const struct replay *replay)
{
    return replay_is_read(replay) && !replay->failed;
}

uint64_t replay_unknown_stream(const struct replay *replay)
{
    return replay_is_read(replay) ? recover_stats(replay->recovery)->unknown_stream : 0;
}

uint64_t replay_pending(const struct replay *replay)
{
    /* In this order: an event is counted as found before it is counted as handed over. */
    const uint64_t handed = atomic_load_explicit(&replay->handed, memory_order_relaxed);

    return atomic_load_explicit(&replay->found, memory_order_relaxed) - handed;
}

void replay_stop(struct replay *replay)
{
    if (replay == NULL)
        return;
    atomic_store_explicit(&replay->stop, true, memory_order_relaxed);
    if (replay->started)
        pthread_join(replay->thread, NULL);
    recover_close(replay->recovery);
    buried_free(&replay->buried);
    free(replay->frozen);
    free(replay);
}
