/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_private.h - what the parts of the flusher share: flusher.c sends, flusher_verify.c looks
 * whether inserts in doubt are in the table, flusher_act.c acts on answers to inserts,
 * flusher_route.c chooses endpoints, flusher_ask.c acts on answers about tables, flusher_tell.c
 * tells health and log. Each uses only those
 * after it. Nobody else includes this.
 *
 * Runs on: flusher thread, except for the fields of struct flusher that say otherwise.
 */
#ifndef ALLOY_FLUSHER_PRIVATE_H
#define ALLOY_FLUSHER_PRIVATE_H

#include "alloy/flusher.h"
#include "alloy/vacate.h"

#include <pthread.h>
#include <stdatomic.h>

#include <curl/curl.h>

#include "burial.h"
#include "endpoints.h"
#include "lane.h"
#include "sites.h"
#include "transfer.h"

#define LOG_INTERVAL_MS 60000

/* What is to be posted. */
struct flusher_posting {
    enum transfer_kind kind;
    char *url;             /* owned; what follows an endpoint's base; NULL: out of memory */
    size_t endpoint;       /* ENDPOINTS_NONE: any that will do */
    uint64_t timeout_ms;   /* at most this; 0: as usual */
    unsigned doublings;    /* of clickhouse.timeout, where there is no insert that has its own */
    struct insert *insert; /* whose rows; NULL: none */
    size_t body_max;       /* bytes of the answer that are kept */
};

struct flusher_server {
    char *base; /* insert_request_base() */
    char name[CLICKHOUSE_NAME_MAX];
    bool cut;                     /* it hangs: the inserts that it holds are to go to others */
    char words[LANE_MESSAGE_MAX]; /* why it is left out */
};

/* Where exchanges go: see flusher_route.c. */
struct flusher_route {
    struct endpoints endpoints;
    struct flusher_server servers[CLICKHOUSE_ENDPOINTS_MAX];
    struct site *sites; /* for each stream one for each endpoint */
    size_t sites_asked; /* questions that are out */
};

struct flusher {
    struct flusher_parts parts; /* set before start, constant after */
    pthread_t thread;
    struct burial *burial; /* NULL: discard */
    /* any thread, lock-free */
    _Atomic(struct batch *) inbox CACHE_ALIGNED;      /* newest first */
    _Atomic uint64_t pending;                         /* events */
    _Atomic uint64_t bury_wanted;                     /* a bit for each stream */
    _Atomic uint64_t inserted_ms[CONFIG_STREAMS_MAX]; /* by an earlier life; 0: nothing known */
    _Atomic uint64_t kept[CONFIG_STREAMS_MAX];        /* refused events, as last told */
    uint64_t counts_at_ms;                            /* when they are told anew */
    _Atomic bool stop;
    _Atomic bool hurried; /* flusher_hurry() */
    /* flusher thread only */
    CURLM *multi CACHE_ALIGNED;
    const struct config *followed; /* whose server and tables are in use */
    struct curl_slist *retired;    /* headers of earlier ones, that a transfer may use yet */
    struct curl_slist *headers;
    struct curl_slist *form_headers; /* of a form with one file; what stands around that: */
    char form_type[96];
    char form_head[192];
    char form_tail[64];
    struct transfer *active; /* by ->next */
    struct flusher_route route;
    struct metrics_thread *counters;
    struct vacate vacate;
    size_t next_lane;
    uint64_t generation; /* of the claims of what gathers (reclaim.h) */
    uint64_t reclaimed;  /* ... and of all inserts */
    bool discard;
    int up;               /* -1: not known yet */
    uint64_t answered_ns; /* when ClickHouse last answered anything */
    uint64_t random;
    struct log_limit stamp_limit;
    struct batch *undealt; /* waits for memory; oldest first */
    struct batch **undealt_end;
    struct batch *strays; /* frozen for shards that clickhouse.url does not have */
    uint64_t stray_count; /* events in them */
    size_t shards;        /* as long as the process lives */
    size_t lane_count;    /* shards for each stream */
    struct lane *lanes;   /* by stream, then by shard */
};

static inline struct lane *flusher_lane(const struct flusher *flusher, size_t stream, size_t shard)
{
    return &flusher->lanes[stream * flusher->shards + shard];
}

static inline struct lane *flusher_lane_of(const struct flusher *flusher,
                                           const struct transfer *transfer)
{
    return flusher_lane(flusher, transfer->stream, transfer->shard);
}

static inline const struct config *flusher_config(const struct flusher *flusher)
{
    return config_current(flusher->parts.config);
}

static inline const struct config_stream *flusher_stream(const struct flusher *flusher,
                                                         const struct lane *lane)
{
    return &flusher_config(flusher)->streams[lane->stream];
}

/* xorshift64: good enough for jitter. */
static inline uint64_t flusher_random(struct flusher *flusher)
{
    flusher->random ^= flusher->random << 13;
    flusher->random ^= flusher->random >> 7;
    flusher->random ^= flusher->random << 17;
    return flusher->random;
}

static inline struct lane_wait flusher_wait(struct flusher *flusher)
{
    const struct config *config = flusher_config(flusher);

    return (struct lane_wait){config->clickhouse_retry_min_ms, config->clickhouse_retry_max_ms,
                              flusher_random(flusher)};
}

#endif
