/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refusal_stats.h - what /stats tells of refused requests, inserts and events.
 */
#ifndef ALLOY_REFUSAL_STATS_H
#define ALLOY_REFUSAL_STATS_H

#include <jansson.h>

#include "alloy/setbacks.h"
#include "exposition.h"

/* {"error": requests} of a stream, or of METRIC_STREAM_NONE, without what has not happened. Returns
 * owned; NULL: out of memory. */
json_t *refusal_stats_counts(const struct exposition_view *view, size_t stream);

/* The last refusals, the latest first. Returns owned, like the other. */
json_t *refusal_stats_list(const struct front_parts *parts);

/* The last setbacks of a kind, the latest first. NULL for setbacks: none. Returns owned, too. */
json_t *refusal_stats_setbacks(struct setbacks *setbacks, enum setback_kind kind,
                               const struct config *config);

#endif
