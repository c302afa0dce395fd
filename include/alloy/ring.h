/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h - hands accepted events from the front-end threads to the workers: bounded, lock-free,
 * many producers and many consumers (slots with sequence numbers after Vyukov's bounded MPMC
 * queue).
 *
 * We reserve before we answer, so that a full ring becomes a 503 and never a lost event. A
 * reservation is a credit, not a place in the ring. A front-end thread takes places only when it
 * publishes; with places taken earlier, a thread that sleeps in between (in fdatasync, say) would
 * hold up the events of others.
 *
 * Workers sleep on an eventcount (futex); publishing makes no system call while none is asleep.
 */
#ifndef ALLOY_RING_H
#define ALLOY_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"

struct ring;
struct record;

/* Returns owned (ring_destroy()); NULL: out of memory. capacity 1..2^24, kept exactly. */
struct ring *ring_create(size_t capacity);
void ring_destroy(struct ring *ring);

/*
 * Takes n credits, all or none. False: not enough room, or closed; nothing has changed. Any thread;
 * never blocks.
 */
MUST_CHECK bool ring_reserve(struct ring *ring, size_t n);
/* Gives n unused credits back. Any thread. */
void ring_cancel(struct ring *ring, size_t n);
/* Puts n records into the ring, in order, for credits that the caller holds. Cannot fail. Any
 * thread. */
void ring_publish(struct ring *ring, struct record *const *records, size_t n);

/* Takes up to max records at once, oldest first; returns how many, 0 when there are none. Any
 * thread; never blocks. */
size_t ring_take(struct ring *ring, struct record **out, size_t max);
/*
 * Sleeps until there may be something to take, the ring is closed, or timeout_ns has passed (0:
 * does not sleep; UINT64_MAX: no limit). May return early. Any thread.
 */
void ring_wait(struct ring *ring, uint64_t timeout_ns);
/*
 * For a worker that waits for other things too: it reads the epoch, looks for work, and then sleeps
 * only if nobody has called ring_wake() since. Without the epoch it would miss a ring_wake() in
 * between. Any thread.
 */
uint32_t ring_epoch(const struct ring *ring);
void ring_wait_since(struct ring *ring, uint32_t epoch, uint64_t timeout_ns);
/*
 * The same for a worker that has events in hand whose time comes anyway: it need not be woken
 * before the ring has many (1 or more) to take, and while it sleeps so, nobody is. Not with more
 * than ring_many_max(), and timeout_ns is a bound.
 */
void ring_wait_for_many(struct ring *ring, uint32_t epoch, size_t many, uint64_t timeout_ns);
size_t ring_many_max(const struct ring *ring);

/* From now on every reservation fails; credits already held can still be published or cancelled.
 * Wakes all sleepers. */
void ring_close(struct ring *ring);
bool ring_closed(const struct ring *ring);
/* Wakes all sleepers, but only those: a thread that enters ring_wait() later sleeps.
 * ring_wait_since() does not. */
void ring_wake(struct ring *ring);

/* A request was refused for lack of room. Any thread; costs a load, and a store where it is news.
 */
void ring_note_full(struct ring *ring);
/* Whether one was since this was asked last. Main thread. */
bool ring_was_full(struct ring *ring);

/* Credits in use: reserved, or published and not yet taken. */
size_t ring_depth(const struct ring *ring);
size_t ring_capacity(const struct ring *ring);

#endif
