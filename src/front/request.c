/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request.c - makes requests out of the bytes in a connection's buffer, and notes their answers.
 *
 * A request is judged in the order path, method, key and limits, encoding, length, body. If the
 * framing of a refused request is sound, we drop its body and the connection goes on; if not, or if
 * the body is longer than we would ever take, we close the connection.
 *
 * Admission borrows slices of the buffer, so a connection with answers noted neither reads nor
 * moves its buffer until the turn's end.
 *
 * A body of 8 MiB takes tens of milliseconds to judge, and no other connection of the thread would
 * be served meanwhile. So we judge large bodies one at a time, a step each turn, in an admission of
 * their own. As with every request, nothing is kept before all of it is scanned. A compressed body
 * that decodes to so much, or may do, is decoded there too, a step each turn.
 *
 * Runs on: the front-end thread that owns the connection's set.
 * Owns: nothing.
 */
#include "conn_private.h"

#include "alloy/form.h"

#include <stdlib.h>
#include <string.h>

#define LARGE_SCAN_BYTES (512ul << 10) /* of a large body in one turn */

static const struct refusal refuse_not_found = {404, "not_found", "No stream has this path."};
static const struct refusal refuse_method = {405, "method_not_allowed",
                                             "Events are sent with POST."};
static const struct refusal refuse_encoding = {
    415, "unsupported_encoding",
    "The body's Content-Encoding is not supported: send gzip, deflate, zstd or none."};
static const struct refusal refuse_no_disk = {
    400, "bad_request", "ack=disk needs journal.mode = file: this server keeps events in memory."};
static const struct refusal refuse_no_length = {411, "length_required",
                                                "The request has no Content-Length."};
static const struct refusal refuse_body = {413, "too_large",
                                           "The body is larger than server.max_body."};
static const struct refusal refuse_decoded = {413, "too_large",
                                              "The decoded body is larger than server.max_body."};
static const struct refusal refuse_decoding = {503, "overloaded",
                                               "There is no memory to decode the body."};
static const struct refusal refuse_head = {431, "head_too_large",
                                           "The head is larger than server.max_head."};
static const struct refusal refuse_draining = {503, "draining", "The server is shutting down."};

void request_leave(struct conn *conn)
{
    if (!conn->keep_alive) {
        conn_move(conn, CONN_CLOSING);
        return;
    }
    conn_move(conn, CONN_HEAD);
    if (buffer_len(&conn->buffer) > 0)
        conn->begun_ns = conn_turn_ns(conn->set);
}

/* Ends the request being read; what follows in the buffer is the next one. */
static void request_end(struct conn *conn)
{
    conn->scanned = 0;
    conn->begun_ns = 0;
    conn->refusal = (struct reply){0};
    /* The answer borrows what a page is told: the next request's would take its place. */
    if (unlikely(conn->cors != NULL))
        conn_move(conn, CONN_HELD);
    else
        request_leave(conn);
}

struct reply request_reply(const struct conn *conn, const struct refusal *refusal)
{
    return (struct reply){.status = refusal->status,
                          .close = !conn->keep_alive,
                          .keep_alive = conn->keep_alive && conn->old,
                          .cors = conn->cors,
                          .retry_s = refusal->status == 429 ? conn->retry_s : 0,
                          .code = refusal->code,
                          .message = refusal->message};
}

void request_refuse(struct conn *conn, const struct refusal *refusal)
{
    struct answer *answer = turn_answer(conn);

    conn->keep_alive = false;
    answer->reply = request_reply(conn, refusal);
    answer->reply.head_only = conn->refusal.head_only;
    conn->lingering = true;
    request_end(conn);
}

static void request_refuse_dropped(struct conn *conn)
{
    turn_answer(conn)->reply = conn->refusal;
    request_end(conn);
}

static const struct refusal *request_refusal_of_scan(enum json_scan_result result,
                                                     struct refusal *out)
{
    static const struct refusal empty = {400, "empty", "The body holds no event."};

