/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark.h - which table stands behind a stream's claims: a mark in Redis, so that two deployments
 * with different tables behind the same keys do not take each other's ids for duplicates. See
 * docs/decisions/011-marks.md.
 *
 * One struct marks for the process, with a thread and a connection of its own. Whoever knows a
 * stream's table tells it; workers ask before they claim.
 */
#ifndef ALLOY_MARK_H
#define ALLOY_MARK_H

#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/config.h"
#include "alloy/health.h"
#include "alloy/ring.h"

/* A longer identity is cut: it still names the table to people, and is cut alike everywhere. */
#define MARK_IDENTITY_MAX 320

struct marks;

struct marks_parts {
    const struct config_ref *config;
    struct health *health;
    struct ring *ring; /* woken when a stream's claims may be taken */
    uint64_t instance_id;
};

enum marks_verdict {
    MARKS_CLAIM,  /* the keys are this table's, or that cannot be known: claims may be taken */
    MARKS_KEEP,   /* they are another's: keep the events */
    MARKS_UNSEEN, /* not known yet: keep the events, or, with Redis away, what redis.on_failure says
                   */
};

/* Starts the thread. redis.url is not empty. Returns 0 and owned marks (marks_stop()), or -errno.
 */
MUST_CHECK int marks_start(struct marks **marks, const struct marks_parts *parts);
/* Ends the thread, which takes redis.timeout at most, and frees. Nobody tells or asks any more.
 * NULL is fine. */
void marks_stop(struct marks *marks);

/*
 * Tells which table a stream's events go to, by a text that is the same for all who insert into
 * that table and for nobody else: for a replicated one its path in Keeper, else its UUID. "": it
 * cannot be known, for want of rights, say, and the stream goes on without the check. Again when it
 * changes; the same text again costs a lock and changes nothing. Any thread; never blocks for long.
 */
void marks_tell(struct marks *marks, size_t stream, const char *identity);
/* Whether claims of a stream may be taken now. Any thread, lock-free. marks NULL: they may. */
enum marks_verdict marks_ask(const struct marks *marks, size_t stream, uint64_t now_ms);

#endif
