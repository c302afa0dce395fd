/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exposition.h - writes all metrics as Prometheus text (format 0.0.4).
 */
#ifndef ALLOY_EXPOSITION_H
#define ALLOY_EXPOSITION_H

#include <stdint.h>

#include "alloy/front.h"

struct evbuffer;

/* All figures of one moment. Large (about 35 KiB): allocate it once. */
struct exposition_view {
    struct metrics_snapshot snapshot;
    uint64_t pending[METRIC_STREAMS_MAX]; /* LIVE records of each stream */
    double oldest_s[METRIC_STREAMS_MAX];  /* age of the oldest of these; 0: there is none */
    uint64_t now_ms;                      /* monotonic */
    uint64_t started_ms;                  /* monotonic; set by the caller, constant */
};

/*
 * Reads the figures. So that the books balance, reads again, a few times, when pending has changed
 * in between. Any thread.
 */
void exposition_read(struct exposition_view *view, const struct front_parts *parts);

/* Seconds since the last acknowledged insert; before the first one, since started_ms. */
double exposition_insert_age(const struct exposition_view *view);

/* Appends the text to out. Any thread. */
void exposition_write(const struct exposition_view *view, const struct front_parts *parts,
                      struct evbuffer *out);

#endif
