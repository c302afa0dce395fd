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

#define FLUSHER_PROBE_FIELD_MAX 64

struct flusher_probe {
    char version[FLUSHER_PROBE_FIELD_MAX]; /* these three as the server gave them; "-": nothing */
    char engine[FLUSHER_PROBE_FIELD_MAX];
    char window[FLUSHER_PROBE_FIELD_MAX];
    char uuid[FLUSHER_PROBE_FIELD_MAX];
    bool table_exists;
    bool partitioned;
    bool has_views;    /* materialized views may read it */
    bool counts_async; /* the answer to an async insert tells the rows written */
    bool window_unset; /* a plain MergeTree without a deduplication window */
    /* Why tokens of async inserts are not known to hold, or done not told from lost; NULL: both
     * are. */
    const char *async_unsafe;
};

/* Reads the answer to insert_request_probe_url(). False: it is not such an answer. */
bool flusher_probe_read(struct slice body, struct flusher_probe *probe);

#endif
