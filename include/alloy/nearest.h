/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nearest.h - which known word a misspelt one is nearest to, for "did you mean".
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_NEAREST_H
#define ALLOY_NEAREST_H

#include "alloy/base.h"

/* The nearest word so far; begin with {.to = the misspelt word}. */
struct nearest {
    const char *to;
    const char *word; /* NULL: none is near */
    size_t distance;
};

/* Keeps word if it is nearer than the one before. Borrows it for the life of nearest. */
void nearest_try(struct nearest *nearest, const char *word);

#endif
