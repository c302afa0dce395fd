/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coding.h - compressed request bodies: which Content-Encoding it is, and what was compressed. A
 * form with events in its member data is one more coding.
 *
 * Core: no socket, no clock, and no memory but the contexts of zlib and zstd, which are made at
 * their first use and kept.
 *
 * Runs on: a decoder, one thread at a time; the rest, any thread.
 */
#ifndef ALLOY_CODING_H
#define ALLOY_CODING_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "alloy/base.h"

enum coding {
    CODING_NONE,    /* identity, or no Content-Encoding */
    CODING_GZIP,    /* RFC 1952; x-gzip is the same */
    CODING_DEFLATE, /* RFC 1950, or bare RFC 1951 as some clients send it */
    CODING_ZSTD,    /* RFC 8878 */
    CODING_FORM,    /* data=, percent-encoded JSON or base64 of JSON; never a Content-Encoding */
    CODING_UNKNOWN, /* anything else, and several codings one over another */
};

/* A zstd frame that needs a larger window is refused: RFC 9659 allows senders no more. */
#define CODING_ZSTD_WINDOW_LOG_MAX 23 /* 8 MiB */

/* What the earlier Content-Encoding headers, and one more with this trimmed value, say together. */
enum coding coding_add(enum coding earlier, struct slice value);

#define CODING_FORM_PREFIX "data="

/* What a body is that has no Content-Encoding: JSON begins neither as gzip nor as a form does. */
static inline enum coding coding_of_body(struct slice body)
{
    const size_t len = sizeof(CODING_FORM_PREFIX) - 1;

    if (body.len >= 2 && body.data[0] == '\x1f' && body.data[1] == '\x8b')
        return CODING_GZIP;
    if (body.len >= len && body.data[0] == 'd' && memcmp(body.data, CODING_FORM_PREFIX, len) == 0)
        return CODING_FORM;
    return CODING_NONE;
}

/* How long the body says that it is when decoded; 0: it does not say. Nobody must believe it. */
size_t coding_announced(enum coding coding, struct slice body);

struct coding_decoder;

/* Returns owned (coding_destroy()); NULL: out of memory. */
struct coding_decoder *coding_create(void);
void coding_destroy(struct coding_decoder *decoder); /* NULL is fine */

/* Where decoded bytes go. */
struct coding_out {
    char *data;
    size_t size; /* room at data; at most max + 1 */
    size_t len;  /* bytes of the body decoded so far, all of them at data */
    size_t max;  /* that the body may have */
};

enum coding_result {
    CODING_DONE,      /* the body is decoded, all of it */
    CODING_MORE,      /* all of raw is used: the body goes on */
    CODING_FULL,      /* out is full: goes on when it has more room */
    CODING_TOO_LARGE, /* the body is longer than max; the rest of it has not been decoded */
    CODING_BAD,       /* coding_problem() tells */
    CODING_NO_MEMORY,
};

/* Begins a body, whatever has become of the last one. coding is GZIP, DEFLATE, ZSTD, or FORM, whose
 * raw bytes begin with CODING_FORM_PREFIX. */
void coding_begin(struct coding_decoder *decoder, enum coding coding);

/*
 * Decodes raw bytes into out and moves raw on. last: no bytes come after these. Between two calls
 * the decoded bytes may move. The outcome does not depend on the pieces in which the body came, but
 * for one: a zstd frame that is there whole, says its length and fits into out needs no window.
 * Several gzip members, or zstd frames, are one body; anything else behind the end is CODING_BAD.
 * After DONE, TOO_LARGE, BAD and NO_MEMORY the next call is coding_begin().
 */
enum coding_result coding_decode(struct coding_decoder *decoder, struct slice *raw, bool last,
                                 struct coding_out *out);

/* After CODING_BAD: one constant sentence for the client. */
const char *coding_problem(const struct coding_decoder *decoder);

#endif
