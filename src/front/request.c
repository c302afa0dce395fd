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
 * Runs on: the front-end thread that owns the connection's set.
 * Owns: nothing.
 */
#include "conn_private.h"

#include "alloy/form.h"

#include <stdlib.h>
#include <string.h>

/* Kept of the line of a request whose body is dropped: the longest method, a scheme and authority
 * of usual length, and more of the path than is told. */
#define REQUEST_LINE_MAX 400

static const struct refusal refuse_not_found = {ERROR_not_found, "No stream has this path."};
static const struct refusal refuse_method = {ERROR_method_not_allowed,
                                             "Events are sent with POST."};
static const struct refusal refuse_health = {
    ERROR_method_not_allowed,
    "This path tells whether the server is well: events go to a stream's path."};
static const struct refusal refuse_encoding = {
    ERROR_unsupported_encoding,
    "The body's Content-Encoding is not supported: send gzip, deflate, zstd or none."};
static const struct refusal refuse_no_disk = {
    ERROR_bad_request, "ack=disk needs journal.mode = file: this server keeps events in memory."};
static const struct refusal refuse_no_length = {ERROR_length_required,
                                                "The request has no Content-Length."};
static const struct refusal refuse_body = {ERROR_too_large,
                                           "The body is larger than server.max_body."};
static const struct refusal refuse_draining = {ERROR_draining, "The server is shutting down."};

void request_refuse(struct conn *conn, const struct refusal *refusal)
{
    struct answer *answer = turn_answer(conn);

    conn->keep_alive = false;
    answer->reply = turn_reply(conn, refusal);
    answer->reply.head_only = conn->head_only;
    conn->lingering = true;
    turn_end_request(conn);
}

static void request_refuse_dropped(struct conn *conn)
{
    turn_answer(conn)->reply = *conn->dropped;
    turn_end_request(conn);
}

static bool request_advance_body(struct conn *conn)
{
    struct buffer *buffer = &conn->buffer;
    size_t body_len = (size_t)conn->body_len;
    size_t at;

    if (buffer_len(buffer) - conn->head_len < body_len)
        return false;
    at = buffer->start + conn->head_len;
    judge_body(conn, (struct slice){buffer->data + at, body_len}, at + body_len);
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
        request_refuse(conn, &(struct refusal){ERROR_bad_request, chunked->problem});
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
    judge_body(conn, (struct slice){body, chunked->decoded},
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
        conn->dropped->close = true;
        conn->dropped->keep_alive = false;
    }
    request_refuse_dropped(conn);
    return true;
}

/* Reads what the answer is to wait for; most requests do not say. Returns NULL, or what is
 * wrong. */
static const struct refusal *request_find_ack(struct conn *conn, const struct http_request *request,
                                              struct refusal *own)
{
    const struct config *config = config_current(conn->set->parts.shared->config);

