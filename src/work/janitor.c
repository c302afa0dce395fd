/* SPDX-License-Identifier: Apache-2.0 */
/*
 * janitor.c - does work that no event should wait for.
 *
 * Runs on: its own thread.
 * Owns: only the thread.
 */
#include "alloy/janitor.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/statvfs.h>

#include "alloy/clock.h"
#include "alloy/heap.h"
#include "alloy/pulse.h"

/* Longest sleep. L1 expires, and finished segments are removed, with this precision. */
#define INTERVAL_MS 50
#define ROOM_INTERVAL_MS 1000

struct janitor {
    const struct config_ref *config; /* constant after start, like the next two */
    struct journal *journal;
    struct l1 *l1;
    struct metrics *metrics;
    pthread_t thread;
    atomic_bool stop; /* any thread */
};

/* Bytes that a folder's file system has for us; -1: we cannot tell. */
static int64_t janitor_free_bytes(const char *folder)
{
    struct statvfs disk;

    return statvfs(folder, &disk) == 0 ? (int64_t)(disk.f_bavail * disk.f_frsize) : -1;
}

/* Here, and not at each scrape: a disk that hangs must not keep the admin port from telling so. */
static void janitor_look_at_room(struct janitor *janitor)
{
    const struct config *config = config_current(janitor->config);

    METRIC_GAUGE_SET(janitor->metrics, journal_free_bytes,
                     config->journal_mode == CONFIG_JOURNAL_MEMORY
                         ? -1
                         : janitor_free_bytes(config->journal_dir));
    METRIC_GAUGE_SET(janitor->metrics, dead_letter_free_bytes,
                     janitor_free_bytes(config->dead_letter_dir));
}

static void *janitor_main(void *arg)
{
    struct janitor *janitor = arg;
    uint64_t looked_ms = clock_mono_ms();
    struct heap_watch heap = {0};

    pulse_join("janitor");
    /* relaxed: the flag carries no data; journal_wake() ends the sleep */
    while (!atomic_load_explicit(&janitor->stop, memory_order_relaxed)) {
        uint64_t now_ms = clock_mono_ms();

        pulse_beat(0);
        journal_maintain(janitor->journal, now_ms,
                         config_current(janitor->config)->journal_sync_interval_ms);
        l1_maintain(janitor->l1, now_ms);
        (void)heap_look(&heap, now_ms);
        if (now_ms - looked_ms >= ROOM_INTERVAL_MS) {
            looked_ms = now_ms;
            janitor_look_at_room(janitor);
        }
        journal_wait(janitor->journal, INTERVAL_MS);
    }
    pulse_leave();
    return NULL;
}

int janitor_start(struct janitor **out, const struct config_ref *config, struct journal *journal,
                  struct l1 *l1, struct metrics *metrics)
{
    struct janitor *janitor = calloc(1, sizeof(*janitor));
    int err;

    if (janitor == NULL)
        return -ENOMEM;
    janitor->config = config;
    janitor->journal = journal;
    janitor->l1 = l1;
    janitor->metrics = metrics;
    janitor_look_at_room(janitor);
    err = pthread_create(&janitor->thread, NULL, janitor_main, janitor);
    if (err != 0) {
        free(janitor);
        return -err;
    }
    pthread_setname_np(janitor->thread, "alloy-janitor");
    *out = janitor;
    return 0;
}

void janitor_stop(struct janitor *janitor)
{
    if (janitor == NULL)
        return;
    atomic_store_explicit(&janitor->stop, true, memory_order_relaxed);
    journal_wake(janitor->journal);
    pthread_join(janitor->thread, NULL);
    free(janitor);
}
