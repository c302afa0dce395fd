/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims.c - decides who owns an id, among all alloyd that share one Redis (L2).
 *
 * We claim a batch in pipelined rounds: MGET of all keys; SET NX for the keys that were missing;
 * MGET again for the SETs that lost. The last round is necessary: Redis may have run our own
 * earlier SET, from a connection that we gave up after a time-out, between the MGET and the SET of
 * the next try. Only the value distinguishes such a claim from another's, and taking it for a
 * duplicate would lose the event. Keys that are then missing again get one more try. A key that can
 * be neither set nor read holds something that no alloyd has written, and makes nothing a
 * duplicate.
 *
 * We build commands in one buffer for each node and send them in windows, and read a window's
 * replies before we build the next one: that bounds the memory, and neither side can block on the
 * other's full socket. The reply functions write verdicts directly, so that no reply costs an
 * allocation.
 *
 * In a cluster a key is <key_prefix><stream>:{<bucket>}<id>: what the braces hold decides the slot.
 * A node that is away costs the claims of its slots alone.
 *
 * After any error we drop the connection, since its replies may no longer match our commands, and
 * open the node's breaker, so that a dead Redis does not cost a time-out for each batch. A Redis
 * that answers but takes no claims is as good as none: it counts as up again only after it has
 * taken a SET like ours.
 *
 * Runs on: the one thread that owns the struct claims; claims_cancel() on any thread.
 * Owns: the connections. Verdicts and records are borrowed during a call.
 */
#include "claims_private.h"

#include "alloy/clock.h"
#define LOG_MODULE "claims"
#include "alloy/log.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 2000
#define BACKOFF_NODE_MAX_MS 1000 /* of one node of several */
#define TIMEOUTS_APART 8
#define LOG_INTERVAL_MS 1000

/* ---- replies ---- */

/* MGET has found a value: if it is a claim, it says whose. */
static void claims_judge_value(struct claims *claims, size_t at, struct slice value)
{
    uint32_t i = claims->todo[at];
    char own[VALUE_LEN];

    claims_put_value(claims, claims->records[i], own);
    if (!claims_put_is_value(value))
        claims->verdicts[i] = CLAIM_STRANGE;
    else
        claims->verdicts[i] =
            memcmp(value.data, own, VALUE_LEN) == 0 ? CLAIM_OWNED : CLAIM_DUPLICATE;
    claims->lane->wait.owes |= claims->verdicts[i] == CLAIM_OWNED;
}

static bool claims_on_mget(struct claims *claims, const struct redis_link_element *element)
{
    size_t at = claims->lane->at + element->index;

    if (element->root)
        return element->type == REDIS_LINK_ERROR ||
               (element->type == REDIS_LINK_ARRAY && element->count == claims->lane->count);
    if (element->type == REDIS_LINK_STRING)
        claims_judge_value(claims, at, element->text);
    else if (element->type != REDIS_LINK_NIL)
        return false;
    else if (!claims_doubt_verdict(claims, &claims->verdicts[claims->todo[at]]))
        /* The key is missing: SET it. After a SET that lost it is gone again, or not a string. */
        claims->next[claims->kept++] = claims->todo[at];
    return true;
}

static bool claims_on_set(struct claims *claims, const struct redis_link_element *element)
{
    uint32_t i = claims->todo[claims->lane->at];

    if (!element->root)
        return false;
    if (element->type == REDIS_LINK_NIL) {
        claims->next[claims->kept++] = i; /* another was first: find out who */
        return true;
    }
    if (element->type == REDIS_LINK_ERROR)
        return true;
    if (element->type != REDIS_LINK_STATUS || element->text.len != 2 ||
        memcmp(element->text.data, "OK", 2) != 0)
        return false;
    claims->verdicts[i] = CLAIM_OWNED;
    return true;
}