    switch (result) {
    case JSON_SCAN_EVENT:
    case JSON_SCAN_END:
        break;
    case JSON_SCAN_EMPTY:
        return &empty;
    case JSON_SCAN_INVALID_JSON:
        out->code = "invalid_json";
        return out;
    case JSON_SCAN_MISSING_ID:
        out->code = "missing_id";
        return out;
    case JSON_SCAN_INVALID_ID:
        out->code = "invalid_id";
        return out;
    case JSON_SCAN_INVALID_EVENT:
        out->code = "invalid_event";
        return out;
    }
    ALLOY_UNREACHABLE("a scan that found nothing wrong");
    return NULL;
}

void request_drop_errors(struct conn *conn)
{
    free(conn->errors);
    conn->errors = NULL;
}

static const struct route *request_route(const struct conn *conn)
{
    return &conn->set->parts.shared->routes->routes[conn->stream];
}

void request_tell_success(const struct conn *conn, struct reply *reply)
{
    const struct config_stream *stream = request_route(conn)->stream;

    reply->status = 202;
    reply->lenient = conn->lenient;
    reply->errors = conn->errors;
    reply->cors = conn->cors;
    /* Who asks to be told of each event is told. */
    if (unlikely(stream->answer != NULL) && !conn->ack.lenient) {
        reply->status = (uint16_t)stream->answer_status;
        reply->answer = stream->answer;
        if (conn->ack.verbose && stream->answer_verbose != NULL)
            reply->answer = stream->answer_verbose;
    }
}

/* Notes what is wrong with an event of a lenient request, and passes over it. Returns false when
 * nobody can tell where the next one begins, or there is no memory to tell the client. */
static bool request_pass_over(struct conn *conn, struct json_scan *scan,
                              enum json_scan_result result)
{
    struct refusal own = {400, NULL, scan->problem};
    const struct refusal *refusal;
    const uint32_t event = scan->index;
    struct reply_errors *errors = conn->errors;

    if (likely(!conn->lenient) || !json_scan_skip(scan, result))
        return false;
    if (errors == NULL) {
        errors = calloc(1, sizeof(*errors));
        if (errors == NULL)
            return false;
        conn->errors = errors;
    }
    refusal = request_refusal_of_scan(result, &own);
    if (errors->count < REPLY_ERRORS_MAX) {
        errors->list[errors->count].event = event;
        errors->list[errors->count].offset = scan->error_offset;
        errors->list[errors->count].code = refusal->code;
        errors->list[errors->count].message = refusal->message;
        errors->count++;
    }
    errors->invalid++;
    return true;
}

/* True when a scanned body holds something to be taken. */
static bool request_has_events(const struct conn *conn, const struct json_scan *scan,
                               enum json_scan_result result)
{
    return result == JSON_SCAN_END &&
           (likely(conn->errors == NULL) || scan->index > conn->errors->invalid);
}

/* Events of a scanned body that are good. */
static uint32_t request_event_count(const struct conn *conn, const struct json_scan *scan)
{
    return likely(conn->errors == NULL) ? scan->index
                                        : scan->index - (uint32_t)conn->errors->invalid;
}

/* Fills the answer to a scanned body. Returns true when nothing behind it may be looked at before
 * it is answered: it may have to wait, or it is long. */
static bool request_say(struct conn *conn, struct answer *answer, const struct json_scan *scan,
                        enum json_scan_result result)
{
    struct refusal own = {400, NULL, scan->problem};

    if (likely(result == JSON_SCAN_END)) {
        answer->reply =
            (struct reply){.close = !conn->keep_alive, .keep_alive = conn->keep_alive && conn->old};
        request_tell_success(conn, &answer->reply);
        if (unlikely(conn->errors != NULL)) {
            METRIC_STREAM_ADD(conn->set->parts.metrics, conn->stream, invalid,
                              conn->errors->invalid);
            if (!request_has_events(conn, scan, result)) {
                answer->reply.status = 400;
                answer->reply.answer = NULL;
            }
            return true;
        }
        return conn->ack.kind == ADMISSION_ACK_CLICKHOUSE;
    }
    request_drop_errors(conn);
    answer->reply = request_reply(conn, request_refusal_of_scan(result, &own));
    answer->reply.has_place = result != JSON_SCAN_EMPTY;
    answer->reply.event = scan->index;
    answer->reply.offset = scan->error_offset;
    return false;
}

