/* SPDX-License-Identifier: Apache-2.0 */
/*
 * health.h - what is wrong right now, as told by /readyz.
 *
 * A condition is raised by the module that notices it and cleared by the same module. It either
 * blocks (alloyd should get no traffic: draining, a journal that cannot be written, a stream whose
 * table is missing) or is a warning (Redis away while on_failure = pass). What would not fit,
 * though there is room for all that can be, is counted and told as "more".
 *
 * Runs on: any thread; one mutex, taken only when a condition changes or is read. Raising a
 * condition that is already up with the same text costs one lock and changes nothing.
 */
#ifndef ALLOY_HEALTH_H
#define ALLOY_HEALTH_H

#include <stdbool.h>
#include <stddef.h>

#include "alloy/base.h"
#include "alloy/metrics.h"
#include "alloy/pulse.h"

/* What can be up at once: every kind of every stream, every thread that hangs, and what the process
 * has once. A kind of a stream is a key like "clickhouse.NAME.window". */
#define HEALTH_STREAM_KINDS_MAX 16
#define HEALTH_THREADS_MAX PULSE_THREADS_MAX
#define HEALTH_OTHERS_MAX 64
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
/* Clears it; nothing happens when it is not up. */
void health_clear(struct health *health, const char *key);

/* Calls visit for each condition that is up, in order of its key and "more" last, under the lock.
 */
typedef void (*health_visit_fn)(void *arg, const char *key, bool blocking, const char *text);
void health_visit(struct health *health, health_visit_fn visit, void *arg);
/* True when no blocking condition is up. */
bool health_ready(struct health *health);

#endif
