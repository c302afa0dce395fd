/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_address.c - who is at the other end of a connection.
 *
 * Few requests need to know, so we ask the kernel when the first one does.
 *
 * Runs on: the front-end thread that owns the set.
 * Owns: nothing.
 */
#include "conn_private.h"

#include <sys/socket.h>

#include <event2/event.h>

const struct address *conn_address(struct conn *conn)
{
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof(peer);

    if (conn->address_known)
        return &conn->address;
    /* It fails when the client has gone already. */
    if (getpeername(event_get_fd(&conn->event), (struct sockaddr *)&peer, &len) == 0)
        conn->address = address_of((const struct sockaddr *)&peer);
    conn->address_known = true;
    return &conn->address;
}
