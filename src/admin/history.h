/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history.h - what the figures were in the last hour: steps of 1 s for five minutes, and of 10 s
 * for an hour.
 *
 * A step holds differences of counters, the highest value of each gauge, and percentiles of what
 * was observed in it alone. Memory is fixed once every stream was seen: HISTORY_STREAM_BYTES each,
 * HISTORY_BYTES for all together.
 *
 * Runs on: one thread at a time.
 */
#ifndef ALLOY_HISTORY_H
#define ALLOY_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/config.h"
#include "alloy/metrics.h"

#define HISTORY_FINE_STEPS 300   /* of 1 s */
#define HISTORY_COARSE_STEPS 360 /* of 10 s */
#define HISTORY_STEPS_MAX HISTORY_COARSE_STEPS
#define HISTORY_NONE UINT32_MAX /* of a gauge or a time: not known */
#define HISTORY_ALL (METRIC_STREAMS_MAX + 1)

enum history_track_id { HISTORY_FINE, HISTORY_COARSE, HISTORY_TRACKS };

/* Events, but for the last two. */
enum history_count {
    HISTORY_RECEIVED,
    HISTORY_ACCEPTED,
    HISTORY_DUPLICATES, /* of both levels */
    HISTORY_INSERTED,
    HISTORY_DEAD_LETTERED,
    HISTORY_REJECTED,
    HISTORY_REFUSED, /* requests */
    HISTORY_INSERTS, /* acknowledged; of METRIC_STREAM_NONE those that no stream tells of */
    HISTORY_COUNTS
};
/* Of a stream. */
enum history_gauge { HISTORY_PENDING, HISTORY_LAG_MS, HISTORY_GAUGES };
/* Of the process. */
enum history_whole {
    HISTORY_RING,
    HISTORY_CONNECTIONS,
    HISTORY_INFLIGHT,
    HISTORY_JOURNAL_KIB,
    HISTORY_WHOLES
};
enum history_time { HISTORY_HTTP, HISTORY_INSERT, HISTORY_TIMES };

struct history_stream {
    const char *name; /* NULL: there is no such stream. One with a new name has no past */
    uint64_t counts[HISTORY_COUNTS]; /* since the start; one that goes back counts as nothing new */
    uint32_t gauges[HISTORY_GAUGES];
    uint64_t buckets[HISTORY_TIMES][METRIC_BUCKETS]; /* like the counts */
};

/* All figures of one moment. */
struct history_reading {
    uint64_t mono_ms, real_ms;
    struct history_stream streams[METRIC_STREAMS_MAX + 1]; /* the last: of no stream */
    uint32_t wholes[HISTORY_WHOLES];
};

/* Of what took time in a step. */
struct history_percentiles {
    uint32_t p50_us[HISTORY_TIMES], p99_us[HISTORY_TIMES];
};

/* One step of one stream, or of all. */
struct history_point {
    uint32_t span_ms; /* that the counts are of; 0: nothing was looked at, and the rest is 0 */
    uint64_t counts[HISTORY_COUNTS];
    uint32_t gauges[HISTORY_GAUGES];
    uint32_t wholes[HISTORY_WHOLES];
    struct history_percentiles times;
};

/* What is kept of a step: of each stream, and of the process. */
struct history_flow {
    uint32_t counts[HISTORY_COUNTS];
    uint32_t gauges[HISTORY_GAUGES];
    struct history_percentiles times;
};
struct history_step {
    uint32_t span_ms;
    uint32_t wholes[HISTORY_WHOLES];
    struct history_percentiles times;
};

#define HISTORY_STREAM_BYTES \
    ((HISTORY_FINE_STEPS + HISTORY_COARSE_STEPS) * sizeof(struct history_flow))

struct history;

struct history *history_create(void); /* returns owned: history_destroy(); NULL: out of memory */
void history_destroy(struct history *history); /* NULL is fine */
/* Bytes that it has allocated. */
size_t history_bytes(const struct history *history);

/* Takes a reading into both tracks, where a step of theirs is over. Call it each second; the first
 * one only begins. reading is borrowed. */
void history_sample(struct history *history, const struct history_reading *reading);

/* The number of the latest step, from 1 on; 0: there is none yet. */
uint64_t history_last(const struct history *history, enum history_track_id track);
/* Real time at which that step ended, in ms since 1970. */
uint64_t history_last_ms(const struct history *history, enum history_track_id track);
/* Copies the steps after the one of this number, the oldest first, of the stream with this index,
 * or of HISTORY_ALL. Returns how many there are, at most HISTORY_STEPS_MAX: the last is
 * history_last(). */
size_t history_read(const struct history *history, enum history_track_id track, size_t stream,
                    uint64_t after, struct history_point out[HISTORY_STEPS_MAX]);

/* The time below which this share of the observations lies, in microseconds, interpolated within
 * its bucket as Prometheus does it; HISTORY_NONE: there are no observations. */
uint32_t history_percentile_us(const uint64_t buckets[METRIC_BUCKETS], double share);

#endif
