/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims_lanes.c - one round of claims with all nodes at once.
 *
 * Each node has a lane: the part of the round's records whose slots it has. All lanes send their
 * windows and read their replies in one loop that waits for whichever comes first, so a round takes
 * as long as its slowest node. A node that fails ends its own lane alone: its records have no
 * answer. Without a cluster there is one lane, which has all records.
 *
 * A node that no longer has a slot says so: MOVED for good, ASK for the next command only, TRYAGAIN
 * for an MGET of which it has some keys and another node the others. These records go through
 * the round once more, to the node that was named, and after ASK and TRYAGAIN each in a command of
 * its own.
 *
 * Runs on: the one thread that owns the struct claims. Owns: nothing.
 */
#include "claims_private.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "alloy/clock.h"
#include "alloy/kill_point.h"

/* How often a record may be sent elsewhere in one round; and after how many times we give the nodes
 * a little time to agree. */
#define PASSES_MAX 9
#define PASSES_AT_ONCE 3

bool claims_is_cancelled(const struct claims *claims)
{
    /* acquire: pairs with the release in claims_cancel(); so our caller sees why that was called,
     * and does not take the -EAGAIN for a failure of Redis */
    return atomic_load_explicit(&claims->cancelled, memory_order_acquire);
}

uint64_t claims_now_ms(const struct claims *claims)
{
    return claims->now_ms + (clock_mono_ms() - claims->began_ms);
}

/* ---- one lane ---- */

bool claims_lane_open(struct claims *claims, size_t node)
{
    struct claims_lane *lane = &claims->lanes[node];
    struct redis_link *link = redis_nodes_link(claims->nodes, node);

    claims_lane_renew(claims, node);
    if (lane->job != claims->job) {
        lane->job = claims->job;
        lane->spoke_ms = claims->now_ms;
        lane->reused = redis_link_is_open(link);
        lane->err = claims->now_ms < lane->breaker.retry_at_ms ? -EBUSY : 0;
    }
    if (lane->err == 0)
        lane->err = claims_lane_connect(claims, node);
    if (lane->err == 0)
        lane->err = claims_doubt_look(claims, node);
    return lane->err == 0;
}

void claims_lanes_look(struct claims *claims)
{
    for (size_t i = 0; i < redis_nodes_count(claims->nodes); i++)
        if (redis_nodes_link(claims->nodes, i) != NULL)
            (void)claims_lane_open(claims, i);
}

/* A WAIT may take its own time-out besides. */
static uint64_t claims_lane_deadline_ns(const struct claims *claims, uint64_t now_ns)
{
    const struct claims_wait *wait = &claims->lane->wait;

    return now_ns + claims->timeout_ns + (wait->sent ? wait->ms * CLOCK_NS_PER_MS : 0);
}

/* An error may be an answer in the present round, and no refusal of what we need. Said of each read
 * alone: the link may be opened anew, or be looked at (claims_doubt.c), in between. */
static void claims_lane_pardon(struct claims *claims, bool reads)
{
    redis_link_pardon(claims->link,
                      reads && (claims->round == ROUND_PEEK || claims->round == ROUND_SCAN ||
                                claims->round == ROUND_ASK));
}

int claims_lane_converse(struct claims *claims, enum round round, size_t n)
{
    const uint64_t deadline_ns = claims_lane_deadline_ns(claims, clock_mono_ns());
    int err = redis_link_send(claims->link, deadline_ns);

    claims->round = round;
    claims_lane_pardon(claims, true);
    for (size_t i = 0; err == 0 && i < n; i++)
        err = redis_link_read(claims->link, deadline_ns);
    claims_lane_pardon(claims, false);
    return err;
}

int claims_lane_ask_release_way(struct claims *claims)
{
    struct claims_lane *lane = claims->lane;
    int err;

    if (lane->release_way != RELEASE_UNKNOWN)
        return 0;
    lane->asked_ways = 0;
    redis_link_clear(claims->link);
    claims_put_question(claims);
    err = claims_lane_converse(claims, ROUND_ASK, 2);
    if (err != 0)
        lane->release_way = RELEASE_UNKNOWN;
    return err;
}

