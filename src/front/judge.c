/* SPDX-License-Identifier: Apache-2.0 */
/*
 * judge.c - judges a whole body: hands its events to admission, or notes what is wrong with it.
 *
 * A body of 8 MiB takes tens of milliseconds to judge, and no other connection of the thread would
 * be served meanwhile. So we judge large bodies one at a time, a step each turn, in an admission of
 * their own. As with every request, nothing is kept before all of it is scanned. A compressed body
 * that decodes to so much, or may do, is decoded there too, a step each turn.
 *
 * Runs on: the front-end thread that owns the connection's set.
 * Owns: conn->errors.
 */
#include "conn_private.h"

#include <stdlib.h>
#include <string.h>

#include "alloy/attribute.h"
#include "alloy/misfit.h"

#define LARGE_SCAN_BYTES (128ul << 10) /* of a large body in one turn */

static const struct refusal refuse_decoded = {ERROR_too_large,
                                              "The decoded body is larger than server.max_body."};
static const struct refusal refuse_member = {
    ERROR_too_large,
    "A value around the events, which fills a column (envelope:NAME), is longer than 3072 bytes."};
static const struct refusal refuse_decoding = {ERROR_overloaded,
                                               "There is no memory to decode the body."};

static const struct refusal *judge_refusal_of_scan(enum json_scan_result result,
                                                   struct refusal *out)
{
    static const struct refusal empty = {ERROR_empty, "The body holds no event."};

    switch (result) {
    case JSON_SCAN_EVENT:
    case JSON_SCAN_PAUSED:
    case JSON_SCAN_END:
        break;
    case JSON_SCAN_EMPTY:
        return &empty;
    case JSON_SCAN_INVALID_JSON:
        out->error = ERROR_invalid_json;
        return out;
    case JSON_SCAN_MISSING_ID:
        out->error = ERROR_missing_id;
        return out;
    case JSON_SCAN_INVALID_ID:
        out->error = ERROR_invalid_id;
        return out;
    case JSON_SCAN_INVALID_EVENT:
        out->error = ERROR_invalid_event;
        return out;
    case JSON_SCAN_MISMATCH:
        out->error = ERROR_schema_mismatch;
        return out;
    }
    ALLOY_UNREACHABLE("a scan that found nothing wrong");
    return NULL;
}

void judge_drop_errors(struct conn *conn)
{
    for (uint32_t i = 0; conn->errors != NULL && i < conn->errors->count; i++)
        free(conn->errors->list[i].mismatch);
    free(conn->errors);
    conn->errors = NULL;
}

void judge_forget(struct conn *conn, struct answer *answer)
{
    free(answer->mismatch);
    answer->mismatch = NULL;
    if (answer->reply.errors != NULL)
        judge_drop_errors(conn);
}

void judge_tell_success(const struct conn *conn, struct reply *reply)
{
    const struct config_stream *stream = conn_route(conn)->stream;

    reply->status = 202;
    reply->lenient = conn->lenient;
    reply->errors = conn->errors;
    reply->cors = conn->cors;
    /* Who asks to be told of each event is told, and so is everybody of a bad one. */
    if (unlikely(stream->answer != NULL) && !conn->ack.lenient && conn->errors == NULL) {
        reply->status = (uint16_t)stream->answer_status;
        reply->answer = stream->answer;
        if (conn->ack.verbose && stream->answer_verbose != NULL)
            reply->answer = stream->answer_verbose;
    }
}

/* One sentence about what is wrong with what was scanned last. */
static const char *judge_problem(const struct conn *conn, const struct json_scan *scan,
                                 enum json_scan_result result)
{
    const char *head = conn->buffer.data + conn->buffer.start;
    const char *misfit = NULL;

    /* The body may be no JSON at all. */
    if (result == JSON_SCAN_INVALID_JSON && scan->index == 0)
        misfit = misfit_name((struct slice){scan->body, scan->len},
                             http_find_header(head, conn->head_len, "content-type"));
    return misfit != NULL ? misfit : scan->problem;
}

