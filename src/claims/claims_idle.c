/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims_idle.c - notices that a server has died while there is nothing to claim.
 *
 * A node that was not asked anything for IDLE_MS is sent a PING, over the link that claims use. No
 * answer is a failure like a batch's. An answer shows nothing but that: what is down is up again
 * only by what claims do (claims_probe()); and who refuses even a PING has to prove that it takes
 * claims.
 *
 * Runs on: the one thread that owns the struct claims. Owns: nothing.
 */
#include "claims_private.h"

#define IDLE_MS 1000

/* Once more in this job, too: over a fresh connection. */
static bool claims_idle_is_due(const struct claims *claims, size_t node)
{
    const struct claims_lane *lane = &claims->lanes[node];

    return redis_nodes_link(claims->nodes, node) != NULL && !lane->breaker.down &&
           (lane->job == claims->job || claims->now_ms >= lane->spoke_ms + IDLE_MS);
}

static int claims_idle_ping(struct claims *claims, size_t node)
{
    int err;

    if (!claims_lane_open(claims, node))
        return claims->lanes[node].err;
    claims_lane_enter(claims, node);
    redis_link_clear(claims->link);
    redis_link_put(claims->link, LITERAL("*1\r\n$4\r\nPING\r\n"));
    err = claims_lane_converse(claims, ROUND_PROBE, 1);
    if (err == 0 && redis_link_refused(claims->link))
        err = claims_lane_prove(claims, node);
    return err;
}

void claims_idle_perform(struct claims *claims)
{
    for (size_t i = 0; i < redis_nodes_count(claims->nodes); i++) {
        int err;

        if (!claims_idle_is_due(claims, i))
            continue;
        err = claims_idle_ping(claims, i);
        if (err != 0)
            claims->lanes[i].err = err;
    }
}

uint64_t claims_idle_in_ms(const struct claims *claims, uint64_t now_ms)
{
    uint64_t in_ms = UINT64_MAX;

    if (claims->nodes == NULL || claims->down)
        return UINT64_MAX;
    for (size_t i = 0; i < redis_nodes_count(claims->nodes); i++) {
        const uint64_t at_ms = claims->lanes[i].spoke_ms + IDLE_MS;
        const uint64_t ms = at_ms > now_ms ? at_ms - now_ms : 0;

        if (redis_nodes_link(claims->nodes, i) != NULL && ms < in_ms)
            in_ms = ms;
    }
    return in_ms;
}
