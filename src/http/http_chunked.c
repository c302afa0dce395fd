/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_chunked.c - decodes chunked bodies in place, a byte of framing at a time, and refuses what
 * is ambiguous.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "alloy/http_chunked.h"
#include "alloy/text.h"
#include "http_bytes.h"

#include <string.h>

#define SIZE_LINE_MAX 256
#define TRAILER_BYTES_MAX 8192

enum chunk_state {
    CHUNK_SIZE, /* 0, so that a zero-initialised decoder starts here */
    CHUNK_SPACE,
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    TRAILER_START,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    TRAILER_END_LF,
    CHUNK_END,
    CHUNK_REFUSED,
};

static enum chunk_state http_chunked_refuse(struct http_chunked *chunked, const char *problem)
{
    chunked->problem = problem;
    return CHUNK_REFUSED;
}

/* One byte of a chunk's size: 1*HEXDIG, then its CR or an extension. */
static enum chunk_state http_chunked_size_step(struct http_chunked *chunked, char byte)
{
    int digit = text_hex_digit(byte);

    if (digit >= 0) {
        if (chunked->remaining > HTTP_LENGTH_MAX >> 4) {
            return http_chunked_refuse(chunked, "A chunk's size is too large.");
        }
        chunked->remaining = chunked->remaining << 4 | (uint64_t)digit;
        return CHUNK_SIZE;
    }
    if (chunked->line_len > 1) {
        if (byte == '\r') {
            return CHUNK_SIZE_LF;
        }
        if (byte == ';') {
            return CHUNK_EXTENSION;
        }
        if (http_is_space(byte)) {
            return CHUNK_SPACE;
        }
    }
    return http_chunked_refuse(chunked, "A chunk's size is not a hexadecimal number.");
}

/*
 * One byte of the rest of a size line. An extension may be any text: as long as we refuse control
 * bytes, its grammar does not affect where the line ends and data starts.
 */
static enum chunk_state http_chunked_extension_step(struct http_chunked *chunked, char byte)
{
    switch ((enum chunk_state)chunked->state) {
    case CHUNK_SPACE:
        if (http_is_space(byte)) {
            return CHUNK_SPACE;
        }
        if (byte == ';') {
            return CHUNK_EXTENSION;
        }
        break;
    case CHUNK_EXTENSION:
        if (byte == '\r') {
            return CHUNK_SIZE_LF;
        }
        if (http_byte_is(byte, HTTP_VALUE)) {
            return CHUNK_EXTENSION;
        }
        break;
    default: /* CHUNK_SIZE_LF */
        if (byte == '\n') {
            chunked->line_len = 0;
            return chunked->remaining > 0 ? CHUNK_DATA : TRAILER_START;
        }
    }
    return http_chunked_refuse(chunked, "A chunk's size line is not valid.");
}

/* One byte of the trailers: header lines up to an empty one. */
static enum chunk_state http_chunked_trailer_step(struct http_chunked *chunked, char byte)
{
    switch ((enum chunk_state)chunked->state) {
    case TRAILER_START:
        if (byte == '\r') {
            return TRAILER_END_LF;
        }
        if (http_byte_is(byte, HTTP_TOKEN)) {
            return TRAILER_NAME;
        }
        break;
    case TRAILER_NAME:
        if (http_byte_is(byte, HTTP_TOKEN)) {
            return TRAILER_NAME;
        }
        if (byte == ':') {
            return TRAILER_VALUE;
        }
        break;
    case TRAILER_VALUE:
        if (byte == '\r') {
            return TRAILER_LF;
        }
        if (http_byte_is(byte, HTTP_VALUE)) {
            return TRAILER_VALUE;
        }
        break;
    default: /* TRAILER_LF, TRAILER_END_LF */
        if (byte == '\n') {
            chunked->line_len = 0;
            return chunked->state == TRAILER_LF ? TRAILER_START : CHUNK_END;
        }
    }
    return http_chunked_refuse(chunked, "A trailer is not valid.");
}

/* One byte that is not data; returns the state after it. */
static enum chunk_state http_chunked_framing_step(struct http_chunked *chunked, char byte)
{
    enum chunk_state state = (enum chunk_state)chunked->state;

    if (state == CHUNK_DATA_CR && byte == '\r') {
        return CHUNK_DATA_LF;
    }
    if (state == CHUNK_DATA_LF && byte == '\n') {
        return CHUNK_SIZE;
    }
    if (state == CHUNK_DATA_CR || state == CHUNK_DATA_LF) {
        return http_chunked_refuse(chunked, "A chunk's data does not end where its size says.");
    }
    chunked->line_len++;
    if (state >= TRAILER_START) {
        chunked->trailer_len++;
        return chunked->trailer_len <= TRAILER_BYTES_MAX
                   ? http_chunked_trailer_step(chunked, byte)
                   : http_chunked_refuse(chunked, "The trailers are too long.");
    }
    if (chunked->line_len > SIZE_LINE_MAX) {
        return http_chunked_refuse(chunked, "A chunk's size line is too long.");
    }
    return state == CHUNK_SIZE ? http_chunked_size_step(chunked, byte)
                               : http_chunked_extension_step(chunked, byte);
}

enum http_result http_chunked_decode(struct http_chunked *chunked, char *body, size_t raw_len,
                                     size_t *consumed)
{
    const char *raw = body + chunked->decoded;
    const char *p = raw;
    const char *end = raw + raw_len;

    while (p < end && chunked->state != CHUNK_END && chunked->state != CHUNK_REFUSED) {
        size_t available = (size_t)(end - p);

        if (chunked->state != CHUNK_DATA) {
            chunked->state = (int)http_chunked_framing_step(chunked, *p);
            p++;
            continue;
        }
        if (available > chunked->remaining) {
            available = (size_t)chunked->remaining;
        }
        if (p != body + chunked->decoded) {
            memmove(body + chunked->decoded, p, available);
        }
        p += available;
        chunked->decoded += available;
        chunked->remaining -= available;
        if (chunked->remaining == 0) {
            chunked->state = CHUNK_DATA_CR;
        }
    }
    *consumed = (size_t)(p - raw);
    if (chunked->state == CHUNK_REFUSED) {
        return HTTP_BAD;
    }
    return chunked->state == CHUNK_END ? HTTP_DONE : HTTP_MORE;
}
