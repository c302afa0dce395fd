/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_header.h - the header of the PROXY protocol, versions 1 and 2, by which a proxy tells whose
 * connection it passes on (HAProxy's doc/proxy-protocol.txt).
 *
 * Three outcomes: done, need more, bad. No allocation, no copy, no state. Runs on: any thread.
 */
#ifndef ALLOY_PROXY_HEADER_H
#define ALLOY_PROXY_HEADER_H

#include <stdbool.h>
#include <stddef.h>

#include "alloy/address.h"

/* Bytes of the longest header that we take. Version 2 could be 64 KiB long; what proxies add to its
 * addresses are a few hundred bytes. */
#define PROXY_HEADER_MAX 4096

enum proxy_header_result { PROXY_HEADER_DONE, PROXY_HEADER_MORE, PROXY_HEADER_BAD };

struct proxy_header {
    size_t len; /* of the header: what follows is the client's */
    /* False for the proxy's own connections (version 2: LOCAL; its health checks) and where it does
     * not know (UNKNOWN, UNSPEC): the socket's own address counts. */
    bool has_client;
    struct address client; /* ADDRESS_UNIX: a unix socket of the proxy's */
};

/*
 * Parses the header that the len bytes at data begin with. On MORE all of them belong to it, and
 * there are fewer than PROXY_HEADER_MAX; fills *header on DONE alone. What cannot become a header
 * is BAD as soon as a whole field shows it, so the outcome does not depend on the pieces.
 */
enum proxy_header_result proxy_header_parse(const char *data, size_t len,
                                            struct proxy_header *header);

#endif
