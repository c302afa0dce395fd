/* SPDX-License-Identifier: Apache-2.0 */
/*
 * account.c - counts what was answered, and tells who was refused and why.
 *
 * Each answer is counted where it is written, once by its status and once by stream and error. So
 * the refusals of a status add up to its answers.
 *
 * The rest is for people: the last refusals in /stats, and lines in the log as log.requests says.
 *
 * Runs on: the front-end thread that owns the connection's set.
 * Owns: nothing.
 */
#include "conn_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define LOG_MODULE "front"
#include "alloy/log.h"
#include "alloy/text.h"

#define MORE_MAX 512
#define DEBUG_LINES_PER_S 500

/* Balancers ask whether alloyd is ready every second, and want no event taken. */
static bool account_is_refusal(const struct reply *reply)
{
    return reply->error != ERROR_NONE && reply->error != ERROR_not_ready;
}

/* What a note tells of the request of an answer, whether it was refused or not. */
static void account_fill_request(const struct conn *conn, const struct answer *answer,
                                 struct refusal_note *note)
{
    const char *line = answer->line != NULL ? answer->line : answer->line_copy;

    *note = (struct refusal_note){.time_ms = clock_real_ms(),
                                  .error = answer->reply.error,
                                  .stream = answer->stream,
                                  .address = answer->forwarded ? answer->client : conn->peer};
    if (line != NULL)
        refusals_read_line(line, note);
    if (answer->key != NULL)
        snprintf(note->key, sizeof(note->key), "%s", answer->key->name);
}

/* What it tells of the reason. */
static void account_fill_reason(const struct reply *reply, struct refusal_note *note)
{
    const char *message = reply->message;

    if (reply->error == ERROR_rejected) {
        /* ClickHouse's own words may hold values of the event. */
        message = "ClickHouse rejected events of the request: see the dead-letter folder.";
        note->has_event = reply->rejections != NULL;
        note->event = note->has_event ? reply->rejections->event : 0;
    } else {
        note->has_event = reply->has_place;
        note->has_offset = reply->has_place;
        note->event = reply->event;
        note->offset = reply->offset;
    }
    snprintf(note->message, sizeof(note->message), "%s", message);
}

static const char *account_stream_name(const struct conn *conn, unsigned stream)
{
    const struct config *config = config_current(conn->set->parts.shared->config);

    return stream < config->stream_count ? config->streams[stream].name : "";
}

/* Writes the pairs that only some requests have. */
static void account_write_more(const struct refusal_note *note, char out[MORE_MAX])
{
    int len = 0;

    out[0] = '\0';
    if (note->key[0] != '\0')
        len += snprintf(out + len, MORE_MAX - (size_t)len, " key=%s", note->key);
    if (note->method[0] != '\0')
        len += snprintf(out + len, MORE_MAX - (size_t)len, " method=%s path=%s", note->method,
                        note->path);
    if (note->has_event)
        len += snprintf(out + len, MORE_MAX - (size_t)len, " event=%" PRIu32, note->event);
    if (note->has_offset)
        snprintf(out + len, MORE_MAX - (size_t)len, " offset=%zu", note->offset);
}

static void account_log_refused(const struct conn *conn, const struct refusal_note *note,
                                uint64_t suppressed)
{
    char address[ADDRESS_TEXT_MAX], more[MORE_MAX];

    address_format(&note->address, address);
    account_write_more(note, more);
    log_info("request refused status=%u error=%s stream=%s address=%s%s message=\"%s\" "
             "suppressed=%" PRIu64,
             error_code_status(note->error), error_code_name(note->error),
             account_stream_name(conn, note->stream), address, more, note->message, suppressed);
}

/* Of log.requests = all, and of level debug, which is limited. */
static void account_log_answered(struct conn *conn, const struct answer *answer, uint64_t now_ns,
                                 enum log_level level)
{
    const struct reply *reply = &answer->reply;
    const uint32_t invalid = reply->errors != NULL ? reply->errors->invalid : 0;
    const double ms = (double)(now_ns - answer->begun_ns) / CLOCK_NS_PER_MS;
    struct refusal_note note;
    char address[ADDRESS_TEXT_MAX], more[MORE_MAX], why[REPLY_MESSAGE_MAX + 64] = "";
    char held[40] = "";
    static struct log_burst burst;
    uint64_t suppressed = 0;

