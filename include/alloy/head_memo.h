/* SPDX-License-Identifier: Apache-2.0 */
/*
 * head_memo.h - knows heads of requests again, since most clients send the same one with each
 * request, but for the number in its Content-Length.
 *
 * What is said of a head that is known again is what http_parse_head() would say of it.
 *
 * Runs on: the thread that owns it.
 */
#ifndef ALLOY_HEAD_MEMO_H
#define ALLOY_HEAD_MEMO_H

#include "alloy/http_parse.h"

#define HEAD_MEMO_SLOTS 8   /* heads of programs that send by turns */
#define HEAD_MEMO_BYTES 512 /* a longer head is not kept */

struct head_memo_slot {
    char head[HEAD_MEMO_BYTES];
    size_t length_at;            /* where its Content-Length's digits begin; 0: there is no head */
    struct http_request request; /* what it says; the slices point into head */
};

/* All zero at first. */
struct head_memo {
    struct head_memo_slot slots[HEAD_MEMO_SLOTS];
};

/* Whether buf begins with a head that is known: then *request is as http_parse_head() would fill
 * it. */
MUST_CHECK bool head_memo_find(const struct head_memo *memo, const char *buf, size_t len,
                               struct http_request *request);
/* http_parse_head() has accepted the head that buf begins with, all of it at once. */
void head_memo_note(struct head_memo *memo, const char *buf, size_t len,
                    const struct http_request *request);

#endif
