/* SPDX-License-Identifier: Apache-2.0 */
/*
 * burial.h - the thread that writes refused rows to the dead-letter folder.
 *
 * A sync takes as long as the disk likes, and the flusher must not wait for it: other streams'
 * inserts would. What waits here is LIVE in the journal, and its copy of ClickHouse's message is
 * the only thing that a crash loses: the next life sends the row again and hears it anew.
 */
#ifndef ALLOY_BURIAL_H
#define ALLOY_BURIAL_H

#include <stdint.h>

#include "alloy/base.h"
#include "alloy/config.h"
#include "alloy/flusher.h"
#include "alloy/health.h"
#include "alloy/journal.h"
#include "alloy/metrics.h"
#include "alloy/release.h"

/* Rows that may wait. With messages of 1 KiB each that is about 11 MB. */
#define BURIAL_MAX 10000

struct burial;

struct burial_parts {
    const struct config_ref *config;
    struct journal *journal;
    struct health *health;
    struct metrics *metrics;
    struct release *release; /* where rows go on to when their lines are safe */
    /* n records count in release_pending() now, and not here any more. Burial thread. */
    void (*settled)(void *arg, uint64_t n);
    void *arg;
};

/* Opens the dead-letter folder and starts the thread. Returns 0 and an owned burial
 * (burial_stop()), or -errno with one clear sentence in error. */
MUST_CHECK int burial_start(struct burial **burial, const struct burial_parts *parts,
                            char error[FLUSHER_ERROR_MAX]);
/* Takes a LIVE record that ClickHouse has refused for good, on 0; message is borrowed. -ENOBUFS:
 * BURIAL_MAX wait, or out of memory; the caller keeps the record. Any thread; never blocks. */
MUST_CHECK int burial_submit(struct burial *burial, struct record *record, int code,
                             struct slice message);
/* Ends the thread and frees everything. What waits stays LIVE in the journal. NULL is fine. */
void burial_stop(struct burial *burial);

#endif
