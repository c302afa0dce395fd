/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims.h - who owns an id, over all alloyd that share one Redis (L2).
 *
 * A claim is the key <key_prefix><stream>:<canonical id> with the value instance id and LSN of the
 * record that owns it (16 bytes, little-endian each). See docs/ARCHITECTURE.md, "Claims".
 *
 * One struct claims, with its own connection (redis_link.h), for each thread that needs one.
 */
#ifndef ALLOY_CLAIMS_H
#define ALLOY_CLAIMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/batch.h"
#include "alloy/config.h"
#include "alloy/health.h"
#include "alloy/metrics.h"

struct claims;

struct claims_parts {
    const struct config_ref *config;
    struct health *health;
    struct metrics *metrics;
    struct metrics_thread *thread_metrics;
    uint64_t instance_id;
};

enum claims_verdict {
    CLAIM_OWNED,     /* this record owns its id */
    CLAIM_DUPLICATE, /* another record does */
    CLAIM_STRANGE,   /* the key holds what no alloyd has written: nobody can tell */
    CLAIM_UNKNOWN,   /* Redis did not tell */
};

/* Returns owned (claims_destroy()); NULL: out of memory or a bad redis.url (logged). Does not
 * connect yet. */
struct claims *claims_create(const struct claims_parts *parts);
void claims_destroy(struct claims *claims); /* NULL is fine */

/*
 * Claims the ids of all records of the batch: verdicts[i] for batch->records[i]. Returns 0 when
 * Redis answered for all; -EAGAIN when it did not (verdicts of what was not answered are
 * CLAIM_UNKNOWN): it is away, refuses, or the breaker is open. Taking the same batch again is
 * always right: a claim that went through without its answer is found to be the record's own. With
 * redis.url empty every verdict is CLAIM_OWNED and the result 0. Connecting and each window of
 * about 256 KiB of commands block for at most redis.timeout (name resolution excepted); does not
 * sleep while the breaker is open. Owner thread.
 */
MUST_CHECK int claims_take(struct claims *claims, const struct batch *batch,
                           enum claims_verdict *verdicts, uint64_t now_ms);
/*
 * Gives up the claims of n records of one stream, so that their ids are new again; claims that
 * other records hold stay. 0 when Redis answered for all: released[i] is false where it refused;
 * -EAGAIN as claims_take(): some may not be released. Try again. Owner thread.
 */
MUST_CHECK int claims_release(struct claims *claims, struct record *const *records, size_t n,
                              bool *released, uint64_t now_ms);
/* Connects if need be and does what a claim needs (MGET, SET EX NX) on keys of no event, so that
 * alloy_redis_up and the condition "redis" are true without traffic. 0, or -EAGAIN as
 * claims_take(). Owner thread. */
MUST_CHECK int claims_probe(struct claims *claims, uint64_t now_ms);

/* True from a failed exchange until a claim has been proved to be possible. Owner thread. */
bool claims_down(const struct claims *claims);
/* Milliseconds until the breaker lets the next try through; 0: now. Owner thread. */
uint64_t claims_retry_in_ms(const struct claims *claims, uint64_t now_ms);

/* From now on every call returns -EAGAIN at once; one that is under way, within redis.timeout. Any
 * thread. */
void claims_cancel(struct claims *claims);

#endif
