/* SPDX-License-Identifier: Apache-2.0 */
/*
 * release.c - dead-lettered records on their way out.
 *
 * In this order, so that a crash at any point is put right by the next start: the line is synced
 * (by the flusher), the claim is deleted if it is still the record's own, the id leaves L1, the
 * record is DEAD. L1 comes after the claim: until then it keeps a corrected event out of the ring,
 * where it would meet the old claim and be dropped as a duplicate.
 *
 * A claim that Redis does not let go of is tried again until it has run out by itself.
 *
 * Runs on: release_prepare() to release_pending() any thread; a server on its worker.
 * Owns: the items, until their records are DEAD.
 */
#include "alloy/release.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "alloy/clock.h"
#include "alloy/kill_point.h"
#define LOG_MODULE "release"
#include "alloy/log.h"

#define SLICE_MAX 256 /* records that a server has in hand */
#define RETRY_MIN_MS 200
#define LOG_INTERVAL_MS 60000

struct release_item {
    struct release_item *next;
    struct record *record;
    uint64_t until_ms;
};

struct release {
    struct ring *ring; /* constant, like the next */
    struct metrics *metrics;
    _Atomic uint64_t pending; /* any thread */
    pthread_mutex_t lock;
    /* under lock */
    struct release_item *first;
    struct release_item **end;
};

/* Its worker's alone. */
struct release_server {
    struct release_server_parts parts;
    struct release_item *held[SLICE_MAX]; /* of the same stream stand together as they came */
    size_t held_count;
    uint64_t retry_at_ms;
    struct log_limit limit;
};

/* Counts n records more, or less. */
static void release_count_pending(struct release *release, int64_t n)
{
    /* release: pairs with the acquire in release_pending(): who sees 0 sees all of them DEAD */
    atomic_fetch_add_explicit(&release->pending, (uint64_t)n, memory_order_release);
    METRIC_GAUGE_ADD(release->metrics, dead_letter_releasing, n);
}

struct release *release_create(struct ring *ring, struct metrics *metrics)
{
    struct release *release = calloc(1, sizeof(*release));

    if (release == NULL)
        return NULL;
    release->ring = ring;
    release->metrics = metrics;
    release->end = &release->first;
    pthread_mutex_init(&release->lock, NULL);
    return release;
}

void release_destroy(struct release *release)
{
    if (release == NULL)
        return;
    while (release->first != NULL) {
        struct release_item *item = release->first;

        release->first = item->next;
        free(item);
    }
    pthread_mutex_destroy(&release->lock);
    free(release);
}

/* Counted before it exists, so that pending never misses a record on its way here. */
static struct release_item *release_new_item(struct release *release)
{
    struct release_item *item = malloc(sizeof(*item));

    if (item != NULL)
        release_count_pending(release, 1);
    return item;
}

struct release_item *release_prepare(struct release *release)
{
    /* The flusher alone prepares while others only take away: the bound holds. */
    return release_pending(release) < RELEASE_MAX ? release_new_item(release) : NULL;
}

void release_cancel(struct release *release, struct release_item *item)
{
    free(item);
    release_count_pending(release, -1);
}

void release_push(struct release *release, struct release_item *item, struct record *record,
                  uint64_t until_ms)
{
    *item = (struct release_item){.record = record, .until_ms = until_ms};
    pthread_mutex_lock(&release->lock);
    *release->end = item;
    release->end = &item->next;
    pthread_mutex_unlock(&release->lock);
    ring_wake(release->ring);
}

int release_adopt(struct release *release, struct record *record, uint64_t until_ms)
{
    struct release_item *item = release_new_item(release);

    if (item == NULL)
        return -ENOMEM;
    release_push(release, item, record, until_ms);
    return 0;
}

uint64_t release_pending(const struct release *release)
{
    /* acquire: pairs with the release in release_count_pending() */
    return atomic_load_explicit(&release->pending, memory_order_acquire);
}

