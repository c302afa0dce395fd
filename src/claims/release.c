/* SPDX-License-Identifier: Apache-2.0 */
/*
 * release.c - releases dead-lettered records: claim, id in L1, then the record itself.
 *
 * The order lets the next start repair a crash at any point: the burial syncs the line; we delete
 * the claim, if it is still the record's own; the id leaves L1; the record becomes DEAD. L1 comes
 * after the claim: otherwise a corrected event could enter the ring, meet the old claim, and be
 * dropped as a duplicate.
 *
 * We try to delete a claim until it has expired by itself. While Redis is away, a server keeps the
 * records that it holds. A claim that Redis refuses to delete goes to the end of a second queue, so
 * that it does not hold up others.
 *
 * Runs on: release_prepare() to release_pending() on any thread; a server on its worker.
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
#include "alloy/vacate.h"

#define SLICE_MAX 256 /* most records that a server holds */
#define RETRY_MIN_MS 200
#define REFUSED_RETRY_MS 1000 /* between two tries of claims that Redis refuses to release */
#define LOG_INTERVAL_MS 60000

struct release_item {
    struct release_item *next;
    struct record *record;
    uint64_t until_ms;
};

struct release_queue {
    struct release_item *first;
    struct release_item **end;
};

struct release {
    struct ring *ring; /* constant, like the next */
    struct metrics *metrics;
    _Atomic uint64_t pending; /* any thread */
    pthread_mutex_t lock;
    /* under lock */
    struct release_queue fresh;
    struct release_queue refused; /* refused by Redis at least once; the oldest refusal first */
};

/* Used only by its worker. */
struct release_server {
    struct release_server_parts parts;
    struct release_item
        *held[SLICE_MAX]; /* in order of arrival; those of one stream may follow each other */
    size_t held_count;
    uint64_t retry_at_ms;   /* of what it holds */
    uint64_t refused_at_ms; /* when it looks at the refused ones again */
    struct vacate vacate;
    struct release_queue fresh, refused; /* the shared ones, while their records are moved */
    struct log_limit limit;
};

/* Adds n, which may be negative, to the count. */
static void release_count_pending(struct release *release, int64_t n)
{
    /* release: pairs with the acquire in release_pending(): a thread that sees 0 sees all of them
     * DEAD */
    atomic_fetch_add_explicit(&release->pending, (uint64_t)n, memory_order_release);
    METRIC_GAUGE_ADD(release->metrics, dead_letter_releasing, n);
}

/* Under the lock. */
static void release_append(struct release_queue *queue, struct release_item *item)
{
    item->next = NULL;
    *queue->end = item;
    queue->end = &item->next;
}

static void release_queue_init(struct release_queue *queue)
{
    queue->first = NULL;
    queue->end = &queue->first;
}

/* Puts all of `from` before what is in `to`. Under the lock of the shared one. */
static void release_prepend(struct release_queue *to, struct release_queue *from)
{
    if (from->first == NULL)
        return;
    *from->end = to->first;
    if (to->first == NULL)
        to->end = from->end;
    to->first = from->first;
    release_queue_init(from);
}

/* Under the lock. NULL: empty. */
static struct release_item *release_pop(struct release_queue *queue)
{
    struct release_item *item = queue->first;

    if (item == NULL)
        return NULL;
    queue->first = item->next;
    if (queue->first == NULL)
        queue->end = &queue->first;
    return item;
}

struct release *release_create(struct ring *ring, struct metrics *metrics)
{
    struct release *release = calloc(1, sizeof(*release));

    if (release == NULL)
        return NULL;
    release->ring = ring;
    release->metrics = metrics;
    release_queue_init(&release->fresh);
    release_queue_init(&release->refused);
    pthread_mutex_init(&release->lock, NULL);
    return release;
}

void release_destroy(struct release *release)
{
    struct release_item *item;

    if (release == NULL)
        return;
    while ((item = release_pop(&release->fresh)) != NULL)
        free(item);
    while ((item = release_pop(&release->refused)) != NULL)
        free(item);
    pthread_mutex_destroy(&release->lock);
    free(release);
}

/* Count it first, so that release_pending() never misses a record on its way here. */
static struct release_item *release_new_item(struct release *release)
{
    struct release_item *item = malloc(sizeof(*item));

    if (item != NULL)
        release_count_pending(release, 1);
    return item;
}

