/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate.h - limits the open connections of the admin port.
 *
 * Runs on: gate_create() and gate_add() before the loop starts, gate_destroy() after it has ended;
 * everything else on the loop's thread.
 */
#ifndef ALLOY_GATE_H
#define ALLOY_GATE_H

#include <stddef.h>

#include "alloy/base.h"

struct event_base;
struct evhttp;
struct gate;

/* Limits http to max connections. Returns owned (gate_destroy(), before evhttp_free()); NULL: out
 * of memory. */
struct gate *gate_create(struct event_base *base, struct evhttp *http, size_t max);
void gate_destroy(struct gate *gate); /* NULL is fine */

/* Accepts from a listening socket. Returns 0 and takes fd, or -ENOMEM. */
MUST_CHECK int gate_add(struct gate *gate, int fd);

#endif
