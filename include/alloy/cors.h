/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cors.h - which web pages may send events (the Fetch standard, section 3.3, "CORS protocol").
 *
 * Runs on: any thread; nothing is shared.
 */
#ifndef ALLOY_CORS_H
#define ALLOY_CORS_H

#include <stdbool.h>

#include "alloy/base.h"

#define CORS_ORIGIN_MAX 256
#define CORS_HEADERS_MAX (30 * 1024) /* bytes of the names of those that a page asks to send */
#define CORS_HEADERS_KEPT_MAX 700    /* the same, where they have to be copied */

/* What an answer to a page of an allowed origin says. */
struct cors {
    struct slice origin; /* echoed, since credentials rule out '*' */
    bool preflight;      /* it answers OPTIONS: what the page may send */
    struct slice asked;  /* the headers that it wants to send, echoed; may be empty */
    char text[];         /* holds the origin, and asked if that is kept */
};

/*
 * Returns owned (free()) what to tell the page of a request with this Origin header; NULL: nothing,
 * as the header is empty, the origin is not one of origins ("*", or a comma-separated list), what
 * it asks for is no list of header names, or memory is out. asked: Access-Control-Request-Headers,
 * borrowed as long as the result lives; keep: copied, and a long one is refused, so that clients
 * who stay in the middle of a request cost little.
 */
struct cors *cors_create(const char *origins, struct slice origin, struct slice asked, bool keep);

#endif
