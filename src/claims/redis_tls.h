/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_tls.h - TLS for a connection to Redis.
 *
 * Runs on: the thread that owns the link.
 */
#ifndef ALLOY_REDIS_TLS_H
#define ALLOY_REDIS_TLS_H

#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"

struct redis_link;
struct redis_tls;

/* Reads the files that the link's URL names, and shakes hands over its connected socket; the
 * certificate must be host's. Returns 0 and owned TLS state (redis_tls_destroy()), or -errno with
 * the link's reason. */
MUST_CHECK int redis_tls_start(struct redis_tls **tls, struct redis_link *link, const char *host,
                               uint64_t deadline_ns);
void redis_tls_destroy(struct redis_tls *tls); /* NULL is fine */

/* Encrypts what was built in the link; then sends some of it, as redis_link_push() does. */
MUST_CHECK int redis_tls_seal(struct redis_tls *tls, struct redis_link *link);
MUST_CHECK int redis_tls_push(struct redis_tls *tls, struct redis_link *link);
/* Takes len bytes that were received into the link's input, and feeds the parser with what they
 * hold, which may be nothing. Returns 0, or -errno with the link's reason. */
MUST_CHECK int redis_tls_take(struct redis_tls *tls, struct redis_link *link, size_t len);

#endif
