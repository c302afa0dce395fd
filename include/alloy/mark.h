/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark.h - says in Redis which table is behind a stream's claims (a mark), so that two deployments
 * with the same keys and different tables do not take each other's ids for duplicates. See
 * docs/decisions/011-marks.md.
 *
 * The process has one struct marks, with a thread and a connection of its own. The flusher tells it
 * each stream's table; workers ask it before they claim.
 */
#ifndef ALLOY_MARK_H
#define ALLOY_MARK_H

#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/config.h"
#include "alloy/health.h"
#include "alloy/ring.h"

/* A longer identity is cut: every alloyd cuts it alike, and people still recognise the table. */
#define MARK_IDENTITY_MAX 320

struct marks;

struct marks_parts {
    const struct config_ref *config;
    struct health *health;
    struct ring *ring; /* woken when a stream's claims may be taken */
    uint64_t instance_id;
};

enum marks_verdict {
    MARKS_CLAIM,  /* the keys are this table's, or we cannot know: claims may be taken */
    MARKS_KEEP,   /* they are another table's: keep the events */
    MARKS_UNSEEN, /* not known yet: keep the events; while Redis is away, as redis.on_failure says
                   */
};

/* Starts the thread. redis.url is not empty. Returns 0 and owned marks (marks_stop()), or -errno.
 */
MUST_CHECK int marks_start(struct marks **marks, const struct marks_parts *parts);
/* Ends the thread, within redis.timeout, and frees everything. The caller has seen to it that
 * nobody calls marks_tell() or marks_ask() any more. NULL is fine. */
void marks_stop(struct marks *marks);
/* Another configuration is in force: looks at once, by its redis.url. NULL is fine. Any thread. */
void marks_reload(struct marks *marks);

/*
 * Tells which table a stream's events go to, in a shard; that of the first one (0) decides.
 * identity is the same for all who insert into that table and for nobody else: the Keeper path of a
 * replicated table, else its UUID. "" when we cannot know it, for example without the right to read
 * it; the stream then goes on without the check. Call again when it changes; the same text again
 * changes nothing. Any thread; blocks only briefly.
 */
void marks_tell(struct marks *marks, size_t stream, size_t shard, const char *identity);
/* Whether claims of a stream may be taken now. Any thread, lock-free. marks NULL: they may. */
enum marks_verdict marks_ask(const struct marks *marks, size_t stream, uint64_t now_ms);

#endif