    conn->ack = (struct ack){.kind = ADMISSION_ACK_NONE};
    conn->lenient = conn_route(conn)->stream->partial;
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

static void request_find_stream(struct conn *conn, const struct http_request *request)
{
    /* acquire: pairs with the release in front_reload() */
    const struct route_table *table =
        atomic_load_explicit(&conn->set->parts.shared->routes, memory_order_acquire);
    const int stream = route_find(table, request->path);

    conn->stream = stream == ROUTE_NONE ? METRIC_STREAM_NONE : (uint16_t)stream;
    conn->route = stream == ROUTE_NONE ? NULL : &table->routes[stream];
}

/* Judges a well-formed head to conn->stream; sets conn->ack. Returns NULL, or what is wrong. */
static const struct refusal *
request_judge_head(struct conn *conn, const struct http_request *request, struct refusal *own)
{
    const struct refusal *refusal;

    if (conn->stream == METRIC_STREAM_NONE)
        return preflight_is_health(request) ? &refuse_health : &refuse_not_found;
    if (request->method != HTTP_POST && form_of_request(request).len == 0)
        return &refuse_method;
    conn->replayed = request->replay.len > 0 && request->method == HTTP_POST;
    refusal = entry_check(conn, request);
    if (likely(refusal == NULL) && unlikely(conn->replayed))
        refusal = replayed_check(conn, request, own);
    if (unlikely(refusal))
        return refusal;
    if (request->coding == CODING_UNKNOWN)
        return &refuse_encoding;
    conn->coding = request->coding;
    return request_find_ack(conn, request, own);
}

/* The head gives way to the body that is dropped: keeps of its line what people are told. */
static void request_copy_line(struct conn *conn, const struct http_request *request)
{
    const char *method = request->method_text.data;
    size_t len = (size_t)(request->path.data + request->path.len - method);

    if (len > REQUEST_LINE_MAX)
        len = REQUEST_LINE_MAX;
    conn->has_line = false;
    conn->line_copy = malloc(len + 2);
    if (conn->line_copy == NULL)
        return;
    memcpy(conn->line_copy, method, len);
    memcpy(conn->line_copy + len, " ", 2);
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
    conn->dropped = malloc(sizeof(*conn->dropped));
    if (conn->dropped == NULL) {
        request_refuse(conn, refusal);
        return false;
    }
    request_copy_line(conn, request);
    conn->buffer.start += conn->head_len;
    *conn->dropped = *reply;
    conn->dropped->close = !conn->keep_alive;
    conn->dropped->keep_alive = conn->keep_alive && conn->old;
    conn->dropped->head_only = conn->head_only;
    conn->body_len = request->chunked ? 0 : request->content_length;
    conn->chunked = (struct http_chunked){0};
    conn_move(conn, request->chunked ? CONN_DROP_CHUNKED : CONN_DROP);
    return true;
}

/* Takes a whole head. Returns true when the body can be read. */
static bool request_begin_request(struct conn *conn, const struct http_request *request)
{
    const struct config *config = config_current(conn->set->parts.shared->config);
    struct refusal own = {ERROR_bad_request, NULL};
    const struct refusal *refusal;
    struct reply reply;

    conn->head_len = request->head_len;
    conn->keep_alive = request->keep_alive;
    conn->old = request->minor == 0;
    conn->head_only = request->method == HTTP_HEAD;
    conn->has_line = true;
    request_find_stream(conn, request);
    preflight_note_origin(conn, request);
    if (conn->late) {
        request_refuse(conn, &refuse_draining);
        return false;
    }
    if (unlikely(config->trusted_proxies != NULL))
        conn_address_note(conn, config->trusted_proxies, request);
    refusal = request_judge_head(conn, request, &own);
    if (refusal) {
        if (likely(!preflight_answers(conn, request, refusal == &refuse_method, &reply)))
            reply = turn_reply(conn, refusal);
        else
            conn->stream = METRIC_STREAM_NONE; /* which takes nothing by it */
        return request_begin_drop(conn, request, refusal, &reply);
    }
    if (unlikely(request->method != HTTP_POST)) {
        conn_move(conn, CONN_BODY);
        judge_body(conn, form_of_request(request), conn->buffer.start + conn->head_len);
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

/* Names a PROXY header that stands where a request should begin; NULL: there is none. */
static const char *request_proxy_problem(const struct conn *conn)
{
    const struct config *config = config_current(conn->set->parts.shared->config);
    const struct slice text = {conn->buffer.data + conn->buffer.start, buffer_len(&conn->buffer)};

    /* Of version 2 the empty lines at its begin are passed over already. */
    if (!(text.len >= 6 && memcmp(text.data, "PROXY ", 6) == 0) &&
        !(text.len >= 7 && memcmp(text.data, "\0\r\nQUIT", 7) == 0))
        return NULL;
    return config->server_proxy_protocol
               ? "This is a second PROXY header, where a request should begin."
               : "This is a PROXY header, but server.proxy_protocol is off.";
}

static bool request_refuse_head(struct conn *conn, enum error_code error, const char *message)
{
    preflight_note_unread(conn);
    request_refuse(conn, &(struct refusal){error, message});
    return false;
}

/* As http_parse_head(), of the bytes that have arrived. */
static enum http_result request_parse_head(struct conn *conn, struct http_request *request)
{
    const char *head = conn->buffer.data + conn->buffer.start;
    const size_t len = buffer_len(&conn->buffer);
    const bool whole = conn->scanned == 0;
    enum http_result result;

    if (likely(whole && head_memo_find(&conn->set->heads, head, len, request)))
        return HTTP_DONE;
    result = http_parse_head(head, len, &conn->scanned, request);
    if (whole && result == HTTP_DONE)
        head_memo_note(&conn->set->heads, head, len, request);
    return result;
}

static bool request_advance_head(struct conn *conn)
{
    struct buffer *buffer = &conn->buffer;
    size_t head_max = conn->set->head_max;
    struct http_request request;
    const char *problem;

    /* Some clients send an empty line after a body: it does not begin a request. */
    while (conn->scanned == 0 && buffer_len(buffer) >= 2 &&
           memcmp(buffer->data + buffer->start, "\r\n", 2) == 0)
        buffer->start += 2;
    if (buffer_len(buffer) == 0) {
        conn->begun_ns = 0;
        return false;
    }
    /* Nobody has told yet whose the next one is. */
    conn->forwarded = false;
    switch (request_parse_head(conn, &request)) {
    case HTTP_DONE:
        if (request.head_len > head_max)
            break;
        return request_begin_request(conn, &request);
    case HTTP_MORE:
        if (buffer_len(buffer) >= head_max)
            break;
        return false;
    case HTTP_BAD:
        problem = request_proxy_problem(conn);
        return request_refuse_head(conn, ERROR_bad_request,
                                   problem != NULL ? problem : request.problem);
    case HTTP_UNSUPPORTED_VERSION:
        return request_refuse_head(conn, ERROR_unsupported_version, request.problem);
    case HTTP_NOT_IMPLEMENTED:
        return request_refuse_head(conn, ERROR_not_implemented, request.problem);
    }
    return request_refuse_head(conn, ERROR_head_too_large,
                               "The head is larger than server.max_head.");
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
        case CONN_PROXY:
            ALLOY_UNREACHABLE("a request before the greeting");
            break;
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
        case CONN_HANDSHAKE:
            more = false;
            break;
        }
    }
    turn_touch(conn);
}
