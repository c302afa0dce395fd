/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route.h - finds the stream of a request's path, and the fields that identify its events.
 *
 * Runs on: route_init() before the threads start; route_find() on any thread.
 */
#ifndef ALLOY_ROUTE_H
#define ALLOY_ROUTE_H

#include <stddef.h>

#include "alloy/base.h"
#include "alloy/config.h"
#include "alloy/json_scan.h"

#define ROUTE_NONE (-1)

struct route {
    struct slice path;              /* borrowed from the configuration */
    struct json_scan_fields fields; /* the same */
};

/* Constant after route_init(). Index i is config->streams[i]. */
struct route_table {
    struct route routes[CONFIG_STREAMS_MAX];
    size_t count;
};

/* Borrows config for the table's life. */
void route_init(struct route_table *table, const struct config *config);

/* The stream of exactly this path, or ROUTE_NONE. */
int route_find(const struct route_table *table, struct slice path);

#endif
