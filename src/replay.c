/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay.c - brings the events that an earlier life left in the journal back into the pipeline.
 *
 * A record with an insert id may already be in ClickHouse, so it must go again in exactly the same
 * insert, under the same token: such records are grouped by insert id and go straight to the
 * flusher. A record without one has never been sent; it goes through the ring and the claims like a
 * new event, where its claim, if it had made one, is recognized by its LSN.
 *
 * Runs on: replay_read() the main thread; the feeding its own thread.
 * Owns: the list of records still to be handed over.
 */
#define LOG_MODULE "replay"
#include "alloy/replay.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "alloy/batch.h"
#include "alloy/clock.h"
#include "alloy/log.h"
#include "alloy/recover.h"

/* Events handed to the ring at once: small beside the ring, so that new traffic finds room. */
#define FEED_CHUNK 256
#define FEED_PAUSE_MS 5
#define PROGRESS_INTERVAL_MS 2000

struct replay {
    struct replay_parts parts;
    struct l1_thread *l1;           /* replay_read() only */
    struct metrics_thread *metrics; /* replay_read() only */
    struct record **records;        /* frozen ones first, sorted by insert id, once read; the
                                       feeding thread's from its start on */
    size_t count, capacity;
    size_t frozen_count;
    bool out_of_memory;
    bool has_doubles; /* some id was met twice */
    bool started;
    pthread_t thread;
    atomic_bool stop;        /* any thread */
    _Atomic uint64_t handed; /* feeding thread writes, any thread reads */
};

static uint64_t insert_id_of(const struct record *record)
{
    return atomic_load_explicit(&record->insert_id, memory_order_relaxed);
}

static void visit(void *arg, struct record *record)
{
    struct replay *replay = arg;
    const uint16_t state = atomic_load_explicit(&record->state, memory_order_relaxed);

    /* What was answered 503 is new when it comes again, and so is what was dead-lettered. Of a
     * duplicate the owner decides, which is a record of its own or another alloyd's. */
    if ((state == RECORD_LIVE || state == RECORD_INSERTED) &&
        l1_add(replay->l1, &record->hash, record->lsn, clock_mono_ms()) == L1_KNOWN)
        replay->has_doubles = true;
    if (state != RECORD_LIVE || replay->out_of_memory)
        return;
    if (replay->count == replay->capacity) {
        size_t next = replay->capacity == 0 ? 1024 : replay->capacity * 2;
        struct record **grown = reallocarray(replay->records, next, sizeof(*grown));

        if (grown == NULL) {
            replay->out_of_memory = true;
            return;
        }
        replay->records = grown;
        replay->capacity = next;
    }
    replay->records[replay->count++] = record;
}

/* Records of one id together (the hash is of stream and id), in the order of their arrival. */
static int compare_ids(const void *left, const void *right)
{
    const struct record *a = *(struct record *const *)left, *b = *(struct record *const *)right;

    if (a->hash.lo != b->hash.lo)
        return a->hash.lo < b->hash.lo ? -1 : 1;
    if (a->hash.hi != b->hash.hi)
        return a->hash.hi < b->hash.hi ? -1 : 1;
    if (a->received_ms != b->received_ms)
        return a->received_ms < b->received_ms ? -1 : 1;
    return a->lsn < b->lsn ? -1 : a->lsn > b->lsn;
}

static bool is_same_event(const struct replay *replay, const struct record *earlier,
                          const struct record *later)
{
    return earlier->hash.lo == later->hash.lo && earlier->hash.hi == later->hash.hi &&
           later->received_ms - earlier->received_ms < replay->parts.duplicate_ms;
}

/* Of records that are one event keeps the first, or the one that may be in ClickHouse already. */
static void drop_doubles(struct replay *replay)
{
    struct record **records = replay->records;
    size_t kept = 0;

    qsort(records, replay->count, sizeof(*records), compare_ids);
    for (size_t i = 0; i < replay->count; i++) {
        struct record *drop = records[i];

        if (kept > 0 && is_same_event(replay, records[kept - 1], drop)) {
            if (insert_id_of(drop) != 0 && insert_id_of(records[kept - 1]) == 0) {
                drop = records[kept - 1];
                records[kept - 1] = records[i];
            }
            if (insert_id_of(drop) == 0) {
                journal_finish(replay->parts.journal, &drop, 1, RECORD_DUPLICATE);
                continue;
            }
        }
        records[kept++] = records[i];
    }
    replay->count = kept;
}

/* Frozen records first, by insert id (and stream: ids are not under the checksum, so damage may
 * have put one id on two streams); then by LSN, which is the order of arrival within a segment. */
static int compare(const void *left, const void *right)
{
    const struct record *a = *(struct record *const *)left, *b = *(struct record *const *)right;
    /* 0 (not frozen) becomes the greatest */
    uint64_t insert_a = insert_id_of(a) - 1, insert_b = insert_id_of(b) - 1;

    if (insert_a != insert_b)
        return insert_a < insert_b ? -1 : 1;
    if (insert_id_of(a) != 0 && a->stream != b->stream)
        return a->stream < b->stream ? -1 : 1;
    return a->lsn < b->lsn ? -1 : a->lsn > b->lsn;
}

static void pause_ms(uint64_t ms)
{
    struct timespec wait = {.tv_sec = (time_t)(ms / 1000),
                            .tv_nsec = (long)(ms % 1000 * CLOCK_NS_PER_MS)};

    nanosleep(&wait, NULL);
}

static bool stopping(const struct replay *replay)
{
    /* relaxed: the flag carries no data */
    return atomic_load_explicit(&replay->stop, memory_order_relaxed);
}

