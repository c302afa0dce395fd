/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard.h - who may read the admin port: its key, and no web page of somebody else.
 *
 * Runs on: any thread. Core: no socket.
 */
#ifndef ALLOY_GUARD_H
#define ALLOY_GUARD_H

#include <stdbool.h>
#include <stddef.h>

#include "alloy/config.h"

#define GUARD_COOKIE_MAX 4096 /* bytes that guard_cookie() writes at most, NUL included */

enum guard_verdict {
    GUARD_PASS,
    GUARD_KEY,    /* 401: it needs the key of admin.key_file */
    GUARD_HOST,   /* 403: this Host is none of ours */
    GUARD_ORIGIN, /* 403: a page of another origin asks */
};

/* What a request says of itself; NULL: nothing. */
struct guard_request {
    const char *host;
    const char *origin;
    const char *authorization;
    const char *cookie;
    const char *query;
    bool unix_socket; /* no browser gets there */
};

enum guard_verdict guard_judge(const struct config *config, const struct guard_request *request);

/* Writes the value of a Set-Cookie with the key that the query holds, so that what a page loads has
 * it too. False: the query holds none. */
bool guard_cookie(const char *query, char out[GUARD_COOKIE_MAX]);

#endif
