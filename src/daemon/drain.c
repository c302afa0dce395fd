/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drain.c - lets everything that was accepted reach ClickHouse before the process ends.
 *
 * A drain goes with the flow, from the socket to ClickHouse. What it does not finish in time stays
 * in the journal, for the next life.
 *
 * Runs on: the main thread.
 * Owns: nothing.
 */
#define LOG_MODULE "daemon"
#include "drain.h"

#include <inttypes.h>
#include <time.h>

#include "alloy/clock.h"
#include "alloy/log.h"
#include "sdnotify.h"

#define DRAIN_POLL_MS 5

typedef bool (*drain_done_fn)(const struct drain_parts *parts);

/* We need not wait here for requests that wait for ClickHouse: they are answered once their events
 * are inserted, which comes next. */
static bool drain_front_done(const struct drain_parts *parts)
{
    return front_connections(parts->front) <= front_waiting(parts->front);
}

static bool drain_replay_done(const struct drain_parts *parts)
{
    return replay_done(parts->replay);
}

static bool drain_workers_done(const struct drain_parts *parts)
{
    for (size_t i = 0; i < parts->worker_count; i++)
        if (!worker_done(parts->workers[i]))
            return false;
    return true;
}

static bool drain_flusher_done(const struct drain_parts *parts)
{
    /* In this order: a refused row goes from the first count to the second, which has it before the
     * first forgets it. */
    return flusher_pending(parts->flusher) == 0 && release_pending(parts->release) == 0;
}

/* Waits until done() or the deadline; done NULL: until the deadline. */
static bool drain_wait(const struct drain_parts *parts, drain_done_fn done, uint64_t deadline_ms)
{
    const struct timespec step = {.tv_nsec = DRAIN_POLL_MS * (long)CLOCK_NS_PER_MS};

    while (done == NULL || !done(parts)) {
        if (clock_mono_ms() >= deadline_ms)
            return false;
        (void)nanosleep(&step, NULL);
    }
    return true;
}

/* Says what is left, and returns the exit status. */
static int drain_tell(const struct drain_parts *parts, bool drained, uint64_t took_ms)
{
    const struct config *config = parts->config;
    uint64_t left = 0;

    for (size_t i = 0; i < config->stream_count; i++)
        left += journal_live(parts->journal, i);
    if (left == 0) {
        log_info("drained took_ms=%" PRIu64 " clean=%s", took_ms, drained ? "yes" : "no");
        return 0;
    }
    if (config->journal_mode == CONFIG_JOURNAL_FILE) {
        log_warn("drain timed out events_left=%" PRIu64 " kept_in=%s", left, config->journal_dir);
        return 0;
    }
    /* Records that wait for release are in the dead-letter folder: they are not left behind. */
    left -= release_pending(parts->release);
    if (left == 0)
        return 0;
    log_error("drain timed out events_lost=%" PRIu64 " reason=\"journal.mode = memory\"", left);
    return 1;
}

int drain_run(const struct drain_parts *parts)
{
    const struct config *config = parts->config;
    const uint64_t started_ms = clock_mono_ms();
    const uint64_t lingered_ms = started_ms + config->drain_linger_ms;
    const uint64_t deadline_ms = lingered_ms + config->drain_timeout_ms;
    bool drained;

    log_info("draining linger_ms=%" PRIu64 " timeout_ms=%" PRIu64, config->drain_linger_ms,
             config->drain_timeout_ms);
    sdnotify_stopping(config->drain_linger_ms + config->drain_timeout_ms);
    health_raise(parts->health, "draining", true, "alloyd is shutting down");
    if (config->drain_linger_ms > 0) {
        front_enter(parts->front, FRONT_LINGERS);
        (void)drain_wait(parts, NULL, lingered_ms);
    }
    front_enter(parts->front, FRONT_DRAINS);
    drained = drain_wait(parts, drain_front_done, deadline_ms);
    drained = drain_wait(parts, drain_replay_done, deadline_ms) && drained;
    ring_close(parts->ring);
    drained = drain_wait(parts, drain_workers_done, deadline_ms) && drained;
    drained = drain_wait(parts, drain_flusher_done, deadline_ms) && drained;
    return drain_tell(parts, drained, clock_mono_ms() - started_ms);
}
