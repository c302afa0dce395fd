/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_stats.h - what alloyd's /stats says, as numbers, for status and top.
 *
 * Runs on: main thread.
 */
#ifndef ALLOY_CTL_STATS_H
#define ALLOY_CTL_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "ctl_admin.h"

#define CTL_STATS_STREAMS_MAX 64
#define CTL_STATS_TEXT_MAX 32 /* of numbers and times for people */

struct ctl_stats_stream {
    const char *name; /* lent by json */
    const char *table;
    /* events, since alloyd started */
    uint64_t received, accepted, duplicates, rejected, inserted, dead_lettered;
    uint64_t pending;
    uint64_t oldest_ms; /* how long the oldest of these waits */
};

struct ctl_stats {
    json_t *json;      /* owned */
    uint64_t taken_ms; /* real time */
    const char *version;
    double uptime_s;
    bool ready;
    struct ctl_stats_stream streams[CTL_STATS_STREAMS_MAX];
    size_t count;
    const json_t *reasons;
    uint64_t connections, waiting, requests;
    double request_s; /* all requests together */
    bool redis_used, redis_up;
    bool clickhouse_up;
    uint64_t inserts, inflight;
    double insert_s, insert_age_s; /* all inserts together; of the last one, below 0: none yet */
    uint64_t ring_depth, ring_capacity;
    uint64_t journal_bytes, journal_bytes_max, letter_bytes;
};

/* Asks an alloyd. Returns 0, or -1 with a sentence in error. The caller frees stats in either
 * case. */
#define CTL_STATS_ERROR_MAX 320
MUST_CHECK int ctl_stats_get(struct ctl_admin *admin, struct ctl_stats *stats,
                             char error[CTL_STATS_ERROR_MAX]);
void ctl_stats_free(struct ctl_stats *stats);

/* Reads the document. False: it is not alloyd's. now_ms is when it came. */
bool ctl_stats_read(struct ctl_stats *stats, struct slice body, uint64_t now_ms);

/* For people: "3 h 12 min", "12.3 MiB", "1234", "1.2 M". */
const char *ctl_stats_span(double seconds, char text[CTL_STATS_TEXT_MAX]);
const char *ctl_stats_bytes(uint64_t bytes, char text[CTL_STATS_TEXT_MAX]);
const char *ctl_stats_count(double count, char text[CTL_STATS_TEXT_MAX]);

#endif
