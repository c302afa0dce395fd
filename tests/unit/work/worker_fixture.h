/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker_fixture.h - workers between a real ring, journal and Redis, and a flusher that only
 * collects; for test_worker.c and test_worker_claims.c.
 */
#ifndef WORKER_FIXTURE_H
#define WORKER_FIXTURE_H

#include "alloy/worker.h"

#include "alloy/clock.h"
#include "redis_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#define BATCH_MAX 4
#define BATCHES_MAX 4096
#define RING_CAPACITY 1000
#define TIMEOUT_MS 200
#define DEADLINE_MS 10000

static struct redis_fixture redis;
static struct config config;
static struct config_ref config_ref;
static struct health *health;
static struct metrics *metrics;
static struct ring *ring;
static struct journal *journal;
static struct journal_writer *writer;
static struct worker *workers[2];
static struct l1 *l1;
static struct release *release;
static struct marks *marks; /* NULL: none */

/* ---- the flusher's and the batch's place ---- */

static pthread_mutex_t collected_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct batch *collected[BATCHES_MAX]; /* under the mutex */
static size_t collected_count;
static atomic_int batch_failures; /* batch_create() fails this many times more */

void flusher_submit(struct flusher *flusher, struct batch *batch)
{
    (void)flusher;
    pthread_mutex_lock(&collected_mutex);
    assert_true(collected_count < BATCHES_MAX);
    collected[collected_count++] = batch;
    pthread_mutex_unlock(&collected_mutex);
}

void flusher_reload(struct flusher *flusher)
{
    (void)flusher;
}

struct batch *batch_create(uint16_t stream, uint32_t capacity)
{
    struct batch *batch;

    if (atomic_load(&batch_failures) > 0) {
        atomic_fetch_sub(&batch_failures, 1);
        return NULL;
    }
    batch = calloc(1, sizeof(*batch) + capacity * sizeof(batch->records[0]));
    assert_non_null(batch);
    batch->stream = stream;
    batch->capacity = capacity;
    return batch;
}

void batch_add(struct batch *batch, struct record *record)
{
    assert_true(batch->count < batch->capacity);
    batch->records[batch->count++] = record;
    batch->bytes += record->body_length;
}

/* ---- helpers ---- */

static inline size_t batch_count(void)
{
    size_t n;

    pthread_mutex_lock(&collected_mutex);
    n = collected_count;
    pthread_mutex_unlock(&collected_mutex);
    return n;
}

static inline size_t event_count(void)
{
    size_t n = 0;

    pthread_mutex_lock(&collected_mutex);
    for (size_t i = 0; i < collected_count; i++)
        n += collected[i]->count;
    pthread_mutex_unlock(&collected_mutex);
    return n;
}

