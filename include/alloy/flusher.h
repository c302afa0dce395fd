/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher.h - the one detached thread that brings batches to ClickHouse: freezes inserts, posts
 * them with curl's multi interface, reads their bodies straight from the journal, retries, and
 * marks records.
 *
 * The one home of libcurl.
 */
#ifndef ALLOY_FLUSHER_H
#define ALLOY_FLUSHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/batch.h"
#include "alloy/config.h"
#include "alloy/health.h"
#include "alloy/journal.h"
#include "alloy/metrics.h"
#include "alloy/release.h"

struct flusher;

#define FLUSHER_ERROR_MAX 512

struct flusher_parts {
    const struct config_ref *config;
    struct journal *journal;
    struct health *health;
    struct metrics *metrics;
    struct release *release; /* where dead-lettered records go on to */
    /* Is told the text that names the table behind a stream, whenever ClickHouse has told it: its
     * Keeper path where it is replicated, else its UUID. Flusher thread; NULL: nobody wants it. */
    void (*table_identity)(void *arg, size_t stream, const char *identity);
    void *arg;
};

/*
 * Starts the thread. Returns 0 and an owned flusher (flusher_stop()), or -errno with one clear
 * sentence in error.
 */
MUST_CHECK int flusher_start(struct flusher **flusher, const struct flusher_parts *parts,
                             char error[FLUSHER_ERROR_MAX]);

/* Takes batch (never empty, one stream). Any thread; lock-free; never blocks. */
void flusher_submit(struct flusher *flusher, struct batch *batch);

/* Events that have been submitted and are neither inserted nor in the dead-letter folder: those are
 * counted by release_pending(), with no gap between. Any thread. */
uint64_t flusher_pending(const struct flusher *flusher);
/* An earlier life has inserted an event of the stream that came at received_ms (real time):
 * evidence that the table takes rows, if it has not changed since. Any thread, before that life's
 * batches. */
void flusher_note_inserted(struct flusher *flusher, size_t stream, uint64_t received_ms);
/* Lets the events of a stream that its table has refused, and that are kept for that, go to the
 * dead letters; never those of an insert that may be in ClickHouse. Returns how many were kept when
 * that was last counted (each second), or -EINVAL: no such stream. Any thread; returns at once. */
int64_t flusher_bury(struct flusher *flusher, size_t stream);

/* Ends the thread (inserts in flight are cut off; their records stay LIVE and stamped), joins it
 * and frees everything. */
void flusher_stop(struct flusher *flusher);

#endif
