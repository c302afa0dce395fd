/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.h - counters that cost their thread one plain store.
 *
 * Each thread writes a block of its own; a reader sums the blocks. Gauges are shared atomics. The
 * rows are in metrics.def.
 *
 * Runs on: any thread calls metrics_thread_create() and reads; only a block's own thread writes it.
 */
#ifndef ALLOY_METRICS_H
#define ALLOY_METRICS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/error_code.h"

enum metric_stream_id {
#define METRIC_STREAM(id, name, labels, help) METRIC_STREAM_##id,
#include "alloy/metrics.def"
    METRIC_STREAM_COUNT
};
enum metric_counter_id {
#define METRIC_COUNTER(id, name, labels, help) METRIC_COUNTER_##id,
#include "alloy/metrics.def"
    METRIC_COUNTER_COUNT
};
enum metric_gauge_id {
#define METRIC_GAUGE(id, name, help) METRIC_GAUGE_##id,
#include "alloy/metrics.def"
    METRIC_GAUGE_COUNT
};
enum metric_histogram_id {
#define METRIC_HISTOGRAM(id, name, help) METRIC_HISTOGRAM_##id,
#include "alloy/metrics.def"
    METRIC_HISTOGRAM_COUNT
};

enum metric_lane_gauge_id {
#define METRIC_LANE_GAUGE(id, name, help) METRIC_LANE_GAUGE_##id,
#include "alloy/metrics.def"
    METRIC_LANE_GAUGE_COUNT
};
enum metric_lane_counter_id {
#define METRIC_LANE_COUNTER(id, name, labels, help) METRIC_LANE_COUNTER_##id,
#include "alloy/metrics.def"
    METRIC_LANE_COUNTER_COUNT
};
enum metric_lane_histogram_id {
#define METRIC_LANE_HISTOGRAM(id, name, bounds, help) METRIC_LANE_HISTOGRAM_##id,
#include "alloy/metrics.def"
    METRIC_LANE_HISTOGRAM_COUNT
};

enum metric_packed_gauge_id {
#define METRIC_PACKED_GAUGE(id, name, help) METRIC_PACKED_GAUGE_##id,
#include "alloy/metrics.def"
    METRIC_PACKED_GAUGE_COUNT
};

enum metric_endpoint_gauge_id {
#define METRIC_ENDPOINT_GAUGE(id, name, help) METRIC_ENDPOINT_GAUGE_##id,
#include "alloy/metrics.def"
    METRIC_ENDPOINT_GAUGE_COUNT
};
enum metric_endpoint_counter_id {
#define METRIC_ENDPOINT_COUNTER(id, name, help) METRIC_ENDPOINT_COUNTER_##id,
#include "alloy/metrics.def"
    METRIC_ENDPOINT_COUNTER_COUNT
};

/* HTTP status codes are counted by their own value; anything outside 100..599 is a bug. */
#define METRIC_HTTP_CODES 600
#define METRIC_BUCKETS 18 /* 17 bounds, 50 us to 10 s, and +Inf */
#define METRIC_STREAMS_MAX 64
#define METRIC_ENDPOINTS_MAX 64
#define METRIC_STREAM_NONE METRIC_STREAMS_MAX /* of a request that names no stream */

/* Upper bounds of the first METRIC_BUCKETS - 1 buckets, in nanoseconds. */
extern const uint64_t metrics_bucket_bounds_ns[METRIC_BUCKETS - 1];
extern const uint64_t metrics_bounds_rows[METRIC_BUCKETS - 1];
extern const uint64_t metrics_bounds_bytes[METRIC_BUCKETS - 1];
#define metrics_bounds_ns metrics_bucket_bounds_ns

struct metrics_histogram {
    _Atomic uint64_t buckets[METRIC_BUCKETS]; /* not cumulative */
    _Atomic uint64_t sum_ns;                  /* or of what else is observed */
};

/* Inserts that were refused with one code. More codes than METRIC_REFUSALS are counted together. */
#define METRIC_REFUSALS 32
struct metrics_refusal {
    _Atomic int code; /* ClickHouse's; negative: an HTTP status without one; 0: the slot is free */
    _Atomic uint64_t count;
};

/* What the flusher, which alone writes it, knows of a stream. Readers only load. */
struct metrics_lane {
    _Atomic int64_t gauges[METRIC_LANE_GAUGE_COUNT];
    _Atomic uint64_t counters[METRIC_LANE_COUNTER_COUNT];
    struct metrics_histogram histograms[METRIC_LANE_HISTOGRAM_COUNT];
    struct metrics_refusal refusals[METRIC_REFUSALS];
    _Atomic uint64_t refusals_other;
} CACHE_ALIGNED;

/* What the flusher, which alone writes it, knows of an endpoint. */
struct metrics_endpoint {
    _Atomic int64_t gauges[METRIC_ENDPOINT_GAUGE_COUNT];
    _Atomic uint64_t counters[METRIC_ENDPOINT_COUNTER_COUNT];
};

/* One thread's block. The owner adds with metrics_add(); readers only load. */
struct metrics_thread {
    struct metrics_thread *next; /* constant once linked */
    _Atomic uint64_t streams[METRIC_STREAMS_MAX][METRIC_STREAM_COUNT];
    _Atomic uint64_t counters[METRIC_COUNTER_COUNT];
    _Atomic uint64_t http_codes[METRIC_HTTP_CODES];
    _Atomic uint64_t answers[METRIC_STREAMS_MAX + 1][ERROR_COUNT]; /* ERROR_NONE: taken */
    struct metrics_histogram histograms[METRIC_HISTOGRAM_COUNT];
    struct metrics_histogram http[METRIC_STREAMS_MAX + 1]; /* http_request, by stream */
} CACHE_ALIGNED;

