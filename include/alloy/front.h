/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front.h - the front-end threads: each an event loop, its listening sockets, its connections and
 * its admission.
 *
 * One call of event_base_loop(EVLOOP_ONCE) is one turn: connections read and parse what has
 * arrived, then the turn is decided by one admission_commit(), then each connection's answers go
 * out in one write.
 */
#ifndef ALLOY_FRONT_H
#define ALLOY_FRONT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/config.h"
#include "alloy/health.h"
#include "alloy/inherited.h"
#include "alloy/journal.h"
#include "alloy/l1.h"
#include "alloy/metrics.h"
#include "alloy/refusals.h"
#include "alloy/ring.h"
#include "alloy/voucher.h"
#include "alloy/schemas.h"
#include "alloy/waiter.h"

struct front;

struct front_parts {
    const struct config_ref *config;
    struct ring *ring;
    struct journal *journal;
    struct l1 *l1;
    struct health *health;
    struct metrics *metrics;
    struct waiter_table *waiters;
    struct refusals *refusals;
    struct inherited *inherited; /* NULL: none; used by front_start() and admin_start() only */
    const struct voucher_key *replay_key; /* of who may replay letters as they are; NULL: nobody */
    struct schemas *schemas;
};

#define FRONT_ERROR_MAX 512
/* Most connections of the admin port; a further one replaces the oldest. */
#define FRONT_ADMIN_CONNECTIONS_MAX 32

/*
 * Descriptors that clients must leave to the rest of the process: journal, dead letters, Redis,
 * ClickHouse, the admin port, the front's own. When RLIMIT_NOFILE is below this and
 * server.max_connections together, fewer connections are allowed than configured. Any thread.
 */
size_t front_descriptor_reserve(const struct config *config);

/*
 * Binds every address of server.listen for every thread, then starts the threads. Returns 0 and an
 * owned front (front_stop()), or -errno with one clear sentence in error ("cannot listen on
 * 127.0.0.1:8080: address already in use").
 */
MUST_CHECK int front_start(struct front **front, const struct front_parts *parts,
                           char error[FRONT_ERROR_MAX]);

/* The front's life, in this order; a phase may be left out. */
enum front_phase {
    FRONT_SERVES,
    FRONT_LINGERS,    /* serves, and each answer says Connection: close */
    FRONT_LEAVES,     /* and closes connections that are idle for a second */
    FRONT_HANDS_OVER, /* accepts no connection, and leaves the listeners open: connections wait in
                       * them. On open connections it goes on as before */
    FRONT_DRAINS,     /* has closed the listeners. Requests that begin on open connections get 503
                       * draining and Connection: close */
};

/* Another configuration is in force, with other streams: takes them over, for requests whose head
 * comes from now on. Returns 0 or -ENOMEM: those of before stay. Main thread. */
MUST_CHECK int front_reload(struct front *front);
/* Enters a later phase; the threads follow at once, each by itself. Main thread. */
void front_enter(struct front *front, enum front_phase phase);
/* True once all threads have. Any thread. */
bool front_followed(const struct front *front);
/* Connections still open; during a drain, only those whose last request began before the drain. Any
 * thread. */
size_t front_connections(const struct front *front);
/* Connections still open that were so when the front began to leave. Any thread. */
size_t front_elders(const struct front *front);
/* Adds a descriptor of each listening socket for the next life, and leaves the files of unix
 * sockets to it. Before FRONT_DRAINS. Main thread. Returns 0, or -errno: not all of them. */
MUST_CHECK int front_keep_sockets(struct front *front, struct inherited *kept);
/* How many of these only wait for ClickHouse to have a request's events. Any thread. */
size_t front_waiting(const struct front *front);
/* Answers what still waits, closes what is open, ends and joins the threads, and frees the
 * front. */
void front_stop(struct front *front);

#endif
