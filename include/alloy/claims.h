/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims.h - who owns an id, among all alloyd that share one Redis (L2).
 *
 * A claim is the key <key_prefix><stream>:<canonical id>, in a cluster with a tag for the id's
 * bucket before the id. Its value names the record that owns the id: instance id and LSN, 16 bytes
 * together, each little-endian. See docs/ARCHITECTURE.md, "Claims".
 *
 * One struct claims, with its own connections (redis_nodes.h), for each thread that needs one.
 */
#ifndef ALLOY_CLAIMS_H
#define ALLOY_CLAIMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/batch.h"
#include "alloy/config.h"
#include "alloy/distrust.h"
#include "alloy/health.h"
#include "alloy/metrics.h"

struct claims;

struct claims_parts {
    const struct config_ref *config;
    struct health *health;
    struct metrics *metrics;
    struct metrics_thread *thread_metrics;
    uint64_t instance_id;
    bool watch_layout; /* with redis.layout = keys: looks whether others have packed claims */
    struct distrust *distrust; /* NULL: Redis is believed */
};

enum claims_verdict {
    CLAIM_OWNED,     /* this record owns its id */
    CLAIM_DUPLICATE, /* another record does */
    CLAIM_STRANGE,   /* the key holds a value that no alloyd has written: the owner is unknown */
    CLAIM_UNKNOWN,   /* Redis did not answer */
    CLAIM_DOUBTED,   /* it does not know the id, and may have forgotten it: look for it elsewhere */
    CLAIM_HELD,      /* the same, but not yet */
};

/* Returns owned (claims_destroy()); NULL: out of memory, or redis.url is bad (logged). Does not
 * connect yet. */
struct claims *claims_create(const struct claims_parts *parts);
void claims_destroy(struct claims *claims); /* NULL is fine */

/* As claims_take(), for records that were CLAIM_DOUBTED, and that nothing was found of elsewhere,
 * in a look that began at checked_ms: claims them, except where a server is distrusted since. */
#define CLAIMS_BELIEVE UINT64_MAX /* for checked_ms: whatever is distrusted */
MUST_CHECK int claims_take_checked(struct claims *claims, const struct batch *batch,
                                   enum claims_verdict *verdicts, uint64_t now_ms,
                                   uint64_t checked_ms);
/*
 * Claims the ids of all records of the batch: verdicts[i] for batch->records[i]. Returns 0 when
 * Redis answered for all of them; -EAGAIN when it did not (it is away, refuses, or the breaker is
 * open), and then what it did not answer is CLAIM_UNKNOWN. The same batch can always be claimed
 * again: a claim that was set although its answer got lost is found to be the record's own. With
 * redis.url empty every verdict is CLAIM_OWNED and the result is 0. Connecting, and each window of
 * about 256 KiB of commands, block for at most redis.timeout (name resolution excepted), and the
 * last SETs of each node for redis.wait_timeout besides, if replicas are waited for. Never
 * sleeps while the breaker is open. Owner thread.
 */
MUST_CHECK static inline int claims_take(struct claims *of, const struct batch *batch,
                                         enum claims_verdict *verdicts, uint64_t now_ms)
{
    return claims_take_checked(of, batch, verdicts, now_ms, 0);
}
/* The ids of n records of one stream were found elsewhere: lets Redis know them again, as those of
 * no record. Owner thread. */
void claims_found(struct claims *claims, struct record *const *records, size_t n, uint64_t now_ms);
/* Claims that were set since may be lost, where a server is distrusted; real time, ms; 0: all.
 * Owner thread. */
uint64_t claims_doubted_from_ms(const struct claims *claims);
/* Looks at each server, for want of a batch that would. Owner thread. */
void claims_look(struct claims *claims, uint64_t now_ms);

/*
 * Deletes the claims of n records of one stream, so that their ids are new again; claims of other
 * records stay. Returns 0 when Redis answered for all: released[i] is false where it refused.
 * Returns -EAGAIN as claims_take() does: some may not be released, so try again. Owner thread.
 */
MUST_CHECK int claims_release(struct claims *claims, struct record *const *records, size_t n,
                              bool *released, uint64_t now_ms);
/* Connects if necessary and runs the commands of a claim (MGET, SET EX NX) on keys of its own, so
 * that alloy_redis_up and the condition "redis" are right without traffic too. Returns 0, or
 * -EAGAIN as claims_take() does. Owner thread. */
MUST_CHECK int claims_probe(struct claims *claims, uint64_t now_ms);

/* While too few replicas have the last claims (redis.wait_replicas): how long until
 * claims_ask_replicas() should be called, for want of a batch that would ask; 0: now; UINT64_MAX:
 * never. Owner thread. */
uint64_t claims_replicas_due_in_ms(const struct claims *claims, uint64_t now_ms);
void claims_ask_replicas(struct claims *claims, uint64_t now_ms);

/* How long until claims_ping() should be called, for want of batches, so that a server which dies
 * meanwhile is noticed; 0: now; UINT64_MAX: never. Owner thread. */
uint64_t claims_idle_in_ms(const struct claims *claims, uint64_t now_ms);
void claims_ping(struct claims *claims, uint64_t now_ms);

/* True from a failed exchange until a probe or a claim has shown that claims work again. Owner
 * thread. */
bool claims_down(const struct claims *claims);
/* True while some nodes of a cluster do not work and others do, so that a batch without an answer
 * for all of its records may have one for most. Owner thread. */
bool claims_partly_down(const struct claims *claims);
/* Milliseconds until a breaker lets the next try through; 0: now. Owner thread. */
uint64_t claims_retry_in_ms(const struct claims *claims, uint64_t now_ms);

/* From now on every call returns -EAGAIN at once; a call that is under way returns within
 * redis.timeout, and redis.wait_timeout if it waits for replicas. Any thread. */
void claims_cancel(struct claims *claims);

#endif