/* Notes what is wrong with an event of a lenient request, and passes over it. Returns false when
 * nobody can tell where the next one begins, or there is no memory to tell the client. */
static bool judge_pass_over(struct conn *conn, struct judging *judging,
                            enum json_scan_result result)
{
    struct json_scan *scan = &judging->scan;
    struct refusal own = {ERROR_NONE, judge_problem(conn, scan, result)};
    const struct refusal *refusal;
    const uint32_t event = scan->index;
    struct reply_errors *errors = conn->errors;

    if (!json_scan_skip(scan, result))
        return false;
    if (errors == NULL) {
        errors = calloc(1, sizeof(*errors));
        if (errors == NULL)
            return false;
        conn->errors = errors;
    }
    refusal = judge_refusal_of_scan(result, &own);
    if (errors->count < REPLY_ERRORS_MAX) {
        errors->list[errors->count].event = event;
        errors->list[errors->count].offset = scan->error_offset;
        errors->list[errors->count].error = refusal->error;
        errors->list[errors->count].message = refusal->message;
        if (result == JSON_SCAN_MISMATCH) {
            errors->list[errors->count].mismatch = judging->mismatch;
            judging->mismatch = NULL;
        }
        errors->count++;
    }
    errors->invalid++;
    return true;
}

/* True when a scanned body holds something to be taken. */
static bool judge_has_events(const struct conn *conn, const struct json_scan *scan,
                             enum json_scan_result result)
{
    return result == JSON_SCAN_END &&
           (likely(conn->errors == NULL) || scan->index > conn->errors->invalid);
}

/* Events of a scanned body that are good. */
static uint32_t judge_event_count(const struct conn *conn, const struct json_scan *scan)
{
    return likely(conn->errors == NULL) ? scan->index
                                        : scan->index - (uint32_t)conn->errors->invalid;
}

/* The reply to a request of which every event is invalid: the body lists them, and the error is the
 * first one's. */
static void judge_say_all_invalid(const struct conn *conn, struct reply *reply)
{
    const struct reply_errors *errors = conn->errors;

    reply->error = errors->list[0].error;
    reply->status = 400;
    reply->message = errors->list[0].message;
    reply->event = errors->list[0].event;
    reply->offset = errors->list[0].offset;
    reply->has_place = true;
    reply->answer = NULL;
}

/* What was done with so many bytes was in vain. */
static void judge_charge(struct conn *conn, size_t bytes)
{
    if (unlikely(conn->metered))
        entry_charge(conn, bytes);
}

/* Fills the answer to a scanned body. Returns true when nothing behind it may be looked at before
 * it is answered: it may have to wait, or it is long. */
static bool judge_say(struct conn *conn, struct answer *answer, struct judging *judging,
                      enum json_scan_result result)
{
    const struct json_scan *scan = &judging->scan;
    struct refusal own = {ERROR_NONE, NULL};

    if (likely(result == JSON_SCAN_END)) {
        answer->reply =
            (struct reply){.close = !conn->keep_alive, .keep_alive = conn->keep_alive && conn->old};
        judge_tell_success(conn, &answer->reply);
        if (unlikely(conn->errors != NULL)) {
            METRIC_STREAM_ADD(conn->set->parts.metrics, conn->stream, invalid,
                              conn->errors->invalid);
            if (!judge_has_events(conn, scan, result)) {
                judge_charge(conn, scan->len);
                judge_say_all_invalid(conn, &answer->reply);
            }
            return true;
        }
        return conn->ack.kind == ADMISSION_ACK_CLICKHOUSE;
    }
    judge_drop_errors(conn);
    judge_charge(conn, scan->len);
    own.message = judge_problem(conn, scan, result);
    answer->reply = turn_reply(conn, judge_refusal_of_scan(result, &own));
    answer->reply.has_place = result != JSON_SCAN_EMPTY;
    answer->reply.event = scan->index;
    answer->reply.offset = scan->error_offset;
    if (unlikely(result == JSON_SCAN_MISMATCH) && judging->mismatch != NULL) {
        answer->mismatch = judging->mismatch;
        answer->reply.mismatch = answer->mismatch;
        answer->reply.message = answer->mismatch->note;
        judging->mismatch = NULL;
    }
    return false;
}

