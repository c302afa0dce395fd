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

#define INFOS 2          /* answers to claims_put_look() */
#define SETTLED_MS 30000 /* after that all keys of buckets are looked at again */
#define HERE REDIS_NODE_NONE
#define GONE (REDIS_NODE_NONE - 1)

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

/* One look at a node. Keys are numbered: 0 is that of the server, i + 1 that of pasts[i]. */
struct doubt_look {
    struct distrust_sight sight;
    char room[DISTRUST_KEY_MAX]; /* of the server's key */
    uint16_t *at;                /* of each key: the node where it is now, or HERE, or GONE */
    size_t seen;                 /* answers so far: those of INFO, then one for each key */
    bool writes;
    bool skips;   /* the next answer is that to ASKING */
    bool refused; /* for good: it is believed */
    bool later;   /* it cannot say now, or no longer has the slot: it is held */
    bool lacks;   /* a bucket's key that cannot be read now */
};

/* Where the key is now, or that its slot is no longer this node's. */
static void claims_doubt_on_redirect(struct claims *claims,
                                     const struct redis_link_element *element)
{
    struct doubt_look *look = claims->look;
    const size_t from = (size_t)(claims->lane - claims->lanes);
    bool ask = false;
    const size_t to = redis_nodes_follow(claims->nodes, from, element->redirect, &ask);

    if (look->writes || look->seen < INFOS || to == REDIS_NODE_NONE)
        look->later = true;
    else
        look->at[look->seen - INFOS] = ask ? (uint16_t)to : GONE;
}

/* It is copied: it is lent until the next read. */
static void claims_doubt_take_key(struct doubt_look *look, const struct slice *text)
{
    struct distrust_sight *sight = &look->sight;
    const size_t key = look->seen - INFOS;

    if (key > 0) {
        struct distrust_past *past = &sight->pasts[key - 1];

        distrust_read_past(past, past->place, text != NULL,
                           text != NULL ? *text : (struct slice){"", 0});
        return;
    }
    sight->has_key = text != NULL;
    sight->key = (struct slice){look->room, 0};
    if (text == NULL || text->len >= DISTRUST_KEY_MAX)
        return;
    memcpy(look->room, text->data, text->len);
    sight->key.len = text->len;
}

/* Whether an error says how the server is at the moment, and nothing of what we may ask. Believing
 * it would be wrong just then: it is in the midst of a failover, or of its start. */
static bool claims_doubt_is_passing(struct slice code)
{
    static const char *const codes[] = {"CLUSTERDOWN", "LOADING", "MASTERDOWN", "BUSY"};

    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (redis_link_is_code(code, codes[i]))
            return true;
    return false;
}

bool claims_doubt_on_element(struct claims *claims, const struct redis_link_element *element)
{
    struct doubt_look *look = claims->look;
    struct distrust_sight *sight = &look->sight;

    if (look->skips)
        return element->root;
    if (element->redirect.len > 0) {
        claims_doubt_on_redirect(claims, element);
        return element->root;
    }
    if (element->type == REDIS_LINK_ERROR) {
        if (claims_doubt_is_passing(element->text))
            look->later = true;
        else
            look->refused = true;
        return element->root;
    }
    if (look->writes)
        return true;
    if (look->seen >= INFOS) {
        if (element->type == REDIS_LINK_STRING || element->type == REDIS_LINK_NIL)
            claims_doubt_take_key(look, element->type == REDIS_LINK_STRING ? &element->text : NULL);
    } else if (element->type == REDIS_LINK_STRING && element->root && look->seen == 0) {
        claims_doubt_copy(sight->run_id, claims_doubt_field(element->text, "run_id"));
    } else if (element->type == REDIS_LINK_STRING && element->root) {
        claims_doubt_copy(sight->replid, claims_doubt_field(element->text, "master_replid"));
        sight->offset =
            claims_doubt_number(claims_doubt_field(element->text, "master_repl_offset"));
    }
    return true;
}

