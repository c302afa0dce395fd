/* SPDX-License-Identifier: Apache-2.0 */
/*
 * records.h - the records of a TLS 1.3 connection once its handshake is over (RFC 8446 section 5),
 * with AES-256-GCM.
 *
 * OpenSSL makes the handshake and tells us the secrets; what it then does for a record costs ten
 * times what the cipher does, and its state for a connection is 14 KiB. Here it is 1.3 KiB. Only
 * the processor's AES will do, which takes no time that depends on the key or the bytes. Everything
 * else, as other ciphers and TLS 1.2, stays with OpenSSL.
 *
 * Runs on: records_attach() the main thread; the rest the thread that has the connection.
 */
#ifndef ALLOY_RECORDS_H
#define ALLOY_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"

struct ssl_st;
struct ssl_ctx_st;
struct records;

#define RECORDS_HEAD 5
#define RECORDS_PLAIN_MAX 16384 /* bytes of data in one record */
#define RECORDS_RAW_MAX (RECORDS_HEAD + RECORDS_PLAIN_MAX + 256)
/* What is put around data: its record's head, type and tag, and a record with new keys. */
#define RECORDS_ROOM (RECORDS_HEAD + 17 + RECORDS_HEAD + 22)
#define RECORDS_SECRET 48

enum records_result {
    RECORDS_MORE,  /* there is no whole record yet */
    RECORDS_DATA,  /* of a client; there may be none in it */
    RECORDS_NEWS,  /* it was about the connection, and is dealt with */
    RECORDS_END,   /* the client sends no more */
    RECORDS_WRONG, /* it ends here; records_alert() is for the client */
    RECORDS_GONE,  /* the client has ended it, with an error */
};

/* A record that was opened. */
struct records_opened {
    size_t raw; /* its length as it came */
    char *data; /* lent: in place */
    size_t len;
};

/* What a handshake has agreed on: the secrets of both sides, and how many records were sent with
 * ours. */
struct records_secrets {
    unsigned char client[RECORDS_SECRET], server[RECORDS_SECRET];
    bool has_client, has_server;
    uint64_t sent;
};

/* From now on handshakes of the context tell those who ask (records_expect()). */
void records_attach(struct ssl_ctx_st *context);

/* Before its handshake: secrets will have what it agrees on, as far as that is known. Borrows
 * secrets for as long as ssl lives. Bytes behind the handshake stay in the socket. False: this
 * processor cannot, and OpenSSL goes on. */
bool records_expect(struct ssl_st *ssl, struct records_secrets *secrets);
/* Its handshake is over: returns owned what goes on in its place (records_destroy()), and ssl may
 * be freed; NULL: OpenSSL goes on, and reads ahead. Erases the secrets in both cases. */
struct records *records_take(struct ssl_st *ssl, struct records_secrets *secrets);
/* The same without OpenSSL; the server's side. Needs AES. NULL: out of memory. */
struct records *records_create(const struct records_secrets *secrets);
bool records_available(void);
void records_destroy(struct records *records); /* NULL is fine */

/* Whether raw begins with a whole record, or with one that is wrong already. */
bool records_is_whole(const char *raw, size_t len);
/* Opens the first record of raw in place. Sets opened unless the result is MORE. */
enum records_result records_open(struct records *records, char *raw, size_t len,
                                 struct records_opened *opened);
/* Writes len bytes, 1 to RECORDS_PLAIN_MAX, as a record to out, which has RECORDS_ROOM more.
 * Returns the length. */
size_t records_seal(struct records *records, const char *data, size_t len, char *out);
/* The same with what tells the client the end: that it was wrong, if it was. */
size_t records_alert(struct records *records, char *out);

#endif
