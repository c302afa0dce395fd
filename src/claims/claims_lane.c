/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims_lane.c - one lane: its connection, and its end in a job (claims_lanes.c has the rest).
 *
 * Runs on: the one thread that owns the struct claims. Owns: nothing.
 */
#include "claims_private.h"

void claims_lane_renew(struct claims *claims, size_t node)
{
    struct claims_lane *lane = &claims->lanes[node];
    const unsigned generation = redis_nodes_generation(claims->nodes, node);

    if (lane->generation != generation)
        *lane = (struct claims_lane){.generation = generation};
}

int claims_lane_connect(struct claims *claims, size_t node)
{
    struct redis_link *link = redis_nodes_link(claims->nodes, node);

    claims_lane_renew(claims, node);
    if (redis_link_is_open(link))
        return 0;
    claims->lanes[node].release_way = RELEASE_UNKNOWN;
    claims->lanes[node].doubt = (struct claims_doubt){.unseen = true};
    return redis_link_open(link, claims->timeout_ns);
}

void claims_lane_fail(struct claims_lane *lane, int err)
{
    lane->err = err;
    lane->at = lane->end;
    lane->wait.sent = lane->wait.next = lane->time_due = false;
}

void claims_lane_give_up(struct claims *claims, size_t node, int err)
{
    redis_link_close(redis_nodes_link(claims->nodes, node));
    if (claims->lanes[node].job == claims->job)
        claims_lane_fail(&claims->lanes[node], err);
}
