/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route.c - finds the stream of a request's path.
 *
 * There are at most CONFIG_STREAMS_MAX paths and nearly always a handful: a comparison of lengths
 * first is faster than a hash.
 *
 * Runs on: route_init() before the threads start; route_find() on any thread.
 * Owns: nothing; names and paths belong to the configuration.
 */
#include "alloy/route.h"

#include <string.h>

void route_init(struct route_table *table, const struct config *config)
{
    memset(table, 0, sizeof(*table));
    table->count = config->stream_count;
    for (size_t i = 0; i < config->stream_count; i++) {
        const struct config_stream *stream = &config->streams[i];
        struct route *route = &table->routes[i];

        route->path = (struct slice){stream->paths[0], strlen(stream->paths[0])};
        route->fields.count = stream->id_count;
        for (size_t j = 0; j < stream->id_count; j++) {
            const char *name = stream->ids[j].name;

            route->fields.names[j] = (struct slice){name, strlen(name)};
        }
    }
}

int route_find(const struct route_table *table, struct slice path)
{
    for (size_t i = 0; i < table->count; i++) {
        struct slice own = table->routes[i].path;

        if (own.len == path.len && memcmp(own.data, path.data, path.len) == 0)
            return (int)i;
    }
    return ROUTE_NONE;
}
