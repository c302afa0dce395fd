/* SPDX-License-Identifier: Apache-2.0 */
/*
 * l1_speed.c - what an id costs in L1, when that is much larger than any cache.
 *
 *     l1_speed [IDS] [THREADS] [BATCH]
 *
 * 4,000,000 ids, 2 threads and batches of 100 if not given. A new id is looked up and entered as
 * admission does with a request of BATCH events, a known one only looked up. Times are of the
 * thread's own clock, so that others on the machine matter less; bytes are what the process grew.
 */
#include "alloy/l1.h"

#include <pthread.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#define BATCH_MAX 512
#define LEAD 8

struct worker {
    pthread_t thread;
    size_t first, count;
    double new_ns, known_ns;
};

static struct l1 *l1;
static size_t batch = 100;
static pthread_barrier_t barrier;

static double speed_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* Steele and others' splitmix64, of which equal inputs give equal ids. */
static uint64_t speed_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static void speed_make(struct l1_thread *thread, struct hash128 *hashes, size_t at, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        hashes[i] = (struct hash128){speed_mix(at + i), speed_mix(~(at + i))};
        if (n == 1)
            break;
        l1_prefetch(thread, &hashes[i]);
        if (i >= LEAD)
            l1_prefetch_first(thread, &hashes[i - LEAD]);
    }
}

static double speed_pass(struct l1_thread *thread, const struct worker *worker, bool enter)
{
    const double before = speed_ns();
    struct hash128 hashes[BATCH_MAX];

    for (size_t at = 0; at < worker->count; at += batch) {
        const size_t n = worker->count - at < batch ? worker->count - at : batch;

        speed_make(thread, hashes, worker->first + at, n);
        l1_hold(thread);
        for (size_t i = 0; i < n; i++) {
            if (i + LEAD < n)
                l1_prefetch_second(thread, &hashes[i + LEAD]);
            ALLOY_ASSERT(l1_knows(thread, 0, &hashes[i], 1) != enter);
        }
        l1_release(thread);
        if (!enter)
            continue;
        l1_hold(thread);
        for (size_t i = 0; i < n; i++)
            ALLOY_ASSERT(l1_enter(thread, 0, &hashes[i], 1 + at + i, 1) == L1_ADDED);
        l1_release(thread);
    }
    return (speed_ns() - before) / (double)worker->count;
}

static void *speed_run(void *arg)
{
    struct worker *worker = arg;
    struct l1_thread *thread = l1_thread_create(l1);

    ALLOY_ASSERT(thread != NULL);
    pthread_barrier_wait(&barrier);
    worker->new_ns = speed_pass(thread, worker, true);
    pthread_barrier_wait(&barrier);
    worker->known_ns = speed_pass(thread, worker, false);
    l1_thread_destroy(thread);
    return NULL;
}

static size_t speed_resident(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    size_t pages = 0;

    ALLOY_ASSERT(file != NULL && fscanf(file, "%*s %zu", &pages) == 1);
    fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

int main(int argc, char **argv)
{
    const size_t ids = argc > 1 ? strtoull(argv[1], NULL, 10) : 4000000;
    const size_t threads = argc > 2 ? strtoull(argv[2], NULL, 10) : 2;
    const size_t before = speed_resident();
    struct worker workers[16];
    double new_ns = 0, known_ns = 0;

    batch = argc > 3 ? strtoull(argv[3], NULL, 10) : batch;
    if (threads < 1 || threads > ARRAY_LEN(workers) || batch < 1 || batch > BATCH_MAX)
        return 2;
    l1 = l1_create(ids, 3600000, 1);
    ALLOY_ASSERT(l1 != NULL);
    /* The janitor makes the table's pages huge while it runs. */
    for (size_t bytes = 0; bytes < ids * 32; bytes += 2u << 20)
        l1_maintain(l1, 1);
    pthread_barrier_init(&barrier, NULL, (unsigned)threads);
    for (size_t i = 0; i < threads; i++) {
        workers[i] = (struct worker){.first = i * (ids / threads), .count = ids / threads};
        pthread_create(&workers[i].thread, NULL, speed_run, &workers[i]);
    }
    for (size_t i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        new_ns += workers[i].new_ns / (double)threads;
        known_ns += workers[i].known_ns / (double)threads;
    }
    printf("%zu ids, %zu threads, batches of %zu: new %.0f ns, known %.0f ns, %.1f bytes an id\n",
           ids, threads, batch, new_ns, known_ns,
           (double)(speed_resident() - before) / (double)ids);
    return 0;
}
