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
#include "alloy/journal_dir.h"
#include "alloy/log.h"
#include "sdnotify.h"

#define DRAIN_POLL_MS 5
#define REMOVED_MAX 1024 /* bytes of a line about removed streams */
#define ELDERS_MS                                                                                 \
    10000               /* longest wait for the connections that were there, and half of the time \
                         */
#define LAST_MS 2000    /* the same for those that came meanwhile, while nobody accepts */
#define INSERTS_MS 5000 /* before a restart: for inserts, while nobody accepts */

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

static bool drain_front_followed(const struct drain_parts *parts)
{
    return front_followed(parts->front);
}

static bool drain_elders_done(const struct drain_parts *parts)
{
    return front_elders(parts->front) <= front_waiting(parts->front);
}

/* systemd's watchdog goes on while we restart. */
static void drain_ping(void)
{
    static uint64_t pinged_ms;
    const uint64_t ping_ms = sdnotify_watchdog_ms();
    const uint64_t now_ms = clock_mono_ms();

    if (ping_ms == 0 || now_ms < pinged_ms + ping_ms)
        return;
    sdnotify_watchdog();
    pinged_ms = now_ms;
}

/* Waits until done() or the deadline; done NULL: until the deadline. */
static bool drain_wait(const struct drain_parts *parts, drain_done_fn done, uint64_t deadline_ms)
{
    const struct timespec step = {.tv_nsec = DRAIN_POLL_MS * (long)CLOCK_NS_PER_MS};

    while (done == NULL || !done(parts)) {
        if (clock_mono_ms() >= deadline_ms)
            return false;
        drain_ping();
        (void)nanosleep(&step, NULL);
    }
    return true;
}

/* Writes what is left of removed streams: the next life gives it to nobody. */
static void drain_list_removed(const struct drain_parts *parts, char *text, size_t size)
{
    const uint64_t now_ms = clock_real_ms();
    size_t len = 0;

    text[0] = '\0';
    for (size_t i = 0; i < parts->config->stream_count && len < size; i++) {
        const uint64_t live = journal_live(parts->journal, i);
        const uint64_t oldest_ms = live == 0 ? 0 : journal_oldest_ms(parts->journal, i);
        const uint64_t age_ms = oldest_ms == 0 || oldest_ms > now_ms ? 0 : now_ms - oldest_ms;

        if (!parts->config->streams[i].removed || live == 0)
            continue;
        len += (size_t)snprintf(text + len, size - len,
                                "%s%s: %" PRIu64 " events, the oldest for %" PRIu64 " s",
                                len == 0 ? " removed_streams=\"" : ", ",
                                parts->config->streams[i].name, live, age_ms / 1000);
    }
    if (len > 0)
        snprintf(text + (len < size - 2 ? len : size - 2), 2, "\"");
}

/* Nothing of our streams is left. Whoever reads clean=yes may remove the folder: so it has nothing
 * else either. */
static void drain_tell_empty(const struct drain_parts *parts, bool drained, uint64_t took_ms)
{
    const char *dir = parts->config->journal_dir;
    const uint64_t unknown = replay_unknown_stream(parts->replay);
    const size_t damaged = journal_dir_damaged(journal_folder(parts->journal));

    if (!replay_has_read_all(parts->replay))
        log_warn("drained, but not all of the journal of an earlier life was read took_ms=%" PRIu64
                 " kept_in=%s action=\"start again\"",
                 took_ms, dir);
    else if (unknown > 0 || damaged > 0)
        log_warn("drained, but events are left that no stream takes took_ms=%" PRIu64
                 " unknown_stream=%" PRIu64 " damaged_segments=%zu kept_in=%s",
                 took_ms, unknown, damaged, dir);
    else
        log_info("drained took_ms=%" PRIu64 " clean=%s", took_ms, drained ? "yes" : "no");
}

