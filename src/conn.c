/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn.c - the client connections of one front-end thread.
 *
 * One persistent event a connection; nothing is added, removed or timed for each request. A
 * readable connection reads once, then takes every whole request that is in its buffer. What is to
 * be answered is noted in the set's answers and goes out at the turn's end, one send a connection.
 *
 * A connection with answers noted in this turn neither reads nor moves its buffer, since admission
 * still borrows slices of it; turn_end lifts that. A turn is bounded (answers, bytes, requests of
 * one connection): what does not fit stalls and goes on in the next turn.
 *
 * Time-outs are constant for each kind of waiting, so each kind is a queue in order of its start
 * and only heads of queues are looked at.
 *
 * Runs on: the front-end thread that owns the set.
 * Owns: connections, their sockets and buffers.
 */
#include "alloy/conn.h"

#include <errno.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "alloy/clock.h"
#include "alloy/http_parse.h"
#include "alloy/json_scan.h"
#include "alloy/reply.h"

#define PIPELINE_MAX 64             /* answers to one connection in one turn */
#define TURN_ANSWERS_MAX 4096       /* answers of one turn */
#define TURN_BYTES_MAX (4ul << 20)  /* of bodies in one turn; the last one may exceed it */
#define BLOCK_MIN (16ul << 10)      /* receive block */
#define CHUNKED_ROOM_MIN (4ul << 10) /* worth a read of a chunked body */
#define LINGER_MS 2000
#define LINGER_BYTES_MAX (1ul << 20)
#define LINGER_REFUSED_MAX 64 /* connections over max_connections that are closed gently */
#define BLOCKS_CACHED_MAX 256
#define NO_ANSWER UINT32_MAX

enum conn_state {
    CONN_HEAD,         /* of the next request: waiting for it, or part of it is there */
    CONN_BODY,         /* its length is known */
    CONN_CHUNKED,      /* the same, chunked */
    CONN_DROP,         /* the body of a request that will be refused, length known */
    CONN_DROP_CHUNKED, /* the same, chunked */
    CONN_LINGER,       /* everything is said: reads and drops until the client closes */
};

enum queue_id { QUEUE_IDLE, QUEUE_HEAD, QUEUE_BODY, QUEUE_FLUSH, QUEUE_LINGER, QUEUE_COUNT };

/* An answer that the parser settles alone. */
struct refusal {
    uint16_t status;
    const char *code;
    const char *message;
};

static const struct refusal refuse_not_found = {404, "not_found", "No stream has this path."};
static const struct refusal refuse_method = {405, "method_not_allowed",
                                             "Events are sent with POST."};
static const struct refusal refuse_encoding = {415, "unsupported_encoding",
                                               "The body must not have a Content-Encoding."};
static const struct refusal refuse_ack = {400, "bad_request",
                                          "ack is not supported by this version."};
static const struct refusal refuse_no_length = {411, "length_required",
                                                "The request has no Content-Length."};
static const struct refusal refuse_body = {413, "too_large",
                                           "The body is larger than server.max_body."};
static const struct refusal refuse_events = {
    413, "too_large", "The request holds more events, or a larger one, than can be taken at once."};
static const struct refusal refuse_head = {431, "head_too_large",
                                           "The head is larger than server.max_head."};
static const struct refusal refuse_head_slow = {408, "timeout",
                                                "The head did not arrive in time."};
static const struct refusal refuse_body_slow = {408, "timeout",
                                                "The body did not arrive in time."};
static const struct refusal refuse_memory = {503, "overloaded",
                                             "Too many requests are being received."};
static const struct refusal refuse_connection = {503, "overloaded",
                                                 "There is no room for one more connection."};
static const struct refusal refuse_ring = {503, "overloaded",
                                           "Too many events are waiting to be inserted."};
static const struct refusal refuse_journal_full = {503, "overloaded", "The journal is full."};
static const struct refusal refuse_journal_error = {503, "overloaded",
                                                    "The journal cannot be written."};
static const struct refusal refuse_draining = {503, "draining", "The server is shutting down."};

/* One answer of this turn. */
struct answer {
    struct reply reply;
    enum { ANSWER_READY, ANSWER_ADMISSION, ANSWER_CONTINUE } kind;
    uint32_t next;     /* of the same connection, or NO_ANSWER */
    size_t request;    /* its number in admission */
    uint64_t begun_ns; /* when the request's first byte was read */
};