/* ---- the exchange ---- */

static void claims_doubt_tell_off(const struct claims *claims)
{
    static struct log_limit limit;
    uint64_t suppressed;

    if (log_limit_pass(&limit, clock_mono_ms(), UINT64_MAX / 2, &suppressed))
        log_warn("redis does not say who it is, so that a failover is not noticed server=%s "
                 "needs=\"INFO, and MGET and SET of <key_prefix>#life\" action=believe_it",
                 redis_link_name(claims->link));
}

/* Sends what is built, and reads answers `from` to `end`. Returns 0 or -errno. */
static int claims_doubt_converse(struct claims *claims, size_t from, size_t end)
{
    const uint64_t deadline_ns = clock_mono_ns() + claims->timeout_ns;
    struct doubt_look *look = claims->look;
    int err;

    redis_link_pardon(claims->link, true);
    err = redis_link_send(claims->link, deadline_ns);
    if (err == 0 && look->skips)
        err = redis_link_read(claims->link, deadline_ns);
    look->skips = false;
    for (look->seen = from; err == 0 && look->seen < end; look->seen++)
        err = redis_link_read(claims->link, deadline_ns);
    redis_link_pardon(claims->link, false);
    return err;
}

static size_t claims_doubt_bucket(const struct doubt_look *look, size_t key)
{
    return key == 0 ? look->sight.place : look->sight.pasts[key - 1].place;
}

/* A key that is on its way to another node: reads it there, or writes it. */
static int claims_doubt_ask_there(struct claims *claims, size_t key, const char *value)
{
    struct doubt_look *look = claims->look;
    const size_t node = look->at[key];
    struct claims_lane *const lane = claims->lane;
    struct redis_link *const link = claims->link;
    int err = claims->now_ms < claims->lanes[node].breaker.retry_at_ms
                  ? -EBUSY
                  : claims_lane_connect(claims, node);

    if (err == -EBUSY)
        return err;
    claims_lane_enter(claims, node);
    look->at[key] = HERE;
    look->skips = true;
    redis_link_clear(claims->link);
    redis_link_put(claims->link, LITERAL("*1\r\n$6\r\nASKING\r\n"));
    if (value != NULL)
        claims_put_life(claims, claims_doubt_bucket(look, key), value);
    else
        claims_put_past(claims, claims_doubt_bucket(look, key));
    if (err == 0)
        err = claims_doubt_converse(claims, INFOS + key, INFOS + key + 1);
    if (err != 0)
        claims_lane_give_up(claims, node, err);
    /* Sent on once more: it is not where it was said to be. */
    look->later |= look->at[key] != HERE;
    look->at[key] = (uint16_t)node;
    claims->lane = lane;
    claims->link = link;
    return err;
}

/* Keys that are on their way are read where they are, and those that are no longer this node's
 * leave pasts. While the other node is away nobody gets an answer about ids of such a bucket. */
static void claims_doubt_read_there(struct claims *claims)
{
    struct doubt_look *look = claims->look;
    struct distrust_sight *sight = &look->sight;
    size_t kept = 0;

    for (size_t key = 0; key <= sight->past_count; key++) {
        if (look->at[key] >= GONE || claims_doubt_ask_there(claims, key, NULL) == 0)
            continue;
        look->at[key] = GONE;
        look->lacks = true;
    }
    look->later |= look->at[0] == GONE;
    for (size_t i = 0; i < sight->past_count; i++) {
        if (look->at[i + 1] == GONE)
            continue;
        sight->pasts[kept] = sight->pasts[i];
        look->at[++kept] = look->at[i + 1];
    }
    sight->past_count = kept;
}

