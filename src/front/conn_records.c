/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_records.c - the bytes of a TLS connection whose records we make ourselves (records.h).
 *
 * What the socket has is read into memory of the set, which is warm, and opened there; so a
 * connection with nothing under way holds no buffer. What a read had no room for, and what has come
 * of a record that is not whole, is kept until the next read; so is of a record what the socket did
 * not take. Both are charged to server.max_buffers.
 *
 * Runs on: the front-end thread that owns the set.
 * Owns: conn->records.
 */
#include "conn_private.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#define RECVS_MAX 4 /* for one read, and only as long as each brings data */
#define ALERT_BYTES 2

struct conn_records {
    struct records *records;
    bool ended; /* the client sends no more */
    /* Bytes from the client, of which the first are opened already; NULL: none. */
    char *part;
    size_t part_len, part_opened;
    /* Of a record that the socket did not take whole; NULL: none. */
    char *rest;
    size_t rest_len, rest_sent;
    size_t rest_data; /* bytes that it stands for */
};

bool conn_records_charge(struct conn *conn, size_t bytes)
{
    struct buffer_budget *budget = &conn->set->parts.shared->budget;

    if (bytes > conn->tls_charged && !buffer_budget_take(budget, bytes - conn->tls_charged))
        return false;
    if (bytes < conn->tls_charged)
        buffer_budget_give(budget, conn->tls_charged - bytes);
    conn->tls_charged = (uint32_t)bytes;
    return true;
}

bool conn_records_begin(struct conn *conn, struct records *records)
{
    conn->records = calloc(1, sizeof(*conn->records));
    if (conn->records == NULL) {
        records_destroy(records);
        return false;
    }
    conn->records->records = records;
    return true;
}

/* Charges what is held. False: there is no room for it. */
static bool conn_records_charge_held(struct conn *conn)
{
    const struct conn_records *records = conn->records;
    size_t bytes = records->rest != NULL ? CONN_RECORD_BYTES : 0;

    if (records->part != NULL)
        bytes +=
            records->part_len > CONN_RECORD_BYTES ? records->part_len : (size_t)CONN_RECORD_BYTES;
    return likely(bytes == conn->tls_charged) || conn_records_charge(conn, bytes);
}

/* Keeps len bytes for the next read, of which the first are opened. False: there is no memory. */
static bool conn_records_keep(struct conn *conn, const char *raw, size_t len, size_t opened)
{
    struct conn_records *records = conn->records;
    char *part = NULL;

    if (likely(len == 0 && records->part == NULL))
        return true;
    if (len > 0 && (part = realloc(records->part, len)) == NULL)
        return false;
    if (len > 0)
        memcpy(part, raw, len);
    else
        free(records->part);
    records->part = part;
    records->part_len = len;
    records->part_opened = opened;
    return conn_records_charge_held(conn);
}

/* The client has broken the protocol: it is told, where its socket has room for that. */
static void conn_records_refuse(struct conn *conn)
{
    const size_t len = records_alert(conn->records->records, conn->set->sealed);

    if (conn->records->rest == NULL)
        (void)!send(event_get_fd(&conn->event), conn->set->sealed, len, MSG_NOSIGNAL);
}

/* What one read has so far. */
struct reading {
    char *data; /* for the caller */
    size_t size, len;
    size_t raw_len;    /* bytes in set->raw */
    size_t raw_opened; /* of them, which are data already */
};

/* Moves opened bytes to the caller, as far as there is room. Returns how many. */
static size_t conn_records_copy(struct reading *reading, const char *data, size_t len)
{
    const size_t room = reading->size - reading->len;
    const size_t n = len < room ? len : room;

    memcpy(reading->data + reading->len, data, n);
    reading->len += n;
    return n;
}

/* Opens what there is and moves it to the caller; what it has no room for stays in set->raw. */
static void conn_records_open_all(struct conn *conn, struct reading *reading)
{
    struct conn_records *records = conn->records;
    char *raw = conn->set->raw;
    struct records_opened opened;
    size_t at = conn_records_copy(reading, raw, reading->raw_opened), n;

    reading->raw_opened -= at;
    while (reading->raw_opened == 0 && !records->ended && !conn->broken) {
        switch (records_open(records->records, raw + at, reading->raw_len - at, &opened)) {
        case RECORDS_MORE:
            goto done;
        case RECORDS_DATA:
            n = conn_records_copy(reading, opened.data, opened.len);
            at += opened.raw;
            if (likely(n == opened.len))
                break;
            reading->raw_opened = opened.len - n;
            at -= reading->raw_opened;
            memmove(raw + at, opened.data + n, reading->raw_opened);
            break;
        case RECORDS_NEWS:
            at += opened.raw;
            break;
        case RECORDS_END:
            records->ended = true;
            break;
        case RECORDS_WRONG:
            conn_records_refuse(conn);
            conn->broken = true;
            break;
        case RECORDS_GONE:
            conn->broken = true;
            break;
        }
    }
    if (records->ended || conn->broken)
        at = reading->raw_len;
done:
    reading->raw_len -= at;
    memmove(raw, raw + at, reading->raw_len);
}

/* Reads from the socket what the caller has room for. Returns how much was asked for, and sets n as
 * recv() does. */
