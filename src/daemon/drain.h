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

/* Returns the exit status of the process. Takes up to drain.linger and drain.timeout. */
int drain_run(const struct drain_parts *parts);

#endif
