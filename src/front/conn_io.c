/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_io.c - the bytes of a connection: straight from and to the socket, or through TLS.
 *
 * OpenSSL makes the handshake. Then conn_records.c has the connection, and OpenSSL's state is
 * freed, unless it is one of TLS 1.2, or of another cipher than AES-256-GCM; those stay with
 * OpenSSL, and what follows is about them.
 *
 * OpenSSL reads more from the socket than it is asked for. What it holds makes no event, so a read
 * goes on until the caller's buffer is full or OpenSSL needs the socket; conn->unread tells which.
 * One read takes a bounded part of what the socket has, as in plain: a client could otherwise send
 * records without data for ever, and nobody else would be served.
 *
 * It sends whole records: of one that the socket has taken in part the caller must offer the same
 * bytes again, and it does, since it keeps what was not taken.
 *
 * An idle connection holds no buffers of OpenSSL's. Those that it holds during a handshake, while
 * part of a record has arrived, or while one is not sent, are charged to server.max_buffers.
 * Handshakes together get half of it at most, so that who only begins them keeps no requests out.
 *
 * We call recv() and send() ourselves, because OpenSSL's own calls raise SIGPIPE.
 *
 * Runs on: the front-end thread that owns the set. OpenSSL's queue of errors is the thread's: we
 * leave it empty.
 * Owns: conn->tls, conn->secrets.
 */
#include "conn_private.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#define LOG_MODULE "conn"
#include "alloy/log.h"

#define HANDSHAKE_BYTES (64ul << 10) /* both buffers, and messages */
#define RECVS_MAX 20                 /* for one read; of a record's size each */

static int conn_io_socket(BIO *bio)
{
    const struct conn *conn = BIO_get_data(bio);

    return event_get_fd(&conn->event);
}

static int conn_io_bio_read(BIO *bio, char *data, int len)
{
    struct conn *conn = BIO_get_data(bio);
    ssize_t n = -1;

    BIO_clear_retry_flags(bio);
    errno = EAGAIN;
    if (conn->recvs_left > 0) {
        conn->recvs_left--;
        n = recv(conn_io_socket(bio), data, (size_t)len, 0);
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_read(bio);
    return (int)n;
}

static int conn_io_bio_write(BIO *bio, const char *data, int len)
{
    ssize_t n = send(conn_io_socket(bio), data, (size_t)len, MSG_NOSIGNAL);

    BIO_clear_retry_flags(bio);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_write(bio);
    return (int)n;
}

static long conn_io_bio_control(BIO *bio, int command, long number, void *arg)
{
    (void)bio;
    (void)number;
    (void)arg;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

struct bio_method_st *conn_io_method_create(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "connection");

    if (method == NULL)
        return NULL;
    BIO_meth_set_read(method, conn_io_bio_read);
    BIO_meth_set_write(method, conn_io_bio_write);
    BIO_meth_set_ctrl(method, conn_io_bio_control);
    return method;
}

void conn_io_method_destroy(struct bio_method_st *method)
{
    BIO_meth_free(method);
}

/* Takes what a handshake needs. False: there is no room for one more. */
static bool conn_io_take_handshake(struct conn *conn)
{
    struct conn_shared *shared = conn->set->parts.shared;
    const size_t most = shared->budget.max / 2 / HANDSHAKE_BYTES;

    conn->shaking = true;
    if (atomic_fetch_add_explicit(&shared->handshakes, 1, memory_order_relaxed) < most &&
        conn_records_charge(conn, HANDSHAKE_BYTES))
        return true;
    atomic_fetch_sub_explicit(&shared->handshakes, 1, memory_order_relaxed);
    conn->shaking = false;
    return false;
}

static void conn_io_give_handshake(struct conn *conn)
{
    if (!conn->shaking)
        return;
    conn->shaking = false;
    atomic_fetch_sub_explicit(&conn->set->parts.shared->handshakes, 1, memory_order_relaxed);
    (void)conn_records_charge(conn, 0);
}

/* What became of a call that OpenSSL did not complete. Returns true when it waits for the socket,
 * then with errno EAGAIN. */
static bool conn_io_waits(struct conn *conn, int result)
{
    const int error = SSL_get_error(conn->tls, result);

    conn->wants_write = error == SSL_ERROR_WANT_WRITE;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        errno = EAGAIN;
        return true;
    }
    conn->broken = error == SSL_ERROR_SSL || error == SSL_ERROR_SYSCALL;
    return false;
}