struct conn {
    struct event event; /* read; write while out is set */
    struct conn_set *set;
    TAILQ_ENTRY(conn) queued; /* in set->queues[queue] */
    uint64_t since_ms;        /* when it entered the queue */
    SLIST_ENTRY(conn) touched_next;
    STAILQ_ENTRY(conn) stalled_next;
    enum conn_state state;
    enum queue_id queue;
    bool touched;   /* in set->touched */
    bool stalled;   /* holds input that the last turn had no room for */
    bool closing;   /* takes no more requests; closed once all is sent */
    bool lingering; /* the close is a lingering one */
    bool refused;   /* over max_connections, and not counted in shared->connections */
    struct buffer buffer;
    /* the request being read */
    bool keep_alive;
    bool old;  /* HTTP/1.0 */
    bool late; /* its first byte came after the drain began */
    uint16_t stream;
    uint64_t begun_ns; /* 0: not one byte of it is there */
    size_t scanned;    /* of its head, by http_parse_head() */
    size_t head_len;
    uint64_t body_len; /* length known: of the body; dropping: still to come or dropped so far */
    struct http_chunked chunked;
    struct reply refusal; /* what a dropped request will be answered */
    /* answers noted in this turn */
    uint32_t first, last;
    uint32_t answer_count;
    /* bytes that the socket did not take */
    char *out;
    size_t out_len, out_sent;
    size_t lingered; /* bytes dropped after the end */
};

TAILQ_HEAD(conn_queue, conn);

struct conn_set {
    struct conn_parts parts;
    /* constant */
    size_t head_max, body_max;
    struct buffer_pool pool;
    struct conn_queue queues[QUEUE_COUNT];
    SLIST_HEAD(, conn) touched; /* to be settled at the turn's end */
    STAILQ_HEAD(, conn) stalled;
    size_t refused_count;
    bool draining;
    /* this turn */
    uint64_t turn_ns; /* when its first callback ran; 0: none yet */
    size_t turn_bytes;
    uint32_t answer_count;
    struct reply_date date;
    struct json_scan scan;
    struct answer answers[TURN_ANSWERS_MAX];
    char scratch[PIPELINE_MAX * REPLY_MAX];
};

static uint64_t turn_ns(struct conn_set *set)
{
    if (set->turn_ns == 0)
        set->turn_ns = clock_mono_ns();
    return set->turn_ns;
}

static void enqueue(struct conn *conn, enum queue_id queue)
{
    struct conn_set *set = conn->set;

    TAILQ_REMOVE(&set->queues[conn->queue], conn, queued);
    conn->queue = queue;
    conn->since_ms = turn_ns(set) / CLOCK_NS_PER_MS;
    TAILQ_INSERT_TAIL(&set->queues[queue], conn, queued);
}

/* Has the connection settled at the turn's end. */
static void touch(struct conn *conn)
{
    if (conn->touched)
        return;
    conn->touched = true;
    SLIST_INSERT_HEAD(&conn->set->touched, conn, touched_next);
}

static void conn_close(struct conn *conn)
{
    struct conn_set *set = conn->set;
    struct conn_shared *shared = set->parts.shared;

    ALLOY_ASSERT(!conn->touched && !conn->stalled);
    TAILQ_REMOVE(&set->queues[conn->queue], conn, queued);
    event_del(&conn->event);
    close(event_get_fd(&conn->event));
    buffer_release(&set->pool, &conn->buffer);
    if (conn->out) {
        free(conn->out);
        buffer_budget_give(&shared->budget, conn->out_len);
    }
    if (conn->refused) {
        set->refused_count--;
    } else {
        atomic_fetch_sub_explicit(&shared->connections, 1, memory_order_relaxed);
        METRIC_GAUGE_ADD(shared->metrics, http_connections, -1);
    }
    free(conn);
}

/* Notes an answer. There is room: turn_is_full() was asked before the request was looked at. */
static struct answer *answer_note(struct conn *conn)
{
    struct conn_set *set = conn->set;
    uint32_t at = set->answer_count++;
    struct answer *answer = &set->answers[at];

