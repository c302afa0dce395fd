/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims_private.h - what claims.c (the decision) and claims_put.c (the commands) share.
 */
#ifndef ALLOY_CLAIMS_PRIVATE_H
#define ALLOY_CLAIMS_PRIVATE_H

#include "alloy/claims.h"

#include <stdatomic.h>

#include "alloy/backoff.h"
#include "redis_link.h"

#define VALUE_LEN 16
/* We send a window once it is at least this long; one MGET is at most this and one key long. */
#define WINDOW_BYTES (256u * 1024)
#define COMMAND_SLACK 1024 /* most bytes of a command without its keys */

#define LITERAL(text) (text), (sizeof(text) - 1)

enum round {
    ROUND_LOOKUP,
    ROUND_SET,
    ROUND_VERIFY,
    ROUND_RELEASE,
    ROUND_PROBE,
    ROUND_ASK,
};

/* How the server of this connection deletes a key by its value. */
enum release_way {
    RELEASE_UNKNOWN,
    RELEASE_DELEX,   /* Redis 8.4 */
    RELEASE_DELIFEQ, /* Valkey 9.0 */
    RELEASE_EVAL,    /* all older servers */
};

enum job_kind { JOB_TAKE, JOB_RELEASE, JOB_PROBE };

struct job {
    enum job_kind kind;
    struct record *const *records;
    size_t n;
    enum claims_verdict *verdicts; /* JOB_TAKE */
    bool *released;                /* JOB_RELEASE */
};

struct claims {
    /* set before the first use, constant after */
    struct claims_parts parts;
    struct redis_link *link; /* NULL: no Redis. Of redis.url as it was when it was made: */
    const char *url;
    size_t slice_max;
    size_t prefix_len;

    /* any thread */
    atomic_bool cancelled;

    /* owner thread only */
    bool down;
    struct backoff backoff;
    uint64_t retry_at_ms; /* by the caller's clock */
    uint64_t random;
    enum release_way release_way; /* for this connection */
    size_t asked_ways;            /* answers to that question so far */

    /* the present call */
    uint64_t timeout_ns;
    size_t chunk;
    char ttl_s[24];
    char *key_head; /* prefix, stream, ':' */
    size_t key_head_len;
    struct record *const *records; /* at most slice_max of the batch's */
    enum claims_verdict *verdicts;
    bool *released;
    uint32_t *todo; /* indexes of the round's records */

    /* the present round */
    enum round round;
    size_t reply_from;  /* index in todo of the reply's first key */
    size_t reply_count; /* how many keys the reply answers */
    size_t kept;        /* how many of todo, at its front, are left for the next round */
};

/* The value of a record's claim. */
void claims_put_value(const struct claims *claims, const struct record *record,
                      char value[VALUE_LEN]);
/* Which way to delete by value the server has, and whether it takes claims: two commands each. */
void claims_put_question(struct claims *claims);
void claims_put_probe(struct claims *claims);
/* How many keys the command at `from` of this round has; the command itself. */
size_t claims_put_span(const struct claims *claims, size_t from, size_t n);
void claims_put_command(struct claims *claims, size_t from, size_t count);

#endif
