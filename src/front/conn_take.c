/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_take.c - takes in the connections that the sets of other front-end threads pass on.
 *
 * Runs on: the front-end thread that owns the set.
 * Owns: nothing.
 */
#include "conn_private.h"

#include <event2/event.h>

void conn_take_passed(struct conn_set *set)
{
    struct conn *conn, *next;
    uint64_t now_ms;

    /* relaxed: conn_inbox_take() acquires */
    if (likely(atomic_load_explicit(&set->parts.passed->first, memory_order_relaxed) == NULL))
        return;
    /* The turn has not begun: the loop may sleep before its first request comes. */
    now_ms = clock_mono_ms();
    for (conn = conn_inbox_take(set->parts.passed); conn != NULL; conn = next) {
        next = SLIST_NEXT(conn, touched_next);
        conn->set = set;
        conn->since_ms = now_ms;
        TAILQ_INSERT_TAIL(&set->queues[conn->queue], conn, queued);
        set->open_count++;
        if (!conn_watch_first(conn, event_get_fd(&conn->event)))
            conn_close(conn);
        else
            conn_leave_passed(conn);
    }
}
