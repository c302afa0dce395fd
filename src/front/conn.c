/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn.c - the client connections of one front-end thread.
 *
 * Each connection has one persistent event; no request adds, removes or times one. A readable
 * connection reads once, then takes every whole request in its buffer. It notes its answers in the
 * set, and they go out at the turn's end, with one send for each connection.
 *
 * A connection with answers noted in this turn neither reads nor moves its buffer until the turn
 * ends, since admission still borrows slices of it. A turn is bounded (answers, bytes, requests of
 * one connection), so that one client cannot hold up the others: what does not fit stalls until the
 * next turn.
 *
 * All time-outs of one kind are equally long, so each kind is a queue in order of start, and we
 * look only at its head.
 *
 * Runs on: the front-end thread that owns the set.
 * Owns: connections, their sockets and buffers.
 */
#include "conn_private.h"
#include "alloy/heap.h"
#include "alloy/kill_point.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#define READ_MAX (256ul << 10) /* in one read: fresh memory costs a page fault for each page */
#define LINGER_IDLE_MS 5000    /* without a byte from the client */
#define LINGER_MAX_MS 30000    /* however much it sends */
#define LINGER_DRAIN_MS 2000   /* both of these, once we leave */
#define TRIM_MS 1000           /* between two looks for blocks that nobody needs */
#define PAUSE_MS 500           /* less than any Retry-After: who heeds it does not notice */
#define HANDSHAKE_TURN_NS (2 * CLOCK_NS_PER_MS) /* for TLS handshakes; the last may exceed it */

_Static_assert(REPLY_REJECTED_MAX <= CONN_PIPELINE_MAX * REPLY_MAX, "a 422 fits into scratch");

static const struct refusal refuse_head_slow = {ERROR_timeout, "The head did not arrive in time."};
static const struct refusal refuse_body_slow = {ERROR_timeout, "The body did not arrive in time."};
static const struct refusal refuse_plain = {
    ERROR_bad_request, "This port speaks TLS: send the request to https and not to http."};
static const struct refusal refuse_memory = {ERROR_overloaded,
                                             "Too many requests are being received."};
static const struct refusal refuse_connection = {ERROR_overloaded,
                                                 "There is no room for one more connection."};

/* Its bytes that OpenSSL holds are read in the next turn, whether its socket tells or not. */
static void conn_list_unread(struct conn *conn)
{
    conn->reading = true;
    TAILQ_INSERT_TAIL(&conn->set->unread, conn, unread_next);
}

static void conn_unlist_unread(struct conn *conn)
{
    if (likely(!conn->reading))
        return;
    conn->reading = false;
    TAILQ_REMOVE(&conn->set->unread, conn, unread_next);
}

void conn_close(struct conn *conn)
{
    struct conn_set *set = conn->set;
    struct conn_shared *shared = set->parts.shared;

    ALLOY_ASSERT(!conn->touched && !conn->stalled);
    conn_wait_drop(conn);
    judge_drop_errors(conn);
    preflight_forget(conn);
    free(conn->line_copy);
    free(conn->dropped);
    TAILQ_REMOVE(&set->queues[conn->queue], conn, queued);
    conn_unlist_unread(conn);
    conn_io_finish(conn);
    event_del(&conn->event);
    close(event_get_fd(&conn->event));
    buffer_release(&set->pool, &conn->buffer);
    if (conn->out) {
        free(conn->out);
        buffer_budget_give(&shared->budget, conn->out_len);
    }
    if (conn->refused) {
        atomic_fetch_sub_explicit(&shared->refused, 1, memory_order_relaxed);
    } else {
        if (!conn->spare)
            atomic_fetch_sub_explicit(&shared->connections, 1, memory_order_relaxed);
        if (conn->elder)
            atomic_fetch_sub_explicit(&shared->elders, 1, memory_order_relaxed);
        METRIC_GAUGE_ADD(shared->metrics, http_connections, -1);
        set->open_count--;
    }
    free(conn);
}

/* Drops what the client still sends. If we closed now, the kernel would answer its bytes with a
 * reset, and a client that sends its whole request before it reads would never see our answer. */
