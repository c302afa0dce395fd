/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_speed.c - what it costs to hand an event from one thread to another: the ring, and ck_ring.
 *
 *     ring_speed alloy|ck [BATCH]
 *
 * Events go in and out in batches (1 if not given), as many as a turn of the front has. Prints
 * nanoseconds an event, for the two sides together: in one thread, which shows the instructions,
 * and from one thread to another, which adds the cache lines that move. ck_ring gives no credits
 * and wakes nobody: it is the least that such a ring can cost.
 */
#include "alloy/ring.h"

#include <ck_ring.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EVENTS 4000000ull
#define SLOTS 131072u
#define CAPACITY 100000u
#define BATCH_MAX 512

static struct ring *ring;
static struct ck_ring ck;
static ck_ring_buffer_t ck_slots[SLOTS];
static size_t batch = 1;

static bool speed_put_alloy(struct record **records)
{
    if (!ring_reserve(ring, batch))
        return false;
    ring_publish(ring, records, batch);
    return true;
}

static size_t speed_take_alloy(struct record **records)
{
    return ring_take(ring, records, batch);
}

static bool speed_put_ck(struct record **records)
{
    if (ck_ring_size(&ck) + batch > CAPACITY)
        return false;
    for (size_t i = 0; i < batch; i++)
        ALLOY_ASSERT(ck_ring_enqueue_mpmc(&ck, ck_slots, records[i]));
    return true;
}

static size_t speed_take_ck(struct record **records)
{
    size_t n = 0;
    void *record;

    while (n < batch && ck_ring_dequeue_mpmc(&ck, ck_slots, &record))
        records[n++] = record;
    return n;
}

static const struct side {
    const char *name;
    bool (*put)(struct record **records);
    size_t (*take)(struct record **records);
} sides[] = {{"alloy", speed_put_alloy, speed_take_alloy}, {"ck", speed_put_ck, speed_take_ck}};

static const struct side *side;

static double speed_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static double speed_one_thread(void)
{
    struct record *in[BATCH_MAX], *out[BATCH_MAX];
    const double before = speed_ns(CLOCK_THREAD_CPUTIME_ID);

    memset(in, 0x55, sizeof(in));
    for (uint64_t n = 0; n < EVENTS; n += batch)
        ALLOY_ASSERT(side->put(in) && side->take(out) == batch);
    return (speed_ns(CLOCK_THREAD_CPUTIME_ID) - before) / (double)EVENTS;
}

static void *speed_consume(void *arg)
{
    struct record *out[BATCH_MAX];

    (void)arg;
    for (uint64_t n = 0; n < EVENTS / batch * batch;) {
        const size_t taken = side->take(out);

        n += taken;
        if (taken == 0)
            sched_yield();
    }
    return NULL;
}

static double speed_two_threads(void)
{
    struct record *in[BATCH_MAX];
    pthread_t consumer;
    const double before = speed_ns(CLOCK_PROCESS_CPUTIME_ID);

    memset(in, 0x55, sizeof(in));
    ALLOY_ASSERT(pthread_create(&consumer, NULL, speed_consume, NULL) == 0);
    for (uint64_t n = 0; n < EVENTS / batch * batch; n += batch)
        while (!side->put(in))
            sched_yield();
    pthread_join(consumer, NULL);
    return (speed_ns(CLOCK_PROCESS_CPUTIME_ID) - before) / (double)EVENTS;
}

int main(int argc, char **argv)
{
    for (size_t i = 0; i < ARRAY_LEN(sides) && argc > 1; i++)
        if (strcmp(argv[1], sides[i].name) == 0)
            side = &sides[i];
    batch = argc > 2 ? strtoull(argv[2], NULL, 10) : batch;
    ring = ring_create(CAPACITY);
    if (side == NULL || ring == NULL || batch < 1 || batch > BATCH_MAX)
        return 2;
    ck_ring_init(&ck, SLOTS);
    printf("%.1f %.1f\n", speed_one_thread(), speed_two_threads());
    ring_destroy(ring);
    return 0;
}
