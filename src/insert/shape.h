/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shape.h - what an event looks like, as a number: rows that ClickHouse refuses for one reason tend
 * to look alike, and so an insert can be cut into rows like the bad one and the others. A guess,
 * that is never relied on. Pure.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_SHAPE_H
#define ALLOY_SHAPE_H

#include <stdint.h>

#include "alloy/base.h"

/*
 * The shape of an event: its keys in order and the kind of each value. A number's sign, form and
 * length count, a string's classes of characters; what differs from event to event, as ids, times
 * and prose do, does not. Any bytes are taken; what is no JSON has some shape.
 */
uint64_t shape_of(struct slice event);

#endif