/* Judges a scanned body by what is around its events, and takes these from what their sender may
 * send. Returns NULL, or what is wrong. */
static const struct refusal *judge_permit(struct conn *conn, const struct judging *judging)
{
    if (unlikely(judging->refusal != NULL))
        return judging->refusal;
    if (likely(!conn->metered))
        return NULL;
    return entry_take(conn, judge_event_count(conn, &judging->scan));
}

/* Notes in the answer what judge_permit() has taken. */
static void judge_note_metered(const struct conn *conn, struct answer *answer,
                               const struct json_scan *scan)
{
    if (likely(!conn->metered))
        return;
    answer->buckets = conn->buckets;
    answer->metered_events = judge_event_count(conn, scan);
    answer->scanned = scan->len;
}

/* Answers a scanned body that judge_permit() has refused. */
static void judge_say_refused(struct conn *conn, struct answer *answer,
                              const struct refusal *refusal, size_t bytes)
{
    judge_drop_errors(conn);
    judge_charge(conn, bytes);
    answer->reply = turn_reply(conn, refusal);
}

/* Begins to judge the body of the request whose head the buffer begins with. */
static void judge_begin(struct conn *conn, struct judging *judging, struct slice body)
{
    const struct route *route = conn_route(conn);
    const char *head = conn->buffer.data + conn->buffer.start;

    json_scan_init(&judging->scan, likely(!conn->replayed) ? &route->fields : &route->letter_fields,
                   body.data, body.len);
    judging->members_of = judging->scan.envelope;
    judging->refusal = NULL;
    memset(judging->members, 0,
           sizeof(judging->members[0]) *
               (likely(!conn->replayed) ? route->envelope.count : ROUTE_LETTER_MEMBERS));
    judging->schema = NULL;
    if (route->stream->schema != CONFIG_SCHEMA_OFF && !conn->replayed)
        mismatch_begin(conn, judging);
    if (likely(!route->has_headers) || conn->replayed)
        return;
    for (size_t i = 0; i < route->fields.source_count; i++) {
        if (route->headers[i] == NULL)
            continue;
        judging->headers[i] = http_find_header(head, conn->head_len, route->headers[i]);
        if (route->percent >> i & 1)
            judging->headers[i] = attribute_decode(judging->headers[i], judging->decoded[i],
                                                   sizeof(judging->decoded[i]));
    }
    judging->scan.headers = judging->headers;
}

/* The events that follow stand in another object, or in none: finds what their columns take from
 * it. */
static void judge_enter_envelope(const struct conn *conn, struct judging *judging,
                                 struct admission *admission)
{
    const struct route *route = conn_route(conn);
    const struct json_scan *scan = &judging->scan;
    const struct slice body = {scan->body, scan->len};

    judging->members_of = scan->envelope;
    admission_forget_columns(admission);
    memset(judging->members, 0, sizeof(judging->members[0]) * route->envelope.count);
    if (scan->envelope == SIZE_MAX)
        return;
    json_scan_find(&route->envelope, body, scan->envelope, judging->members);
    for (size_t i = 0; i < route->envelope.count; i++) {
        struct slice *member = &judging->members[i];

        if (member->len > COLUMNS_MEMBER_MAX) {
            judging->refusal = &refuse_member;
            member->len = 0;
        } else if (member->len == 4 && memcmp(member->data, "null", 4) == 0) {
            member->len = 0;
        }
    }
}

/* The next event, if it may be taken, or what is wrong. */
static inline enum json_scan_result judge_next(struct conn *conn, struct judging *judging,
                                               struct json_scan_event *event)
{
    const enum json_scan_result result = json_scan_next(&judging->scan, event);