/* Asks the present lane's node who it is, and for the keys. Returns 0 or -errno. */
static int claims_doubt_read(struct claims *claims)
{
    struct doubt_look *look = claims->look;
    const struct distrust_sight *sight = &look->sight;
    int err;

    redis_link_clear(claims->link);
    claims_put_look(claims);
    for (size_t key = 0; key <= sight->past_count; key++) {
        claims_put_past(claims, claims_doubt_bucket(look, key));
        look->at[key] = HERE;
    }
    err = claims_doubt_converse(claims, 0, INFOS + 1 + sight->past_count);
    if (err == 0)
        claims_doubt_read_there(claims);
    return err;
}

/* The server's key is the last, so that who reads that it is distrusted finds it in all others. */
static int claims_doubt_write(struct claims *claims, const char *key)
{
    struct doubt_look *look = claims->look;
    const struct distrust_sight *sight = &look->sight;
    char past_key[DISTRUST_PAST_MAX];
    size_t n = 0;
    int err;

    look->writes = true;
    redis_link_clear(claims->link);
    distrust_write_past(claims->parts.distrust, sight, past_key);
    for (size_t i = 0; i < sight->past_count; i++) {
        if (!sight->pasts[i].write || look->at[i + 1] != HERE)
            continue;
        claims_put_life(claims, sight->pasts[i].place, past_key);
        n++;
    }
    if (key != NULL && look->at[0] == HERE) {
        claims_put_life(claims, sight->place, key);
        n++;
    }
    err = n > 0 ? claims_doubt_converse(claims, 0, n) : 0;
    for (size_t i = 0; err == 0 && i < sight->past_count; i++)
        if (sight->pasts[i].write && look->at[i + 1] != HERE)
            look->later |= claims_doubt_ask_there(claims, i + 1, past_key) != 0;
    if (err == 0 && key != NULL && look->at[0] != HERE)
        look->later |= claims_doubt_ask_there(claims, 0, key) != 0;
    if (err != 0 || look->refused || look->later)
        return err;
    for (size_t i = 0; i < sight->past_count; i++)
        if (sight->pasts[i].write)
            distrust_wrote(claims->parts.distrust, sight->pasts[i].place, clock_mono_ms());
    if (key != NULL)
        distrust_wrote(claims->parts.distrust, sight->place, clock_mono_ms());
    return 0;
}

/* ---- a look ---- */

/* Begins a look at an open node. */
static void claims_doubt_look_at(struct claims *claims, struct doubt_look *look, size_t node,
                                 size_t bucket)
{
    claims_lane_enter(claims, node);
    look->sight = (struct distrust_sight){.server = redis_link_name(claims->link),
                                          .is_one_of = claims->tagged,
                                          .place = bucket,
                                          .began_ms = clock_mono_ms(),
                                          .pasts = claims->pasts};
    look->writes = look->skips = look->refused = look->later = look->lacks = false;
    claims->look = look;
}

static bool claims_doubt_is_nameless(const struct doubt_look *look)
{
    return look->refused || (look->sight.run_id[0] == '\0' && look->sight.replid[0] == '\0');
}

static bool claims_doubt_see(struct claims *claims, struct distrust_window *window, char *key)
{
    struct distrust_sight *sight = &claims->look->sight;
    bool due;

    sight->now_ms = clock_mono_ms();
    sight->real_ms = clock_real_ms();
    due = distrust_see(claims->parts.distrust, sight, window, key);
    METRIC_ADD(claims->parts.thread_metrics, redis_distrusts, window->opened);
    return due;
}

/* Looks at all other masters now, so that it is known who of them lives. One that does not answer
 * is not seen; what is seen there is written when it is their turn. */
