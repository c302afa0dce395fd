/* SPDX-License-Identifier: Apache-2.0 */
/*
 * waiter.h - requests that are answered when ClickHouse has their events (ack=clickhouse).
 *
 * A waiter is one request. Its events are entries of a table that is keyed by the hash of the id;
 * whoever takes a record out of LIVE settles the entry (journal_finish() does), and when the last
 * event of a waiter is settled the waiter goes to the inbox of the front-end thread that made it,
 * whose eventfd is written. An entry outlives its waiter for as long as there is room, so that a
 * client that lost an answer can ask again and be told about the first attempt. Of other duplicates
 * L1 knows the record and the journal its state.
 *
 * Nothing of it is written to the journal: after a restart nobody waits for anything, until asked.
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

/* Returns owned (waiter_table_destroy()); NULL: out of memory. At most waiters_max waiters with
 * events_max events together. */
struct waiter_table *waiter_table_create(size_t waiters_max, size_t events_max);
/* Every inbox has been destroyed. NULL is fine. */
void waiter_table_destroy(struct waiter_table *table);

/* Returns owned (waiter_inbox_destroy()); NULL: out of memory. wake_fd is an eventfd, borrowed. */
struct waiter_inbox *waiter_inbox_create(struct waiter_table *table, int wake_fd);
/* Every waiter of it has been destroyed. NULL is fine. */
void waiter_inbox_destroy(struct waiter_inbox *inbox);
/* A waiter whose events are all settled, oldest first; NULL: none. Owner thread; without a lock
 * while there is none. */
struct waiter *waiter_inbox_take(struct waiter_inbox *inbox);

/*
 * A request of so many events. Returns owned (waiter_destroy()); NULL: too many wait, or out of
 * memory. Then for each event one waiter_own(), waiter_follow(), waiter_give_up() or waiter_join()
 * that is true, then waiter_arm(). Owner thread of the inbox, as all that follows with a waiter.
 */
struct waiter *waiter_create(struct waiter_inbox *inbox, uint32_t events);
void waiter_destroy(struct waiter *waiter); /* NULL is fine */
/* For whom the waiter stands; lent to waiter_owner(). */
void waiter_set_owner(struct waiter *waiter, void *owner);
void *waiter_owner(const struct waiter *waiter);
/* The event's own record has this LSN and settles it; it is not published yet. */
void waiter_own(struct waiter *waiter, uint32_t event, const struct hash128 *hash, uint64_t lsn);
/* The event is a duplicate: the record of this LSN settles it, or waiter_tell() follows if that is
 * not LIVE any more by now. */
void waiter_follow(struct waiter *waiter, uint32_t event, const struct hash128 *hash, uint64_t lsn);
/* What has become of that record. */
void waiter_tell(struct waiter *waiter, const struct hash128 *hash, uint64_t lsn,
                 enum record_state state);
/* The event is a duplicate: its original settles it, if that is in the table. False: it is not. */
bool waiter_join(struct waiter *waiter, uint32_t event, const struct hash128 *hash);
/* The event is a duplicate of which nobody here knows more. */
void waiter_give_up(struct waiter *waiter);
/* From now on the waiter may come into the inbox. */
void waiter_arm(struct waiter *waiter);

#define WAITER_REJECTIONS_MAX 64 /* told of one request; the rest is only counted */
#define WAITER_MESSAGE_MAX 200   /* a longer message is cut and ends in "..." */

struct waiter_rejection {
    struct waiter_rejection *next;
    uint32_t event;                       /* its index in the request */
    bool duplicate;                       /* it was another event of its id that was sent */
    int code;                             /* ClickHouse's exception code */
    char message[WAITER_MESSAGE_MAX + 1]; /* printable ASCII */
};

enum waiter_verdict {
    WAITER_PENDING,  /* not all events are settled */
    WAITER_UNKNOWN,  /* settled, but of a duplicate nobody here knows whether it was inserted */
    WAITER_INSERTED, /* every event is in ClickHouse */
    WAITER_REJECTED, /* settled, and ClickHouse refused at least one */
};

struct waiter_outcome {
    enum waiter_verdict verdict;
    uint32_t rejected;
    uint32_t rejected_duplicates;              /* of these, duplicates of a rejected event */
    const struct waiter_rejection *rejections; /* by event; lent until waiter_destroy() */
};
/* Ends the waiting, whether or not it has come into the inbox. */
struct waiter_outcome waiter_end(struct waiter *waiter);

/* True when somebody may be waiting for a record. If not, whoever begins to wait after this sees
 * all that the calling thread wrote before. Any thread. */
bool waiter_table_busy(struct waiter_table *table);
/* Tells the table that n records have left LIVE for state. Any thread; before anybody else may have
 * the records. */
void waiter_settle(struct waiter_table *table, struct record *const *records, size_t n,
                   enum record_state state);
/* Tells why a record will leave LIVE for DEAD, which settles it; message is borrowed. Any thread;
 * may come long before. */
void waiter_reason(struct waiter_table *table, const struct record *record, int code,
                   struct slice message);

#endif