static void conn_linger_read(struct conn *conn)
{
    struct conn_set *set = conn->set;
    uint64_t max_ms = set->leaving ? LINGER_DRAIN_MS : LINGER_MAX_MS;
    ssize_t n = read(event_get_fd(&conn->event), set->scratch, sizeof(set->scratch));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        turn_enqueue(conn, QUEUE_LINGER);
    if (n <= 0 || conn->since_ms - conn->linger_begun_ms >= max_ms)
        conn_close(conn);
}

static void conn_event(evutil_socket_t fd, short what, void *arg);

static bool conn_watch_fd(struct conn *conn, int fd, short what)
{
    event_assign(&conn->event, conn->set->parts.base, fd, (short)(what | EV_PERSIST), conn_event,
                 conn);
    return event_add(&conn->event, NULL) == 0;
}

bool conn_watch_first(struct conn *conn, int fd)
{
    return conn_watch_fd(conn, fd, EV_READ);
}

/* Watches the socket for other events from now on. False: that failed, and nothing is watched. */
static bool conn_watch(struct conn *conn, short what)
{
    const int fd = event_get_fd(&conn->event);

    event_del(&conn->event);
    return conn_watch_fd(conn, fd, what);
}

/* Watches the socket for what OpenSSL waits for. False as above. */
static bool conn_watch_tls(struct conn *conn)
{
    const short what = conn->wants_write ? EV_WRITE : EV_READ;

    return likely((event_get_events(&conn->event) & what) != 0) || conn_watch(conn, what);
}

/* What a connection does before its first request, and before any byte of it is read. */
static void conn_enter(struct conn *conn)
{
    if (likely(!conn->speaks_tls))
        return;
    conn_move(conn, CONN_HANDSHAKE);
    turn_enqueue(conn, QUEUE_HANDSHAKE);
}

/* Reads what comes before HTTP. False: there is nothing to read behind it yet, and *result says
 * what happened. */
static bool conn_read_greeting(struct conn *conn, enum read_result *result)
{
    *result = READ_NOTHING;
    switch (greeting_read(conn)) {
    case GREETING_MORE:
        return false;
    case GREETING_OVER:
        conn_enter(conn);
        if (likely(conn->state == CONN_HEAD))
            return true;
        /* The handshake's bytes, which we have left in the socket, make its event fire again. */
        buffer_release(&conn->set->pool, &conn->buffer);
        return false;
    case GREETING_GONE:
        conn_close(conn);
        break;
    case GREETING_REFUSED:
        break;
    }
    *result = READ_SOME;
    return false;
}

enum read_result conn_read_some(struct conn *conn)
{
    struct conn_set *set = conn->set;
    struct buffer *buffer = &conn->buffer;
    enum read_result result;
    size_t room;
    ssize_t n;

    if (conn_turn_is_full(conn))
        return READ_NOTHING;
    if (unlikely(conn->state == CONN_PROXY) && !conn_read_greeting(conn, &result))
        return result;
    if (!conn_room_make(conn)) {
        request_refuse(conn, &refuse_memory);
        return READ_SOME;
    }
    room = buffer->size - buffer->end;
    n = conn_io_read(conn, buffer->data + buffer->end, room < READ_MAX ? room : READ_MAX);
    if (unlikely(conn->tls != NULL) && !conn_watch_tls(conn)) {
        errno = ENOMEM;
        n = -1;
    }
    if (n > 0) {
        buffer->end += (size_t)n;
        if (conn->begun_ns == 0) {
            conn->begun_ns = conn_turn_ns(set);
            conn->late = set->draining;
        }
        request_advance(conn);
        return READ_SOME;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        if (buffer_len(buffer) == 0)
            buffer_release(&set->pool, buffer);
        return READ_NOTHING;
    }
    conn_close(conn);
    return READ_SOME;
}

/* Sends the rest of out. False: the connection is dead. */
static bool conn_flush(struct conn *conn)
{
    struct conn_set *set = conn->set;
    ssize_t n = conn_io_send(conn, conn->out + conn->out_sent, conn->out_len - conn->out_sent);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n > 0)
        turn_enqueue(conn, QUEUE_FLUSH);
    conn->out_sent += (uint32_t)n;
    if (conn->out_sent < conn->out_len)
        return true;
    free(conn->out);
    conn->out = NULL;
    buffer_budget_give(&set->parts.shared->budget, conn->out_len);
    return conn_watch(conn, EV_READ);
}