int claims_lane_prove(struct claims *claims, size_t node)
{
    const size_t streams = config_current(claims->parts.config)->stream_count;
    const int bucket = claims_bucket_of(claims, node);
    size_t replies = 0;
    int err;

    if (bucket < 0)
        return 0;
    if (!claims_lane_open(claims, node))
        return claims->lanes[node].err;
    claims_lane_enter(claims, node);
    redis_link_clear(claims->link);
    for (size_t i = 0; i < streams; i++) {
        claims_put_stream(claims, (uint16_t)i);
        claims_put_tag(claims, (size_t)bucket);
        if (claims->is_packed && !claims_packed_put_stream(claims, (uint16_t)i))
            return -ENOMEM;
        replies += claims->is_packed ? claims_packed_put_probe(claims, (size_t)bucket)
                                     : claims_put_probe(claims);
    }
    err = claims_lane_converse(claims, ROUND_PROBE, replies);
    return redis_link_refused(claims->link) && err == 0 ? -EACCES : err;
}

static bool claims_lane_is_busy(const struct claims_lane *lane)
{
    return lane->at < lane->end || lane->wait.sent;
}

/* Builds the next window, and begins to send it. */
static void claims_lane_fill(struct claims *claims, size_t node)
{
    struct claims_lane *lane = &claims->lanes[node];
    int err;

    claims_lane_enter(claims, node);
    redis_link_clear(claims->link);
    if (claims->round == ROUND_LOG) {
        redis_link_put(claims->link, LITERAL("*1\r\n$4\r\nTIME\r\n"));
        lane->time_due = true;
    }
    while (lane->sent < lane->end && redis_link_bytes(claims->link) < WINDOW_BYTES) {
        const size_t count = claims_put_span(claims, lane->sent, lane->end);

        if (claims->tagged && claims->asking[claims->todo[lane->sent]] != REDIS_NODE_NONE)
            redis_link_put(claims->link, LITERAL("*1\r\n$6\r\nASKING\r\n"));
        if (claims->is_packed)
            claims_packed_put_command(claims, lane->sent);
        else
            claims_put_command(claims, lane->sent, count);
        lane->sent += count;
    }
    if ((claims->round == ROUND_SET || claims->round == ROUND_CLAIM) && lane->sent == lane->end)
        claims_wait_put(claims);
    lane->started_ns = clock_mono_ns();
    lane->deadline_ns = claims_lane_deadline_ns(claims, lane->started_ns);
    err = claims_is_cancelled(claims) ? -ECANCELED : redis_link_begin(claims->link);
    if (err != 0)
        claims_lane_fail(lane, err);
}

/* Reads the replies that have come. Returns 0: all about the window; -EAGAIN; or what failed. */
static int claims_lane_read(struct claims *claims)
{
    struct claims_lane *lane = claims->lane;

    if (lane->time_due) {
        const int err = redis_link_pull(claims->link);

        if (err != 0)
            return err;
        lane->time_due = false;
    }
    while (lane->at < lane->sent) {
        const uint32_t i = claims->todo[lane->at];
        const bool asking = claims->tagged && claims->asking[i] != REDIS_NODE_NONE;
        int err;

        lane->count = claims_put_span(claims, lane->at, lane->sent);
        err = redis_link_pull(claims->link);
        if (err != 0)
            return err;
        if (asking && !lane->asked) {
            lane->asked = true;
            continue;
        }
        /* ASK is about one command. */
        if (asking && !claims->redirected)
            claims->asking[i] = REDIS_NODE_NONE;
        claims->redirected = lane->asked = false;
        lane->at += lane->count;
    }
    return claims_wait_pull(claims);
}

/* Goes on as far as it can without waiting. */
static void claims_lane_step(struct claims *claims, size_t node)
{
    struct claims_lane *lane = &claims->lanes[node];
    int err;

    claims_lane_enter(claims, node);
    while (claims_lane_is_busy(lane)) {
        err = redis_link_push(claims->link);
        if (err == 0 || err == -EAGAIN) {
            claims_lane_pardon(claims, true);
            err = claims_lane_read(claims);
            claims_lane_pardon(claims, false);
        }
        if (err == -EAGAIN && clock_mono_ns() < lane->deadline_ns)
            return;
        METRIC_OBSERVE_NS(claims->parts.thread_metrics, redis, clock_mono_ns() - lane->started_ns);
        if (err == -EAGAIN)
            err = redis_link_give_up(claims->link);
        if (err != 0)
            claims_lane_fail(lane, err);
        else if (lane->at < lane->end)
            claims_lane_fill(claims, node);
    }
}

