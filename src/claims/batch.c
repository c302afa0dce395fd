/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.c - records of one stream on their way from a worker to the flusher.
 *
 * Runs on: whoever holds the batch.
 * Owns: the batch itself. The records belong to the journal.
 */
#include "alloy/batch.h"

#include <stdlib.h>

struct batch *batch_create(uint16_t stream, uint32_t capacity)
{
    struct batch *batch = malloc(sizeof(*batch) + capacity * sizeof(batch->records[0]));

    if (!batch)
        return NULL;
    *batch = (struct batch){.stream = stream, .capacity = capacity};
    return batch;
}

void batch_add(struct batch *batch, struct record *record)
{
    ALLOY_ASSERT(batch->count < batch->capacity);
    ALLOY_ASSERT(record->stream == batch->stream);
    batch->records[batch->count++] = record;
    batch->bytes += record->body_length;
}