/* Keeps what the socket did not take; the connection does not read until that is sent. */
static bool conn_keep_rest(struct conn *conn, const char *rest, size_t len)
{
    struct conn_set *set = conn->set;

    if (!buffer_budget_take(&set->parts.shared->budget, len))
        return false;
    conn->out = malloc(len);
    if (!conn->out) {
        buffer_budget_give(&set->parts.shared->budget, len);
        return false;
    }
    memcpy(conn->out, rest, len);
    conn->out_len = (uint32_t)len;
    conn->out_sent = 0;
    return conn_watch(conn, EV_WRITE);
}

/* False: the connection is dead. */
static bool conn_send_or_keep(struct conn *conn, const char *data, size_t len)
{
    ssize_t n = conn_io_send(conn, data, len);

    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            return false;
        n = 0;
    }
    return (size_t)n == len || conn_keep_rest(conn, data + n, len - (size_t)n);
}

/* Closes; with a lingering close when unread input would make the kernel send a reset, which
 * destroys our answer on its way. */
static void conn_finish(struct conn *conn)
{
    if (!conn->lingering && buffer_len(&conn->buffer) == 0 && !conn->unread &&
        !(conn->set->leaving && conn_io_has_more(conn))) {
        conn_close(conn);
        return;
    }
    buffer_release(&conn->set->pool, &conn->buffer);
    conn_io_finish(conn);
    shutdown(event_get_fd(&conn->event), SHUT_WR);
    conn_move(conn, CONN_LINGER);
    turn_enqueue(conn, QUEUE_LINGER);
    conn->linger_begun_ms = conn->since_ms;
}

/* Reads nothing from the connection for a while; what it has sent stays in the socket. */
static void conn_pause(struct conn *conn)
{
    conn->throttled = false;
    conn->stalled = false;
    event_del(&conn->event);
    if (buffer_len(&conn->buffer) == 0)
        buffer_release(&conn->set->pool, &conn->buffer);
    turn_enqueue(conn, QUEUE_PAUSE);
}

/* The connection's answers are on their way: decides what it waits for next. */
static void conn_settle(struct conn *conn, bool answered)
{
    struct conn_set *set = conn->set;
    bool empty = buffer_len(&conn->buffer) == 0;
    enum queue_id queue = QUEUE_BODY;

    conn_unlist_unread(conn);
    if (conn->out) {
        if (conn->queue != QUEUE_FLUSH)
            turn_enqueue(conn, QUEUE_FLUSH);
        return;
    }
    if (unlikely(conn->waiter != NULL)) {
        conn_wait_settle(conn);
        return;
    }
    if (unlikely(conn->state == CONN_LARGE)) {
        conn->stalled = true;
        STAILQ_INSERT_TAIL(&set->large, conn, stalled_next);
        if (conn->queue != QUEUE_BODY)
            turn_enqueue(conn, QUEUE_BODY);
        return;
    }
    if (set->draining && conn->state == CONN_HEAD && empty)
        conn_move(conn, CONN_CLOSING);
    if (conn->state == CONN_CLOSING) {
        conn->stalled = false;
        conn_finish(conn);
        return;
    }
    if (unlikely(conn->throttled) && conn->state == CONN_HEAD) {
        conn_pause(conn);
        return;
    }
    if (conn->stalled)
        STAILQ_INSERT_TAIL(&set->stalled, conn, stalled_next);
    else if (unlikely(conn->unread))
        conn_list_unread(conn);
    if (empty)
        buffer_release(&set->pool, &conn->buffer);
    if (conn->state == CONN_HEAD)
        queue = conn->begun_ns == 0 || conn->stalled ? QUEUE_IDLE : QUEUE_HEAD;
    if (answered || conn->queue != queue)
        turn_enqueue(conn, queue);
    if (answered)
        conn_note_active(conn);
}

/* True while no request is being read. */
static bool conn_is_between(const struct conn *conn)
{
    return conn->state == CONN_HEAD || conn->state == CONN_HELD || conn->state == CONN_TOLD;
}