    ALLOY_ASSERT(at < TURN_ANSWERS_MAX);
    memset(answer, 0, sizeof(*answer));
    answer->next = NO_ANSWER;
    answer->begun_ns = conn->begun_ns ? conn->begun_ns : turn_ns(set);
    if (conn->answer_count++ == 0)
        conn->first = at;
    else
        set->answers[conn->last].next = at;
    conn->last = at;
    touch(conn);
    return answer;
}

/* Ends the request being read; what follows in the buffer is the next one. */
static void request_end(struct conn *conn, bool keep_alive)
{
    conn->state = CONN_HEAD;
    conn->scanned = 0;
    conn->begun_ns = 0;
    if (!keep_alive)
        conn->closing = true;
    else if (buffer_len(&conn->buffer) > 0)
        conn->begun_ns = turn_ns(conn->set);
}

static struct reply reply_of(const struct conn *conn, const struct refusal *refusal)
{
    return (struct reply){.status = refusal->status,
                          .close = !conn->keep_alive,
                          .keep_alive = conn->keep_alive && conn->old,
                          .code = refusal->code,
                          .message = refusal->message};
}

/* Answers and closes: what the client sends from here on is not looked at. */
static void refuse_and_close(struct conn *conn, const struct refusal *refusal)
{
    struct answer *answer = answer_note(conn);

    conn->keep_alive = false;
    answer->reply = reply_of(conn, refusal);
    answer->reply.head_only = conn->refusal.head_only;
    conn->lingering = true;
    request_end(conn, false);
}

static void refuse_dropped(struct conn *conn)
{
    answer_note(conn)->reply = conn->refusal;
    request_end(conn, conn->keep_alive);
}

static bool turn_is_full(const struct conn *conn)
{
    const struct conn_set *set = conn->set;

    /* A request takes up to two answers: 100 Continue and its own. */
    return conn->answer_count + 2 > PIPELINE_MAX || set->answer_count + 2 > TURN_ANSWERS_MAX ||
           set->turn_bytes >= TURN_BYTES_MAX;
}

static const struct refusal *refusal_of_scan(enum json_scan_result result, struct refusal *out)
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
    }
    ALLOY_ASSERT(!"a scan that found nothing wrong");
    return NULL;
}

/* A whole body: hands its events to admission, or notes what is wrong with it. */
static void judge_body(struct conn *conn, const char *body, size_t len)
{
    struct conn_set *set = conn->set;
    struct admission *admission = set->parts.admission;
    struct json_scan *scan = &set->scan;
    struct answer *answer = answer_note(conn);
    struct json_scan_event event;
    enum json_scan_result result;

    set->turn_bytes += len;
    answer->request = admission_open(admission, conn->stream);
    json_scan_init(scan, &set->parts.shared->routes->routes[conn->stream].fields, body, len);
    while ((result = json_scan_next(scan, &event)) == JSON_SCAN_EVENT)
        admission_event(admission, &event);
    if (result == JSON_SCAN_END) {
        answer->kind = ANSWER_ADMISSION;
        answer->reply = (struct reply){.status = 202,
                                       .close = !conn->keep_alive,
                                       .keep_alive = conn->keep_alive && conn->old};
    } else {
        struct refusal own = {400, NULL, scan->problem};

        admission_drop(admission);
        answer->reply = reply_of(conn, refusal_of_scan(result, &own));
        answer->reply.has_place = result != JSON_SCAN_EMPTY;
        answer->reply.event = scan->index;
        answer->reply.offset = scan->error_offset;
    }
}

static bool advance_body(struct conn *conn)
{
    struct buffer *buffer = &conn->buffer;
    size_t body_len = (size_t)conn->body_len;

    if (buffer_len(buffer) - conn->head_len < body_len)
        return false;
    judge_body(conn, buffer->data + buffer->start + conn->head_len, body_len);
    buffer->start += conn->head_len + body_len;
    request_end(conn, conn->keep_alive);
    return true;
}

