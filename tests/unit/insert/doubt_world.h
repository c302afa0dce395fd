/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doubt_world.h - a flusher whose inserts are in doubt, and what the fake ClickHouse says when it
 * is asked for them.
 */
#ifndef TEST_DOUBT_WORLD_H
#define TEST_DOUBT_WORLD_H

#include "flusher_world.h"

#define EVENTS 20

static inline void set_trace(struct world *world, const char *trace)
{
    pthread_mutex_lock(&world->fake.lock);
    world->fake.trace = trace;
    pthread_mutex_unlock(&world->fake.lock);
}

static inline void set_rows(struct world *world, enum fake_rows mode, int count)
{
    pthread_mutex_lock(&world->fake.lock);
    world->fake.rows_mode = mode;
    world->fake.rows_count = count;
    pthread_mutex_unlock(&world->fake.lock);
}

/* How many of the rows of stream a from 1 on are in the table so often. */
static inline size_t stored(struct world *world, size_t times)
{
    size_t n = 0;

    pthread_mutex_lock(&world->fake.lock);
    for (size_t i = 1; i <= EVENTS; i++) {
        char row[64];
        int len = snprintf(row, sizeof(row), "{\"event_id\":\"a%zu\",\"v\":\"x\"}", i);
        n += times_stored(&world->fake, (struct slice){row, (size_t)len}) == times;
    }
    pthread_mutex_unlock(&world->fake.lock);
    return n;
}

#endif