/* Ends the waiting of a request and puts the result into its reply. */
static void conn_end_waiting(struct conn *conn, struct reply *reply)
{
    conn_wait_resolve(conn, reply);
    if (conn->edge && !conn_watch(conn, EV_READ))
        conn->keep_alive = false;
    conn->edge = false;
}

/* Writes one answer to out and counts it; returns its length, 0 when it has to wait. */
static size_t conn_write_answer(struct conn *conn, struct answer *answer, uint64_t now_ns,
                                char *out)
{
    struct conn_set *set = conn->set;
    struct reply *reply = &answer->reply;
    bool last = set->leaving;
    size_t len;

    if (answer->kind == ANSWER_CONTINUE) {
        memcpy(out, REPLY_CONTINUE, sizeof(REPLY_CONTINUE) - 1);
        return sizeof(REPLY_CONTINUE) - 1;
    }
    if (answer->kind == ANSWER_ADMISSION || unlikely(answer->kind == ANSWER_LARGE)) {
        struct admission_result result =
            likely(answer->kind == ANSWER_ADMISSION)
                ? admission_result(set->parts.admission, answer->request)
                : set->large_result;
        const struct refusal *refusal = turn_refusal(result.verdict);

        reply->accepted = result.accepted;
        reply->duplicates = result.duplicates;
        if (unlikely(result.waiter != NULL)) {
            conn_wait_begin(conn, answer, result.waiter);
            return 0;
        }
        last |= result.verdict == ADMISSION_DRAINING;
        if (refusal) {
            set->window_shed |= result.verdict == ADMISSION_RING_FULL;
            reply->status = error_code_status(refusal->error);
            reply->error = refusal->error;
            reply->message = refusal->message;
            reply->retry_s = turn_retry_s(conn, refusal->error);
            reply->answer = NULL;
            if (unlikely(answer->metered_events > 0))
                entry_give(conn, answer, result.verdict == ADMISSION_TOO_LARGE);
        }
    }
    if (unlikely(answer->kind == ANSWER_WAITED))
        conn_end_waiting(conn, reply);
    /* When we leave, the last answer closes the connection: no request may begin behind it. One
     * that has come already is answered first, as long as there is time for it. */
    if (last && answer->next == CONN_NO_ANSWER && conn_is_between(conn) &&
        buffer_len(&conn->buffer) == 0 && (set->draining || !conn_io_has_more(conn))) {
        reply->close = true;
        conn->keep_alive = false;
        if (conn->state == CONN_HEAD)
            conn_move(conn, CONN_CLOSING);
    }
    account_answer(conn, answer, now_ns);
    /* Of the long answers, a 422, one with errors and a preflight's, only the last one of a turn
     * can be one. */
    len = reply_write(reply, &set->date, out);
    if (unlikely(reply->error != ERROR_NONE || reply->errors != NULL))
        judge_forget(conn, answer);
    if (unlikely(answer->kind == ANSWER_WAITED))
        conn_wait_drop(conn);
    return len;
}

/* Sends the answers noted in this turn, in order, and decides what the connection does next. */
static void conn_send_answers(struct conn *conn, uint64_t now_ns)
{
    struct conn_set *set = conn->set;
    bool answered = conn->answer_count > 0;
    size_t len = 0;
    uint32_t at = answered ? conn->first : CONN_NO_ANSWER;

    while (at != CONN_NO_ANSWER) {
        struct answer *answer = &set->answers[at];

        len += conn_write_answer(conn, answer, now_ns, set->scratch + len);
        at = answer->next;
    }
    conn->answer_count = 0;
    /* The request that might wait has its answer: what is behind it follows in the next turn. */
    if (unlikely(conn->state == CONN_HELD || (conn->state == CONN_TOLD && !conn->waiter))) {
        preflight_forget(conn);
        turn_leave_request(conn);
        conn->stalled = conn->state == CONN_HEAD && buffer_len(&conn->buffer) > 0;
    }
    if (len > 0 && !conn_send_or_keep(conn, set->scratch, len)) {
        conn->stalled = false;
        conn_close(conn);
        return;
    }
    conn_settle(conn, answered);
}

