/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer.h - one exchange with ClickHouse over HTTP: an insert's body out, the answer in. With
 * flusher.c, which owns the multi handle, the home of libcurl.
 *
 * Runs on: flusher thread.
 */
#ifndef ALLOY_TRANSFER_H
#define ALLOY_TRANSFER_H

#include <stdint.h>

#include <curl/curl.h>

#include "alloy/base.h"
#include "alloy/config.h"
#include "insert.h"
#include "insert_answer.h"

#define TRANSFER_BODY_MAX 4096 /* bytes of an answer that are kept */

struct transfer {
    struct transfer *next; /* for whoever holds it */
    CURL *easy;
    struct insert *insert; /* NULL: a probe */
    uint16_t stream;
    uint64_t started_ns;
    struct insert_answer answer; /* after transfer_end() */
    char *url;
    size_t body_len;
    char body[TRANSFER_BODY_MAX];
    char error[CURL_ERROR_SIZE]; /* curl's sentence; "" when it gave none */
};

/* The headers of every request, credentials among them. Returns owned (curl_slist_free_all());
 * NULL: out of memory. */
struct curl_slist *transfer_headers(const struct config *config);

/* Returns owned (transfer_destroy()), ready to be used again and again; NULL: out of memory.
 * Borrows headers until it is destroyed. */
struct transfer *transfer_create(struct curl_slist *headers);
void transfer_destroy(struct transfer *transfer); /* NULL is fine; not while in a multi handle */

/* Prepares a POST of insert's bytes (NULL: of nothing) to url, which it takes. The caller adds
 * transfer->easy to a multi handle. */
void transfer_begin(struct transfer *transfer, char *url, struct insert *insert,
                    uint64_t timeout_ms);
/* Fills answer; result is curl's. */
void transfer_end(struct transfer *transfer, CURLcode result);

#endif
