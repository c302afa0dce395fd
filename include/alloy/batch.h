/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.h - records of one stream on their way from a worker to the flusher.
 */
#ifndef ALLOY_BATCH_H
#define ALLOY_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/segment.h"

struct batch {
    struct batch *next; /* for the list of whoever holds it */
    uint16_t stream;
    uint32_t count;
    uint32_t capacity;
    uint64_t bytes;      /* of the events in it, newlines included */
    uint64_t insert_id;  /* of the frozen insert in which replay found these records; 0: none */
    uint64_t since_ms;   /* when it came to its lane */
    bool urgent;         /* a client waits until ClickHouse has some of these records */
    uint64_t generation; /* of the claims (reclaim.h) */
    struct record *records[];
};

/* Returns owned (free()); NULL: out of memory. */
struct batch *batch_create(uint16_t stream, uint32_t capacity);
/* The batch must have room. */
void batch_add(struct batch *batch, struct record *record);

#endif
