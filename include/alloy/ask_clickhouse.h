/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask_clickhouse.h - asks ClickHouse one thing at a time and waits for the answer.
 *
 * Runs on: the thread that owns it.
 */
#ifndef ALLOY_ASK_CLICKHOUSE_H
#define ALLOY_ASK_CLICKHOUSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/config.h"

#define ASK_CLICKHOUSE_BODY_MAX (1u << 20) /* of an answer; the rest is dropped */
#define ASK_CLICKHOUSE_WHY_MAX 400

struct ask_clickhouse_answer {
    bool reached; /* there was an answer over HTTP */
    bool right;   /* and it is what was asked for */
    long status;  /* of HTTP */
    int code;     /* of ClickHouse's exception; 0: none */
    bool counted; /* written_rows is there */
    uint64_t written_rows;
    uint64_t took_us;
    char why[ASK_CLICKHOUSE_WHY_MAX]; /* not right: curl's words or ClickHouse's; one line */
};

struct ask_clickhouse {
    const struct config *config;
    void *easy;    /* CURL * */
    void *headers; /* struct curl_slist * */
    char *base;    /* of the endpoint that is asked; owned */
    unsigned timeout_ms;
    struct ask_clickhouse_answer answer; /* the last one */
    char *body;                          /* of it, with a NUL behind; owned */
    size_t len;
};

/* Asks the first endpoint of clickhouse.url. False: out of memory. ask_clickhouse_close() in both
 * cases. Borrows config. */
bool ask_clickhouse_open(struct ask_clickhouse *ask, const struct config *config,
                         unsigned timeout_ms);
void ask_clickhouse_close(struct ask_clickhouse *ask);
/* From now on asks the endpoint of this number in clickhouse.url. False: there is none, or out of
 * memory. */
bool ask_clickhouse_at(struct ask_clickhouse *ask, size_t number);

/* Asks a URL of insert_request.h, which it takes (NULL: out of memory); body may be NULL. Returns
 * answer.right. */
bool ask_clickhouse_url(struct ask_clickhouse *ask, char *url, const char *body);
/* The same with a body of another type than bytes, which may have NULs. */
bool ask_clickhouse_typed(struct ask_clickhouse *ask, char *url, const char *content_type,
                          struct slice body);
/* Asks a query, as its body; with settings. */
bool ask_clickhouse(struct ask_clickhouse *ask, const char *query,
                    const struct config_setting *settings, size_t count);
/* Sends the first half of body as if all of it came, and cuts the connection. */
void ask_clickhouse_cut(struct ask_clickhouse *ask, char *url, const char *body);

#endif