static void handed_over(struct replay *replay, size_t n)
{
    /* relaxed: a figure for /readyz and the log */
    atomic_fetch_add_explicit(&replay->handed, n, memory_order_relaxed);
}

/* Rebuilds the inserts that were frozen and hands them to the flusher. */
static void feed_frozen(struct replay *replay)
{
    size_t first = 0;

    while (first < replay->frozen_count && !stopping(replay)) {
        const struct record *head = replay->records[first];
        uint64_t insert_id = insert_id_of(head);
        struct batch *batch;
        size_t last = first;

        while (last < replay->frozen_count && replay->records[last]->stream == head->stream &&
               insert_id_of(replay->records[last]) == insert_id)
            last++;
        batch = batch_create(head->stream, (uint32_t)(last - first));
        if (batch == NULL) {
            pause_ms(FEED_PAUSE_MS);
            continue;
        }
        batch->insert_id = insert_id;
        for (size_t i = first; i < last; i++)
            batch_add(batch, replay->records[i]);
        flusher_submit(replay->parts.flusher, batch);
        handed_over(replay, last - first);
        first = last;
    }
}

static void feed_ring(struct replay *replay)
{
    struct ring *ring = replay->parts.ring;
    size_t chunk = ring_capacity(ring) / 4 < FEED_CHUNK ? ring_capacity(ring) / 4 : FEED_CHUNK;
    uint64_t progress_ms = clock_mono_ms() + PROGRESS_INTERVAL_MS;
    size_t next = replay->frozen_count;

    if (chunk == 0)
        chunk = 1;
    while (next < replay->count && !stopping(replay)) {
        size_t left = replay->count - next;
        size_t n = left < chunk ? left : chunk;

        /* Half the ring is left to new events. */
        if (ring_depth(ring) > ring_capacity(ring) / 2 || !ring_reserve(ring, n)) {
            if (ring_closed(ring))
                return;
            pause_ms(FEED_PAUSE_MS);
        } else {
            ring_publish(ring, replay->records + next, n);
            handed_over(replay, n);
            next += n;
        }
        if (clock_mono_ms() >= progress_ms) {
            progress_ms += PROGRESS_INTERVAL_MS;
            log_info("replaying events=%zu handed_over=%zu", replay->count, next);
        }
    }
}

static void *replay_main(void *arg)
{
    struct replay *replay = arg;

    feed_frozen(replay);
    feed_ring(replay);
    if (replay_pending(replay) == 0)
        log_info("replay handed over events=%zu", replay->count);
    /* A long outage's list is large, and the daemon may live long. */
    free(replay->records);
    replay->records = NULL;
    return NULL;
}

int replay_read(struct replay **out, const struct replay_parts *parts,
                char error[JOURNAL_ERROR_MAX])
{
    struct replay *replay = calloc(1, sizeof(*replay));
    struct recover_stats stats = {0};
    int err = -ENOMEM;

    snprintf(error, JOURNAL_ERROR_MAX, "out of memory while the journal is read");
    if (replay == NULL)
        return err;
    replay->parts = *parts;
    replay->metrics = metrics_thread_create(parts->metrics);
    replay->l1 = l1_thread_create(parts->l1);
    if (replay->metrics == NULL || replay->l1 == NULL)
        goto free_replay;
    err = recover_run(parts->journal, visit, replay, &stats, error);
    if (err == 0 && replay->out_of_memory) {
        err = -ENOMEM;
        snprintf(error, JOURNAL_ERROR_MAX, "out of memory while the journal is read");
    }
    if (err != 0)
        goto free_replay;
    l1_thread_destroy(replay->l1);
    replay->l1 = NULL;
    if (replay->has_doubles && replay->parts.duplicate_ms > 0 && replay->count > 0)
        drop_doubles(replay);
    for (size_t i = 0; i < replay->count; i++) {
        METRIC_STREAM_ADD(replay->metrics, replay->records[i]->stream, received, 1);
        METRIC_STREAM_ADD(replay->metrics, replay->records[i]->stream, accepted, 1);
    }
    if (replay->count > 0)
        qsort(replay->records, replay->count, sizeof(*replay->records), compare);
    while (replay->frozen_count < replay->count &&
           insert_id_of(replay->records[replay->frozen_count]) != 0)
        replay->frozen_count++;
    if (stats.segments > 0)
        log_info("journal read segments=%" PRIu64 " records=%" PRIu64 " live=%" PRIu64
                 " in_inserts=%zu corrupt=%" PRIu64 " unknown_stream=%" PRIu64,
                 stats.segments, stats.records, stats.live, replay->frozen_count, stats.corrupt,
                 stats.unknown_stream);
    *out = replay;
    return 0;

free_replay:
    if (replay->l1 != NULL)
        l1_thread_destroy(replay->l1);
    free(replay->records);
    free(replay);
    return err;
}

int replay_start(struct replay *replay, struct flusher *flusher)
{
    int err;

    replay->parts.flusher = flusher;
    if (replay->count == 0)
        return 0;
    err = pthread_create(&replay->thread, NULL, replay_main, replay);
    if (err != 0)
        return -err;
    pthread_setname_np(replay->thread, "alloy-replay");
    replay->started = true;
    return 0;
}

uint64_t replay_pending(const struct replay *replay)
{
    return replay->count - atomic_load_explicit(&replay->handed, memory_order_relaxed);
}

void replay_stop(struct replay *replay)
{
    if (replay == NULL)
        return;
    atomic_store_explicit(&replay->stop, true, memory_order_relaxed);
    if (replay->started)
        pthread_join(replay->thread, NULL);
    free(replay->records);
    free(replay);
}
