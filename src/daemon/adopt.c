/* SPDX-License-Identifier: Apache-2.0 */
/*
 * adopt.c - brings the events of another alloyd's journal to ClickHouse, and ends.
 *
 * The folder of a dead machine is a journal like our own. A life that takes its lock, accepts
 * nothing and replays it uses its instance id, its LSNs and the tokens of its inserts: so claims
 * that it holds in Redis are our own, an insert that was in doubt goes again under its token, and a
 * crash in between is a crash like any other. All of that is the daemon's own code; here we only
 * wait for its end.
 *
 * Runs on: the main thread.
 * Owns: nothing.
 */
#define LOG_MODULE "adopt"
#include "adopt.h"

#include <inttypes.h>
#include <string.h>

#include "alloy/clock.h"
#include "alloy/journal_dir.h"
#include "alloy/log.h"
#include "signals.h"

#define POLL_MS 50
#define TELL_MS 2000   /* between two lines about the progress */
#define STUCK_MS 10000 /* without progress: say what is wrong */

struct adopt {
    const struct drain_parts *parts;
    bool closed; /* the ring: everything is handed over */
    uint64_t told_ms, moved_ms;
    uint64_t left; /* when it was looked at last */
};

static uint64_t adopt_left(const struct drain_parts *parts)
{
    uint64_t left = 0;

    for (size_t i = 0; i < parts->config->stream_count; i++)
        left += journal_live(parts->journal, i);
    return left;
}

static bool adopt_workers_done(const struct drain_parts *parts)
{
    for (size_t i = 0; i < parts->worker_count; i++)
        if (!worker_done(parts->workers[i]))
            return false;
    return true;
}

/* True when all that can go has gone. */
static bool adopt_is_done(struct adopt *adopt)
{
    const struct drain_parts *parts = adopt->parts;

    if (!replay_done(parts->replay))
        return false;
    if (!adopt->closed)
        ring_close(parts->ring);
    adopt->closed = true;
    /* In this order: a refused row goes from the flusher's count to the release's. */
    return adopt_workers_done(parts) && flusher_pending(parts->flusher) == 0 &&
           release_pending(parts->release) == 0;
}

static void adopt_tell_reason(void *arg, const char *key, bool blocking, const char *text)
{
    (void)arg;
    (void)blocking;
    if (strcmp(key, "replay") != 0)
        log_warn("no progress reason=%s text=\"%s\"", key, text);
}

static void adopt_tell_progress(struct adopt *adopt)
{
    const uint64_t now_ms = clock_mono_ms();
    const uint64_t left = adopt_left(adopt->parts);

    if (left != adopt->left)
        adopt->moved_ms = now_ms;
    adopt->left = left;
    if (now_ms - adopt->told_ms < TELL_MS)
        return;
    adopt->told_ms = now_ms;
    log_info("adopting events_left=%" PRIu64, left);
    if (now_ms - adopt->moved_ms < STUCK_MS)
        return;
    adopt->moved_ms = now_ms;
    health_visit(adopt->parts->health, adopt_tell_reason, NULL);
}

/* What the folder still has when we end. */
struct adopt_rest {
    uint64_t left, unknown; /* events; the first has the second in it */
    bool read;              /* they are all there are */
    size_t damaged;         /* segments that were set aside */
};

static struct adopt_rest adopt_rest(const struct drain_parts *parts)
{
    /* First: what is read after that is counted. */
    const bool read = replay_has_read_all(parts->replay);
    const uint64_t unknown = replay_unknown_stream(parts->replay);

    return (struct adopt_rest){.left = adopt_left(parts) + unknown,
                               .unknown = unknown,
                               .read = read,
                               .damaged = journal_dir_damaged(journal_folder(parts->journal))};
}

/* The result, for programs: alloyctl puts it into words. */
static void adopt_print(const struct drain_parts *parts, struct metrics *metrics,
                        const struct adopt_rest *rest)
{
    struct metrics_snapshot *snapshot = calloc(1, sizeof(*snapshot));

    if (snapshot == NULL)
        return;
    metrics_read(metrics, snapshot);
    printf("{\"instance\":\"%016" PRIx64 "\",\"left\":%" PRIu64 ",\"unknown_stream\":%" PRIu64
           ",\"read\":%s,\"damaged\":%zu,\"streams\":[",
           journal_instance_id(parts->journal), rest->left, rest->unknown,
           rest->read ? "true" : "false", rest->damaged);
    for (size_t i = 0; i < parts->config->stream_count; i++) {
        const uint64_t *counts = snapshot->streams[i];

        printf("%s{\"stream\":\"%s\",\"events\":%" PRIu64 ",\"inserted\":%" PRIu64
               ",\"duplicates\":%" PRIu64 ",\"dead_lettered\":%" PRIu64 ",\"left\":%" PRIu64 "}",
               i == 0 ? "" : ",", parts->config->streams[i].name, counts[METRIC_STREAM_accepted],
               counts[METRIC_STREAM_inserted], counts[METRIC_STREAM_duplicate_l2],
               counts[METRIC_STREAM_dead_lettered], journal_live(parts->journal, i));
    }
    puts("]}");
    fflush(stdout);
    free(snapshot);
}

int adopt_run(const struct drain_parts *parts, struct metrics *metrics)
{
    struct adopt adopt = {.parts = parts, .moved_ms = clock_mono_ms()};
    const uint64_t started_ms = adopt.moved_ms;
    struct adopt_rest rest;
    bool stopped = false;

    log_info("adopting folder=%s events_left=%" PRIu64, parts->config->journal_dir,
             adopt_left(parts));
    flusher_hurry(parts->flusher);
    while (!stopped && !adopt_is_done(&adopt)) {
        stopped = signals_wait(POLL_MS) == SIGNALS_STOP;
        adopt_tell_progress(&adopt);
    }
    rest = adopt_rest(parts);
    adopt_print(parts, metrics, &rest);
    if (rest.left == 0 && rest.read && rest.damaged == 0) {
        log_info("adopted took_ms=%" PRIu64, clock_mono_ms() - started_ms);
        return 0;
    }
    log_warn("not adopted in full events_left=%" PRIu64 " unknown_stream=%" PRIu64
             " read=%s damaged_segments=%zu stopped=%s",
             rest.left, rest.unknown, rest.read ? "yes" : "no", rest.damaged,
             stopped ? "yes" : "no");
    return 1;
}
