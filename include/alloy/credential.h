/* SPDX-License-Identifier: Apache-2.0 */
/*
 * credential.h - the keys that a request brings along, wherever clients put them.
 *
 * In this order: `Authorization: Bearer KEY`, the user name of `Authorization: Basic`, `X-Api-Key`,
 * `X-Write-Key`, and the query parameters `key`, `write_key`, `api_key` and `writeKey`
 * (RudderStack's beacons).
 *
 * Runs on: any thread. Core: no allocation.
 */
#ifndef ALLOY_CREDENTIAL_H
#define ALLOY_CREDENTIAL_H

#include <stdbool.h>
#include <stddef.h>

#include "alloy/base.h"
#include "alloy/http_parse.h"

#define CREDENTIAL_MAX 512     /* bytes of a key; a longer one is not looked at */
#define CREDENTIAL_TRIES_MAX 8 /* a request with more keys than that is guessing */

struct credential_walk {
    const struct http_request *request;
    struct slice head;
    /* private */
    int stage;
    unsigned tries;
    struct slice rest;         /* of the query */
    char text[CREDENTIAL_MAX]; /* what was decoded */
};

/* head is the request's, as http_parse_head() has accepted it. Both are borrowed. */
void credential_walk_init(struct credential_walk *walk, const struct http_request *request,
                          struct slice head);
/* The next key that is not empty, lent until the next call. False: there is no other. */
bool credential_next(struct credential_walk *walk, struct slice *key);

#endif
