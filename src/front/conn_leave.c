/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_leave.c - how a set lets its connections go before the process ends.
 *
 *   serves --> leaves --> hastens --> drains
 *
 * A later step implies those before it. Nobody is cut off while it sends: a connection is closed
 * when we have told it so with its last answer, or when nothing has come from it for a while.
 *
 * Runs on: the front-end thread that owns the set.
 * Owns: nothing.
 */
#include "conn_private.h"

void conn_leave(struct conn_set *set)
{
    set->leaving = true;
    set->pass_count = 0;
}

static void conn_leave_elder(struct conn *conn)
{
    if (conn->refused || conn->elder)
        return;
    conn->elder = true;
    atomic_fetch_add_explicit(&conn->set->parts.shared->elders, 1, memory_order_relaxed);
}

void conn_hasten(struct conn_set *set)
{
    if (set->hastening)
        return;
    conn_leave(set);
    set->hastening = true;
    for (int i = 0; i < QUEUE_COUNT; i++) {
        struct conn *conn;

        TAILQ_FOREACH(conn, &set->queues[i], queued)
        conn_leave_elder(conn);
    }
}

/* No longer waits for a connection on which nobody has begun a request. */
static void conn_leave_spare(struct conn *conn)
{
    if (conn->spare || conn->refused)
        return;
    conn->spare = true;
    atomic_fetch_sub_explicit(&conn->set->parts.shared->connections, 1, memory_order_relaxed);
}

/* Reads each socket of a queue of idle connections once, and spares those that stay idle; closes
 * them where they have been so for long, and their clients could know. */
static void conn_leave_queue(struct conn_set *set, enum queue_id queue, bool knows)
{
    const uint64_t now_ms = conn_turn_ns(set) / CLOCK_NS_PER_MS;
    struct conn *conn, *next;

    for (conn = TAILQ_FIRST(&set->queues[queue]); conn; conn = next) {
        const bool idle_long = now_ms - conn->since_ms >= CONN_IDLE_LEAVING_MS;

        next = TAILQ_NEXT(conn, queued);
        if (conn->stalled || conn_read_some(conn) != READ_NOTHING)
            continue;
        if (knows && idle_long)
            conn_close(conn);
        else
            conn_leave_spare(conn);
    }
}

void conn_drain(struct conn_set *set)
{
    const bool knows = set->leaving;
    struct conn *conn;

    if (set->draining)
        return;
    if (knows)
        conn_hasten(set);
    conn_leave(set);
    /* Requests that have already arrived began before the drain, so read each idle socket once. We
     * keep a connection that stays idle: its client then gets a 503, rather than being cut off
     * while it sends. */
    conn_leave_queue(set, QUEUE_IDLE, knows);
    /* Nobody has begun a request on these. Some more come to them from the next queue. */
    TAILQ_FOREACH(conn, &set->queues[QUEUE_HANDSHAKE], queued)
    conn_leave_spare(conn);
    conn_leave_queue(set, QUEUE_GREETING, false);
    set->draining = true;
}

void conn_leave_passed(struct conn *conn)
{
    struct conn_set *set = conn->set;

    if (set->hastening)
        conn_leave_elder(conn);
    if (!set->draining)
        return;
    /* A request that has already arrived began before the drain, as in conn_drain(). */
    set->draining = false;
    if (conn_read_some(conn) == READ_NOTHING)
        conn_leave_spare(conn);
    set->draining = true;
}

void conn_stop_waiting(struct conn_set *set)
{
    for (int i = QUEUE_WAIT; i <= QUEUE_WAIT_LAST; i++) {
        struct conn *conn;

        while ((conn = TAILQ_FIRST(&set->queues[i]))) {
            /* We look at nothing behind it any more. */
            conn->keep_alive = false;
            conn_wait_expire(conn);
            conn_turn_end(set);
        }
    }
}