#define WAIT_FOR(condition)                                  \
    do {                                                     \
        uint64_t give_up_ms = clock_mono_ms() + DEADLINE_MS; \
        while (!(condition)) {                               \
            if (clock_mono_ms() > give_up_ms)                \
                fail_msg("waited too long for " #condition); \
            fixture_pause_ms(1);                             \
        }                                                    \
    } while (0)

/* Journals n events with ids prefix<from>.. and publishes them together. */
static struct l1_thread *publisher; /* where ids are entered; NULL: nowhere */

static inline void publish(uint16_t stream, const char *prefix, int from, int n)
{
    struct record *records[RING_CAPACITY];

    assert_true(ring_reserve(ring, (size_t)n));
    for (int i = 0; i < n; i++) {
        char text[96];
        int len = snprintf(text, sizeof(text), "{\"event_id\":\"%s%d\"}", prefix, from + i);
        struct journal_entry entry = {.text = {text, (size_t)len},
                                      .id = {text + 13, (size_t)len - 15},
                                      .id_verbatim = true,
                                      .hash = {(uint64_t)i, stream},
                                      .stream = stream};
        size_t size = journal_entry_bytes(&entry);

        assert_int_equal(journal_writer_reserve(writer, &size, 1), 0);
        records[i] = journal_writer_append(writer, &entry, 1);
        if (publisher != NULL)
            l1_add(publisher, &entry.hash, records[i]->lsn, clock_mono_ms());
    }
    ring_publish(ring, records, (size_t)n);
}

static inline void start(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(worker_start(&workers[i],
                                      &(struct worker_parts){.config = &config_ref,
                                                             .ring = ring,
                                                             .journal = journal,
                                                             .health = health,
                                                             .metrics = metrics,
                                                             .l1 = l1,
                                                             .release = release,
                                                             .marks = marks},
                                      i),
                         0);
}

static inline void stop(void)
{
    for (size_t i = 0; i < ARRAY_LEN(workers); i++) {
        if (workers[i] != NULL)
            worker_stop(workers[i]);
        workers[i] = NULL;
    }
}

static inline void reload(struct config *next)
{
    atomic_store_explicit(&config_ref.current, next, memory_order_release);
}

static inline struct metrics_snapshot snapshot(void)
{
    struct metrics_snapshot now;

    metrics_read(metrics, &now);
    return now;
}

static inline int64_t redis_up(void)
{
    return snapshot().gauges[METRIC_GAUGE_redis_up];
}

static inline uint64_t redis_errors(void)
{
    return snapshot().counters[METRIC_COUNTER_redis_errors];
}

static inline int setup(void **state)
{
    static const char *const names[] = {"events", "orders"};
    const struct journal_options options = {.segment_bytes = 1 << 20,
                                            .max_bytes = 16 << 20,
                                            .sync = JOURNAL_SYNC_NEVER,
                                            .writer_count = 1,
                                            .stream_names = names,
                                            .stream_count = 2};
    char error[JOURNAL_ERROR_MAX];
    redisContext *admin;

    (void)state;
    if (redis.pid == 0)
        redis_fixture_start(&redis);
    admin = redisConnectUnix(redis.socket);
    freeReplyObject(redisCommand(admin, "FLUSHALL"));
    redisFree(admin);
    config = (struct config){.redis_chunk = 1000,
                             .redis_timeout_ms = TIMEOUT_MS,
                             .redis_url = redis.url,
                             .redis_key_prefix = "alloy:",
                             .worker_batch = BATCH_MAX,
                             .worker_linger_ms = 60000,
                             .stream_count = 2};
    config.streams[0] =
        (struct config_stream){.name = "events", .ttl_ms = 60000, .table_text = "db.t"};
    config.streams[1] =
        (struct config_stream){.name = "orders", .ttl_ms = 60000, .table_text = "db.t"};
    reload(&config);
    health = health_create();
    metrics = metrics_create();
    ring = ring_create(RING_CAPACITY);
    l1 = l1_create(RING_CAPACITY, 60000, clock_mono_ms());
    release = release_create(ring, metrics);
    if (journal_open(&journal, &options, error) != 0) {
        print_error("%s\n", error);
        return -1;
    }
    writer = journal_writer_create(journal);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    stop();
    marks_stop(marks);
    marks = NULL;
    atomic_store(&batch_failures, 0);
    while (collected_count > 0)
        free(collected[--collected_count]);
    journal_writer_destroy(writer);
    journal_close(journal);
    release_destroy(release);
    l1_destroy(l1);
    ring_destroy(ring);
    metrics_destroy(metrics);
    health_destroy(health);
    return 0;
}

static inline int group_teardown(void **state)
{
    (void)state;
    redis_fixture_remove(&redis);
    return 0;
}

/* Buries record i of a batch that was handed over, as the flusher would. */
static inline void bury(size_t batch, uint32_t i, uint64_t until_ms)
{
    struct release_item *item = release_prepare(release);

    assert_non_null(item);
    release_push(release, item, collected[batch]->records[i], until_ms);
}

static inline long long redis_keys(void)
{
    redisContext *admin = redisConnectUnix(redis.socket);
    redisReply *reply = redisCommand(admin, "KEYS *[a-z0-9]");
    long long n = (long long)reply->elements;

    freeReplyObject(reply);
    redisFree(admin);
    return n;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
