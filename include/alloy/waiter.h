/* SPDX-License-Identifier: Apache-2.0 */
/*
 * waiter.h - requests that are answered when ClickHouse has their events (ack=clickhouse).
 *
 * A waiter is one request. Its events are entries of a table, keyed by the hash of the id.
 * journal_finish(), which takes records out of LIVE, settles their entries. When the last event of
 * a waiter is settled, the waiter goes to the inbox of the front-end thread that made it, and we
 * write to that thread's eventfd. An entry outlives its waiter as long as there is room: a client
 * that lost an answer can ask again and hears about its first attempt. For other duplicates L1
 * knows the record and the journal its state.
 *
 * Nothing of this is in the journal: after a restart the table is empty until a client asks.
 */
#ifndef ALLOY_WAITER_H
#define ALLOY_WAITER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/event_id.h"
#include "alloy/segment.h"

struct waiter;
struct waiter_inbox;
struct waiter_table;

/* Takes at most waiters_max waiters, with events_max events together. Returns owned
 * (waiter_table_destroy()); NULL: out of memory. */
struct waiter_table *waiter_table_create(size_t waiters_max, size_t events_max);
/* The caller has destroyed every inbox. NULL is fine. */
void waiter_table_destroy(struct waiter_table *table);

/* Returns owned (waiter_inbox_destroy()); NULL: out of memory. wake_fd is an eventfd, borrowed. */
struct waiter_inbox *waiter_inbox_create(struct waiter_table *table, int wake_fd);
/* The caller has destroyed every waiter of it. NULL is fine. */
void waiter_inbox_destroy(struct waiter_inbox *inbox);
/* Takes a waiter whose events are all settled, oldest first; NULL: there is none, which costs no
 * lock. Owner thread. */
struct waiter *waiter_inbox_take(struct waiter_inbox *inbox);

/*
 * Makes the waiter of a request with this many events. Returns owned (waiter_destroy()); NULL: too
 * many wait, or out of memory. Then call one of waiter_own(), waiter_follow(), waiter_give_up(), or
 * waiter_join() with result true, for each event, and then waiter_arm(). Owner thread of the inbox,
 * like all functions below that take a waiter.
 */
struct waiter *waiter_create(struct waiter_inbox *inbox, uint32_t events);
void waiter_destroy(struct waiter *waiter); /* NULL is fine */
/* The caller's pointer, which waiter_owner() returns. */
void waiter_set_owner(struct waiter *waiter, void *owner);
void *waiter_owner(const struct waiter *waiter);
/* The event is new: its record has this LSN and will settle it. The record is not published yet. */
void waiter_own(struct waiter *waiter, uint32_t event, const struct hash128 *hash, uint64_t lsn);
/* The event is a duplicate: the record of this LSN will settle it. If that record is no longer LIVE
 * by now, the caller calls waiter_tell() next. */
void waiter_follow(struct waiter *waiter, uint32_t event, const struct hash128 *hash, uint64_t lsn);
/* Tells what has become of that record. */
void waiter_tell(struct waiter *waiter, const struct hash128 *hash, uint64_t lsn,
                 enum record_state state);
/* The event is a duplicate: its original will settle it. False: the original is not in the
 * table. */
bool waiter_join(struct waiter *waiter, uint32_t event, const struct hash128 *hash);
/* The event is a duplicate, and we know nothing about its original. */
void waiter_give_up(struct waiter *waiter);
/* From now on the waiter may go to the inbox. Calls the stream's events when it waits for some that
 * were on their way before: see waiter_take_called(). */
void waiter_arm(struct waiter *waiter, uint16_t stream);

#define WAITER_REJECTIONS_MAX 64 /* listed for one request; the rest is only counted */
#define WAITER_MESSAGE_MAX 200   /* a longer message is cut and ends in "..." */

struct waiter_rejection {
    struct waiter_rejection *next;
    uint32_t event;                       /* its index in the request */
    bool duplicate;                       /* ClickHouse refused another event with the same id */
    int code;                             /* ClickHouse's exception code */
    char message[WAITER_MESSAGE_MAX + 1]; /* printable ASCII */
};

enum waiter_verdict {
    WAITER_PENDING,  /* not all events are settled */
    WAITER_UNKNOWN,  /* settled, but we do not know whether some duplicate was inserted */
    WAITER_INSERTED, /* every event is in ClickHouse */
    WAITER_REJECTED, /* settled, and ClickHouse refused at least one */
};

struct waiter_outcome {
    enum waiter_verdict verdict;
    uint32_t rejected;
    uint32_t rejected_duplicates;              /* of these, duplicates of a rejected event */
    const struct waiter_rejection *rejections; /* by event; lent until waiter_destroy() */
};
/* Ends the waiting, whether or not the waiter has come to the inbox. */
struct waiter_outcome waiter_end(struct waiter *waiter);

/* True when somebody may be waiting for a record. After false, whoever begins to wait sees
 * everything that the calling thread wrote before the call. Any thread. */
bool waiter_table_busy(struct waiter_table *table);
/* Whether somebody waits now for one of n records: then they must not linger. Costs no lock while
 * nobody waits for anything. Any thread. */
bool waiter_wanted(struct waiter_table *table, struct record *const *records, size_t n);
/* wake is called on a front-end thread when there is something for waiter_take_called(); it may not
 * block. NULL: nobody takes it. While no waiter is armed. */
void waiter_table_wake_by(struct waiter_table *table, void (*wake)(void *arg), void *arg);
/* The streams, a bit each, of which somebody has begun to wait for an event that was on its way
 * already; whoever holds the records asked for these before that. Any one thread. */
uint64_t waiter_take_called(struct waiter_table *table);
/* Tells the table that n records have left LIVE for state. Any thread; call before anybody else can
 * get the records. */
void waiter_settle(struct waiter_table *table, struct record *const *records, size_t n,
                   enum record_state state);
/* Tells why a record will leave LIVE for DEAD, possibly long before it does. message is borrowed.
 * Any thread. */
void waiter_reason(struct waiter_table *table, const struct record *record, int code,
                   struct slice message);

#endif
