/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims_doubt.c - looks who a node is, and whether what it does not know is to be believed
 * (distrust.h).
 *
 * We look on the connection on which we claim: when it is fresh, before the first command, and then
 * every now and then. A server that was restarted or replaced has broken its connections, so that
 * its first "no such key" comes after such a look; one that was demoted and promoted again is
 * noticed with the next.
 *
 * A server that does not say who it is (no right to INFO, a proxy) is believed, as without
 * redis.distrust. That is told once.
 *
 * Runs on: the one thread that owns the struct claims. Owns: nothing.
 */
#include "claims_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "alloy/clock.h"
#define LOG_MODULE "claims"
#include "alloy/log.h"

#define ANSWERS 3 /* of claims_put_look() */

bool claims_doubt_is_on(const struct claims *claims)
{
    return claims->parts.distrust != NULL &&
           config_current(claims->parts.config)->redis_distrust_ms > 0;
}

/* ---- what it says ---- */

/* The value of "name:value" on a line of its own in what INFO says; empty: it is not there. */
static struct slice claims_doubt_field(struct slice text, const char *name)
{
    const size_t len = strlen(name);
    const char *end = text.data + text.len;

    for (const char *at = text.data; at < end;) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        const char *stop = line_end == NULL ? end : line_end;

        if ((size_t)(stop - at) > len && memcmp(at, name, len) == 0 && at[len] == ':') {
            at += len + 1;
            while (stop > at && (stop[-1] == '\r' || stop[-1] == '\n'))
                stop--;
            return (struct slice){at, (size_t)(stop - at)};
        }
        at = stop + 1;
    }
    return (struct slice){"", 0};
}

/* Ids are hexadecimal; of what is none, nothing is taken. */
static void claims_doubt_copy(char out[DISTRUST_ID_MAX], struct slice id)
{
    size_t n = 0;

    while (n < id.len && n < DISTRUST_ID_MAX - 1 && memchr("0123456789abcdef", id.data[n], 16))
        n++;
    memcpy(out, id.data, n);
    out[n] = '\0';
}

static uint64_t claims_doubt_number(struct slice digits)
{
    uint64_t number = 0;

    for (size_t i = 0; i < digits.len && i < 19 && digits.data[i] >= '0' && digits.data[i] <= '9';
         i++)
        number = 10 * number + (uint64_t)(digits.data[i] - '0');
    return number;
}

/* The key is copied: it is lent until the next read. */
static void claims_doubt_take_key(struct distrust_sight *sight, struct slice text)
{
    sight->has_key = true;
    if (text.len < DISTRUST_KEY_MAX) {
        memcpy((char *)sight->key.data, text.data, text.len);
        sight->key.len = text.len;
    }
}

bool claims_doubt_on_element(struct claims *claims, const struct redis_link_element *element)
{
    struct distrust_sight *sight = claims->sight;

    if (element->redirect.len > 0) {
        claims->sight_moved = true;
        redis_nodes_doubt(claims->nodes);
        return element->root;
    }
    if (element->type == REDIS_LINK_ERROR) {
        claims->sight_refused = true;
        return element->root;
    }
    if (element->type == REDIS_LINK_STRING && element->root && claims->seen == 0) {
        claims_doubt_copy(sight->run_id, claims_doubt_field(element->text, "run_id"));
    } else if (element->type == REDIS_LINK_STRING && element->root) {
        claims_doubt_copy(sight->replid, claims_doubt_field(element->text, "master_replid"));
        sight->offset =
            claims_doubt_number(claims_doubt_field(element->text, "master_repl_offset"));
    } else if (element->type == REDIS_LINK_STRING) {
        claims_doubt_take_key(sight, element->text);
    }
    return true;
}

/* ---- a look ---- */

static void claims_doubt_tell_off(const struct claims *claims)
{
    static struct log_limit limit;
    uint64_t suppressed;

    if (log_limit_pass(&limit, clock_mono_ms(), UINT64_MAX / 2, &suppressed))
        log_warn("redis does not say who it is, so that a failover is not noticed server=%s "
                 "needs=\"INFO, and MGET and SET of <key_prefix>#life\" action=believe_it",
                 redis_link_name(claims->link));
}

/* Reads n answers. Returns 0 or -errno. */
static int claims_doubt_converse(struct claims *claims, size_t n)
{
    const uint64_t deadline_ns = clock_mono_ns() + claims->timeout_ns;
    int err = redis_link_send(claims->link, deadline_ns);

    claims->sight_refused = claims->sight_moved = false;
    for (claims->seen = 0; err == 0 && claims->seen < n; claims->seen++)
        err = redis_link_read(claims->link, deadline_ns);
    return err;
}

