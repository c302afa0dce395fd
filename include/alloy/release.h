/* SPDX-License-Identifier: Apache-2.0 */
/*
 * release.h - dead-lettered records on their way out: their ids are forgotten, in Redis and in L1,
 * so that a corrected event with the same id is new, and only then is the record DEAD.
 *
 * The burial puts records into the queue, since it must not wait for Redis; workers serve it
 * between batches, each through a release_server of its own with its connection to Redis. What
 * waits here is LIVE in the journal, and its line is in the dead-letter folder: a restart finds
 * both (buried.h) and goes on.
 */
#ifndef ALLOY_RELEASE_H
#define ALLOY_RELEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/claims.h"
#include "alloy/journal.h"
#include "alloy/l1.h"
#include "alloy/metrics.h"
#include "alloy/ring.h"

/* Records that may wait, while Redis is away: a bound on memory, about 2 MiB. */
#define RELEASE_MAX 65536

struct release; /* the queue */
struct release_item;
struct release_server;

/* ring: whose sleepers serve the queue; metrics: the gauge. Returns owned (release_destroy());
 * NULL: out of memory. */
struct release *release_create(struct ring *ring, struct metrics *metrics);
/* What waits stays LIVE in the journal. NULL is fine. */
void release_destroy(struct release *release);

/* Makes room for one record. NULL: RELEASE_MAX wait, or out of memory. Any thread; never blocks. */
struct release_item *release_prepare(struct release *release);
void release_cancel(struct release *release, struct release_item *item);
/* Takes item, and a LIVE record whose line is safe. until_ms (monotonic): by then its claim has run
 * out by itself. Cannot fail. Any thread; never blocks. */
void release_push(struct release *release, struct release_item *item, struct record *record,
                  uint64_t until_ms);
/* The same for a record of an earlier life, which counts beyond RELEASE_MAX. 0 or -ENOMEM. */
MUST_CHECK int release_adopt(struct release *release, struct record *record, uint64_t until_ms);
/* Records prepared for, waiting, or in the hands of a worker. Any thread. */
uint64_t release_pending(const struct release *release);

struct release_server_parts {
    struct release *release;
    struct journal *journal;
    struct claims *claims;
    struct l1_thread *l1;
    bool l1_decides; /* who owns an id, as there is no second level; else the claims do */
    struct metrics_thread *metrics;
};

/* Returns owned (release_server_destroy()); NULL: out of memory. */
struct release_server *release_server_create(const struct release_server_parts *parts);
/* What it holds stays LIVE in the journal. NULL is fine. */
void release_server_destroy(struct release_server *server);
/* Serves what waits, as far as Redis lets it. Blocks no longer than claims_release(). Returns how
 * long the caller may sleep until it is to be called again, milliseconds; UINT64_MAX: until the
 * ring wakes it. Owner thread. */
uint64_t release_serve(struct release_server *server, uint64_t now_ms);
/* Moves some of what waits out of segments that the journal wants to be rid of. Returns when to be
 * called again (monotonic); UINT64_MAX: nothing is wished now. Owner thread. */
uint64_t release_vacate(struct release_server *server, uint64_t now_ms);

#endif
