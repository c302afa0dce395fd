/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify_answer.h - what ClickHouse answers when it is asked whether it has the rows of an insert.
 * Pure.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_VERIFY_ANSWER_H
#define ALLOY_VERIFY_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/config.h"

#define VERIFY_STRUCTURE_MAX 1024

struct verify_trace {
    uint64_t uptime_s;
    uint64_t since_s;  /* by the server's clock */
    uint64_t rows;     /* in parts as young as that */
    bool table_exists; /* or we may not see it */
    bool tells;        /* a row that is missing there is lost, and ids can be compared */
    /* with stream.proof */
    bool proves;     /* the same of a token that is missing there */
    bool ids;        /* ids can be compared */
    uint64_t busy;   /* inserts with the token that are under way */
    uint64_t behind; /* replicas of the table here that may lack what others have */
    char structure[VERIFY_STRUCTURE_MAX]; /* names and types of the id fields */
};

/* Reads the answer to insert_request_trace_url(), with a token or without. False: it is not such an
 * answer. */
bool verify_answer_trace(struct slice body, const struct config_stream *stream, bool token,
                         struct verify_trace *trace);

/* Reads the answer to insert_request_count_url(). False: it is not such an answer. */
bool verify_answer_count(struct slice body, uint64_t *shown, uint64_t *found);

struct verify_rows {
    uint64_t shown;    /* rows that we may see, in the parts that were looked into */
    uint64_t distinct; /* ids that were posted */
    const char *bits;  /* one for each row: '1' if it is there. Lent by the body */
};

/* Reads the answer to insert_request_rows_url() about count rows. False: it is not such an answer.
 */
bool verify_answer_rows(struct slice body, size_t count, struct verify_rows *rows);

#endif