static bool claims_on_release(struct claims *claims, const struct redis_link_element *element)
{
    bool *released = &claims->released[claims->todo[claims->lane->at]];

    if (!element->root)
        return false;
    if (element->type == REDIS_LINK_INTEGER) {
        *released = true;
        return true;
    }
    /* A key that is not a string is not a claim. From a server that has the command, ERR means the
     * same. */
    if (redis_link_is_code(element->text, "WRONGTYPE") ||
        (redis_link_is_code(element->text, "ERR") && claims->lane->release_way != RELEASE_EVAL))
        *released = true;
    return element->type == REDIS_LINK_ERROR;
}

/* Of the two answers the first is about DELEX, the second about DELIFEQ. */
static bool claims_on_answer(struct claims *claims, const struct redis_link_element *element)
{
    struct claims_lane *lane = claims->lane;

    if (lane->asked_ways == 0)
        lane->release_way = RELEASE_EVAL;
    if (element->type == REDIS_LINK_INTEGER && lane->release_way == RELEASE_EVAL)
        lane->release_way = lane->asked_ways == 0 ? RELEASE_DELEX : RELEASE_DELIFEQ;
    lane->asked_ways++;
    return element->type == REDIS_LINK_INTEGER || element->type == REDIS_LINK_ERROR;
}

/* ASKING comes before the command of a record that an ASK has sent elsewhere. */
static bool claims_is_answer_to_asking(const struct claims *claims)
{
    return claims->round <= ROUND_RELEASE && !claims->lane->asked &&
           claims->asking[claims->todo[claims->lane->at]] != REDIS_NODE_NONE;
}

static bool claims_on_redirect(struct claims *claims, const struct redis_link_element *element)
{
    if (!element->root)
        return false;
    if (claims->round <= ROUND_RELEASE)
        claims_lanes_redirect(claims, element);
    else
        redis_nodes_doubt(claims->nodes); /* this node need not prove that it has the slot */
    return true;
}

static bool claims_on_element(void *arg, const struct redis_link_element *element)
{
    struct claims *claims = arg;

    if (unlikely(claims->lane->wait.next))
        return claims_wait_on_element(claims, element);
    if (claims->lane->time_due && claims->round == ROUND_LOG)
        return claims_packed_on_time(claims, element);
    if (unlikely(claims->round == ROUND_SEE))
        return claims_doubt_on_element(claims, element);
    if (unlikely(claims->tagged)) {
        if (claims_is_answer_to_asking(claims))
            return element->root;
        if (element->redirect.len > 0)
            return claims_on_redirect(claims, element);
    }
    switch (claims->round) {
    case ROUND_LOOKUP:
    case ROUND_VERIFY:
        return claims_on_mget(claims, element);
    case ROUND_SET:
        return claims_on_set(claims, element);
    case ROUND_RELEASE:
        return claims_on_release(claims, element);
    case ROUND_FOUND:
    case ROUND_PROBE:
        return true; /* an error: the server does not have this one */
    case ROUND_ASK:
        return claims_on_answer(claims, element);
    case ROUND_SEE: /* claims_doubt.c has taken it */
        return false;
    default:
        return claims_packed_on_element(claims, element);
    }
}

/* ---- jobs ---- */

static void claims_release_slice(struct claims *claims, size_t n)
{
    if (claims->is_packed || claims_packed_is_called_for(claims, n, false))
        claims_packed_release_slice(claims, n);
    else
        claims_lanes_run(claims, ROUND_RELEASE, n);
}

static void claims_found_slice(struct claims *claims, size_t n)
{
    if (claims->is_packed || claims_packed_is_called_for(claims, n, false))
        claims_packed_found_slice(claims, n);
    else
        claims_lanes_run(claims, ROUND_FOUND, n);
}

static void claims_take_slice(struct claims *claims, size_t n)
{
    if (!claims->is_packed && !claims_packed_is_called_for(claims, n, false))
        claims_lanes_take(claims, n);
    if (claims->is_packed || claims_packed_is_called_for(claims, n, true))
        claims_packed_take_slice(claims, n);
    claims_replicas_end_slice(claims);
}