    if (level == LOG_LEVEL_DEBUG &&
        !log_burst_pass(&burst, now_ns / CLOCK_NS_PER_MS, DEBUG_LINES_PER_S, &suppressed))
        return;
    if (suppressed > 0)
        snprintf(held, sizeof(held), " suppressed=%" PRIu64, suppressed);

    account_fill_request(conn, answer, &note);
    if (account_is_refusal(reply)) {
        account_fill_reason(reply, &note);
        text_unquote(note.message);
        /* What is full has a line of its own, once; this one comes with each request. */
        if (level == LOG_LEVEL_DEBUG && reply->status == 503)
            snprintf(why, sizeof(why), " error=%s", error_code_name(reply->error));
        else
            snprintf(why, sizeof(why), " error=%s message=\"%s\"", error_code_name(reply->error),
                     note.message);
    }
    address_format(&note.address, address);
    account_write_more(&note, more);
    log_write(level, LOG_MODULE,
              "%s status=%u stream=%s address=%s%s accepted=%" PRIu32 " duplicates=%" PRIu32
              " invalid=%" PRIu32 " bytes=%zu ms=%.3f%s%s",
              level == LOG_LEVEL_DEBUG ? "answer sent" : "request answered", reply->status,
              account_stream_name(conn, answer->stream), address, more, reply->accepted,
              reply->duplicates, invalid, answer->bytes, ms, why, held);
}

static void account_refusal(struct conn *conn, const struct answer *answer)
{
    const struct conn_shared *shared = conn->set->parts.shared;
    struct refusals *refusals = shared->refusals;
    const enum error_code error = answer->reply.error;
    const uint64_t now_s = conn_turn_ns(conn->set) / CLOCK_NS_PER_S;
    const bool logs = config_current(shared->config)->log_requests == CONFIG_LOG_REFUSED;
    struct refusal_note note;
    uint64_t suppressed = 0;
    bool may_note, may_log;

    if (refusals == NULL || !account_is_refusal(&answer->reply))
        return;
    may_note = refusals_may_note(refusals, answer->stream, error, now_s);
    may_log = logs && refusals_may_log(refusals, error, now_s, &suppressed);
    if (!may_note && !may_log)
        return;
    account_fill_request(conn, answer, &note);
    account_fill_reason(&answer->reply, &note);
    if (may_note)
        refusals_note(refusals, &note);
    text_unquote(note.message); /* it may name what the client has named */
    if (may_log)
        account_log_refused(conn, &note, suppressed);
}

static void account_tell(struct conn *conn, const struct answer *answer, uint64_t now_ns)
{
    const struct config *config = config_current(conn->set->parts.shared->config);
    struct metrics_thread *metrics = conn->set->parts.metrics;

    metrics_add(&metrics->http_codes[answer->reply.status], 1);
    metrics_add(&metrics->answers[answer->stream][answer->reply.error], 1);
    if (unlikely(answer->reply.error != ERROR_NONE))
        account_refusal(conn, answer);
    if (unlikely(config->log_requests == CONFIG_LOG_ALL))
        account_log_answered(conn, answer, now_ns, LOG_LEVEL_INFO);
    else if (unlikely(log_enabled(LOG_LEVEL_DEBUG)))
        account_log_answered(conn, answer, now_ns, LOG_LEVEL_DEBUG);
}

void account_answer(struct conn *conn, struct answer *answer, uint64_t now_ns)
{
    METRIC_OBSERVE_HTTP_NS(conn->set->parts.metrics, answer->stream, now_ns - answer->begun_ns);
    account_tell(conn, answer, now_ns);
    if (unlikely(answer->line_copy != NULL)) {
        free(answer->line_copy);
        answer->line_copy = NULL;
    }
}

void account_connection(struct conn *conn, const struct reply *reply)
{
    const uint64_t now_ns = conn_turn_ns(conn->set);
    const struct answer answer = {
        .reply = *reply, .stream = METRIC_STREAM_NONE, .begun_ns = now_ns};

    account_tell(conn, &answer, now_ns);
}
