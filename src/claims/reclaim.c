/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reclaim.c - claims again what this alloyd has in hand, after a Redis may have forgotten it.
 *
 * A record of an insert can be finished, and its segment removed, while a worker claims it: so
 * workers get copies of number and id. The flusher copies one insert at a time, which bounds the
 * memory.
 *
 * Runs on: any thread; one mutex. Owns: what waits.
 */
#include "alloy/reclaim.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct reclaim {
    struct ring *ring;
    struct distrust *distrust;
    pthread_mutex_t lock;
    /* under the lock */
    struct batch *recalled;
    struct batch *copies;
    size_t copies_out; /* waiting, or with a worker */
};

static void reclaim_free_copies(struct batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++)
        free(batch->records[i]);
    free(batch);
}

struct reclaim *reclaim_create(struct ring *ring, struct distrust *distrust)
{
    struct reclaim *reclaim = calloc(1, sizeof(*reclaim));

    if (reclaim == NULL)
        return NULL;
    reclaim->ring = ring;
    reclaim->distrust = distrust;
    pthread_mutex_init(&reclaim->lock, NULL);
    return reclaim;
}

void reclaim_destroy(struct reclaim *reclaim)
{
    if (reclaim == NULL)
        return;
    while (reclaim->recalled != NULL) {
        struct batch *batch = reclaim->recalled;

        reclaim->recalled = batch->next;
        free(batch);
    }
    while (reclaim->copies != NULL) {
        struct batch *batch = reclaim->copies;

        reclaim->copies = batch->next;
        reclaim_free_copies(batch);
    }
    pthread_mutex_destroy(&reclaim->lock);
    free(reclaim);
}

uint64_t reclaim_generation(const struct reclaim *reclaim)
{
    return reclaim == NULL ? 0 : distrust_generation(reclaim->distrust);
}

void reclaim_recall(struct reclaim *reclaim, struct batch *batch)
{
    pthread_mutex_lock(&reclaim->lock);
    batch->next = reclaim->recalled;
    reclaim->recalled = batch;
    pthread_mutex_unlock(&reclaim->lock);
    ring_wake(reclaim->ring);
}

static struct record *reclaim_copy_record(const struct record *record)
{
    struct record *copy = calloc(1, sizeof(*copy) + record->id_length + 1);

    if (copy == NULL)
        return NULL;
    copy->stream = record->stream;
    copy->lsn = record->lsn;
    copy->hash = record->hash;
    copy->id_length = record->id_length;
    memcpy(copy->body, record_id(record), record->id_length);
    return copy;
}

bool reclaim_copy(struct reclaim *reclaim, struct record *const *records, size_t n)
{
    struct batch *batch = batch_create(records[0]->stream, (uint32_t)n);

    ALLOY_ASSERT(n <= RECLAIM_MAX);
    if (batch == NULL)
        return false;
    for (size_t i = 0; i < n; i++) {
        struct record *copy = reclaim_copy_record(records[i]);

        if (copy == NULL) {
            reclaim_free_copies(batch);
            return false;
        }
        batch_add(batch, copy);
    }
    pthread_mutex_lock(&reclaim->lock);
    batch->next = reclaim->copies;
    reclaim->copies = batch;
    reclaim->copies_out++;
    pthread_mutex_unlock(&reclaim->lock);
    ring_wake(reclaim->ring);
    return true;
}

bool reclaim_is_idle(struct reclaim *reclaim)
{
    bool idle;

    pthread_mutex_lock(&reclaim->lock);
    idle = reclaim->copies_out == 0;
    pthread_mutex_unlock(&reclaim->lock);
    return idle;
}

void reclaim_finished(struct reclaim *reclaim, uint64_t generation)
{
    distrust_reclaimed(reclaim->distrust, generation);
}

static struct batch *reclaim_pop(struct reclaim *reclaim, struct batch **list)
{
    struct batch *batch;

    pthread_mutex_lock(&reclaim->lock);
    batch = *list;
    if (batch != NULL)
        *list = batch->next;
    pthread_mutex_unlock(&reclaim->lock);
    return batch;
}

struct batch *reclaim_take_recalled(struct reclaim *reclaim)
{
    return reclaim == NULL ? NULL : reclaim_pop(reclaim, &reclaim->recalled);
}

struct batch *reclaim_take_copies(struct reclaim *reclaim)
{
    return reclaim == NULL ? NULL : reclaim_pop(reclaim, &reclaim->copies);
}

bool reclaim_claimed(struct reclaim *reclaim, struct batch *copies, bool done)
{
    bool last = false;

    pthread_mutex_lock(&reclaim->lock);
    if (done) {
        last = --reclaim->copies_out == 0;
    } else {
        copies->next = reclaim->copies;
        reclaim->copies = copies;
    }
    pthread_mutex_unlock(&reclaim->lock);
    if (done)
        reclaim_free_copies(copies);
    return last;
}
