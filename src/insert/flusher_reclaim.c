/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_reclaim.c - has what the flusher holds claimed again, after a Redis may have forgotten
 * it.
 *
 * Of what is in no insert yet nothing can be in ClickHouse: it goes back to a worker, and is a
 * duplicate if somebody else has claimed its ids since. An insert may be there, so that its claims
 * are only set again, before any other alloyd believes that nobody has its ids (distrust.c waits
 * for flusher_reclaim() to be done).
 *
 * Runs on: flusher thread. Owns: nothing.
 */
#include "flusher_reclaim.h"

#include <stdlib.h>

/* The first insert that is found not to be claimed again. */
struct flusher_reclaim_search {
    uint64_t generation;
    struct insert *insert;
};

static void flusher_reclaim_visit(void *arg, struct insert *insert)
{
    struct flusher_reclaim_search *search = arg;

    if (search->insert == NULL && insert->reclaimed != search->generation)
        search->insert = insert;
}

static struct insert *flusher_reclaim_find(struct flusher *flusher, uint64_t generation)
{
    struct flusher_reclaim_search search = {.generation = generation};

    for (struct transfer *transfer = flusher->active; transfer != NULL; transfer = transfer->next)
        if (transfer->insert != NULL)
            flusher_reclaim_visit(&search, transfer->insert);
    for (size_t i = 0; i < flusher->lane_count && search.insert == NULL; i++)
        lane_visit(&flusher->lanes[i], flusher_reclaim_visit, &search);
    return search.insert;
}

/* False: out of memory. */
static bool flusher_reclaim_copy(struct flusher *flusher, struct record *const *records, size_t n)
{
    for (size_t at = 0; at < n; at += RECLAIM_MAX)
        if (!reclaim_copy(flusher->parts.reclaim, records + at,
                          n - at < RECLAIM_MAX ? n - at : RECLAIM_MAX))
            return false;
    return true;
}

/* Queues one batch that is an insert of an earlier life, of a list. True: there was one. */
static bool flusher_reclaim_frozen(struct flusher *flusher, struct batch *batch,
                                   uint64_t generation)
{
    for (; batch != NULL; batch = batch->next) {
        if (batch->insert_id == 0 || batch->generation == generation)
            continue;
        if (flusher_reclaim_copy(flusher, batch->records, batch->count))
            batch->generation = generation;
        return true;
    }
    return false;
}

/* Queues one insert. False: all are claimed again. */
static bool flusher_reclaim_one(struct flusher *flusher, uint64_t generation)
{
    struct insert *insert = flusher_reclaim_find(flusher, generation);
    bool any = false;

    if (insert != NULL) {
        if (flusher_reclaim_copy(flusher, insert_records(insert), insert->count))
            insert->reclaimed = generation;
        return true;
    }
    for (size_t i = 0; i < flusher->lane_count && !any; i++)
        any = flusher_reclaim_frozen(flusher, flusher->lanes[i].batches, generation);
    any = any || flusher_reclaim_frozen(flusher, flusher->undealt, generation);
    return any || flusher_reclaim_frozen(flusher, flusher->strays, generation);
}

/* Leaves out what of a batch is in an insert already. */
static void flusher_reclaim_cut(struct batch *batch, uint32_t taken)
{
    for (uint32_t i = taken; i < batch->count; i++)
        batch->records[i - taken] = batch->records[i];
    batch->count -= taken;
}

bool flusher_reclaim_recalls(struct flusher *flusher, struct batch *batch)
{
    if (likely(batch->generation == reclaim_generation(flusher->parts.reclaim)) ||
        batch->insert_id != 0 || flusher->parts.reclaim == NULL)
        return false;
    /* release: as in flusher_settled(). A worker counts it again when it comes back. */
    atomic_fetch_sub_explicit(&flusher->pending, batch->count, memory_order_release);
    reclaim_recall(flusher->parts.reclaim, batch);
    return true;
}

/* Recalls the batches of a lane that gather under claims of before. */
static void flusher_reclaim_lane(struct flusher *flusher, struct lane *lane)
{
    struct batch *batch = lane->batches;

    if (batch != NULL && batch->insert_id == 0)
        flusher_reclaim_cut(batch, lane->head_taken);
    lane->head_taken = 0;
    lane->gathered_rows = lane->pressing = 0;
    lane->gathered_bytes = 0;
    lane->batches = NULL;
    lane->batches_end = &lane->batches;
    while (batch != NULL) {
        struct batch *next = batch->next;

        if (!flusher_reclaim_recalls(flusher, batch))
            lane_add_batch(lane, batch);
        batch = next;
    }
}

void flusher_reclaim(struct flusher *flusher)
{
    const uint64_t generation = reclaim_generation(flusher->parts.reclaim);

    if (likely(generation == flusher->reclaimed))
        return;
    if (flusher->generation != generation)
        for (size_t i = 0; i < flusher->lane_count; i++)
            flusher_reclaim_lane(flusher, &flusher->lanes[i]);
    flusher->generation = generation;
    if (!reclaim_is_idle(flusher->parts.reclaim) || flusher_reclaim_one(flusher, generation))
        return;
    flusher->reclaimed = generation;
    reclaim_finished(flusher->parts.reclaim, generation);
}
