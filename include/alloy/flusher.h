/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher.h - the one thread that sends batches to ClickHouse. It freezes inserts, posts them with
 * curl's multi interface straight from the journal's bytes, retries, and marks the records.
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
#include "alloy/reclaim.h"
#include "alloy/release.h"
#include "alloy/voucher.h"
#include "alloy/setbacks.h"
#include "alloy/schemas.h"

struct flusher;

#define FLUSHER_ERROR_MAX 512

struct flusher_parts {
    const struct config_ref *config;
    struct journal *journal;
    struct health *health;
    struct metrics *metrics;
    struct reclaim *reclaim;              /* NULL: no claim is ever lost */
    struct release *release;              /* takes the dead-lettered records */
    const struct voucher_key *replay_key; /* as in struct burial_parts */
    struct setbacks *setbacks; /* told what ClickHouse does not take; NULL: nobody asks */
    struct schemas *schemas;   /* is told the tables' columns; may be NULL */
    /* Called with the identity of a stream's table whenever ClickHouse has told it: the Keeper path
     * of a replicated table, else the UUID. Flusher thread; may be NULL. */
    void (*table_identity)(void *arg, size_t stream, size_t shard, const char *identity);
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

/* Events that have been submitted and are neither inserted nor in the dead-letter folder. An event
 * goes from this count to release_pending() with no moment at which neither has it. Any thread. */
uint64_t flusher_pending(const struct flusher *flusher);
/* An earlier life has inserted an event of the stream, which was received at received_ms (real
 * time). That is evidence that the table takes rows, unless the table has changed since. Any
 * thread; call before submitting batches of that life. */
void flusher_note_inserted(struct flusher *flusher, size_t stream, uint64_t received_ms);
/* Lets the events of a stream that its table has refused, and that are kept for that, go to the
 * dead letters; never those of an insert that may be in ClickHouse. Returns how many were kept when
 * that was last counted (each second), or -EINVAL: no such stream. Any thread; returns at once. */
int64_t flusher_bury(struct flusher *flusher, size_t stream);

/* Another configuration is in force: takes over server, credentials and tables at once. Any
 * thread. */
void flusher_reload(struct flusher *flusher);
/* The process is about to end: from now on nothing waits for clickhouse.insert_linger. Any
 * thread. */
void flusher_hurry(struct flusher *flusher);
/* Ends the thread, joins it and frees everything. Inserts in flight are cut off; their records stay
 * LIVE and stamped. */
void flusher_stop(struct flusher *flusher);

#endif
