/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.h - takes events from the ring into a batch for each stream, claims the ids of a batch
 * that is full or has lingered, and hands the unique events to the flusher. Between batches it
 * serves the queue of dead-lettered records (release.h).
 */
#ifndef ALLOY_WORKER_H
#define ALLOY_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/config.h"
#include "alloy/distrust.h"
#include "alloy/flusher.h"
#include "alloy/health.h"
#include "alloy/journal.h"
#include "alloy/l1.h"
#include "alloy/mark.h"
#include "alloy/metrics.h"
#include "alloy/reclaim.h"
#include "alloy/release.h"
#include "alloy/ring.h"

struct worker;

struct worker_parts {
    const struct config_ref *config;
    struct ring *ring;
    struct journal *journal;
    struct flusher *flusher;
    struct health *health;
    struct metrics *metrics;
    struct l1 *l1;
    struct release *release;
    struct distrust *distrust; /* whether Redis may have forgotten claims; NULL: it has not */
    struct reclaim *reclaim;   /* what has to be claimed again; NULL: nothing */
    struct marks *marks;       /* say whether a stream's claims may be taken; NULL: they may */
};

/* Starts a thread. Returns 0 and an owned worker (worker_stop()), or -errno. */
MUST_CHECK int worker_start(struct worker **worker, const struct worker_parts *parts,
                            unsigned number);

/*
 * For the drain, once the ring is closed: true when the ring is empty and the worker has handed its
 * batches over. Until worker_stop() it goes on to serve dead-lettered records, which may still
 * come. Any thread.
 */
bool worker_done(const struct worker *worker);
/* Ends the thread now, joins it and frees the worker. What it still holds stays LIVE in the
 * journal. */
void worker_stop(struct worker *worker);

#endif
