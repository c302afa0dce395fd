/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_parse.h - parses heads of HTTP/1.0 and 1.1 requests in a receive buffer, strictly (RFC
 * 9112).
 *
 * Three outcomes: done, need more, bad. No allocation, no copy, no state but the caller's. Slices
 * point into the caller's buffer. Core: no socket, no clock.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_HTTP_PARSE_H
#define ALLOY_HTTP_PARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/coding.h"

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_OPTIONS, HTTP_OTHER };

enum http_result {
    HTTP_DONE,
    HTTP_MORE,
    HTTP_BAD,                 /* 400 bad_request */
    HTTP_UNSUPPORTED_VERSION, /* 505: a well-formed request line, but not HTTP/1.x */
    HTTP_NOT_IMPLEMENTED,     /* 501: a transfer coding other than chunked */
};

struct http_request {
    enum http_method method;
    struct slice method_text;
    struct slice path;    /* of an origin-form or absolute-form target, without the query; or "*" */
    struct slice query;   /* after '?', empty when there is none */
    int minor;            /* HTTP/1.minor: 0 or 1 (anything above 1 counts as 1) */
    bool keep_alive;      /* what version and Connection header say together */
    bool expect_continue; /* never in HTTP/1.0, which has no 100 (RFC 9110 section 10.1.1) */
    bool has_length;
    bool chunked;
    enum coding coding; /* what all Content-Encoding headers say together */
    uint64_t content_length;
    struct slice length_text;   /* of the Content-Length; empty: there is none, or several */
    struct slice authorization; /* value, trimmed; empty: no such header */
    struct slice prefer;        /* of the first Prefer header that is not empty */
    struct slice replay;        /* the same of Alloy-Replay: a voucher (voucher.h) */
    size_t head_len;            /* bytes of the head, final CRLF CRLF included; set on DONE */
    const char *problem;        /* on a refusal: one constant sentence for the client */
};

/*
 * Parses one head at buf. *scanned says how far earlier calls have searched buf for the end of the
 * head (0 for a new request; HTTP_MORE moves it on), so that a head that arrives byte by byte costs
 * linear time. CRLFs before the request line are skipped and count in head_len. *request is filled
 * on HTTP_DONE; after a refusal only its problem is valid, after HTTP_MORE nothing is.
 *
 * Refused as HTTP_BAD: bare CR, bare LF, obs-fold, space before a colon, an invalid header name,
 * control bytes in values, both Content-Length and Transfer-Encoding, differing lengths,
 * Transfer-Encoding in HTTP/1.0, HTTP/1.1 without exactly one Host, an invalid Host, a second
 * Authorization, more than 100 headers, an Expect other than 100-continue (problem says which). A
 * bad request line or header is reported as soon as its line is complete, a first byte that cannot
 * start a request at once, and what only several lines show at the end of the head. The outcome
 * does not depend on the pieces in which the head arrives.
 */
enum http_result http_parse_head(const char *buf, size_t len, size_t *scanned,
                                 struct http_request *request);

/* The trimmed value of the first header of this name in a head that http_parse_head() has accepted;
 * empty: there is none, or it says nothing. For what few requests need: it reads the head again. */
struct slice http_find_header(const char *head, size_t head_len, const char *lower_case_name);
/* The same from the end: the last header of this name that begins before *at, which then is where
 * it begins. False: there is none. */
bool http_find_header_before(const char *head, size_t *at, const char *lower_case_name,
                             struct slice *value);

#endif
