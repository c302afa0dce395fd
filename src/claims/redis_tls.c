/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_tls.c - TLS for a connection to Redis, since hiredis 0.14 has none.
 *
 * OpenSSL works between two buffers in memory, and redis_link moves their bytes: it waits with a
 * deadline, and its send() does not raise SIGPIPE. The files are read for each connection, so a
 * renewed certificate needs no restart.
 *
 * Runs on: the thread that owns the link. OpenSSL's queue of errors is the thread's: we leave it
 * empty.
 * Owns: the TLS state and its context.
 */
#include "redis_tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <hiredis/hiredis.h>

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "redis_link_private.h"

#define PLAIN_BYTES 16384 /* a record's */

struct redis_tls {
    SSL_CTX *context;
    SSL *ssl;
    BIO *in, *out; /* ssl's own */
    char plain[PLAIN_BYTES];
};

/* Says what OpenSSL complains of, or that the other end is no TLS. */
static int redis_tls_fail(struct redis_link *link, const struct redis_tls *tls, const char *what)
{
    const long verdict = tls->ssl != NULL ? SSL_get_verify_result(tls->ssl) : X509_V_OK;
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());

    if (verdict != X509_V_OK)
        reason = X509_verify_cert_error_string(verdict);
    redis_wire_set_reason(link, "TLS: %s: %s", what, reason != NULL ? reason : "unknown error");
    ERR_clear_error();
    return -EPROTO;
}

/* The context: whom we trust, and who we are. */
static int redis_tls_load(struct redis_tls *tls, struct redis_link *link)
{
    const struct redis_url *url = &link->url;

    tls->context = SSL_CTX_new(TLS_client_method());
    if (tls->context == NULL || SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION) != 1)
        return redis_tls_fail(link, tls, "out of memory");
    SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(tls->context, SSL_MODE_RELEASE_BUFFERS);
    if (url->ca_file == NULL && SSL_CTX_set_default_verify_paths(tls->context) != 1)
        return redis_tls_fail(link, tls, "the system's certificates");
    if (url->ca_file != NULL && SSL_CTX_load_verify_file(tls->context, url->ca_file) != 1)
        return redis_tls_fail(link, tls, "ssl_ca_certs cannot be read");
    if (url->cert_file != NULL &&
        SSL_CTX_use_certificate_chain_file(tls->context, url->cert_file) != 1)
        return redis_tls_fail(link, tls, "ssl_certfile cannot be used");
    if (url->key_file != NULL &&
        SSL_CTX_use_PrivateKey_file(tls->context, url->key_file, SSL_FILETYPE_PEM) != 1)
        return redis_tls_fail(link, tls, "ssl_keyfile cannot be used");
    return 0;
}

/* The certificate must be that of host, a name or an address. */
static int redis_tls_make(struct redis_tls *tls, struct redis_link *link, const char *host)
{
    tls->ssl = SSL_new(tls->context);
    tls->in = BIO_new(BIO_s_mem());
    tls->out = BIO_new(BIO_s_mem());
    if (tls->ssl == NULL || tls->in == NULL || tls->out == NULL) {
        BIO_free(tls->in);
        BIO_free(tls->out);
        return redis_tls_fail(link, tls, "out of memory");
    }
    SSL_set_bio(tls->ssl, tls->in, tls->out);
    SSL_set_connect_state(tls->ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls->ssl), host) == 1) {
        ERR_clear_error();
        return 0;
    }
    ERR_clear_error();
    if (SSL_set1_host(tls->ssl, host) != 1 || SSL_set_tlsext_host_name(tls->ssl, host) != 1)
        return redis_tls_fail(link, tls, "the host's name");
    return 0;
}

int redis_tls_push(struct redis_tls *tls, struct redis_link *link)
{
    char *data; /* asked for each time: what OpenSSL makes meanwhile can move it */
    const long len = BIO_get_mem_data(tls->out, &data);
    const int err = len > 0 ? redis_wire_push(link, data, (size_t)len, &link->sent) : 0;

    if (err == -EAGAIN)
        return err;
    (void)BIO_reset(tls->out);
    link->sent = 0;
    return err;
}

