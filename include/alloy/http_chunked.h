/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_chunked.h - decodes the chunked body of a request in its receive buffer (RFC 9112
 * section 7.1).
 *
 * Core: no allocation, no socket, no clock. Runs on: any thread.
 */
#ifndef ALLOY_HTTP_CHUNKED_H
#define ALLOY_HTTP_CHUNKED_H

#include <stddef.h>
#include <stdint.h>

#include "alloy/http_parse.h"

/*
 * Decodes a chunked body in place: moves the data to the front of the body, so that it becomes one
 * contiguous slice. Zero-initialise for each body.
 */
struct http_chunked {
    uint64_t remaining;   /* data bytes left in the chunk being read */
    int state;            /* private */
    uint32_t line_len;    /* bytes of the current size line or trailer line so far: bounded */
    uint32_t trailer_len; /* bytes of all trailer lines so far: bounded */
    size_t decoded;       /* bytes of body decoded so far, at the front */
    const char *problem;
};

/*
 * body[0, decoded) holds what was decoded before; raw_len raw bytes follow at body + decoded. Moves
 * data down and sets *consumed to the raw bytes used. Returns HTTP_DONE at the end of the last
 * trailer (bytes after it belong to the next request and stay where they are), HTTP_MORE when it
 * has used all raw bytes, HTTP_BAD on anything else. Checks and drops chunk extensions and
 * trailers: a size line has at most 256 bytes, all trailer lines together 8 KiB, line ends
 * included. After HTTP_MORE the caller receives more at body + decoded. After HTTP_DONE or HTTP_BAD
 * another call returns the same again.
 */
enum http_result http_chunked_decode(struct http_chunked *chunked, char *body, size_t raw_len,
                                     size_t *consumed);

#endif