static void claims_doubt_look_around(struct claims *claims, size_t but)
{
    for (size_t i = 0; i < redis_nodes_count(claims->nodes); i++) {
        struct doubt_look look;
        struct distrust_window window;
        char key[DISTRUST_KEY_MAX];
        uint16_t at;
        int bucket, err;

        if (i == but || redis_nodes_link(claims->nodes, i) == NULL)
            continue;
        bucket = claims_bucket_of(claims, i);
        if (bucket < 0 || !redis_nodes_is_listed(claims->nodes, i))
            continue;
        err = claims_lane_connect(claims, i);
        claims_doubt_look_at(claims, &look, i, (size_t)bucket);
        look.at = &at;
        if (err == 0)
            err = claims_doubt_read(claims);
        if (err != 0)
            claims_lane_give_up(claims, i, err);
        else if (!look.later && !claims_doubt_is_nameless(&look))
            (void)claims_doubt_see(claims, &window, key);
    }
}

/* The buckets of the node whose keys are new to us, but that of the server. */
static size_t claims_doubt_collect(const struct claims *claims, size_t node, size_t home)
{
    const uint32_t acquaintance = claims->lanes[node].doubt.acquaintance;
    size_t n = 0;

    for (size_t i = 0; claims->tagged && i < BUCKETS; i++) {
        const struct claims_settled *settled = &claims->settled[i];

        if (i == home || redis_nodes_of_slot(claims->nodes, claims->slots[i]) != node ||
            (settled->acquaintance == acquaintance &&
             settled->changed == redis_nodes_changed(claims->nodes, claims->slots[i])))
            continue;
        claims->pasts[n++] = (struct distrust_past){.place = i};
    }
    return n;
}

static void claims_doubt_settle(struct claims *claims, size_t bucket)
{
    claims->settled[bucket] =
        (struct claims_settled){claims->lane->doubt.acquaintance,
                                redis_nodes_changed(claims->nodes, claims->slots[bucket])};
}

static void claims_doubt_acquaint(struct claims *claims, struct claims_doubt *doubt)
{
    doubt->acquaintance = ++claims->acquaintances;
    doubt->acquainted_ms = clock_mono_ms();
}

/* What the node says, and what to think of it; once more if a bucket has come from another one.
 * Returns 0 or -errno; key is "" if it need not be written. */
static int claims_doubt_hear(struct claims *claims, struct doubt_look *look, size_t node,
                             char key[DISTRUST_KEY_MAX])
{
    struct claims_doubt *doubt = &claims->lanes[node].doubt;
    const size_t bucket = look->sight.place;
    struct distrust_window window;
    int err;

    claims_doubt_look_at(claims, look, node, bucket);
    look->sight.past_count = claims_doubt_collect(claims, node, bucket);
    key[0] = '\0';
    err = claims_doubt_read(claims);
    if (err != 0 || look->later)
        return err;
    doubt->off = claims_doubt_is_nameless(look);
    if (doubt->off) {
        claims_doubt_tell_off(claims);
        return 0;
    }
    if (!claims_doubt_see(claims, &window, key))
        key[0] = '\0';
    if (window.unexplained > 0) {
        look->sight.asked_ms = clock_mono_ms();
        claims_doubt_look_around(claims, node);
        claims_lane_enter(claims, node);
        claims->look = look;
        if (!claims_doubt_see(claims, &window, key))
            key[0] = '\0';
    }
    doubt->window = window;
    return 0;
}