static bool advance_chunked(struct conn *conn)
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
        refuse_and_close(conn, &(struct refusal){400, "bad_request", chunked->problem});
        return false;
    }
    if (chunked->decoded > body_max || chunked->remaining > body_max - chunked->decoded) {
        refuse_and_close(conn, &refuse_body);
        return false;
    }
    if (result == HTTP_MORE) {
        buffer->end = (size_t)(body + chunked->decoded - buffer->data);
        return false;
    }
    judge_body(conn, body, chunked->decoded);
    buffer->start = (size_t)(raw + consumed - buffer->data);
    request_end(conn, conn->keep_alive);
    return true;
}

static bool advance_drop(struct conn *conn)
{
    struct buffer *buffer = &conn->buffer;
    size_t len = buffer_len(buffer);

    if (len < conn->body_len) {
        conn->body_len -= len;
        buffer->start = buffer->end;
        return false;
    }
    buffer->start += (size_t)conn->body_len;
    refuse_dropped(conn);
    return true;
}

static bool advance_drop_chunked(struct conn *conn)
{
    struct buffer *buffer = &conn->buffer;
    struct http_chunked *chunked = &conn->chunked;
    size_t consumed = 0;
    enum http_result result = http_chunked_decode(chunked, buffer->data + buffer->start,
                                                  buffer_len(buffer), &consumed);

    conn->body_len += chunked->decoded;
    chunked->decoded = 0;
    buffer->start = result == HTTP_MORE ? buffer->end : buffer->start + consumed;
    if (result == HTTP_MORE && conn->body_len <= conn->set->body_max)
        return false;
    if (result != HTTP_DONE) {
        /* Broken or too long: the connection cannot go on, but the first answer stands. */
        conn->keep_alive = false;
        conn->lingering = true;
        conn->refusal.close = true;
        conn->refusal.keep_alive = false;
    }
    refuse_dropped(conn);
    return true;
}

/* The value of ack is for a later version; other parameters are the client's own business. */
static bool query_has_ack(struct slice query)
{
    while (query.len > 0) {
        const char *end = memchr(query.data, '&', query.len);
        size_t len = end ? (size_t)(end - query.data) : query.len;

        if (len >= 3 && memcmp(query.data, "ack", 3) == 0 && (len == 3 || query.data[3] == '='))
            return true;
        len += end ? 1 : 0;
        query.data += len;
        query.len -= len;
    }
    return false;
}

/* What is wrong with a well-formed request before its body; sets conn->stream. */
static const struct refusal *find_stream(struct conn *conn, const struct http_request *request)
{
    int stream = route_find(conn->set->parts.shared->routes, request->path);

    if (stream == ROUTE_NONE)
        return &refuse_not_found;
    if (request->method != HTTP_POST)
        return &refuse_method;
    if (request->has_encoding)
        return &refuse_encoding;
    if (query_has_ack(request->query))
        return &refuse_ack;
    conn->stream = (uint16_t)stream;
    return NULL;
}

/* Refuses a request that leaves the connection usable: its body is received and dropped first,
 * unless the client waits for our word or the body is longer than any we would take. */
static bool begin_drop(struct conn *conn, const struct http_request *request,
                       const struct refusal *refusal)
{
    bool has_body = request->chunked || request->content_length > 0;

    if (has_body && (request->expect_continue || request->content_length > conn->set->body_max)) {
        refuse_and_close(conn, refusal);
        return false;
    }
    conn->buffer.start += conn->head_len;
    conn->refusal = reply_of(conn, refusal);
    conn->refusal.head_only = request->method == HTTP_HEAD;
    conn->body_len = request->chunked ? 0 : request->content_length;
    conn->chunked = (struct http_chunked){0};
    conn->state = request->chunked ? CONN_DROP_CHUNKED : CONN_DROP;
    return true;
}

/* A whole head. Returns true when the body can be looked at. */
static bool begin_request(struct conn *conn, const struct http_request *request)
{
    const struct refusal *refusal;

    conn->head_len = request->head_len;
    conn->keep_alive = request->keep_alive;
    conn->old = request->minor == 0;
    conn->refusal.head_only = request->method == HTTP_HEAD;
    if (conn->late) {
        refuse_and_close(conn, &refuse_draining);
        return false;
    }
    refusal = find_stream(conn, request);
    if (refusal)
        return begin_drop(conn, request, refusal);
    if (!request->has_length && !request->chunked) {
        refuse_and_close(conn, &refuse_no_length);
        return false;
    }
    if (!request->chunked && request->content_length > conn->set->body_max) {
        refuse_and_close(conn, &refuse_body);
        return false;
    }
    if (request->expect_continue && !conn->old && buffer_len(&conn->buffer) == conn->head_len &&
        (request->chunked || request->content_length > 0))
        answer_note(conn)->kind = ANSWER_CONTINUE;
    conn->body_len = request->content_length;
    conn->chunked = (struct http_chunked){0};
    conn->state = request->chunked ? CONN_CHUNKED : CONN_BODY;
    return true;
}

