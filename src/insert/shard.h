/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard.h - the shard of an event: a hash of its id. Pure.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_SHARD_H
#define ALLOY_SHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/batch.h"

/* The hash of a canonical id: the same in every alloyd, and for every stream. */
uint64_t shard_hash(struct slice id);
/* The shard, from 0, of so many. With one more at the end an id stays where it is, or goes there.
 */
size_t shard_of(uint64_t hash, size_t shards);
/*
 * Deals the records of a batch out to batches of their shards: parts has room for as many, and
 * those that get nothing are NULL. Takes batch and returns true, or returns false when out of
 * memory.
 */
MUST_CHECK bool shard_deal(struct batch *batch, size_t shards, struct batch **parts);

#endif
