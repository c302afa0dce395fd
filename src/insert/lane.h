/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lane.h - a stream's place in the flusher: the batches that gather, the inserts that wait, how
 * large the next insert may be, and when it may go.
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

#define LANE_MESSAGE_MAX 300       /* bytes of ClickHouse's message, for people */
#define LANE_ROWS_MAX 100000       /* unless lane_limit() says otherwise */
#define LANE_BYTES_MAX (32u << 20) /* of an insert, unless its one row is longer */
#define LANE_SAMPLE_MAX 65536
#define LANE_WAITING_MAX 3 /* inserts that may wait for a retry while new ones begin */

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
    LANE_REFUSES,  /* the table takes no row: keep what it has refused, try new rows */
};

/* What has raised the lane's health condition: only the same may clear it. */
enum lane_fault { LANE_FAULT_NONE, LANE_FAULT_PROBE, LANE_FAULT_INSERT };

/* Inserts that were acknowledged while in doubt: see flusher_verify.c. */
struct lane_verify {
    struct insert_list waiting; /* UNVERIFIED */
    bool asking;
    /* of the first of them */
    bool traced;    /* trace holds an answer, and the rows are to be asked for */
    bool counted;   /* the ids of its rows are to be asked for */
    bool tokenless; /* ... among all rows, since none has its token */
    struct verify_trace trace;
    size_t endpoint;    /* that was asked how the table stands */
    uint64_t missed_ns; /* when rows of it were first found missing; 0: they were not */
    uint32_t tries;     /* in vain, though there was an answer */
    uint32_t silences;  /* of questions that ran out of time, of any of them */
    /* of all */
    struct backoff backoff;
    uint64_t due_ms;
    struct log_limit lost_limit;
    struct log_limit untold_limit;
};

struct lane {
    uint16_t stream;
    uint16_t shard;
    enum lane_state state;
    struct batch *batches; /* gathering, oldest first */
    struct batch **batches_end;
    uint32_t head_taken;    /* records of the first batch that are already in inserts */
    uint64_t gathered_rows; /* in batches, without those */
    uint64_t gathered_bytes;
    size_t pressing;            /* how many of the batches are frozen or urgent */
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
    uint64_t
        failed_id;   /* id of the last insert that only a human can help; 0: none since a success */
    bool answers;    /* the last failure was an answer of ClickHouse itself */
    bool fresh_turn; /* in trouble, the next try is a new insert */
    uint64_t success_ns;
    uint64_t taken_ns; /* when the latest insert that went in was sent */
    size_t slow_count; /* inserts that ran out of time and are not settled */
    uint64_t slow_ns;  /* when the last one did */
    /* how large an insert may be */
    size_t rows_max;
    uint64_t bytes_max;
    size_t rows_top;    /* rows_max never exceeds it */
    uint64_t linger_ms; /* how long batches wait for more */
    /* what is known of the table */
    struct table_facts facts;
    bool facts_known;    /* facts are of the present server, or we know that it does not tell */
    bool facts_read;     /* facts holds an answer */
    uint64_t facts_ns;   /* when we asked for it */
    uint64_t lost_ns;    /* since when the facts are unknown */
    uint64_t asked_ns;   /* when we last asked */
    uint64_t renewed_ns; /* since when this server and table are the lane's: older answers tell of
                          * others */
    uint32_t version;    /* changes with the table */
    uint32_t success_version; /* version at success_ns */
    uint64_t doubted_ns;      /* when this version was learnt, or refused first, or refused all:
                               * what was sent before says nothing of the table as it is */
    bool refused;             /* since then, without a success that says something */
    uint64_t takes_since_ns;  /* when the table, in this version, has taken rows first, or again
                               * after  it had refused all; 0: it has not */
    struct backoff probe_backoff;
    uint64_t probe_at_ms;
    uint64_t fresh_from_ms; /* until then new inserts wait for the facts */
    bool probing;
    bool async; /* how new inserts are sent */
    bool proof; /* rows of new inserts bear their token in the column stream.proof */
    /* comparing an event with the table's columns */
    uint32_t columns_version; /* version of the table when last compared; 0: never */
    bool columns_due;         /* compare once there is a sample */
    bool schema_due;          /* ask for the columns */
    uint64_t awaited_ms;      /* until then readiness waits for the columns; 0: it does not */
    bool undecided;           /* facts are new, and what they decide waits for the columns */
    bool columns_asked;       /* the columns have been asked for, and the answer is there */
    uint64_t schema_hash;     /* of the answer that the schema was made of; 0: there is none */
    char *insert_columns;     /* what inserts have to name: insert_request_columns() */
    uint64_t doubted_ms;      /* when an event in doubt made us look at the table last */
    bool columns_told;        /* the comparison found something */
    bool sample_new;          /* not compared yet */
    char *sample;             /* an event's bytes; NULL: none is needed, or none has come */
    size_t sample_len;
    /* what we have reported */
    uint64_t rows_told;              /* kept, as told */
    bool held;                       /* no endpoint is one to which its inserts may go */
    char replicas[LANE_MESSAGE_MAX]; /* what keeps inserts from endpoints; "": nothing */
    enum lane_fault fault;
    char fault_text[LANE_MESSAGE_MAX];
    char refusal[LANE_MESSAGE_MAX]; /* ClickHouse's last message about a row refused alone */
    int refusal_code;
    long refusal_status;  /* of HTTP, with it */
    char proof_told[448]; /* what is wrong with stream.proof; "": nothing */
    char findings[256];   /* of the last probe, as logged; "": none yet */
    uint32_t retries;     /* put off in a row */
    bool retries_told;
    bool refuses_told;
    bool kept_told;
    bool slow_told;
    uint64_t hangs_since_ns; /* since when inserts have no answer, as we report it; 0: we do not */
    bool hangs_logged;
    int fault_code; /* as logged; 0: none */
    struct log_limit refused_limit;
    struct log_limit view_limit;
    struct log_limit found_limit;
    struct log_limit retry_limit;
};

