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

/* Bytes of an answer that are kept. */
#define TRANSFER_BODY_MAX 4096
#define TRANSFER_BODY_LONG 65536 /* where it lists something */

struct transfer {
    struct transfer *next; /* for whoever holds it */
    CURL *easy;
    struct insert *insert; /* NULL: a question */
    uint16_t stream;
    bool columns; /* the question is about the table's columns */
    uint64_t started_ns;
    struct insert_answer answer; /* after transfer_end() */
    char *url;
    char error[CURL_ERROR_SIZE]; /* curl's sentence; "" when it gave none */
    size_t body_len;
    size_t body_max;
    char body[];
};

/* The headers of every request, credentials among them. Returns owned (curl_slist_free_all());
 * NULL: out of memory. */
struct curl_slist *transfer_headers(const struct config *config);

/*
 * A POST of insert's bytes (NULL: of nothing) to url, which it takes; of the answer it keeps
 * body_max bytes. The caller adds transfer->easy to a multi handle, which keeps the connections.
 * Returns owned (transfer_destroy()); NULL: out of memory. Borrows headers.
 */
struct transfer *transfer_create(struct curl_slist *headers, char *url, struct insert *insert,
                                 uint64_t timeout_ms, size_t body_max);
void transfer_destroy(struct transfer *transfer); /* NULL is fine; not while in a multi handle */
/* Fills answer; result is curl's. */
void transfer_end(struct transfer *transfer, CURLcode result);

#endif
