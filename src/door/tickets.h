/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tickets.h - the keys that TLS tickets are encrypted with, and their rotation.
 *
 * A key encrypts for three hours, and is good for two more, as long as its last ticket. Then it is
 * erased: who takes the process's memory cannot read what was sent in resumed connections of TLS
 * 1.2 before that. All threads, and the contexts of all reloads, have the same keys.
 *
 * Runs on: tickets_rotate() and tickets_retire() the main thread; a handshake any thread, under a
 * lock that is held to copy a key and no longer.
 */
#ifndef ALLOY_TICKETS_H
#define ALLOY_TICKETS_H

#include <stdbool.h>
#include <stdint.h>

#include "alloy/base.h"

#define TICKETS_LIFETIME_S 7200
#define TICKETS_ROTATE_MS (UINT64_C(3) * 3600 * 1000)

struct tickets;
struct ssl_ctx_st;

/* Gives a new context keys of its own. False: out of memory. */
MUST_CHECK bool tickets_attach(struct ssl_ctx_st *context);
/* The context has the keys of another one from now on. Nobody uses it yet. */
void tickets_share(struct ssl_ctx_st *context, const struct ssl_ctx_st *from);
/* Another context takes this one's place, and its tickets count no more: forgets its keys. */
void tickets_retire(const struct ssl_ctx_st *context);
/* Makes a new key and erases old ones when their time has come. now_ms: monotonic; the first call
 * begins the time of the first key. */
void tickets_rotate(const struct ssl_ctx_st *context, uint64_t now_ms);

#endif
