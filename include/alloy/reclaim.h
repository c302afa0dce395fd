/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reclaim.h - claims again what this alloyd has in hand, after a Redis may have forgotten it
 * (distrust.h).
 *
 * The flusher has it, and must not wait for Redis: it hands two things to the workers. Batches that
 * are in no insert yet come back to a worker, which claims them like new ones. Of inserts the ids
 * are copied, and claimed again under their records' numbers: they may be in ClickHouse already, so
 * nothing can be taken back.
 *
 * Runs on: any thread; one mutex.
 */
#ifndef ALLOY_RECLAIM_H
#define ALLOY_RECLAIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/batch.h"
#include "alloy/distrust.h"
#include "alloy/ring.h"

#define RECLAIM_MAX 1000 /* records of a batch of copies */

struct reclaim;

/* Workers sleep on ring. Returns owned (reclaim_destroy()); NULL: out of memory. */
struct reclaim *reclaim_create(struct ring *ring, struct distrust *distrust);
/* Records that still wait stay LIVE in the journal. NULL is fine. */
void reclaim_destroy(struct reclaim *reclaim);

/* Changes when claims that were taken before may be lost. reclaim NULL: never. */
uint64_t reclaim_generation(const struct reclaim *reclaim);

/* Takes a batch that has to be claimed anew. Flusher thread. */
void reclaim_recall(struct reclaim *reclaim, struct batch *batch);
/* Queues copies of what a claim of these n records needs, at most RECLAIM_MAX. False: out of
 * memory. Flusher thread. */
MUST_CHECK bool reclaim_copy(struct reclaim *reclaim, struct record *const *records, size_t n);
/* Whether all copies have been claimed. */
bool reclaim_is_idle(struct reclaim *reclaim);
/* All that was claimed before this generation is claimed again. Flusher thread. */
void reclaim_finished(struct reclaim *reclaim, uint64_t generation);

/* A batch to be claimed anew. Returns owned; NULL: none. reclaim NULL is fine, also below. */
struct batch *reclaim_take_recalled(struct reclaim *reclaim);
/* A batch of copies. Lent until reclaim_claimed(); NULL: none. */
struct batch *reclaim_take_copies(struct reclaim *reclaim);
/* done: they are claimed, else somebody has to try again. True: these were the last. */
bool reclaim_claimed(struct reclaim *reclaim, struct batch *copies, bool done);

#endif
