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
#define TRANSFER_BODY_COLUMNS (1u << 20)

enum transfer_kind {
    TRANSFER_INSERT,
    /* questions: see insert_request.h */
    TRANSFER_TABLE,
    TRANSFER_COLUMNS,
    TRANSFER_TRACE,
    TRANSFER_COUNT,
    TRANSFER_ROWS,
    TRANSFER_SITE,
    TRANSFER_PING,
};

struct transfer_text {
    const char *data;
    size_t len;
    size_t at; /* where it goes on */
};

struct transfer {
    struct transfer *next; /* for the list of whoever holds it */
    CURL *easy;
    struct insert *insert;           /* whose rows are posted; NULL: none */
    struct transfer_text head, tail; /* around them */
    uint16_t stream;
    uint16_t shard;
    size_t endpoint; /* its number; ENDPOINTS_NONE: it is no longer one of those in use */
    enum transfer_kind kind;
    bool resent; /* curl has begun it twice */
    bool once;   /* which it must not: what may be there is asked for first */
    uint64_t started_ns;
    struct insert_answer answer; /* after transfer_end() */
    char *url;
    char error[CURL_ERROR_SIZE]; /* curl's message; "": none */
    size_t body_len;
    size_t body_max;
    char body[];
};

#define TRANSFER_BYTES "application/octet-stream"
/* The headers of every request of this type, credentials among them. Returns owned
 * (curl_slist_free_all()); NULL: out of memory. */
struct curl_slist *transfer_headers(const struct config *config, const char *content_type);

/*
 * Makes a POST of insert's bytes (NULL: of nothing) to url, which it takes; keeps body_max bytes of
 * the answer. The caller adds transfer->easy to a multi handle, which keeps the connections.
 * Returns owned (transfer_destroy()); NULL: out of memory. Borrows headers.
 */
struct transfer *transfer_create(struct curl_slist *headers, char *url, struct insert *insert,
                                 uint64_t timeout_ms, size_t body_max);
/* Puts texts, which it borrows until its end, around the insert's bytes. Not once it has begun. */
void transfer_wrap(struct transfer *transfer, const char *head, const char *tail);
void transfer_destroy(struct transfer *transfer); /* NULL is fine; not while in a multi handle */
/* Fills answer from curl's result and the headers. */
void transfer_end(struct transfer *transfer, CURLcode result);
/* After that: whether a question has its answer. */
bool transfer_is_answered(const struct transfer *transfer);

#endif
