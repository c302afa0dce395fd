/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims_replicas.c - what the answers to WAIT (claims_wait.c) mean for /readyz and the metrics,
 * and the questions beside those that go with SETs.
 *
 * A batch that is claimed again finds its claims and sets none, and for a new connection WAIT is
 * about nothing. We then write a key of our own first: replication is one stream, so that a
 * replica that has this key has all that came before it.
 *
 * Without traffic no batch would show that replicas are back, so a worker asks.
 *
 * Runs on: the one thread that owns the struct claims. Owns: nothing.
 */
#include "claims_private.h"

#include <inttypes.h>

#include "alloy/clock.h"
#define LOG_MODULE "claims"
#include "alloy/log.h"

#define CONDITION "redis.replicas"
#define LOG_INTERVAL_MS 10000

/* How many struct claims, of any thread, know of too few replicas. */
static atomic_int claims_replicas_lacking;
static atomic_bool claims_replicas_logged;

/* By what its last answer said and the present configuration asks for. */
static bool claims_replicas_lacks(const struct claims *claims, size_t node)
{
    const struct claims_lane *lane = &claims->lanes[node];

    return lane->wait.lacks && lane->wait.confirmed < (long long)claims->wait_replicas &&
           redis_nodes_link(claims->nodes, node) != NULL &&
           lane->generation == redis_nodes_generation(claims->nodes, node);
}

/* Asks about all that was written before. */
static void claims_replicas_ask(struct claims *claims, size_t node)
{
    struct claims_lane *lane = &claims->lanes[node];
    const int bucket = claims_bucket_of(claims, node);
    uint64_t deadline_ns;

    if (bucket < 0 || !claims_lane_open(claims, node))
        return;
    claims_lane_enter(claims, node);
    redis_link_clear(claims->link);
    claims_put_tag(claims, (size_t)bucket);
    claims_put_touch(claims);
    claims_wait_put(claims);
    lane->err = claims_lane_converse(claims, ROUND_PROBE, 1);
    deadline_ns = clock_mono_ns() + claims->timeout_ns + lane->wait.ms * CLOCK_NS_PER_MS;
    claims_wait_expect(claims);
    if (lane->err == 0)
        lane->err = redis_link_read(claims->link, deadline_ns);
    claims_wait_end(claims);
}

static void claims_replicas_count(struct claims *claims, const struct claims_lane *lane)
{
    if (lane->wait.lacks)
        METRIC_ADD(claims->parts.thread_metrics, redis_wait_short, 1);
}

void claims_replicas_end_slice(struct claims *claims)
{
    for (size_t i = 0; claims->wait_replicas > 0 && i < redis_nodes_count(claims->nodes); i++) {
        struct claims_lane *lane = &claims->lanes[i];

        if (lane->job == claims->job && lane->err == 0 && lane->wait.owes) {
            claims_replicas_ask(claims, i);
            lane->wait.answered |= lane->err == 0;
        }
        if (lane->wait.answered)
            claims_replicas_count(claims, lane);
        lane->wait.owes = lane->wait.answered = false;
    }
}

void claims_replicas_perform(struct claims *claims)
{
    if (claims->wait_replicas == 0)
        return;
    claims_put_stream(claims, 0);
    for (size_t i = 0; i < redis_nodes_count(claims->nodes); i++) {
        if (!claims_replicas_lacks(claims, i))
            continue;
        claims->lanes[i].wait.full_at_ms = 0;
        claims_replicas_ask(claims, i);
    }
}

/* ---- what is told ---- */

static void claims_replicas_log(const char *server, const struct claims_wait *wait, uint64_t wanted)
{
    static struct log_limit limit;
    uint64_t suppressed;

    if (!log_limit_pass(&limit, clock_mono_ms(), LOG_INTERVAL_MS, &suppressed))
        return;
    atomic_store_explicit(&claims_replicas_logged, true, memory_order_relaxed);
    log_warn("redis has too few replicas for claims server=%s replicas=%lld wanted=%" PRIu64
             " error=%s suppressed=%" PRIu64,
             server, wait->confirmed, wanted, wait->code, suppressed);
}

/* One node of those that lack some; count is how many these are. */
static void claims_replicas_raise(struct claims *claims, size_t node, size_t count)
{
    const struct claims_wait *wait = &claims->lanes[node].wait;
    const char *server = redis_link_name(redis_nodes_link(claims->nodes, node));
    char nodes[64] = "";

    if (claims->tagged)
        snprintf(nodes, sizeof(nodes), " (%zu of %zu nodes)", count,
                 redis_nodes_masters(claims->nodes));
    if (wait->confirmed < 0)
        health_raise(
            claims->parts.health, CONDITION, false,
            "%s%s refuses WAIT (%s), so nobody knows how many replicas have the claims, and "
            "a failover may forget some; allow WAIT to the user of redis.url, or set "
            "redis.wait_replicas = 0",
            server, nodes, wait->code[0] != '\0' ? wait->code : "an error");
    else
        health_raise(
            claims->parts.health, CONDITION, false,
            "%s%s: %lld of redis.wait_replicas = %" PRIu64 " replicas have the last claims "
            "after redis.wait_timeout (%" PRIu64 " ms); events go on, and if it fails over "
            "now, ids that come again may give second rows; bring its replicas back (INFO "
            "replication), or raise redis.wait_timeout, or lower redis.wait_replicas",
            server, nodes, wait->confirmed, claims->wait_replicas, claims->wait_timeout_ms);
    if (claims->told_lack)
        return;
    claims->told_lack = true;
    claims->ask_replicas_at_ms = claims->now_ms + claims_wait_apart_ms(claims);
    if (atomic_fetch_add_explicit(&claims_replicas_lacking, 1, memory_order_relaxed) == 0)
        claims_replicas_log(server, wait, claims->wait_replicas);
}

/* Another thread may raise it at the same moment. It then knows, and tells again with its next
 * batch or question. */
bool claims_replicas_forget(struct claims *claims)
{
    if (!claims->told_lack)
        return false;
    claims->told_lack = false;
    if (atomic_fetch_sub_explicit(&claims_replicas_lacking, 1, memory_order_relaxed) != 1)
        return false;
    health_clear(claims->parts.health, CONDITION);
    return true;
}

static void claims_replicas_note_enough(struct claims *claims)
{
    if (claims_replicas_forget(claims) &&
        atomic_exchange_explicit(&claims_replicas_logged, false, memory_order_relaxed))
        log_info("redis has replicas enough for claims server=\"%s\"",
                 redis_nodes_name(claims->nodes));
}

void claims_replicas_tell(struct claims *claims)
{
    size_t lacking = 0, last = 0;

    if (claims->wait_replicas == 0 && !claims->told_lack)
        return;
    for (size_t i = 0; i < redis_nodes_count(claims->nodes); i++) {
        if (!claims_replicas_lacks(claims, i))
            continue;
        last = i;
        lacking++;
    }
    if (lacking > 0)
        claims_replicas_raise(claims, last, lacking);
    else
        claims_replicas_note_enough(claims);
}

/* ---- when to ask ---- */

uint64_t claims_replicas_due_in_ms(const struct claims *claims, uint64_t now_ms)
{
    if (!claims->told_lack || claims->down)
        return UINT64_MAX;
    return now_ms < claims->ask_replicas_at_ms ? claims->ask_replicas_at_ms - now_ms : 0;
}
