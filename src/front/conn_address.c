/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_address.c - whose request it is.
 *
 * A connection has a peer: the other end of its socket, or whom a PROXY header names. Where that is
 * a proxy that we trust, its connection may carry the requests of many clients, and each says in
 * X-Forwarded-For whose it is.
 *
 * Runs on: the front-end thread that owns the set.
 * Owns: nothing.
 */
#include "conn_private.h"

#include "alloy/forwarded.h"

const struct address *conn_address(const struct conn *conn)
{
    return unlikely(conn->forwarded) ? &conn->client : &conn->peer;
}

void conn_address_note(struct conn *conn, const struct networks *trusted,
                       const struct http_request *request)
{
    const char *head = conn->buffer.data + conn->buffer.start;

    if (!networks_have(trusted, &conn->peer))
        return;
    conn->client = forwarded_client(trusted, &conn->peer, (struct slice){head, request->head_len});
    conn->forwarded = true;
}
