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

#include "alloy/clock.h"
#include "alloy/pulse.h"

/* Longest sleep. L1 expires, and finished segments are removed, with this precision. */
#define INTERVAL_MS 50

struct janitor {
    const struct config_ref *config; /* constant after start, like the next two */
    struct journal *journal;
    struct l1 *l1;
    pthread_t thread;
    atomic_bool stop; /* any thread */
};

static void *janitor_main(void *arg)
{
    struct janitor *janitor = arg;

    pulse_join("janitor");
    /* relaxed: the flag carries no data; journal_wake() ends the sleep */
    while (!atomic_load_explicit(&janitor->stop, memory_order_relaxed)) {
        uint64_t now_ms = clock_mono_ms();

        pulse_beat(0);
        journal_maintain(janitor->journal, now_ms,
                         config_current(janitor->config)->journal_sync_interval_ms);
        l1_maintain(janitor->l1, now_ms);
        journal_wait(janitor->journal, INTERVAL_MS);
    }
    pulse_leave();
    return NULL;
}

int janitor_start(struct janitor **out, const struct config_ref *config, struct journal *journal,
                  struct l1 *l1)
{
    struct janitor *janitor = calloc(1, sizeof(*janitor));
    int err;

    if (janitor == NULL)
        return -ENOMEM;
    janitor->config = config;
    janitor->journal = journal;
    janitor->l1 = l1;
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
