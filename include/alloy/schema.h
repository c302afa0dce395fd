/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema.h - what is known of a table's columns, and what an event holds that ClickHouse would
 * refuse, drop, or store as something else. Pure, but for the count of a schema's holders.
 *
 * Runs on: any thread. schema_check() allocates nothing.
 */
#ifndef ALLOY_SCHEMA_H
#define ALLOY_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/json_scan.h"

#define SCHEMA_COLUMNS_MAX 1000
#define SCHEMA_FINDINGS_MAX 64 /* of one event; further ones are not told */
#define SCHEMA_GUESSES_MAX 128 /* members of an event whose column is guessed */
#define SCHEMA_COLUMN_NONE UINT16_MAX

/* What is wrong with a member of an event, or with its lack. */
enum schema_problem {
    SCHEMA_FITS,       /* nothing is known against it */
    SCHEMA_UNKNOWN,    /* no column has this name: the value is dropped */
    SCHEMA_NOT_STORED, /* the column is MATERIALIZED or an ALIAS: the value is dropped */
    SCHEMA_MISSING,    /* there is no member for a column without a default */
    SCHEMA_TWICE,      /* two members for one column: refused */
    SCHEMA_NULL,       /* null for what is not Nullable: the type's default is stored */
    SCHEMA_KIND,       /* the wrong kind of JSON value */
    SCHEMA_RANGE,      /* a number, date or text that the type has no room for */
    SCHEMA_FORMAT,     /* a text that stands for no value of the type */
    SCHEMA_UNIT,       /* a number that is seconds where ticks are stored: a day in 1970 */
};
#define SCHEMA_PROBLEMS 10

/* One word for a problem, for metrics and logs. */
const char *schema_problem_name(enum schema_problem problem);

/* What is known of the table as a whole. */
enum {
    SCHEMA_IGNORE_CASE = 1, /* a field meets a column whose name differs in case */
    SCHEMA_NESTED = 2,      /* {"n":{"a":..}} is the column n.a */
    SCHEMA_PARTIAL = 4,     /* there are columns that we were not told of */
    /* Settings are not as they are by default: what depends on them is not checked. */
    SCHEMA_SKIP_NULLS = 8,
    SCHEMA_SKIP_TIMES = 16,
    SCHEMA_SKIP_TUPLES = 32,
    SCHEMA_SKIP_VALUES = 64,
};

struct schema_source_column {
    struct slice name;
    struct slice type;
    struct slice kind; /* system.columns.default_kind */
};

struct schema_source {
    const struct schema_source_column *columns;
    size_t count; /* at most SCHEMA_COLUMNS_MAX */
    unsigned flags;
    /* Names of columns that Alloy fills itself: they are never missing. */
    const struct slice *given;
    size_t given_count;
};

struct schema;

/* Returns a schema with one holder; NULL: out of memory, or not one column. Borrows source. */
struct schema *schema_create(const struct schema_source *source);
/* One more holder, and one less: the last one frees it. */
struct schema *schema_get(struct schema *schema);
void schema_put(struct schema *schema); /* NULL is fine */

/* Lent as long as the schema. */
const char *schema_column_name(const struct schema *schema, uint16_t column);
const char *schema_column_type(const struct schema *schema, uint16_t column);

/* Which columns the members of the event before have met. Zero-initialise; one for each thread and
 * stream. */
struct schema_guess {
    uint16_t columns[SCHEMA_GUESSES_MAX];
};

struct schema_finding {
    enum schema_problem problem;
    uint16_t column; /* NONE: of UNKNOWN */
    /* The inside of the quotes of a member's name, still escaped; of MISSING: the column's name,
     * lent by the schema. */
    struct slice name;
    struct slice value; /* the text at fault, a part of the member's value; empty: of MISSING */
};

struct schema_findings {
    size_t count;
    struct schema_finding list[SCHEMA_FINDINGS_MAX];
};

/* The members of an event, as json_scan has noted them. */
struct schema_event {
    const struct json_scan_member *members;
    size_t count;
    bool cut;        /* there are more: nothing is known of these */
    const char *end; /* behind the event's '}' */
};

/* Puts an event beside the columns. Findings are in the order of the members, then those that lack.
 * Returns whether there are any. */
bool schema_check(const struct schema *schema, struct schema_guess *guess,
                  const struct schema_event *event, struct schema_findings *findings);

#endif
