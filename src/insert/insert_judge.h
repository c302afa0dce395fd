/* SPDX-License-Identifier: Apache-2.0 */
/*
 * insert_judge.h - decides what becomes of an insert, from the answer and what is known. Pure.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_INSERT_JUDGE_H
#define ALLOY_INSERT_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "insert_answer.h"

/* What is known about an insert and its table when an answer comes. */
struct insert_evidence {
    size_t count;
    /* the insert */
    bool doubt;        /* an earlier try may have put it into the table */
    bool async;        /* the server may have joined it with others' */
    bool alone;        /* it was not joined with others' */
    bool ignore_views; /* views were not asked */
    bool expected;     /* it was cut out of one that was refused in the same way */
    bool no_table;     /* refused because the table is not there, or not for us */
    uint32_t refusals; /* definite ones with this code that count, this one included */
    bool takes_rows;   /* the table, as it is now, had taken rows of the stream before this try */
    bool others_went;  /* the lane took other rows between the first of them and this try */
    /* the table */
    bool views;         /* materialized views may read it */
    bool stores;        /* it keeps the rows that it takes */
    bool doubles;       /* it keeps no tokens, and takes the same rows again */
    bool facts_missing; /* neither is known yet, but an answer may still come */
};

enum insert_verdict {
    INSERT_VERDICT_DONE,   /* it is in ClickHouse */
    INSERT_VERDICT_STORED, /* so it is, though a view has refused it */
    INSERT_VERDICT_AGAIN,  /* send it later, as it is */
    INSERT_VERDICT_ASK,    /* send it as it is, after asking about the table */
    INSERT_VERDICT_PROVE,  /* send it at once, in a way that lets the next answer decide */
    INSERT_VERDICT_ASIDE,  /* send it as it is, beside its lane */
    INSERT_VERDICT_HALVE,  /* halve it: fewer rows may pass */
    INSERT_VERDICT_CUT,    /* cut it: some row is at fault */
    INSERT_VERDICT_BURY,   /* bury its one row, which is at fault */
    INSERT_VERDICT_KEEP,   /* keep its one row, which is at fault if the table takes others */
};

/* Refusals with one code before we suspect the rows: for codes that we know nothing about, and for
 * codes that usually pass by themselves or need a human. */
#define INSERT_REFUSALS_UNKNOWN 3
#define INSERT_REFUSALS_TABLE 3
#define INSERT_REFUSALS_RETRY 6

enum insert_verdict insert_judge(const struct insert_reading *reading,
                                 const struct insert_evidence *evidence, bool blames_view);
/* Whether such refusals come and go with the table, its rights and its load: one counts only if the
 * table took other rows between it and the one before. */
bool insert_judge_is_fickle(const struct insert_reading *reading);
/* Whether the next try has to be one that others' rows, or views, cannot spoil. */
bool insert_judge_alone(const struct insert_evidence *evidence);
bool insert_judge_ignore_views(const struct insert_evidence *evidence, bool blames_view);

#endif