/* Says what is left, and returns the exit status. */
static int drain_tell(const struct drain_parts *parts, bool drained, uint64_t took_ms)
{
    const struct config *config = parts->config;
    char removed[REMOVED_MAX];
    uint64_t left = 0;

    for (size_t i = 0; i < config->stream_count; i++)
        left += journal_live(parts->journal, i);
    if (left == 0) {
        drain_tell_empty(parts, drained, took_ms);
        return 0;
    }
    if (config->journal_mode == CONFIG_JOURNAL_FILE) {
        drain_list_removed(parts, removed, sizeof(removed));
        log_warn("drain timed out events_left=%" PRIu64 " kept_in=%s%s", left, config->journal_dir,
                 removed);
        return 0;
    }
    /* Records that wait for release are in the dead-letter folder: they are not left behind. */
    left -= release_pending(parts->release);
    if (left == 0)
        return 0;
    log_error("drain timed out events_lost=%" PRIu64 " reason=\"journal.mode = memory\"", left);
    return 1;
}

/* Lets the connections end one by one while the listening sockets stay open: until those that were
 * there have ended we accept others, so that these wait as short as can be. */
static void drain_hand_over(const struct drain_parts *parts, uint64_t deadline_ms)
{
    const uint64_t now_ms = clock_mono_ms();
    uint64_t elders_ms = now_ms + ELDERS_MS;
    uint64_t last_ms;

    if (elders_ms > now_ms + (deadline_ms - now_ms) / 2)
        elders_ms = now_ms + (deadline_ms - now_ms) / 2;
    front_enter(parts->front, FRONT_LEAVES);
    (void)drain_wait(parts, drain_front_followed, elders_ms);
    (void)drain_wait(parts, drain_elders_done, elders_ms);
    front_enter(parts->front, FRONT_HANDS_OVER);
    last_ms = clock_mono_ms() + LAST_MS;
    (void)drain_wait(parts, drain_front_followed, deadline_ms);
    (void)drain_wait(parts, drain_front_done, last_ms < deadline_ms ? last_ms : deadline_ms);
}

static void drain_begin(const struct drain_parts *parts, enum drain_end end, uint64_t linger_ms)
{
    const struct config *config = parts->config;

    log_info("draining linger_ms=%" PRIu64 " timeout_ms=%" PRIu64 "%s", linger_ms,
             config->drain_timeout_ms,
             end == DRAIN_RESTART     ? " then=restart"
             : end == DRAIN_STOP_KEPT ? " listening_sockets=kept"
                                      : "");
    if (end == DRAIN_RESTART) {
        sdnotify_restarting(config->drain_timeout_ms);
        return;
    }
    sdnotify_stopping(linger_ms + config->drain_timeout_ms);
    health_raise(parts->health, "draining", true, "alloyd is shutting down");
}

int drain_run(const struct drain_parts *parts, enum drain_end end)
{
    const struct config *config = parts->config;
    const uint64_t started_ms = clock_mono_ms();
    const uint64_t linger_ms = end == DRAIN_RESTART ? 0 : config->drain_linger_ms;
    uint64_t deadline_ms = started_ms + linger_ms + config->drain_timeout_ms;
    bool drained;

    drain_begin(parts, end, linger_ms);
    if (linger_ms > 0) {
        front_enter(parts->front, FRONT_LINGERS);
        (void)drain_wait(parts, NULL, started_ms + linger_ms);
    }
    flusher_hurry(parts->flusher);
    if (end != DRAIN_STOP)
        drain_hand_over(parts, deadline_ms);
    front_enter(parts->front, FRONT_DRAINS);
    if (end == DRAIN_RESTART && config->journal_mode == CONFIG_JOURNAL_FILE &&
        deadline_ms > clock_mono_ms() + INSERTS_MS)
        deadline_ms = clock_mono_ms() + INSERTS_MS;
    drained = end != DRAIN_STOP || drain_wait(parts, drain_front_done, deadline_ms);
    drained = drain_wait(parts, drain_replay_done, deadline_ms) && drained;
    ring_close(parts->ring);
    drained = drain_wait(parts, drain_workers_done, deadline_ms) && drained;
    drained = drain_wait(parts, drain_flusher_done, deadline_ms) && drained;
    return drain_tell(parts, drained, clock_mono_ms() - started_ms);
}
