/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drain.h - lets everything that was accepted reach ClickHouse before the process ends.
 *
 * Runs on: the main thread.
 */
#ifndef ALLOY_DRAIN_H
#define ALLOY_DRAIN_H

#include <stddef.h>

#include "alloy/base.h"
#include "alloy/config.h"
#include "alloy/flusher.h"
#include "alloy/front.h"
#include "alloy/health.h"
#include "alloy/journal.h"
#include "alloy/release.h"
#include "alloy/replay.h"
#include "alloy/ring.h"
#include "alloy/worker.h"

/* All borrowed, and running. */
struct drain_parts {
    const struct config *config;
    struct health *health;
    struct front *front;
    struct replay *replay;
    struct ring *ring;
    struct worker *const *workers;
    size_t worker_count;
    struct flusher *flusher;
    struct release *release;
    struct journal *journal;
};

enum drain_end {
    DRAIN_STOP,
    DRAIN_STOP_KEPT, /* somebody else holds the listening sockets open: the next life will serve
                      * whoever connects now, so nobody is refused */
    DRAIN_RESTART,   /* the same, and the next life begins at once */
};

/* Returns the exit status of the process. Takes up to drain.linger (not for a restart) and
 * drain.timeout. A restart that keeps its journal waits for inserts for a few seconds only: the
 * next life goes on with them. */
int drain_run(const struct drain_parts *parts, enum drain_end end);

#endif