/* True when some slots have no node. */
static bool claims_has_gap(const struct claims *claims)
{
    for (size_t i = 0; claims->tagged && i < BUCKETS; i++)
        if (redis_nodes_of_slot(claims->nodes, claims->slots[i]) == REDIS_NODE_NONE)
            return true;
    return false;
}

/* Proves all nodes; their lanes know what comes of it. */
static void claims_prove(struct claims *claims)
{
    for (size_t i = 0; i < redis_nodes_count(claims->nodes); i++) {
        struct claims_lane *lane = &claims->lanes[i];
        int err;

        if (redis_nodes_link(claims->nodes, i) == NULL)
            continue;
        err = claims_lane_prove(claims, i);
        if (err == 0)
            lane->breaker = (struct claims_breaker){0};
        else
            lane->err = err;
    }
    if (claims_has_gap(claims))
        claims->unserved = "no node of the cluster has some of the slots";
}

static void claims_perform(struct claims *claims, const struct job *job)
{
    if (job->kind == JOB_PROBE)
        claims_prove(claims);
    if (job->kind == JOB_PING)
        claims_idle_perform(claims);
    if (job->kind == JOB_WAIT)
        claims_replicas_perform(claims);
    if (job->kind == JOB_LOOK)
        claims_lanes_look(claims);
    for (size_t at = 0; at < job->n; at += claims->slice_max) {
        size_t left = job->n - at;
        size_t n = left < claims->slice_max ? left : claims->slice_max;

        claims->records = job->records + at;
        claims->verdicts = job->verdicts != NULL ? job->verdicts + at : NULL;
        claims->released = job->released != NULL ? job->released + at : NULL;
        claims_lanes_begin(claims, n);
        if (job->kind == JOB_TAKE)
            claims_take_slice(claims, n);
        else if (job->kind == JOB_FOUND)
            claims_found_slice(claims, n);
        else
            claims_release_slice(claims, n);
    }
}

/* What the log was told last, by any thread; -1: nothing. Each change is one line, whichever
 * connection notices it first. */
static _Atomic int claims_told_up = -1;

static void claims_log_lost(const char *server, const char *reason, bool hold)
{
    static struct log_limit limit;
    uint64_t suppressed;

    /* A server that comes and goes makes a line a second; what is held back is told by the next
     * failure. */
    if (atomic_load_explicit(&claims_told_up, memory_order_relaxed) == 0 ||
        !log_limit_pass(&limit, clock_mono_ms(), LOG_INTERVAL_MS, &suppressed) ||
        atomic_exchange_explicit(&claims_told_up, 0, memory_order_relaxed) == 0)
        return;
    log_warn("redis lost server=%s reason=\"%s\" on_failure=%s suppressed=%llu", server, reason,
             hold ? "hold" : "pass", (unsigned long long)suppressed);
}

static void claims_log_up(const struct claims *claims)
{
    const int before = atomic_exchange_explicit(&claims_told_up, 1, memory_order_relaxed);

    if (before != 1)
        log_info("redis %s server=\"%s\"", before < 0 ? "is up" : "back",
                 redis_nodes_name(claims->nodes));
}

/* The breaker of a node that there still is. */
static bool claims_is_down(const struct claims *claims, size_t node)
{
    return redis_nodes_link(claims->nodes, node) != NULL && claims->lanes[node].breaker.down &&
           claims->lanes[node].generation == redis_nodes_generation(claims->nodes, node);
}

