/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls.h - the certificate of the event port: what server.tls_cert, tls_key and tls_client_ca say.
 *
 * A struct tls is constant once others see it. Runs on: loading, tls_inherit(), tls_rotate()
 * and tls_destroy() the main thread; the rest any thread.
 */
#ifndef ALLOY_TLS_H
#define ALLOY_TLS_H

#include <stdbool.h>
#include <stdint.h>

#include "alloy/base.h"

#define TLS_PROBLEM_MAX 256

struct tls;
struct ssl_ctx_st;

enum tls_file {
    TLS_CERT,      /* the certificate, then those between it and the root; PEM */
    TLS_KEY,       /* its private key, PEM, not encrypted */
    TLS_CLIENT_CA, /* certificates that a client's must be signed by; PEM */
    TLS_FILE_COUNT,
};

/* What is wrong with each file; "": nothing. */
struct tls_problems {
    char texts[TLS_FILE_COUNT][TLS_PROBLEM_MAX];
};

/*
 * Reads the files; an empty path of TLS_CLIENT_CA: no client needs a certificate. Returns 0 and tls
 * owned (tls_destroy()), -EINVAL with problems, or -ENOMEM. A certificate that has expired, or is
 * not valid yet, is no problem. Never asks on the terminal.
 */
MUST_CHECK int tls_load(struct tls **tls, const char *const paths[TLS_FILE_COUNT],
                        struct tls_problems *problems);
void tls_destroy(struct tls *tls); /* NULL is fine; connections that use it keep what they need */

/* Clients go on with the tickets that before gave them, unless another client CA counts now. */
void tls_inherit(struct tls *tls, const struct tls *before);
/* Gives tickets another key when its time has come: to be called now and then; now_ms: monotonic.
 */
void tls_rotate(const struct tls *tls, uint64_t now_ms);
/* Whether this file had the same bytes for both. Either may be NULL. */
bool tls_same_file(const struct tls *a, const struct tls *b, enum tls_file file);

/* Lends what a connection is made of, while tls lives. */
struct ssl_ctx_st *tls_context(const struct tls *tls);
/* Lends whose certificate it is, while tls lives: "CN=alloy.example". */
const char *tls_subject(const struct tls *tls);
/* From when until when it is valid, in seconds since 1970-01-01 UTC. */
int64_t tls_valid_from_s(const struct tls *tls);
int64_t tls_valid_until_s(const struct tls *tls);

#endif
