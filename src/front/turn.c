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

static const struct refusal refuse_events = {
    ERROR_too_large, "The request holds more events, or a larger one, than can be taken at once."};
static const struct refusal refuse_ring = {ERROR_overloaded,
                                           "Too many events are waiting to be inserted."};
static const struct refusal refuse_waiting = {ERROR_overloaded,
                                              "Too many requests are waiting for ClickHouse."};
static const struct refusal refuse_journal_full = {ERROR_overloaded, "The journal is full."};
static const struct refusal refuse_journal_error = {ERROR_overloaded,
                                                    "The journal cannot be written."};
static const struct refusal refuse_draining = {ERROR_draining, "The server is shutting down."};

void turn_init(struct conn_set *set)
{
    for (int i = 0; i < QUEUE_COUNT; i++)
        TAILQ_INIT(&set->queues[i]);
    SLIST_INIT(&set->touched);
    STAILQ_INIT(&set->stalled);
    STAILQ_INIT(&set->large);
    TAILQ_INIT(&set->waited);
    TAILQ_INIT(&set->unread);
}

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
    answer->stream = conn->stream;
    answer->key = conn->key;
    answer->bytes = conn->bytes;
    if (likely(conn->has_line))
        answer->line = conn->buffer.data + conn->buffer.start;
    answer->line_copy = conn->line_copy;
    conn->line_copy = NULL;
    answer->forwarded = conn->forwarded;
    if (unlikely(conn->forwarded))
        answer->client = conn->client;
    answer->begun_ns = conn->begun_ns ? conn->begun_ns : conn_turn_ns(set);
    if (conn->answer_count++ == 0)
        conn->first = at;
    else
        set->answers[conn->last].next = at;
    conn->last = at;
    turn_touch(conn);
    return answer;
}

void turn_leave_request(struct conn *conn)
{
    conn->stream = METRIC_STREAM_NONE;
    conn->key = NULL;
    conn->has_line = false;
    conn->bytes = 0;
    if (!conn->keep_alive) {
        conn_move(conn, CONN_CLOSING);
        return;
    }
    conn_move(conn, CONN_HEAD);
    if (buffer_len(&conn->buffer) > 0)
        conn->begun_ns = conn_turn_ns(conn->set);
}

/* Ends the request being read; what follows in the buffer is the next one. */
void turn_end_request(struct conn *conn)
{
    conn->scanned = 0;
    conn->begun_ns = 0;
    conn->head_only = false;
    if (unlikely(conn->dropped != NULL)) {
        free(conn->dropped);
        conn->dropped = NULL;
    }
    /* The answer borrows what a page is told: the next request's would take its place. */
    if (unlikely(conn->cors != NULL))
        conn_move(conn, CONN_HELD);
    else
        turn_leave_request(conn);
}

uint16_t turn_retry_s(const struct conn *conn, enum error_code error)
{
    if (error == ERROR_rate_limited)
        return conn->retry_s;
    if (error != ERROR_overloaded)
        return 0;
    /* Any sequence will do: this is Knuth's. */
    conn->set->spread = conn->set->spread * 1664525 + 1013904223;
    return (uint16_t)(1 + (conn->set->spread >> 16) % 3);
}

struct reply turn_reply(const struct conn *conn, const struct refusal *refusal)
{
    return (struct reply){.status = error_code_status(refusal->error),
                          .error = refusal->error,
                          .close = !conn->keep_alive,
                          .keep_alive = conn->keep_alive && conn->old,
                          .cors = conn->cors,
                          .allow = unlikely(refusal->error == ERROR_method_not_allowed) &&
                                           conn->stream == METRIC_STREAM_NONE
                                       ? PREFLIGHT_HEALTH_METHODS
                                       : NULL,
                          .retry_s = turn_retry_s(conn, refusal->error),
                          .message = refusal->message};
}

const struct refusal *turn_refusal(enum admission_verdict verdict)
{
    switch (verdict) {
    case ADMISSION_ACCEPTED:
        return NULL;
    case ADMISSION_RING_FULL:
        return &refuse_ring;
    case ADMISSION_JOURNAL_FULL:
        return &refuse_journal_full;
    case ADMISSION_JOURNAL_ERROR:
        return &refuse_journal_error;
    case ADMISSION_TOO_LARGE:
        return &refuse_events;
    case ADMISSION_DRAINING:
        return &refuse_draining;
    case ADMISSION_WAITING_FULL:
        return &refuse_waiting;
    }
    ALLOY_UNREACHABLE("an unknown verdict");
    return NULL;
}