/* Says how many nodes are away. */
static void claims_count_nodes(const struct claims *claims, char *text, size_t size)
{
    const size_t count = redis_nodes_count(claims->nodes);
    const size_t masters = redis_nodes_masters(claims->nodes);
    size_t away = 0;

    for (size_t i = 0; i < count; i++)
        away += claims_is_down(claims, i);
    METRIC_GAUGE_SET(claims->parts.metrics, redis_nodes, (int64_t)masters);
    METRIC_GAUGE_SET(claims->parts.metrics, redis_nodes_away, (int64_t)away);
    if (claims->tagged && masters > 0)
        snprintf(text, size, " (%zu of %zu nodes away)", away, masters);
}

/* Something has failed: tells, and keeps the breaker open for a while. */
static void claims_note_failure(struct claims *claims, struct claims_breaker *breaker,
                                const char *server, const char *reason, uint64_t max_ms)
{
    const struct claims_parts *parts = &claims->parts;
    bool hold = config_current(parts->config)->redis_on_failure == CONFIG_REDIS_HOLD;
    char nodes[64] = "";

    breaker->retry_at_ms = claims_now_ms(claims) + backoff_next(&breaker->backoff, BACKOFF_MIN_MS,
                                                                max_ms, claims_next_random(claims));
    breaker->down = claims->down = true;
    METRIC_ADD(parts->thread_metrics, redis_errors, 1);
    claims_count_nodes(claims, nodes, sizeof(nodes));
    /* Not blocking: with hold, too, clients are served until the ring is full. */
    health_raise(parts->health, "redis", false, "%s: %s%s; %s", server, reason, nodes,
                 hold ? "events wait for it (redis.on_failure = hold)"
                      : "events go on without a claim (redis.on_failure = pass)");
    METRIC_GAUGE_SET(parts->metrics, redis_up, 0);
    claims_log_lost(server, reason, hold);
}

/* One node of several is asked sooner, since a failover may have given it back; but one that costs
 * its time-out each time, and all other nodes with it, later. */
static void claims_note_lane(struct claims *claims, size_t node)
{
    struct claims_lane *lane = &claims->lanes[node];
    const struct redis_link *link = redis_nodes_link(claims->nodes, node);
    uint64_t max_ms = BACKOFF_MAX_MS;

    if (claims->tagged && lane->err != -ETIMEDOUT)
        max_ms = BACKOFF_NODE_MAX_MS;
    else if (claims->tagged && max_ms < claims->timeout_ns / CLOCK_NS_PER_MS * TIMEOUTS_APART)
        max_ms = claims->timeout_ns / CLOCK_NS_PER_MS * TIMEOUTS_APART;
    claims_note_failure(claims, &lane->breaker, redis_link_name(link), redis_link_reason(link),
                        max_ms);
    redis_nodes_doubt(claims->nodes);
}

/* Some ids have no node that could answer for them. */
static void claims_note_gap(struct claims *claims)
{
    redis_nodes_doubt(claims->nodes);
    claims_note_failure(claims, &claims->gap, redis_nodes_name(claims->nodes),
                        claims->unserved != NULL ? claims->unserved
                                                 : "no node of the cluster has some of the slots",
                        BACKOFF_NODE_MAX_MS);
}

static void claims_note_success(struct claims *claims)
{
    char nodes[64];

    for (size_t i = 0; i < redis_nodes_count(claims->nodes); i++)
        claims->lanes[i].breaker = (struct claims_breaker){0};
    claims->map = claims->gap = (struct claims_breaker){0};
    claims->down = false;
    claims_count_nodes(claims, nodes, sizeof(nodes));
    METRIC_GAUGE_SET(claims->parts.metrics, redis_up, 1);
    health_clear(claims->parts.health, "redis");
    claims_log_up(claims);
}

/* True while any thread has found that Redis does not work. relaxed: the next exchange corrects a
 * stale view. */
static bool claims_in_doubt(const struct claims *claims)
{
    return claims->down ||
           atomic_load_explicit(&claims->parts.metrics->gauges[METRIC_GAUGE_redis_up],
                                memory_order_relaxed) != 1;
}

