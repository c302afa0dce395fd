/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_linger.c - how long batches wait in their lanes for more, and what ends that early.
 *
 * Few large inserts cost ClickHouse less than many small ones. So a lane's batches wait for
 * clickhouse.insert_linger (lane.c), except for what a request with ack=clickhouse waits for. Its
 * new events are looked for in each batch that comes, while anybody waits at all. An event that was
 * on its way before may be in a lane by then: such a request calls its stream, and all that has
 * gathered there goes.
 *
 * Nothing waits while the process drains, or the journal has no room, or what has gathered is a
 * large part of what the journal may hold: to wait would then cost 503s.
 *
 * Runs on: flusher thread.
 * Owns: nothing of its own; see flusher.c.
 */
#include "flusher_linger.h"

#include "alloy/clock.h"
#include "alloy/waiter.h"

#define JOURNAL_SHARE 8 /* what has gathered may be this part of the journal */

/* Called on front-end threads. */
static void flusher_linger_wake(void *arg)
{
    const struct flusher *flusher = arg;

    curl_multi_wakeup(flusher->multi);
}

void flusher_linger_begin(struct flusher *flusher)
{
    struct waiter_table *waiters = journal_waiters(flusher->parts.journal);

    if (waiters != NULL)
        waiter_table_wake_by(waiters, flusher_linger_wake, flusher);
}

void flusher_linger_end(struct flusher *flusher)
{
    struct waiter_table *waiters = journal_waiters(flusher->parts.journal);

    if (waiters != NULL)
        waiter_table_wake_by(waiters, NULL, NULL);
}

void flusher_linger_add(struct flusher *flusher, struct lane *lane, struct batch *batch)
{
    struct waiter_table *waiters = journal_waiters(flusher->parts.journal);

    batch->since_ms = clock_mono_ms();
    batch->urgent = waiters != NULL && flusher_config(flusher)->clickhouse_insert_linger_ms > 0 &&
                    waiter_wanted(waiters, batch->records, batch->count);
    lane_add_batch(lane, batch);
}

static void flusher_linger_take_called(struct flusher *flusher)
{
    struct waiter_table *waiters = journal_waiters(flusher->parts.journal);
    const uint64_t called = waiters == NULL ? 0 : waiter_take_called(waiters);

    for (size_t i = 0; called != 0 && i < flusher->lane_count; i++)
        if ((called >> flusher->lanes[i].stream & 1) != 0)
            lane_press(&flusher->lanes[i]);
}

void flusher_linger_review(struct flusher *flusher)
{
    const struct config *config = flusher_config(flusher);
    const struct journal *journal = flusher->parts.journal;
    uint64_t linger_ms = config->clickhouse_insert_linger_ms;
    uint64_t bytes = 0;

    flusher_linger_take_called(flusher);
    for (size_t i = 0; i < flusher->lane_count; i++)
        bytes += flusher->lanes[i].gathered_bytes;
    /* relaxed: the flag orders nothing else */
    if (atomic_load_explicit(&flusher->hurried, memory_order_relaxed) || journal_full(journal) ||
        bytes > journal_bytes_max(journal) / JOURNAL_SHARE)
        linger_ms = 0;
    for (size_t i = 0; i < flusher->lane_count; i++)
        lane_limit(&flusher->lanes[i], config->clickhouse_insert_rows, linger_ms);
}
