/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask_table.h - asks ClickHouse about a stream's table, and inserts into one as alloyd would.
 *
 * Runs on: the thread that owns the connection.
 */
#ifndef ALLOY_ASK_TABLE_H
#define ALLOY_ASK_TABLE_H

#include "alloy/ask_clickhouse.h"

#define ASK_TABLE_FIELD_MAX 64
#define ASK_TABLE_IDENTITY_MAX 512

/* What alloyd's own question tells, see table_facts.h. */
struct ask_table {
    char version[ASK_TABLE_FIELD_MAX];
    char engine[ASK_TABLE_FIELD_MAX];
    char window[ASK_TABLE_FIELD_MAX]; /* "-": not set */
    char identity[ASK_TABLE_IDENTITY_MAX];
    bool exists;
    bool partitioned;
    bool forgets_rows; /* a kill can leave it the token of an insert without the rows */
    const char *doubles;
    const char *async_unsafe;
};

/* An insert: which one, and how. */
struct ask_table_insert {
    uint64_t id;
    bool async;
    const char *rows; /* JSON lines */
};

/* False: it is not known; ask->answer.why says why. */
bool ask_table(struct ask_clickhouse *ask, const struct config_stream *stream,
               struct ask_table *table);
/* Inserts with the token of that id. False: refused, or not answered. */
bool ask_table_insert(struct ask_clickhouse *ask, const struct config_stream *stream,
                      const struct ask_table_insert *insert);
/* The same, but cuts the connection in mid-insert. */
void ask_table_cut(struct ask_clickhouse *ask, const struct config_stream *stream,
                   const struct ask_table_insert *insert);

#endif