/* When a node that is down is proven next. */
static uint64_t claims_due_ms(const struct claims_lane *lane)
{
    return lane->breaker.retry_at_ms > lane->prove_at_ms ? lane->breaker.retry_at_ms
                                                         : lane->prove_at_ms;
}

/* Tries what is in doubt about one node. True: it takes claims. */
static bool claims_try_node(struct claims *claims, size_t node)
{
    struct claims_lane *lane = &claims->lanes[node];
    const int err = claims_lane_prove(claims, node);

    if (err == 0) {
        lane->breaker = (struct claims_breaker){0};
        return true;
    }
    if (err != -EACCES && err != -EBUSY)
        redis_link_close(redis_nodes_link(claims->nodes, node)); /* the next job will show */
    if (!claims->tagged || err == -EBUSY)
        return false;
    if (err == -EACCES) {
        /* It can still say what is a duplicate. */
        lane->breaker.down = claims->down = true;
        lane->prove_at_ms = claims_now_ms(claims) + BACKOFF_NODE_MAX_MS;
    } else {
        lane->err = err;
        claims_note_lane(claims, node);
    }
    return false;
}

/* A job is done, but perhaps without a SET, or without one like the refused one. Only a full probe
 * ends the doubt, also for workers that have no events to try with. While one node's breaker is
 * open, those of the others are closed as they prove to work. */
static void claims_end_doubt(struct claims *claims)
{
    const size_t count = redis_nodes_count(claims->nodes);
    const uint64_t now_ms = claims_now_ms(claims);
    const bool gap = claims->unserved != NULL || claims_has_gap(claims);
    bool waits = false, all = !gap;
    char nodes[64];

    if (!gap)
        claims->gap = (struct claims_breaker){0};
    else if (now_ms >= claims->gap.retry_at_ms)
        claims_note_gap(claims);
    for (size_t i = 0; i < count; i++)
        waits |= claims_is_down(claims, i) && now_ms < claims_due_ms(&claims->lanes[i]);
    for (size_t i = 0; i < count; i++) {
        const bool down = claims_is_down(claims, i);

        if (redis_nodes_link(claims->nodes, i) == NULL)
            continue;
        if (down ? now_ms >= claims_due_ms(&claims->lanes[i]) : !waits)
            all = claims_try_node(claims, i) && all;
    }
    if (all && !waits)
        claims_note_success(claims);
    else
        claims_count_nodes(claims, nodes, sizeof(nodes));
}

/* Room for a window and one more command (an MGET with its last key, or AUTH with the whole URL),
 * and for a probe: two commands for each stream that there may be. */
static size_t claims_out_capacity(const struct config *config)
{
    const size_t key = strlen(config->redis_key_prefix) + CONFIG_STREAM_NAME_MAX + TAG_LEN;

    return 2 * WINDOW_BYTES + key + UINT16_MAX + strlen(config->redis_url) + COMMAND_SLACK +
           2 * CONFIG_STREAMS_MAX * (key + COMMAND_SLACK);
}

/* Takes over a redis.url that a reload has changed. */
static void claims_follow(struct claims *claims)
{
    const struct config *config = config_current(claims->parts.config);
    struct redis_nodes *nodes;

    if (config->redis_url != claims->url && strcmp(config->redis_url, claims->url) != 0) {
        nodes = redis_nodes_create(config->redis_url, claims_out_capacity(config),
                                   claims_on_element, claims);
        if (nodes == NULL)
            return; /* again with the next job */
        redis_nodes_destroy(claims->nodes);
        claims->nodes = nodes;
        claims_packed_forget(claims);
        claims->tagged = redis_nodes_is_cluster(nodes);
        memset(claims->lanes, 0, REDIS_NODES_MAX * sizeof(*claims->lanes));
        claims->map = claims->gap = (struct claims_breaker){0};
        claims->down = true; /* until it is proven */
    }
    claims->url = config->redis_url;
}

