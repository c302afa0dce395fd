/* SPDX-License-Identifier: Apache-2.0 */
/*
 * burial.h - the thread that writes refused rows to the dead-letter folder.
 *
 * A sync can take long, and the flusher must not wait for it: the inserts of other streams would
 * wait too. Rows that wait here are LIVE in the journal. A crash loses only our copy of
 * ClickHouse's message: the next life sends the row again and gets a new one.
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
#include "alloy/voucher.h"
#include "alloy/setbacks.h"

/* Most rows that wait. With messages of 1 KiB each that is about 11 MB. */
#define BURIAL_MAX 10000

struct burial;

struct burial_parts {
    const struct config_ref *config;
    struct journal *journal;
    struct health *health;
    struct metrics *metrics;
    struct release *release;              /* takes the records once their lines are safe on disk */
    const struct voucher_key *replay_key; /* for letters that need it; NULL: none */
    struct setbacks *setbacks;            /* told of each letter; NULL: nobody asks */
    /* Called when n records count in release_pending() and no longer here. Burial thread. */
    void (*settled)(void *arg, uint64_t n);
    void *arg;
};

/* Opens the dead-letter folder and starts the thread. Returns 0 and an owned burial
 * (burial_stop()), or -errno with one clear sentence in error. */
MUST_CHECK int burial_start(struct burial **burial, const struct burial_parts *parts,
                            char error[FLUSHER_ERROR_MAX]);
/* Takes a LIVE record that ClickHouse has refused for good; message is borrowed. Returns 0, or
 * -ENOBUFS when BURIAL_MAX rows wait or memory is out; the caller then keeps the record. Any
 * thread; never blocks. */
MUST_CHECK int burial_submit(struct burial *burial, struct record *record, int code,
                             struct slice message);
/* Ends the thread and frees everything. Rows that wait stay LIVE in the journal. NULL is fine. */
void burial_stop(struct burial *burial);

#endif
