/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admission.h - decides on all requests that one turn of an event loop has completed: each event is
 * known or new, and each request is accepted or refused as a whole. See docs/ARCHITECTURE.md,
 * "Admission".
 *
 * Usage, in each turn: admission_open() for a request, admission_event() for each of its events,
 * and admission_drop() if the body turns out bad; after the last request of the turn
 * admission_commit() once; then admission_result() for each request; then admission_reset().
 *
 * Slices given to admission_event() are borrowed until admission_commit() returns (an id that is
 * not verbatim is copied). Runs on: one front-end thread, which owns the struct admission.
 */
#ifndef ALLOY_ADMISSION_H
#define ALLOY_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/event_id.h"
#include "alloy/journal.h"
#include "alloy/json_scan.h"
#include "alloy/l1.h"
#include "alloy/metrics.h"
#include "alloy/ring.h"
#include "alloy/waiter.h"

enum admission_verdict {
    ADMISSION_ACCEPTED,      /* 202 */
    ADMISSION_RING_FULL,     /* 503 overloaded */
    ADMISSION_JOURNAL_FULL,  /* 503 overloaded */
    ADMISSION_JOURNAL_ERROR, /* 503 overloaded: the journal cannot be written */
    ADMISSION_TOO_LARGE,     /* 413: more events than ring.capacity, or one larger than a segment */
    ADMISSION_DRAINING,      /* 503 draining */
    ADMISSION_WAITING_FULL,  /* 503 overloaded: too many requests wait for ClickHouse */
};

/* What a request's answer waits for. */
enum admission_ack {
    ADMISSION_ACK_NONE,       /* what journal.sync says */
    ADMISSION_ACK_DISK,       /* its events, and the originals of its duplicates, are on disk */
    ADMISSION_ACK_CLICKHOUSE, /* a waiter says when ClickHouse has them */
};

struct admission_result {
    enum admission_verdict verdict;
    uint32_t accepted;
    uint32_t duplicates;
    struct waiter *waiter; /* ACCEPTED with ACK_CLICKHOUSE: armed, and now the caller's */
};

struct admission_parts {
    struct ring *ring;
    struct journal *journal;
    struct journal_writer *writer;
    struct l1_thread *l1;
    struct metrics_thread *metrics;
    const struct event_id_key *stream_keys; /* one for each stream */
    struct waiter_inbox *inbox;             /* for ADMISSION_ACK_CLICKHOUSE; else may be NULL */
};

struct admission;

/* Returns owned (admission_destroy()); NULL: out of memory. parts is copied, what it points to
 * borrowed until destroy. */
struct admission *admission_create(const struct admission_parts *parts);
void admission_destroy(struct admission *admission);

/* Begins a request; returns its number in this turn. */
size_t admission_open(struct admission *admission, uint16_t stream);
/* Sets what the answer to the request opened last waits for; NONE if never called. */
void admission_ack(struct admission *admission, enum admission_ack ack);
/* What stands before the own members of the events that are added to the request opened last from
 * now on (struct journal_entry); copied. Without it: nothing. but: names this text, for
 * admission_use_columns(). A request with more than 32 of them is TOO_LARGE. */
void admission_columns(struct admission *admission, uint32_t but, struct slice columns);
/* The same with a text that the request has given already. False: it has not. */
bool admission_use_columns(struct admission *admission, uint32_t but);
/* The same for the next event alone, which has a text of its own: their number has no bound. */
void admission_own_columns(struct admission *admission, struct slice columns);
/* The events that follow have other columns than those before; what was given still counts. */
void admission_forget_columns(struct admission *admission);
/* Adds an event to the request opened last. */
void admission_event(struct admission *admission, const struct json_scan_event *event);
/* Forgets the request opened last and its events. */
void admission_drop(struct admission *admission);
/* True in an overload: the last requests were refused one after another since the ring was full,
 * and it still is. Whoever knows need not scan a body to refuse it, and the time that scanning
 * would take goes to the workers, who make room. A few refusals do not count, so that known events
 * are still answered as duplicates when the ring is full for a moment. */
bool admission_sheds(const struct admission *admission);
/* Requests in this turn so far. */
size_t admission_pending(const struct admission *admission);

/* Decides on all requests of the turn. now_ms is monotonic, real_ms is real time. */
void admission_commit(struct admission *admission, uint64_t now_ms, uint64_t real_ms);
/*
 * The same in steps of less than a millisecond, for one large request that has an admission and a
 * journal_writer of its own, since the thread's other commits come in between. Returns true when
 * the request is decided. Once begun, call it until then, even when the client has gone: otherwise
 * the room that it has reserved is lost.
 */
MUST_CHECK bool admission_commit_some(struct admission *admission, uint64_t now_ms,
                                      uint64_t real_ms);
/* The decision on one request, after the commit. Ask only once: the caller takes the waiter in
 * it. */
struct admission_result admission_result(const struct admission *admission, size_t request);
/* Prepares for the next turn; frees memory after an unusually large one. */
void admission_reset(struct admission *admission);

#endif