static size_t conn_records_recv(struct conn *conn, struct reading *reading, ssize_t *n)
{
    struct conn_set *set = conn->set;
    /* There is something around each record, and the last one may be whole thanks to that. */
    size_t want = reading->size - reading->len + RECORDS_RAW_MAX - RECORDS_PLAIN_MAX;

    if (want > sizeof(set->raw) - reading->raw_len)
        want = sizeof(set->raw) - reading->raw_len;
    *n = recv(event_get_fd(&conn->event), set->raw + reading->raw_len, want, 0);
    if (*n > 0)
        reading->raw_len += (size_t)*n;
    else if (*n == 0)
        conn->broken = true; /* an end that anybody can have made */
    return want;
}

/* Whether there is something to open without the socket. */
static bool conn_records_has_whole(const struct conn *conn, const struct reading *reading)
{
    return reading->raw_opened > 0 || records_is_whole(conn->set->raw, reading->raw_len);
}

ssize_t conn_records_read(struct conn *conn, char *data, size_t size)
{
    struct conn_records *records = conn->records;
    struct reading reading = {.data = data, .size = size};
    int err = EAGAIN;
    bool again = true;

    if (unlikely(records->part != NULL)) {
        memcpy(conn->set->raw, records->part, records->part_len);
        reading.raw_len = records->part_len;
        reading.raw_opened = records->part_opened;
    }
    for (int i = 0; again && i < RECVS_MAX && !records->ended && !conn->broken; i++) {
        const size_t before = reading.len;
        size_t want = 0;
        ssize_t n = 0;

        if (!conn_records_has_whole(conn, &reading)) {
            want = conn_records_recv(conn, &reading, &n);
            if (n < 0) {
                err = errno;
                break;
            }
        }
        conn_records_open_all(conn, &reading);
        again = n > 0 && (size_t)n == want && reading.len > before && reading.len < size;
    }
    if (!conn_records_keep(conn, conn->set->raw, reading.raw_len, reading.raw_opened))
        conn->broken = true;
    /* What has arrived before the end, or before the error, counts; the next read says it again. */
    conn->unread =
        records->ended || conn->broken ? reading.len > 0 : conn_records_has_whole(conn, &reading);
    if (likely(reading.len > 0))
        return (ssize_t)reading.len;
    errno = conn->broken ? ECONNRESET : err;
    return records->ended ? 0 : -1;
}

static void conn_records_drop_rest(struct conn *conn)
{
    free(conn->records->rest);
    conn->records->rest = NULL;
    (void)conn_records_charge_held(conn);
}

/* Sends. Returns what the socket took, which may be nothing; -1: the connection is dead. */
static ssize_t conn_records_push(struct conn *conn, const char *bytes, size_t len)
{
    ssize_t n = send(event_get_fd(&conn->event), bytes, len, MSG_NOSIGNAL);

    if (n >= 0)
        return n;
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    conn->broken = true;
    return -1;
}

/* Keeps what the socket did not take of a record with so many bytes of data. */
static bool conn_records_keep_rest(struct conn *conn, const char *rest, size_t len, size_t data)
{
    struct conn_records *records = conn->records;

    records->rest = malloc(len);
    if (records->rest == NULL)
        return false;
    memcpy(records->rest, rest, len);
    records->rest_len = len;
    records->rest_sent = 0;
    records->rest_data = data;
    return conn_records_charge_held(conn);
}

/* Sends what is left of a record. Returns the bytes of data that have gone with it; 0: there is
 * more; -1: the connection is dead. */
static ssize_t conn_records_push_rest(struct conn *conn)
{
    struct conn_records *records = conn->records;
    ssize_t n = conn_records_push(conn, records->rest + records->rest_sent,
                                  records->rest_len - records->rest_sent);

    if (n < 0)
        return -1;
    records->rest_sent += (size_t)n;
    if (records->rest_sent < records->rest_len)
        return 0;
    conn_records_drop_rest(conn);
    return (ssize_t)records->rest_data;
}

/* Makes a record of data and sends it. Returns as above. */
static ssize_t conn_records_push_data(struct conn *conn, const char *data, size_t len)
{
    char *sealed = conn->set->sealed;
    const size_t sealed_len = records_seal(conn->records->records, data, len, sealed);
    ssize_t n = conn_records_push(conn, sealed, sealed_len);

    if (n < 0 || (size_t)n == sealed_len)
        return n < 0 ? -1 : (ssize_t)len;
    if (!conn_records_keep_rest(conn, sealed + n, sealed_len - (size_t)n, len)) {
        conn->broken = true;
        return -1;
    }
    return 0;
}

ssize_t conn_records_send(struct conn *conn, const char *data, size_t size)
{
    size_t len = 0;

    while (len < size && !conn->broken) {
        const size_t left = size - len;
        ssize_t n = conn->records->rest != NULL
                        ? conn_records_push_rest(conn)
                        : conn_records_push_data(
                              conn, data + len,
                              left < RECORDS_PLAIN_MAX ? left : (size_t)RECORDS_PLAIN_MAX);

        if (n < 0)
            break;
        ALLOY_ASSERT((size_t)n <= left);
        len += (size_t)n;
        if (n == 0) {
            errno = EAGAIN;
            return len > 0 ? (ssize_t)len : -1;
        }
    }
    if (likely(!conn->broken))
        return (ssize_t)len;
    errno = EPIPE;
    return -1;
}

void conn_records_finish(struct conn *conn)
{
    struct conn_records *records = conn->records;
    char alert[RECORDS_ROOM + ALERT_BYTES];

    if (!conn->broken && records->rest == NULL)
        (void)!send(event_get_fd(&conn->event), alert, records_alert(records->records, alert),
                    MSG_NOSIGNAL);
    free(records->part);
    free(records->rest);
    records_destroy(records->records);
    free(records);
    conn->records = NULL;
}
