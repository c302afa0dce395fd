/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay.h - brings the events that an earlier life left in the journal back into the pipeline.
 *
 * replay_read() runs before the first request: it fills L1 with every id found, puts LIVE records
 * that bear an insert id back into the same inserts, and remembers the rest. replay_start() then
 * feeds both beside new traffic, from a thread of its own that ends when all is handed over.
 */
#ifndef ALLOY_REPLAY_H
#define ALLOY_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/flusher.h"
#include "alloy/journal.h"
#include "alloy/l1.h"
#include "alloy/metrics.h"
#include "alloy/ring.h"

struct replay;

struct replay_parts {
    struct journal *journal;
    struct l1 *l1;
    struct ring *ring;
    struct flusher *flusher; /* may be set as late as replay_start() */
    struct metrics *metrics;
    /* Without a second level nobody else can tell that of two LIVE records of one id, appended at
     * the same time by a turn or two that a kill has cut short, one is a duplicate. Those received
     * closer together than this are one event; 0: claims decide. */
    uint64_t duplicate_ms;
};

/* Returns 0 and an owned replay (replay_stop()), or -errno with a sentence in error. Main thread,
 * once. */
MUST_CHECK int replay_read(struct replay **replay, const struct replay_parts *parts,
                           char error[JOURNAL_ERROR_MAX]);
/* Starts feeding. 0 or -errno. */
MUST_CHECK int replay_start(struct replay *replay, struct flusher *flusher);
/* Events not yet handed over. Any thread. */
uint64_t replay_pending(const struct replay *replay);
/* Ends the thread (what it still holds stays LIVE in the journal), joins it and frees. NULL is
 * fine. */
void replay_stop(struct replay *replay);

#endif
