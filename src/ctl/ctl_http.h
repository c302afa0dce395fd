/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_http.h - requests of alloyctl over HTTP: to alloyd's ports, and to ClickHouse.
 *
 * Runs on: main thread. Blocks until the answer is there or the time is up.
 */
#ifndef ALLOY_CTL_HTTP_H
#define ALLOY_CTL_HTTP_H

#include "alloy/base.h"

#define CTL_HTTP_ERROR_MAX 256
#define CTL_HTTP_ANSWER_MAX ((size_t)64 << 20) /* a longer answer is an error */

/* One connection, which is kept from request to request. */
struct ctl_http;

struct ctl_http_request {
    const char *url;
    const char *method; /* NULL: POST when there is a body, else GET */
    const char *body;   /* NULL: none */
    size_t body_len;
    const char *const *headers; /* "Name: value", and NULL at the end; NULL: none */
    const char *bearer;         /* a key, sent as Authorization: Bearer; NULL or "": none */
    long timeout_ms;
};

struct ctl_http_answer {
    long status; /* 0: there was none, and error says why */
    char *body;  /* ends with NUL; lent until the next request or ctl_http_destroy() */
    size_t len;
    unsigned retry_after_s; /* 0: the answer does not say */
    char error[CTL_HTTP_ERROR_MAX];
};

/* NULL: out of memory. */
struct ctl_http *ctl_http_create(void);
void ctl_http_destroy(struct ctl_http *http);
void ctl_http_send(struct ctl_http *http, const struct ctl_http_request *request,
                   struct ctl_http_answer *answer);

/* The owned URL base/path, whatever slashes base ends with; path is without its first one. NULL:
 * out of memory. */
char *ctl_http_url(const char *base, const char *path);
/* text as a part of a path or a query, owned; NULL: out of memory. */
char *ctl_http_escape(const char *text);

#endif