/* Takes the events of a scanned body from what its sender may send. Returns NULL, or what is
 * wrong. */
static const struct refusal *request_meter(struct conn *conn, const struct json_scan *scan)
{
    if (likely(!conn->metered))
        return NULL;
    return entry_take(conn, request_event_count(conn, scan));
}

/* Notes in the answer what request_meter() has taken. */
static void request_note_metered(const struct conn *conn, struct answer *answer,
                                 const struct json_scan *scan)
{
    if (likely(!conn->metered))
        return;
    answer->key = conn->key;
    answer->metered_events = request_event_count(conn, scan);
}

/* Answers a scanned body whose sender sends too much. */
static void request_say_limited(struct conn *conn, struct answer *answer,
                                const struct refusal *refusal)
{
    request_drop_errors(conn);
    answer->reply = request_reply(conn, refusal);
}

/* Begins to scan the body of the request whose head the buffer begins with. headers is lent to the
 * scan. */
static void request_begin_scan(const struct conn *conn, struct json_scan *scan, struct slice body,
                               struct slice *headers)
{
    const struct route *route = request_route(conn);
    const char *head = conn->buffer.data + conn->buffer.start;

    json_scan_init(scan, &route->fields, body.data, body.len);
    if (likely(!route->has_headers))
        return;
    for (size_t i = 0; i < route->fields.source_count; i++)
        if (route->headers[i] != NULL)
            headers[i] = http_find_header(head, conn->head_len, route->headers[i]);
    scan->headers = headers;
}

/* Hands an event to admission with the columns of its request, but for those that it has itself. */
static void request_add_event(struct conn *conn, struct admission *admission,
                              const struct json_scan_event *event)
{
    if (unlikely(request_route(conn)->stream->column_count > 0) &&
        !admission_use_columns(admission, event->own_columns))
        admission_columns(admission, event->own_columns, columns_write(conn, event->own_columns));
    admission_event(admission, event);
}

/* Judges a whole body: hands its events to admission, or notes what is wrong with it. Returns true
 * when nothing behind it may be looked at before it is answered. */
static bool request_judge_body(struct conn *conn, struct slice body)
{
    struct conn_set *set = conn->set;
    struct admission *admission = set->parts.admission;
    struct json_scan *scan = &set->scan;
    struct answer *answer = turn_answer(conn);
    const struct refusal *refusal = NULL;
    struct json_scan_event event;
    enum json_scan_result result;
    bool has_events;

    set->turn_bytes += body.len;
    answer->request = admission_open(admission, conn->stream);
    if (unlikely(conn->ack.kind != ADMISSION_ACK_NONE))
        admission_ack(admission, conn->ack.kind);
    request_begin_scan(conn, scan, body, set->headers);
    do {
        while ((result = json_scan_next(scan, &event)) == JSON_SCAN_EVENT)
            request_add_event(conn, admission, &event);
    } while (result != JSON_SCAN_END && request_pass_over(conn, scan, result));
    has_events = request_has_events(conn, scan, result);
    if (likely(has_events))
        refusal = request_meter(conn, scan);
    if (unlikely(!has_events || refusal))
        admission_drop(admission);
    if (unlikely(refusal)) {
        request_say_limited(conn, answer, refusal);
        return false;
    }
    if (likely(has_events)) {
        answer->kind = ANSWER_ADMISSION;
        request_note_metered(conn, answer, scan);
    }
    return request_say(conn, answer, scan, result);
}

/* Ends a request that is judged; the next one begins at next. held: its answer may have to wait. */
static void request_end_judged(struct conn *conn, bool held, size_t next)
{
    conn->buffer.start = next;
    if (likely(!held)) {
        request_end(conn);
        return;
    }
    conn->scanned = 0;
    conn->begun_ns = 0;
    conn_move(conn, CONN_HELD);
}