/* Something happened on the socket of a waiting connection. Once more bytes or the end of input are
 * there, we watch it only for a reset: a level-triggered event would fire without end. */
static void conn_wait_event(struct conn *conn)
{
    if (!conn_wait_client_lives(conn)) {
        conn_close(conn);
    } else if (!conn->edge) {
        conn->edge = true;
        if (!conn_watch(conn, EV_READ | EV_ET))
            conn_close(conn);
    }
}

/* Goes on with a TLS handshake, where this turn has time for it: they take up to milliseconds of
 * CPU, and many clients that come at once must not hold up those that are there. */
static void conn_handshake(struct conn *conn)
{
    struct conn_set *set = conn->set;
    enum conn_io_result result;
    uint64_t begun_ns;

    /* The socket stays as it is, so the next turn goes on. */
    if (set->handshake_ns >= HANDSHAKE_TURN_NS || conn_turn_is_full(conn))
        return;
    begun_ns = clock_mono_ns();
    result = conn_io_handshake(conn);
    set->handshake_ns += clock_mono_ns() - begun_ns;
    switch (result) {
    case CONN_IO_DONE:
        conn_move(conn, CONN_HEAD);
        turn_enqueue(conn, QUEUE_IDLE);
        if (!conn_watch_tls(conn))
            conn_close(conn);
        else if (conn->unread)
            (void)conn_read_some(conn);
        return;
    case CONN_IO_AGAIN:
        if (!conn_watch_tls(conn))
            conn_close(conn);
        return;
    case CONN_IO_PLAIN:
        request_refuse(conn, &refuse_plain);
        return;
    case CONN_IO_FAILED:
        /* What the client goes on to send must not take away the alert that tells it why. */
        conn_move(conn, CONN_CLOSING);
        conn->lingering = true;
        conn_finish(conn);
        return;
    case CONN_IO_GONE:
        conn_close(conn);
        return;
    }
}

static void conn_event(evutil_socket_t fd, short what, void *arg)
{
    struct conn *conn = arg;

    (void)fd;
    (void)what;
    if (conn->out) {
        if (!conn_flush(conn)) {
            conn->stalled = false;
            conn_close(conn);
        } else if (!conn->out) {
            conn_settle(conn, true);
        }
        return;
    }
    /* First what it already has; the socket stays readable. */
    if (conn->touched || conn->stalled)
        return;
    if (unlikely(conn->waiter != NULL)) {
        conn_wait_event(conn);
        return;
    }
    if (conn->state == CONN_LINGER)
        conn_linger_read(conn);
    else if (unlikely(conn->state == CONN_HANDSHAKE))
        conn_handshake(conn);
    else
        conn_read_some(conn);
}

/* Answers 503 on a connection that has no place and closes it, with a lingering close unless there
 * are many. */
static void conn_refuse_accepted(struct conn *conn)
{
    struct conn_set *set = conn->set;
    const struct conn_shared *shared = set->parts.shared;
    struct reply reply = turn_reply(conn, &refuse_connection);
    size_t len;

    reply_date_update(&set->date, clock_real_ms());
    len = reply_write(&reply, &set->date, set->scratch);
    account_connection(conn, &reply);
    conn_move(conn, CONN_CLOSING);
    conn->lingering =
        atomic_load_explicit(&shared->refused, memory_order_relaxed) <= shared->refused_max;
    /* A new socket's send buffer is empty; if even this fails, the client is gone. */
    if (send(event_get_fd(&conn->event), set->scratch, len, MSG_NOSIGNAL) != (ssize_t)len)
        conn->lingering = false;
    conn_finish(conn);
}

struct conn_set *conn_set_create(const struct conn_parts *parts)
{
    struct conn_set *set = calloc(1, sizeof(*set));

    if (!set)
        return NULL;
    set->parts = *parts;
    set->window = 1;
    conn_room_init(set);
    if (!decode_init(&set->decode, &set->pool, set->body_max)) {
        free(set);
        return NULL;
    }
    turn_init(set);
    set->keys_cache = keys_cache_create();
    set->bio_method = conn_io_method_create();
    if (!set->keys_cache || !set->bio_method || !(set->mismatch = mismatch_create())) {
        conn_set_destroy(set);
        return NULL;
    }
    return set;
}

