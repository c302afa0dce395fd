/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_sample.h - what sample events hold: for each member of their objects the kinds and ranges of
 * its values.
 *
 * Runs on: main thread.
 */
#ifndef ALLOY_CTL_SAMPLE_H
#define ALLOY_CTL_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "alloy/base.h"

#define CTL_SAMPLE_COLUMNS_MAX 1000
#define CTL_SAMPLE_NAME_MAX 255
#define CTL_SAMPLE_DISTINCT_MAX 600 /* different texts that are told apart */

/* Kinds of values. */
enum ctl_kind {
    CTL_KIND_NULL,
    CTL_KIND_BOOL,
    CTL_KIND_INTEGER,
    CTL_KIND_FLOAT, /* a number with a point or an exponent */
    CTL_KIND_TEXT,
    CTL_KIND_ARRAY,
    CTL_KIND_OBJECT,
    CTL_KIND_COUNT
};

/* What each text of a place is so far; bits. */
#define CTL_FORM_DATE 1u     /* 2026-01-31 */
#define CTL_FORM_DATETIME 2u /* 2026-01-31T12:00:00.123Z */
#define CTL_FORM_UUID 4u
#define CTL_FORM_IPV4 8u
#define CTL_FORM_IPV6 16u
#define CTL_FORM_ALL 31u

/* Values of one place. */
struct ctl_seen {
    uint64_t kinds[CTL_KIND_COUNT];
    bool negative;      /* an integer below 0 */
    uint64_t magnitude; /* the largest of the integers, without their signs */
    size_t digits;      /* of the longest integer */
    unsigned forms;     /* that all texts have */
    unsigned fraction;  /* digits of a second, at most */
    size_t longest;     /* bytes of a text */
};

struct ctl_column {
    char *name;
    uint64_t events; /* that have it */
    struct ctl_seen seen;
    struct ctl_seen inside; /* elements of its arrays, or members of its objects */
    const char
        *not_json; /* why an object would change in a column of type JSON; NULL: none would */
    /* Different texts, up to CTL_SAMPLE_DISTINCT_MAX; one more: there are too many. */
    size_t distinct;
    uint64_t *hashes; /* owned */
};

struct ctl_sample {
    struct ctl_column *columns; /* in the order of their first coming; owned */
    size_t count;
    size_t next; /* the column that the next member should be */
    uint64_t events;
    uint64_t bad;     /* lines that are no events */
    uint64_t dropped; /* names that can be no columns, or are too many */
};

/* Takes in a line: an object, or an array of objects. place names it in messages about it
 * ("FILE:3"), which go to standard error, the first few of them. False: out of memory. */
bool ctl_sample_line(struct ctl_sample *sample, const char *place, struct slice line);
/* Takes in all lines of a file. False: it cannot be read, or there is no memory (told). */
bool ctl_sample_read(struct ctl_sample *sample, FILE *file, const char *name);
void ctl_sample_fini(struct ctl_sample *sample);
/* The column of a name; NULL: there is none. */
const struct ctl_column *ctl_sample_find(const struct ctl_sample *sample, const char *name);

#endif