static void conn_io_log_failure(struct conn *conn)
{
    const long verdict = SSL_get_verify_result(conn->tls);
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    char client[ADDRESS_TEXT_MAX];

    if (!log_enabled(LOG_LEVEL_DEBUG))
        return;
    if (verdict != X509_V_OK)
        reason = X509_verify_cert_error_string(verdict);
    else if (reason == NULL)
        reason = "the client has gone";
    (void)address_format(conn_address(conn), client);
    log_debug("TLS handshake failed client=%s reason=\"%s\"", client, reason);
}

static void conn_io_forget_secrets(struct conn *conn)
{
    if (conn->secrets == NULL)
        return;
    explicit_bzero(conn->secrets, sizeof(*conn->secrets));
    free(conn->secrets);
    conn->secrets = NULL;
}

/* The handshake is over: records.h goes on in OpenSSL's place, where it can. */
static void conn_io_take_records(struct conn *conn)
{
    struct records *records = conn->secrets != NULL ? records_take(conn->tls, conn->secrets) : NULL;

    conn_io_forget_secrets(conn);
    if (records == NULL || !conn_records_begin(conn, records))
        return;
    /* Nothing is to be said to the client, and its ticket stays good. */
    SSL_set_shutdown(conn->tls, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(conn->tls);
    conn->tls = NULL;
}

/* Looks at a new connection's first byte, which begins a TLS record, or a request in plain HTTP. */
static enum conn_io_result conn_io_begin(struct conn *conn)
{
    struct conn_set *set = conn->set;
    const struct config *config = config_current(set->parts.shared->config);
    const int fd = event_get_fd(&conn->event);
    unsigned char first;
    BIO *bio;
    ssize_t n = recv(fd, &first, 1, MSG_PEEK);

    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR) ? CONN_IO_AGAIN : CONN_IO_GONE;
    if (first >= 'A' && first <= 'Z')
        return CONN_IO_PLAIN;
    ALLOY_ASSERT(config->tls != NULL);
    if (!conn_io_take_handshake(conn))
        return CONN_IO_FAILED;
    conn->tls = SSL_new(tls_context(config->tls));
    bio = conn->tls != NULL ? BIO_new(set->bio_method) : NULL;
    if (bio == NULL) {
        SSL_free(conn->tls);
        conn->tls = NULL;
        conn_io_give_handshake(conn);
        ERR_clear_error();
        return CONN_IO_FAILED;
    }
    BIO_set_data(bio, conn);
    BIO_set_init(bio, 1);
    SSL_set_bio(conn->tls, bio, bio);
    SSL_set_accept_state(conn->tls);
    /* Where there is no memory, OpenSSL will do. */
    conn->secrets = malloc(sizeof(*conn->secrets));
    if (conn->secrets != NULL && !records_expect(conn->tls, conn->secrets))
        conn_io_forget_secrets(conn);
    return CONN_IO_DONE;
}

enum conn_io_result conn_io_handshake(struct conn *conn)
{
    struct metrics_thread *metrics = conn->set->parts.metrics;
    enum conn_io_result begun = conn->tls != NULL ? CONN_IO_DONE : conn_io_begin(conn);
    int result;

    if (begun == CONN_IO_FAILED || begun == CONN_IO_PLAIN)
        METRIC_ADD(metrics, tls_handshakes_failed, 1);
    if (begun != CONN_IO_DONE)
        return begun;
    ERR_clear_error();
    conn->recvs_left = RECVS_MAX;
    result = SSL_do_handshake(conn->tls);
    if (result == 1) {
        if (SSL_session_reused(conn->tls))
            METRIC_ADD(metrics, tls_handshakes_resumed, 1);
        else
            METRIC_ADD(metrics, tls_handshakes_full, 1);
        conn_io_give_handshake(conn);
        conn->wants_write = false;
        conn->unread = SSL_has_pending(conn->tls) == 1;
        conn_io_take_records(conn);
        ERR_clear_error();
        return CONN_IO_DONE;
    }
    if (conn_io_waits(conn, result))
        return CONN_IO_AGAIN;
    conn_io_log_failure(conn);
    METRIC_ADD(metrics, tls_handshakes_failed, 1);
    ERR_clear_error();
    return CONN_IO_FAILED;
}