/* Leaves a body to the next turns. */
static void request_leave_large(struct conn *conn, struct slice body, size_t next)
{
    conn->large = body;
    conn->large_end = next;
    conn_move(conn, CONN_LARGE);
}

/* Notes why a body that cannot be decoded is refused. */
static void request_refuse_coded(struct conn *conn, enum coding_result result)
{
    struct refusal own = {400, "bad_request", conn->set->decode.problem};
    const struct refusal *refusal = &own;

    if (result == CODING_TOO_LARGE)
        refusal = &refuse_decoded;
    else if (result == CODING_NO_MEMORY)
        refusal = &refuse_decoding;
    turn_answer(conn)->reply = request_reply(conn, refusal);
}

/* The same as request_take_body() for a body with a coding. */
static void request_take_coded(struct conn *conn, struct slice raw, size_t next)
{
    struct conn_set *set = conn->set;
    enum coding_result result;
    struct slice body;

    result = decode_at_once(&set->decode, conn->coding, raw, &body);
    if (result != CODING_MORE)
        set->turn_bytes += raw.len * CONN_CODED_COST;
    if (result == CODING_DONE) {
        request_end_judged(conn, request_judge_body(conn, body), next);
        return;
    }
    set->turn_bytes += body.len;
    if (result == CODING_MORE) {
        request_leave_large(conn, raw, next);
    } else {
        request_refuse_coded(conn, result);
        request_end_judged(conn, false, next);
    }
}

/* A body is whole: judges it and ends its request, or leaves a large one to the next turns. The
 * request ends at next. */
static void request_take_body(struct conn *conn, struct slice body, size_t next)
{
    if (likely(conn->coding == CODING_NONE))
        conn->coding = coding_of_body(body);
    if (unlikely(conn->coding != CODING_NONE)) {
        request_take_coded(conn, body, next);
        return;
    }
    if (unlikely(body.len > CONN_LARGE_MIN)) {
        request_leave_large(conn, body, next);
        return;
    }
    request_end_judged(conn, request_judge_body(conn, body), next);
}

static bool request_advance_body(struct conn *conn)
{
    struct buffer *buffer = &conn->buffer;
    size_t body_len = (size_t)conn->body_len;
    size_t at;

    if (buffer_len(buffer) - conn->head_len < body_len)
        return false;
    at = buffer->start + conn->head_len;
    request_take_body(conn, (struct slice){buffer->data + at, body_len}, at + body_len);
    return true;
}

static bool request_advance_chunked(struct conn *conn)
{
    struct buffer *buffer = &conn->buffer;
    struct http_chunked *chunked = &conn->chunked;
    char *body = buffer->data + buffer->start + conn->head_len;
    char *raw = body + chunked->decoded;
    size_t body_max = conn->set->body_max;
    size_t consumed = 0;
    enum http_result result =
        http_chunked_decode(chunked, body, (size_t)(buffer->data + buffer->end - raw), &consumed);

    if (result != HTTP_DONE && result != HTTP_MORE) {
        request_refuse(conn, &(struct refusal){400, "bad_request", chunked->problem});
        return false;
    }
    if (chunked->decoded > body_max || chunked->remaining > body_max - chunked->decoded) {
        request_refuse(conn, &refuse_body);
        return false;
    }
    if (result == HTTP_MORE) {
        buffer->end = (size_t)(body + chunked->decoded - buffer->data);
        return false;
    }
    request_take_body(conn, (struct slice){body, chunked->decoded},
                      (size_t)(raw + consumed - buffer->data));
    return true;
}

static bool request_advance_drop(struct conn *conn)
{
    struct buffer *buffer = &conn->buffer;
    size_t len = buffer_len(buffer);

    if (len < conn->body_len) {
        conn->body_len -= len;
        buffer->start = buffer->end;
        return false;
    }
    buffer->start += (size_t)conn->body_len;
    request_refuse_dropped(conn);
    return true;
}