/* Redis closes idle connections, and it restarts: only a fresh connection shows whether it is away.
 * True: there are such, and the job should be done again. */
static bool claims_reopen(struct claims *claims)
{
    bool any = false;

    for (size_t i = 0; i < redis_nodes_count(claims->nodes); i++) {
        struct claims_lane *lane = &claims->lanes[i];

        if (lane->job != claims->job || !lane->reused ||
            (lane->err != -EPIPE && lane->err != -ECONNRESET))
            continue;
        redis_link_close(redis_nodes_link(claims->nodes, i));
        lane->err = 0;
        lane->reused = false;
        any = true;
    }
    return any;
}

/* Acts on how each node has fared. True: all that had to do with the job have done it. */
static bool claims_settle(struct claims *claims, enum job_kind kind)
{
    bool done = true;

    for (size_t i = 0; i < redis_nodes_count(claims->nodes); i++) {
        struct claims_lane *lane = &claims->lanes[i];
        struct redis_link *link = redis_nodes_link(claims->nodes, i);

        if (lane->job != claims->job || link == NULL)
            continue;
        /* Only for JOB_TAKE: a claim that cannot be deleted does not mean that none can be
         * taken. */
        if (redis_link_refused(link) && lane->err == 0 && kind == JOB_TAKE)
            lane->err = -EACCES;
        if (lane->err == 0)
            continue;
        done = false;
        if (lane->err == -EBUSY)
            continue;
        redis_link_close(link);
        if (lane->err != -ECANCELED)
            claims_note_lane(claims, i);
    }
    /* Without a cluster the failure of the one node is the cause. */
    if (claims->unserved == NULL || (!done && !claims->tagged))
        return done;
    claims_note_gap(claims);
    return false;
}

/* Runs a job, if the breakers let it. Every job can be done twice without harm. */
static int claims_run_job(struct claims *claims, const struct job *job, uint64_t now_ms)
{
    bool done;

    claims_follow(claims);
    if (job->n > 0)
        claims_put_stream(claims, job->stream);
    if (claims_is_cancelled(claims) || now_ms < claims->map.retry_at_ms)
        return -EAGAIN;
    claims->job++;
    claims->now_ms = now_ms;
    claims->began_ms = clock_mono_ms();
    if (job->n > 0 && !claims_packed_put_stream(claims, job->stream)) {
        claims_note_failure(claims, &claims->map, redis_nodes_name(claims->nodes), "out of memory",
                            BACKOFF_NODE_MAX_MS);
        return -EAGAIN;
    }
    claims->unserved = NULL;
    claims->timeout_ns = config_current(claims->parts.config)->redis_timeout_ms * CLOCK_NS_PER_MS;
    claims_wait_begin(claims);
    if (redis_nodes_prepare(claims->nodes, claims->timeout_ns) != 0) {
        claims_note_failure(claims, &claims->map, redis_nodes_name(claims->nodes),
                            redis_nodes_reason(claims->nodes), BACKOFF_NODE_MAX_MS);
        return -EAGAIN;
    }
    claims->map = (struct claims_breaker){0};
    claims_perform(claims, job);
    if (claims_reopen(claims)) {
        claims->unserved = NULL;
        claims_perform(claims, job);
    }
    done = claims_settle(claims, job->kind);
    claims_replicas_tell(claims);
    if (job->kind == JOB_PROBE && done)
        claims_note_success(claims);
    else if (job->kind != JOB_PROBE && (done || claims->tagged) && claims_in_doubt(claims))
        claims_end_doubt(claims);
    return done ? 0 : -EAGAIN;
}

static bool claims_is_off(const struct claims *claims)
{
    return claims->nodes == NULL;
}

