/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lane.h - a stream's place in the flusher: batches that gather, inserts that wait, how large the
 * next one may be, and when it may go.
 *
 * Runs on: flusher thread.
 */
#ifndef ALLOY_LANE_H
#define ALLOY_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/backoff.h"
#include "alloy/base.h"
#include "alloy/batch.h"
#include "alloy/health.h"
#include "alloy/log.h"
#include "apart.h"
#include "insert.h"
#include "table_facts.h"
#include "verify_answer.h"

#define LANE_MESSAGE_MAX 300 /* of ClickHouse's words, for people */
#define LANE_ROWS_MAX 100000
#define LANE_BYTES_MAX (32u << 20)
#define LANE_SAMPLE_MAX 65536
#define LANE_WAITING_MAX 3 /* inserts that wait for an answer while new ones are begun */

/*
 *          failure                 no row goes in
 *     WELL -------> TROUBLED     ----------------> REFUSES
 *      ^ <---------    |         (from both)          |
 *      |     success   |                              |
 *      +----------------------------------------------+
 *                        success
 */
enum lane_state {
    LANE_WELL,
    LANE_TROUBLED, /* one insert at a time, after a back-off */
    LANE_REFUSES,  /* the table takes no row: what it has refused stays, new rows are tried */
};

/* Who has raised the health condition of a lane: only the same may clear it. */
enum lane_fault { LANE_FAULT_NONE, LANE_FAULT_PROBE, LANE_FAULT_INSERT };

/* Inserts that were acknowledged while in doubt: see flusher_verify.c. */
struct lane_verify {
    struct insert_list waiting; /* UNVERIFIED */
    bool asking;
    /* of the first of them */
    bool traced; /* trace holds an answer, and the rows are to be asked for */
    struct verify_trace trace;
    uint64_t missed_ns; /* when rows of it were first found missing; 0: they were not */
    uint32_t tries;     /* in vain, though there was an answer */
    /* of all */
    struct backoff backoff;
    uint64_t due_ms;
    struct log_limit lost_limit;
    struct log_limit untold_limit;
};

struct lane {
    uint16_t stream;
    enum lane_state state;
    struct batch *batches; /* gathering, oldest first */
    struct batch **batches_end;
    uint32_t head_taken;        /* records of the first batch that are in inserts already */
    struct insert_list waiting; /* to be sent, or sent again */
    struct apart apart;
    struct lane_verify verify;
    size_t out;      /* sent and not yet answered, those of apart not counted */
    bool aside_turn; /* the last one that was begun was the lane's own */
    /* when the next one goes */
    struct backoff backoff;
    uint64_t retry_at_ms;
    uint64_t pace_ms;      /* between an insert that succeeds and the next; 0: none */
    uint64_t canary_at_ms; /* the next try of what was refused alone */
    uint64_t failed_id;    /* of the last insert that only a human could help; 0: none since */
    bool answers;          /* the last failure was ClickHouse's own word */
    bool fresh_turn;       /* the next try of a lane in trouble is a new insert */
    uint64_t success_ns;
    uint64_t taken_ns; /* when the latest of those that went in was sent */
    size_t slow_count; /* inserts that time ran out for, and that are not settled */
    uint64_t slow_ns;  /* when it last did */
    /* how large an insert may be */
    size_t rows_max;
    uint64_t bytes_max;
    /* what is known of the table */
    struct table_facts facts;
    bool facts_known;         /* of the server that answers now, or that it does not tell */
    bool facts_read;          /* facts holds an answer */
    uint64_t facts_ns;        /* when that was asked for */
    uint64_t lost_ns;         /* since when they are not known */
    uint64_t asked_ns;        /* when the last question went */
    uint32_t version;         /* changes with the table */
    uint32_t success_version; /* at success_ns */
    struct backoff probe_backoff;
    uint64_t probe_at_ms;
    uint64_t fresh_from_ms; /* new inserts wait so long for the facts */
    bool probing;
    bool async; /* of inserts that are built now */
    /* an event beside the table's columns */
    uint32_t columns_version; /* of the table that was compared last; 0: none yet */
    bool columns_due;         /* they are to be asked for, once there is a sample */
    bool columns_told;        /* the comparison found something */
    bool sample_new;          /* not compared yet */
    char *sample;             /* bytes of an event; NULL: none is needed, or none has come */
    size_t sample_len;
    /* what is told */
    enum lane_fault fault;
    char fault_text[LANE_MESSAGE_MAX];
    char refusal[LANE_MESSAGE_MAX]; /* ClickHouse's last words to a row that was refused alone */
    int refusal_code;
    long refusal_status; /* of HTTP, with it */
    char findings[256];  /* of the last probe, as logged; "": none yet */
    uint32_t retries;    /* put off in a row */
    bool retries_told;
    bool refuses_told;
    bool kept_told;
    bool slow_told;
    struct log_limit misconfigured_limit;
    struct log_limit unknown_limit;
    struct log_limit refused_limit;
    struct log_limit view_limit;
    struct log_limit retry_limit;
};

void lane_init(struct lane *lane, uint16_t stream);
void lane_clear(struct lane *lane); /* what it holds stays LIVE */
void lane_move(struct lane *lane, enum lane_state to);

void lane_add_batch(struct lane *lane, struct batch *batch); /* takes it */
/* Takes out what is to be sent next, or builds it; NULL: out of memory. Call lane_due() first.
 * canary_ms: until the next try of what the table has refused. */
struct insert *lane_next(struct lane *lane, uint64_t now_ms, uint64_t canary_ms);
/* Whether the lane has something to send, and may. */
bool lane_due(const struct lane *lane, uint64_t now_ms);
/* When something of it is due; UINT64_MAX: nothing is, before something happens. */
uint64_t lane_next_due(const struct lane *lane, uint64_t now_ms);

/* Answers. An insert of this size did not go in for its size, or not in time: the next ones are
 * smaller. */
void lane_shrink(struct lane *lane, const struct insert *insert, size_t divisor);
/* One has gone in, in so long of the time that it may take. */
void lane_grow(struct lane *lane, const struct insert *insert, uint64_t took_ms,
               uint64_t timeout_ms);

struct lane_wait {
    uint64_t min_ms;
    uint64_t max_ms;
    uint64_t random;
};
/* Lets the lane wait after a failure; longest: without regard to how often it has failed. */
void lane_back_off(struct lane *lane, const struct lane_wait *wait, bool longest);
/* Merges do not keep up: fewer and larger inserts from now on. */
void lane_slow_down(struct lane *lane, const struct lane_wait *wait);
/* ClickHouse works: it has judged rows. */
void lane_judged(struct lane *lane);
/* The table, unchanged since, has taken rows of the stream in this life. */
bool lane_takes_rows(const struct lane *lane);
/* Rows of the stream went in. */
void lane_succeed(struct lane *lane, const struct insert *insert, uint64_t sent_ns);

/* An event has been compared with the columns of this version of the table, and something is to be
 * told of it, or not: then it is let go. */
void lane_compared(struct lane *lane, bool told);

/* Calls visit for each insert that is not out. */
void lane_visit(struct lane *lane, apart_visit_fn visit, void *arg);

#endif
