/* SPDX-License-Identifier: Apache-2.0 */
/*
 * release.h - releases dead-lettered records: forgets their ids in Redis and in L1, so that a
 * corrected event with the same id is new, and only then makes the record DEAD.
 *
 * The burial thread must not wait for Redis, so it puts the records into a queue. Workers serve the
 * queue between batches, each through a release_server of its own with its connection to Redis. A
 * record that waits here is LIVE in the journal and has its line in the dead-letter folder: a
 * restart finds both (buried.h) and goes on.
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

/* Most records that wait, for example while Redis is away: bounds the memory to about 2 MiB. */
#define RELEASE_MAX 65536

struct release; /* the queue */
struct release_item;
struct release_server;

/* The workers that sleep on ring serve the queue; metrics holds the gauge. Returns owned
 * (release_destroy()); NULL: out of memory. */
struct release *release_create(struct ring *ring, struct metrics *metrics);
/* Records that still wait stay LIVE in the journal. NULL is fine. */
void release_destroy(struct release *release);

/* Makes room for one record. NULL: RELEASE_MAX records wait, or out of memory. Any thread; never
 * blocks. */
struct release_item *release_prepare(struct release *release);
void release_cancel(struct release *release, struct release_item *item);
/* Takes item, and a LIVE record whose line is safe on disk. until_ms (monotonic) is when its claim
 * has expired by itself. Cannot fail. Any thread; never blocks. */
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
    bool l1_decides; /* L1 says who owns an id, as there is no Redis; else the claims do */
    struct metrics_thread *metrics;
};

/* Returns owned (release_server_destroy()); NULL: out of memory. */
struct release_server *release_server_create(const struct release_server_parts *parts);
/* What it holds stays LIVE in the journal. NULL is fine. */
void release_server_destroy(struct release_server *server);
/* Releases what waits, as far as Redis allows. Blocks no longer than claims_release(). Returns how
 * many milliseconds the caller may sleep before it calls again; UINT64_MAX: until the ring wakes
 * it. Owner thread. */
uint64_t release_serve(struct release_server *server, uint64_t now_ms);
/* Moves some of what waits out of segments that the journal wants to be rid of. Returns when to be
 * called again (monotonic); UINT64_MAX: nothing is wished now. Owner thread. */
uint64_t release_vacate(struct release_server *server, uint64_t now_ms);

#endif
