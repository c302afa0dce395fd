/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_pass.c - passes connections on to the set of another front-end thread.
 *
 * A connection goes when its answers are on their way and nothing of a next request has come: then
 * it is a socket, an address, and what its records need, and borrows nothing from its set. Between
 * the two sets it is in the inbox of the second. What its client sends meanwhile waits in the
 * socket. One with OpenSSL's state stays: that state knows its set. What the set has done since the
 * last look, by which it is decided how many go, is counted here too.
 *
 * Runs on: the front-end thread that owns the set; conn_inbox_close() on the main thread.
 * Owns: the connections in an inbox.
 */
#include "conn_private.h"

#include <stdlib.h>
#include <unistd.h>

#include <event2/event.h>

static bool conn_may_pass(const struct conn *conn)
{
    return conn->state == CONN_HEAD && conn->queue == QUEUE_IDLE && conn->begun_ns == 0 &&
           conn->buffer.data == NULL && conn->out == NULL && !conn->touched && !conn->stalled &&
           !conn->unread && !conn->reading && !conn->refused && !conn->spare && !conn->elder &&
           conn->tls == NULL;
}

/* Passes the connection on. False: it cannot go now. True: it is no longer ours. */
static bool conn_pass(struct conn *conn)
{
    struct conn_set *set = conn->set;
    struct conn_inbox *to = set->pass_to;
    struct conn *first;

    ALLOY_ASSERT(set->pass_count > 0);
    if (!conn_may_pass(conn))
        return false;
    ALLOY_ASSERT(conn->waiter == NULL && conn->line_copy == NULL && conn->dropped == NULL &&
                 conn->errors == NULL && conn->cors == NULL);
    set->pass_count--;
    set->open_count--;
    TAILQ_REMOVE(&set->queues[conn->queue], conn, queued);
    event_del(&conn->event);
    conn->set = NULL;
    METRIC_ADD(set->parts.metrics, http_connections_passed, 1);
    first = atomic_load_explicit(&to->first, memory_order_relaxed);
    do {
        SLIST_NEXT(conn, touched_next) = first;
        /* release: pairs with the acquire in conn_inbox_take() */
    } while (!atomic_compare_exchange_weak_explicit(&to->first, &first, conn, memory_order_release,
                                                    memory_order_relaxed));
    if (first == NULL) {
        const uint64_t one = 1;

        /* This fails only when the counter is full, and then the thread is awake anyway. */
        (void)!write(to->wake_fd, &one, sizeof(one));
    }
    return true;
}

/* One that has sent before goes, if some are to go: many clients send once. */
void conn_note_active(struct conn *conn)
{
    struct conn_set *set = conn->set;

    if (unlikely(set->pass_count > 0) && conn->window != 0 && conn_pass(conn))
        return;
    if (conn->window != set->window) {
        conn->window = set->window;
        set->active++;
    }
}

struct conn *conn_inbox_take(struct conn_inbox *inbox)
{
    /* acquire: pairs with the release in conn_pass() */
    return atomic_exchange_explicit(&inbox->first, NULL, memory_order_acquire);
}

void conn_inbox_close(struct conn_inbox *inbox, struct conn_shared *shared)
{
    struct conn *conn, *next;

    for (conn = conn_inbox_take(inbox); conn != NULL; conn = next) {
        next = SLIST_NEXT(conn, touched_next);
        if (conn->records != NULL)
            conn_records_finish(conn);
        buffer_budget_give(&shared->budget, conn->tls_charged);
        close(event_get_fd(&conn->event));
        atomic_fetch_sub_explicit(&shared->connections, 1, memory_order_relaxed);
        METRIC_GAUGE_ADD(shared->metrics, http_connections, -1);
        free(conn);
    }
}

void conn_pass_on(struct conn_set *set, struct conn_inbox *to, size_t count)
{
    set->pass_to = to;
    set->pass_count = set->leaving ? 0 : count;
}

struct conn_activity conn_activity_take(struct conn_set *set)
{
    const struct conn_activity activity = {
        .active = set->active, .large = set->window_large, .shed = set->window_shed};

    set->active = 0;
    set->window_large = set->window_shed = false;
    /* 0: was never answered. */
    if (++set->window == 0)
        set->window = 1;
    return activity;
}