static bool request_advance_drop_chunked(struct conn *conn)
{
    struct buffer *buffer = &conn->buffer;
    struct http_chunked *chunked = &conn->chunked;
    size_t consumed = 0;
    enum http_result result =
        http_chunked_decode(chunked, buffer->data + buffer->start, buffer_len(buffer), &consumed);

    conn->body_len += chunked->decoded;
    chunked->decoded = 0;
    buffer->start = result == HTTP_MORE ? buffer->end : buffer->start + consumed;
    if (result == HTTP_MORE && conn->body_len <= conn->set->body_max)
        return false;
    if (result != HTTP_DONE) {
        /* Broken framing, or too long: the connection cannot go on, but the answer that we had
         * stays. */
        conn->keep_alive = false;
        conn->lingering = true;
        conn->refusal.close = true;
        conn->refusal.keep_alive = false;
    }
    request_refuse_dropped(conn);
    return true;
}

/* Scans on from where the last turn stopped. JSON_SCAN_EVENT: not finished. */
static enum json_scan_result request_scan_large(struct conn *conn)
{
    struct conn_set *set = conn->set;
    struct json_scan *scan = &set->large_scan;
    const size_t until = scan->offset + LARGE_SCAN_BYTES;
    enum json_scan_result result;
    struct json_scan_event event;

    do {
        result = json_scan_next(scan, &event);
        if (likely(result == JSON_SCAN_EVENT))
            request_add_event(conn, set->parts.large, &event);
        else if (result == JSON_SCAN_END || !request_pass_over(conn, scan, result))
            return result;
    } while (scan->offset < until);
    return JSON_SCAN_EVENT;
}

/* The answer to the large body is noted: continues with what follows the body. */
static void request_pass_large(struct conn *conn, bool held)
{
    struct conn_set *set = conn->set;

    admission_reset(set->parts.large);
    decode_end(&set->decode);
    set->large_step = LARGE_NEXT;
    STAILQ_REMOVE_HEAD(&set->large, stalled_next);
    conn->stalled = false;
    request_end_judged(conn, held, conn->large_end);
    request_advance(conn);
}

/* The large body is judged: notes the answer, which is refusal if there is one. */
static void request_end_large(struct conn *conn, enum json_scan_result result,
                              const struct refusal *refusal)
{
    struct conn_set *set = conn->set;
    struct answer *answer = turn_answer(conn);
    bool held = false;

    if (likely(!refusal) && request_has_events(conn, &set->large_scan, result)) {
        answer->kind = ANSWER_LARGE;
        request_note_metered(conn, answer, &set->large_scan);
        set->large_result = admission_result(set->parts.large, 0);
    }
    if (unlikely(refusal))
        request_say_limited(conn, answer, refusal);
    else
        held = request_say(conn, answer, &set->large_scan, result);
    request_pass_large(conn, held);
}

/* Begins to judge the large body, as it decodes. */
static void request_begin_large(struct conn *conn, struct slice body)
{
    struct conn_set *set = conn->set;

    admission_open(set->parts.large, conn->stream);
    admission_ack(set->parts.large, conn->ack.kind);
    request_begin_scan(conn, &set->large_scan, body, set->large_headers);
    set->large_step = LARGE_SCAN;
}

static void request_decode_large(struct conn *conn)
{
    struct slice body;
    enum coding_result result = decode_step(&conn->set->decode, &body);

    if (result == CODING_DONE) {
        request_begin_large(conn, body);
    } else if (result != CODING_MORE) {
        request_refuse_coded(conn, result);
        request_pass_large(conn, false);
    }
}

static bool request_commit_large(struct conn_set *set)
{
    return admission_commit_some(set->parts.large, conn_turn_ns(set) / CLOCK_NS_PER_MS,
                                 clock_real_ms());
}