/* True when OpenSSL keeps a buffer because part of a record has arrived. */
static bool conn_io_holds_part(const struct conn *conn)
{
    return SSL_has_pending(conn->tls) == 1 || strcmp(SSL_rstate_string(conn->tls), "RB") == 0;
}

static ssize_t conn_io_read_tls(struct conn *conn, char *data, size_t size)
{
    size_t len = 0, n;
    int result;

    conn->recvs_left = RECVS_MAX;
    do {
        result = SSL_read_ex(conn->tls, data + len, size - len, &n);
        if (result == 1)
            len += n;
    } while (result == 1 && len < size && SSL_has_pending(conn->tls) == 1);
    if (likely(result == 1)) {
        conn->wants_write = false;
        conn->unread = SSL_has_pending(conn->tls) == 1;
        if (unlikely(conn->tls_charged > 0))
            (void)conn_records_charge(conn, 0);
        return (ssize_t)len;
    }
    if (conn_io_waits(conn, result)) {
        conn->unread = false;
        if (conn_records_charge(conn, conn_io_holds_part(conn) ? CONN_RECORD_BYTES : 0))
            return len > 0 ? (ssize_t)len : -1;
        conn->broken = true;
    }
    ERR_clear_error();
    /* What has arrived before the end, or before the error, counts; the next read says it again. */
    conn->unread = len > 0;
    if (len > 0)
        return (ssize_t)len;
    errno = ECONNRESET;
    return conn->broken ? -1 : 0;
}

ssize_t conn_io_read(struct conn *conn, char *data, size_t size)
{
    if (likely(conn->records == NULL && conn->tls == NULL))
        return recv(event_get_fd(&conn->event), data, size, 0);
    return conn->records != NULL ? conn_records_read(conn, data, size)
                                 : conn_io_read_tls(conn, data, size);
}

static ssize_t conn_io_send_tls(struct conn *conn, const char *data, size_t size)
{
    size_t len = 0, n;

    while (len < size) {
        if (SSL_write_ex(conn->tls, data + len, size - len, &n) == 1) {
            len += n;
            continue;
        }
        /* It never waits for the client to say something: no renegotiation. */
        if (!conn_io_waits(conn, 0) || !conn->wants_write ||
            !conn_records_charge(conn, CONN_RECORD_BYTES)) {
            conn->broken = true;
            ERR_clear_error();
            errno = EPIPE;
            return -1;
        }
        conn->wants_write = false;
        return len > 0 ? (ssize_t)len : -1;
    }
    if (unlikely(conn->tls_charged > 0))
        (void)conn_records_charge(conn, 0);
    return (ssize_t)len;
}

ssize_t conn_io_send(struct conn *conn, const char *data, size_t size)
{
    if (likely(conn->records == NULL && conn->tls == NULL))
        return send(event_get_fd(&conn->event), data, size, MSG_NOSIGNAL);
    return conn->records != NULL ? conn_records_send(conn, data, size)
                                 : conn_io_send_tls(conn, data, size);
}

bool conn_io_has_more(const struct conn *conn)
{
    char byte;

    return conn->unread || recv(event_get_fd(&conn->event), &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void conn_io_finish(struct conn *conn)
{
    if (likely(conn->records == NULL && conn->tls == NULL))
        return;
    /* Without it a client cannot tell the end from one that somebody else made. It is one record
     * of some 30 bytes; should the socket not even take that, the answers have their length. */
    if (conn->records != NULL)
        conn_records_finish(conn);
    else if (!conn->broken && SSL_is_init_finished(conn->tls))
        (void)SSL_shutdown(conn->tls);
    ERR_clear_error();
    SSL_free(conn->tls);
    conn->tls = NULL;
    conn_io_forget_secrets(conn);
    conn->unread = false;
    conn_io_give_handshake(conn);
    (void)conn_records_charge(conn, 0);
}
