/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_private.h - what flusher.c (what is sent, and when) and flusher_answer.c (what an answer
 * leads to) share. Nobody else includes it.
 *
 * Runs on: flusher thread, but for the fields of struct flusher that say otherwise.
 */
#ifndef ALLOY_FLUSHER_PRIVATE_H
#define ALLOY_FLUSHER_PRIVATE_H

#include "alloy/flusher.h"

#include <pthread.h>
#include <stdatomic.h>

#include <curl/curl.h>

#include "alloy/backoff.h"
#include "alloy/dead_letter.h"
#include "insert.h"
#include "alloy/log.h"
#include "transfer.h"
#include "vacate.h"

#define FLUSHER_FINDINGS_MAX 256
#define HEALTH_MESSAGE_MAX 300

/* Who has raised the health condition of a lane: only the same may clear it. */
enum lane_fault { LANE_FAULT_NONE, LANE_FAULT_PROBE, LANE_FAULT_INSERT };

struct insert_list {
    struct insert *first;
    struct insert **end; /* where the next one is linked */
};

struct lane {
    struct batch *batches; /* gathering, oldest first */
    struct batch **batches_end;
    uint32_t head_taken;        /* records of the first batch that are in inserts already */
    struct insert_list waiting; /* frozen; to be sent, or sent again */
    size_t inflight_count;
    size_t part_count; /* inserts that are parts of others, waiting or in flight */
    struct backoff backoff;
    uint64_t retry_at_ms;
    uint64_t pace_ms; /* between an insert that succeeds and the next; 0: none */
    /* probe */
    struct backoff probe_backoff;
    uint64_t probe_at_ms;
    bool probing;
    bool probed;                         /* async is decided for the server that answers now */
    bool async;                          /* of inserts that are built now */
    bool views;                          /* materialized views may read the table */
    bool counted;                        /* the answer to an async insert tells the rows written */
    char findings[FLUSHER_FINDINGS_MAX]; /* of the last probe, as logged; "": none yet */
    enum lane_fault fault;
    char fault_text[HEALTH_MESSAGE_MAX];
    bool retries_told;
    struct log_limit misconfigured_limit;
    struct log_limit unknown_limit;
    struct log_limit refused_limit;
    struct log_limit view_limit;
    struct log_limit retry_limit;
};

struct flusher {
    struct flusher_parts parts; /* set before start, constant after */
    pthread_t thread;
    /* any thread, lock-free */
    _Atomic(struct batch *) inbox CACHE_ALIGNED; /* newest first */
    _Atomic uint64_t pending;                    /* events */
    _Atomic bool stop;
    /* flusher thread only */
    CURLM *multi CACHE_ALIGNED;
    struct curl_slist *headers;
    struct transfer *idle;   /* by ->next */
    struct transfer *active; /* by ->next */
    struct metrics_thread *counters;
    struct dead_letter *dead_letter;
    struct vacate vacate;
    struct insert_list parked;
    size_t parked_count;
    uint64_t parked_at_ms;
    int parked_err;        /* why rows were parked the last time; 0: never */
    size_t inflight_count; /* inserts, not probes */
    size_t next_lane;
    bool discard;
    int up; /* -1: not known yet */
    uint64_t random;
    struct log_limit dead_letter_limit;
    struct log_limit stamp_limit;
    size_t lane_count;
    struct lane lanes[CONFIG_STREAMS_MAX];
};

static inline const struct config *flusher_config(const struct flusher *flusher)
{
    return config_current(flusher->parts.config);
}

static inline const struct config_stream *flusher_stream(const struct flusher *flusher,
                                                         size_t stream)
{
    return &flusher_config(flusher)->streams[stream];
}

/* xorshift64: jitter needs no better. */
static inline uint64_t flusher_random(struct flusher *flusher)
{
    flusher->random ^= flusher->random << 13;
    flusher->random ^= flusher->random >> 7;
    flusher->random ^= flusher->random << 17;
    return flusher->random;
}

static inline void insert_list_init(struct insert_list *list)
{
    list->first = NULL;
    list->end = &list->first;
}

static inline void insert_list_push_back(struct insert_list *list, struct insert *insert)
{
    insert->next = NULL;
    *list->end = insert;
    list->end = &insert->next;
}

static inline void insert_list_push_front(struct insert_list *list, struct insert *insert)
{
    if (list->first == NULL)
        list->end = &insert->next;
    insert->next = list->first;
    list->first = insert;
}

static inline struct insert *insert_list_pop(struct insert_list *list)
{
    struct insert *insert = list->first;

    list->first = insert->next;
    if (list->first == NULL)
        list->end = &list->first;
    insert->next = NULL;
    return insert;
}

/* Ends the stay of records in Alloy. */
void flusher_finish_records(struct flusher *flusher, struct record *const *records, size_t n,
                            enum record_state state);
/* Counts one acknowledged insert. */
void flusher_count_insert(struct flusher *flusher, size_t stream, uint64_t rows);
/* Lets a lane wait after a failure; longest: without regard to how often it has failed. */
void flusher_back_off(struct flusher *flusher, struct lane *lane, bool longest);
/* Takes an insert that was not acknowledged, for later. */
void flusher_keep(struct flusher *flusher, struct insert *insert, bool longest);
/* Cuts insert in two, which wait before all others. Takes it on 0; -ENOMEM. */
MUST_CHECK int flusher_cut(struct flusher *flusher, struct insert *insert, bool bad_row,
                           int64_t row);
/* Offers parked rows to the dead-letter folder again, when that is due. */
void flusher_retry_parked(struct flusher *flusher, uint64_t now);
/* Deals with a transfer that has ended and is off the multi handle; takes its insert. */
void flusher_answer(struct flusher *flusher, struct transfer *transfer);

#endif
