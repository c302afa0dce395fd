/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clickhouse_url.h - the endpoints that clickhouse.url lists: a comma stands between replicas of
 * one shard, '|' between shards.
 *
 * Runs on: any thread. Owns: nothing.
 */
#ifndef ALLOY_CLICKHOUSE_URL_H
#define ALLOY_CLICKHOUSE_URL_H

#include <stdbool.h>
#include <stddef.h>

#include "alloy/base.h"

#define CLICKHOUSE_ENDPOINTS_MAX 64
#define CLICKHOUSE_SHARDS_MAX 64
#define CLICKHOUSE_NAME_MAX 96 /* bytes of an endpoint's name, with its NUL */

/* A walk over a list. Begin with .rest = the list. */
struct clickhouse_url {
    const char *rest;
    struct slice url; /* of this endpoint; empty where the list has none between two separators */
    size_t shard;     /* from 0 */
    size_t number;    /* of the endpoint in the whole list, from 0 */
    bool begun;
};

/* The next endpoint; false: there is none. A separator is one only before another URL, another
 * separator, or the end: a password may hold a comma. */
bool clickhouse_url_next(struct clickhouse_url *walk);
/* How many shards a list has: at least 1. */
size_t clickhouse_url_shards(const char *list);
/* Host, port and path of an endpoint, without credentials, for people. Returns its length, which is
 * cut off at CLICKHOUSE_NAME_MAX - 1 in name. */
size_t clickhouse_url_name(struct slice url, char name[CLICKHOUSE_NAME_MAX]);
/* Whether two URLs lead to one server: the same host, port and path. Without a port http:// leads
 * to 80 and https:// to 443; who leaves it out beside the same host with ClickHouse's own port,
 * 8123 or 8443, means that one. */
bool clickhouse_url_same(struct slice a, struct slice b);
/* The name of an endpoint in a list; "": it has none of this number. */
void clickhouse_url_name_of(const char *list, size_t number, char name[CLICKHOUSE_NAME_MAX]);

#endif