static bool advance_head(struct conn *conn)
{
    struct buffer *buffer = &conn->buffer;
    size_t head_max = conn->set->head_max;
    struct http_request request;

    /* An empty line after a body, as some clients send it, does not begin a request. */
    while (conn->scanned == 0 && buffer_len(buffer) >= 2 &&
           memcmp(buffer->data + buffer->start, "\r\n", 2) == 0)
        buffer->start += 2;
    if (buffer_len(buffer) == 0) {
        conn->begun_ns = 0;
        return false;
    }
    conn->refusal.head_only = false;
    switch (http_parse_head(buffer->data + buffer->start, buffer_len(buffer), &conn->scanned,
                            &request)) {
    case HTTP_DONE:
        if (request.head_len > head_max)
            break;
        return begin_request(conn, &request);
    case HTTP_MORE:
        if (buffer_len(buffer) >= head_max)
            break;
        return false;
    case HTTP_BAD:
        refuse_and_close(conn, &(struct refusal){400, "bad_request", request.problem});
        return false;
    case HTTP_UNSUPPORTED_VERSION:
        refuse_and_close(conn, &(struct refusal){505, "unsupported_version", request.problem});
        return false;
    case HTTP_NOT_IMPLEMENTED:
        refuse_and_close(conn, &(struct refusal){501, "not_implemented", request.problem});
        return false;
    }
    refuse_and_close(conn, &refuse_head);
    return false;
}

/* Takes what the buffer holds as far as it goes and the turn has room. */
static void advance(struct conn *conn)
{
    bool more = true;

    while (more && !conn->closing) {
        if (turn_is_full(conn)) {
            /* A body can be whole with nothing behind it, so this is no matter of bytes left. */
            conn->stalled = true;
            break;
        }
        switch (conn->state) {
        case CONN_HEAD:
            more = advance_head(conn);
            break;
        case CONN_BODY:
            more = advance_body(conn);
            break;
        case CONN_CHUNKED:
            more = advance_chunked(conn);
            break;
        case CONN_DROP:
            more = advance_drop(conn);
            break;
        case CONN_DROP_CHUNKED:
            more = advance_drop_chunked(conn);
            break;
        case CONN_LINGER:
            more = false;
            break;
        }
    }
    touch(conn);
}

/* Makes room for a read. Nothing of the buffer is borrowed: the connection has no answer noted. */
static bool make_room(struct conn *conn)
{
    struct conn_set *set = conn->set;
    struct buffer *buffer = &conn->buffer;
    size_t want = set->head_max;
    size_t room_max;

    if (!buffer->data)
        return buffer_take(&set->pool, buffer);
    switch (conn->state) {
    case CONN_BODY:
        want = conn->head_len + (size_t)conn->body_len;
        break;
    case CONN_CHUNKED:
        room_max = conn->head_len + set->body_max + set->pool.block_bytes;
        if (buffer->size - buffer->end >= CHUNKED_ROOM_MIN)
            return true;
        want = buffer_len(buffer) + CHUNKED_ROOM_MIN;
        if (want > buffer->size)
            want = buffer->size * 2 < room_max ? buffer->size * 2 : room_max;
        break;
    case CONN_HEAD:
    case CONN_DROP:
    case CONN_DROP_CHUNKED:
    case CONN_LINGER:
        break;
    }
    if (buffer->start + want <= buffer->size)
        return true;
    if (want > buffer->size)
        return buffer_grow(&set->pool, buffer, want);
    buffer_compact(buffer);
    return true;
}

