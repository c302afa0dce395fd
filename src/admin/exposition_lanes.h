/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exposition_lanes.h - what is wrong now, and ClickHouse's side of each stream, as Prometheus text.
 */
#ifndef ALLOY_EXPOSITION_LANES_H
#define ALLOY_EXPOSITION_LANES_H

#include "exposition.h"

/* A series for each reason of /readyz. Any thread. */
void exposition_write_conditions(const struct front_parts *parts, struct evbuffer *out);
/* What the flusher knows of each stream. Any thread. */
void exposition_write_lanes(const struct exposition_view *view, const struct front_parts *parts,
                            struct evbuffer *out);

#endif