void request_advance_large(struct conn_set *set)
{
    struct conn *conn = STAILQ_FIRST(&set->large);
    const struct refusal *refusal = NULL;
    enum json_scan_result result;
    bool has_events;

    switch (set->large_step) {
    case LARGE_NEXT:
        if (conn->coding == CODING_NONE) {
            request_begin_large(conn, conn->large);
            return;
        }
        decode_begin(&set->decode, conn->coding, conn->large);
        set->large_step = LARGE_DECODE;
        return;
    case LARGE_DECODE:
        request_decode_large(conn);
        return;
    case LARGE_SCAN:
        result = request_scan_large(conn);
        has_events = request_has_events(conn, &set->large_scan, result);
        if (has_events)
            refusal = request_meter(conn, &set->large_scan);
        if (has_events && !refusal)
            set->large_step = LARGE_COMMIT;
        else if (result != JSON_SCAN_EVENT)
            request_end_large(conn, result, refusal);
        return;
    case LARGE_COMMIT:
        if (request_commit_large(set))
            request_end_large(conn, JSON_SCAN_END, NULL);
        return;
    }
}

void request_finish_large(struct conn_set *set)
{
    if (set->large_step == LARGE_COMMIT) {
        while (!request_commit_large(set))
            ;
        waiter_destroy(admission_result(set->parts.large, 0).waiter);
    }
    admission_reset(set->parts.large);
    decode_end(&set->decode);
    set->large_step = LARGE_NEXT;
}

/* Reads what the answer is to wait for; most requests do not say. Returns NULL, or what is
 * wrong. */
static const struct refusal *request_find_ack(struct conn *conn, const struct http_request *request,
                                              struct refusal *own)
{
    const struct config *config = config_current(conn->set->parts.shared->config);

    conn->ack = (struct ack){.kind = ADMISSION_ACK_NONE};
    conn->lenient = request_route(conn)->stream->partial;
    if (likely(request->query.len == 0 && request->prefer.len == 0))
        return NULL;
    own->message = ack_read(request->query, request->prefer, &conn->ack);
    if (own->message)
        return own;
    conn->lenient = conn->lenient || conn->ack.lenient;
    if (conn->ack.kind == ADMISSION_ACK_DISK && config->journal_mode == CONFIG_JOURNAL_MEMORY)
        return &refuse_no_disk;
    return NULL;
}

/* Judges a well-formed head; sets conn->stream and conn->ack. Returns NULL, or what is wrong. */
static const struct refusal *
request_find_stream(struct conn *conn, const struct http_request *request, struct refusal *own)
{
    int stream = route_find(conn->set->parts.shared->routes, request->path);
    const struct refusal *refusal;

    if (stream == ROUTE_NONE)
        return &refuse_not_found;
    if (request->method != HTTP_POST && form_of_request(request).len == 0)
        return &refuse_method;
    conn->stream = (uint16_t)stream;
    refusal = entry_check(conn, request);
    if (unlikely(refusal))
        return refusal;
    if (request->coding == CODING_UNKNOWN)
        return &refuse_encoding;
    conn->coding = request->coding;
    return request_find_ack(conn, request, own);
}

/* Refuses a request and keeps the connection usable: receives and drops its body first, unless the
 * client waits for 100 Continue or the body is longer than we would ever take. Then it says
 * reply. */
static bool request_begin_drop(struct conn *conn, const struct http_request *request,
                               const struct refusal *refusal, const struct reply *reply)
{
    bool has_body = request->chunked || request->content_length > 0;

    if (has_body && (request->expect_continue || request->content_length > conn->set->body_max)) {
        request_refuse(conn, refusal);
        return false;
    }
    conn->buffer.start += conn->head_len;
    conn->refusal = *reply;
    conn->refusal.close = !conn->keep_alive;
    conn->refusal.keep_alive = conn->keep_alive && conn->old;
    conn->refusal.head_only = request->method == HTTP_HEAD;
    conn->body_len = request->chunked ? 0 : request->content_length;
    conn->chunked = (struct http_chunked){0};
    conn_move(conn, request->chunked ? CONN_DROP_CHUNKED : CONN_DROP);
    return true;
}