struct metrics {
    _Atomic(struct metrics_thread *) threads; /* push-only list; blocks live as long as metrics */
    _Atomic int64_t gauges[METRIC_GAUGE_COUNT];
    struct metrics_lane lanes[METRIC_STREAMS_MAX];
    struct metrics_endpoint endpoints[METRIC_ENDPOINTS_MAX];
    /* What the threads that claim know of a stream's tables; all 0: there are none. */
    _Atomic int64_t packed[METRIC_STREAMS_MAX][METRIC_PACKED_GAUGE_COUNT];
};

struct metrics *metrics_create(void); /* returns owned: metrics_destroy(); NULL: out of memory */
/* Frees the blocks too: every thread that writes one must have ended. */
void metrics_destroy(struct metrics *metrics);
/* A block for the calling thread, lent until metrics_destroy(). NULL: out of memory. Lock-free. */
struct metrics_thread *metrics_thread_create(struct metrics *metrics);

/* Owner thread only: no other writer exists, so a plain load and store is enough. */
static inline void metrics_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

#define METRIC_ADD(thread, id, n) metrics_add(&(thread)->counters[METRIC_COUNTER_##id], (n))
#define METRIC_STREAM_ADD(thread, stream, id, n) \
    metrics_add(&(thread)->streams[stream][METRIC_STREAM_##id], (n))
#define METRIC_OBSERVE_NS(thread, id, ns) \
    metrics_observe_ns(&(thread)->histograms[METRIC_HISTOGRAM_##id], (ns))
#define METRIC_GAUGE_SET(metrics, id, value) \
    atomic_store_explicit(&(metrics)->gauges[METRIC_GAUGE_##id], (value), memory_order_relaxed)
#define METRIC_GAUGE_ADD(metrics, id, delta) \
    atomic_fetch_add_explicit(&(metrics)->gauges[METRIC_GAUGE_##id], (delta), memory_order_relaxed)

#define METRIC_LANE_SET(metrics, stream, id, value)                                          \
    atomic_store_explicit(&(metrics)->lanes[stream].gauges[METRIC_LANE_GAUGE_##id], (value), \
                          memory_order_relaxed)
#define METRIC_LANE_ADD(metrics, stream, id, n) \
    metrics_add(&(metrics)->lanes[stream].counters[METRIC_LANE_COUNTER_##id], (n))
#define METRIC_LANE_OBSERVE(metrics, stream, id, bounds, value)                                 \
    metrics_observe(&(metrics)->lanes[stream].histograms[METRIC_LANE_HISTOGRAM_##id], (bounds), \
                    (value))

#define METRIC_PACKED_SET(metrics, stream, id, value)                                    \
    atomic_store_explicit(&(metrics)->packed[stream][METRIC_PACKED_GAUGE_##id], (value), \
                          memory_order_relaxed)
#define METRIC_PACKED_GET(metrics, stream, id) \
    atomic_load_explicit(&(metrics)->packed[stream][METRIC_PACKED_GAUGE_##id], memory_order_relaxed)

#define METRIC_ENDPOINT_SET(metrics, number, id, value)                                     \
    atomic_store_explicit(&(metrics)->endpoints[number].gauges[METRIC_ENDPOINT_GAUGE_##id], \
                          (value), memory_order_relaxed)
#define METRIC_ENDPOINT_ADD(metrics, number, id, n) \
    metrics_add(&(metrics)->endpoints[number].counters[METRIC_ENDPOINT_COUNTER_##id], (n))

/* The time of a request that names this stream, or METRIC_STREAM_NONE. */
#define METRIC_OBSERVE_HTTP_NS(thread, stream, ns) metrics_observe_ns(&(thread)->http[stream], (ns))

/* Flusher thread only: counts an insert refused with a code, as in struct metrics_refusal. */
void metrics_refused(struct metrics_lane *lane, int code);

/* Owner thread only. */
void metrics_observe(struct metrics_histogram *histogram, const uint64_t *bounds, uint64_t value);
void metrics_observe_ns(struct metrics_histogram *histogram, uint64_t ns);

/* The sums over all threads; large (about 35 KiB), so keep it off small stacks. */
struct metrics_snapshot {
    uint64_t streams[METRIC_STREAMS_MAX][METRIC_STREAM_COUNT];
    uint64_t counters[METRIC_COUNTER_COUNT];
    int64_t gauges[METRIC_GAUGE_COUNT];
    uint64_t http_codes[METRIC_HTTP_CODES];
    uint64_t answers[METRIC_STREAMS_MAX + 1][ERROR_COUNT];
    struct {
        uint64_t buckets[METRIC_BUCKETS];
        uint64_t sum_ns;
        uint64_t count;
    } histograms[METRIC_HISTOGRAM_COUNT];
    uint64_t http_buckets[METRIC_STREAMS_MAX + 1][METRIC_BUCKETS]; /* http_request has their sum */
};
void metrics_read(struct metrics *metrics, struct metrics_snapshot *snapshot);

#endif
