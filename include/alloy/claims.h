/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims.h - who owns an id, over all alloyd that share one Redis (L2).
 *
 * A claim is the key <key_prefix><stream>:<canonical id> with the value instance id and LSN of the
 * record that owns it (16 bytes, little-endian each). See docs/ARCHITECTURE.md, "Claims".
 *
 * One struct claims, with its own connection, for each worker. The one home of hiredis.
 */
#ifndef ALLOY_CLAIMS_H
#define ALLOY_CLAIMS_H

#include <stdbool.h>
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
    CLAIM_UNKNOWN,   /* Redis did not tell */
};

/* Returns owned (claims_destroy()); NULL: out of memory or a bad redis.url (logged). Does not
 * connect yet. */
struct claims *claims_create(const struct claims_parts *parts);
void claims_destroy(struct claims *claims);

/*
 * Claims the ids of all records of the batch: verdicts[i] for batch->records[i]. Returns 0 when
 * Redis answered for all; -EAGAIN when it did not (verdicts of what was not answered are
 * CLAIM_UNKNOWN): it is away, refuses, or the breaker is open. With redis.url empty every verdict
 * is CLAIM_OWNED and the result 0. Blocks for at most about 2 x redis.timeout a chunk round trip;
 * does not sleep while the breaker is open. Owner thread.
 */
MUST_CHECK int claims_take(struct claims *claims, const struct batch *batch,
                           enum claims_verdict *verdicts, uint64_t now_ms);
/* Milliseconds until the breaker lets the next try through; 0: now. Owner thread. */
uint64_t claims_retry_in_ms(const struct claims *claims, uint64_t now_ms);

#endif
