/* SPDX-License-Identifier: Apache-2.0 */
/*
 * advice.h - what to do about each reason of /readyz.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_ADVICE_H
#define ALLOY_ADVICE_H

#include <stdbool.h>

#include "alloy/health.h"

#define ADVICE_MAX 256
#define ADVICE_TEXT_MAX (HEALTH_TEXT_MAX + ADVICE_MAX)

struct advice {
    char title[ADVICE_MAX];
    char todo[ADVICE_MAX]; /* a short sentence or two */
};

/* Of the reason with that key. False: there is none, and advice has the key and "See the log.". */
bool advice_find(const char *key, struct advice *advice);
/* A reason's text with its advice behind it. */
void advice_append(const char *text, const struct advice *advice, char out[ADVICE_TEXT_MAX]);

#endif
