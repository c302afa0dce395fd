/* SPDX-License-Identifier: Apache-2.0 */
/*
 * setbacks.h - the inserts that ClickHouse did not take last, and the events that became dead
 * letters, for people who look at the page.
 *
 * What repeats itself is one entry with a count. Where there is no room a new one takes the place
 * of the oldest of the stream that has most, so that a stream in trouble does not hide another.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_SETBACKS_H
#define ALLOY_SETBACKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"

#define SETBACKS_KEPT 30 /* of each kind */
#define SETBACKS_MESSAGE_MAX 500
#define SETBACKS_EVENT_MAX 1000 /* bytes; of longer ones the first */

enum setback_kind { SETBACK_INSERT, SETBACK_LETTER, SETBACK_KINDS };

/* Texts end with NUL. */
struct setback {
    uint64_t number;   /* set by setbacks_note(): in the order in which they came last */
    uint64_t first_ms; /* since 1970; set by setbacks_note(), like times */
    uint64_t time_ms;  /* of the last one */
    uint64_t times;
    uint64_t rows; /* of the last one */
    unsigned stream;
    int code;          /* ClickHouse's; 0: none */
    int status;        /* of HTTP; 0: no answer, or none is known */
    const char *class; /* of an insert: as in alloy_clickhouse_errors_total; constant */
    bool told;         /* the message is of something else than an event */
    char message[SETBACKS_MESSAGE_MAX + 1]; /* empty: it may quote an event */
    char event[SETBACKS_EVENT_MAX + 1];     /* empty: it is not to be shown */
};

struct setbacks;

struct setbacks *setbacks_create(void); /* returns owned: setbacks_destroy(); NULL: no memory */
void setbacks_destroy(struct setbacks *setbacks); /* NULL is fine */
/* Copies text to out, which has room for max bytes and a NUL: what does not fit is cut between two
 * characters, control characters become spaces, and bytes that are no UTF-8 question marks. */
void setbacks_copy(char *out, size_t max, struct slice text);
/* Keeps a copy of setback. NULL for setbacks is fine. */
void setbacks_note(struct setbacks *setbacks, enum setback_kind kind,
                   const struct setback *setback);
/* Copies what is kept of a kind, the latest first; returns how many. */
size_t setbacks_read(struct setbacks *setbacks, enum setback_kind kind,
                     struct setback out[SETBACKS_KEPT]);

#endif
