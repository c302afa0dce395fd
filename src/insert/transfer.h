/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer.h - one exchange with ClickHouse over HTTP: sends an insert's body, receives the answer.
 * With flusher.c, which owns the multi handle, the home of libcurl.
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

/* How many bytes of an answer we keep. */
#define TRANSFER_BODY_MAX 4096
#define TRANSFER_BODY_LONG 65536 /* for answers that are lists */

struct transfer {
    struct transfer *next; /* for the list of whoever holds it */
    CURL *easy;
    struct insert *insert; /* NULL: a question */
    uint16_t stream;
    bool columns; /* the question is about the table's columns */
    uint64_t started_ns;
    struct insert_answer answer; /* after transfer_end() */
    char *url;
    char error[CURL_ERROR_SIZE]; /* curl's message; "": none */
    size_t body_len;
    size_t body_max;
    char body[];
};

/* The headers of every request, credentials among them. Returns owned (curl_slist_free_all());
 * NULL: out of memory. */
struct curl_slist *transfer_headers(const struct config *config);

/*
 * Makes a POST of insert's bytes (NULL: of nothing) to url, which it takes; keeps body_max bytes of
 * the answer. The caller adds transfer->easy to a multi handle, which keeps the connections.
 * Returns owned (transfer_destroy()); NULL: out of memory. Borrows headers.
 */
struct transfer *transfer_create(struct curl_slist *headers, char *url, struct insert *insert,
                                 uint64_t timeout_ms, size_t body_max);
void transfer_destroy(struct transfer *transfer); /* NULL is fine; not while in a multi handle */
/* Fills answer from curl's result and the headers. */
void transfer_end(struct transfer *transfer, CURLcode result);

#endif
