/* SPDX-License-Identifier: Apache-2.0 */
/*
 * insert_answer.h - decides what an answer of ClickHouse means: one pure function and one table.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_INSERT_ANSWER_H
#define ALLOY_INSERT_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"

enum insert_class {
    INSERT_DONE,          /* all rows are in ClickHouse */
    INSERT_RETRY,         /* the same rows under the same token, later */
    INSERT_BAD_ROWS,      /* some row is at fault */
    INSERT_SPLIT,         /* too many partitions in one block, or too much time */
    INSERT_MISCONFIGURED, /* nearly always the fault of table, rights or settings */
    INSERT_UNKNOWN,       /* refused, and we cannot tell why */
};

struct insert_answer {
    bool transport_failed; /* curl gave an error: the outcome is unknown */
    bool timed_out;        /* it ran out of time */
    bool unsent;           /* with transport_failed: not one byte of it can have arrived */
    long status;           /* HTTP status, 0 when there was none */
    int exception_code;    /* X-ClickHouse-Exception-Code; 0: no such header */
    bool has_summary;      /* X-ClickHouse-Summary came and had written_rows */
    uint64_t written_rows;
    uint64_t retry_after_ms; /* Retry-After; 0: no such header */
    struct slice body;       /* the first few KiB */
};

/* What an answer says about an insert. */
struct insert_reading {
    enum insert_class class;
    int code;       /* ClickHouse's; 0: none */
    bool definite;  /* if the table itself refuses: this try has put nothing into it */
    bool sure;      /* a row refused alone is at fault, if the table takes any row */
    bool unread;    /* ... in any case: its bytes could not be read, before the table came in */
    bool too_large; /* fewer rows may pass */
};

/* Reads the answer to an insert of that many rows. */
struct insert_reading insert_answer_read(const struct insert_answer *answer, uint64_t rows);

/* Reads written_rows from the value of X-ClickHouse-Summary; false when it is not there. */
bool insert_answer_summary(struct slice value, uint64_t *written_rows);
/* The exception code in a body ("Code: 27. DB::Exception: ..."); 0 when there is none. */
int insert_answer_body_code(struct slice body);
/* The row that the message names, from 0 ("(at row 3)" gives 2); false when it names none. */
bool insert_answer_row(struct slice body, uint64_t *row);
/* Whether the message mentions a materialized view: then the table may have the rows. Only a hint,
 * since the message may quote an event. */
bool insert_answer_blames_view(struct slice body);
/* Whether the message says that this table, or its database, is not there, or that we may not
 * insert into it: no refusal of a row, however often it comes. */
bool insert_answer_lacks_table(int code, struct slice body, const char *database,
                               const char *table);
/* "retry", "bad_rows", ... as in alloy_clickhouse_errors_total{class}. */
const char *insert_class_name(enum insert_class class);

#endif