    if (judging->schema == NULL || result != JSON_SCAN_EVENT)
        return result;
    return mismatch_check(conn, judging, event);
}

/* Hands an event to admission with the columns of its request, but for those that it has itself. */
static void judge_add_event(struct conn *conn, struct judging *judging, struct admission *admission,
                            const struct json_scan_event *event)
{
    const struct route *route = conn_route(conn);

    if (unlikely(conn->replayed)) {
        replayed_add(conn, judging, admission, event);
        return;
    }
    if (unlikely(route->envelope.count > 0 && judging->members_of != judging->scan.envelope))
        judge_enter_envelope(conn, judging, admission);
    if (unlikely(route->stream->column_count > 0) &&
        !admission_use_columns(admission, event->own_columns))
        admission_columns(admission, event->own_columns,
                          columns_write(conn, judging->members, event->own_columns));
    admission_event(admission, event);
}

/* Judges what a body says about who sends it, where that matters. */
static const struct refusal *judge_check_body(struct conn *conn, struct slice body)
{
    const struct refusal *refusal;

    if (unlikely(conn->replayed))
        return replayed_check_body(conn, body);
    if (likely(!conn->key_awaited))
        return NULL;
    refusal = entry_check_body(conn, body);
    if (refusal != NULL)
        judge_charge(conn, body.len);
    else if (conn->metered)
        refusal = entry_check_debt(conn, body.len, CODING_NONE);
    return refusal;
}

/* Judges a whole body: hands its events to admission, or notes what is wrong with it. Returns true
 * when nothing behind it may be looked at before it is answered. */
static bool judge_at_once(struct conn *conn, struct slice body)
{
    struct conn_set *set = conn->set;
    struct admission *admission = set->parts.admission;
    struct judging *judging = &set->judging;
    struct json_scan *scan = &judging->scan;
    struct answer *answer = turn_answer(conn);
    const struct refusal *refusal = NULL;
    struct json_scan_event event;
    enum json_scan_result result;
    bool has_events;

    set->turn_bytes += body.len;
    refusal = judge_check_body(conn, body);
    answer->key = conn->key;
    if (unlikely(refusal != NULL)) {
        answer->reply = turn_reply(conn, refusal);
        return false;
    }
    answer->request = admission_open(admission, conn->stream);
    if (unlikely(conn->ack.kind != ADMISSION_ACK_NONE))
        admission_ack(admission, conn->ack.kind);
    judge_begin(conn, judging, body);
    do {
        while ((result = judge_next(conn, judging, &event)) == JSON_SCAN_EVENT)
            judge_add_event(conn, judging, admission, &event);
    } while (result != JSON_SCAN_END && conn->lenient && judge_pass_over(conn, judging, result));
    has_events = judge_has_events(conn, scan, result);
    if (likely(has_events))
        refusal = judge_permit(conn, judging);
    if (unlikely(!has_events || refusal))
        admission_drop(admission);
    if (unlikely(refusal)) {
        judge_say_refused(conn, answer, refusal, body.len);
        return false;
    }
    if (likely(has_events)) {
        answer->kind = ANSWER_ADMISSION;
        judge_note_metered(conn, answer, scan);
    }
    return judge_say(conn, answer, judging, result);
}

/* Ends a request that is judged; the next one begins at next. held: its answer may have to wait. */
static void judge_end(struct conn *conn, bool held, size_t next)
{
    conn->buffer.start = next;
    conn->has_line = false;
    if (likely(!held)) {
        turn_end_request(conn);
        return;
    }
    conn->scanned = 0;
    conn->begun_ns = 0;
    conn_move(conn, CONN_HELD);
}

/* Leaves a body to the next turns. */
static void judge_leave_large(struct conn *conn, struct slice body, size_t next)
{
    conn->large = body;
    conn->large_end = next;
    conn_move(conn, CONN_LARGE);
}