/* ---- all lanes ---- */

/* Lets all lanes work until each is done. */
static void claims_lanes_exchange(struct claims *claims)
{
    const size_t count = redis_nodes_count(claims->nodes);
    struct redis_link *busy[REDIS_LINK_WAIT_MAX];

    for (size_t i = 0; i < count; i++)
        if (claims->lanes[i].at < claims->lanes[i].end)
            claims_lane_fill(claims, i);
    for (;;) {
        uint64_t deadline_ns = UINT64_MAX;
        size_t n = 0;

        for (size_t i = 0; i < count; i++) {
            struct claims_lane *lane = &claims->lanes[i];

            if (!claims_lane_is_busy(lane))
                continue;
            claims_lane_step(claims, i);
            if (!claims_lane_is_busy(lane))
                continue;
            busy[n++] = redis_nodes_link(claims->nodes, i);
            if (lane->deadline_ns < deadline_ns)
                deadline_ns = lane->deadline_ns;
        }
        if (n == 0)
            return;
        redis_link_wait(busy, n, deadline_ns);
    }
}

static size_t claims_lanes_node_of(const struct claims *claims, uint32_t i)
{
    if (unlikely(claims->asking[i] != REDIS_NODE_NONE))
        return claims->asking[i];
    return redis_nodes_of_slot(claims->nodes, claims->slots[claims->bucket[i]]);
}

/* Opens a lane that has something to do. False: it can do nothing. */
static bool claims_lanes_ready(struct claims *claims, size_t node, size_t bucket)
{
    struct claims_lane *lane = &claims->lanes[node];

    if (!claims_lane_open(claims, node))
        return false;
    if (claims->round != ROUND_RELEASE || lane->release_way != RELEASE_UNKNOWN)
        return true;
    claims_lane_enter(claims, node);
    claims_put_tag(claims, bucket);
    lane->err = claims_lane_ask_release_way(claims);
    claims->round = ROUND_RELEASE;
    return lane->err == 0;
}

/* Gives each lane its part of todo[0] .. todo[n - 1], in their order. */
static void claims_lanes_spread(struct claims *claims, size_t n)
{
    const size_t count = redis_nodes_count(claims->nodes);
    size_t from[REDIS_NODES_MAX] = {0};
    uint32_t *sorted = claims->again; /* nothing is in there yet */
    size_t at = 0;

    for (size_t i = 0; i < count; i++)
        claims->lanes[i].end = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t node = claims_lanes_node_of(claims, claims->todo[i]);

        if (node == REDIS_NODE_NONE)
            claims->unserved = "no node of the cluster has the slots of some ids";
        else
            claims->lanes[node].end++;
    }
    for (size_t i = 0; i < count; i++) {
        from[i] = at;
        at += claims->lanes[i].end;
    }
    for (size_t i = 0; i < n; i++) {
        const size_t node = claims_lanes_node_of(claims, claims->todo[i]);

        if (node != REDIS_NODE_NONE)
            sorted[from[node]++] = claims->todo[i];
    }
    claims->again = claims->todo;
    claims->todo = sorted;
    at = 0;
    for (size_t i = 0; i < count; i++) {
        struct claims_lane *lane = &claims->lanes[i];
        const size_t mine = lane->end;

        if (mine > 0 && !claims_lanes_ready(claims, i, claims->bucket[sorted[at]]))
            lane->at = lane->sent = lane->end = 0;
        else {
            lane->at = lane->sent = at;
            lane->end = at + mine;
        }
        lane->asked = false;
        at += mine;
    }
}

/* The one lane that there is without a cluster. */
static void claims_lanes_give_all(struct claims *claims, size_t n)
{
    struct claims_lane *lane = &claims->lanes[0];
    const bool ready = claims_lanes_ready(claims, 0, 0);

    lane->at = lane->sent = 0;
    lane->end = ready ? n : 0;
}