void conn_set_destroy(struct conn_set *set)
{
    if (!set)
        return;
    judge_finish_large(set);
    for (int i = 0; i < QUEUE_COUNT; i++) {
        struct conn *conn;

        while ((conn = TAILQ_FIRST(&set->queues[i]))) {
            conn->touched = false;
            conn->stalled = false;
            conn_close(conn);
        }
    }
    decode_fini(&set->decode);
    buffer_pool_fini(&set->pool);
    conn_io_method_destroy(set->bio_method);
    free(set->keys_cache);
    mismatch_destroy(set);
    free(set);
}

void conn_accept(struct conn_set *set, int fd, const struct address *peer, bool tls)
{
    struct conn_shared *shared = set->parts.shared;
    const bool greets = config_current(shared->config)->server_proxy_protocol;
    struct conn *conn = calloc(1, sizeof(*conn));

    if (!conn) {
        close(fd);
        return;
    }
    conn->set = set;
    conn->peer = *peer;
    conn->stream = METRIC_STREAM_NONE;
    conn->speaks_tls = tls;
    conn->state = greets ? CONN_PROXY : CONN_HEAD;
    conn->queue = greets ? QUEUE_GREETING : QUEUE_IDLE;
    conn->since_ms = conn_turn_ns(set) / CLOCK_NS_PER_MS;
    TAILQ_INSERT_TAIL(&set->queues[conn->queue], conn, queued);
    if (atomic_fetch_add_explicit(&shared->connections, 1, memory_order_relaxed) >=
        shared->connections_max) {
        atomic_fetch_sub_explicit(&shared->connections, 1, memory_order_relaxed);
        conn->refused = true;
        atomic_fetch_add_explicit(&shared->refused, 1, memory_order_relaxed);
    } else {
        METRIC_GAUGE_ADD(shared->metrics, http_connections, 1);
        set->open_count++;
    }
    /* A handshake only to refuse would cost more than the connection. */
    if (!conn_watch_first(conn, fd) || (conn->refused && tls))
        conn_close(conn);
    else if (conn->refused)
        conn_refuse_accepted(conn);
    else if (!greets)
        conn_enter(conn);
}

size_t conn_open_count(const struct conn_set *set)
{
    return set->open_count;
}

bool conn_turn_begin(struct conn_set *set)
{
    STAILQ_HEAD(, conn) stalled = STAILQ_HEAD_INITIALIZER(stalled);
    struct conn *conn;

    set->window_large |= !STAILQ_EMPTY(&set->large);
    if (unlikely(!STAILQ_EMPTY(&set->large)) && (conn = judge_advance_large(set)) != NULL)
        request_advance(conn);
    if (unlikely(set->waiting_count > 0))
        conn_wait_collect(set);
    STAILQ_CONCAT(&stalled, &set->stalled);
    while ((conn = STAILQ_FIRST(&stalled))) {
        STAILQ_REMOVE_HEAD(&stalled, stalled_next);
        conn->stalled = false;
        request_advance(conn);
    }
    while ((conn = TAILQ_FIRST(&set->unread)) && !conn_turn_is_full(conn)) {
        conn_unlist_unread(conn);
        (void)conn_read_some(conn);
    }
    return !SLIST_EMPTY(&set->touched) || !TAILQ_EMPTY(&set->waited) ||
           !STAILQ_EMPTY(&set->large) || !TAILQ_EMPTY(&set->unread);
}

void conn_turn_end(struct conn_set *set)
{
    struct admission *admission = set->parts.admission;
    uint64_t now_ns;
    struct conn *conn;

    if (unlikely(set->waiting_count > 0))
        conn_wait_collect(set);
    if (!SLIST_EMPTY(&set->touched)) {
        uint64_t real_ms = clock_real_ms();

        if (admission_pending(admission) > 0)
            admission_commit(admission, conn_turn_ns(set) / CLOCK_NS_PER_MS, real_ms);
        reply_date_update(&set->date, real_ms);
        now_ns = clock_mono_ns();
        while ((conn = SLIST_FIRST(&set->touched))) {
            SLIST_REMOVE_HEAD(&set->touched, touched_next);
            conn->touched = false;
            conn_send_answers(conn, now_ns);
            KILL_POINT("answered");
        }
        admission_reset(admission);
        decode_turn_end(&set->decode);
    }
    set->answer_count = 0;
    set->turn_bytes = 0;
    set->turn_ns = 0;
    set->handshake_ns = 0;
}