/* Notes why a body that cannot be decoded is refused. */
static void judge_refuse_coded(struct conn *conn, enum coding_result result)
{
    struct refusal own = {ERROR_bad_request, conn->set->decode.problem};
    const struct refusal *refusal = &own;

    if (result == CODING_TOO_LARGE) {
        refusal = &refuse_decoded;
        judge_charge(conn, conn->set->body_max);
    } else if (result == CODING_NO_MEMORY) {
        refusal = &refuse_decoding;
    } else {
        judge_charge(conn, conn->bytes);
    }
    turn_answer(conn)->reply = turn_reply(conn, refusal);
}

/* The same as judge_body() for a body with a coding. */
static void judge_coded(struct conn *conn, struct slice raw, size_t next)
{
    struct conn_set *set = conn->set;
    enum coding_result result;
    struct slice body;

    result = decode_at_once(&set->decode, conn->coding, raw, &body);
    if (result != CODING_MORE)
        set->turn_bytes += raw.len * CONN_CODED_COST;
    if (result == CODING_DONE) {
        judge_end(conn, judge_at_once(conn, body), next);
        return;
    }
    set->turn_bytes += body.len;
    if (result == CODING_MORE) {
        judge_leave_large(conn, raw, next);
    } else {
        judge_refuse_coded(conn, result);
        judge_end(conn, false, next);
    }
}

/* Answers a body that is not worth its scan, since its sender owes for others. False: it is to be
 * scanned. */
static bool judge_owes(struct conn *conn, struct slice body)
{
    const struct refusal *refusal = NULL;

    if (!conn->key_awaited)
        refusal = entry_check_debt(conn, body.len, conn->coding);
    if (likely(refusal == NULL))
        return false;
    /* It cost us some time to receive. */
    judge_charge(conn, body.len / 8);
    turn_answer(conn)->reply = turn_reply(conn, refusal);
    return true;
}

/* A body is whole: judges it and ends its request, or leaves a large one to the next turns. The
 * request ends at next. */
void judge_body(struct conn *conn, struct slice body, size_t next)
{
    conn->bytes = body.len;
    conn_room_note(conn, next - conn->buffer.start);
    if (unlikely(admission_sheds(conn->set->parts.admission))) {
        conn->set->window_shed = true;
        turn_answer(conn)->reply = turn_reply(conn, turn_refusal(ADMISSION_RING_FULL));
        judge_end(conn, false, next);
        return;
    }
    if (likely(conn->coding == CODING_NONE))
        conn->coding = coding_of_body(body);
    if (unlikely(conn->metered) && judge_owes(conn, body)) {
        judge_end(conn, false, next);
        return;
    }
    if (unlikely(conn->coding != CODING_NONE)) {
        judge_coded(conn, body, next);
        return;
    }
    if (unlikely(body.len > CONN_LARGE_MIN)) {
        judge_leave_large(conn, body, next);
        return;
    }
    judge_end(conn, judge_at_once(conn, body), next);
}

/* Scans on from where the last turn stopped. JSON_SCAN_EVENT: not finished. */
static enum json_scan_result judge_scan_large(struct conn *conn)
{
    struct conn_set *set = conn->set;
    struct judging *judging = &set->large_judging;
    struct json_scan *scan = &judging->scan;
    enum json_scan_result result;
    struct json_scan_event event;

    scan->pause_at = json_scan_reached(scan) + LARGE_SCAN_BYTES;
    do {
        result = judge_next(conn, judging, &event);
        if (likely(result == JSON_SCAN_EVENT))
            judge_add_event(conn, judging, set->parts.large, &event);
        else if (result == JSON_SCAN_PAUSED)
            break;
        else if (result == JSON_SCAN_END || !conn->lenient ||
                 !judge_pass_over(conn, judging, result))
            return result;
    } while (scan->offset < scan->pause_at);
    return JSON_SCAN_EVENT;
}

