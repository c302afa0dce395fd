/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply.h - writes the bytes of one answer of the ingest port.
 *
 * Runs on: any thread; nothing is shared.
 */
#ifndef ALLOY_REPLY_H
#define ALLOY_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/cors.h"
#include "alloy/error_code.h"

/* No answer is longer than REPLY_MAX: a message is cut at REPLY_MESSAGE_MAX bytes before it is
 * escaped. */
#define REPLY_MESSAGE_MAX 200
#define REPLY_MAX 2048
/* A 422, which lists up to WAITER_REJECTIONS_MAX rejected events, and the other long answers. */
#define REPLY_COLUMN_MAX 64
#define REPLY_TYPE_MAX 80
#define REPLY_GOT_MAX 60
#define REPLY_REJECTED_MAX (32 * 1024)

/* The interim answer to Expect: 100-continue. */
#define REPLY_CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"

/* The Date line's value, formatted once a second. Zero-initialise; one for each thread. */
struct reply_date {
    uint64_t second; /* since 1970, of text */
    char text[30];   /* "Tue, 24 Nov 2026 06:55:15 GMT" */
};
void reply_date_update(struct reply_date *date, uint64_t real_ms);

/* What is told of an event that does not fit its table. Printable UTF-8. */
struct reply_mismatch {
    char message[REPLY_MESSAGE_MAX + 1]; /* for the client alone: it may have a piece of a value */
    char note[REPLY_MESSAGE_MAX + 1];    /* the same without it */
    char column[REPLY_COLUMN_MAX + 1];   /* or field, where there is no column */
    char type[REPLY_TYPE_MAX + 1];       /* empty: there is no column */
    char got[REPLY_GOT_MAX + 1];
};

/* Events of a lenient request that are at fault; of the later ones only the number is told. */
#define REPLY_ERRORS_MAX 100
struct reply_errors {
    uint32_t invalid; /* events */
    uint32_t count;   /* of these that are listed */
    struct {
        uint32_t event;
        size_t offset;
        enum error_code error;
        const char *message;             /* constant text */
        struct reply_mismatch *mismatch; /* owned; NULL: it is something else */
    } list[REPLY_ERRORS_MAX];
};

struct waiter_rejection;

struct reply {
    uint16_t status;
    enum error_code error; /* NONE with a success, and only then */
    bool close;            /* says Connection: close */
    bool keep_alive;       /* says Connection: keep-alive, which HTTP/1.0 clients need to hear */
    bool head_only;        /* the answer to HEAD: everything but the body */
    bool has_place;        /* event and offset are part of the body */
    uint16_t retry_s;      /* Retry-After of a 429 or 503; 0: none, and 1 of a 503 */
    /* success, and a lenient request without a good event */
    uint32_t accepted;
    uint32_t duplicates;
    bool lenient;                      /* the body tells of invalid events too */
    const struct reply_errors *errors; /* of those; NULL: there are none; borrowed */
    const char *answer;                /* the whole body; NULL: what is known; borrowed */
    const char *allow;                 /* of a 204: methods; NULL: none; of a 405: NULL: POST */
    const struct cors *cors;           /* what a page in a browser is told; NULL: none; borrowed */
    union {
        struct {
            const char *message; /* of an error; constant text, or mismatch's note */
            const struct reply_mismatch *mismatch; /* of a schema_mismatch; borrowed; may be NULL */
        };
        struct { /* 422; borrowed */
            const struct waiter_rejection *rejections;
            uint32_t rejected;
            uint32_t rejected_duplicates; /* of these */
        };
    };
    uint32_t event;
    size_t offset;
};

/* Writes the answer; returns its length. 405 carries Allow, 415 Accept-Encoding, 503 Retry-After.
 * out has room for REPLY_MAX bytes, and for a 422, with errors, or for a preflight
 * REPLY_REJECTED_MAX. */
size_t reply_write(const struct reply *reply, const struct reply_date *date, char *out);

#endif
