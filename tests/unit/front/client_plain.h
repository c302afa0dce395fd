/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client_plain.h - how the clients of conn_fixture.h speak plain HTTP.
 */
#ifndef CLIENT_PLAIN_H
#define CLIENT_PLAIN_H

#define CLIENT_TLS false
#define GROUP_SETUP NULL
#define GROUP_TEARDOWN NULL

static inline struct tls *client_tls_of_server(void)
{
    return NULL;
}

static inline void client_greet(void)
{
}

static inline ssize_t client_send(const void *data, size_t len)
{
    return send(client, data, len, MSG_NOSIGNAL);
}

static inline ssize_t client_receive(void *data, size_t size)
{
    return recv(client, data, size, 0);
}

/* Says that it sends no more. */
static inline int client_shut(void)
{
    return shutdown(client, SHUT_WR);
}

static inline void client_close(int fd)
{
    close(fd);
}

#endif
