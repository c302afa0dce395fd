/* SPDX-License-Identifier: Apache-2.0 */
/*
 * health.h - the conditions that are wrong right now; /readyz reports them.
 *
 * The module that notices a condition raises it, and the same module clears it. A condition either
 * blocks (alloyd should get no traffic: it drains, the journal cannot be written, a stream's table
 * is missing) or is a warning (Redis is away while on_failure = pass). There is room for all
 * conditions that can be up at once; should one not fit after all, it is counted and reported as
 * "more".
 *
 * Runs on: any thread; one mutex. Raising a condition that is already up with the same text changes
 * nothing.
 */
#ifndef ALLOY_HEALTH_H
#define ALLOY_HEALTH_H

#include <stdbool.h>
#include <stddef.h>

#include "alloy/base.h"
#include "alloy/metrics.h"
#include "alloy/pulse.h"

/* What can be up at once: each kind of condition of each stream (keys like
 * "clickhouse.NAME.window"), each thread that hangs, and the conditions of the process as a
 * whole. */
#define HEALTH_STREAM_KINDS_MAX 16
#define HEALTH_THREADS_MAX PULSE_THREADS_MAX
#define HEALTH_OTHERS_MAX 128 /* endpoints of ClickHouse among them */
#define HEALTH_CONDITIONS_MAX \
    (METRIC_STREAMS_MAX * HEALTH_STREAM_KINDS_MAX + HEALTH_THREADS_MAX + HEALTH_OTHERS_MAX)
#define HEALTH_KEY_MAX 128 /* the longest name of a stream, and 64 bytes around it */
#define HEALTH_TEXT_MAX 512

struct health;

struct health *health_create(void); /* returns owned: health_destroy(); NULL: out of memory */
void health_destroy(struct health *health);

/* Raises (or rewords) the condition named key, e.g. "redis" or "stream.events.table". */
void health_raise(struct health *health, const char *key, bool blocking, const char *format, ...)
    PRINTF_LIKE(4, 5);
/* Clears it; does nothing when it is not up. */
void health_clear(struct health *health, const char *key);

/* Calls visit under the lock for each condition that is up, in order of key, and "more" last. */
typedef void (*health_visit_fn)(void *arg, const char *key, bool blocking, const char *text);
void health_visit(struct health *health, health_visit_fn visit, void *arg);
/* True when no blocking condition is up. */
bool health_ready(struct health *health);

#endif
