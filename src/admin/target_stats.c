/* SPDX-License-Identifier: Apache-2.0 */
/*
 * target_stats.c - what /stats tells of where and how events are sent, for the page's first steps.
 *
 * Runs on: the admin thread.
 * Owns: nothing.
 */
#include "target_stats.h"

#include <string.h>

#include "alloy/clickhouse_url.h"

void target_stats_stream(json_t *stats, const struct config_stream *stream)
{
    json_t *ids = json_array();

    for (size_t i = 0; i < stream->id_count; i++) {
        const struct config_id_source *id = &stream->ids[i];

        /* Of a field's sources the first will do. */
        if (i == 0 || id->field != id[-1].field)
            json_array_append_new(
                ids, json_sprintf("%s%s", id->kind == CONFIG_ID_HEADER ? "header:" : "", id->name));
    }
    /* A removed stream has none. */
    if (stream->path_count > 0)
        json_object_set_new(stats, "path", json_string(stream->paths[0]));
    json_object_set_new(stats, "table", json_sprintf("%s.%s", stream->database, stream->table));
    json_object_set_new(stats, "id", ids);
}

json_t *target_stats_endpoints(const struct config *config, const struct metrics *metrics)
{
    struct clickhouse_url walk = {.rest = config->clickhouse_url};
    json_t *endpoints = json_array();
    char name[CLICKHOUSE_NAME_MAX];

    while (clickhouse_url_next(&walk) && walk.number < METRIC_ENDPOINTS_MAX) {
        const struct metrics_endpoint *endpoint = &metrics->endpoints[walk.number];

        (void)clickhouse_url_name(walk.url, name);
        json_array_append_new(
            endpoints,
            json_pack("{s:s,s:I,s:b,s:I,s:I,s:I}", "endpoint", name, "shard",
                      (json_int_t)walk.shard + 1, "up",
                      (int)endpoint->gauges[METRIC_ENDPOINT_GAUGE_up], "inflight",
                      (json_int_t)endpoint->gauges[METRIC_ENDPOINT_GAUGE_inflight], "inserts",
                      (json_int_t)endpoint->counters[METRIC_ENDPOINT_COUNTER_inserts], "failures",
                      (json_int_t)endpoint->counters[METRIC_ENDPOINT_COUNTER_failures]));
    }
    return endpoints;
}

json_t *target_stats_listen(const struct config *config)
{
    json_t *listen = json_array();

    for (size_t i = 0; i < config->server_address_count; i++) {
        const struct config_address *address = &config->server_addresses[i];
        const bool v6 = address->host[0] != '\0' && strchr(address->host, ':') != NULL;

        if (address->kind == CONFIG_ADDRESS_UNIX)
            json_array_append_new(listen, json_sprintf("unix:%s", address->host));
        else
            json_array_append_new(
                listen, json_sprintf("%s://%s%s%s:%s", address->tls ? "https" : "http",
                                     v6 ? "[" : "", address->host, v6 ? "]" : "", address->port));
    }
    return listen;
}
