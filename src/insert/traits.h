/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traits.h - learns by which of their values refused rows differ from rows that go in, and guesses
 * of other rows which they resemble. Only a guess: nothing depends on its being right.
 *
 * Runs on: one thread.
 */
#ifndef ALLOY_TRAITS_H
#define ALLOY_TRAITS_H

#include <stdbool.h>

#include "alloy/base.h"

/* Scores count sixteenths of a bit. From here on a row is worth a try before others. */
#define TRAITS_PROMISING 16

struct traits;

/* Returns owned (traits_destroy()); NULL: out of memory. */
struct traits *traits_create(void);
void traits_destroy(struct traits *traits); /* NULL is fine */
/* Learns from a row that was refused alone, or that went in. Any bytes are safe; costs a few
 * microseconds, however long the event is. */
void traits_learn(struct traits *traits, struct slice event, bool refused);
/* How much the row differs from those that were refused, and resembles those that went in: 0 when
 * nothing tells, below 0 for one that resembles refused ones. Costs as much as learning. */
int traits_score(const struct traits *traits, struct slice event);

#endif
