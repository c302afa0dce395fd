/* SPDX-License-Identifier: Apache-2.0 */
/*
 * turn.c - what one turn notes for its end: answers, and the connections that are to be settled.
 *
 * All answers of a turn are in one array; those of one connection are chained in order. The array
 * is bounded: callers ask conn_turn_is_full() before they note an answer.
 *
 * Runs on: the front-end thread that owns the set.
 * Owns: nothing.
 */
#include "conn_private.h"

#include <string.h>

void turn_enqueue(struct conn *conn, enum queue_id queue)
{
    struct conn_set *set = conn->set;

    TAILQ_REMOVE(&set->queues[conn->queue], conn, queued);
    conn->queue = queue;
    conn->since_ms = conn_turn_ns(set) / CLOCK_NS_PER_MS;
    TAILQ_INSERT_TAIL(&set->queues[queue], conn, queued);
}

void turn_touch(struct conn *conn)
{
    if (conn->touched)
        return;
    conn->touched = true;
    SLIST_INSERT_HEAD(&conn->set->touched, conn, touched_next);
}

struct answer *turn_answer(struct conn *conn)
{
    struct conn_set *set = conn->set;
    uint32_t at = set->answer_count++;
    struct answer *answer = &set->answers[at];

    ALLOY_ASSERT(at < CONN_TURN_ANSWERS_MAX);
    memset(answer, 0, sizeof(*answer));
    answer->next = CONN_NO_ANSWER;
    answer->begun_ns = conn->begun_ns ? conn->begun_ns : conn_turn_ns(set);
    if (conn->answer_count++ == 0)
        conn->first = at;
    else
        set->answers[conn->last].next = at;
    conn->last = at;
    turn_touch(conn);
    return answer;
}
