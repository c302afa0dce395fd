/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exposition_packed.h - how the tables of packed claims stand (redis.layout), for Prometheus and
 * /stats. Streams without tables have no series and no member.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_EXPOSITION_PACKED_H
#define ALLOY_EXPOSITION_PACKED_H

#include <jansson.h>

#include "alloy/front.h"
#include "alloy/metrics.h"

struct evbuffer;

void exposition_packed_write(const struct front_parts *parts, struct evbuffer *out);
/* Adds "packed" to the statistics of a stream. */
void exposition_packed_stats(struct metrics *metrics, size_t stream, json_t *stats);

#endif
