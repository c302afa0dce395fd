/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark_shards.h - which tables an alloyd has found in the shards of clickhouse.url, as its key in
 * Redis tells its next life.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_MARK_SHARDS_H
#define ALLOY_MARK_SHARDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/clickhouse_url.h"
#include "alloy/config.h"

#define MARK_SHARDS_TEXT_MAX (24 + 17 * CLICKHOUSE_SHARDS_MAX)

/* Hashes of 64 bits; 0: not known. */
struct mark_shards {
    uint64_t list; /* of the endpoints, in their order, and of the table's name */
    uint64_t tables[CLICKHOUSE_SHARDS_MAX];
    uint64_t steady_ms; /* until then what is told may be of the list before */
};

uint64_t mark_shards_list(const struct config *config, size_t stream);
/* The table of a shard is told, "" when it is not known, under that list. True: it is another than
 * before. */
bool mark_shards_note(struct mark_shards *shards, uint64_t list, size_t shard, const char *identity,
                      uint64_t now_ms);

/* " list:table,table,...", to stand behind the identity of the first table: what is known now, and
 * else what was before. "" when the first one is not known to be this one. */
void mark_shards_write(const struct mark_shards *now, const struct mark_shards *before,
                       const char *identity, char out[MARK_SHARDS_TEXT_MAX]);
/* Cuts that off value. False: it has no such end. */
bool mark_shards_read(struct slice *value, struct mark_shards *shards);

/* Whether what is told now shows that the list still leads to the same servers: at least one table
 * is as it was, and none is another. */
bool mark_shards_confirm(const struct mark_shards *now, const struct mark_shards *before);

#endif
