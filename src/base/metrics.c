/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.c - counters that cost their thread one plain store.
 *
 * A reader that sums while the owners write sees a recent, never torn, value of each counter; two
 * counters may be a few events apart, which is fine for a scrape.
 *
 * Runs on: any thread calls metrics_thread_create() and reads; only a block's own thread writes it.
 * Owns: the blocks, until metrics_destroy().
 */
#include "alloy/metrics.h"

#include <string.h>

#define US 1000ull
#define MS 1000000ull

const uint64_t metrics_bucket_bounds_ns[METRIC_BUCKETS - 1] = {
    50 * US, 100 * US, 250 * US, 500 * US, 1 * MS,    2500 * US, 5 * MS,    10 * MS,   25 * MS,
    50 * MS, 100 * MS, 250 * MS, 500 * MS, 1000 * MS, 2500 * MS, 5000 * MS, 10000 * MS};

const uint64_t metrics_bounds_rows[METRIC_BUCKETS - 1] = {
    1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000};

const uint64_t metrics_bounds_bytes[METRIC_BUCKETS - 1] = {
    1u << 10, 1u << 11, 1u << 12, 1u << 13, 1u << 14, 1u << 15, 1u << 16, 1u << 17, 1u << 18,
    1u << 19, 1u << 20, 1u << 21, 1u << 22, 1u << 23, 1u << 24, 1u << 25, 1u << 26};

static uint64_t metrics_load(const _Atomic uint64_t *counter)
{
    /* relaxed: a counter orders nothing */
    return atomic_load_explicit((_Atomic uint64_t *)counter, memory_order_relaxed);
}

static void metrics_add_histogram(struct metrics_snapshot *snapshot, size_t id,
                                  const struct metrics_histogram *histogram)
{
    for (size_t i = 0; i < METRIC_BUCKETS; i++) {
        uint64_t n = metrics_load(&histogram->buckets[i]);

        snapshot->histograms[id].buckets[i] += n;
        snapshot->histograms[id].count += n;
    }
    snapshot->histograms[id].sum_ns += metrics_load(&histogram->sum_ns);
}

static void metrics_add_thread(struct metrics_snapshot *snapshot,
                               const struct metrics_thread *thread)
{
    for (size_t stream = 0; stream < METRIC_STREAMS_MAX; stream++)
        for (size_t id = 0; id < METRIC_STREAM_COUNT; id++)
            snapshot->streams[stream][id] += metrics_load(&thread->streams[stream][id]);
    for (size_t id = 0; id < METRIC_COUNTER_COUNT; id++)
        snapshot->counters[id] += metrics_load(&thread->counters[id]);
    for (size_t code = 0; code < METRIC_HTTP_CODES; code++)
        snapshot->http_codes[code] += metrics_load(&thread->http_codes[code]);
    for (size_t stream = 0; stream <= METRIC_STREAM_NONE; stream++)
        for (size_t error = 0; error < ERROR_COUNT; error++)
            snapshot->answers[stream][error] += metrics_load(&thread->answers[stream][error]);
    for (size_t id = 0; id < METRIC_HISTOGRAM_COUNT; id++)
        metrics_add_histogram(snapshot, id, &thread->histograms[id]);
    for (size_t stream = 0; stream <= METRIC_STREAM_NONE; stream++) {
        metrics_add_histogram(snapshot, METRIC_HISTOGRAM_http_request, &thread->http[stream]);
        for (size_t i = 0; i < METRIC_BUCKETS; i++)
            snapshot->http_buckets[stream][i] += metrics_load(&thread->http[stream].buckets[i]);
    }
}

struct metrics *metrics_create(void)
{
    struct metrics *metrics = aligned_alloc(CACHE_LINE, sizeof(*metrics));

    if (metrics != NULL)
        memset(metrics, 0, sizeof(*metrics));
    return metrics;
}

void metrics_destroy(struct metrics *metrics)
{
    struct metrics_thread *thread;

    if (metrics == NULL)
        return;
    thread = atomic_load_explicit(&metrics->threads, memory_order_acquire);
    while (thread != NULL) {
        struct metrics_thread *next = thread->next;

        free(thread);
        thread = next;
    }
    free(metrics);
}

struct metrics_thread *metrics_thread_create(struct metrics *metrics)
{
    /* Aligned, so that no two threads ever write one cache line. */
    struct metrics_thread *thread = aligned_alloc(CACHE_LINE, sizeof(*thread));

    if (thread == NULL)
        return NULL;
    memset(thread, 0, sizeof(*thread));
    thread->next = atomic_load_explicit(&metrics->threads, memory_order_relaxed);
    /* release: pairs with the acquire in metrics_read(), which then sees the zeros and next */
    while (!atomic_compare_exchange_weak_explicit(&metrics->threads, &thread->next, thread,
                                                  memory_order_release, memory_order_relaxed))
        ;
    return thread;
}

void metrics_observe(struct metrics_histogram *histogram, const uint64_t *bounds, uint64_t value)
{
    size_t i = 0;

    while (i < METRIC_BUCKETS - 1 && value > bounds[i])
        i++;
    metrics_add(&histogram->buckets[i], 1);
    metrics_add(&histogram->sum_ns, value);
}

void metrics_observe_ns(struct metrics_histogram *histogram, uint64_t ns)
{
    metrics_observe(histogram, metrics_bucket_bounds_ns, ns);
}

void metrics_refused(struct metrics_lane *lane, int code)
{
    for (size_t i = 0; i < METRIC_REFUSALS; i++) {
        struct metrics_refusal *refusal = &lane->refusals[i];
        const int its = atomic_load_explicit(&refusal->code, memory_order_relaxed);

        if (its != code && its != 0)
            continue;
        metrics_add(&refusal->count, 1);
        atomic_store_explicit(&refusal->code, code, memory_order_relaxed);
        return;
    }
    metrics_add(&lane->refusals_other, 1);
}

void metrics_read(struct metrics *metrics, struct metrics_snapshot *snapshot)
{
    const struct metrics_thread *thread;

    memset(snapshot, 0, sizeof(*snapshot));
    /* acquire: pairs with the release in metrics_thread_create() */
    thread = atomic_load_explicit(&metrics->threads, memory_order_acquire);
    for (; thread != NULL; thread = thread->next)
        metrics_add_thread(snapshot, thread);
    for (size_t id = 0; id < METRIC_GAUGE_COUNT; id++)
        snapshot->gauges[id] = atomic_load_explicit(&metrics->gauges[id], memory_order_relaxed);
}
