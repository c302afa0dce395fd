/* SPDX-License-Identifier: Apache-2.0 */
/*
 * target_stats.h - what /stats tells of where and how events are sent, for the page's first steps.
 */
#ifndef ALLOY_TARGET_STATS_H
#define ALLOY_TARGET_STATS_H

#include <jansson.h>

#include "alloy/config.h"
#include "alloy/metrics.h"

/* Adds to a stream's stats its first path, its table, and what makes its ids. */
void target_stats_stream(json_t *stats, const struct config_stream *stream);

/* The endpoints of ClickHouse: [{"endpoint":"h:8123","shard":1,"up":true,...}]. Returns owned. */
json_t *target_stats_endpoints(const struct config *config, const struct metrics *metrics);

/* Where events are taken: ["http://127.0.0.1:8080", "unix:/path"]. Returns owned. */
json_t *target_stats_listen(const struct config *config);

#endif
