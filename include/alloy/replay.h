/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay.h - brings the events that an earlier life left in the journal back into the pipeline.
 *
 * Reading, then handing over, both beside new traffic, on a thread of its own that ends when all is
 * handed over. Only where L1 may lack ids of an earlier life (after a loss of power, or when its
 * files have gone) is the journal read before the first request. A LIVE record that is in the
 * dead-letter folder already goes to the queue of those (release.h) instead.
 */
#ifndef ALLOY_REPLAY_H
#define ALLOY_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/config.h"
#include "alloy/flusher.h"
#include "alloy/health.h"
#include "alloy/journal.h"
#include "alloy/l1.h"
#include "alloy/metrics.h"
#include "alloy/release.h"
#include "alloy/ring.h"

struct replay;

struct replay_parts {
    struct journal *journal;
    struct l1 *l1;
    uint64_t l1_ttl_ms;
    bool l1_decides; /* who owns an id, as there is no second level; else the claims do */
    bool ids_known;  /* L1 has every id of the earlier lives */
    struct ring *ring;
    struct release *release;
    const struct config *config; /* as it is at start */
    struct flusher *flusher;     /* may be set as late as replay_start() */
    struct health *health;
    struct metrics *metrics;
    /* Told of each segment that replay_read() is about to read, from 1; false: it must not, and
     * returns -ECANCELED. NULL: nobody is. */
    bool (*reading)(size_t segment, size_t segments);
};

/* Reads the journal unless ids_known. Returns 0 and an owned replay (replay_stop()), or -errno with
 * a sentence in error. Main thread, once. */
MUST_CHECK int replay_read(struct replay **replay, const struct replay_parts *parts,
                           char error[JOURNAL_ERROR_MAX]);
/* Starts the thread, and waits up to a second for it to have read, so that what is pending is
 * counted. 0 or -errno. Main thread. */
MUST_CHECK int replay_start(struct replay *replay, struct flusher *flusher);
/* True once everything that could be read is handed over, or it was ended. Any thread. */
bool replay_done(const struct replay *replay);
/* Events found and not yet handed over. Any thread. */
uint64_t replay_pending(const struct replay *replay);
/* Ends the thread (what it still holds stays LIVE in the journal), joins it and frees. NULL is
 * fine. */
void replay_stop(struct replay *replay);

#endif