void lane_init(struct lane *lane, uint16_t stream);
void lane_clear(struct lane *lane); /* what it holds stays LIVE */
void lane_move(struct lane *lane, enum lane_state to);

void lane_add_batch(struct lane *lane, struct batch *batch); /* takes it */
/* What has gathered must not wait for more. */
void lane_press(struct lane *lane);
/* How many rows an insert may have at most, and how long batches wait for more; may change at any
 * time. */
void lane_limit(struct lane *lane, size_t rows_top, uint64_t linger_ms);
/* Takes out or builds the next insert to send; NULL: out of memory. Call lane_due() first.
 * canary_ms: how long until the next try of refused rows. */
struct insert *lane_next(struct lane *lane, uint64_t now_ms, uint64_t canary_ms);
/* Whether the lane has something to send, and may. */
bool lane_due(const struct lane *lane, uint64_t now_ms);
/* When something of it will be due; UINT64_MAX: nothing, until something happens. */
uint64_t lane_next_due(const struct lane *lane, uint64_t now_ms);

/* The following are about answers. An insert was too large or too slow: makes the next ones
 * smaller. */
void lane_shrink(struct lane *lane, const struct insert *insert, size_t divisor);
/* An insert has gone in, after took_ms of at most timeout_ms. */
void lane_grow(struct lane *lane, const struct insert *insert, uint64_t took_ms,
               uint64_t timeout_ms);

struct lane_wait {
    uint64_t min_ms;
    uint64_t max_ms;
    uint64_t random;
};
/* Makes the lane wait after a failure; longest: for the longest time, however often it has
 * failed. */
void lane_back_off(struct lane *lane, const struct lane_wait *wait, bool longest);
/* Merges do not keep up: makes fewer and larger inserts from now on. */
void lane_slow_down(struct lane *lane, const struct lane_wait *wait);
/* ClickHouse works: it has judged rows, whether or not it took them. */
void lane_judged(struct lane *lane);
/* True when the table has taken rows of the stream in this life and has not changed since. */
bool lane_takes_rows(const struct lane *lane);
/* The table has changed, or refuses all: that it took rows before says nothing more. */
void lane_doubt(struct lane *lane);
/* An insert was refused for what may be its rows or the table. */
void lane_refused(struct lane *lane);
/* Rows of the stream went in. What was on its way when the table broke, or changed, says nothing of
 * the table as it is now. */
void lane_succeed(struct lane *lane, const struct insert *insert, uint64_t sent_ns);

/* An event has been compared with the columns of this version of the table. told: we report a
 * difference; else the sample is freed. */
void lane_compared(struct lane *lane, bool told);

/* Calls visit for each insert here that is not out. */
void lane_visit(struct lane *lane, apart_visit_fn visit, void *arg);

#endif
