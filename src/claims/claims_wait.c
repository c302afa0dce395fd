/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims_wait.c - how many replicas of each master have a batch's claims (redis.wait_replicas).
 *
 * Redis answers a SET before its replicas have it, so a failover can forget a claim. A WAIT goes
 * with the last SETs of each node, in the same pipeline; its answer is how many replicas have all
 * that this connection has written. The claims stand, whatever it says: to take them back would
 * only make more ids free. Too few are counted and told.
 *
 * While replicas are away, a WAIT for each batch would cost its whole time-out each time. So only
 * some take it, a tenth of the time in all; the others ask how things stand.
 *
 * Runs on: the one thread that owns the struct claims. Owns: nothing.
 */
#include "claims_private.h"

#include <errno.h>
#include <stdio.h>

#define GLANCE_MS 1 /* a WAIT that only asks; 0 would wait for ever */
#define FULL_APART 10
#define FULL_APART_MIN_MS 1000

uint64_t claims_wait_apart_ms(const struct claims *claims)
{
    const uint64_t ms = FULL_APART * claims->wait_timeout_ms;

    return ms > FULL_APART_MIN_MS ? ms : FULL_APART_MIN_MS;
}

void claims_wait_begin(struct claims *claims)
{
    const struct config *config = config_current(claims->parts.config);

    claims->wait_replicas = config->redis_wait_replicas;
    claims->wait_timeout_ms = config->redis_wait_timeout_ms;
}

void claims_wait_put(struct claims *claims)
{
    struct claims_wait *wait = &claims->lane->wait;

    if (claims->wait_replicas == 0)
        return;
    wait->ms =
        wait->lacks && claims->now_ms < wait->full_at_ms ? GLANCE_MS : claims->wait_timeout_ms;
    wait->sent = true;
    claims_put_wait(claims, claims->wait_replicas, wait->ms);
}

/* A refused WAIT is no refused claim. */
void claims_wait_expect(struct claims *claims)
{
    claims->lane->wait.next = true;
    redis_link_pardon(claims->link, true);
}

void claims_wait_end(struct claims *claims)
{
    claims->lane->wait.sent = claims->lane->wait.next = false;
    redis_link_pardon(claims->link, false);
}

int claims_wait_pull(struct claims *claims)
{
    int err;

    if (!claims->lane->wait.sent)
        return 0;
    claims_wait_expect(claims);
    err = redis_link_pull(claims->link);
    if (err != -EAGAIN)
        claims_wait_end(claims);
    return err;
}

bool claims_wait_on_element(struct claims *claims, const struct redis_link_element *element)
{
    struct claims_wait *wait = &claims->lane->wait;

    if (!element->root || (element->type != REDIS_LINK_ERROR &&
                           (element->type != REDIS_LINK_INTEGER || element->value < 0)))
        return false;
    wait->confirmed = element->type == REDIS_LINK_INTEGER ? element->value : -1;
    snprintf(wait->code, sizeof(wait->code), "%.*s",
             element->type == REDIS_LINK_ERROR ? (int)element->text.len : 0, element->text.data);
    wait->lacks = wait->confirmed < (long long)claims->wait_replicas;
    wait->owes = false;
    wait->answered = claims->round == ROUND_SET || claims->round == ROUND_CLAIM;
    if (wait->lacks && wait->ms == claims->wait_timeout_ms)
        wait->full_at_ms = claims->now_ms + claims_wait_apart_ms(claims);
    return true;
}
