/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_facts.h - what is to be known of a server and a table before Alloy inserts: may inserts be
 * async there, does the table deduplicate, does it keep its rows, which table is it, and does what
 * the events hold meet its columns. Pure.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_TABLE_FACTS_H
#define ALLOY_TABLE_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"

#define TABLE_FACTS_FIELD_MAX 64
#define TABLE_FACTS_IDENTITY_MAX 512
#define TABLE_FACTS_TEXT_MAX 448 /* of table_facts_compare() */

struct table_facts {
    char version[TABLE_FACTS_FIELD_MAX]; /* these three as the server gave them; "-": nothing */
    char engine[TABLE_FACTS_FIELD_MAX];
    char window[TABLE_FACTS_FIELD_MAX];
    /*
     * Which table it is, whatever it is called: the Keeper path of a Replicated or Shared engine,
     * which all its replicas have in common, with what {uuid} stands for, but with {shard} as it is
     * written; else the UUID; "": the server does not tell, as in an Ordinary database.
     */
    char identity[TABLE_FACTS_IDENTITY_MAX];
    uint64_t modified_s; /* when its definition changed, seconds since 1970; 0: not told */
    bool table_exists;
    bool partitioned;
    bool has_views;    /* materialized views may read it */
    bool stores_rows;  /* what an insert leaves is in this table, even if views refuse it */
    bool counts_async; /* the answer to an async insert tells the rows written */
    bool forgets_rows; /* a kill can leave it the token of an insert without the rows */
    /* Why an insert that is sent again gives its rows twice; NULL: it does not, or that cannot be
     * seen from here. */
    const char *doubles;
    /* Why tokens of async inserts are not known to hold, or done not told from lost; NULL: both
     * are. */
    const char *async_unsafe;
};

/* Reads the answer to insert_request_table_url(). False: it is not such an answer. */
bool table_facts_read(struct slice body, struct table_facts *facts);

enum table_column_kind {
    TABLE_COLUMN_ORDINARY,
    TABLE_COLUMN_DEFAULT,
    TABLE_COLUMN_EPHEMERAL,    /* inserted where the insert names it */
    TABLE_COLUMN_NOT_INSERTED, /* MATERIALIZED, ALIAS */
};

struct table_column {
    const char *name;
    const char *type; /* its first 16384 characters */
    const char *default_kind;
    const char *expression; /* of its default; "": none, or not asked for */
    enum table_column_kind kind;
    bool nullable; /* takes NULL, which is there where no field is */
};

#define TABLE_COLUMNS_MAX 1000 /* that the question asks for */

struct table_columns {
    size_t count;
    bool partial;     /* the table has more, or the answer was cut */
    bool ignore_case; /* a field meets a column whose name differs in case (from 25.x on) */
    bool nested_json; /* input_format_import_nested_json: {"n":{"a":..}} is the field n.a */
    /* Settings that are not as they are by default: what depends on them is in doubt. */
    bool times_differ;  /* texts for times */
    bool tuples_differ; /* objects for tuples */
    bool values_differ; /* anything */
    struct table_column columns[];
};

/* Reads the answer to insert_request_columns_url(), or what is whole of it. Returns owned (free()),
 * all in one piece, a few times as large as body; NULL: it is not such an answer, the table has no
 * columns that we may see, or out of memory. */
struct table_columns *table_columns_read(struct slice body);

/*
 * Compares an event with the columns. Writes what an operator should know to out, in one line of
 * printable UTF-8: fields that meet no column, whose values are dropped, and columns without a
 * default of their own that no field fills. "": nothing. It names fields and columns, but no value.
 */
void table_facts_compare(const struct table_columns *columns, struct slice event,
                         char out[TABLE_FACTS_TEXT_MAX]);

#endif