static bool claims_make_room(struct claims *claims)
{
    const size_t n = claims->slice_max;

    claims->lanes = calloc(REDIS_NODES_MAX, sizeof(*claims->lanes));
    claims->key_head = malloc(claims->prefix_len + CONFIG_STREAM_NAME_MAX + 1 + TAG_LEN);
    claims->todo = malloc(n * sizeof(*claims->todo));
    claims->next = malloc(n * sizeof(*claims->next));
    claims->again = malloc(n * sizeof(*claims->again));
    claims->bucket = malloc(n * sizeof(*claims->bucket));
    claims->key_bucket = malloc(n * sizeof(*claims->key_bucket));
    claims->asking = malloc(n * sizeof(*claims->asking));
    claims->flags = malloc(n * sizeof(*claims->flags));
    claims->pasts = malloc(BUCKETS * sizeof(*claims->pasts));
    claims->past_at = malloc((BUCKETS + 1) * sizeof(*claims->past_at));
    claims->packed = claims_packed_create(claims);
    return claims->lanes != NULL && claims->key_head != NULL && claims->todo != NULL &&
           claims->next != NULL && claims->again != NULL && claims->bucket != NULL &&
           claims->key_bucket != NULL && claims->asking != NULL && claims->flags != NULL &&
           claims->pasts != NULL && claims->past_at != NULL && claims->packed != NULL;
}

/* Computes the slot of each tag. */
static void claims_number_tags(struct claims *claims)
{
    claims->key_head_len = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        claims_put_tag(claims, i);
        claims->slots[i] = redis_slots_of_key((struct slice){claims->key_head, TAG_LEN});
    }
}

/* ---- public ---- */

struct claims *claims_create(const struct claims_parts *parts)
{
    const struct config *config = config_current(parts->config);
    struct claims *claims = calloc(1, sizeof(*claims));

    if (claims == NULL)
        goto out_of_memory;
    claims->parts = *parts;
    if (config->redis_url[0] == '\0')
        return claims;
    claims->slice_max = config->worker_batch;
    claims->prefix_len = strlen(config->redis_key_prefix);
    claims->nodes = redis_nodes_create(config->redis_url, claims_out_capacity(config),
                                       claims_on_element, claims);
    if (claims->nodes == NULL) {
        claims_destroy(claims);
        return NULL;
    }
    claims->url = config->redis_url;
    claims->tagged = redis_nodes_is_cluster(claims->nodes);
    if (!claims_make_room(claims))
        goto out_of_memory;
    claims_number_tags(claims);
    memcpy(claims->key_head, config->redis_key_prefix, claims->prefix_len);
    /* If this fails the seed is 0, and the retries of several daemons are not spread. */
    (void)!getrandom(&claims->random, sizeof(claims->random), 0);
    return claims;

out_of_memory:
    log_error("out of memory for the connection to redis");
    claims_destroy(claims);
    return NULL;
}

void claims_destroy(struct claims *claims)
{
    if (claims == NULL)
        return;
    (void)claims_replicas_forget(claims);
    redis_nodes_destroy(claims->nodes);
    free(claims->lanes);
    free(claims->key_head);
    free(claims->todo);
    free(claims->next);
    free(claims->again);
    free(claims->bucket);
    free(claims->key_bucket);
    free(claims->asking);
    free(claims->flags);
    free(claims->pasts);
    free(claims->past_at);
    claims_packed_destroy(claims->packed);
    free(claims);
}

int claims_take_checked(struct claims *claims, const struct batch *batch,
                        enum claims_verdict *verdicts, uint64_t now_ms, uint64_t checked_ms)
{
    bool off = claims_is_off(claims);

    for (size_t i = 0; i < batch->count; i++)
        verdicts[i] = off ? CLAIM_OWNED : CLAIM_UNKNOWN;
    if (off || batch->count == 0)
        return 0;
    claims->checked_ms = checked_ms;
    return claims_run_job(claims,
                          &(struct job){.kind = JOB_TAKE,
                                        .stream = batch->stream,
                                        .records = batch->records,
                                        .n = batch->count,
                                        .verdicts = verdicts},
                          now_ms);
}