/* Puts the slice's records in order of their buckets, so that those of one are in one MGET. */
static void claims_lanes_sort(struct claims *claims, size_t n)
{
    uint32_t from[BUCKETS + 1] = {0};

    for (size_t i = 0; i < n; i++) {
        const struct record *record = claims->records[i];
        const struct slice id = {record_id(record), record->id_length};

        claims->bucket[i] = claims->key_bucket[i] = redis_slots_crc16(id) % BUCKETS;
        claims->asking[i] = REDIS_NODE_NONE;
        claims->flags[i] = 0;
        from[claims->bucket[i] + 1]++;
    }
    for (size_t i = 1; i < BUCKETS; i++)
        from[i] += from[i - 1];
    for (size_t i = 0; i < n; i++)
        claims->todo[from[claims->bucket[i]]++] = (uint32_t)i;
}

void claims_lanes_begin(struct claims *claims, size_t n)
{
    if (claims->tagged)
        claims_lanes_sort(claims, n);
    else
        for (size_t i = 0; i < n; i++)
            claims->todo[i] = (uint32_t)i;
    if (claims->is_packed)
        claims_packed_begin(claims, n);
}

void claims_lanes_redirect(struct claims *claims, const struct redis_link_element *element)
{
    struct claims_lane *lane = claims->lane;
    const size_t node = (size_t)(lane - claims->lanes);
    const bool moves = !redis_link_is_code(element->text, "TRYAGAIN");
    bool ask = false;
    size_t to = REDIS_NODE_NONE;

    if (moves)
        to = redis_nodes_follow(claims->nodes, node, element->redirect, &ask);
    if (moves && to == REDIS_NODE_NONE) {
        claims->unserved = "a node sends ids to one that cannot be used";
        return;
    }
    for (size_t k = lane->at; k < lane->at + lane->count; k++) {
        const uint32_t i = claims->todo[k];

        /* Another node has not known it: this one may, or be one that is distrusted. Of an ASK both
         * were asked. */
        if (moves && !ask && claims->verdicts != NULL && claims_doubt_is_on(claims) &&
            (claims->round == ROUND_SET || claims->round == ROUND_CLAIM)) {
            claims->verdicts[i] = CLAIM_DOUBTED;
            continue;
        }
        claims->asking[i] = ask ? (uint16_t)to : REDIS_NODE_NONE;
        if (ask || !moves)
            claims->flags[i] |= FLAG_ALONE;
        claims->again[claims->again_count++] = i;
    }
    claims->redirected = true;
}

static void claims_lanes_pause(size_t pass)
{
    const long ms = 1L << (pass - PASSES_AT_ONCE);

    nanosleep(&(struct timespec){.tv_nsec = ms * (long)CLOCK_NS_PER_MS}, NULL);
}

void claims_lanes_run(struct claims *claims, enum round round, size_t n)
{
    uint32_t *left;

    claims->round = round;
    claims->kept = 0;
    for (size_t pass = 0; n > 0; pass++) {
        if (pass == PASSES_MAX) {
            claims->unserved = "the nodes send some ids from one to another";
            break;
        }
        if (unlikely(pass > PASSES_AT_ONCE))
            claims_lanes_pause(pass);
        if (claims->tagged)
            claims_lanes_spread(claims, n);
        else
            claims_lanes_give_all(claims, n);
        claims->again_count = 0;
        claims_lanes_exchange(claims);
        n = claims->again_count;
        left = claims->todo;
        claims->todo = claims->again;
        claims->again = left;
    }
    left = claims->todo;
    claims->todo = claims->next;
    claims->next = left;
}

/* The keys of a refused command, and those of a node that is away, stay CLAIM_UNKNOWN; the rest
 * goes on. */
void claims_lanes_take(struct claims *claims, size_t n)
{
    claims_lanes_run(claims, ROUND_LOOKUP, n);
    KILL_POINT("claims_read");
    claims_lanes_run(claims, ROUND_SET, claims->kept);
    KILL_POINT("claims_set");
    claims_lanes_run(claims, ROUND_VERIFY, claims->kept);
    /* A claim that was deleted or expired between the two rounds has left its id free. */
    claims_lanes_run(claims, ROUND_SET, claims->kept);
    claims_lanes_run(claims, ROUND_VERIFY, claims->kept);
    for (size_t i = 0; i < claims->kept; i++)
        claims->verdicts[claims->todo[i]] = CLAIM_STRANGE;
}
