/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_probe.h - what the flusher makes of a server and a table before it inserts: may inserts
 * be async there, and does the table deduplicate. Pure.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_FLUSHER_PROBE_H
#define ALLOY_FLUSHER_PROBE_H

#include <stdbool.h>

#include "alloy/base.h"

#define FLUSHER_PROBE_VERSION_MAX 32

struct flusher_probe {
    char version[FLUSHER_PROBE_VERSION_MAX]; /* as the server gave it; "" when unknown */
    bool table_exists;
    bool async_safe;   /* tokens of async inserts are known to hold, and done is told from lost */
    bool counts_async; /* the answer to an async insert tells the rows written */
    bool window_unset; /* a plain MergeTree without a deduplication window */
};

/* Reads the answer to insert_request_probe_url(). False: it is not such an answer. */
bool flusher_probe_read(struct slice body, struct flusher_probe *probe);

#endif