/* Tells what was seen, and writes the key. Returns 0 or -errno. */
static int claims_doubt_judge(struct claims *claims, struct distrust_sight *sight)
{
    struct claims_doubt *doubt = &claims->lane->doubt;
    char key[DISTRUST_KEY_MAX];
    int err;

    sight->now_ms = clock_mono_ms();
    sight->real_ms = clock_real_ms();
    if (!distrust_see(claims->parts.distrust, sight, &doubt->window, key))
        return 0;
    METRIC_ADD(claims->parts.thread_metrics, redis_distrusts, doubt->window.opened);
    redis_link_clear(claims->link);
    claims_put_life(claims, sight->place, key);
    err = claims_doubt_converse(claims, 1);
    if (err == 0 && !claims->sight_refused && !claims->sight_moved)
        distrust_wrote(claims->parts.distrust, sight, clock_mono_ms());
    return err;
}

/* Asks the present lane's node. Returns 0 or -errno. */
static int claims_doubt_ask(struct claims *claims, size_t bucket)
{
    struct claims_doubt *doubt = &claims->lane->doubt;
    char room[DISTRUST_KEY_MAX];
    struct distrust_sight sight = {.server = redis_link_name(claims->link),
                                   .place = bucket,
                                   .key = {room, 0},
                                   .began_ms = clock_mono_ms()};
    int err;

    claims->sight = &sight;
    redis_link_clear(claims->link);
    claims_put_look(claims, bucket);
    err = claims_doubt_converse(claims, ANSWERS);
    doubt->unseen = claims->sight_moved;
    if (err == 0 && !claims->sight_moved) {
        doubt->off = claims->sight_refused || (sight.run_id[0] == '\0' && sight.replid[0] == '\0');
        if (doubt->off)
            claims_doubt_tell_off(claims);
        else
            err = claims_doubt_judge(claims, &sight);
    }
    claims->sight = NULL;
    return err;
}

int claims_doubt_look(struct claims *claims, size_t node, bool fresh)
{
    struct claims_lane *lane = &claims->lanes[node];
    struct claims_lane *const before = claims->lane;
    struct redis_link *const link = claims->link;
    const enum round round = claims->round;
    const int bucket = claims->tagged ? claims_bucket_of(claims, node) : 0;
    const struct distrust *distrust = claims->parts.distrust;
    int err;

    if (fresh)
        lane->doubt = (struct claims_doubt){.unseen = true};
    if (!claims_doubt_is_on(claims)) {
        lane->doubt = (struct claims_doubt){.off = false};
        return 0;
    }
    if (bucket < 0) {
        /* What it has comes from another node, with a slot that it is given now. */
        lane->doubt.unseen = false;
        return 0;
    }
    if (lane->doubt.unseen && !redis_nodes_is_listed(claims->nodes, node)) {
        /* Which of its keys tells of the master before is known with its slots. Until then what it
         * does not know is held. */
        redis_nodes_doubt(claims->nodes);
        return 0;
    }
    if (!lane->doubt.unseen &&
        (lane->doubt.off || (clock_mono_ms() < lane->doubt.window.look_ms &&
                             lane->doubt.suspicions == distrust_suspicions(distrust))))
        return 0;
    lane->doubt.suspicions = distrust_suspicions(distrust);
    claims_lane_enter(claims, node);
    claims->round = ROUND_SEE;
    redis_link_pardon(claims->link, true);
    err = claims_doubt_ask(claims, (size_t)bucket);
    redis_link_pardon(claims->link, false);
    claims->round = round;
    claims->lane = before;
    claims->link = link;
    return err;
}

/* ---- what follows ---- */

bool claims_doubt_of(const struct claims *claims, const struct claims_lane *lane,
                     enum claims_verdict *verdict)
{
    const struct claims_doubt *doubt = &lane->doubt;

    if (likely(!doubt->unseen && doubt->window.state == DISTRUST_NOT))
        return false;
    if (doubt->off || claims->checked_ms == CLAIMS_BELIEVE)
        return false;
    if (doubt->unseen || doubt->window.state == DISTRUST_HOLD) {
        *verdict = CLAIM_HELD;
        return true;
    }
    if (claims->checked_ms >= doubt->window.free_ms)
        return false;
    *verdict = CLAIM_DOUBTED;
    return true;
}

bool claims_doubt_verdict(const struct claims *claims, enum claims_verdict *verdict)
{
    return claims_doubt_of(claims, claims->lane, verdict);
}

void claims_doubt_suspect(struct claims *claims, size_t node, uint64_t since_ms)
{
    const struct redis_link *link = redis_nodes_link(claims->nodes, node);

    if (link == NULL || !claims_doubt_is_on(claims))
        return;
    distrust_suspect(claims->parts.distrust, redis_link_name(link), since_ms);
}

uint64_t claims_doubted_from_ms(const struct claims *claims)
{
    uint64_t from_ms = UINT64_MAX;

    for (size_t i = 0; claims->nodes != NULL && i < redis_nodes_count(claims->nodes); i++) {
        const struct distrust_window *window = &claims->lanes[i].doubt.window;

        if (window->state != DISTRUST_NOT && window->from_ms < from_ms)
            from_ms = window->from_ms;
    }
    return from_ms;
}