/* Asks the node of a lane. Returns 0 or -errno. */
static int claims_doubt_ask(struct claims *claims, size_t node, size_t bucket)
{
    struct claims_doubt *doubt = &claims->lanes[node].doubt;
    struct doubt_look look = {.sight = {.place = bucket}, .at = claims->past_at};
    char key[DISTRUST_KEY_MAX];
    int err;

    if (doubt->acquaintance == 0 || clock_mono_ms() >= doubt->acquainted_ms + SETTLED_MS)
        claims_doubt_acquaint(claims, doubt);
    doubt->changes = redis_nodes_changes(claims->nodes);
    err = claims_doubt_hear(claims, &look, node, key);
    if (err == 0 && claims->tagged && !look.later && !doubt->off &&
        doubt->opened_ms != doubt->window.opened_ms) {
        /* All its buckets tell of a window, so that none leaves without it. */
        doubt->opened_ms = doubt->window.opened_ms;
        err = claims_doubt_write(claims, NULL);
        claims_doubt_acquaint(claims, doubt);
        if (err == 0)
            err = claims_doubt_hear(claims, &look, node, key);
    }
    /* Once more before the next command. */
    if (look.lacks)
        doubt->changes--;
    doubt->unseen = err != 0 || look.later;
    if (doubt->unseen || doubt->off)
        return err;
    err = claims_doubt_write(claims, key[0] != '\0' ? key : NULL);
    if (err != 0 || look.refused || look.later)
        return err;
    claims_doubt_settle(claims, bucket);
    for (size_t i = 0; i < look.sight.past_count; i++)
        claims_doubt_settle(claims, look.sight.pasts[i].place);
    return 0;
}

/* What a master has to which no bucket belongs yet: ids of a slot that is on its way there. It has
 * no key that would tell of its life before. */
static void claims_doubt_take_newcomer(struct claims_doubt *doubt)
{
    if (doubt->unseen)
        doubt->window = (struct distrust_window){.state = DISTRUST_ASK, .free_ms = clock_mono_ms()};
    doubt->unseen = false;
}

static bool claims_doubt_is_due(const struct claims *claims, const struct claims_doubt *doubt)
{
    if (doubt->unseen)
        return true;
    return !doubt->off &&
           (clock_mono_ms() >= doubt->window.look_ms ||
            doubt->suspicions != distrust_suspicions(claims->parts.distrust) ||
            (claims->tagged && doubt->changes != redis_nodes_changes(claims->nodes)));
}

int claims_doubt_look(struct claims *claims, size_t node)
{
    struct claims_doubt *doubt = &claims->lanes[node].doubt;
    struct claims_lane *const before = claims->lane;
    struct redis_link *const link = claims->link;
    const enum round round = claims->round;
    const int bucket = claims->tagged ? claims_bucket_of(claims, node) : 0;
    int err;

    if (!claims_doubt_is_on(claims)) {
        *doubt = (struct claims_doubt){.off = false};
        return 0;
    }
    if (bucket < 0) {
        claims_doubt_take_newcomer(doubt);
        return 0;
    }
    if (doubt->unseen && !redis_nodes_is_listed(claims->nodes, node)) {
        /* Which of its keys tells of the master before is known with its slots. Until then what it
         * does not know is held. */
        redis_nodes_doubt(claims->nodes);
        return 0;
    }
    if (!claims_doubt_is_due(claims, doubt))
        return 0;
    doubt->suspicions = distrust_suspicions(claims->parts.distrust);
    claims->round = ROUND_SEE;
    err = claims_doubt_ask(claims, node, (size_t)bucket);
    claims->look = NULL;
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
    const uint32_t i = claims->todo[claims->lane->at];
    enum claims_verdict home = CLAIM_UNKNOWN;
    size_t node;
    bool doubted;

    if (likely(!claims->tagged || claims->asking[i] == REDIS_NODE_NONE))
        return claims_doubt_of(claims, claims->lane, verdict);
    /* The node whose slot it is has sent it here, and does not know it either. */
    node = redis_nodes_of_slot(claims->nodes, claims->slots[claims->bucket[i]]);
    doubted = node != REDIS_NODE_NONE && claims_doubt_of(claims, &claims->lanes[node], &home);
    doubted = claims_doubt_of(claims, claims->lane, verdict) || doubted;
    if (home == CLAIM_HELD || (doubted && *verdict != CLAIM_HELD))
        *verdict = home == CLAIM_HELD ? home : CLAIM_DOUBTED;
    return doubted;
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

        if (redis_nodes_link(claims->nodes, i) != NULL && window->state != DISTRUST_NOT &&
            window->from_ms < from_ms)
            from_ms = window->from_ms;
    }
    return from_ms;
}
