/* SPDX-License-Identifier: Apache-2.0 */
/*
 * insert_judge.h - what becomes of an insert, given an answer and what is known. Pure.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_INSERT_JUDGE_H
#define ALLOY_INSERT_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "insert_answer.h"

/* What is known of an insert and its table when an answer comes. */
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
    bool others_went;  /* the lane took other rows between the first of them and this try */
    /* the table */
    bool views;         /* materialized views may read it */
    bool stores;        /* what it has taken stays there, with its token */
    bool facts_missing; /* neither is known yet, and the answer may still come */
};

enum insert_verdict {
    INSERT_VERDICT_DONE,  /* it is in ClickHouse */
    INSERT_VERDICT_AGAIN, /* later, as it is */
    INSERT_VERDICT_ASK,   /* as it is, when the table has been asked about */
    INSERT_VERDICT_PROVE, /* at once, in a way that lets the next answer decide */
    INSERT_VERDICT_ASIDE, /* as it is, beside its lane */
    INSERT_VERDICT_HALVE, /* fewer rows may pass */
    INSERT_VERDICT_CUT,   /* some row of it is at fault */
    INSERT_VERDICT_BURY,  /* its one row is at fault */
    INSERT_VERDICT_KEEP,  /* its one row is, if the table takes others */
};

/* Tries with one code until an insert is suspected: what nobody can say more about, and what passes
 * by itself or needs a human, as a rule. */
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