int claims_release(struct claims *claims, struct record *const *records, size_t n, bool *released,
                   uint64_t now_ms)
{
    bool off = claims_is_off(claims);
    size_t kept = 0;
    int err;

    for (size_t i = 0; i < n; i++)
        released[i] = off;
    if (off || n == 0)
        return 0;
    err = claims_run_job(claims,
                         &(struct job){.kind = JOB_RELEASE,
                                       .stream = records[0]->stream,
                                       .records = records,
                                       .n = n,
                                       .released = released},
                         now_ms);
    if (err != 0)
        return err;
    for (size_t i = 0; i < n; i++)
        kept += !released[i];
    if (kept > 0)
        health_raise(claims->parts.health, "redis.release", false,
                     "Redis refuses to delete the claims of dead-lettered events, whose ids stay "
                     "taken: its user needs DELEX, DELIFEQ or EVAL, with GET and DEL, on "
                     "these keys");
    else
        health_clear(claims->parts.health, "redis.release");
    return 0;
}

void claims_found(struct claims *claims, struct record *const *records, size_t n, uint64_t now_ms)
{
    if (claims_is_off(claims) || n == 0)
        return;
    (void)claims_run_job(
        claims,
        &(struct job){.kind = JOB_FOUND, .stream = records[0]->stream, .records = records, .n = n},
        now_ms);
}

void claims_look(struct claims *claims, uint64_t now_ms)
{
    if (!claims_is_off(claims))
        (void)claims_run_job(claims, &(struct job){.kind = JOB_LOOK}, now_ms);
}

int claims_probe(struct claims *claims, uint64_t now_ms)
{
    if (claims_is_off(claims))
        return 0;
    return claims_run_job(claims, &(struct job){.kind = JOB_PROBE}, now_ms);
}

void claims_ask_replicas(struct claims *claims, uint64_t now_ms)
{
    claims->ask_replicas_at_ms = now_ms + claims_wait_apart_ms(claims);
    (void)claims_run_job(claims, &(struct job){.kind = JOB_WAIT}, now_ms);
}

void claims_ping(struct claims *claims, uint64_t now_ms)
{
    (void)claims_run_job(claims, &(struct job){.kind = JOB_PING}, now_ms);
}

bool claims_down(const struct claims *claims)
{
    return claims->down;
}

bool claims_partly_down(const struct claims *claims)
{
    bool works = false;

    if (!claims->down || !claims->tagged || claims->map.down)
        return false;
    for (size_t i = 0; i < redis_nodes_count(claims->nodes); i++)
        works |= redis_nodes_link(claims->nodes, i) != NULL && !claims_is_down(claims, i);
    return works;
}

uint64_t claims_retry_in_ms(const struct claims *claims, uint64_t now_ms)
{
    uint64_t at_ms = UINT64_MAX, due_ms;

    if (!claims->down)
        return 0;
    if (claims->map.down)
        at_ms = claims->map.retry_at_ms;
    if (claims->gap.down && claims->gap.retry_at_ms < at_ms)
        at_ms = claims->gap.retry_at_ms;
    for (size_t i = 0; i < redis_nodes_count(claims->nodes); i++)
        if (claims_is_down(claims, i) && claims_due_ms(&claims->lanes[i]) < at_ms)
            at_ms = claims_due_ms(&claims->lanes[i]);
    if (at_ms == UINT64_MAX || now_ms >= at_ms)
        return 0;
    /* The node that is away may have been replaced before its breaker closes. */
    due_ms = claims->map.down ? UINT64_MAX : redis_nodes_due_in_ms(claims->nodes);
    return due_ms < at_ms - now_ms ? due_ms : at_ms - now_ms;
}

void claims_cancel(struct claims *claims)
{
    /* release: pairs with the acquire in claims_is_cancelled() */
    atomic_store_explicit(&claims->cancelled, true, memory_order_release);
}
