/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema_moment.h - reads a text for a time as ClickHouse does with best_effort. Pure.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_SCHEMA_MOMENT_H
#define ALLOY_SCHEMA_MOMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "alloy/base.h"

/* A date and a time of day; month and day count from 1, and 0 is none. */
struct schema_moment_clock {
    int year, month, day;
    int hour, minute, second;
};

struct schema_moment {
    int64_t seconds; /* since 1970, as if the text's own time zone were UTC */
    bool dated;      /* the text names a year */
    bool zoned;      /* and its offset from UTC, so that seconds are what they are */
};

/*
 * Reads a text without escapes. fraction: a count of seconds may have one, as in a DateTime64.
 * False: ClickHouse refuses the text, or takes another year, month or day than it names.
 */
bool schema_moment_read(struct slice text, bool fraction, struct schema_moment *moment);

#endif