/* Goes on with a connection that was paused. */
static void conn_resume(struct conn *conn)
{
    if (!conn_watch(conn, EV_READ))
        conn_close(conn);
    else if (buffer_len(&conn->buffer) > 0)
        request_advance(conn);
    else if (conn_read_some(conn) == READ_NOTHING)
        conn_settle(conn, true);
}

/* The connection's time-out has passed. */
static void conn_time_out(struct conn *conn)
{
    switch (conn->queue) {
    case QUEUE_HEAD:
        preflight_note_unread(conn);
        request_refuse(conn, &refuse_head_slow);
        return;
    case QUEUE_BODY:
        request_refuse(conn, &refuse_body_slow);
        return;
    case QUEUE_GREETING:
        if (greeting_time_out(conn) == GREETING_GONE)
            conn_close(conn);
        return;
    case QUEUE_IDLE:
        /* Its client may have begun a request since we looked at its socket. */
        if (!conn->stalled && conn_read_some(conn) != READ_NOTHING)
            return;
        conn->stalled = false;
        conn_close(conn);
        return;
    case QUEUE_FLUSH:
    case QUEUE_LINGER:
        conn->stalled = false;
        conn_close(conn);
        return;
    case QUEUE_PAUSE:
        conn_resume(conn);
        return;
    case QUEUE_HANDSHAKE:
        if (conn->tls != NULL)
            METRIC_ADD(conn->set->parts.metrics, tls_handshakes_failed, 1);
        conn_close(conn);
        return;
    case QUEUE_WAIT:
    case QUEUE_WAIT_LAST:
    case QUEUE_COUNT:
        break;
    }
    conn_wait_expire(conn);
}

void conn_expire(struct conn_set *set)
{
    const struct config *config = config_current(set->parts.shared->config);
    uint64_t timeouts[QUEUE_COUNT] = {
        [QUEUE_GREETING] = config->server_head_timeout_ms,
        [QUEUE_IDLE] = config->server_idle_timeout_ms,
        [QUEUE_HEAD] = config->server_head_timeout_ms,
        [QUEUE_BODY] = config->server_body_timeout_ms,
        [QUEUE_FLUSH] = config->server_idle_timeout_ms,
        [QUEUE_LINGER] = set->leaving ? LINGER_DRAIN_MS : LINGER_IDLE_MS,
        [QUEUE_PAUSE] = PAUSE_MS,
        [QUEUE_HANDSHAKE] = config->server_head_timeout_ms,
    };
    uint64_t now_ms = conn_turn_ns(set) / CLOCK_NS_PER_MS;

    decode_trim(&set->decode);
    if (now_ms - set->trimmed_ms >= TRIM_MS) {
        set->trimmed_ms = now_ms;
        buffer_pool_trim(&set->pool);
    }
    heap_follow(&set->heap_trims);
    if (unlikely(set->hastening) && timeouts[QUEUE_IDLE] > CONN_IDLE_LEAVING_MS)
        timeouts[QUEUE_IDLE] = CONN_IDLE_LEAVING_MS;
    for (int i = QUEUE_WAIT; i <= QUEUE_WAIT_LAST; i++)
        timeouts[i] = (uint64_t)(i - QUEUE_WAIT + 1) * 1000;
    for (int i = 0; i < QUEUE_COUNT; i++) {
        struct conn *conn, *next;

        for (conn = TAILQ_FIRST(&set->queues[i]); conn; conn = next) {
            next = TAILQ_NEXT(conn, queued);
            /* What this turn has no room for waits for the next call. */
            if (now_ms - conn->since_ms < timeouts[i] || conn_turn_is_full(conn))
                break;
            /* It waits for us: the last turn had no room. The client must not get a 408 for
             * that. */
            if (conn->stalled && !conn->out)
                continue;
            conn_time_out(conn);
        }
    }
    conn_turn_end(set);
}
