/* SPDX-License-Identifier: Apache-2.0 */
/*
 * insert_request.h - builds the URLs of inserts and of the questions that Alloy asks ClickHouse.
 * Pure text. What is called URL here is its end, which is the same for every endpoint:
 * insert_request_join() puts it behind an endpoint's base.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_INSERT_REQUEST_H
#define ALLOY_INSERT_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/config.h"
#include "table_facts.h"

struct insert_request {
    uint64_t instance_id;
    uint64_t insert_id;
    bool async;        /* what async_insert = auto means for this server and table */
    bool alone;        /* async, but the server must not join it with others */
    bool ignore_views; /* materialized views may fail without failing the insert */
    bool unhurried;    /* the server sets it no time limit */
    /* The columns that the insert names, as insert_request_columns() gives them; NULL: none. */
    const char *columns;
    /* The column that no event may fill, but its DEFAULT, with the token; NULL: none. */
    const char *proof;
};

/* What ClickHouse knows an insert by: instance id and insert id in hexadecimal. */
#define INSERT_TOKEN_MAX 33
void insert_request_token(char out[INSERT_TOKEN_MAX], uint64_t instance_id, uint64_t insert_id);

/* The beginning of an endpoint's URLs, up to the place for the query. Returns owned (free()); NULL:
 * out of memory. */
char *insert_request_base(const struct config *config, struct slice endpoint);
/* A whole URL; takes tail, which may be NULL. Returns owned (free()); NULL: out of memory. */
char *insert_request_join(const char *base, char *tail);

/*
 * URL of an insert into the stream's table: query INSERT INTO `db`.`table` FORMAT JSONEachRow, the
 * deduplication token (instance id and insert id in hexadecimal), the settings that must not
 * depend on a server's defaults, then clickhouse.setting.*; all percent-encoded. Returns owned
 * (free()); NULL: out of memory.
 */
char *insert_request_url(const struct config *config, const struct config_stream *stream,
                         const struct insert_request *request);

/*
 * URL that asks for the server's version, whether the table exists (1 or 0; also 0 when the user
 * may not see it), its engine, whether it is partitioned (1 or 0), its
 * non_replicated_deduplication_window ("" when not set), how many materialized views read it, its
 * UUID, the time of its last change (seconds), and the begin of engine_full, as one TabSeparated
 * row. Read by table_facts_read(). Returns owned (free()); NULL: out of memory.
 */
char *insert_request_table_url(const struct config_stream *stream);
/*
 * URL that asks for the table's columns, at most TABLE_COLUMNS_MAX, as TabSeparated rows: position
 * from 1, what the answer is about (in the first row: number of columns, and the settings that say
 * which column a field meets and what values are taken for), name, type, default_kind (of
 * stream.proof with a space and the expression behind it). No rows: there is no table, or the user
 * may not see it. Read by table_columns_read(). Returns owned (free()); NULL: out of memory.
 */
char *insert_request_columns_url(const struct config *config, const struct config_stream *stream);

/* The columns that an insert has to name, since ClickHouse drops what events give for EPHEMERAL
 * ones else, but for the column proof (NULL: none); percent-encoded. Returns owned (free()); NULL:
 * there is no such column, not all columns are known, or out of memory. */
char *insert_request_columns(const struct table_columns *columns, const char *proof);

/*
 * URL that asks how the table stands since a time age_s ago, by the server's clock, as one row of
 * JSONCompactEachRow: seconds since the server was started; that time, seconds since 1970; the rows
 * of the table's parts that are as young; the engines of tables of this name; and name, type and
 * default_kind of those columns that are named like the stream's id fields. With a token (NULL:
 * without) the column stream.proof is among these, and behind them are how many inserts with that
 * token are under way, and how many replicas of the table here are behind the others. Read by
 * verify_answer_trace(). Returns owned (free()); NULL: out of memory.
 */
char *insert_request_trace_url(const struct config_stream *stream, uint64_t age_s,
                               const char *token);
/*
 * URL that asks for all rows of the table's parts that were written since since_s that we may see,
 * and for those of them that have the token in the column stream.proof, as one row of
 * JSONCompactEachRow. Read by verify_answer_count(). Returns owned (free()); NULL: out of memory.
 */
char *insert_request_count_url(const struct config_stream *stream, uint64_t since_s,
                               const char *token);
/*
 * URL that asks which engine the table has, its path in Keeper with macros filled in ("": it has
 * none), and whether it is read-only (1 or 0), as one TabSeparated row; none: there is no such
 * table. Read by site_take(). Returns owned (free()); NULL: out of memory.
 */
char *insert_request_site_url(const struct config_stream *stream);
/*
 * URL that asks which of the rows that are posted with it, as the file INSERT_REQUEST_ROWS of a
 * form, are in the table's parts that were written since since_s (not in any that is older), as one
 * row of JSONCompactEachRow: all rows of those parts that we may see; different ids that were
 * posted; and a text of one character for each row posted, '1' where its id is there, with token
 * (NULL: with any or none) in the column stream.proof. structure: names and types of the id fields.
 * Read by verify_answer_rows(). Returns owned (free()); NULL: out of memory.
 */
#define INSERT_REQUEST_ROWS "alloy_rows"
char *insert_request_rows_url(const struct config *config, const struct config_stream *stream,
                              uint64_t since_s, const char *structure, const char *token);

/* URL of any query, with settings. Returns owned (free()); NULL: out of memory. */
char *insert_request_query_url(const char *query, const struct config_setting *settings,
                               size_t count);

/* True when user or password are set: they go in the headers X-ClickHouse-User and
 * X-ClickHouse-Key, and we drop credentials in clickhouse.url. */
bool insert_request_uses_headers(const struct config *config);
/* The password in force, from the file or the key; "" when there is none. Lent by config. */
const char *insert_request_password(const struct config *config);

#endif