/* The answer to the large body is noted: continues with what follows the body. */
static void judge_pass_large(struct conn *conn, bool held)
{
    struct conn_set *set = conn->set;

    admission_reset(set->parts.large);
    mismatch_end_large(set);
    decode_end(&set->decode);
    set->large_step = LARGE_NEXT;
    STAILQ_REMOVE_HEAD(&set->large, stalled_next);
    conn->stalled = false;
    judge_end(conn, held, conn->large_end);
}

/* The large body is judged: notes the answer, which is refusal if there is one. */
static void judge_end_large(struct conn *conn, enum json_scan_result result,
                            const struct refusal *refusal)
{
    struct conn_set *set = conn->set;
    struct answer *answer = turn_answer(conn);
    bool held = false;

    if (likely(!refusal) && judge_has_events(conn, &set->large_judging.scan, result)) {
        answer->kind = ANSWER_LARGE;
        judge_note_metered(conn, answer, &set->large_judging.scan);
        set->large_result = admission_result(set->parts.large, 0);
    }
    if (unlikely(refusal))
        judge_say_refused(conn, answer, refusal, set->large_judging.scan.len);
    else
        held = judge_say(conn, answer, &set->large_judging, result);
    judge_pass_large(conn, held);
}

/* Begins to judge the large body, as it decodes. */
static void judge_begin_large(struct conn *conn, struct slice body)
{
    struct conn_set *set = conn->set;
    const struct refusal *refusal;

    refusal = judge_check_body(conn, body);
    if (unlikely(refusal != NULL)) {
        turn_answer(conn)->reply = turn_reply(conn, refusal);
        judge_pass_large(conn, false);
        return;
    }
    admission_open(set->parts.large, conn->stream);
    admission_ack(set->parts.large, conn->ack.kind);
    judge_begin(conn, &set->large_judging, body);
    set->large_step = LARGE_SCAN;
}

static void judge_decode_large(struct conn *conn)
{
    struct slice body;
    enum coding_result result = decode_step(&conn->set->decode, &body);

    if (result == CODING_DONE) {
        judge_begin_large(conn, body);
    } else if (result != CODING_MORE) {
        judge_refuse_coded(conn, result);
        judge_pass_large(conn, false);
    }
}

static bool judge_commit_large(struct conn_set *set)
{
    return admission_commit_some(set->parts.large, conn_turn_ns(set) / CLOCK_NS_PER_MS,
                                 clock_real_ms());
}

static void judge_step_large(struct conn_set *set, struct conn *conn)
{
    const struct refusal *refusal = NULL;
    enum json_scan_result result;
    bool has_events;

    switch (set->large_step) {
    case LARGE_NEXT:
        if (conn->coding == CODING_NONE) {
            judge_begin_large(conn, conn->large);
            return;
        }
        decode_begin(&set->decode, conn->coding, conn->large);
        set->large_step = LARGE_DECODE;
        return;
    case LARGE_DECODE:
        judge_decode_large(conn);
        return;
    case LARGE_SCAN:
        result = judge_scan_large(conn);
        has_events = judge_has_events(conn, &set->large_judging.scan, result);
        if (has_events)
            refusal = judge_permit(conn, &set->large_judging);
        if (has_events && !refusal)
            set->large_step = LARGE_COMMIT;
        else if (result != JSON_SCAN_EVENT)
            judge_end_large(conn, result, refusal);
        return;
    case LARGE_COMMIT:
        if (judge_commit_large(set))
            judge_end_large(conn, JSON_SCAN_END, NULL);
        return;
    }
}

struct conn *judge_advance_large(struct conn_set *set)
{
    struct conn *conn = STAILQ_FIRST(&set->large);

    judge_step_large(set, conn);
    return conn->state == CONN_LARGE ? NULL : conn;
}

void judge_finish_large(struct conn_set *set)
{
    if (set->large_step == LARGE_COMMIT) {
        while (!judge_commit_large(set))
            ;
        waiter_destroy(admission_result(set->parts.large, 0).waiter);
    }
    admission_reset(set->parts.large);
    mismatch_end_large(set);
    decode_end(&set->decode);
    set->large_step = LARGE_NEXT;
}
