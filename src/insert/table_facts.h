/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_facts.h - what the flusher makes of a server and a table before it inserts: may inserts
 * be async there, and does the table deduplicate. Pure.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_TABLE_FACTS_H
#define ALLOY_TABLE_FACTS_H

#include <stdbool.h>

#include "alloy/base.h"

#define TABLE_FACTS_FIELD_MAX 64

struct table_facts {
    char version[TABLE_FACTS_FIELD_MAX]; /* these three as the server gave them; "-": nothing */
    char engine[TABLE_FACTS_FIELD_MAX];
    char window[TABLE_FACTS_FIELD_MAX];
    char identity[TABLE_FACTS_FIELD_MAX];
    char modified[TABLE_FACTS_FIELD_MAX];
    bool stores_rows;
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
bool table_facts_read(struct slice body, struct table_facts *probe);

#endif
