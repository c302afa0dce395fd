/* SPDX-License-Identifier: Apache-2.0 */
/*
 * endpoints.h - which of a shard's endpoints the next insert goes to, and which are left out. Pure:
 * an endpoint is a number, and the time is a parameter.
 *
 * Runs on: flusher thread.
 */
#ifndef ALLOY_ENDPOINTS_H
#define ALLOY_ENDPOINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/backoff.h"
#include "alloy/clickhouse_url.h"
#include "insert_answer.h"

#define ENDPOINTS_ALL UINT64_MAX /* a set of endpoints, a bit for each */
#define ENDPOINTS_NONE SIZE_MAX

/*
 *         failure            answer              10 s
 *    WELL -------> AWAY ---------------> WARMING ----> WELL
 *                   ^ ^  (alone: WELL)      |
 *                   +-+---------------------+
 *                         failure
 */
enum endpoint_state {
    ENDPOINT_WELL,
    ENDPOINT_AWAY,    /* left out until it answers, unless it is alone */
    ENDPOINT_WARMING, /* it is back, and gets more from second to second */
};

/* What an exchange has told about an endpoint. */
enum endpoint_news {
    ENDPOINT_ANSWERED,
    ENDPOINT_REFUSED,     /* there was no connection */
    ENDPOINT_LOST,        /* the connection broke */
    ENDPOINT_SILENT,      /* there was no answer in time */
    ENDPOINT_UNAVAILABLE, /* it says that it cannot, and another may */
};

struct endpoint {
    size_t shard;
    enum endpoint_state state;
    uint64_t since_ms;      /* of the state */
    enum endpoint_news why; /* AWAY: the last failure */
    size_t out;             /* inserts */
    uint64_t answered_ns;   /* when it last answered anything; kept by the caller */
    uint64_t quiet_ms;      /* while inserts are out: since when it has said nothing */
    bool asking;            /* it is being asked whether it is there */
    uint64_t ask_ms;        /* AWAY: when to ask next */
    struct backoff backoff;
    int64_t turn;    /* of the weighted round robin */
    uint64_t chosen; /* the last choice that was this one, counted */
};

struct endpoints {
    size_t count;
    uint64_t choices;
    struct endpoint at[CLICKHOUSE_ENDPOINTS_MAX];
};

/* From a list that is valid. */
void endpoints_init(struct endpoints *endpoints, const char *list, uint64_t now_ms);
/* Whether the endpoint is the only one of its shard. */
bool endpoints_alone(const struct endpoints *endpoints, size_t number);
/* The endpoint of the shard, of those in set, to which the next exchange goes. Where all are away
 * it takes them in turn. ENDPOINTS_NONE: none of the set is of this shard. */
size_t endpoints_choose(struct endpoints *endpoints, size_t shard, uint64_t set, uint64_t now_ms);
/* Those of set that are of the shard. */
uint64_t endpoints_of(const struct endpoints *endpoints, size_t shard, uint64_t set);
/* Whether some endpoint of the shard, of those in set, is not left out. */
bool endpoints_has(const struct endpoints *endpoints, size_t shard, uint64_t set);

/* An insert was sent there, or has ended. */
void endpoints_sent(struct endpoints *endpoints, size_t number, uint64_t now_ms);
void endpoints_ended(struct endpoints *endpoints, size_t number);
/* An exchange with it has told something. True: it is left out from now on, or no longer. */
bool endpoints_note(struct endpoints *endpoints, size_t number, enum endpoint_news news,
                    uint64_t now_ms, uint64_t random);
/* What an answer tells about the endpoint. */
enum endpoint_news endpoints_judge(const struct insert_answer *answer);

/* When to ask it whether it is there: one that is away now and then, one that has said nothing for
 * a while though an insert is out. UINT64_MAX: not. The caller sets asking while it does. */
uint64_t endpoints_ask_due_ms(const struct endpoints *endpoints, size_t number);

/* "refuses connections", ... */
const char *endpoints_words(enum endpoint_news news);

#endif
