/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_bytes.h - what a byte may be in HTTP, for the parsers of heads and of chunked bodies.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_HTTP_BYTES_H
#define ALLOY_HTTP_BYTES_H

#include <stdbool.h>
#include <stdint.h>

/* A longer body is refused, so that sums of lengths cannot overflow. */
#define HTTP_LENGTH_MAX ((uint64_t)INT64_MAX)

enum http_byte_class {
    HTTP_TOKEN = 1,  /* tchar, RFC 9110 section 5.6.2 */
    HTTP_TARGET = 2, /* visible ASCII without '#' */
    HTTP_VALUE = 4,  /* field-vchar, space, tab */
    HTTP_HOST = 8,   /* uri-host and port, RFC 3986 section 3.2.2 */
};

/* For each byte the classes that it is in. */
extern const unsigned char http_byte_classes[256];

static inline bool http_byte_is(char byte, unsigned char_class)
{
    return (http_byte_classes[(unsigned char)byte] & char_class) != 0;
}

static inline bool http_is_space(char byte)
{
    return byte == ' ' || byte == '\t';
}

#endif