static void linger_read(struct conn *conn)
{
    struct conn_set *set = conn->set;
    ssize_t n = read(event_get_fd(&conn->event), set->scratch, sizeof(set->scratch));

    if (n > 0) {
        conn->lingered += (size_t)n;
        if (conn->lingered <= LINGER_BYTES_MAX)
            return;
    } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    conn_close(conn);
}

static void read_some(struct conn *conn)
{
    struct conn_set *set = conn->set;
    struct buffer *buffer = &conn->buffer;
    ssize_t n;

    if (!make_room(conn)) {
        refuse_and_close(conn, &refuse_memory);
        return;
    }
    n = read(event_get_fd(&conn->event), buffer->data + buffer->end, buffer->size - buffer->end);
    if (n > 0) {
        buffer->end += (size_t)n;
        if (conn->begun_ns == 0) {
            conn->begun_ns = turn_ns(set);
            conn->late = set->draining;
        }
        advance(conn);
    } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        if (buffer_len(buffer) == 0)
            buffer_release(&set->pool, buffer);
    } else {
        conn_close(conn);
    }
}

static void conn_event(evutil_socket_t fd, short what, void *arg);

/* Sends the rest of out. False: the connection is dead. */
static bool flush(struct conn *conn)
{
    struct conn_set *set = conn->set;
    int fd = event_get_fd(&conn->event);
    ssize_t n = send(fd, conn->out + conn->out_sent, conn->out_len - conn->out_sent, MSG_NOSIGNAL);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n > 0)
        enqueue(conn, QUEUE_FLUSH);
    conn->out_sent += (size_t)n;
    if (conn->out_sent < conn->out_len)
        return true;
    free(conn->out);
    conn->out = NULL;
    buffer_budget_give(&set->parts.shared->budget, conn->out_len);
    event_del(&conn->event);
    event_assign(&conn->event, set->parts.base, fd, EV_READ | EV_PERSIST, conn_event, conn);
    return event_add(&conn->event, NULL) == 0;
}

/* Keeps what the socket did not take; the connection reads no more until that is gone. */
static bool keep_rest(struct conn *conn, const char *rest, size_t len)
{
    struct conn_set *set = conn->set;
    int fd = event_get_fd(&conn->event);

    if (!buffer_budget_take(&set->parts.shared->budget, len))
        return false;
    conn->out = malloc(len);
    if (!conn->out) {
        buffer_budget_give(&set->parts.shared->budget, len);
        return false;
    }
    memcpy(conn->out, rest, len);
    conn->out_len = len;
    conn->out_sent = 0;
    event_del(&conn->event);
    event_assign(&conn->event, set->parts.base, fd, EV_WRITE | EV_PERSIST, conn_event, conn);
    return event_add(&conn->event, NULL) == 0;
}

/* False: the connection is dead. */
static bool send_or_keep(struct conn *conn, const char *data, size_t len)
{
    ssize_t n = send(event_get_fd(&conn->event), data, len, MSG_NOSIGNAL);

    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            return false;
        n = 0;
    }
    return (size_t)n == len || keep_rest(conn, data + n, len - (size_t)n);
}

/* Closes; gently where unread input would make the kernel reset the answer away. */
static void finish(struct conn *conn)
{
    if (!conn->lingering && buffer_len(&conn->buffer) == 0) {
        conn_close(conn);
        return;
    }
    buffer_release(&conn->set->pool, &conn->buffer);
    shutdown(event_get_fd(&conn->event), SHUT_WR);
    conn->state = CONN_LINGER;
    enqueue(conn, QUEUE_LINGER);
}

/* Decides what the connection waits for now that its answers are on their way. */
static void settle(struct conn *conn, bool answered)
{
    struct conn_set *set = conn->set;
    bool empty = buffer_len(&conn->buffer) == 0;
    enum queue_id queue = QUEUE_BODY;

    if (conn->out) {
        if (conn->queue != QUEUE_FLUSH)
            enqueue(conn, QUEUE_FLUSH);
        return;
    }
    if (conn->closing || (set->draining && conn->state == CONN_HEAD && empty)) {
        conn->stalled = false;
        finish(conn);
        return;
    }
    if (conn->stalled)
        STAILQ_INSERT_TAIL(&set->stalled, conn, stalled_next);
    if (empty)
        buffer_release(&set->pool, &conn->buffer);
    if (conn->state == CONN_HEAD)
        queue = conn->begun_ns == 0 || conn->stalled ? QUEUE_IDLE : QUEUE_HEAD;
    if (answered || conn->queue != queue)
        enqueue(conn, queue);
}