/* Writes to the socket what OpenSSL has made. */
static int redis_tls_flush(struct redis_tls *tls, struct redis_link *link, uint64_t deadline_ns)
{
    int err;

    while ((err = redis_tls_push(tls, link)) == -EAGAIN) {
        err = redis_wire_wait(link, POLLOUT, deadline_ns);
        if (err != 0)
            break;
    }
    return err;
}

/* Waits for bytes, and gives them to OpenSSL. */
static int redis_tls_receive(struct redis_tls *tls, struct redis_link *link, uint64_t deadline_ns)
{
    for (;;) {
        ssize_t n = recv(link->context->fd, link->in, sizeof(link->in), MSG_DONTWAIT);
        int err = n < 0 ? -errno : 0;

        if (n > 0) {
            if (BIO_write(tls->in, link->in, (int)n) == n)
                return 0;
            return redis_tls_fail(link, tls, "out of memory");
        }
        if (n == 0) {
            redis_wire_set_reason(link, "TLS: the connection was closed in the handshake");
            return -ECONNRESET;
        }
        if (err == -EAGAIN)
            err = redis_wire_wait(link, POLLIN, deadline_ns);
        else if (err != -EINTR)
            redis_wire_set_reason(link, "receive: %s", strerror(-err));
        if (err != 0 && err != -EINTR)
            return err;
    }
}

static int redis_tls_shake_hands(struct redis_tls *tls, struct redis_link *link,
                                 uint64_t deadline_ns)
{
    for (;;) {
        const int result = SSL_do_handshake(tls->ssl);
        const int error = SSL_get_error(tls->ssl, result);
        int err;

        if (result != 1 && error != SSL_ERROR_WANT_READ) {
            (void)redis_tls_flush(tls, link, deadline_ns); /* the alert */
            return redis_tls_fail(link, tls, "the handshake failed");
        }
        err = redis_tls_flush(tls, link, deadline_ns);
        if (err != 0 || result == 1)
            return err;
        err = redis_tls_receive(tls, link, deadline_ns);
        if (err != 0)
            return err;
    }
}

int redis_tls_start(struct redis_tls **out, struct redis_link *link, const char *host,
                    uint64_t deadline_ns)
{
    struct redis_tls *tls = calloc(1, sizeof(*tls));
    int err;

    if (tls == NULL) {
        redis_wire_set_reason(link, "out of memory");
        return -ENOMEM;
    }
    ERR_clear_error();
    err = redis_tls_load(tls, link);
    if (err == 0)
        err = redis_tls_make(tls, link, host);
    if (err == 0)
        err = redis_tls_shake_hands(tls, link, deadline_ns);
    if (err == 0)
        *out = tls;
    else
        redis_tls_destroy(tls);
    return err;
}

void redis_tls_destroy(struct redis_tls *tls)
{
    if (tls == NULL)
        return;
    SSL_free(tls->ssl);
    SSL_CTX_free(tls->context);
    free(tls);
}

int redis_tls_seal(struct redis_tls *tls, struct redis_link *link)
{
    size_t n;

    /* A buffer in memory takes all. */
    ERR_clear_error();
    if (link->out_len > 0 && SSL_write_ex(tls->ssl, link->out, link->out_len, &n) != 1)
        return redis_tls_fail(link, tls, "send");
    return 0;
}

int redis_tls_take(struct redis_tls *tls, struct redis_link *link, size_t len)
{
    size_t n;
    int error;

    ERR_clear_error();
    if (BIO_write(tls->in, link->in, (int)len) != (int)len)
        return redis_tls_fail(link, tls, "out of memory");
    while (SSL_read_ex(tls->ssl, tls->plain, sizeof(tls->plain), &n) == 1)
        (void)redisReaderFeed(link->context->reader, tls->plain, n);
    error = SSL_get_error(tls->ssl, 0);
    if (error == SSL_ERROR_WANT_READ)
        return 0;
    if (error == SSL_ERROR_ZERO_RETURN) {
        redis_wire_set_reason(link, "connection closed");
        return -ECONNRESET;
    }
    return redis_tls_fail(link, tls, "receive");
}
