/* SPDX-License-Identifier: Apache-2.0 */
/*
 * account.c - counts what was answered.
 *
 * Each answer is counted where it is written, once by its status and, where it refuses, once by
 * stream and error. So the refusals of a status add up to its answers.
 *
 * Runs on: the front-end thread that owns the connection's set.
 * Owns: nothing.
 */
#include "conn_private.h"

static void account_refusal(struct conn *conn, const struct answer *answer)
{
    struct metrics_thread *metrics = conn->set->parts.metrics;

    metrics_add(&metrics->refused[answer->stream][answer->reply.error], 1);
}

void account_answer(struct conn *conn, const struct answer *answer, uint64_t now_ns)
{
    struct metrics_thread *metrics = conn->set->parts.metrics;

    metrics_add(&metrics->http_codes[answer->reply.status], 1);
    METRIC_OBSERVE_NS(metrics, http_request, now_ns - answer->begun_ns);
    if (unlikely(answer->reply.error != ERROR_NONE))
        account_refusal(conn, answer);
}

void account_connection(struct conn *conn, const struct reply *reply)
{
    const struct answer answer = {.reply = *reply, .stream = METRIC_STREAM_NONE};

    metrics_add(&conn->set->parts.metrics->http_codes[reply->status], 1);
    account_refusal(conn, &answer);
}
