/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_inbox.c - deals submitted batches out to the lanes of their streams and shards.
 *
 * A frozen insert goes to the shard that its id names, however many there are now. Where that shard
 * is gone its events stay here, LIVE, until clickhouse.url has it again.
 *
 * Runs on: flusher thread.
 * Owns: the batches between inbox and lanes.
 */
#include "flusher_inbox.h"

#include "flusher_act.h"
#include "flusher_ask.h"
#include "flusher_linger.h"
#include "flusher_tell.h"
#include "flusher_reclaim.h"
#include "shard.h"

static void flusher_inbox_free_list(struct batch *batch)
{
    while (batch != NULL) {
        struct batch *next = batch->next;

        free(batch);
        batch = next;
    }
}

static void flusher_inbox_discard(struct flusher *flusher, struct batch *batch)
{
    flusher_act_inserted(flusher, batch->stream, batch->records, batch->count);
    free(batch);
}

void flusher_inbox_add_lanes(struct flusher *flusher)
{
    while (flusher->lane_count < flusher_config(flusher)->stream_count * flusher->shards) {
        struct lane *lane = &flusher->lanes[flusher->lane_count];

        lane_init(lane, (uint16_t)(flusher->lane_count / flusher->shards));
        lane->shard = (uint16_t)(flusher->lane_count++ % flusher->shards);
        flusher_ask_anew(flusher, lane);
    }
}

/* Puts a batch into the lanes of its events' shards. False: out of memory. */
static bool flusher_inbox_deal(struct flusher *flusher, struct batch *batch)
{
    struct batch *parts[CLICKHOUSE_SHARDS_MAX];
    const uint16_t stream = batch->stream;

    if (flusher->discard) {
        flusher_inbox_discard(flusher, batch);
        return true;
    }
    if (flusher_reclaim_recalls(flusher, batch))
        return true;
    if (batch->insert_id != 0 && batch->generation != flusher->reclaimed)
        flusher->reclaimed = UINT64_MAX; /* it has to be looked at */
    if (batch->insert_id != 0 && insert_id_shard(batch->insert_id) >= flusher->shards) {
        batch->next = flusher->strays;
        flusher->strays = batch;
        flusher_tell_strays(flusher, flusher->stray_count += batch->count);
        return true;
    }
    if (batch->insert_id != 0) {
        flusher_linger_add(flusher,
                           flusher_lane(flusher, stream, insert_id_shard(batch->insert_id)), batch);
        return true;
    }
    if (!shard_deal(batch, flusher->shards, parts))
        return false;
    for (size_t i = 0; i < flusher->shards; i++)
        if (parts[i] != NULL)
            flusher_linger_add(flusher, flusher_lane(flusher, stream, i), parts[i]);
    return true;
}

void flusher_inbox_take(struct flusher *flusher)
{
    /* acquire: pairs with the release in flusher_submit() */
    struct batch *newest = atomic_exchange_explicit(&flusher->inbox, NULL, memory_order_acquire);
    struct batch *oldest = NULL;

    flusher_inbox_add_lanes(flusher); /* one of the batches may be the first of its stream */
    while (newest != NULL) {
        struct batch *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    *flusher->undealt_end = oldest;
    while (*flusher->undealt_end != NULL)
        flusher->undealt_end = &(*flusher->undealt_end)->next;
    while (flusher->undealt != NULL) {
        struct batch *batch = flusher->undealt;
        struct batch *rest = batch->next;

        if (!flusher_inbox_deal(flusher, batch))
            return;
        flusher->undealt = rest;
        if (rest == NULL)
            flusher->undealt_end = &flusher->undealt;
    }
}

void flusher_inbox_free(struct flusher *flusher)
{
    flusher_inbox_free_list(flusher->undealt);
    flusher_inbox_free_list(flusher->strays);
}