/* Takes a whole head. Returns true when the body can be read. */
static bool request_begin_request(struct conn *conn, const struct http_request *request)
{
    struct refusal own = {400, "bad_request", NULL};
    const struct refusal *refusal;
    struct reply reply;

    conn->head_len = request->head_len;
    conn->keep_alive = request->keep_alive;
    conn->old = request->minor == 0;
    conn->refusal.head_only = request->method == HTTP_HEAD;
    if (conn->late) {
        request_refuse(conn, &refuse_draining);
        return false;
    }
    preflight_note_origin(conn, request);
    refusal = request_find_stream(conn, request, &own);
    if (refusal) {
        if (likely(!preflight_answers(conn, request, refusal == &refuse_method, &reply)))
            reply = request_reply(conn, refusal);
        return request_begin_drop(conn, request, refusal, &reply);
    }
    if (unlikely(request->method != HTTP_POST)) {
        conn_move(conn, CONN_BODY);
        request_take_body(conn, form_of_request(request), conn->buffer.start + conn->head_len);
        return true;
    }
    if (!request->chunked &&
        (!request->has_length || request->content_length > conn->set->body_max)) {
        request_refuse(conn, request->has_length ? &refuse_body : &refuse_no_length);
        return false;
    }
    if (request->expect_continue && !conn->old && buffer_len(&conn->buffer) == conn->head_len &&
        (request->chunked || request->content_length > 0))
        turn_answer(conn)->kind = ANSWER_CONTINUE;
    conn->body_len = request->content_length;
    conn->chunked = (struct http_chunked){0};
    conn_move(conn, request->chunked ? CONN_CHUNKED : CONN_BODY);
    return true;
}

static bool request_advance_head(struct conn *conn)
{
    struct buffer *buffer = &conn->buffer;
    size_t head_max = conn->set->head_max;
    struct http_request request;

    /* Some clients send an empty line after a body: it does not begin a request. */
    while (conn->scanned == 0 && buffer_len(buffer) >= 2 &&
           memcmp(buffer->data + buffer->start, "\r\n", 2) == 0)
        buffer->start += 2;
    if (buffer_len(buffer) == 0) {
        conn->begun_ns = 0;
        return false;
    }
    switch (http_parse_head(buffer->data + buffer->start, buffer_len(buffer), &conn->scanned,
                            &request)) {
    case HTTP_DONE:
        if (request.head_len > head_max)
            break;
        return request_begin_request(conn, &request);
    case HTTP_MORE:
        if (buffer_len(buffer) >= head_max)
            break;
        return false;
    case HTTP_BAD:
        request_refuse(conn, &(struct refusal){400, "bad_request", request.problem});
        return false;
    case HTTP_UNSUPPORTED_VERSION:
        request_refuse(conn, &(struct refusal){505, "unsupported_version", request.problem});
        return false;
    case HTTP_NOT_IMPLEMENTED:
        request_refuse(conn, &(struct refusal){501, "not_implemented", request.problem});
        return false;
    }
    request_refuse(conn, &refuse_head);
    return false;
}

void request_advance(struct conn *conn)
{
    bool more = true;

    while (more) {
        if (conn->state <= CONN_DROP_CHUNKED && conn_turn_is_full(conn)) {
            /* Stalled even with no bytes left: a whole body may be all there is. */
            conn->stalled = true;
            break;
        }
        switch (conn->state) {
        case CONN_HEAD:
            more = request_advance_head(conn);
            break;
        case CONN_BODY:
            more = request_advance_body(conn);
            break;
        case CONN_CHUNKED:
            more = request_advance_chunked(conn);
            break;
        case CONN_DROP:
            more = request_advance_drop(conn);
            break;
        case CONN_DROP_CHUNKED:
            more = request_advance_drop_chunked(conn);
            break;
        case CONN_LARGE:
        case CONN_HELD:
        case CONN_WAITING:
        case CONN_TOLD:
        case CONN_CLOSING:
        case CONN_LINGER:
            more = false;
            break;
        }
    }
    turn_touch(conn);
}
