/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn.h - the client connections of one front-end thread: from bytes to requests to answers.
 *
 * A turn: conn_turn_begin(), then the event loop calls back for each ready connection, which reads,
 * parses, scans and hands events to admission; then conn_turn_end() commits all of them at once and
 * writes each connection's answers with one send.
 *
 * Runs on: the front-end thread that owns the set; conn_shared any thread.
 */
#ifndef ALLOY_CONN_H
#define ALLOY_CONN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/address.h"
#include "alloy/admission.h"
#include "alloy/base.h"
#include "alloy/buffer.h"
#include "alloy/config.h"
#include "alloy/health.h"
#include "alloy/metrics.h"
#include "alloy/quota.h"
#include "alloy/refusals.h"
#include "alloy/route.h"
#include "alloy/voucher.h"
#include "alloy/schemas.h"

struct event_base;
struct conn_set;

/* What the sets of all threads share. */
struct conn_shared {
    const struct config_ref *config;
    /* Those of the configuration in force. release in front_reload(), acquire in
     * request_find_stream() */
    _Atomic(const struct route_table *) routes;
    struct health *health; /* NULL: nothing asks for it */
    struct metrics *metrics;
    struct refusals *refusals;            /* NULL: nobody is told of them */
    const struct voucher_key *replay_key; /* NULL: nobody may replay letters as they are */
    struct quota *quota;                  /* may be NULL while no address has a limit */
    struct schemas *schemas;              /* NULL: no event is put beside its table */
    struct buffer_budget budget;
    _Atomic size_t connections; /* open and not spare; relaxed: a count, it orders nothing */
    size_t connections_max;
    _Atomic size_t refused;    /* open, beyond connections_max; relaxed, as above */
    size_t refused_max;        /* how many of them get a lingering close */
    _Atomic size_t handshakes; /* TLS handshakes that have begun; relaxed, as above */
    _Atomic size_t waiting;    /* connections that wait for ClickHouse; relaxed, as above */
    _Atomic size_t elders;     /* open since before their set hastened; relaxed, as above */
};

struct conn;

/* Connections on their way to a set from those of other threads. */
struct conn_inbox {
    _Atomic(struct conn *) first; /* release in conn_pass(), acquire in conn_inbox_take() */
    int wake_fd;                  /* eventfd of the thread that owns the set */
};

struct conn_parts {
    struct conn_shared *shared;
    struct event_base *base;
    struct admission *admission;
    struct admission *large; /* for large bodies, one at a time; see admission_commit_some() */
    struct metrics_thread *metrics;
    size_t thread_count;
    struct waiter_inbox *inbox;
    struct conn_inbox *passed; /* for connections that other sets pass on to this one */
};

/* Returns owned (conn_set_destroy()); NULL: out of memory. parts is copied; what it points to is
 * borrowed until destroy. */
struct conn_set *conn_set_create(const struct conn_parts *parts);
/* Closes the connections that are open. */
void conn_set_destroy(struct conn_set *set); /* NULL is fine */

/* Takes fd, an accepted non-blocking socket of this peer: serves it, or answers 503 when there is
 * no room. tls: the client is to speak TLS, and without room it is closed. */
void conn_accept(struct conn_set *set, int fd, const struct address *peer, bool tls);

/* How many connections the set has, without those that it refuses. */
size_t conn_open_count(const struct conn_set *set);

/* What a set has done since the last call. */
struct conn_activity {
    size_t active; /* connections that were answered */
    bool large;    /* large bodies were judged */
    bool shed;     /* events were refused, as the ring had no room for them */
};
struct conn_activity conn_activity_take(struct conn_set *set);
/* From now on passes connections on to another set's inbox, as soon as they have nothing under way:
 * so many of those that send most. Not once the set leaves. */
void conn_pass_on(struct conn_set *set, struct conn_inbox *to, size_t count);
/* Takes in those that other sets have passed on. Call before conn_turn_begin(). */
void conn_take_passed(struct conn_set *set);
/* Closes those that nobody has taken. Once no thread of a set runs. */
void conn_inbox_close(struct conn_inbox *inbox, struct conn_shared *shared);

/* Continues connections whose input did not fit into the last turn. Returns true when the loop must
 * not sleep, since answers are waiting for conn_turn_end(). */
bool conn_turn_begin(struct conn_set *set);
void conn_turn_end(struct conn_set *set);

/* Answers 408 on, or closes, connections whose time-out has passed. Call after conn_turn_end(). */
void conn_expire(struct conn_set *set);

/*
 * The steps before the end; each implies those before it, and is idempotent. Call between two
 * turns, before conn_turn_begin().
 *
 * conn_leave(): requests are taken as before, and each answer says Connection: close.
 * conn_hasten(): a connection on which nothing begins for a second is closed, and shared->elders
 * counts those that are open now, until they are closed.
 * conn_drain(): a request that has begun is completed and answered with Connection: close; a later
 * one gets 503 draining and Connection: close. A connection that is idle now, or has not ended its
 * greeting, no longer counts in shared->connections, which a drain waits for; its time-out or the
 * end of the set closes it. After conn_leave() one that has been idle for a second is closed.
 */
void conn_leave(struct conn_set *set);
void conn_hasten(struct conn_set *set);
void conn_drain(struct conn_set *set);

/* Answers every request that still waits for ClickHouse with what is known. Call after the last
 * turn. */
void conn_stop_waiting(struct conn_set *set);

#endif
