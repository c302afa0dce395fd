/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_order.h - keeps the shards of clickhouse.url in their order.
 *
 * Runs on: main thread.
 */
#ifndef ALLOY_SHARD_ORDER_H
#define ALLOY_SHARD_ORDER_H

#include <stdbool.h>
#include <stddef.h>

#include "alloy/config.h"

#define SHARD_ORDER_FILE "shards" /* in the journal's folder */
#define SHARD_ORDER_WHY_MAX 400

/* Whether each endpoint that both lists of clickhouse.url have is in the same shard of both; else
 * why says which one is not, for people. */
bool shard_order_same(const char *before, const char *after, char *why, size_t size);
/* Compares the list with that of an earlier life, and keeps it for the next one. The caller holds
 * the journal's lock. Returns 0, or -EINVAL with the reason in error, or another -errno where the
 * file cannot be read. Does nothing in memory mode. */
MUST_CHECK int shard_order_begin(const struct config *config, char *error, size_t size);
/* Keeps the list that is in force since a reload. */
void shard_order_note(const struct config *config);

#endif
