/* SPDX-License-Identifier: Apache-2.0 */
/*
 * target_stats.c - what /stats tells of where and how events are sent, for the page's first steps.
 *
 * Runs on: the admin thread.
 * Owns: nothing.
 */
#include "target_stats.h"

#include <string.h>

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
