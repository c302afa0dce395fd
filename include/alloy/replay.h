/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay.h - puts the events that an earlier life left in the journal back into the pipeline.
 *
 * A thread of its own first reads the journal, then hands the events over, beside new traffic, and
 * ends. Only when L1 may lack ids of an earlier life (after a power loss, or when its files are
 * gone) do we read the journal before the first request: otherwise a client's retry of a stored
 * event would be stored again. A LIVE record that is already in the dead-letter folder goes to the
 * queue of those (release.h) instead.
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
    bool l1_decides; /* L1 says who owns an id, as there is no Redis; else the claims do */
    bool ids_known;  /* L1 has every id of the earlier lives */
    struct ring *ring;
    struct release *release;
    const struct config *config; /* as it was at the start */
    struct flusher *flusher;     /* may be NULL until replay_start() */
    struct health *health;
    struct metrics *metrics;
    /* Called before replay_read() reads each segment, counted from 1. Returns false to stop
     * replay_read(), which then returns -ECANCELED. May be NULL. */
    bool (*reading)(size_t segment, size_t segments);
};

/* Reads the journal unless ids_known. Returns 0 and an owned replay (replay_stop()), or -errno with
 * a sentence in error. Main thread, once. */
MUST_CHECK int replay_read(struct replay **replay, const struct replay_parts *parts,
                           char error[JOURNAL_ERROR_MAX]);
/* Starts the thread, and waits up to a second until it has read the journal, so that pending events
 * are counted from the start. Returns 0 or -errno. Main thread. */
MUST_CHECK int replay_start(struct replay *replay, struct flusher *flusher);
/* True once everything readable is handed over, or replay_stop() has ended the thread. Any
 * thread. */
bool replay_done(const struct replay *replay);
/* True once every segment of the earlier lives is read: only then is what is counted all that there
 * is. Stays false when one cannot be read. Any thread. */
bool replay_has_read_all(const struct replay *replay);
/* Events of streams that are not configured, which stay; 0 until the reading has ended. Any
 * thread. */
uint64_t replay_unknown_stream(const struct replay *replay);
/* Events found and not yet handed over. Any thread. */
uint64_t replay_pending(const struct replay *replay);
/* Ends the thread (what it still holds stays LIVE in the journal), joins it and frees. NULL is
 * fine. */
void replay_stop(struct replay *replay);

#endif
