/* SPDX-License-Identifier: Apache-2.0 */
/*
 * greeting.c - what a connection says before HTTP: the header of the PROXY protocol.
 *
 * What comes next need not be for us to read: it may be another layer that wants its own bytes from
 * the socket. So we peek, and then take exactly the header's bytes. While the header is not whole
 * all that we have seen belongs to it, and we take that too: a level-triggered event would fire for
 * it without end. The pieces lie in the connection's buffer until the header is whole.
 *
 * A connection that has not finished its greeting has no request, and holds up no drain.
 *
 * Runs on: the front-end thread that owns the set.
 * Owns: nothing.
 */
#include "conn_private.h"

#include "alloy/proxy_header.h"

#include <errno.h>
#include <sys/socket.h>

#include <event2/event.h>

static const struct refusal refuse_no_header = {
    ERROR_bad_request,
    "The connection does not begin with a PROXY header, which server.proxy_protocol asks for."};
static const struct refusal refuse_header_slow = {ERROR_timeout,
                                                  "The PROXY header did not arrive in time."};
static const struct refusal refuse_memory = {ERROR_overloaded,
                                             "Too many requests are being received."};

/* Each block of a buffer has room for the longest header. */
_Static_assert(PROXY_HEADER_MAX <= CONN_BLOCK_MIN, "a header fits into a block");

/* The greeting is over: what comes next is HTTP. */
static enum greeting_result greeting_end(struct conn *conn)
{
    conn->buffer.start = 0;
    conn->buffer.end = 0;
    conn_move(conn, CONN_HEAD);
    turn_enqueue(conn, QUEUE_IDLE);
    return GREETING_OVER;
}

static enum greeting_result greeting_refuse(struct conn *conn, const struct refusal *refusal)
{
    request_refuse(conn, refusal);
    return GREETING_REFUSED;
}

/* Takes n bytes, which the buffer's end has already, from the socket. False: they are gone. */
static bool greeting_consume(struct conn *conn, size_t n)
{
    struct buffer *buffer = &conn->buffer;
    const int fd = event_get_fd(&conn->event);

    if (n > 0 && recv(fd, buffer->data + buffer->end, n, 0) != (ssize_t)n)
        return false;
    buffer->end += n;
    return true;
}

enum greeting_result greeting_read(struct conn *conn)
{
    struct buffer *buffer = &conn->buffer;
    const size_t before = buffer_len(buffer);
    struct proxy_header header;
    ssize_t n;

    if (buffer->data == NULL && !buffer_take(&conn->set->pool, buffer))
        return greeting_refuse(conn, &refuse_memory);
    n = recv(event_get_fd(&conn->event), buffer->data + buffer->end, PROXY_HEADER_MAX - before,
             MSG_PEEK);
    if (n <= 0) {
        if (before == 0)
            buffer_release(&conn->set->pool, buffer);
        return n < 0 && (errno == EAGAIN || errno == EINTR) ? GREETING_MORE : GREETING_GONE;
    }
    switch (proxy_header_parse(buffer->data + buffer->start, before + (size_t)n, &header)) {
    case PROXY_HEADER_MORE:
        return greeting_consume(conn, (size_t)n) ? GREETING_MORE : GREETING_GONE;
    case PROXY_HEADER_BAD:
        return greeting_refuse(conn, &refuse_no_header);
    case PROXY_HEADER_DONE:
        break;
    }
    if (!greeting_consume(conn, header.len - before))
        return GREETING_GONE;
    if (header.has_client)
        conn->peer = header.client;
    return greeting_end(conn);
}

enum greeting_result greeting_time_out(struct conn *conn)
{
    if (buffer_len(&conn->buffer) == 0)
        return GREETING_GONE;
    return greeting_refuse(conn, &refuse_header_slow);
}
