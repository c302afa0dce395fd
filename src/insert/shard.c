/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard.c - the shard of an event: a hash of its id.
 *
 * FNV-1a over the canonical id, mixed as MurmurHash3 ends (FNV's upper bits are weak for short
 * ids), and then the jump hash (Lamping and Veach, A Fast, Minimal Memory, Consistent Hash
 * Algorithm, 2014). No secret is in it: every alloyd, and whoever looks for an event, finds the
 * same shard. So ids can be chosen that all meet one shard; that makes it slow, and loses nothing.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "shard.h"

#include <stdlib.h>
#include <string.h>

uint64_t shard_hash(struct slice id)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < id.len; i++)
        hash = (hash ^ (unsigned char)id.data[i]) * UINT64_C(0x100000001b3);
    hash = (hash ^ hash >> 33) * UINT64_C(0xff51afd7ed558ccd);
    hash = (hash ^ hash >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return hash ^ hash >> 33;
}

size_t shard_of(uint64_t hash, size_t shards)
{
    int64_t shard = -1;
    int64_t next = 0;

    while (next < (int64_t)shards) {
        shard = next;
        hash = hash * UINT64_C(2862933555777941757) + 1;
        next = (int64_t)((double)(shard + 1) *
                         ((double)(UINT64_C(1) << 31) / (double)((hash >> 33) + 1)));
    }
    return (size_t)shard;
}

static size_t shard_of_record(const struct record *record, size_t shards)
{
    return shard_of(shard_hash((struct slice){record_id(record), record->id_length}), shards);
}

bool shard_deal(struct batch *batch, size_t shards, struct batch **parts)
{
    uint32_t counts[UINT8_MAX + 1] = {0};
    uint8_t *shard = shards > 1 ? malloc(batch->count) : NULL;
    bool made = true;

    ALLOY_ASSERT(shards <= ARRAY_LEN(counts));
    memset(parts, 0, shards * sizeof(parts[0]));
    if (shards == 1) {
        parts[0] = batch;
        return true;
    }
    if (shard == NULL)
        return false;
    for (uint32_t i = 0; i < batch->count; i++)
        counts[shard[i] = (uint8_t)shard_of_record(batch->records[i], shards)]++;
    for (size_t i = 0; i < shards && made; i++) {
        if (counts[i] == 0)
            continue;
        parts[i] = batch_create(batch->stream, counts[i]);
        made = parts[i] != NULL;
        if (made)
            parts[i]->generation = batch->generation;
    }
    for (uint32_t i = 0; i < batch->count && made; i++)
        batch_add(parts[shard[i]], batch->records[i]);
    for (size_t i = 0; i < shards && !made; i++)
        free(parts[i]);
    free(shard);
    if (made)
        free(batch);
    return made;
}