/* Moves up to max items out of the queue; returns how many. */
static size_t release_take(struct release *release, struct release_item **items, size_t max)
{
    size_t n = 0;

    pthread_mutex_lock(&release->lock);
    while (n < max && release->first != NULL) {
        items[n++] = release->first;
        release->first = release->first->next;
    }
    if (release->first == NULL)
        release->end = &release->first;
    pthread_mutex_unlock(&release->lock);
    return n;
}

/* True when L1 has the id for another record: after a crash a corrected event may have come before
 * we find the old one. With a second level that does no harm, as the claim is the other's; and
 * there L1 may name a record that was a duplicate of ours. */
static bool release_is_taken(const struct release_server *server, const struct record *record)
{
    return server->parts.l1_decides &&
           l1_add(server->parts.l1, &record->hash, record->lsn, clock_mono_ms()) == L1_KNOWN;
}

/* The claim is gone: so is the id, and then the record. */
static void release_let_go(struct release_server *server, struct release_item *item)
{
    struct record *record = item->record;

    KILL_POINT("release_claim_gone");
    if (!release_is_taken(server, record))
        (void)l1_remove(server->parts.l1, &record->hash);
    KILL_POINT("release_id_gone");
    METRIC_STREAM_ADD(server->parts.metrics, record->stream, dead_lettered, 1);
    journal_finish(server->parts.journal, &record, 1, RECORD_DEAD);
    free(item);
    release_count_pending(server->parts.release, -1);
}

/* Serves held[from] .. held[to - 1], of one stream; returns how many of them stay held, moved to
 * held[kept] and on. */
static size_t release_serve_run(struct release_server *server, size_t from, size_t to, size_t kept)
{
    struct record *records[SLICE_MAX];
    uint64_t now_ms = clock_mono_ms();
    size_t stay = 0;
    int err;

    for (size_t i = from; i < to; i++)
        records[i - from] = server->held[i]->record;
    err = claims_release(server->parts.claims, records, to - from, now_ms);
    for (size_t i = from; i < to; i++) {
        if (err == 0 || server->held[i]->until_ms <= now_ms)
            release_let_go(server, server->held[i]);
        else
            server->held[kept + stay++] = server->held[i];
    }
    return stay;
}

struct release_server *release_server_create(const struct release_server_parts *parts)
{
    struct release_server *server = calloc(1, sizeof(*server));

    if (server != NULL)
        server->parts = *parts;
    return server;
}

void release_server_destroy(struct release_server *server)
{
    if (server == NULL)
        return;
    for (size_t i = 0; i < server->held_count; i++)
        free(server->held[i]);
    free(server);
}

/* Redis did not let go of some claims. Returns how long to wait. */
static uint64_t release_wait_for_redis(struct release_server *server, uint64_t now_ms)
{
    uint64_t wait_ms = claims_retry_in_ms(server->parts.claims, now_ms);
    uint64_t suppressed;

    if (wait_ms < RETRY_MIN_MS)
        wait_ms = RETRY_MIN_MS;
    server->retry_at_ms = now_ms + wait_ms;
    if (log_limit_pass(&server->limit, now_ms, LOG_INTERVAL_MS, &suppressed))
        log_warn("ids of dead-lettered events are not forgotten yet events=%llu "
                 "reason=\"Redis does not release their claims\" action=retry suppressed=%llu",
                 (unsigned long long)release_pending(server->parts.release),
                 (unsigned long long)suppressed);
    return wait_ms;
}

uint64_t release_serve(struct release_server *server, uint64_t now_ms)
{
    if (server->held_count > 0 && now_ms < server->retry_at_ms)
        return server->retry_at_ms - now_ms;
    for (;;) {
        size_t kept = 0;

        if (server->held_count == 0)
            server->held_count = release_take(server->parts.release, server->held, SLICE_MAX);
        if (server->held_count == 0)
            return UINT64_MAX;
        for (size_t from = 0, to; from < server->held_count; from = to) {
            const uint16_t stream = server->held[from]->record->stream;

            for (to = from + 1; to < server->held_count; to++)
                if (server->held[to]->record->stream != stream)
                    break;
            kept += release_serve_run(server, from, to, kept);
        }
        server->held_count = kept;
        if (kept > 0)
            return release_wait_for_redis(server, now_ms);
    }
}
