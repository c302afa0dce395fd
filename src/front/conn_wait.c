/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_wait.c - connections with a request that is answered when ClickHouse has its events.
 *
 * While such a request waits, we look at no later one: what the client sends stays in the buffer
 * and the socket, so that answers keep their order and a waiting client costs no more memory. The
 * socket keeps its event. When bytes or the end of input arrive early, we watch it edge-triggered,
 * since a level-triggered event would fire without end. A reset frees the place at once. A client
 * that has only shut down its sending side still gets its answer; we cannot distinguish it from one
 * that has closed, whose place is therefore free only when its time is up.
 *
 * A wait lasts a whole number of seconds. Each number has a queue of its own, in order of start
 * like all queues.
 *
 * Runs on: the front-end thread that owns the set.
 * Owns: the waiters of its connections.
 */
#include "conn_private.h"

#include <sys/socket.h>

#include <event2/event.h>

void conn_wait_begin(struct conn *conn, const struct answer *answer, struct waiter *waiter)
{
    struct conn_shared *shared = conn->set->parts.shared;

    ALLOY_ASSERT(answer->next == CONN_NO_ANSWER);
    conn->waiter = waiter;
    waiter_set_owner(waiter, conn);
    conn_move(conn, CONN_WAITING);
    conn->wait_begun_ns = answer->begun_ns;
    conn->wait_accepted = answer->reply.accepted;
    conn->wait_duplicates = answer->reply.duplicates;
    conn->set->waiting_count++;
    atomic_fetch_add_explicit(&shared->waiting, 1, memory_order_relaxed);
    METRIC_GAUGE_ADD(shared->metrics, http_waiting, 1);
}

static void conn_wait_list(struct conn *conn)
{
    conn->listed = true;
    TAILQ_INSERT_TAIL(&conn->set->waited, conn, waited_next);
}

static void conn_wait_unlist(struct conn *conn)
{
    if (conn->listed)
        TAILQ_REMOVE(&conn->set->waited, conn, waited_next);
    conn->listed = false;
}

void conn_wait_settle(struct conn *conn)
{
    const enum queue_id queue = (enum queue_id)(QUEUE_WAIT + (int)conn->ack.wait_s - 1);

    if (buffer_len(&conn->buffer) == 0)
        buffer_release(&conn->set->pool, &conn->buffer);
    if (conn->queue != queue)
        turn_enqueue(conn, queue);
    /* The result became known while the socket was full: it can be sent now. */
    if (conn->state == CONN_TOLD && !conn->listed)
        conn_wait_list(conn);
}

bool conn_wait_client_lives(const struct conn *conn)
{
    int error = 0;
    socklen_t len = sizeof(error);

    return getsockopt(event_get_fd(&conn->event), SOL_SOCKET, SO_ERROR, &error, &len) == 0 &&
           error == 0;
}

void conn_wait_expire(struct conn *conn)
{
    struct answer *answer = turn_answer(conn);

    conn_wait_unlist(conn);
    if (conn->state == CONN_WAITING)
        conn_move(conn, CONN_TOLD);
    answer->kind = ANSWER_WAITED;
    answer->begun_ns = conn->wait_begun_ns;
    answer->reply = (struct reply){.close = !conn->keep_alive,
                                   .keep_alive = conn->keep_alive && conn->old,
                                   .accepted = conn->wait_accepted,
                                   .duplicates = conn->wait_duplicates};
    judge_tell_success(conn, &answer->reply);
}

void conn_wait_collect(struct conn_set *set)
{
    struct waiter *waiter;
    struct conn *conn;

    while ((waiter = waiter_inbox_take(set->parts.inbox))) {
        conn = waiter_owner(waiter);
        /* Its time may have run out in this same turn. */
        if (conn->state == CONN_TOLD)
            continue;
        conn_move(conn, CONN_TOLD);
        if (!conn->out)
            conn_wait_list(conn);
    }
    while ((conn = TAILQ_FIRST(&set->waited)) && !conn_turn_is_full(conn))
        conn_wait_expire(conn);
}

void conn_wait_resolve(struct conn *conn, struct reply *reply)
{
    const struct waiter_outcome outcome = waiter_end(conn->waiter);

    switch (outcome.verdict) {
    case WAITER_PENDING:
    case WAITER_UNKNOWN:
        break;
    case WAITER_INSERTED:
        if (reply->answer == NULL)
            reply->status = 200;
        break;
    case WAITER_REJECTED:
        reply->status = error_code_status(ERROR_rejected);
        reply->error = ERROR_rejected;
        reply->answer = NULL;
        reply->rejected = outcome.rejected;
        reply->rejected_duplicates = outcome.rejected_duplicates;
        reply->rejections = outcome.rejections;
        break;
    }
}

void conn_wait_drop(struct conn *conn)
{
    struct conn_shared *shared = conn->set->parts.shared;

    if (!conn->waiter)
        return;
    conn_wait_unlist(conn);
    waiter_destroy(conn->waiter);
    conn->waiter = NULL;
    conn->set->waiting_count--;
    atomic_fetch_sub_explicit(&shared->waiting, 1, memory_order_relaxed);
    METRIC_GAUGE_ADD(shared->metrics, http_waiting, -1);
}
