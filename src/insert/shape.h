/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shape.h - computes an event's shape, a number for what it looks like. Rows that ClickHouse
 * refuses for one reason tend to look alike, so we can cut an insert into rows like the bad one and
 * others. Only a guess: nothing depends on its being right. Pure.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_SHAPE_H
#define ALLOY_SHAPE_H

#include <stdint.h>

#include "alloy/base.h"

/*
 * The shape of an event: its keys in order and the kind of each value. A number counts with sign,
 * form and length, a string with its classes of characters; what differs from event to event, like
 * ids, times and prose, does not count. Any bytes are safe, also when they are not JSON.
 */
uint64_t shape_of(struct slice event);

#endif