struct release_item *release_prepare(struct release *release)
{
    /* Only the burial thread prepares, and others only take away, so the bound holds. */
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
    release_append(&release->fresh, item);
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

/* Moves as many records as fit from a queue to the server. */
static void release_take(struct release_server *server, struct release_queue *queue)
{
    struct release_item *item;

    pthread_mutex_lock(&server->parts.release->lock);
    while (server->held_count < SLICE_MAX && (item = release_pop(queue)) != NULL)
        server->held[server->held_count++] = item;
    pthread_mutex_unlock(&server->parts.release->lock);
}

static bool release_has_refused(struct release *release)
{
    bool any;

    pthread_mutex_lock(&release->lock);
    any = release->refused.first != NULL;
    pthread_mutex_unlock(&release->lock);
    return any;
}

static void release_set_aside(struct release *release, struct release_item *item)
{
    pthread_mutex_lock(&release->lock);
    release_append(&release->refused, item);
    pthread_mutex_unlock(&release->lock);
}

/* True when another record owns the id in L1: after a crash a corrected event may have come before
 * we find the old one, and its id must stay. Asked only without Redis; with Redis the claim
 * decides, and L1 may name a record that was a duplicate of ours. */
static bool release_is_taken(const struct release_server *server, const struct record *record)
{
    return server->parts.l1_decides &&
           l1_add(server->parts.l1, &record->hash, record->lsn, clock_mono_ms()) == L1_KNOWN;
}

/* The claim is gone: removes the id from L1, then finishes the record. */
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

/* Releases held[from] .. held[to - 1], all of one stream. Returns how many of them stay held, moved
 * to held[kept] and on. */
static size_t release_serve_run(struct release_server *server, size_t from, size_t to, size_t kept)
{
    struct record *records[SLICE_MAX];
    bool released[SLICE_MAX];
    uint64_t now_ms = clock_mono_ms();
    size_t stay = 0;
    int err;

    for (size_t i = from; i < to; i++)
        records[i - from] = server->held[i]->record;
    err = claims_release(server->parts.claims, records, to - from, released, now_ms);
    for (size_t i = from; i < to; i++) {
        struct release_item *item = server->held[i];

        if (released[i - from] || item->until_ms <= now_ms)
            release_let_go(server, item);
        else if (err == 0)
            release_set_aside(server->parts.release, item);
        else
            server->held[kept + stay++] = item;
    }
    return stay;
}

static void release_walk_queue(struct release_queue *queue, vacate_visit_fn visit, void *arg)
{
    for (struct release_item *item = queue->first; item != NULL; item = item->next)
        visit(arg, &item->record);
}

static void release_walk(void *holder, vacate_visit_fn visit, void *arg)
{
    struct release_server *server = holder;

    for (size_t i = 0; i < server->held_count; i++)
        visit(arg, &server->held[i]->record);
    release_walk_queue(&server->fresh, visit, arg);
    release_walk_queue(&server->refused, visit, arg);
}

uint64_t release_vacate(struct release_server *server, uint64_t now_ms)
{
    struct release *release = server->parts.release;

    if (release_pending(release) == 0)
        return UINT64_MAX;
    if (vacate_due_ms(&server->vacate) > now_ms)
        return vacate_due_ms(&server->vacate);
    /* A move syncs: who brings a record must not wait for that, so the lock is not held. */
    pthread_mutex_lock(&release->lock);
    release_prepend(&server->fresh, &release->fresh);
    release_prepend(&server->refused, &release->refused);
    pthread_mutex_unlock(&release->lock);
    vacate_run(&server->vacate, now_ms);
    pthread_mutex_lock(&release->lock);
    release_prepend(&release->fresh, &server->fresh);
    release_prepend(&release->refused, &server->refused);
    pthread_mutex_unlock(&release->lock);
    return vacate_due_ms(&server->vacate);
}

struct release_server *release_server_create(const struct release_server_parts *parts)
{
    struct release_server *server = calloc(1, sizeof(*server));

    if (server == NULL)
        return NULL;
    server->parts = *parts;
    release_queue_init(&server->fresh);
    release_queue_init(&server->refused);
    vacate_init(&server->vacate, parts->journal, release_walk, server);
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

static void release_tell_waiting(struct release_server *server, uint64_t now_ms)
{
    uint64_t suppressed;

    if (log_limit_pass(&server->limit, now_ms, LOG_INTERVAL_MS, &suppressed))
        log_warn("ids of dead-lettered events are not forgotten yet events=%llu "
                 "reason=\"Redis does not release their claims\" action=retry suppressed=%llu",
                 (unsigned long long)release_pending(server->parts.release),
                 (unsigned long long)suppressed);
}

/* Redis is away, so the server keeps what it holds. Returns how long to wait. */
static uint64_t release_wait_for_redis(struct release_server *server, uint64_t now_ms)
{
    uint64_t wait_ms = claims_retry_in_ms(server->parts.claims, now_ms);

    if (wait_ms < RETRY_MIN_MS)
        wait_ms = RETRY_MIN_MS;
    server->retry_at_ms = now_ms + wait_ms;
    release_tell_waiting(server, now_ms);
    return wait_ms;
}

/* Releases what is held, stream by stream; false: Redis is away. */
static bool release_serve_held(struct release_server *server)
{
    size_t kept = 0;

    for (size_t from = 0, to; from < server->held_count; from = to) {
        const uint16_t stream = server->held[from]->record->stream;

        for (to = from + 1; to < server->held_count; to++)
            if (server->held[to]->record->stream != stream)
                break;
        kept += release_serve_run(server, from, to, kept);
    }
    server->held_count = kept;
    return kept == 0;
}

/* How long until we retry the refused ones; UINT64_MAX: there are none. */
static uint64_t release_refused_wait(struct release_server *server, uint64_t now_ms)
{
    if (!release_has_refused(server->parts.release))
        return UINT64_MAX;
    release_tell_waiting(server, now_ms);
    return server->refused_at_ms > now_ms ? server->refused_at_ms - now_ms : 0;
}

uint64_t release_serve(struct release_server *server, uint64_t now_ms)
{
    struct release *release = server->parts.release;

    if (release_pending(release) == 0)
        return UINT64_MAX;
    if (server->held_count > 0 && now_ms < server->retry_at_ms)
        return server->retry_at_ms - now_ms;
    /* One slice of the refused ones at a time, so that many of them do not hold up fresh ones. */
    if (now_ms >= server->refused_at_ms && server->held_count == 0 &&
        release_has_refused(release)) {
        server->refused_at_ms = now_ms + REFUSED_RETRY_MS;
        release_take(server, &release->refused);
    }
    for (;;) {
        release_take(server, &release->fresh);
        if (server->held_count == 0)
            return release_refused_wait(server, now_ms);
        if (!release_serve_held(server))
            return release_wait_for_redis(server, now_ms);
    }
}