static const struct refusal *refusal_of_verdict(enum admission_verdict verdict)
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
    }
    ALLOY_ASSERT(!"an unknown verdict");
    return NULL;
}

/* Writes one answer to out and counts it; returns its length. */
static size_t write_answer(struct conn *conn, struct answer *answer, uint64_t now_ns, char *out)
{
    struct conn_set *set = conn->set;
    struct metrics_thread *metrics = set->parts.metrics;
    struct reply *reply = &answer->reply;

    if (answer->kind == ANSWER_CONTINUE) {
        memcpy(out, REPLY_CONTINUE, sizeof(REPLY_CONTINUE) - 1);
        return sizeof(REPLY_CONTINUE) - 1;
    }
    if (answer->kind == ANSWER_ADMISSION) {
        struct admission_result result = admission_result(set->parts.admission, answer->request);
        const struct refusal *refusal = refusal_of_verdict(result.verdict);

        reply->accepted = result.accepted;
        reply->duplicates = result.duplicates;
        if (refusal) {
            reply->status = refusal->status;
            reply->code = refusal->code;
            reply->message = refusal->message;
        }
    }
    /* The last answer before a drain closes the connection; nothing more may begin behind it. */
    if (set->draining && answer->next == NO_ANSWER && conn->state == CONN_HEAD &&
        buffer_len(&conn->buffer) == 0) {
        reply->close = true;
        conn->closing = true;
    }
    metrics_add(&metrics->http_codes[reply->status], 1);
    METRIC_OBSERVE_NS(metrics, http_request, now_ns - answer->begun_ns);
    return reply_write(reply, &set->date, out);
}

/* Sends the answers noted in this turn, in order, and settles the connection. */
static void send_answers(struct conn *conn, uint64_t now_ns)
{
    struct conn_set *set = conn->set;
    bool answered = conn->answer_count > 0;
    size_t len = 0;
    uint32_t at = answered ? conn->first : NO_ANSWER;

    while (at != NO_ANSWER) {
        struct answer *answer = &set->answers[at];

        len += write_answer(conn, answer, now_ns, set->scratch + len);
        at = answer->next;
    }
    conn->answer_count = 0;
    if (answered && !send_or_keep(conn, set->scratch, len)) {
        conn->stalled = false;
        conn_close(conn);
        return;
    }
    settle(conn, answered);
}

static void conn_event(evutil_socket_t fd, short what, void *arg)
{
    struct conn *conn = arg;

    (void)fd;
    (void)what;
    if (conn->out) {
        if (!flush(conn)) {
            conn->stalled = false;
            conn_close(conn);
        } else if (!conn->out) {
            settle(conn, true);
        }
        return;
    }
    /* Goes on with what it has first; the socket stays readable. */
    if (conn->touched || conn->stalled)
        return;
    if (conn->state == CONN_LINGER)
        linger_read(conn);
    else
        read_some(conn);
}

/* Says 503 to a connection that has no place and closes it, gently unless there are many. */
static void refuse_accepted(struct conn *conn)
{
    struct conn_set *set = conn->set;
    struct reply reply = reply_of(conn, &refuse_connection);
    size_t len;

    reply_date_update(&set->date, clock_real_ms());
    len = reply_write(&reply, &set->date, set->scratch);
    metrics_add(&set->parts.metrics->http_codes[reply.status], 1);
    conn->lingering = set->refused_count <= LINGER_REFUSED_MAX;
    /* A new socket's send buffer is empty; where even that fails there is nobody to tell. */
    if (send(event_get_fd(&conn->event), set->scratch, len, MSG_NOSIGNAL) != (ssize_t)len)
        conn->lingering = false;
    finish(conn);
}

