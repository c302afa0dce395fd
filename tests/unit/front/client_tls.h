/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client_tls.h - how the clients of conn_fixture.h speak TLS. A server that ends a connection
 * without saying so fails the test.
 */
#ifndef CLIENT_TLS_H
#define CLIENT_TLS_H

#include "tls_fixture.h"

#define CLIENT_TLS true
#define CLIENTS_MAX 1024 /* by their descriptors */
#define GROUP_SETUP client_group_setup
#define GROUP_TEARDOWN client_group_teardown

static SSL *clients[CLIENTS_MAX];
static SSL_CTX *client_context;
static struct tls *server_tls;

static inline int client_group_setup(void **state)
{
    struct tls_problems problems;
    const char *paths[TLS_FILE_COUNT];

    tls_make_folder(state);
    paths[TLS_CERT] = tls_path("cert.pem");
    paths[TLS_KEY] = tls_path("key.pem");
    paths[TLS_CLIENT_CA] = "";
    assert_int_equal(tls_load(&server_tls, paths, &problems), 0);
    client_context = tls_client_context(NULL, 0);
#ifdef CLIENT_CIPHERSUITES
    assert_int_equal(SSL_CTX_set_ciphersuites(client_context, CLIENT_CIPHERSUITES), 1);
#endif
    SSL_CTX_set_mode(client_context,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return 0;
}

static inline int client_group_teardown(void **state)
{
    SSL_CTX_free(client_context);
    tls_destroy(server_tls);
    return tls_remove_folder(state);
}

static inline struct tls *client_tls_of_server(void)
{
    return server_tls;
}

/* A client of which nothing is sent yet. */
static inline SSL *client_make(void)
{
    SSL *ssl = SSL_new(client_context);

    assert_true(client < CLIENTS_MAX);
    assert_non_null(ssl);
    SSL_set_fd(ssl, client);
    SSL_set_connect_state(ssl);
    clients[client] = ssl;
    return ssl;
}

static inline void client_greet(void)
{
    SSL *ssl = client_make();

    for (int i = 0; SSL_do_handshake(ssl) != 1; i++) {
        assert_true(i < 100);
        turn();
    }
    ERR_clear_error();
    turn();
}

/* What send() and recv() would say to a call that OpenSSL did not complete. */
static inline ssize_t client_result(int result)
{
    int error = SSL_get_error(clients[client], result);

    ERR_clear_error();
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        errno = EAGAIN;
    else if (error == SSL_ERROR_ZERO_RETURN)
        return 0;
    else
        errno = ECONNRESET;
    return -1;
}

static inline ssize_t client_send(const void *data, size_t len)
{
    int n = SSL_write(clients[client], data, (int)len);

    return n > 0 ? n : client_result(n);
}

static inline ssize_t client_receive(void *data, size_t size)
{
    ssize_t n = SSL_read(clients[client], data, (int)size);

    if (n <= 0)
        n = client_result((int)n);
    if (n < 0 && errno != EAGAIN)
        fail_msg("the server has ended the connection without close_notify");
    return n;
}

static inline int client_shut(void)
{
    SSL_shutdown(clients[client]);
    ERR_clear_error();
    return shutdown(client, SHUT_WR);
}

static inline void client_close(int fd)
{
    if (fd < 0)
        return;
    SSL_free(clients[fd]);
    clients[fd] = NULL;
    close(fd);
}

#endif
