/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doubted.h - decides about records whose ids a distrusted Redis does not know.
 *
 * Runs on: the worker that owns it.
 */
#ifndef ALLOY_DOUBTED_H
#define ALLOY_DOUBTED_H

#include "alloy/base.h"
#include "alloy/batch.h"
#include "alloy/claims.h"
#include "alloy/reclaim.h"

struct doubted;

struct doubted_parts {
    const struct config_ref *config;
    struct claims *claims;
    struct distrust *distrust; /* NULL is fine */
    struct metrics_thread *metrics;
};

/* Returns owned (doubted_destroy()); NULL: out of memory. */
struct doubted *doubted_create(const struct doubted_parts *parts);
void doubted_destroy(struct doubted *doubted); /* NULL is fine */

/* Looks for the CLAIM_DOUBTED of a batch in ClickHouse: what is there is a duplicate, and what is
 * not is claimed. What cannot be decided now is CLAIM_HELD. Blocks for some questions to each.
 * Returns how many are CLAIM_HELD. */
size_t doubted_decide(struct doubted *doubted, const struct batch *batch,
                      enum claims_verdict *verdicts);
/* Claims some of what the flusher has in inserts again. True: that was the last of it, or it should
 * look whether there is some. */
bool doubted_reclaim(struct doubted *doubted, struct reclaim *reclaim);
/* Counts and reports n keys that no alloyd has written. Their events are inserted. */
void doubted_tell_strange(struct doubted *doubted, uint16_t stream, uint64_t n);
/* How long until it is worth while to claim them again; 0: now. */
uint64_t doubted_wait_ms(const struct doubted *doubted, uint64_t now_ms);

#endif