void conn_accept(struct conn_set *set, int fd)
{
    struct conn_shared *shared = set->parts.shared;
    struct conn *conn = calloc(1, sizeof(*conn));

    if (!conn) {
        close(fd);
        return;
    }
    conn->set = set;
    conn->queue = QUEUE_IDLE;
    conn->since_ms = turn_ns(set) / CLOCK_NS_PER_MS;
    TAILQ_INSERT_TAIL(&set->queues[QUEUE_IDLE], conn, queued);
    if (atomic_fetch_add_explicit(&shared->connections, 1, memory_order_relaxed) >=
        shared->connections_max) {
        atomic_fetch_sub_explicit(&shared->connections, 1, memory_order_relaxed);
        conn->refused = true;
        set->refused_count++;
    } else {
        METRIC_GAUGE_ADD(shared->metrics, http_connections, 1);
    }
    event_assign(&conn->event, set->parts.base, fd, EV_READ | EV_PERSIST, conn_event, conn);
    if (event_add(&conn->event, NULL) != 0)
        conn_close(conn);
    else if (conn->refused)
        refuse_accepted(conn);
}

bool conn_turn_begin(struct conn_set *set)
{
    STAILQ_HEAD(, conn) stalled = STAILQ_HEAD_INITIALIZER(stalled);
    struct conn *conn;

    STAILQ_CONCAT(&stalled, &set->stalled);
    while ((conn = STAILQ_FIRST(&stalled))) {
        STAILQ_REMOVE_HEAD(&stalled, stalled_next);
        conn->stalled = false;
        advance(conn);
    }
    return !SLIST_EMPTY(&set->touched);
}

void conn_turn_end(struct conn_set *set)
{
    struct admission *admission = set->parts.admission;
    uint64_t now_ns;
    struct conn *conn;

    if (!SLIST_EMPTY(&set->touched)) {
        uint64_t real_ms = clock_real_ms();

        if (admission_pending(admission) > 0)
            admission_commit(admission, turn_ns(set) / CLOCK_NS_PER_MS, real_ms);
        reply_date_update(&set->date, real_ms);
        now_ns = clock_mono_ns();
        while ((conn = SLIST_FIRST(&set->touched))) {
            SLIST_REMOVE_HEAD(&set->touched, touched_next);
            conn->touched = false;
            send_answers(conn, now_ns);
        }
        admission_reset(admission);
    }
    set->answer_count = 0;
    set->turn_bytes = 0;
    set->turn_ns = 0;
}

/* A time-out has passed. */
static void expire(struct conn *conn)
{
    switch (conn->queue) {
    case QUEUE_HEAD:
    case QUEUE_BODY:
        refuse_and_close(conn, conn->queue == QUEUE_HEAD ? &refuse_head_slow : &refuse_body_slow);
        return;
    case QUEUE_IDLE:
    case QUEUE_FLUSH:
    case QUEUE_LINGER:
    case QUEUE_COUNT:
        conn->stalled = false;
        conn_close(conn);
        return;
    }
}

void conn_expire(struct conn_set *set)
{
    const struct config *config = config_current(set->parts.shared->config);
    const uint64_t timeouts[QUEUE_COUNT] = {
        [QUEUE_IDLE] = config->server_idle_timeout_ms, [QUEUE_HEAD] = config->server_head_timeout_ms,
        [QUEUE_BODY] = config->server_body_timeout_ms, [QUEUE_FLUSH] = config->server_idle_timeout_ms,
        [QUEUE_LINGER] = LINGER_MS,
    };
    uint64_t now_ms = turn_ns(set) / CLOCK_NS_PER_MS;

    for (int i = 0; i < QUEUE_COUNT; i++) {
        struct conn *conn, *next;

        TAILQ_FOREACH_SAFE (conn, &set->queues[i], queued, next) {
            if (now_ms - conn->since_ms < timeouts[i])
                break;
            /* The rest waits for the next look. */
            if (turn_is_full(conn))
                break;
            /* What the last turn had no room for is not the client's fault. */
            if (conn->stalled && !conn->out)
                continue;
            expire(conn);
        }
    }
    conn_turn_end(set);
}

void conn_drain(struct conn_set *set)
{
    struct conn *conn, *next;

    if (set->draining)
        return;
    /* What has already arrived began before the drain: one look at each idle socket. */
    TAILQ_FOREACH_SAFE (conn, &set->queues[QUEUE_IDLE], queued, next) {
        if (!conn->touched && !conn->stalled)
            read_some(conn);
        if (turn_is_full_for_drain(set))
            break;
    }
    set->draining = true;
}
